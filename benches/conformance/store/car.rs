//! CAR files of IPFS's own tests and of Kubo: read, found by index, written back, imported.

use std::{
    collections::BTreeMap,
    fs,
    io::Cursor,
    path::Path,
    process::{Command, Stdio},
};

use lightstreams_store::{
    Block, BlockStore, CarFile, CarLimits, CarReader, CarWriter, Cid, Codec, IndexedCarWriter, MemoryStore,
    import_car, multibase::Base, parse_cid,
};
use serde_json::Value;

use crate::{
    report::{Outcome, Report, Stop, ensure, failed, files_below, list, number, text},
    tar::members,
};

pub(crate) fn run(root: &Path, report: &mut Report) {
    fixtures(&root.join("ipfs-car-fixtures"), report);
    kubo(&root.join("kubo"), report);
}

fn fixtures(folder: &Path, report: &mut Report) {
    let index = folder.join("index.json");
    if !index.is_file() {
        return;
    }
    let index = report.json(&index);
    for (name, row) in index.as_object().into_iter().flatten() {
        let path = folder.join(name);
        if row.get("car_version").is_some() {
            report.case(name, || {
                let bytes = fs::read(&path).or_else(failed)?;
                let blocks = car(&bytes, number(row, "car_version")?)?;
                ensure(
                    blocks.len() as u64 == number(row, "blocks")?,
                    format_args!("{} blocks", blocks.len()),
                )?;
                let counts = |code: fn(&Cid) -> u64| {
                    let mut counts = BTreeMap::new();
                    for block in &blocks {
                        *counts.entry(code(block.cid())).or_insert(0u64) += 1;
                    }
                    counts
                };
                ensure(counts(|cid| cid.codec()) == stated(&row["codecs"])?, "other codecs")?;
                ensure(
                    counts(|cid| cid.hash().code()) == stated(&row["multihashes"])?,
                    "other hash functions",
                )?;
                blocks.iter().try_for_each(read_as_value)?;
                described(&path, &blocks)
            });
        } else if name.ends_with(".block") {
            report.case(name, || {
                let cid = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
                let cid = parse_cid(cid).or_else(failed)?;
                let block = Block::from_cid(cid, fs::read(&path).or_else(failed)?).or_else(failed)?;
                read_as_value(&block)
            });
        }
    }
    archives(folder, report);
}

/// Counts by multicodec, as the index states them.
fn stated(counts: &Value) -> Result<BTreeMap<u64, u64>, Stop> {
    let mut stated = BTreeMap::new();
    for (code, count) in counts.as_object().into_iter().flatten() {
        let code = u64::from_str_radix(code.trim_start_matches("0x"), 16).or_else(failed)?;
        stated.insert(code, count.as_u64().unwrap_or_default());
    }
    Ok(stated)
}

/// The bundles of CARs: tar in xz, which the program of that name unpacks. Their blocks are older than the rule that text
/// is UTF-8, so they are not read as values.
fn archives(folder: &Path, report: &mut Report) {
    for path in files_below(folder, ".tar.xz") {
        let xz = Command::new("xz").arg("-dc").arg(&path).stderr(Stdio::null()).output();
        let Ok(tar) = xz else {
            report.case(path.display(), || Err(Stop::Skipped("the program xz is not installed")));
            continue;
        };
        for member in members(&tar.stdout[..]) {
            let is_file = matches!(member.kind, b'0' | 0) && !member.name.contains("/._");
            if is_file && member.name.ends_with(".car") {
                let version = if member.bytes.starts_with(b"\x0a\xa1\x67version\x02") { 2 } else { 1 };
                report.case(&member.name, || car(&member.bytes, version).map(drop));
            }
        }
    }
}

