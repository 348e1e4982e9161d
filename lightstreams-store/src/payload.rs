//! The one DAG layout that an encrypted payload may have.
//!
//! ```text
//!               root                 level 2      every node but the last of its level has 1,024 children,
//!        +-------+---------+                      all leaves are equally far from the root
//!      node    node      node        level 1
//!     +-+-+    +-+-+     +-+
//!    leaf ..  leaf ..   leaf ..      level 0      k * 65,552 bytes each, the last one shorter
//! ```
//!
//! Everything about this tree but the CIDs follows from the plaintext size and from k. So a node is checked by
//! encoding what it must be, with the CIDs it states, and comparing the bytes.

use std::{
    fmt,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use cid::Cid;

use crate::{
    Block, BlockSource, DAG_PB, MAX_LINKS, PLAIN_CHUNK_LEN, RAW, SEALED_CHUNK_LEN, StoreError,
    chunker::TAG_LEN,
    dagpb::{Child, Node, file_node, file_node_len},
};

/// The longest plaintext: 2^56 bytes, far above every disk, far below every overflow.
const MAX_PLAINTEXT_LEN: u64 = 1 << 56;

/// Bytes of a CIDv1 with sha2-256 and a codec below 128.
const CID_LEN: u64 = 36;

const SHA2_256: u64 = 0x12;

/// The whole shape of an encrypted payload P, computed from the plaintext size `s` and the chunks per leaf `k`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadShape {
    s: u64,
    k: u8,
    payload_len: u64,
    /// From the leaves up to the root.
    levels: Vec<Level>,
}

/// One level of the tree. All its nodes but the last are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Level {
    count: u64,
    full: Extent,
    last: Extent,
}

/// What a node or leaf holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    /// Bytes of the payload.
    size: u64,
    /// Bytes of blocks.
    tsize: u64,
}

impl Level {
    fn extent(&self, index: u64) -> Extent {
        if index + 1 == self.count { self.last } else { self.full }
    }
}

impl PayloadShape {
    /// The shape for `s` bytes of plaintext and leaves of `k` encrypted chunks.
    pub fn new(s: u64, k: u8) -> Result<Self, LayoutError> {
        if !matches!(k, 1 | 4 | 15) {
            return Err(LayoutError::ChunksPerLeaf { k });
        }
        if s > MAX_PLAINTEXT_LEN {
            return Err(LayoutError::TooLong { s });
        }
        let payload_len = s + TAG_LEN * s.div_ceil(PLAIN_CHUNK_LEN).max(1);
        let leaf_len = u64::from(k) * SEALED_CHUNK_LEN;
        let count = payload_len.div_ceil(leaf_len);
        let last = payload_len - (count - 1) * leaf_len;
        let mut level = Level {
            count,
            full: Extent { size: leaf_len, tsize: leaf_len },
            last: Extent { size: last, tsize: last },
        };
        let mut levels = vec![level];
        while level.count > 1 {
            let links = MAX_LINKS as u64;
            let count = level.count.div_ceil(links);
            let full = join(std::iter::repeat_n(level.full, MAX_LINKS));
            let last_children = level.count - (count - 1) * links;
            let last = join(
                std::iter::repeat_n(level.full, last_children as usize - 1)
                    .chain(std::iter::once(level.last)),
            );
            level = Level { count, full, last };
            levels.push(level);
        }
        Ok(Self { s, k, payload_len, levels })
    }

    /// Bytes of plaintext.
    pub fn plaintext_len(&self) -> u64 {
        self.s
    }

    /// Encrypted chunks per leaf.
    pub fn k(&self) -> u8 {
        self.k
    }

    /// Bytes of the payload: plaintext and a tag for each chunk.
    pub fn payload_len(&self) -> u64 {
        self.payload_len
    }

    /// Number of leaves.
    pub fn leaf_count(&self) -> u64 {
        self.levels.first().map_or(0, |level| level.count)
    }

    /// Number of nodes above the leaves; 0 if P is the only leaf itself.
    pub fn node_count(&self) -> u64 {
        self.levels.iter().skip(1).map(|level| level.count).sum()
    }

    /// Leaves and nodes together.
    pub fn block_count(&self) -> u64 {
        self.leaf_count() + self.node_count()
    }

