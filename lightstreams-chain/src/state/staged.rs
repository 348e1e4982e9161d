//! Writes in preparation over the database: what a block, or a whole reorg, is going to commit.

use std::cell::RefCell;

use crate::{Batch, Entry, Kv, KvError, Table};

/// How many entries one step of a scan reads.
const SCAN_STEP: usize = 256;

/// The database as it will be once `batch` is committed.
pub(crate) struct Staged<'a> {
    kv: &'a dyn Kv,
    // The EVM reads through a shared reference while blocks before the one in execution are written here.
    batch: RefCell<Batch>,
}

impl<'a> Staged<'a> {
    pub(crate) fn new(kv: &'a dyn Kv) -> Self {
        Self::with_batch(kv, Batch::default())
    }

    /// Goes on from what was staged before.
    pub(crate) fn with_batch(kv: &'a dyn Kv, batch: Batch) -> Self {
        Self { kv, batch: RefCell::new(batch) }
    }

    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        if let Some(staged) = self.batch.borrow().get(table, key) {
            return Ok(staged.map(<[u8]>::to_vec));
        }
        self.kv.get(table, key)
    }

    pub(crate) fn put(&self, table: Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.batch.borrow_mut().put(table, key, value);
    }

    pub(crate) fn remove(&self, table: Table, key: impl Into<Vec<u8>>) {
        self.batch.borrow_mut().remove(table, key);
    }

    /// All entries whose keys begin with `prefix`, ascending.
    pub(crate) fn with_prefix(&self, table: Table, prefix: &[u8]) -> Result<Vec<Entry>, KvError> {
        let mut merged = std::collections::BTreeMap::new();
        let mut from = prefix.to_vec();
        'scan: loop {
            let step = self.kv.scan(table, &from, SCAN_STEP)?;
            let full = step.len() == SCAN_STEP;
            for (key, value) in step {
                if !key.starts_with(prefix) {
                    break 'scan;
                }
                from.clone_from(&key);
                merged.insert(key, value);
            }
            if !full {
                break;
            }
            from.push(0);
        }
        for (key, value) in self.batch.borrow().range(table, prefix) {
            if !key.starts_with(prefix) {
                break;
            }
            match value {
                Some(value) => merged.insert(key.to_vec(), value.to_vec()),
                None => merged.remove(key),
            };
        }
        Ok(merged.into_iter().collect())
    }

    pub(crate) fn into_batch(self) -> Batch {
        self.batch.into_inner()
    }
}
