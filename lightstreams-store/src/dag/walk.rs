use std::{
    collections::HashSet,
    io::{self, Write},
};

use cid::Cid;

use super::{DagError, DagPath};
use crate::{
    Block, BlockSource, CarWriter, Codec, DAG_PB,
    dagpb::Node,
    payload::read_block,
    unixfs::{Message, TYPE_FILE, TYPE_RAW, TYPE_SHARD, hamt_prefix_len},
};

/// The deepest DAG that is walked.
const MAX_DEPTH: usize = 1024;
/// The most links that wait on the way to the block at hand, some 30 MiB.
const MAX_WAITING: usize = 1 << 18;

/// What is taken of a DAG below the end of a path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DagScope {
    /// The one block at the end of the path.
    Block,
    /// What that block stands for: a file with all of its bytes, a directory with all shards but not what is in it, else the
    /// block.
    Entity,
    /// All that is reachable.
    #[default]
    All,
}

/// A range of a file's bytes; both ends are taken, and negative ones count from the end of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntityBytes {
    /// First byte.
    pub from: i64,
    /// Last byte, or `None` for the end.
    pub to: Option<i64>,
}

/// Which blocks of a DAG are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DagSelection {
    /// What is taken below the path.
    pub scope: DagScope,
    /// Of a file in scope [`Entity`](DagScope::Entity), the bytes whose blocks are taken.
    pub bytes: Option<EntityBytes>,
    /// Whether a block is repeated where it is met again.
    pub duplicates: bool,
    /// Whether identity CIDs, which carry their bytes, are handed on as blocks: Kubo's `dag export` does, no gateway may.
    pub identity: bool,
    /// The most blocks that are taken; without duplicates some 100 bytes of memory go to each.
    pub blocks_max: u64,
}

impl Default for DagSelection {
    /// All, each block once, at most 2^20.
    fn default() -> Self {
        Self { scope: DagScope::All, bytes: None, duplicates: false, identity: false, blocks_max: 1 << 20 }
    }
}

impl DagPath {
    /// Hands the blocks that `selection` takes to `emit`, one after another. Memory holds one block, the links that wait, and without duplicates the hashes of what was taken.
    pub fn export(
        &self,
        source: &impl BlockSource,
        selection: &DagSelection,
        emit: &mut dyn FnMut(&Block) -> io::Result<()>,
    ) -> Result<(), DagError> {
        let mut export = Export { source, selection, emit, seen: HashSet::new(), emitted: 0 };
        for cid in &self.before {
            export.take(cid)?;
        }
        export.below(&self.cid)
    }

    /// Writes a CARv1 of the blocks that `selection` takes; its root is the end of the path, as gateways have it.
    pub fn write_car<W: Write>(
        &self,
        source: &impl BlockSource,
        selection: &DagSelection,
        out: W,
    ) -> Result<W, DagError> {
        let mut car = CarWriter::new(out, &[self.cid]).map_err(DagError::Write)?;
        self.export(source, selection, &mut |block| car.write(block))?;
        car.finish().map_err(DagError::Write)
    }
}

/// A block to come: bytes of a file from `start` on, where that matters.
struct Waiting {
    cid: Cid,
    start: u64,
}

struct Export<'a, 'b, S> {
    source: &'a S,
    selection: &'a DagSelection,
    emit: &'b mut dyn FnMut(&Block) -> io::Result<()>,
    seen: HashSet<Cid>,
    emitted: u64,
}

impl<S: BlockSource> Export<'_, '_, S> {
    /// Reads a block and hands it on; `None` if that was done before and should not be again.
    fn take(&mut self, cid: &Cid) -> Result<Option<Block>, DagError> {
        if !self.selection.identity
            && let Some(inline) = Block::inline(cid)
        {
            return Ok(Some(inline));
        }
        if !self.selection.duplicates && !self.seen.insert(*cid) {
            return Ok(None);
        }
        if self.emitted == self.selection.blocks_max {
            return Err(DagError::Limit { what: "blocks" });
        }
        self.emitted += 1;
        let block = read_block(self.source, cid)?;
        (self.emit)(&block).map_err(DagError::Write)?;
        Ok(Some(block))
    }