/// Reads a CAR in every way there is, and returns its blocks.
fn car(bytes: &[u8], version: u64) -> Result<Vec<Block>, Stop> {
    let mut reader = CarReader::new(bytes).or_else(failed)?;
    ensure(reader.version() == version, "another version")?;
    let roots = reader.roots().to_vec();
    let blocks: Vec<Block> = reader.by_ref().collect::<Result<_, _>>().or_else(failed)?;

    if version == 1 {
        let mut writer = CarWriter::new(Vec::new(), &roots).or_else(failed)?;
        blocks.iter().try_for_each(|block| writer.write(block)).or_else(failed)?;
        ensure(writer.finish().or_else(failed)? == bytes, "written back as other bytes")?;
    }
    let mut writer = IndexedCarWriter::new(Cursor::new(Vec::new()), &roots).or_else(failed)?;
    blocks.iter().try_for_each(|block| writer.write(block)).or_else(failed)?;
    let indexed = writer.finish().or_else(failed)?.into_inner();
    for bytes in [bytes, &indexed] {
        let file = CarFile::open(bytes, CarLimits::default()).or_else(failed)?;
        ensure(file.roots() == roots, "other roots by index")?;
        for block in &blocks {
            let found = file.get(block.cid()).or_else(failed)?;
            ensure(found.as_ref() == Some(block), format_args!("{} is not found by index", block.cid()))?;
        }
        let verified = file.verify().or_else(failed)?;
        ensure(verified == blocks.len() as u64, format_args!("{verified} sections verified"))?;
    }

    let store = MemoryStore::default();
    let done = import_car(bytes, CarLimits::default(), &store, &mut |_| ()).or_else(failed)?;
    ensure(done.blocks == blocks.len() as u64 && done.roots == roots, "another import")?;
    for block in &blocks {
        ensure(store.has(block.cid()).or_else(failed)?, "a block was not imported")?;
    }
    Ok(blocks)
}

/// A block of a codec that we have reads to a value, which is written back to its bytes.
fn read_as_value(block: &Block) -> Outcome {
    let Some(codec) = Codec::from_code(block.cid().codec()) else { return Ok(()) };
    let value = codec.decode(block.data()).or_else(failed)?;
    let written = codec.encode(&value).or_else(failed)?;
    ensure(written == *block.data(), format_args!("{} is written as other bytes", block.cid()))
}

/// The description of a CAR beside it lists its sections.
fn described(path: &Path, blocks: &[Block]) -> Outcome {
    let Ok(description) = fs::read(path.with_extension("json")) else { return Ok(()) };
    let description: Value = serde_json::from_slice(&description).or_else(failed)?;
    for (row, block) in list(&description["blocks"]).iter().zip(blocks) {
        ensure(row["cid"]["/"] == block.cid().to_string(), "another CID in the description")?;
        ensure(row["blockLength"] == block.len(), "another length in the description")?;
        let content = Codec::DagJson.decode(row["content"].to_string().as_bytes()).or_else(failed)?;
        let codec =
            Codec::from_code(block.cid().codec()).ok_or(Stop::Skipped("a codec that we do not have"))?;
        let value = codec.decode(block.data()).or_else(failed)?;
        ensure(value == content, format_args!("{value:?} instead of {content:?}"))?;
    }
    Ok(())
}

/// The small CARs that Kubo exported.
fn kubo(folder: &Path, report: &mut Report) {
    let cases = folder.join("cases.json");
    if !cases.is_file() {
        return;
    }
    for row in list(&report.json(&cases)["rows"]) {
        let Some(base64) = row["car"]["base64"].as_str() else { continue };
        report.case(row["name"].as_str().unwrap_or_default(), || {
            let bytes = Base::Base64Pad.decode(base64).or_else(failed)?;
            ensure(number(&row["car"], "bytes")? == bytes.len() as u64, "another length")?;
            let blocks = car(&bytes, 1)?;
            blocks.iter().try_for_each(read_as_value)?;
            let order: Vec<String> = blocks.iter().map(|block| block.cid().to_string()).collect();
            let expected: Vec<&str> =
                list(&row["car"]["order"]).iter().filter_map(|cid| cid.as_str()).collect();
            ensure(order == expected, "another order")?;
            ensure(order.first().map(String::as_str) == Some(text(row, "root_cid")?), "another root")
        });
    }
}
