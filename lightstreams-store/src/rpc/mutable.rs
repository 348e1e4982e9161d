//! The mutable file system: a directory that a pin holds, and another one after each change.
//!
//! A change is written beside the tree that is there, pinned under the next number, and then the pin before it goes. A crash
//! leaves the tree as it was before the change or as it is after it.

use std::{
    io::{self, Read, Take},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use cid::{Cid, Version};
use serde_json::json;

use super::{
    Inner,
    add::{NAME_LEN_MAX, broken, unbuilt},
    ask::Ask,
    files,
    multipart::PartKind,
    pin,
    refusal::{RpcError, Stop},
    room::Room,
    work::{Done, Work},
};
use crate::{
    BlockStore, DAG_PB, Directory, DirectoryEntry, FileReader, FileRoot, HashFunction, ImportOptions, Input,
    LayoutError, MAX_TREE_DEPTH, Metadata, NodeKind, Pin, PinKind, ReadError, payload::read_block, stat,
};

/// What the name of its pin begins with; a number follows.
const PIN_NAME: &str = "/files ";
/// The most zeros that are written between the end of a file and an offset behind it.
const GAP_MAX: u64 = 1 << 30;

/// The tree.
#[derive(Debug, Default)]
pub(super) struct Mutable {
    root: Mutex<Option<Root>>,
}

#[derive(Debug)]
struct Root {
    pin: Pin,
    number: u64,
}

impl Root {
    fn of(pin: Pin) -> Option<Self> {
        let number = pin.name.strip_prefix(PIN_NAME)?.parse().ok()?;
        (pin.kind == PinKind::Recursive).then_some(Self { pin, number })
    }
}

/// Whether a pin of this name holds the tree.
pub(super) fn is_own(pin_name: &str) -> bool {
    pin_name.starts_with(PIN_NAME)
}

fn absent() -> RpcError {
    RpcError::failed("file does not exist")
}

impl Mutable {
    // What the lock guards is changed in one step.
    fn lock(&self) -> MutexGuard<'_, Option<Root>> {
        self.root.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The root, which is found among the pins, or made.
    fn load<'a>(&self, rpc: &Inner, root: &'a mut Option<Root>) -> Result<&'a mut Root, RpcError> {
        let known = match root.take() {
            Some(known) => known,
            None => {
                let mut found: Vec<Root> = pin::each(rpc).filter_map(Root::of).collect();
                found.sort_by_key(|root| root.number);
                match found.pop() {
                    Some(newest) => {
                        // The last change ended before it could do this.
                        let older: Vec<Pin> = found.into_iter().map(|root| root.pin).collect();
                        rpc.store.unpin_many(&older)?;
                        newest
                    }
                    None => {
                        let hold = rpc.store.hold();
                        let empty = ImportOptions::unixfs_v0_2015();
                        let empty = empty.import(Input::directory([]), &hold, &mut |_| ())?;
                        let pin = Pin::recursive(empty.cid, format!("{PIN_NAME}0"));
                        rpc.store.pin(&pin)?;
                        Root { pin, number: 0 }
                    }
                }
            }
        };
        Ok(root.insert(known))
    }

    fn root(&self, rpc: &Inner) -> Result<Cid, RpcError> {
        Ok(self.load(rpc, &mut self.lock())?.pin.cid)
    }

    /// Puts the tree that `edit` makes in the place of the one that is there; one at a time.
    fn change(
        &self,
        rpc: &Inner,
        until: Instant,
        edit: impl FnOnce(&mut Tree<'_>, Cid) -> Result<Cid, Stop>,
    ) -> Done {
        let mut root = self.lock();
        let before = self.load(rpc, &mut root)?;
        let hold = rpc.store.hold();
        let mut tree =
            Tree { room: Room { store: &hold, until }, entries_left: rpc.config.entries_max, asked: None };
        let cid = edit(&mut tree, before.pin.cid)?;
        if cid == before.pin.cid {
            return Ok(());
        }
        let number = before.number.checked_add(1).ok_or_else(|| RpcError::failed("no number is left"))?;
        let pin = Pin::recursive(cid, format!("{PIN_NAME}{number}"));
        rpc.store.pin(&pin)?;
        let before = std::mem::replace(before, Root { pin, number });
        rpc.store.unpin(&before.pin)?;
        Ok(())
    }
}

