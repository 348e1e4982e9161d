//! `pin/*`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::{
    Inner,
    links::Walk,
    mutable,
    refusal::RpcError,
    work::{Done, Work},
};
use crate::{BlockStore, Cid, MAX_PIN_NAME_LEN, Pin, PinKind};

/// Pins that are read at once.
const PAGE: usize = 1024;
/// Owners of a block that are looked at: one of them may be the mutable file system.
const OWNERS: usize = 3;
/// Faults of a pin that are told.
const FAULTS_MAX: usize = 1000;

/// Refuses names that no pin set here may have.
pub(super) fn check_name(rpc: &Inner, name: &str) -> Result<(), RpcError> {
    if name.len() > MAX_PIN_NAME_LEN {
        return Err(RpcError::client(format!(
            "pin name is {} bytes (max {MAX_PIN_NAME_LEN} bytes)",
            name.len()
        )));
    }
    if is_reserved(rpc, name) {
        return Err(RpcError::client(format!("pins named {name:?} are set by the node itself")));
    }
    Ok(())
}

fn is_reserved(rpc: &Inner, name: &str) -> bool {
    mutable::is_own(name)
        || rpc.config.reserved_pins.as_ref().is_some_and(|prefix| name.starts_with(prefix.as_str()))
}

/// The pins on `cid` that may be changed here.
fn own(rpc: &Inner, cid: &Cid) -> Vec<Pin> {
    rpc.store.pins_of(cid).into_iter().filter(|pin| !is_reserved(rpc, &pin.name)).collect()
}

/// Pins `cid` under `name`, and no longer under another one: here a CID has one pin, as in Kubo.
pub(super) fn set(rpc: &Inner, cid: Cid, recursive: bool, name: &str) -> Result<(), RpcError> {
    let before = own(rpc, &cid);
    if !recursive && before.iter().any(|pin| pin.kind == PinKind::Recursive) {
        return Err(RpcError::failed(format!("pin: {cid} already pinned recursively")));
    }
    let pin = if recursive { Pin::recursive(cid, name) } else { Pin::direct(cid, name) };
    rpc.store.pin(&pin)?;
    let before: Vec<Pin> = before.into_iter().filter(|other| *other != pin).collect();
    rpc.store.unpin_many(&before)?;
    Ok(())
}

pub(super) fn add(work: &mut Work<'_>) -> Done {
    let (rpc, cids) = (work.rpc, work.ask.cids()?);
    let recursive = work.ask.flag(&["recursive", "r"], true)?;
    let name = work.ask.text(&["name", "n"])?.unwrap_or_default();
    check_name(rpc, name)?;
    let _hold = work.hold();
    let mut pins = Vec::new();
    for path in &work.ask.args {
        let cid = work.cid(path)?;
        set(rpc, cid, recursive, name)?;
        pins.push(cids.of(&cid));
    }
    work.once(&json!({ "Pins": pins }))
}

pub(super) fn rm(work: &mut Work<'_>) -> Done {
    let (rpc, cids) = (work.rpc, work.ask.cids()?);
    let recursive = work.ask.flag(&["recursive", "r"], true)?;
    let mut pins = Vec::new();
    for path in &work.ask.args {
        let cid = work.cid(path)?;
        let set = own(rpc, &cid);
        if set.is_empty() {
            return Err(RpcError::failed("not pinned or pinned indirectly").into());
        }
        if !recursive && set.iter().any(|pin| pin.kind == PinKind::Recursive) {
            return Err(RpcError::failed(format!("{cid} is pinned recursively")).into());
        }
        rpc.store.unpin_many(&set)?;
        pins.push(cids.of(&cid));
    }
    work.once(&json!({ "Pins": pins }))
}

pub(super) fn update(work: &mut Work<'_>) -> Done {
    let (rpc, cids) = (work.rpc, work.ask.cids()?);
    let unpin = work.ask.flag(&["unpin"], true)?;
    let [from, to] = work.ask.args.as_slice() else {
        return Err(RpcError::client("two paths are needed").into());
    };
    let _hold = work.hold();
    let (from, to) = (work.cid(from)?, work.cid(to)?);
    let old = own(rpc, &from).into_iter().find(|pin| pin.kind == PinKind::Recursive);
    let old = old.ok_or_else(|| RpcError::failed("'from' cid was not recursively pinned already"))?;
    set(rpc, to, true, &old.name)?;
    if unpin && from != to {
        rpc.store.unpin(&old)?;
    }
    work.once(&json!({ "Pins": [cids.of(&from), cids.of(&to)] }))
}

/// All pins but that of the mutable file system, which is none to the clients.
fn all(rpc: &Inner) -> impl Iterator<Item = Pin> {
    each(rpc).filter(|pin| !mutable::is_own(&pin.name))
}

/// All pins, page by page.
pub(super) fn each(rpc: &Inner) -> impl Iterator<Item = Pin> {
    let mut after = None;
    let pages = std::iter::from_fn(move || {
        let page = rpc.store.pins(after.as_ref(), PAGE);
        after = Some(page.last()?.clone());
        Some(page)
    });
    pages.flatten()
}

