//! The store, for the time that a request has.

use std::{io, time::Instant};

use cid::Cid;

use crate::{Block, BlockStore, StoreError, StoreOp};

/// What Kubo's clients know to mean that time has run out.
pub(super) const LATE: &str = "context deadline exceeded";

/// A store that fails when time has run out, and has the blocks that identity CIDs carry.
pub(super) struct Room<'a> {
    pub(super) store: &'a dyn BlockStore,
    pub(super) until: Instant,
}

impl Room<'_> {
    fn check(&self, op: StoreOp) -> Result<(), StoreError> {
        if Instant::now() < self.until {
            return Ok(());
        }
        Err(StoreError::new(op, io::Error::new(io::ErrorKind::TimedOut, LATE)))
    }
}

impl BlockStore for Room<'_> {
    fn get(&self, cid: &Cid) -> Result<Option<Block>, StoreError> {
        self.check(StoreOp::Get)?;
        Block::inline(cid).map_or_else(|| self.store.get(cid), |block| Ok(Some(block)))
    }

    fn size(&self, cid: &Cid) -> Result<Option<u64>, StoreError> {
        self.check(StoreOp::Size)?;
        Block::inline(cid).map_or_else(|| self.store.size(cid), |block| Ok(Some(block.len() as u64)))
    }

    fn put_many(&self, blocks: &[Block]) -> Result<(), StoreError> {
        self.check(StoreOp::Put)?;
        self.store.put_many(blocks)
    }

    fn remove_many(&self, cids: &[Cid]) -> Result<(), StoreError> {
        self.check(StoreOp::Remove)?;
        self.store.remove_many(cids)
    }

    fn cids(&self, after: Option<&Cid>, limit: usize) -> Result<Vec<Cid>, StoreError> {
        self.check(StoreOp::List)?;
        self.store.cids(after, limit)
    }

    fn reclaim(&self) -> Result<(), StoreError> {
        self.store.reclaim()
    }
}

/// A store that keeps nothing.
pub(super) struct Nowhere;

impl BlockStore for Nowhere {
    fn get(&self, _: &Cid) -> Result<Option<Block>, StoreError> {
        Ok(None)
    }

    fn size(&self, _: &Cid) -> Result<Option<u64>, StoreError> {
        Ok(None)
    }

    fn put_many(&self, _: &[Block]) -> Result<(), StoreError> {
        Ok(())
    }

    fn remove_many(&self, _: &[Cid]) -> Result<(), StoreError> {
        Ok(())
    }

    fn cids(&self, _: Option<&Cid>, _: usize) -> Result<Vec<Cid>, StoreError> {
        Ok(Vec::new())
    }
}