/// The names of a path in the tree, from which `.` and `..` were taken away as they say.
fn names(path: &str) -> Result<Vec<String>, RpcError> {
    let rest = path.strip_prefix('/');
    let rest = rest.ok_or_else(|| RpcError::client("paths must start with a leading slash"))?;
    let mut names: Vec<String> = Vec::new();
    for name in rest.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name if name.len() > NAME_LEN_MAX => {
                return Err(RpcError::client(format!("a name is longer than {NAME_LEN_MAX} bytes")));
            }
            name => names.push(name.to_owned()),
        }
    }
    if names.len() > MAX_TREE_DEPTH {
        return Err(RpcError::client(format!("the path is deeper than {MAX_TREE_DEPTH} directories")));
    }
    Ok(names)
}

/// Where a path leads: one that begins with `/ipfs/` or `/ipns/` as everywhere, any other in the tree.
pub(super) fn target(work: &Work<'_>, path: &str) -> Result<Cid, RpcError> {
    if path.starts_with("/ipfs/") || path.starts_with("/ipns/") {
        return work.cid(path);
    }
    let root = work.rpc.mutable.root(work.rpc)?;
    let found = find(&work.room(), &root, &names(path)?)?;
    found.map(|found| found.cid).ok_or_else(absent)
}

/// What `names` lead to from the directory `root`.
fn find(room: &Room<'_>, root: &Cid, names: &[String]) -> Result<Option<DirectoryEntry>, RpcError> {
    let mut at = DirectoryEntry { name: String::new(), cid: *root, tsize: 0 };
    for name in names {
        match Directory::open(room, &at.cid) {
            Ok(directory) => match directory.get(name)? {
                Some(entry) => at = entry,
                None => return Ok(None),
            },
            Err(ReadError::Layout { source: LayoutError::NotADirectory, .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Some(at))
}

fn is_directory(room: &Room<'_>, cid: &Cid) -> Result<bool, RpcError> {
    Ok(cid.codec() == DAG_PB && matches!(stat(room, cid)?.kind, NodeKind::Directory { .. }))
}

/// What a link to a block says of it.
fn linked(room: &Room<'_>, cid: &Cid) -> Result<FileRoot, RpcError> {
    // It must be something that a directory may hold.
    stat(room, cid)?;
    let (_, tsize) = files::linked(&read_block(room, cid)?)?;
    Ok(FileRoot { cid: *cid, size: 0, tsize, blocks: 0 })
}

fn as_it_is(entry: &DirectoryEntry) -> FileRoot {
    FileRoot { cid: entry.cid, size: 0, tsize: entry.tsize, blocks: 0 }
}

/// Options that name blocks as `cid` is named.
fn like(cid: &Cid) -> Result<ImportOptions, RpcError> {
    let mut options = match cid.version() {
        Version::V0 => ImportOptions::unixfs_v0_2015(),
        Version::V1 => ImportOptions::kubo_cid_v1(),
    };
    // What an identity CID carries says nothing of the others.
    if cid.hash().code() != 0 {
        let hash = HashFunction::from_code(cid.hash().code());
        options.hash =
            hash.ok_or_else(|| RpcError::failed(format!("{cid} has a hash that is not known here")))?;
    }
    Ok(options)
}

/// The options that a request states, if it states any.
fn asked(ask: &Ask) -> Result<Option<ImportOptions>, RpcError> {
    if ask.text(&["cid-version", "cid-ver"])?.is_none() && ask.text(&["hash"])?.is_none() {
        return Ok(None);
    }
    let hash: HashFunction = ask.named(&["hash"])?.unwrap_or_default();
    let mut options = match (ask.number::<i64>(&["cid-version", "cid-ver"])?, hash == HashFunction::SHA2_256)
    {
        (Some(0), true) => ImportOptions::unixfs_v0_2015(),
        (Some(0), false) => return Err(RpcError::client("CIDv0 only supports sha2-256")),
        (Some(1) | None, _) => ImportOptions::kubo_cid_v1(),
        (Some(version), _) => return Err(RpcError::client(format!("unknown CID version: {version}"))),
    };
    options.hash = hash;
    Ok(Some(options))
}

/// What stands at the end of a path after a change.
enum New {
    Nothing,
    EmptyDirectory,
    Node(FileRoot),
}

/// Says so, by what stands there before.
type Leaf<'a> = dyn FnMut(&Room<'_>, Option<&DirectoryEntry>) -> Result<New, Stop> + 'a;

/// A directory that is changed.
struct Level {
    entries: Vec<DirectoryEntry>,
    metadata: Metadata,
    options: ImportOptions,
}

impl Level {
    fn take(&mut self, name: &str) -> Option<DirectoryEntry> {
        let place = self.entries.iter().position(|entry| entry.name == name)?;
        Some(self.entries.swap_remove(place))
    }
}

/// A tree that is changed.
struct Tree<'a> {
    room: Room<'a>,
    entries_left: u64,
    /// How directories that come to be are written; else as the one around them.
    asked: Option<ImportOptions>,
}

impl Tree<'_> {
    /// The directory `root` after a change at the end of `names`; directories that are not there come to be if `parents`.
    fn set(
        &mut self,
        root: &Cid,
        names: &[String],
        parents: bool,
        leaf: &mut Leaf<'_>,
    ) -> Result<FileRoot, Stop> {
        let Some((last, above)) = names.split_last() else {
            return Err(RpcError::failed("the root is a directory, and stays one").into());
        };
        // Without the entries that change. As deep as a path may be: a thread's stack may be too short for that.
        let (mut way, mut level) = (Vec::new(), self.level(root)?);
        for name in above {
            let below = match level.take(name) {
                Some(entry) => self.level(&entry.cid)?,
                None if parents => {
                    count(&mut self.entries_left)?;
                    let (entries, metadata) = (Vec::new(), Metadata::default());
                    Level { entries, metadata, options: self.options_in(&level) }
                }
                None => return Err(absent().into()),
            };
            way.push((std::mem::replace(&mut level, below), name));
        }
        let found = level.take(last);
        if found.is_none() {
            count(&mut self.entries_left)?;
        }
        let new = match leaf(&self.room, found.as_ref())? {
            New::Nothing => None,
            New::EmptyDirectory => Some(self.directory(&self.options_in(&level), Input::directory([]))?),
            New::Node(root) => Some(root),
        };
        let mut root = self.with(level, last, new)?;
        while let Some((level, name)) = way.pop() {
            root = self.with(level, name, Some(root))?;
        }
        Ok(root)
    }

    fn level(&mut self, cid: &Cid) -> Result<Level, Stop> {
        let directory = match Directory::open(&self.room, cid) {
            Err(ReadError::Layout { source: LayoutError::NotADirectory, .. }) => {
                return Err(RpcError::failed("a part of the path is not a directory").into());
            }
            opened => opened?,
        };
        let mut entries = Vec::new();
        for entry in directory.entries() {
            count(&mut self.entries_left)?;
            entries.push(entry?);
        }
        Ok(Level { entries, metadata: directory.metadata(), options: like(cid)? })
    }

    /// How a new directory in this one is written.
    fn options_in(&self, level: &Level) -> ImportOptions {
        self.asked.clone().unwrap_or_else(|| level.options.clone())
    }

    /// A directory with another entry.
    fn with(&self, level: Level, name: &str, new: Option<FileRoot>) -> Result<FileRoot, Stop> {
        let kept = level.entries.into_iter().map(|entry| {
            let root = as_it_is(&entry);
            (entry.name, root)
        });
        let all = kept.chain(new.map(|root| (name.to_owned(), root)));
        let input = Input::directory(all.map(|(name, root)| (name, Input::Imported(root))));
        self.directory(&level.options, input.with_metadata(level.metadata))
    }

    fn directory(&self, options: &ImportOptions, input: Input<'_>) -> Result<FileRoot, Stop> {
        let mut options = options.clone().with_threads(1);
        (options.raw_leaves, options.preserve_mode, options.preserve_mtime) = (false, true, true);
        let room = &self.room;
        Ok(options.build(input, &mut |block| room.put(&block)).map_err(unbuilt)?)
    }
}

