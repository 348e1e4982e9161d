//! `add`: a tree of files, from the parts of a form.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    io::{self, Read},
};

use serde_json::{Map, Value, json};

use super::{
    ask::{Ask, CidText},
    multipart::{Part, PartKind, unix_mode},
    pin,
    refusal::{RpcError, Stop},
    room::{Nowhere, Room},
    work::{Done, Work, begin_lines, line},
};
use crate::{
    BuildError, Cid, FileLayout, FileRoot, HashFunction, ImportOptions, Input, MAX_TREE_DEPTH, Metadata,
    Mtime, crew::crew, gateway::out::Out, unixfs::Batch,
};

/// Bytes of a file between two reports.
const PROGRESS_BYTES: u64 = 256 << 10;
/// Bytes of the longest name.
pub(super) const NAME_LEN_MAX: usize = 1024;
/// Bytes of the longest target of a symbolic link.
const TARGET_LEN_MAX: u64 = 4096;

pub(super) fn add(work: &mut Work<'_>) -> Done {
    let (rpc, ask, until) = (work.rpc, work.ask, work.until);
    let options = options(ask)?;
    let wrap = ask.flag(&["wrap-with-directory", "w"], false)?;
    let only_hash = ask.flag(&["only-hash", "n"], false)?;
    let events = |out| -> Result<_, RpcError> {
        let (progress, silent) = (ask.flag(&["progress", "p"], false)?, ask.flag(&["silent"], false)?);
        Ok(Events { out: RefCell::new(out), cids: ask.cids()?, progress, silent })
    };
    let pin = ask.flag(&["pin"], true)? && !only_hash;
    let pin_name = ask.text(&["pin-name"])?;
    if pin_name.is_some() && !pin {
        return Err(RpcError::client("pin-name needs pin").into());
    }
    let pin_name = pin_name.unwrap_or_default();
    pin::check_name(rpc, pin_name)?;

    let hold = work.hold();
    let room = Room { store: &hold, until };
    let (mut parts, out) = work.parts();
    let events = events(out)?;
    begin_lines(&mut events.out.borrow_mut())?;
    let mut stored = |_| ();
    // Files are hashed with threads of their own; what is stored waits for no other.
    let roots = crew(1, |crew| -> Result<_, Stop> {
        let batch = Batch::new(crew, if only_hash { &Nowhere } else { &room }, &mut stored);
        let entries_left = rpc.config.entries_max;
        let mut adding =
            Adding { options, events: &events, batch, entries_left, open: None, roots: Vec::new() };
        if wrap {
            adding.open = Some((String::new(), Folder::default()));
        }

        let mut found = false;
        while let Some(part) = parts.next_part().map_err(broken)? {
            found = true;
            adding.check(&part)?;
            let entry = match part.kind {
                PartKind::Directory => {
                    Entry::Folder(Folder { metadata: part.metadata, entries: BTreeMap::new() })
                }
                PartKind::File => {
                    let input = Input::reader(Progress::new(&mut parts, part.path.join("/"), &events));
                    adding.leaf(input.with_metadata(part.metadata), &part)?
                }
                PartKind::Symlink => {
                    let mut target = Vec::new();
                    parts.by_ref().take(TARGET_LEN_MAX + 1).read_to_end(&mut target).map_err(broken)?;
                    if target.len() as u64 > TARGET_LEN_MAX {
                        return Err(RpcError::client("the target of a symbolic link is too long").into());
                    }
                    adding.leaf(Input::symlink(target).with_metadata(part.metadata), &part)?
                }
            };
            adding.place(part.path, entry, wrap)?;
        }
        if !found {
            return Err(RpcError::client("expected a file argument").into());
        }
        adding.close()?;
        let Adding { batch, roots, .. } = adding;
        batch.finish()?;
        Ok(roots)
    })?;
    if pin {
        for root in roots {
            pin::set(rpc, root, true, pin_name)?;
        }
    }
    Ok(())
}

