//! The examples of the UnixFS specification.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader},
    path::Path,
};

use lightstreams_store::{
    Block, BlockStore, CarReader, Cid, DAG_PB, Directory, FileReader, MemoryStore, NodeKind, RAW, ReadError,
    resolve, stat,
};
use serde_json::Value;

use super::LONG_IDENTITY;
use crate::report::{Outcome, Report, Stop, bytes, ensure, failed, list, number, text};

pub(crate) fn run(root: &Path, report: &mut Report) {
    for path in report.files(root, "unixfs-spec", ".json") {
        let file = report.json(&path);
        for case in list(&file["valid"]) {
            report.case(case["id"].as_str().unwrap_or_default(), || valid(root, case));
        }
        for case in list(&file["invalid"]) {
            report.case(case["id"].as_str().unwrap_or_default(), || invalid(case));
        }
        if file["identity_cid_limit"].is_object() {
            report.case("identity_cid_limit", || identity_limit(&file["identity_cid_limit"]));
        }
    }
}

fn valid(root: &Path, case: &Value) -> Outcome {
    let store = MemoryStore::default();
    let car = File::open(root.join("ipfs-car-fixtures").join(text(case, "car")?)).or_else(failed)?;
    for block in CarReader::new(BufReader::new(car)).or_else(failed)? {
        store.put(&block.or_else(failed)?).or_else(failed)?;
    }
    let root = cid(&case["root"])?;
    let found = stat(&store, &root).or_else(failed)?;
    let kind = match found.kind {
        NodeKind::File { .. } => "file",
        NodeKind::Directory { sharded: false } => "directory",
        NodeKind::Directory { sharded: true } => "hamt",
        NodeKind::Symlink { .. } => "symlink",
    };
    ensure(kind == text(case, "type")?, format_args!("it is a {kind}"))?;
    let block = store.get(&root).or_else(failed)?;
    if let Some(len) = case["block_size"].as_u64() {
        ensure(block.is_some_and(|block| block.len() as u64 == len), "the root has another length")?;
    }
    if kind == "file" {
        return ranges(&store, &root, case);
    }
    directory(&store, &root, case)
}

fn directory(store: &MemoryStore, root: &Cid, case: &Value) -> Outcome {
    let directory = Directory::open(store, root).or_else(failed)?;
    let mut listed = BTreeMap::new();
    for entry in directory.entries() {
        let entry = entry.or_else(failed)?;
        ensure(directory.get(&entry.name).or_else(failed)?.as_ref() == Some(&entry), "listed and not found")?;
        listed.insert(entry.name, entry.cid);
    }
    if let Some(entries) = case["entries"].as_array() {
        ensure(entries.len() == listed.len(), format_args!("{} entries", listed.len()))?;
        for entry in entries {
            let (name, cid) = (entry[0].as_str().unwrap_or_default(), cid(&entry[1])?);
            ensure(listed.get(name) == Some(&cid), format_args!("no entry {name}"))?;
            let codec = if entry[2] == "raw" { RAW } else { DAG_PB };
            ensure(cid.codec() == codec, "another codec")?;
            if let Some(size) = entry[3].as_u64() {
                ensure(read(store, &cid)?.len() as u64 == size, format_args!("{name} has another length"))?;
            }
        }
    }
    if let Some((first, last)) = case["names"].as_str().and_then(|names| names.split_once(" .. ")) {
        let number = |name: &str| name.trim_end_matches(".txt").parse::<u64>().or_else(failed);
        let names = number(first)?..=number(last)?;
        ensure(names.clone().count() == listed.len(), format_args!("{} entries", listed.len()))?;
        for i in names {
            ensure(listed.contains_key(&format!("{i}.txt")), format_args!("no entry {i}.txt"))?;
        }
    }
    for (path, expected) in case["paths"].as_object().into_iter().flatten() {
        let entry = resolve(&store, root, path).or_else(failed)?;
        ensure(
            entry.is_some_and(|entry| Ok(entry.cid) == cid(expected).map_err(|_| ())),
            format_args!("{path} is elsewhere"),
        )?;
    }
    for (name, expected) in case["content"].as_object().into_iter().flatten() {
        let content = read(store, &listed[name])?;
        ensure(
            expected.as_str().map(str::as_bytes) == Some(&content),
            format_args!("{name} has another content"),
        )?;
    }
    for (name, prefix) in case["content_prefix"].as_object().into_iter().flatten() {
        let content = read(store, &listed[name])?;
        ensure(
            content.starts_with(prefix.as_str().unwrap_or("?").as_bytes()),
            format_args!("{name} begins otherwise"),
        )?;
    }
    for (name, target) in case["symlink"].as_object().into_iter().flatten() {
        let kind = stat(&store, &listed[name]).or_else(failed)?.kind;
        let expected = target.as_str().unwrap_or_default().as_bytes().to_vec();
        ensure(kind == NodeKind::Symlink { target: expected }, format_args!("{name} points elsewhere"))?;
    }
    for (name, len) in case["block_sizes"].as_object().into_iter().flatten() {
        let size = store.size(&cid(&Value::from(name.as_str()))?).or_else(failed)?;
        ensure(size == len.as_u64(), format_args!("{name} has another length"))?;
    }
    if case["multiblock"].is_object() {
        let multiblock = &case["multiblock"];
        let root = cid(&multiblock["root"])?;
        let size = store.size(&root).or_else(failed)?;
        ensure(size == multiblock["block_size"].as_u64(), "the file's root has another length")?;
        ensure(
            read(store, &root)?.len() as u64 == number(multiblock, "file_size")?,
            "the file has another length",
        )?;
        for leaf in list(&multiblock["leaves"]) {
            let size = store.size(&cid(&leaf[0])?).or_else(failed)?;
            ensure(size == leaf[1].as_u64(), "a leaf has another length")?;
        }
    }
    Ok(())
}

