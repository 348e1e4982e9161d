//! Building the DAG of a file while its bytes stream by.

use std::io::{self, Read};

use cid::Cid;

use crate::{Block, BlockStore, Chunker, StoreError};

/// The most links of one node, as the profile `unixfs-v1-2025` says.
pub const MAX_LINKS: usize = 1024;

/// The root of a file that was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileRoot {
    /// Name of the root: of the only leaf, where there is one leaf.
    pub cid: Cid,
    /// Bytes of the file.
    pub size: u64,
    /// Bytes of all blocks of the DAG, repeated ones counted each time: what a link to it states as `Tsize`.
    pub tsize: u64,
    /// Blocks of the DAG, repeated ones counted each time.
    pub blocks: u64,
}

/// Builds balanced UnixFS files: raw leaves, CIDv1, sha2-256, at most 1,024 links; the profile `unixfs-v1-2025`.
#[derive(Debug, Clone)]
pub struct FileBuilder<C> {
    chunker: C,
}

impl<C: Chunker> FileBuilder<C> {
    /// Cuts leaves with `chunker`.
    pub fn new(chunker: C) -> Self {
        Self { chunker }
    }

    /// Reads `reader` to its end and hands each block to `sink`, children before parents, the root last.
    pub fn build(
        self,
        reader: &mut dyn Read,
        sink: &mut dyn FnMut(Block) -> Result<(), StoreError>,
    ) -> Result<FileRoot, BuildError> {
        let _ = (&self.chunker, reader, sink);
        todo!()
    }

    /// Reads `reader` to its end and puts all blocks into `store`, in batches; `progress` is told the bytes of the
    /// file that are durable. When this returns, all of it is.
    pub fn import(
        self,
        reader: &mut dyn Read,
        store: &dyn BlockStore,
        progress: &mut dyn FnMut(u64),
    ) -> Result<FileRoot, BuildError> {
        let _ = (&self.chunker, reader, store, progress);
        todo!()
    }
}

/// Why a file was not built.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The input could not be read.
    #[error("reading the input failed")]
    Read(#[source] io::Error),
    /// A block was not taken.
    #[error("storing the file failed")]
    Store(#[source] StoreError),
    /// The chunker broke its contract.
    #[error("the chunker cut {cut} bytes off {len}")]
    Chunker {
        /// What it cut.
        cut: usize,
        /// What there was.
        len: usize,
    },
}
