//! The blocks of ipld/codec-fixtures, and the bytes and forms that a codec must refuse.

use std::{fs, path::Path};

use lightstreams_store::{Block, Codec, Ipld, parse_cid};

use crate::report::{Outcome, Report, Stop, bytes, ensure, failed, list};

pub(crate) fn run(root: &Path, report: &mut Report) {
    let folder = root.join("ipld-codec-fixtures");
    let Ok(items) = fs::read_dir(folder.join("fixtures")) else { return };
    let mut items: Vec<_> =
        items.filter_map(|item| Some(item.ok()?.path())).filter(|path| path.is_dir()).collect();
    items.sort();
    for item in items {
        report.case(item.file_name().unwrap_or_default().display(), || same_in_all(&item));
    }
    for codec in [Codec::Raw, Codec::DagPb, Codec::DagCbor, Codec::DagJson] {
        for way in ["decode", "encode"] {
            for path in report.files(&folder, &format!("negative-fixtures/{codec}/{way}"), ".json") {
                for case in list(&report.json(&path)) {
                    report.case(format_args!("{codec} {way} {}", case["name"]), || {
                        let accepted = match case.get("hex") {
                            Some(_) => codec.decode(&bytes(case, "hex")?).is_ok(),
                            None => {
                                let form = Codec::DagJson.decode(case["dag-json"].to_string().as_bytes());
                                codec.encode(&form.or_else(failed)?).is_ok()
                            }
                        };
                        ensure(!accepted, "accepted")
                    });
                }
            }
        }
    }
}

/// The files of a folder are blocks of the same value, each named by its CID.
fn same_in_all(item: &Path) -> Outcome {
    let mut read: Vec<(Codec, Vec<u8>, Ipld)> = Vec::new();
    for file in fs::read_dir(item).or_else(failed)? {
        let path = file.or_else(failed)?.path();
        let cid = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let cid = parse_cid(cid).or_else(failed)?;
        let bytes = fs::read(&path).or_else(failed)?;
        Block::from_cid(cid, bytes.clone()).or_else(failed)?;
        let codec = Codec::from_code(cid.codec()).ok_or(Stop::Skipped("a codec that we do not have"))?;
        let value = codec.decode(&bytes).or_else(failed)?;
        read.push((codec, bytes, value));
    }
    for (codec, bytes, value) in &read {
        for (from, _, other) in &read {
            ensure(value == other, format_args!("{codec} and {from} read to different values"))?;
            let written = codec.encode(other).or_else(failed)?;
            ensure(written == *bytes, format_args!("{from} is written as other bytes in {codec}"))?;
        }
    }
    ensure(!read.is_empty(), "no block")
}
