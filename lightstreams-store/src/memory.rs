//! The store that forgets.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{PoisonError, RwLock, RwLockReadGuard},
};

use bytes::Bytes;
use cid::Cid;

use crate::{
    Block, BlockStore, StoreError,
    key::{check_batch, cid_of_key, key},
};

/// Keeps blocks in memory, and loses them with the process.
#[derive(Default)]
pub struct MemoryStore {
    blocks: RwLock<BTreeMap<Vec<u8>, Bytes>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of blocks held.
    pub fn len(&self) -> usize {
        self.read().len()
    }

    /// Whether no block is held.
    pub fn is_empty(&self) -> bool {
        self.read().is_empty()
    }

    // Every change under the lock is a single map operation: a panic elsewhere leaves nothing half done.
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<Vec<u8>, Bytes>> {
        self.blocks.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MemoryStore({} blocks)", self.len())
    }
}

impl BlockStore for MemoryStore {
    fn get(&self, cid: &Cid) -> Result<Option<Block>, StoreError> {
        let data = self.read().get(&key(cid)).cloned();
        Ok(data.map(|data| Block::checked_before(*cid, data)))
    }

    fn size(&self, cid: &Cid) -> Result<Option<u64>, StoreError> {
        Ok(self.read().get(&key(cid)).map(|data| data.len() as u64))
    }

    fn put_many(&self, blocks: &[Block]) -> Result<(), StoreError> {
        check_batch(blocks)?;
        let mut held = self.blocks.write().unwrap_or_else(PoisonError::into_inner);
        for block in blocks {
            held.entry(key(block.cid())).or_insert_with(|| block.data().clone());
        }
        Ok(())
    }

    fn remove_many(&self, cids: &[Cid]) -> Result<(), StoreError> {
        let mut held = self.blocks.write().unwrap_or_else(PoisonError::into_inner);
        for cid in cids {
            held.remove(&key(cid));
        }
        Ok(())
    }

    fn cids(&self, after: Option<&Cid>, limit: usize) -> Result<Vec<Cid>, StoreError> {
        let start = after.map_or(Bound::Unbounded, |cid| Bound::Excluded(key(cid)));
        self.read().range((start, Bound::Unbounded)).take(limit).map(|(key, _)| cid_of_key(key)).collect()
    }
}