    /// Levels of nodes above the leaves; 0 if P is the only leaf itself.
    pub fn depth(&self) -> u8 {
        self.levels.len().saturating_sub(1) as u8
    }

    /// Bytes of all blocks: what a link to P states as `Tsize`.
    pub fn tsize(&self) -> u64 {
        self.levels.last().map_or(0, |root| root.last.tsize)
    }

    /// Length of the leaf `index`; `None` past the end.
    pub fn leaf_len(&self, index: u64) -> Option<u64> {
        let leaves = self.levels.first()?;
        (index < leaves.count).then(|| leaves.extent(index).size)
    }

    /// The leaves that hold the payload bytes `range`, cut off at the end of the payload.
    pub fn leaves(&self, range: Range<u64>) -> Range<u64> {
        let end = range.end.min(self.payload_len);
        if range.start >= end {
            return 0..0;
        }
        let leaf_len = self.full_leaf_len();
        range.start / leaf_len..end.div_ceil(leaf_len)
    }

    /// The payload bytes (whole encrypted chunks) that the plaintext bytes `range` need, cut off at the end.
    pub fn payload_range(&self, range: Range<u64>) -> Range<u64> {
        let end = range.end.min(self.s);
        if range.start >= end {
            return 0..0;
        }
        let first = range.start / PLAIN_CHUNK_LEN * SEALED_CHUNK_LEN;
        first..(end.div_ceil(PLAIN_CHUNK_LEN) * SEALED_CHUNK_LEN).min(self.payload_len)
    }

    fn full_leaf_len(&self) -> u64 {
        u64::from(self.k) * SEALED_CHUNK_LEN
    }

    /// What the children of a node must be; none for a leaf, or where there is no such node.
    fn children(&self, level: usize, index: u64) -> impl Iterator<Item = Extent> + '_ {
        let below = level.checked_sub(1).and_then(|below| self.levels.get(below));
        let first = index * MAX_LINKS as u64;
        below.into_iter().flat_map(move |below| {
            (first..below.count.min(first + MAX_LINKS as u64)).map(|child| below.extent(child))
        })
    }

    /// Checks a node of `level` (1 is right above the leaves) and returns the names of its children.
    fn check_node(&self, level: usize, index: u64, block: &Block) -> Result<Vec<Cid>, LayoutError> {
        let links: Vec<Cid> = Node::decode(block.data())?.links.into_iter().map(|link| link.cid).collect();
        let codec = if level == 1 { RAW } else { DAG_PB };
        let shape_error = LayoutError::Shape { level: level as u8, index };
        if !links.iter().all(|cid| is_v1_sha2_256(cid, codec)) {
            return Err(shape_error);
        }
        let expected: Vec<Child> = self
            .children(level, index)
            .zip(&links)
            .map(|(extent, cid)| Child { cid: *cid, size: extent.size, tsize: extent.tsize })
            .collect();
        if file_node(&expected).data() != block.data()
            || expected.len() != self.children(level, index).count()
        {
            return Err(shape_error);
        }
        Ok(links)
    }
}

/// The node over `children`.
fn join(children: impl Iterator<Item = Extent> + Clone) -> Extent {
    let size = children.clone().map(|child| child.size).sum();
    let below: u64 = children.clone().map(|child| child.tsize).sum();
    let own = file_node_len(children.map(|child| (child.size, child.tsize)), CID_LEN);
    Extent { size, tsize: below + own }
}

fn is_v1_sha2_256(cid: &Cid, codec: u64) -> bool {
    cid.version() == cid::Version::V1
        && cid.codec() == codec
        && cid.hash().code() == SHA2_256
        && cid.hash().size() == 32
}

/// Reads a payload P that has exactly the shape it must have; works over a store or over fetched blocks.
///
/// Every node is compared with the shape as it is read, the root when the reader is opened; every leaf must have
/// its exact length. Memory holds the last leaf read and one node of each level.
pub struct PayloadReader<S> {
    source: S,
    shape: PayloadShape,
    root: Cid,
    cache: Mutex<Cache>,
}

/// What was read last, and checked.
#[derive(Default)]
struct Cache {
    leaf: Option<(u64, Bytes)>,
    /// For each level from 1 up: which node, and the names of its children.
    nodes: Vec<Option<(u64, Arc<[Cid]>)>>,
}

