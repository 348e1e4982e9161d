//! Roots, blocks and CARs that Kubo and other importers make of given input.

use std::{collections::HashMap, path::Path};

use lightstreams_store::{
    AnyChunker, Block, BlockStore, BuildError, CarWriter, Cid, CidVersion, Codec, Directory, DirectorySize,
    FileLayout, FileReader, FileRoot, ImportOptions, Input, MemoryStore, Metadata, NodeKind, resolve, stat,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{
    LONG_IDENTITY,
    input::{self, Kind, Tree},
};
use crate::report::{Outcome, Report, Stop, ensure, failed, list, number, text};

/// The suite `unixfs-cids`.
pub(crate) fn run_cids(root: &Path, report: &mut Report) {
    run_folder(root, "unixfs-cids", report);
}

/// The suite `kubo-import`.
pub(crate) fn run(root: &Path, report: &mut Report) {
    run_folder(root, "kubo", report);
}

fn run_folder(root: &Path, folder: &str, report: &mut Report) {
    for path in report.files(root, folder, ".json") {
        let file = report.json(&path);
        for row in list(&file["rows"]).iter().filter(|row| row["root_cid"].is_string()) {
            report.case(row["name"].as_str().unwrap_or_default(), || check(row));
        }
        for row in list(&file["refused"]) {
            report.case(row["what"].as_str().unwrap_or_default(), || refused(row));
        }
    }
}

fn check(row: &Value) -> Outcome {
    let options = options(row)?;
    let mut tree = input::of_row(row)?;
    if has_argument(row, "--dereference-symlinks") {
        tree.follow_links();
    }
    let mut input = tree.input();
    let name = row["file"]["name"].as_str().or(row["root_is"].as_str()).unwrap_or("d");
    if row["wrap"] == true {
        input = Input::directory([(name.to_owned(), input)]);
    }
    let mut blocks: HashMap<Cid, Block> = HashMap::new();
    let mut sink = |block: Block| {
        blocks.insert(*block.cid(), block);
        Ok(())
    };
    let built = match options.build(input, &mut sink) {
        Err(BuildError::Inline { .. }) => return Err(Stop::Skipped(LONG_IDENTITY)),
        built => built.or_else(failed)?,
    };
    let root = built.cid.to_string();
    ensure(row["root_cid"] == *root, format_args!("the root is {root}"))?;
    same_number(row, "/size", built.size)?;
    same_number(row, "/files_stat/cumulative_size", built.tsize)?;
    same_number(row, "/distinct_blocks", blocks.len() as u64)?;
    same_number(row, "/distinct_bytes", blocks.values().map(|block| block.len() as u64).sum())?;
    if let Some(hex) = row["root_block_hex"].as_str() {
        let block = hex::encode(blocks[&built.cid].data());
        ensure(hex == block, format_args!("the root's block is {block}"))?;
    }
    if row["car"].is_object() {
        check_car(&row["car"], &built, &blocks)?;
    }
    let store = MemoryStore::default();
    for block in blocks.values() {
        store.put(block).or_else(failed)?;
    }
    let name = if row["wrap"] == true { name } else { "" };
    match resolve(&&store, &built.cid, name).or_else(failed)? {
        Some(entry) => check_reading(&tree, &options, &store, &entry.cid),
        None => failed("the wrapped entry is not found"),
    }
}

/// The CAR, depth first, each block at first sight.
fn check_car(car: &Value, built: &FileRoot, blocks: &HashMap<Cid, Block>) -> Outcome {
    let mut writer = CarWriter::new(Vec::new(), &[built.cid]).or_else(failed)?;
    let (mut order, mut waiting) = (Vec::new(), vec![built.cid]);
    while let Some(cid) = waiting.pop() {
        if order.contains(&cid) {
            continue;
        }
        order.push(cid);
        let Some(block) = blocks.get(&cid) else { return failed(format_args!("no block {cid}")) };
        writer.write(block).or_else(failed)?;
        let Some(codec) = Codec::from_code(cid.codec()) else { return failed("a codec of its own") };
        waiting.extend(codec.links(block.data()).or_else(failed)?.into_iter().rev());
    }
    let same = order.iter().map(Cid::to_string).eq(list(&car["order"]).iter().filter_map(Value::as_str));
    ensure(same, "the blocks come in another order")?;
    let bytes = writer.finish().or_else(failed)?;
    ensure(car["bytes"] == bytes.len(), format_args!("a CAR of {} bytes", bytes.len()))?;
    ensure(text(car, "sha256")? == hex::encode(Sha256::digest(&bytes)), "another CAR")
}

/// What was built reads as what it was built of: files whole and from the middle, directories listed and by name.
fn check_reading(tree: &Tree, options: &ImportOptions, store: &MemoryStore, cid: &Cid) -> Outcome {
    let found = stat(&store, cid).or_else(failed)?;
    match &tree.kind {
        Kind::File(bytes) => {
            let size = bytes.len() as u64;
            ensure(found.kind == NodeKind::File { size }, format_args!("{found:?}, not a file of {size}"))?;
            let reader = FileReader::open(store, cid).or_else(failed)?;
            for start in [0, bytes.len() / 2] {
                let mut read = vec![0; bytes.len() - start];
                let n = reader.read_at(start as u64, &mut read).or_else(failed)?;
                ensure(n == read.len() && read == bytes[start..], "reads as something else")?;
            }
        }
        Kind::Symlink(target) => {
            let target = target.clone().into_bytes();
            return ensure(found.kind == NodeKind::Symlink { target }, "points elsewhere");
        }
        Kind::Directory(entries) => {
            let directory = Directory::open(store, cid).or_else(failed)?;
            let mut listed = 0;
            for entry in directory.entries() {
                let entry = entry.or_else(failed)?;
                ensure(entries.contains_key(&entry.name), format_args!("an entry {:?}", entry.name))?;
                listed += 1;
            }
            let mut left_out = 0;
            for (name, tree) in entries {
                let entry = match directory.get(name).or_else(failed)? {
                    Some(entry) => entry,
                    None if name.starts_with('.') && !options.hidden => {
                        left_out += 1;
                        continue;
                    }
                    None if tree.is_empty_directory() && !options.empty_directories => {
                        left_out += 1;
                        continue;
                    }
                    None => return failed(format_args!("no entry {name:?}")),
                };
                check_reading(tree, options, store, &entry.cid)?;
            }
            ensure(listed + left_out == entries.len(), format_args!("{listed} entries"))?;
        }
    }
    let expected = Metadata::new(
        options.metadata.mode.or(tree.metadata.mode.filter(|_| options.preserve_mode)),
        options.metadata.mtime.or(tree.metadata.mtime.filter(|_| options.preserve_mtime)),
    );
    ensure(found.metadata == expected, format_args!("{:?}, not {expected:?}", found.metadata))
}

/// The options in force, as a row states them.
pub(crate) fn options(row: &Value) -> Result<ImportOptions, Stop> {
    // What a row does not say of directories follows from its profile.
    let mut options = match row["profile"].as_str() {
        Some(profile) if profile.contains("v1-2025") => ImportOptions::unixfs_v1_2025(),
        _ => ImportOptions::unixfs_v0_2015(),
    };
    options.cid_version = version(number(row, "cid_version")?)?;
    options.hash = text(row, "multihash")?.parse().or_else(failed)?;
    options.raw_leaves = row["raw_leaves"] == true;
    options.chunker = match row["chunker"].as_str() {
        Some(chunker) => chunker.parse().or_else(failed)?,
        None => format!("size-{}", number(row, "chunk")?).parse::<AnyChunker>().or_else(failed)?,
    };
    options.max_links = number(row, "max_links")? as usize;
    options.layout = match text(row, "layout")? {
        "balanced" => FileLayout::Balanced,
        "trickle" => FileLayout::Trickle,
        other => return failed(format_args!("layout {other:?}")),
    };
    options.inline_limit = row["inline_limit"].as_u64().map(|limit| limit as usize);
    // Kubo takes no more than permissions from the command line.
    let mode = row["mode"].as_str().map(|octal| u32::from_str_radix(octal, 8)).transpose().or_else(failed)?;
    options.metadata = Metadata::new(mode.map(|mode| mode & 0o777), input::mtime(&row["mtime"]));
    options.preserve_mode = row["preserve_mode"] == true;
    options.preserve_mtime = row["preserve_mtime"] == true;
    options.hidden = has_argument(row, "--hidden");
    options.empty_directories = !has_argument(row, "--empty-dirs=false");
    if let Ok(fanout) = number(row, "hamt_fanout") {
        options.sharding.fanout = fanout.try_into().or_else(failed)?;
        options.sharding.threshold = number(row, "hamt_threshold")?;
        options.sharding.max_entries = row["dir_max_links"].as_u64().filter(|max| *max != 0);
        options.sharding.estimate = match text(row, "hamt_estimation")? {
            "links" => DirectorySize::Links,
            "block" => DirectorySize::Block,
            "disabled" => DirectorySize::Disabled,
            other => return failed(format_args!("estimation {other:?}")),
        };
    }
    Ok(options)
}

fn version(number: u64) -> Result<CidVersion, Stop> {
    CidVersion::try_from(number).or_else(failed)
}

/// Options that Kubo refuses are refused where they are read or checked.
fn refused(row: &Value) -> Outcome {
    let mut options = ImportOptions::unixfs_v0_2015();
    let arguments: Vec<&str> = list(&row["kubo"]["args"]).iter().filter_map(Value::as_str).collect();
    for argument in arguments {
        let (name, value) = argument.split_once('=').unwrap_or((argument, "true"));
        let parsed = match name {
            "--chunker" => value.parse().map(|chunker| options.chunker = chunker).is_ok(),
            "--hash" => value.parse().map(|hash| options.hash = hash).is_ok(),
            "--cid-version" => {
                let version = value.parse().or_else(failed).and_then(version);
                version.map(|version| options.cid_version = version).is_ok()
            }
            "--inline" => true,
            "--inline-limit" => value.parse().map(|limit| options.inline_limit = Some(limit)).is_ok(),
            "--raw-leaves" => {
                options.raw_leaves = value == "true";
                true
            }
            "--mode" => u32::from_str_radix(value, 8).map(|mode| options.metadata.mode = Some(mode)).is_ok(),
            "--max-hamt-fanout" => value.parse().map(|fanout| options.sharding.fanout = fanout).is_ok(),
            "--mtime" | "--mtime-nsecs" => {
                return Err(Stop::Skipped("a time of such nanoseconds cannot be expressed"));
            }
            _ => return failed(format_args!("no option {name}")),
        };
        if !parsed {
            return Ok(());
        }
    }
    ensure(options.check().is_err(), "accepted")
}

fn has_argument(row: &Value, argument: &str) -> bool {
    list(&row["kubo"]["args"]).iter().any(|found| found == argument)
}

fn same_number(row: &Value, pointer: &str, found: u64) -> Outcome {
    match row.pointer(pointer).and_then(Value::as_u64) {
        Some(expected) => ensure(expected == found, format_args!("{pointer} is {found}, not {expected}")),
        None => Ok(()),
    }
}
