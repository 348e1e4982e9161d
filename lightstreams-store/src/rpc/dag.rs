//! `dag/*`.

use std::{
    collections::{BTreeSet, HashSet},
    io::BufReader,
};

use serde_json::json;

use super::{
    add::broken,
    blocks::{codec, hash, read_bounded},
    links::Walk,
    pin,
    refusal::RpcError,
    room::Room,
    work::{Done, Work, begin_lines, line},
};
use crate::{
    Block, BlockStore, CarLimits, Cid, Codec, DagPath, DagSelection, HashFunction, Ipld, MAX_BLOCK_LEN,
    ReadError, import_car, payload::read_block,
};

/// Bytes of a value before it is written in another codec, in which it may be shorter.
const VALUE_LEN_MAX: usize = 4 * MAX_BLOCK_LEN;
/// The most roots of all CARs of a request.
const ROOTS_MAX: usize = 1 << 16;

fn known_codec(name: &str) -> Result<Codec, RpcError> {
    let unknown = || RpcError::client(format!("no values of the codec {name:?} are read or written here"));
    Codec::from_code(codec(name)?).ok_or_else(unknown)
}

fn first<'a>(work: &Work<'a>) -> &'a str {
    work.ask.args.first().map(String::as_str).unwrap_or_default()
}

/// A CID in a value, as dag-json has it.
fn link(cid: &Cid) -> serde_json::Value {
    json!({ "/": cid.to_string() })
}

pub(super) fn get(work: &mut Work<'_>) -> Done {
    let output = known_codec(work.ask.text(&["output-codec"])?.unwrap_or("dag-json"))?;
    let path = work.resolve(first(work))?;
    let unknown = || RpcError::failed(format!("the codec of {} is not known here", path.cid()));
    let own = Codec::from_code(path.cid().codec()).ok_or_else(unknown)?;
    let block = read_block(&work.room(), path.cid())?;
    let mut value = own.decode(block.data())?;
    for name in path.rest() {
        let below = match value {
            Ipld::Map(mut map) => map.remove(name),
            Ipld::List(list) => name.parse().ok().and_then(|i: usize| list.into_iter().nth(i)),
            _ => None,
        };
        value = below.ok_or_else(|| RpcError::failed(format!("no {name:?} in {}", path.cid())))?;
    }
    let kind = if output == Codec::DagJson { "text/plain" } else { "application/octet-stream" };
    let bytes = output.encode(&value)?;
    work.bytes(kind, None)?;
    Ok(work.out.send(bytes.into())?)
}

pub(super) fn put(work: &mut Work<'_>) -> Done {
    let (rpc, ask) = (work.rpc, work.ask);
    ask.refuse(&["allow-big-block"])?;
    let input = known_codec(ask.text(&["input-codec"])?.unwrap_or("dag-json"))?;
    let store = known_codec(ask.text(&["store-codec"])?.unwrap_or("dag-cbor"))?;
    let (hash, do_pin): (HashFunction, _) = (hash(ask, "hash")?, ask.flag(&["pin"], false)?);
    let hold = work.hold();
    let (mut parts, out) = work.parts();
    begin_lines(out)?;
    let mut found = false;
    while parts.next_part().map_err(broken)?.is_some() {
        found = true;
        let data = read_bounded(&mut parts, VALUE_LEN_MAX)?;
        let value = input.decode(&data).map_err(RpcError::client)?;
        let block = Block::with_hash(store.code(), hash, store.encode(&value).map_err(RpcError::client)?);
        if block.len() > MAX_BLOCK_LEN {
            return Err(RpcError::client("produced block is over 2MiB").into());
        }
        hold.put(&block)?;
        if do_pin {
            pin::set(rpc, *block.cid(), true, "")?;
        }
        line(out, &json!({ "Cid": link(block.cid()) }))?;
    }
    if found { Ok(()) } else { Err(RpcError::client("expected a file").into()) }
}

pub(super) fn resolve(work: &mut Work<'_>) -> Done {
    let path = work.resolve(first(work))?;
    let rest: String = path.rest().iter().map(|name| format!("/{name}")).collect();
    work.once(&json!({ "Cid": link(path.cid()), "RemPath": rest }))
}