impl<S: BlockSource> PayloadReader<S> {
    /// Opens P by its root, which is read and checked now.
    pub fn open(source: S, p: &Cid, shape: PayloadShape) -> Result<Self, ReadError> {
        let cache = Cache { leaf: None, nodes: vec![None; usize::from(shape.depth())] };
        let reader = Self { source, shape, root: *p, cache: Mutex::new(cache) };
        let codec = if reader.shape.depth() == 0 { RAW } else { DAG_PB };
        if !is_v1_sha2_256(p, codec) {
            let source = LayoutError::Shape { level: reader.shape.depth(), index: 0 };
            return Err(ReadError::Layout { cid: *p, source });
        }
        match reader.shape.depth() {
            0 => reader.leaf(0).map(|_| ())?,
            top => reader.node(top.into(), 0).map(|_| ())?,
        }
        Ok(reader)
    }

    /// The shape.
    pub fn shape(&self) -> &PayloadShape {
        &self.shape
    }

    /// Bytes of the payload.
    pub fn len(&self) -> u64 {
        self.shape.payload_len
    }

    /// Never: the payload of an empty file is one tag long.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buf` from payload byte `offset` on; fewer bytes than `buf` has come back only at the end.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        let mut done = 0;
        while done < buf.len() {
            let at = offset.saturating_add(done as u64);
            if at >= self.len() {
                break;
            }
            let leaf_len = self.shape.full_leaf_len();
            let leaf = self.leaf(at / leaf_len)?;
            let Some(rest) = leaf.data().get((at % leaf_len) as usize..) else { break };
            let n = rest.len().min(buf.len() - done);
            if let (Some(to), Some(from)) = (buf.get_mut(done..done + n), rest.get(..n)) {
                to.copy_from_slice(from);
            }
            done += n;
        }
        Ok(done)
    }

    /// Names of the nodes above `leaves`, the root first, each parent before its children; reads them. Empty where P
    /// is the only leaf itself.
    pub fn nodes(&self, leaves: Range<u64>) -> Result<Vec<Cid>, ReadError> {
        let end = leaves.end.min(self.shape.leaf_count());
        if leaves.start >= end || self.shape.depth() == 0 {
            return Ok(Vec::new());
        }
        let mut names = vec![self.root];
        for level in (1..usize::from(self.shape.depth())).rev() {
            let span = (MAX_LINKS as u64).pow(level as u32);
            for index in leaves.start / span..end.div_ceil(span) {
                names.push(self.name(level, index)?);
            }
        }
        // The lowest nodes are named by their parents, but not yet read and checked.
        let span = MAX_LINKS as u64;
        for index in leaves.start / span..end.div_ceil(span) {
            self.node(1, index)?;
        }
        Ok(names)
    }

    /// Names of `leaves`, in order; reads the nodes above them, not the leaves. Who has a large range asks in pieces.
    pub fn leaf_cids(&self, leaves: Range<u64>) -> Result<Vec<Cid>, ReadError> {
        (leaves.start..leaves.end.min(self.shape.leaf_count())).map(|index| self.name(0, index)).collect()
    }

    /// The leaf `index`, with its length checked.
    ///
    /// A leaf past the end is a [`LayoutError::NoSuchLeaf`] on the root.
    pub fn leaf(&self, index: u64) -> Result<Block, ReadError> {
        let Some(expected) = self.shape.leaf_len(index) else {
            return Err(ReadError::Layout { cid: self.root, source: LayoutError::NoSuchLeaf { index } });
        };
        let cid = self.name(0, index)?;
        if let Some((cached, data)) = &self.cache().leaf
            && *cached == index
        {
            return Ok(Block::checked_before(cid, data.clone()));
        }
        let block = read_block(&self.source, &cid)?;
        let found = block.len() as u64;
        if found != expected {
            return Err(ReadError::Layout { cid, source: LayoutError::Length { expected, found } });
        }
        self.cache().leaf = Some((index, block.data().clone()));
        Ok(block)
    }

    /// The name of a leaf (level 0) or node.
    fn name(&self, level: usize, index: u64) -> Result<Cid, ReadError> {
        if level == usize::from(self.shape.depth()) {
            return Ok(self.root);
        }
        let parent = self.node(level + 1, index / MAX_LINKS as u64)?;
        // A checked node has as many children as the shape says.
        let name = parent.get((index % MAX_LINKS as u64) as usize).copied();
        name.ok_or(ReadError::Layout {
            cid: self.root,
            source: LayoutError::Shape { level: level as u8, index },
        })
    }

    /// The children of a checked node.
    fn node(&self, level: usize, index: u64) -> Result<Arc<[Cid]>, ReadError> {
        if let Some(Some((cached, names))) = self.cache().nodes.get(level - 1)
            && *cached == index
        {
            return Ok(names.clone());
        }
        let cid = self.name(level, index)?;
        let block = read_block(&self.source, &cid)?;
        let names = self.shape.check_node(level, index, &block);
        let names: Arc<[Cid]> = names.map_err(|source| ReadError::Layout { cid, source })?.into();
        if let Some(slot) = self.cache().nodes.get_mut(level - 1) {
            *slot = Some((index, names.clone()));
        }
        Ok(names)
    }

    // The cache is only ever replaced by whole entries: a panic elsewhere leaves nothing half done.
    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> fmt::Debug for PayloadReader<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PayloadReader")
            .field("root", &self.root)
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}

