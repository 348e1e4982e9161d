//! Links between blocks: `refs`, and walks over DAGs.

use std::{collections::HashMap, vec};

use serde_json::json;

use super::{
    refusal::{RpcError, Stop},
    work::{Done, Work},
};
use crate::{
    Block, BlockStore, Cid, Codec, DecodeError, RAW, ReadError,
    codec::{CBOR, Ipld, JSON},
    dagpb::Node,
    payload::read_block,
};

/// The deepest DAG that is walked.
const DEPTH_MAX: usize = 1024;
/// The most links that wait on the way to the block at hand, some 30 MiB.
const WAITING_MAX: usize = 1 << 18;

/// The links of a block; one of a codec that is not known here has none.
pub(super) fn of(block: &Block) -> Result<Vec<Cid>, DecodeError> {
    Codec::from_code(block.cid().codec()).map_or(Ok(Vec::new()), |codec| codec.links(block.data()))
}

fn is_leaf(cid: &Cid) -> bool {
    matches!(cid.codec(), RAW | CBOR | JSON)
}

/// Walks DAGs, each block once.
pub(super) struct Walk<'a> {
    source: &'a dyn BlockStore,
    blocks_left: u64,
    seen: std::collections::HashSet<Cid>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(source: &'a dyn BlockStore, blocks_max: u64) -> Self {
        Self { source, blocks_left: blocks_max, seen: std::collections::HashSet::new() }
    }

    /// Shows `root` and what is below it, but for what was shown before, with the bytes of those that are read: leaves are not.
    pub(super) fn below(&mut self, root: &Cid, show: &mut dyn FnMut(&Cid, Option<&Block>) -> Done) -> Done {
        let mut stack = vec![vec![*root].into_iter()];
        while let Some(level) = stack.last_mut() {
            let Some(cid) = level.next() else {
                stack.pop();
                continue;
            };
            if !self.seen.insert(cid) {
                continue;
            }
            self.blocks_left = self
                .blocks_left
                .checked_sub(1)
                .ok_or_else(|| RpcError::failed("more blocks than allowed"))?;
            if is_leaf(&cid) {
                show(&cid, None)?;
                continue;
            }
            let block = read_block(&self.source, &cid)?;
            show(&cid, Some(&block))?;
            let links = of(&block)?;
            if stack.len() >= DEPTH_MAX || links.len() > WAITING_MAX {
                return Err(RpcError::failed("the DAG is deeper or wider than allowed").into());
            }
            stack.push(links.into_iter());
        }
        Ok(())
    }
}

/// The links of a block with their names; `None` if it is a leaf.
fn named(source: &dyn BlockStore, cid: &Cid) -> Result<Vec<(String, Cid)>, Stop> {
    if is_leaf(cid) {
        // It is there, though nothing of it is needed.
        if Block::inline(cid).is_none() && !source.has(cid)? {
            return Err(ReadError::Missing { cid: *cid }.into());
        }
        return Ok(Vec::new());
    }
    let block = read_block(&source, cid)?;
    let mut links = Vec::new();
    match Codec::from_code(cid.codec()) {
        Some(Codec::DagPb) => {
            let node = Node::decode(block.data()).map_err(|error| RpcError::of(&error))?;
            links.extend(node.links.into_iter().map(|link| (link.name, link.cid)));
        }
        Some(codec) => collect(&codec.decode(block.data())?, &mut Vec::new(), &mut links),
        None => {}
    }
    Ok(links)
}

/// Notes the keys and indices on the way to each link. Values are nested 256 deep at most.
fn collect(value: &Ipld, way: &mut Vec<String>, links: &mut Vec<(String, Cid)>) {
    match value {
        Ipld::Link(cid) => links.push((way.join("/"), *cid)),
        Ipld::List(list) => {
            for (i, value) in list.iter().enumerate() {
                way.push(i.to_string());
                collect(value, way, links);
                way.pop();
            }
        }
        Ipld::Map(map) => {
            for (key, value) in map {
                way.push(key.clone());
                collect(value, way, links);
                way.pop();
            }
        }
        _ => {}
    }
}

pub(super) fn refs(work: &mut Work<'_>) -> Done {
    let (rpc, ask, cids) = (work.rpc, work.ask, work.ask.cids()?);
    let unique = ask.flag(&["unique", "u"], false)?;
    let depth: i64 = ask.number(&["max-depth"])?.unwrap_or(-1);
    let depth =
        if ask.flag(&["recursive", "r"], false)? { usize::try_from(depth).unwrap_or(usize::MAX) } else { 1 };
    let format = match (ask.text(&["format"])?, ask.flag(&["edges", "e"], false)?) {
        (None | Some("<dst>"), true) => "<src> -> <dst>",
        (Some(_), true) => {
            return Err(RpcError::client("using format argument with edges is not allowed").into());
        }
        (format, false) => format.unwrap_or("<dst>"),
    };
    let roots = ask.args.iter().map(|path| work.cid(path)).collect::<Result<Vec<_>, _>>()?;
    work.lines()?;
    let room = work.room();
    let mut left = rpc.config.blocks_max;
    // Where unique: the depth at which a block was met.
    let mut seen: HashMap<Cid, usize> = HashMap::new();
    for root in roots {
        let mut stack: Vec<(Cid, vec::IntoIter<(String, Cid)>)> = Vec::new();
        let mut waiting = 0;
        let enter =
            |stack: &mut Vec<(Cid, vec::IntoIter<(String, Cid)>)>, waiting: &mut usize, cid: &Cid| -> Done {
                let links = named(&room, cid)?;
                *waiting += links.len();
                if stack.len() >= DEPTH_MAX || *waiting > WAITING_MAX {
                    return Err(RpcError::failed("the DAG is deeper or wider than allowed").into());
                }
                stack.push((*cid, links.into_iter()));
                Ok(())
            };
        let told = if depth > 0 { enter(&mut stack, &mut waiting, &root) } else { Ok(()) };
        let mut failed = told.err();
        while failed.is_none()
            && let Some((from, links)) = stack.last_mut()
        {
            let Some((name, to)) = links.next() else {
                stack.pop();
                continue;
            };
            let from = *from;
            waiting -= 1;
            let here = stack.len();
            let (mut shown, mut deeper) = (true, here < depth);
            if unique {
                let before = seen.get(&to).copied();
                shown = before.is_none();
                deeper &= before.is_none_or(|before| depth != usize::MAX && here < before);
                seen.insert(to, before.map_or(here, |before| before.min(here)));
            }
            if shown {
                left = left.checked_sub(1).ok_or_else(|| RpcError::failed("more blocks than allowed"))?;
                let text = format.replace("<src>", &cids.of(&from)).replace("<dst>", &cids.of(&to));
                work.line(&json!({ "Ref": text.replace("<linkname>", &name), "Err": "" }))?;
            }
            if deeper {
                failed = enter(&mut stack, &mut waiting, &to).err();
            }
        }
        match failed {
            Some(Stop::Refused(error)) => work.line(&json!({ "Ref": "", "Err": error.message() }))?,
            Some(Stop::Gone) => return Err(Stop::Gone),
            None => {}
        }
    }
    Ok(())
}