/// What Kubo would do with these options: the profile `unixfs-v0-2015` unless they say otherwise.
fn options(ask: &Ask) -> Result<ImportOptions, RpcError> {
    ask.refuse(&["nocopy", "fscache", "to-files"])?;
    let hash: HashFunction = ask.named(&["hash"])?.unwrap_or_default();
    let version: Option<i64> = ask.number(&["cid-version"])?;
    let v1 = match (version.filter(|version| *version >= 0), hash == HashFunction::SHA2_256) {
        (Some(0), false) => return Err(RpcError::client("CIDv0 only supports sha2-256")),
        (Some(0) | None, true) => false,
        (Some(1), _) | (None, false) => true,
        (Some(version), _) => return Err(RpcError::client(format!("unknown CID version: {version}"))),
    };
    let mut options = if v1 { ImportOptions::kubo_cid_v1() } else { ImportOptions::unixfs_v0_2015() };
    options.hash = hash;
    options.hidden = true;
    let mode = ask.number::<u32>(&["mode"])?.filter(|mode| *mode != 0);
    let seconds = ask.number::<i64>(&["mtime"])?.filter(|seconds| *seconds != 0);
    let nanos = ask.number::<u32>(&["mtime-nsecs"])?.unwrap_or(0);
    if seconds.is_none() && nanos != 0 {
        return Err(RpcError::client("mtime-nsecs needs mtime"));
    }
    let mtime = match seconds.map(|seconds| Mtime::new(seconds, nanos)) {
        Some(None) => return Err(RpcError::client("mtime-nsecs is a second or more")),
        mtime => mtime.flatten(),
    };
    options.metadata = Metadata::new(mode.map(unix_mode), mtime);
    options.preserve_mode = ask.flag(&["preserve-mode"], false)?;
    options.preserve_mtime = ask.flag(&["preserve-mtime"], false)?;
    let keeps = options.preserve_mode || options.preserve_mtime || !options.metadata.is_empty();
    options.raw_leaves = ask.chosen(&["raw-leaves"])?.unwrap_or(v1 && !keeps);
    if let Some(chunker) = ask.named(&["chunker", "s"])? {
        options.chunker = chunker;
    }
    if ask.flag(&["trickle", "t"], false)? {
        options.layout = FileLayout::Trickle;
    }
    if ask.flag(&["inline"], false)? {
        options.inline_limit = Some(ask.number(&["inline-limit"])?.unwrap_or(32));
    }
    options.max_links = ask.number(&["max-file-links"])?.unwrap_or(options.max_links);
    options.sharding.max_entries = ask.number(&["max-directory-links"])?.filter(|max| *max > 0);
    options.sharding.fanout = ask.number(&["max-hamt-fanout"])?.unwrap_or(options.sharding.fanout);
    options.empty_directories = ask.flag(&["empty-dirs", "E"], true)?;
    options.check()?;
    Ok(options)
}

/// A body that cannot be read: mostly, one that is wrong.
pub(super) fn broken(error: io::Error) -> RpcError {
    match error.kind() {
        io::ErrorKind::InvalidData => RpcError::client(error),
        _ => RpcError::of(&error),
    }
}

/// The same, of what was read to be built.
pub(super) fn unbuilt(error: BuildError) -> RpcError {
    match error {
        BuildError::Read(error) => broken(error),
        BuildError::Name { .. } | BuildError::TooDeep => RpcError::client(error),
        error => error.into(),
    }
}

/// Tells the client what was added.
struct Events<'a> {
    out: RefCell<&'a mut Out>,
    cids: CidText,
    progress: bool,
    silent: bool,
}

impl Events<'_> {
    fn added(&self, name: &str, root: &FileRoot, metadata: Metadata) -> Done {
        if self.silent {
            return Ok(());
        }
        let mut event = Map::from_iter([
            ("Name".to_owned(), json!(name)),
            ("Hash".to_owned(), json!(self.cids.of(&root.cid))),
            ("Size".to_owned(), json!(root.tsize.to_string())),
        ]);
        if let Some(mode) = metadata.mode {
            event.insert("Mode".to_owned(), json!(format!("0{mode:o}")));
        }
        if let Some(mtime) = metadata.mtime {
            event.insert("Mtime".to_owned(), json!(mtime.seconds()));
            event.insert("MtimeNsecs".to_owned(), json!(mtime.nanos()));
        }
        let mut out = self.out.borrow_mut();
        line(&mut out, &Value::Object(event))?;
        if self.progress { Ok(out.send_gathered()?) } else { Ok(()) }
    }
}

/// A directory that is being added.
#[derive(Default)]
struct Folder {
    metadata: Metadata,
    entries: BTreeMap<String, Entry>,
}

enum Entry {
    Leaf(FileRoot),
    Folder(Folder),
}

struct Adding<'a, 'b, 't> {
    options: ImportOptions,
    events: &'a Events<'a>,
    batch: Batch<'b, 't>,
    entries_left: u64,
    /// The directory at the top that parts go into, and its name; the one around all has none.
    open: Option<(String, Folder)>,
    /// What stands at the top.
    roots: Vec<Cid>,
}

