//! Files and directories: `cat`, `get`, `ls`, and what of `files/*` only reads.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{
    ask::CidText,
    mutable,
    refusal::{RpcError, Stop},
    room::Room,
    work::{Done, Work},
};
use crate::{
    Block, Cid, DAG_PB, Directory, DirectoryEntry, ExportLimits, FileReader, LayoutError, NodeKind, RAW,
    ReadError, Stat, dagpb::Node, export_tar, ipns::time, payload::read_block, stat,
};

/// Go's time of nothing.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

pub(super) fn first<'a>(work: &Work<'a>) -> &'a str {
    work.ask.args.first().map(String::as_str).unwrap_or_default()
}

/// The file whose root is `cid`.
fn file<'a>(work: &Work<'a>, cid: Cid) -> Result<FileReader<Room<'a>>, Stop> {
    match FileReader::open(work.room(), &cid) {
        Err(ReadError::Layout { source: LayoutError::NotAFile, .. }) => {
            match stat(&work.room(), &cid)?.kind {
                NodeKind::Directory { .. } => Err(RpcError::failed("this dag node is a directory").into()),
                _ => Err(RpcError::failed("this dag node is no file").into()),
            }
        }
        opened => Ok(opened?),
    }
}

/// Sends bytes `from` to `end` of a file.
fn send(work: &mut Work<'_>, file: &FileReader<Room<'_>>, from: u64, end: u64) -> Done {
    let mut at = from;
    while at < end {
        let mut bytes = file.bytes_at(at)?;
        bytes.truncate(usize::try_from(end - at).unwrap_or(usize::MAX));
        at += bytes.len() as u64;
        work.out.send(bytes)?;
    }
    Ok(())
}

pub(super) fn cat(work: &mut Work<'_>) -> Done {
    let ask = work.ask;
    let mut offset = ask.natural(&["offset", "o"], "cannot specify negative offset")?.unwrap_or(0);
    let mut left = ask.natural(&["length", "l"], "cannot specify negative length")?.unwrap_or(u64::MAX);
    let (mut ranges, mut len) = (Vec::new(), 0u64);
    for path in &ask.args {
        if left == 0 {
            break;
        }
        let file = file(work, work.cid(path)?)?;
        if offset > file.len() {
            offset -= file.len();
            continue;
        }
        let end = file.len().min(offset.saturating_add(left));
        left -= end - offset;
        len = len.saturating_add(end - offset);
        ranges.push((file, offset, end));
        offset = 0;
    }
    work.bytes("text/plain", Some(len))?;
    ranges.into_iter().try_for_each(|(file, from, end)| send(work, &file, from, end))
}

pub(super) fn get(work: &mut Work<'_>) -> Done {
    work.ask.refuse(&["compress", "C"])?;
    let path = first(work);
    let cid = work.cid(path)?;
    let room = work.room();
    // What is no tree is found before the answer begins.
    let len = match stat(&room, &cid)?.kind {
        NodeKind::File { size } => Some(size),
        _ => None,
    };
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    // A name that is none, or a URI, gives way to the CID.
    let name = if name.is_empty() || name.contains(':') || matches!(name, "." | "..") {
        cid.to_string()
    } else {
        name.to_owned()
    };
    work.bytes("application/x-tar", len)?;
    let limits = ExportLimits { entries_max: work.rpc.config.entries_max, ..ExportLimits::default() };
    export_tar(&room, &cid, &name, limits, &mut *work.out)?;
    Ok(())
}

/// What `ls` says of an entry; its root is looked at if `look`.
fn listed(room: &Room<'_>, entry: &DirectoryEntry, cids: CidText, look: bool) -> Result<Value, Stop> {
    let (mut kind, mut size, mut target, mut mode, mut time) = (0, 0, String::new(), 0, NO_TIME.to_owned());
    if entry.cid.codec() == RAW {
        (kind, size) = (2, entry.tsize);
    } else if look && entry.cid.codec() == DAG_PB {
        let found = stat(room, &entry.cid)?;
        (kind, size) = match &found.kind {
            NodeKind::File { size } => (2, *size),
            NodeKind::Directory { .. } => (1, 0),
            NodeKind::Symlink { target: to } => {
                target = String::from_utf8_lossy(to).into_owned();
                (4, 0)
            }
        };
        mode = found.metadata.mode.unwrap_or(0);
        time = time_of(&found).unwrap_or(time);
    }
    Ok(json!({
        "Name": entry.name, "Hash": cids.of(&entry.cid), "Size": size, "Type": kind, "Target": target,
        "Mode": mode, "ModTime": time,
    }))
}

fn time_of(found: &Stat) -> Option<String> {
    let mtime = found.metadata.mtime?;
    time::format(Duration::new(u64::try_from(mtime.seconds()).ok()?, mtime.nanos()))
}

/// Shows what stands in a directory; in a file, what it is made of.
fn entries(room: &Room<'_>, cid: &Cid, show: &mut dyn FnMut(&DirectoryEntry) -> Done) -> Done {
    match Directory::open(room, cid) {
        Ok(directory) => directory.entries().try_for_each(|entry| show(&entry?)),
        Err(ReadError::Layout { source: LayoutError::NotADirectory, .. }) => {
            let block = read_block(room, cid)?;
            if cid.codec() != DAG_PB {
                return Ok(());
            }
            let node = Node::decode(block.data()).map_err(|error| RpcError::of(&error))?;
            let mut links = node.links.into_iter();
            links.try_for_each(|link| {
                show(&DirectoryEntry { name: link.name, cid: link.cid, tsize: link.tsize })
            })
        }
        Err(error) => Err(error.into()),
    }
}