fn count(entries_left: &mut u64) -> Result<(), RpcError> {
    let left = entries_left.checked_sub(1);
    *entries_left = left.ok_or_else(|| RpcError::failed("more entries than allowed"))?;
    Ok(())
}

fn done(work: &mut Work<'_>) -> Done {
    work.bytes("text/plain", Some(0))
}

/// The two paths of `cp` and `mv`; the second is that of the new entry.
fn two<'a>(work: &Work<'a>) -> Result<(&'a str, Vec<String>), RpcError> {
    let [from, to] = work.ask.args.as_slice() else {
        return Err(RpcError::client("two paths are needed"));
    };
    let mut into = names(to)?;
    if to.ends_with('/') {
        into.extend(from.trim_end_matches('/').rsplit('/').next().map(str::to_owned));
    }
    Ok((from, into))
}

fn taken(path: &[String]) -> RpcError {
    let path = path.join("/");
    RpcError::failed(format!("cannot put node in path /{path}: directory already has entry by that name"))
}

pub(super) fn mkdir(work: &mut Work<'_>) -> Done {
    let (rpc, ask) = (work.rpc, work.ask);
    let parents = ask.flag(&["parents", "p"], false)?;
    let asked = asked(ask)?;
    ask.refuse(&["mode", "mtime"])?;
    let path = names(files::first(work))?;
    if path.is_empty() {
        return if parents { done(work) } else { Err(RpcError::failed("file already exists").into()) };
    }
    rpc.mutable.change(rpc, work.until, |tree, root| {
        tree.asked = asked;
        let make = &mut |room: &Room<'_>, found: Option<&DirectoryEntry>| match found {
            Some(found) if parents && is_directory(room, &found.cid)? => Ok(New::Node(as_it_is(found))),
            Some(_) => Err(RpcError::failed("file already exists").into()),
            None => Ok(New::EmptyDirectory),
        };
        Ok(tree.set(&root, &path, parents, make)?.cid)
    })?;
    done(work)
}

