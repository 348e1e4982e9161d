use std::{collections::HashSet, mem};

use cid::Cid;

use crate::{
    Block, BlockStore, StoreError,
    crew::{Crew, Ticket},
};

/// Bytes of blocks that are stored in one commit.
const BATCH_BYTES: usize = 8 << 20;
/// Blocks that are stored in one commit, so that small ones take no more memory than large ones.
const BATCH_BLOCKS: usize = 16 << 10;

/// Collects blocks and has a crew store those that the store lacks, many in one commit, one commit after the other.
pub(crate) struct Batch<'a, 't> {
    crew: &'a Crew<'a, 't>,
    store: &'t dyn BlockStore,
    progress: &'a mut dyn FnMut(u64),
    blocks: Vec<Block>,
    names: HashSet<Cid>,
    block_bytes: usize,
    /// Bytes of files in the blocks so far.
    file_bytes: u64,
    /// The batch that is being stored, and the bytes of files up to its end.
    storing: Option<(Ticket<Result<(), StoreError>>, u64)>,
}

impl<'a, 't> Batch<'a, 't> {
    /// Stores into `store`; `progress` is told how many bytes of files are durable.
    pub(crate) fn new(
        crew: &'a Crew<'a, 't>,
        store: &'t dyn BlockStore,
        progress: &'a mut dyn FnMut(u64),
    ) -> Self {
        let (blocks, names) = (Vec::new(), HashSet::new());
        Self { crew, store, progress, blocks, names, block_bytes: 0, file_bytes: 0, storing: None }
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
            self.hand_over()?;
        } else if self.storing.as_ref().is_some_and(|(ticket, _)| ticket.is_done()) {
            self.settle()?;
        }
        Ok(())
    }

    /// Stores what was added last; when this returns, all of it is durable.
    pub(crate) fn finish(mut self) -> Result<(), StoreError> {
        self.hand_over()?;
        self.settle()
    }

    /// Has the crew store what was added, after what was handed over before.
    fn hand_over(&mut self) -> Result<(), StoreError> {
        self.settle()?;
        self.names.clear();
        self.block_bytes = 0;
        let (blocks, store) = (mem::take(&mut self.blocks), self.store);
        self.storing = Some((self.crew.give(move || store_missing(store, blocks)), self.file_bytes));
        // One thread would store it no earlier than the next batch is full.
        if self.crew.threads() == 1 { self.settle() } else { Ok(()) }
    }

    /// Waits for what was handed over.
    fn settle(&mut self) -> Result<(), StoreError> {
        let Some((ticket, file_bytes)) = self.storing.take() else { return Ok(()) };
        self.crew.wait(ticket)?;
        (self.progress)(file_bytes);
        Ok(())
    }
}

fn store_missing(store: &dyn BlockStore, blocks: Vec<Block>) -> Result<(), StoreError> {
    let mut missing = Vec::with_capacity(blocks.len());
    for block in blocks {
        if !store.has(block.cid())? {
            missing.push(block);
        }
    }
    if missing.is_empty() { Ok(()) } else { store.put_many(&missing) }
}