    fn below(&mut self, root: &Cid) -> Result<(), DagError> {
        let range = match (self.selection.scope, self.selection.bytes) {
            (DagScope::Entity, Some(bytes)) => self.range(root, bytes)?,
            _ => None,
        };
        let mut waiting = 1;
        let mut stack = vec![vec![Waiting { cid: *root, start: 0 }].into_iter()];
        while let Some(level) = stack.last_mut() {
            let Some(next) = level.next() else {
                stack.pop();
                continue;
            };
            waiting -= 1;
            let Some(block) = self.take(&next.cid)? else { continue };
            let links = match self.selection.scope {
                DagScope::Block => Vec::new(),
                DagScope::Entity => entity(&block, next.start, range),
                DagScope::All => all(&block)?,
            };
            if links.is_empty() {
                continue;
            }
            waiting += links.len();
            if stack.len() >= MAX_DEPTH || waiting > MAX_WAITING {
                return Err(DagError::Limit { what: "links on the way to a block" });
            }
            stack.push(links.into_iter());
        }
        Ok(())
    }

    /// First byte and byte behind the last of a range of the file `root`; `None` if it is no file.
    fn range(&self, root: &Cid, bytes: EntityBytes) -> Result<Option<(u64, u64)>, DagError> {
        let block = read_block(self.source, root)?;
        let Some((_, message)) = unixfs(&block) else { return Ok(None) };
        if !matches!(message.kind, TYPE_FILE | TYPE_RAW) {
            return Ok(None);
        }
        let own = message.data.len() as u64;
        let len = message.blocksizes.iter().fold(own, |sum, size| sum.saturating_add(*size));
        let place = |at: i64| match u64::try_from(at) {
            Ok(at) => Some(at),
            Err(_) => len.checked_sub(at.unsigned_abs()),
        };
        let from = place(bytes.from).unwrap_or(0);
        let end = match bytes.to {
            None => len,
            Some(to) => place(to).map_or(0, |to| to.saturating_add(1).min(len)),
        };
        Ok(Some((from, end)))
    }
}

/// The node and message of a UnixFS block; another dag-pb block stands for itself only.
fn unixfs(block: &Block) -> Option<(Node, Message)> {
    if block.cid().codec() != DAG_PB {
        return None;
    }
    let node = Node::decode(block.data()).ok()?;
    let message = Message::decode(&node.data).ok()?;
    Some((node, message))
}

/// The links of what a block stands for, whose own bytes begin at `start` of the file.
fn entity(block: &Block, start: u64, range: Option<(u64, u64)>) -> Vec<Waiting> {
    let Some((node, message)) = unixfs(block) else { return Vec::new() };
    match message.kind {
        TYPE_FILE | TYPE_RAW => {
            let mut at = start.saturating_add(message.data.len() as u64);
            let mut taken = Vec::new();
            for (i, link) in node.links.into_iter().enumerate() {
                // A link without a size is taken with any range: who reads the file refuses it.
                let size = message.blocksizes.get(i).copied();
                let end = at.saturating_add(size.unwrap_or(0));
                let wanted = match (range, size) {
                    (Some((from, to)), Some(_)) => at < to && from < end,
                    _ => true,
                };
                if wanted {
                    taken.push(Waiting { cid: link.cid, start: at });
                }
                at = end;
            }
            taken
        }
        TYPE_SHARD => {
            // Links with nothing behind the position lead to further shards, all others to entries.
            let width = hamt_prefix_len(message.fanout.unwrap_or_default());
            let shards = node.links.into_iter().filter(|link| link.name.len() == width);
            shards.map(|link| Waiting { cid: link.cid, start: 0 }).collect()
        }
        _ => Vec::new(),
    }
}

/// All links of a block; one of a codec that is not known here has none.
fn all(block: &Block) -> Result<Vec<Waiting>, DagError> {
    let cid = *block.cid();
    let Some(codec) = Codec::from_code(cid.codec()) else { return Ok(Vec::new()) };
    let links =
        codec.links(block.data()).map_err(|source| DagError::Decode { cid: Box::new(cid), source })?;
    Ok(links.into_iter().map(|cid| Waiting { cid, start: 0 }).collect())
}
