//! The one DAG layout that an encrypted payload may have.

use std::ops::Range;

use cid::Cid;

use crate::{Block, BlockSource, StoreError};

/// The whole shape of an encrypted payload P, computed from the plaintext size `s` and the chunks per leaf `k`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadShape {
    s: u64,
    k: u8,
}

impl PayloadShape {
    /// The shape for `s` bytes of plaintext and leaves of `k` encrypted chunks.
    pub fn new(s: u64, k: u8) -> Result<Self, LayoutError> {
        Ok(Self { s, k })
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
        todo!()
    }

    /// Number of leaves.
    pub fn leaf_count(&self) -> u64 {
        todo!()
    }

    /// Number of nodes above the leaves; 0 if P is the only leaf itself.
    pub fn node_count(&self) -> u64 {
        todo!()
    }

    /// Leaves and nodes together.
    pub fn block_count(&self) -> u64 {
        self.leaf_count() + self.node_count()
    }

    /// Levels of nodes above the leaves; 0 if P is the only leaf itself.
    pub fn depth(&self) -> u8 {
        todo!()
    }

    /// Bytes of all blocks: what a link to P states as `Tsize`.
    pub fn tsize(&self) -> u64 {
        todo!()
    }

    /// Length of the leaf `index`; `None` past the end.
    pub fn leaf_len(&self, index: u64) -> Option<u64> {
        let _ = index;
        todo!()
    }

    /// The leaves that hold the payload bytes `range`, cut off at the end of the payload.
    pub fn leaves(&self, range: Range<u64>) -> Range<u64> {
        let _ = range;
        todo!()
    }

    /// The payload bytes (whole encrypted chunks) that the plaintext bytes `range` need, cut off at the end.
    pub fn payload_range(&self, range: Range<u64>) -> Range<u64> {
        let _ = range;
        todo!()
    }
}

/// Reads a payload P that has exactly the shape it must have; works over a store or over fetched blocks.
///
/// Every node is compared with the shape as it is read, the root when the reader is opened; every leaf must have
/// its exact length.
#[derive(Debug)]
pub struct PayloadReader<S> {
    source: S,
    shape: PayloadShape,
}

impl<S: BlockSource> PayloadReader<S> {
    /// Opens P by its root, which is read and checked now.
    pub fn open(source: S, p: &Cid, shape: PayloadShape) -> Result<Self, ReadError> {
        let _ = p;
        Ok(Self { source, shape })
    }

    /// The shape.
    pub fn shape(&self) -> &PayloadShape {
        &self.shape
    }

    /// Bytes of the payload.
    pub fn len(&self) -> u64 {
        self.shape.payload_len()
    }

    /// Never: the payload of an empty file is one tag long.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Fills `buf` from payload byte `offset` on; fewer bytes than `buf` has come back only at the end.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        let _ = (&self.source, offset, buf);
        todo!()
    }

    /// Names of the nodes above `leaves`, the root first, each parent before its children; reads them. Empty where P is
    /// the only leaf itself.
    pub fn nodes(&self, leaves: Range<u64>) -> Result<Vec<Cid>, ReadError> {
        let _ = leaves;
        todo!()
    }

    /// Names of `leaves`, in order; reads the nodes above them, not the leaves. Who has a large range asks in pieces.
    pub fn leaf_cids(&self, leaves: Range<u64>) -> Result<Vec<Cid>, ReadError> {
        let _ = leaves;
        todo!()
    }

    /// The leaf `index`, with its length checked.
    pub fn leaf(&self, index: u64) -> Result<Block, ReadError> {
        let _ = index;
        todo!()
    }
}

/// The readable root R of a header block H and a payload P: `ipfs cat R | age -d` works.
///
/// `payload_len` and `tsize` are those of P, see [`PayloadShape`].
pub fn readable_root(h: &Block, p: &Cid, payload_len: u64, tsize: u64) -> Block {
    let _ = (h, p, payload_len, tsize);
    todo!()
}

/// Why a DAG is not the file, or not the payload, that it should be.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// `k` is none of 1, 4, 15.
    #[error("{k} chunks per leaf, but only 1, 4 and 15 are allowed")]
    ChunksPerLeaf {
        /// What was found.
        k: u64,
    },
}

/// Why bytes of a DAG could not be read.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The block cannot be had: fetch it and try again.
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
    /// Our store failed, which says nothing about the DAG.
    #[error("the block source failed")]
    Source(#[source] StoreError),
}