pub(super) fn ls(work: &mut Work<'_>) -> Done {
    let (ask, cids) = (work.ask, work.ask.cids()?);
    let look = ask.flag(&["resolve-type"], true)? | ask.flag(&["size"], true)?;
    let stream = ask.flag(&["stream", "s"], false)?;
    let room = work.room();
    if stream {
        let found = ask.args.iter().map(|path| work.cid(path)).collect::<Result<Vec<_>, _>>()?;
        work.lines()?;
        for (path, cid) in ask.args.iter().zip(found) {
            entries(&room, &cid, &mut |entry| {
                let link = listed(&room, entry, cids, look)?;
                work.line(&json!({ "Objects": [{ "Hash": path, "Links": [link] }] }))
            })?;
        }
        return Ok(());
    }
    let mut left = work.rpc.config.entries_max;
    let mut objects = Vec::new();
    for path in &ask.args {
        let mut links = Vec::new();
        entries(&room, &work.cid(path)?, &mut |entry| {
            left = left
                .checked_sub(1)
                .ok_or_else(|| RpcError::failed("more entries than allowed: ask for a stream"))?;
            links.push((entry.name.clone(), listed(&room, entry, cids, look)?));
            Ok(())
        })?;
        links.sort_by(|(a, _), (b, _)| a.cmp(b));
        let links: Vec<Value> = links.into_iter().map(|(_, link)| link).collect();
        objects.push(json!({ "Hash": path, "Links": links }));
    }
    work.once(&json!({ "Objects": objects }))
}

/// How many links a block has, and the bytes of its DAG as these state them.
pub(super) fn linked(block: &Block) -> Result<(usize, u64), RpcError> {
    let links = match block.cid().codec() {
        DAG_PB => Node::decode(block.data()).map_err(|error| RpcError::of(&error))?.links,
        _ => Vec::new(),
    };
    let tsize = links.iter().fold(block.len() as u64, |sum, link| sum.saturating_add(link.tsize));
    Ok((links.len(), tsize))
}

pub(super) fn mutable_stat(work: &mut Work<'_>) -> Done {
    work.ask.refuse(&["with-local"])?;
    let (cid, cids) = (mutable::target(work, first(work))?, work.ask.cids()?);
    let room = work.room();
    let found = stat(&room, &cid)?;
    let block = read_block(&room, &cid)?;
    let (links, tsize) = linked(&block)?;
    let (size, kind) = match found.kind {
        NodeKind::File { size } => (size, "file"),
        NodeKind::Directory { .. } => (0, "directory"),
        NodeKind::Symlink { .. } => (0, "file"),
    };
    let mut answer = Map::new();
    let fields = [
        ("Hash", json!(cids.of(&cid))),
        ("Size", json!(size)),
        ("CumulativeSize", json!(tsize)),
        ("Blocks", json!(links)),
        ("Type", json!(kind)),
    ];
    answer.extend(fields.map(|(key, value)| (key.to_owned(), value)));
    if let Some(mode) = found.metadata.mode {
        answer.insert("Mode".to_owned(), json!(format!("{mode:04o}")));
    }
    if let Some(mtime) = found.metadata.mtime {
        answer.insert("Mtime".to_owned(), json!(mtime.seconds()));
        answer.insert("MtimeNsecs".to_owned(), json!(mtime.nanos()));
    }
    work.once(&Value::Object(answer))
}

pub(super) fn mutable_ls(work: &mut Work<'_>) -> Done {
    let path = work.ask.args.first().map_or("/", String::as_str);
    let (cid, cids) = (mutable::target(work, path)?, work.ask.cids()?);
    let long = work.ask.flag(&["long", "l"], false)?;
    let room = work.room();
    let row = |name: &str, cid: &Cid| -> Result<Value, Stop> {
        if !long {
            return Ok(json!({ "Name": name, "Type": 0, "Size": 0, "Hash": "" }));
        }
        let (kind, size) = match stat(&room, cid)?.kind {
            NodeKind::File { size } => (0, size),
            NodeKind::Directory { .. } => (1, 0),
            NodeKind::Symlink { target } => (0, target.len() as u64),
        };
        Ok(json!({ "Name": name, "Type": kind, "Size": size, "Hash": cids.of(cid) }))
    };
    let mut rows = Vec::new();
    if matches!(stat(&room, &cid)?.kind, NodeKind::Directory { .. }) {
        let mut left = work.rpc.config.entries_max;
        entries(&room, &cid, &mut |entry| {
            left = left.checked_sub(1).ok_or_else(|| RpcError::failed("more entries than allowed"))?;
            rows.push(row(&entry.name, &entry.cid)?);
            Ok(())
        })?;
    } else {
        rows.push(row(path.rsplit('/').next().unwrap_or_default(), &cid)?);
    }
    work.once(&json!({ "Entries": rows }))
}

pub(super) fn mutable_read(work: &mut Work<'_>) -> Done {
    let ask = work.ask;
    let offset = ask.natural(&["offset", "o"], "cannot specify negative offset")?.unwrap_or(0);
    let count = ask.natural(&["count", "n"], "cannot specify negative count")?.unwrap_or(u64::MAX);
    let file = file(work, mutable::target(work, first(work))?)?;
    if offset > file.len() {
        let text = format!("offset was past end of file ({offset} > {})", file.len());
        return Err(RpcError::failed(text).into());
    }
    let end = file.len().min(offset.saturating_add(count));
    work.bytes("text/plain", Some(end - offset))?;
    send(work, &file, offset, end)
}