pub(super) fn cp(work: &mut Work<'_>) -> Done {
    let (rpc, ask) = (work.rpc, work.ask);
    let parents = ask.flag(&["parents", "p"], false)?;
    let (from, into) = two(work)?;
    // What is copied is held from here on.
    let hold = work.hold();
    let node = linked(&Room { store: &hold, until: work.until }, &target(work, from)?)?;
    rpc.mutable.change(rpc, work.until, |tree, root| {
        let put = &mut |_: &Room<'_>, found: Option<&DirectoryEntry>| match found {
            Some(_) => Err(taken(&into).into()),
            None => Ok(New::Node(node)),
        };
        Ok(tree.set(&root, &into, parents, put)?.cid)
    })?;
    done(work)
}

pub(super) fn mv(work: &mut Work<'_>) -> Done {
    let rpc = work.rpc;
    let (from, mut into) = two(work)?;
    let from = names(from)?;
    let Some(name) = from.last() else {
        return Err(RpcError::failed("the root cannot be moved").into());
    };
    rpc.mutable.change(rpc, work.until, |tree, root| {
        let moved = find(&tree.room, &root, &from)?.ok_or_else(absent)?;
        if let Some(there) = find(&tree.room, &root, &into)?
            && is_directory(&tree.room, &there.cid)?
            && from != into
        {
            into.push(name.clone());
        }
        if from == into {
            return Ok(root);
        }
        if into.starts_with(&from) {
            return Err(RpcError::failed("a directory cannot be moved into itself").into());
        }
        let put = &mut |room: &Room<'_>, found: Option<&DirectoryEntry>| match found {
            Some(found) if is_directory(room, &found.cid)? => Err(taken(&into).into()),
            _ => Ok(New::Node(as_it_is(&moved))),
        };
        let with_both = tree.set(&root, &into, false, put)?.cid;
        Ok(tree.set(&with_both, &from, false, &mut |_, _| Ok(New::Nothing))?.cid)
    })?;
    done(work)
}

pub(super) fn rm(work: &mut Work<'_>) -> Done {
    let (rpc, ask) = (work.rpc, work.ask);
    let force = ask.flag(&["force"], false)?;
    let recursive = ask.flag(&["recursive", "r"], false)? || force;
    for path in &ask.args {
        let names = names(path)?;
        if names.is_empty() {
            return Err(RpcError::failed(format!("{path}: cannot delete root")).into());
        }
        rpc.mutable.change(rpc, work.until, |tree, root| {
            let Some(found) = find(&tree.room, &root, &names)? else {
                let missing = RpcError::failed(format!("{path}: file does not exist"));
                return if force { Ok(root) } else { Err(missing.into()) };
            };
            // What is damaged can be taken away, if it is said that a directory may go.
            if !recursive && is_directory(&tree.room, &found.cid)? {
                let text = format!("{path}: path is a directory, use -r to remove directories");
                return Err(RpcError::failed(text).into());
            }
            Ok(tree.set(&root, &names, false, &mut |_, _| Ok(New::Nothing))?.cid)
        })?;
    }
    done(work)
}

pub(super) fn flush(work: &mut Work<'_>) -> Done {
    let path = work.ask.args.first().map_or("/", String::as_str);
    let (cid, cids) = (target(work, path)?, work.ask.cids()?);
    work.once(&json!({ "Cid": cids.of(&cid) }))
}

