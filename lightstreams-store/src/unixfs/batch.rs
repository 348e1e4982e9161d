use std::collections::HashSet;

use cid::Cid;

use crate::{Block, BlockStore, StoreError};

/// Bytes of blocks that are stored in one commit.
const BATCH_BYTES: usize = 8 << 20;
/// Blocks that are stored in one commit, so that small ones take no more memory than large ones.
const BATCH_BLOCKS: usize = 16 << 10;

/// Collects blocks and stores those that the store lacks, many in one commit.
pub(crate) struct Batch<'a> {
    store: &'a dyn BlockStore,
    progress: &'a mut dyn FnMut(u64),
    blocks: Vec<Block>,
    names: HashSet<Cid>,
    block_bytes: usize,
    /// Bytes of files in the blocks so far.
    file_bytes: u64,
}

impl<'a> Batch<'a> {
    /// Stores into `store`; `progress` is told how many bytes of files are durable.
    pub(crate) fn new(store: &'a dyn BlockStore, progress: &'a mut dyn FnMut(u64)) -> Self {
        Self { store, progress, blocks: Vec::new(), names: HashSet::new(), block_bytes: 0, file_bytes: 0 }
    }

    /// Adds a block that brings `file_bytes` of a file. One that its CID carries is not stored.
    pub(crate) fn push(&mut self, block: Block, file_bytes: u64) -> Result<(), StoreError> {
        self.file_bytes += file_bytes;
        if Block::inline(block.cid()).is_some() || !self.names.insert(*block.cid()) {
            return Ok(());
        }
        self.block_bytes += block.len();
        self.blocks.push(block);
        if self.block_bytes >= BATCH_BYTES || self.blocks.len() >= BATCH_BLOCKS {
            self.flush()?;
        }
        Ok(())
    }

    /// Stores what was added; when this returns, all of it is durable.
    pub(crate) fn flush(&mut self) -> Result<(), StoreError> {
        let mut missing = Vec::with_capacity(self.blocks.len());
        for block in self.blocks.drain(..) {
            if !self.store.has(block.cid())? {
                missing.push(block);
            }
        }
        self.names.clear();
        self.block_bytes = 0;
        if !missing.is_empty() {
            self.store.put_many(&missing)?;
        }
        (self.progress)(self.file_bytes);
        Ok(())
    }
}