/// A file of which blocks are missing: their ranges fail, the others read.
fn ranges(store: &MemoryStore, root: &Cid, case: &Value) -> Outcome {
    let reader = FileReader::open(store, root).or_else(failed)?;
    let read = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or_default();
        let (first, last): (u64, u64) = (first.parse().or_else(failed)?, last.parse().or_else(failed)?);
        let mut buf = vec![0; (last - first + 1) as usize];
        Ok::<_, Stop>(reader.read_at(first, &mut buf).map(|n| n == buf.len()))
    };
    for present in list(&case["present"]) {
        let range = present[1].as_str().unwrap_or_default();
        ensure(matches!(read(range)?, Ok(true)), format_args!("{range} does not read"))?;
    }
    for missing in list(&case["missing"]) {
        let range = missing.as_str().unwrap_or_default();
        ensure(matches!(read(range)?, Err(ReadError::Missing { .. })), format_args!("{range} reads"))?;
    }
    Ok(())
}

fn read(store: &MemoryStore, root: &Cid) -> Result<Vec<u8>, Stop> {
    let mut content = Vec::new();
    let mut reader = FileReader::open(store, root).or_else(failed)?;
    io::Read::read_to_end(&mut reader, &mut content).or_else(failed)?;
    Ok(content)
}

fn invalid(case: &Value) -> Outcome {
    let (cid, data) = (cid(&case["cid"])?, bytes(case, "block_hex")?);
    let store = MemoryStore::default();
    store.put(&Block::from_cid(cid, data).or_else(failed)?).or_else(failed)?;
    ensure(stat(&&store, &cid).is_err(), "taken for UnixFS")?;
    ensure(Directory::open(&store, &cid).is_err(), "taken for a directory")?;
    ensure(FileReader::open(&store, &cid).is_err(), "taken for a file")
}

/// An identity CID of so many bytes is read, and one byte more is not.
fn identity_limit(case: &Value) -> Outcome {
    let max = number(case, "max_digest_bytes")? as usize;
    let name = |len: usize, byte: u8| {
        let mut name = vec![1, RAW as u8, 0];
        // The length is a varint of two bytes.
        name.extend([len as u8 | 0x80, (len >> 7) as u8]);
        name.extend(vec![byte; len]);
        Cid::try_from(&name[..])
    };
    let Ok(accepted) = name(max, 0x42) else { return Err(Stop::Skipped(LONG_IDENTITY)) };
    let block = Block::inline(&accepted);
    ensure(block.is_some_and(|block| block.data()[..] == vec![0x42; max][..]), "carries other bytes")?;
    ensure(name(max + 1, 0x41).is_err(), "a longer one is read")
}

fn cid(value: &Value) -> Result<Cid, Stop> {
    value.as_str().unwrap_or_default().parse().or_else(failed)
}