impl Adding<'_, '_, '_> {
    fn check(&mut self, part: &Part) -> Result<(), RpcError> {
        if part.path.len() > MAX_TREE_DEPTH {
            return Err(RpcError::client(format!("the tree is deeper than {MAX_TREE_DEPTH} directories")));
        }
        if part.path.iter().any(|name| name.len() > NAME_LEN_MAX) {
            return Err(RpcError::client(format!("a name is longer than {NAME_LEN_MAX} bytes")));
        }
        let left = self.entries_left.checked_sub(1);
        self.entries_left = left.ok_or_else(|| RpcError::client("more entries than allowed"))?;
        Ok(())
    }

    fn build(&mut self, input: Input<'_>) -> Result<FileRoot, RpcError> {
        let batch = &mut self.batch;
        self.options.build(input, &mut |block| batch.push(block, 0)).map_err(unbuilt)
    }

    /// What an entry of this mode and time gets.
    fn metadata(&self, own: Metadata) -> Metadata {
        let (options, all) = (&self.options, self.options.metadata);
        Metadata::new(
            all.mode.or(own.mode.filter(|_| options.preserve_mode)),
            all.mtime.or(own.mtime.filter(|_| options.preserve_mtime)),
        )
    }

    fn leaf(&mut self, input: Input<'_>, part: &Part) -> Result<Entry, Stop> {
        let root = self.build(input)?;
        // What has no name is named by its CID.
        let name = if part.path.is_empty() { root.cid.to_string() } else { part.path.join("/") };
        self.events.added(&name, &root, self.metadata(part.metadata))?;
        Ok(Entry::Leaf(root))
    }

    /// Puts an entry where it belongs: at the top, or into the directory at the top that its path begins with.
    fn place(&mut self, path: Vec<String>, entry: Entry, wrap: bool) -> Done {
        let mut names = path.into_iter();
        let top = if wrap { Some(String::new()) } else { names.next() };
        if self.open.as_ref().is_some_and(|(name, _)| top.as_ref() != Some(name)) {
            self.close()?;
        }
        let names: Vec<String> = names.collect();
        match (top, entry) {
            (None, Entry::Folder(_)) => Ok(()),
            (_, Entry::Leaf(root)) if names.is_empty() && !wrap => {
                // A file where a directory of its name stands open would be the second of that name.
                self.close()?;
                self.roots.push(root.cid);
                Ok(())
            }
            (Some(top), entry) => {
                let (_, folder) = self.open.get_or_insert_with(|| (top, Folder::default()));
                Ok(folder.put(names, entry, &mut self.entries_left)?)
            }
            (None, Entry::Leaf(_)) => Ok(()),
        }
    }

    /// Ends the directory at the top.
    fn close(&mut self) -> Done {
        if let Some((name, folder)) = self.open.take()
            && let Some(root) = self.folder(&name, folder, true)?
        {
            self.roots.push(root.cid);
        }
        Ok(())
    }

    fn folder(&mut self, path: &str, folder: Folder, top: bool) -> Result<Option<FileRoot>, Stop> {
        let mut entries = Vec::with_capacity(folder.entries.len());
        for (name, entry) in folder.entries {
            let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
            let root = match entry {
                Entry::Leaf(root) => Some(root),
                Entry::Folder(folder) => self.folder(&path, folder, false)?,
            };
            entries.extend(root.map(|root| (name, Input::Imported(root))));
        }
        if entries.is_empty() && !self.options.empty_directories && !top {
            return Ok(None);
        }
        let root = self.build(Input::directory(entries).with_metadata(folder.metadata))?;
        self.events.added(path, &root, self.metadata(folder.metadata))?;
        Ok(Some(root))
    }
}

impl Folder {
    /// Puts an entry below; directories on the way come to be.
    fn put(&mut self, mut names: Vec<String>, entry: Entry, entries_left: &mut u64) -> Result<(), RpcError> {
        let twice = |name: &str| RpcError::client(format!("two entries are named {name:?}"));
        let Some(name) = names.pop() else {
            match entry {
                Entry::Folder(folder) => self.metadata = folder.metadata,
                Entry::Leaf(root) => drop(self.entries.insert(root.cid.to_string(), Entry::Leaf(root))),
            }
            return Ok(());
        };
        let mut folder = self;
        for name in names {
            if !folder.entries.contains_key(&name) {
                *entries_left = entries_left
                    .checked_sub(1)
                    .ok_or_else(|| RpcError::client("more entries than allowed"))?;
            }
            let wrong = twice(&name);
            match folder.entries.entry(name).or_insert_with(|| Entry::Folder(Folder::default())) {
                Entry::Folder(below) => folder = below,
                Entry::Leaf(_) => return Err(wrong),
            }
        }
        match (folder.entries.get_mut(&name), entry) {
            // A directory that came to be by what is in it is stated later, or again.
            (Some(Entry::Folder(known)), Entry::Folder(stated)) => known.metadata = stated.metadata,
            (Some(_), _) => return Err(twice(&name)),
            (None, entry) => drop(folder.entries.insert(name, entry)),
        }
        Ok(())
    }
}

/// A file that is read, told of as far as it was.
struct Progress<'a, R> {
    from: R,
    name: String,
    events: &'a Events<'a>,
    done: u64,
    told: u64,
}

impl<'a, R: Read> Progress<'a, R> {
    fn new(from: R, name: String, events: &'a Events<'a>) -> Self {
        Self { from, name, events, done: 0, told: 0 }
    }
}

impl<R: Read> Read for Progress<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buf)?;
        self.done += n as u64;
        let ends = n == 0 && !buf.is_empty() && self.told < self.done;
        if self.events.progress && (ends || self.done - self.told >= PROGRESS_BYTES) {
            self.told = self.done;
            let event = json!({ "Name": self.name, "Bytes": self.done });
            let mut out = self.events.out.borrow_mut();
            let told = line(&mut out, &event).and_then(|()| out.send_gathered().map_err(|_| Stop::Gone));
            told.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        }
        Ok(n)
    }
}