pub(super) fn write(work: &mut Work<'_>) -> Done {
    let (rpc, ask, until) = (work.rpc, work.ask, work.until);
    ask.refuse(&["mode", "mtime"])?;
    let offset = ask.natural(&["offset", "o"], "cannot have negative write offset")?.unwrap_or(0);
    let count = ask.natural(&["count", "n"], "cannot have negative byte count")?.unwrap_or(u64::MAX);
    let create = ask.flag(&["create", "e"], false)?;
    let parents = ask.flag(&["parents", "p"], false)?;
    let truncate = ask.flag(&["truncate", "t"], false)?;
    let (asked, raw_leaves) = (asked(ask)?, ask.chosen(&["raw-leaves"])?);
    let text = files::first(work);
    let path = names(text)?;
    let not_a_file = || RpcError::failed(format!("{text} was not a file"));
    if path.is_empty() {
        return Err(not_a_file().into());
    }

    let hold = work.hold();
    let room = Room { store: &hold, until };
    let root = rpc.mutable.root(rpc)?;
    let old = match find(&room, &root, &path)? {
        Some(old) => match stat(&room, &old.cid)?.kind {
            NodeKind::File { .. } => Some(old.cid),
            _ => return Err(not_a_file().into()),
        },
        None if create => None,
        None => return Err(absent().into()),
    };
    let mut options = match (&old, &asked) {
        (Some(old), _) => like(old)?,
        (None, Some(asked)) => asked.clone(),
        (None, None) => like(&nearest(&room, &root, &path)?)?,
    };
    if let Some(old) = &old {
        options.raw_leaves = old.codec() != DAG_PB || options.raw_leaves;
        options.metadata = stat(&room, old)?.metadata;
    }
    options.raw_leaves = raw_leaves.unwrap_or(options.raw_leaves) && options.metadata.is_empty();
    let before = old;
    let old = old.filter(|_| !truncate).map(|old| FileReader::open(Room { ..room }, &old)).transpose()?;
    let len = old.as_ref().map_or(0, FileReader::len);
    if offset.saturating_sub(len) > GAP_MAX {
        return Err(RpcError::client("the offset lies too far behind the end of the file").into());
    }

    let (mut body, _) = work.parts();
    let part = body.next_part().map_err(broken)?;
    if part.is_none_or(|part| part.kind != PartKind::File) {
        return Err(RpcError::client("expected a file argument").into());
    }
    let written = Written { old, len, offset, body: body.take(count), ended: false, at: 0 };
    let file = options.import(Input::reader(written), &room, &mut |_| ()).map_err(unbuilt)?;
    rpc.mutable.change(rpc, until, |tree, root| {
        tree.asked = asked;
        let put = &mut |room: &Room<'_>, found: Option<&DirectoryEntry>| match found {
            Some(found) if is_directory(room, &found.cid)? => Err(not_a_file().into()),
            None if !create => Err(absent().into()),
            // Both were told to keep what they do not write.
            found if !truncate && found.map(|found| found.cid) != before => {
                Err(RpcError::failed(format!("{text} was changed meanwhile: write again")).into())
            }
            _ => Ok(New::Node(file)),
        };
        Ok(tree.set(&root, &path, parents, put)?.cid)
    })?;
    done(work)
}

/// The last directory on the way that is there.
fn nearest(room: &Room<'_>, root: &Cid, path: &[String]) -> Result<Cid, RpcError> {
    for len in (0..path.len()).rev() {
        if let Some(found) = find(room, root, path.get(..len).unwrap_or_default())? {
            return Ok(found.cid);
        }
    }
    Ok(*root)
}

/// A file, over which a body is written from `offset` on; zeros stand before it where the file is too short.
struct Written<'a, R> {
    old: Option<FileReader<Room<'a>>>,
    len: u64,
    offset: u64,
    body: Take<R>,
    ended: bool,
    at: u64,
}

impl<R> Written<'_, R> {
    /// Bytes of the file as it was, none from `end` on.
    fn kept(&self, buf: &mut [u8], end: u64) -> io::Result<usize> {
        let Some(old) = self.old.as_ref().filter(|_| self.at < end) else { return Ok(0) };
        let len = usize::try_from(end - self.at).map_or(buf.len(), |left| left.min(buf.len()));
        old.read_at(self.at, buf.get_mut(..len).unwrap_or_default()).map_err(io::Error::other)
    }
}

impl<R: Read> Read for Written<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut n = 0;
        if self.at < self.offset {
            n = self.kept(buf, self.offset.min(self.len))?;
            if n == 0 {
                let gap = usize::try_from(self.offset - self.at).map_or(buf.len(), |gap| gap.min(buf.len()));
                buf.get_mut(..gap).unwrap_or_default().fill(0);
                n = gap;
            }
        } else if !self.ended {
            n = self.body.read(buf)?;
            self.ended = n == 0 && !buf.is_empty();
        }
        if self.ended && n == 0 {
            n = self.kept(buf, self.len)?;
        }
        self.at += n as u64;
        Ok(n)
    }
}
