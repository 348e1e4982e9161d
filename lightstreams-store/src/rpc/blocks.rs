//! `block/*`.

use std::io::Read;

use cid::Version;
use serde_json::json;

use super::{
    add::broken,
    ask::Ask,
    pin,
    refusal::RpcError,
    work::{Done, Work, begin_lines, line},
};
use crate::{
    Block, BlockStore, Cid, DAG_CBOR, DAG_JSON, DAG_PB, HashFunction, MAX_BLOCK_LEN, RAW, ReadError, Removal,
    codec::{CBOR, JSON},
    payload::read_block,
};

/// Codecs by the names that the multicodec table gives them; all others by their numbers.
const CODECS: [(&str, u64); 9] = [
    ("raw", RAW),
    ("dag-pb", DAG_PB),
    ("protobuf", DAG_PB),
    ("dag-cbor", DAG_CBOR),
    ("dag-json", DAG_JSON),
    ("cbor", CBOR),
    ("json", JSON),
    ("libp2p-key", 0x72),
    ("git-raw", 0x78),
];

/// The multicodec of a name or number.
pub(super) fn codec(name: &str) -> Result<u64, RpcError> {
    if let Some((_, code)) = CODECS.iter().find(|(known, _)| *known == name) {
        return Ok(*code);
    }
    let number = match name.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => name.parse(),
    };
    number.map_err(|_| RpcError::client(format!("the codec {name:?} is not known here")))
}

/// The hash function of the option `name`.
pub(super) fn hash(ask: &Ask, name: &str) -> Result<HashFunction, RpcError> {
    Ok(ask.named(&[name])?.unwrap_or_default())
}

pub(super) fn get(work: &mut Work<'_>) -> Done {
    let cid = work.cid(work.ask.args.first().map(String::as_str).unwrap_or_default())?;
    let block = read_block(&work.room(), &cid)?;
    work.bytes("application/vnd.ipld.raw", Some(block.len() as u64))?;
    Ok(work.out.send(block.data().clone())?)
}

pub(super) fn stat(work: &mut Work<'_>) -> Done {
    let cid = work.cid(work.ask.args.first().map(String::as_str).unwrap_or_default())?;
    let size = work.room().size(&cid)?.ok_or(ReadError::Missing { cid })?;
    let key = work.ask.cids()?.of(&cid);
    work.once(&json!({ "Key": key, "Size": size }))
}

pub(super) fn put(work: &mut Work<'_>) -> Done {
    let (rpc, ask, cids) = (work.rpc, work.ask, work.ask.cids()?);
    ask.refuse(&["allow-big-block"])?;
    let hash = hash(ask, "mhtype")?;
    if let Some(len) = ask.number::<i64>(&["mhlen"])?
        && len >= 0
        && len != i64::from(hash.digest(b"").size())
    {
        return Err(RpcError::client("digests are not cut short here").into());
    }
    let (mut version, mut code) = (Version::V1, codec(ask.text(&["cid-codec"])?.unwrap_or("raw"))?);
    match ask.text(&["format", "f"])? {
        Some("v0") => (version, code) = (Version::V0, DAG_PB),
        Some(format) => code = codec(format)?,
        None => {}
    }
    if version == Version::V0 && hash != HashFunction::SHA2_256 {
        return Err(RpcError::client("CIDv0 only supports sha2-256").into());
    }
    let do_pin = ask.flag(&["pin"], false)?;
    let hold = work.hold();
    let (mut parts, out) = work.parts();
    begin_lines(out)?;
    let mut found = false;
    while parts.next_part().map_err(broken)?.is_some() {
        found = true;
        let data = read_bounded(&mut parts, MAX_BLOCK_LEN)?;
        let block = Block::with_hash(code, hash, data);
        let cid = match version {
            Version::V0 => Cid::new_v0(*block.cid().hash()).unwrap_or(*block.cid()),
            Version::V1 => *block.cid(),
        };
        hold.put(&block)?;
        if do_pin {
            pin::set(rpc, cid, true, "")?;
        }
        line(out, &json!({ "Key": cids.of(&cid), "Size": block.len() }))?;
    }
    if found { Ok(()) } else { Err(RpcError::client("expected a file").into()) }
}

/// A part of at most `len_max` bytes.
pub(super) fn read_bounded(part: &mut impl Read, len_max: usize) -> Result<Vec<u8>, RpcError> {
    let mut data = Vec::new();
    part.take(len_max as u64 + 1).read_to_end(&mut data).map_err(broken)?;
    if data.len() > len_max {
        return Err(RpcError::client(format!("a block has at most {len_max} bytes here")));
    }
    Ok(data)
}

pub(super) fn rm(work: &mut Work<'_>) -> Done {
    let (ask, cids) = (work.ask, work.ask.cids()?);
    let force = ask.flag(&["force", "f"], false)?;
    let quiet = ask.flag(&["quiet", "q"], false)?;
    let found = ask.args.iter().map(|path| work.cid(path)).collect::<Result<Vec<_>, _>>()?;
    work.rpc.node.may_collect()?;
    let removals = work.rpc.store.remove(&found)?;
    work.lines()?;
    for (cid, removal) in found.iter().zip(removals) {
        let error = match removal {
            Removal::Removed => None,
            Removal::Missing if force => None,
            Removal::Missing => Some("the block is not here".to_owned()),
            Removal::Pinned(owner) if owner.path.is_empty() => Some(format!("pinned: {}", owner.pin.kind)),
            Removal::Pinned(owner) => Some(format!("pinned via {}", cids.of(&owner.pin.cid))),
            Removal::InUse => Some("in use".to_owned()),
        };
        match error {
            Some(error) => work.line(&json!({ "Hash": cids.of(cid), "Error": error }))?,
            None if quiet => {}
            None => work.line(&json!({ "Hash": cids.of(cid) }))?,
        }
    }
    Ok(())
}