pub(super) fn stat(work: &mut Work<'_>) -> Done {
    let (rpc, cids) = (work.rpc, work.ask.cids()?);
    let roots = work.ask.args.iter().map(|path| work.cid(path)).collect::<Result<Vec<_>, _>>()?;
    let room = work.room();
    let (mut unique, mut unique_bytes, mut all_bytes, mut stats) = (HashSet::new(), 0u64, 0u64, Vec::new());
    for root in roots {
        let (mut bytes, mut blocks) = (0u64, 0u64);
        Walk::new(&room, rpc.config.blocks_max).below(&root, &mut |cid, block| {
            let len = match block {
                Some(block) => block.len() as u64,
                None => room.size(cid)?.ok_or(ReadError::Missing { cid: *cid })?,
            };
            bytes = bytes.saturating_add(len);
            blocks += 1;
            if unique.insert(*cid) {
                unique_bytes = unique_bytes.saturating_add(len);
            }
            Ok(())
        })?;
        all_bytes = all_bytes.saturating_add(bytes);
        stats.push(json!({ "Cid": cids.of(&root), "Size": bytes, "NumBlocks": blocks }));
    }
    work.once(&json!({
        "UniqueBlocks": unique.len(),
        "TotalSize": unique_bytes,
        "SharedSize": all_bytes.saturating_sub(unique_bytes),
        "Ratio": all_bytes as f64 / (unique_bytes.max(1)) as f64,
        "DagStats": stats,
    }))
}

pub(super) fn export(work: &mut Work<'_>) -> Done {
    work.ask.refuse(&["local-only"])?;
    let root = work.cid(first(work))?;
    let room = work.room();
    // A root that is missing is found before the answer begins.
    read_block(&room, &root)?;
    let path = DagPath::resolve::<&str>(&room, &root, &[])?;
    work.bytes("application/vnd.ipld.car", None)?;
    let selection =
        DagSelection { identity: true, blocks_max: work.rpc.config.blocks_max, ..DagSelection::default() };
    path.write_car(&room, &selection, &mut *work.out)?;
    Ok(())
}

pub(super) fn import(work: &mut Work<'_>) -> Done {
    let (rpc, ask, until) = (work.rpc, work.ask, work.until);
    ask.refuse(&["allow-big-block"])?;
    let local_only = ask.flag(&["local-only"], false)?;
    let pin_roots = ask.flag(&["pin-roots"], !local_only)?;
    if pin_roots && local_only {
        return Err(RpcError::client("local-only implies pin-roots=false").into());
    }
    let (stats, silent) = (ask.flag(&["stats"], false)?, ask.flag(&["silent"], false)?);
    let hold = work.hold();
    let room = Room { store: &hold, until };
    let (mut parts, out) = work.parts();
    begin_lines(out)?;
    let (mut roots, mut blocks, mut bytes, mut found) = (BTreeSet::new(), 0u64, 0u64, false);
    while parts.next_part().map_err(broken)?.is_some() {
        found = true;
        let input = BufReader::with_capacity(64 << 10, &mut parts);
        let done = import_car(input, CarLimits::default(), &room, &mut |_| ())?;
        roots.extend(done.roots);
        blocks += done.blocks;
        bytes += done.bytes;
        if roots.len() > ROOTS_MAX {
            return Err(RpcError::client(format!("more than {ROOTS_MAX} roots")).into());
        }
    }
    if !found {
        return Err(RpcError::client("expected a file").into());
    }
    for root in roots.iter().filter(|_| pin_roots) {
        let error = pin::set(rpc, *root, true, "").err();
        let message = error.as_ref().map(RpcError::message).unwrap_or_default();
        if !silent {
            line(out, &json!({ "Root": { "Cid": link(root), "PinErrorMsg": message } }))?;
        }
    }
    if stats {
        line(out, &json!({ "Stats": { "BlockCount": blocks, "BlockBytesCount": bytes } }))?;
    }
    Ok(())
}