pub(super) fn ls(work: &mut Work<'_>) -> Done {
    let (rpc, ask, cids) = (work.rpc, work.ask, work.ask.cids()?);
    let kind = ask.text(&["type", "t"])?.unwrap_or("all");
    if !matches!(kind, "all" | "direct" | "recursive" | "indirect") {
        let text = format!("invalid type '{kind}', must be one of {{direct, indirect, recursive, all}}");
        return Err(RpcError::client(text).into());
    }
    let wanted = |found: &str| kind == "all" || kind == found;
    let filter = ask.text(&["name", "n"])?.unwrap_or_default();
    let names = ask.flag(&["names"], false)? || !filter.is_empty();
    let stream = ask.flag(&["stream", "s"], false)?;

    // One row for a CID: what is pinned recursively is so, however else it is.
    let mut rows: BTreeMap<String, (String, String)> = BTreeMap::new();
    if ask.args.is_empty() {
        let mut roots = Vec::new();
        for pin in all(rpc) {
            let found = pin.kind.to_string();
            if pin.kind == PinKind::Recursive {
                roots.push(pin.cid);
            }
            if wanted(&found) && pin.name.contains(filter) {
                let name = if names { pin.name } else { String::new() };
                let row = rows.entry(cids.of(&pin.cid)).or_default();
                if pin.kind == PinKind::Recursive || row.0.is_empty() {
                    *row = (found, name);
                }
            }
            if rows.len() as u64 > rpc.config.blocks_max {
                return Err(RpcError::failed("more pins than allowed").into());
            }
        }
        if wanted("indirect") && filter.is_empty() {
            let room = work.room();
            let roots: BTreeSet<Cid> = roots.into_iter().collect();
            let mut walk = Walk::new(&room, rpc.config.blocks_max);
            for root in &roots {
                walk.below(root, &mut |cid, _| {
                    if !roots.contains(cid) {
                        rows.entry(cids.of(cid)).or_insert_with(|| ("indirect".to_owned(), String::new()));
                    }
                    Ok(())
                })?;
            }
        }
    }
    for path in &ask.args {
        let cid = work.cid(path)?;
        let mut pins = rpc.store.pins_of(&cid);
        pins.retain(|pin| !mutable::is_own(&pin.name));
        let of = |kind: PinKind| pins.iter().find(|pin| pin.kind == kind && wanted(&kind.to_string()));
        let row = match of(PinKind::Recursive).or_else(|| of(PinKind::Direct)) {
            Some(pin) => Some((pin.kind.to_string(), if names { pin.name.clone() } else { String::new() })),
            None if wanted("indirect") => {
                let mut owners = rpc.store.owners(&cid, OWNERS)?.into_iter();
                let owner = owners.rfind(|owner| !owner.path.is_empty() && !mutable::is_own(&owner.pin.name));
                owner.map(|owner| (format!("indirect through {}", cids.of(&owner.pin.cid)), String::new()))
            }
            None => None,
        };
        let row = row.ok_or_else(|| RpcError::failed(format!("path '{path}' is not pinned")))?;
        rows.insert(cids.of(&cid), row);
    }
    if !stream {
        let keys = rows.into_iter().map(|(cid, (kind, name))| (cid, json!({ "Type": kind, "Name": name })));
        return work.once(&json!({ "Keys": keys.collect::<serde_json::Map<_, _>>() }));
    }
    work.lines()?;
    for (cid, (kind, name)) in rows {
        let row = if name.is_empty() {
            json!({ "Cid": cid, "Type": kind })
        } else {
            json!({ "Cid": cid, "Type": kind, "Name": name })
        };
        work.line(&row)?;
    }
    Ok(())
}

/// Reads all that recursive pins hold.
pub(super) fn verify(work: &mut Work<'_>) -> Done {
    let (rpc, cids) = (work.rpc, work.ask.cids()?);
    let (verbose, quiet) = (work.ask.flag(&["verbose"], false)?, work.ask.flag(&["quiet", "q"], false)?);
    if verbose && quiet {
        return Err(RpcError::client("verbose and quiet exclude each other").into());
    }
    work.lines()?;
    let room = work.room();
    for pin in all(rpc).filter(|pin| pin.kind == PinKind::Recursive) {
        let mut faults = Vec::new();
        let mut waiting = vec![pin.cid];
        let mut seen = BTreeSet::from([pin.cid]);
        while let Some(cid) = waiting.pop() {
            let links = match room.get(&cid) {
                Ok(Some(block)) => {
                    super::links::of(&block).map_err(|error| RpcError::of(&error).message().to_owned())
                }
                Ok(None) => Err("the block is not here".to_owned()),
                Err(error) => Err(RpcError::of(&error).message().to_owned()),
            };
            match links {
                Ok(links) => waiting.extend(links.into_iter().filter(|link| seen.insert(*link))),
                Err(error) if faults.len() < FAULTS_MAX => {
                    faults.push(json!({ "Cid": cids.of(&cid), "Err": error }))
                }
                Err(_) => {}
            }
            if seen.len() as u64 > rpc.config.blocks_max || std::time::Instant::now() > work.until {
                return Err(RpcError::failed("more blocks than allowed, or no time").into());
            }
        }
        let cid = cids.of(&pin.cid);
        match (faults.is_empty(), quiet) {
            (true, _) if !verbose => continue,
            (true, _) => work.line_now(&json!({ "Cid": cid, "Ok": true }))?,
            (false, true) => work.line_now(&json!({ "Cid": cid }))?,
            (false, false) => work.line_now(&json!({ "Cid": cid, "BadNodes": faults }))?,
        }
    }
    Ok(())
}