/// Reads a block, or says which one is missing.
pub(crate) fn read_block(source: &impl BlockSource, cid: &Cid) -> Result<Block, ReadError> {
    if let Some(block) = Block::inline(cid) {
        return Ok(block);
    }
    source.block(cid).map_err(ReadError::Source)?.ok_or(ReadError::Missing { cid: *cid })
}

/// The readable root R of a header block H and a payload P: `ipfs cat R | age -d` works.
///
/// `payload_len` and `tsize` are those of P, see [`PayloadShape`].
pub fn readable_root(h: &Block, p: &Cid, payload_len: u64, tsize: u64) -> Block {
    let h_len = h.len() as u64;
    file_node(&[
        Child { cid: *h.cid(), size: h_len, tsize: h_len },
        Child { cid: *p, size: payload_len, tsize },
    ])
}

/// Why a DAG is not the file, or not the payload, that it should be: blame its author.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// `k` is none of 1, 4, 15.
    #[error("{k} chunks per leaf, but only 1, 4 and 15 are allowed")]
    ChunksPerLeaf {
        /// What was found.
        k: u8,
    },
    /// The plaintext is longer than any that can exist.
    #[error("a plaintext of {s} bytes is too long")]
    TooLong {
        /// What was found.
        s: u64,
    },
    /// The payload has no such leaf.
    #[error("there is no leaf {index}")]
    NoSuchLeaf {
        /// What was asked for.
        index: u64,
    },
    /// The node is not the one that the layout of a payload has at this place.
    #[error("not the node {index} of level {level} that this payload must have")]
    Shape {
        /// Its level; leaves are level 0.
        level: u8,
        /// Its place in the level.
        index: u64,
    },
    /// A leaf or subtree has another length than it must.
    #[error("{found} bytes where {expected} should be")]
    Length {
        /// What it must have.
        expected: u64,
        /// What it has.
        found: u64,
    },
    /// The block is not a node that can be read.
    #[error("malformed node: {reason}")]
    Malformed {
        /// What is wrong.
        reason: &'static str,
    },
    /// The block is no file: a directory, a link, or of another codec.
    #[error("not a file")]
    NotAFile,
    /// The block is no directory: a file, or a link.
    #[error("not a directory")]
    NotADirectory,
    /// The block is of a codec that UnixFS does not use.
    #[error("not a UnixFS node")]
    NotUnixFs,
    /// The UnixFS message has a type that says nothing here.
    #[error("UnixFS type {kind} is not supported")]
    UnknownType {
        /// Which.
        kind: u64,
    },
    /// The tree is deeper than any honest one.
    #[error("the file is deeper than {} levels", crate::reader::MAX_DEPTH)]
    TooDeep,
}

/// Why bytes of a DAG could not be read.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The block is not here: fetch it and try again.
    #[error("the block {cid} is not here")]
    Missing {
        /// Its name.
        cid: Cid,
    },
    /// The block is here, and the DAG is wrong for every honest reader: blame its author.
    #[error("the block {cid} does not fit")]
    Layout {
        /// Its name.
        cid: Cid,
        /// What is wrong.
        source: LayoutError,
    },
    /// The block source failed, which says nothing about the DAG.
    #[error("the block source failed")]
    Source(#[source] StoreError),
}
