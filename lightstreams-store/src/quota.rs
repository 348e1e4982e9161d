//! A store that takes no more than it may.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError, RwLock},
};

use bytes::Bytes;
use cid::Cid;

use crate::{
    Block, BlockStore, StoreError, StoreOp,
    key::{check_batch, key},
};

/// Cids that are listed at once when the blocks held are counted.
const PAGE: usize = 1024;

/// A store of any kind that holds blocks of so many bytes at most.
///
/// A `put_many` that would exceed it fails with [`QuotaError`] as the source and stores nothing; all else goes on. Removal makes room
/// at once. Counted are the bytes of blocks, each block once. What a backend needs beside them stays below a tenth for blocks of
/// 1 KiB, but removed blocks may take space until they are compacted: leave the disk room for as much again.
#[derive(Debug)]
pub struct Quota<S> {
    store: S,
    limit_bytes: u64,
    used: Mutex<Used>,
    /// Puts share it; a removal has it alone, so that no block changes between being counted and being stored.
    changing: RwLock<()>,
}

#[derive(Debug, Default)]
struct Used {
    bytes: u64,
    /// New blocks that are being stored, by how many, and whether one of them is done.
    coming: HashMap<Vec<u8>, (usize, bool)>,
}

impl<S: BlockStore> Quota<S> {
    /// Limits `store` to blocks of `limit_bytes`, after counting what it holds.
    pub fn new(store: S, limit_bytes: u64) -> Result<Self, StoreError> {
        let mut bytes = 0u64;
        let mut after = None;
        loop {
            let page = store.cids(after.as_ref(), PAGE)?;
            for cid in &page {
                bytes = bytes.saturating_add(store.size(cid)?.unwrap_or(0));
            }
            let Some(last) = page.last() else { break };
            after = Some(*last);
        }
        let used = Mutex::new(Used { bytes, coming: HashMap::new() });
        Ok(Self { store, limit_bytes, used, changing: RwLock::new(()) })
    }

    /// Bytes of the blocks held.
    pub fn used_bytes(&self) -> u64 {
        self.used().bytes
    }

    /// The store behind the limit.
    pub fn store(&self) -> &S {
        &self.store
    }

    // What the lock guards is changed in one go: a panic elsewhere leaves nothing half done.
    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the blocks that are new; returns them.
    fn reserve(&self, blocks: &[Block]) -> Result<HashMap<Vec<u8>, u64>, StoreError> {
        let mut used = self.used();
        let (mut new, mut wanted) = (HashMap::new(), 0u64);
        for block in blocks {
            let (key, len) = (key(block.cid()), block.len() as u64);
            // Under the lock: what is neither held nor coming is counted by nobody else.
            let counted = used.coming.contains_key(&key);
            if !counted && self.store.size(block.cid())?.is_some() {
                continue;
            }
            if new.insert(key, len).is_none() && !counted {
                wanted = wanted.saturating_add(len);
            }
        }
        let held = used.bytes;
        let bytes = held.saturating_add(wanted);
        if wanted > 0 && bytes > self.limit_bytes {
            let error = QuotaError { limit_bytes: self.limit_bytes, held, wanted };
            return Err(StoreError::new(StoreOp::Put, error));
        }
        used.bytes = bytes;
        for key in new.keys() {
            used.coming.entry(key.clone()).or_default().0 += 1;
        }
        Ok(new)
    }

    fn settle(&self, new: HashMap<Vec<u8>, u64>, stored: bool) {
        let mut used = self.used();
        for (key, len) in new {
            let Some((puts, done)) = used.coming.get_mut(&key) else { continue };
            *puts -= 1;
            *done |= stored;
            let done = *done;
            if *puts == 0 {
                used.coming.remove(&key);
                if !done {
                    used.bytes = used.bytes.saturating_sub(len);
                }
            }
        }
    }
}

impl<S: BlockStore> BlockStore for Quota<S> {
    fn get(&self, cid: &Cid) -> Result<Option<Block>, StoreError> {
        self.store.get(cid)
    }

    fn get_unhashed(&self, cid: &Cid) -> Result<Option<Bytes>, StoreError> {
        self.store.get_unhashed(cid)
    }

    fn size(&self, cid: &Cid) -> Result<Option<u64>, StoreError> {
        self.store.size(cid)
    }

    fn put_many(&self, blocks: &[Block]) -> Result<(), StoreError> {
        check_batch(blocks)?;
        let _changing = self.changing.read().unwrap_or_else(PoisonError::into_inner);
        let new = self.reserve(blocks)?;
        let result = self.store.put_many(blocks);
        self.settle(new, result.is_ok());
        result
    }

    fn remove_many(&self, cids: &[Cid]) -> Result<(), StoreError> {
        let _changing = self.changing.write().unwrap_or_else(PoisonError::into_inner);
        let mut sizes = HashMap::new();
        for cid in cids {
            if let Some(size) = self.store.size(cid)? {
                sizes.insert(key(cid), size);
            }
        }
        self.store.remove_many(cids)?;
        let mut used = self.used();
        used.bytes = used.bytes.saturating_sub(sizes.values().sum());
        Ok(())
    }

    fn cids(&self, after: Option<&Cid>, limit: usize) -> Result<Vec<Cid>, StoreError> {
        self.store.cids(after, limit)
    }

    fn reclaim(&self) -> Result<(), StoreError> {
        self.store.reclaim()
    }
}

/// Blocks do not fit into what a store may hold: remove some, or raise the limit. Nothing was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{wanted} more bytes do not fit: {held} of {limit_bytes} are used")]
pub struct QuotaError {
    /// Bytes that the store may hold.
    pub limit_bytes: u64,
    /// Bytes held.
    pub held: u64,
    /// Bytes of the new blocks.
    pub wanted: u64,
}
