//! Writes in preparation over the database: what a block, or a whole reorg, is going to commit.

use std::cell::{RefCell, RefMut};

use alloy_primitives::{B256, U256};
use alloy_trie::TrieAccount;
use revm::bytecode::Bytecode;

use super::{bytecode, decode_account, decode_slot, hot::Hot};
use crate::{Batch, Entry, Kv, KvError, Table, tables};

/// How many entries the first step of a scan reads; the next ones read more. Most prefixes have few.
const SCAN_STEP: usize = 4;
const SCAN_STEP_MAX: usize = 256;

/// The database as it will be once `batch` is committed.
pub(crate) struct Staged<'a> {
    kv: &'a dyn Kv,
    // The EVM reads through a shared reference while blocks before the one in execution are written here.
    batch: RefCell<Batch>,
    /// The state at the tip of what is staged, as far as it was read or written lately.
    hot: RefCell<Hot>,
}

impl<'a> Staged<'a> {
    pub(crate) fn new(kv: &'a dyn Kv) -> Self {
        Self::resume(kv, Batch::default(), Hot::default())
    }

    /// Goes on from what was staged before, and with what is known of the state there.
    pub(crate) fn resume(kv: &'a dyn Kv, batch: Batch, hot: Hot) -> Self {
        Self { kv, batch: RefCell::new(batch), hot: RefCell::new(hot) }
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

    /// The account at the keccak of an address.
    pub(crate) fn account(&self, address: B256) -> Result<Option<TrieAccount>, KvError> {
        if let Some(known) = self.hot().account(address) {
            return Ok(known);
        }
        let record = self.get(Table::Accounts, address.as_slice())?;
        let account = record.as_deref().map(decode_account).transpose()?;
        self.hot().set_account(address, account);
        Ok(account)
    }

    /// The value of the slot at the keccaks of an address and a key.
    pub(crate) fn slot(&self, address: B256, slot: B256) -> Result<U256, KvError> {
        if let Some(known) = self.hot().slot(address, slot) {
            return Ok(known);
        }
        let value = decode_slot(&self.get(Table::Slots, &tables::slot(address, slot))?.unwrap_or_default())?;
        self.hot().set_slot(address, slot, value);
        Ok(value)
    }

    /// The code of this hash, which is not that of no code.
    pub(crate) fn code(&self, hash: B256) -> Result<Bytecode, KvError> {
        if let Some(known) = self.hot().code(hash) {
            return Ok(known);
        }
        let Some(code) = self.get(Table::Code, hash.as_slice())? else {
            return Err(KvError::corrupt(Table::Code, "the code of an account is missing"));
        };
        let code = bytecode(code.into());
        self.hot().set_code(hash, code.clone());
        Ok(code)
    }

    pub(super) fn hot(&self) -> RefMut<'_, Hot> {
        self.hot.borrow_mut()
    }

    /// All entries whose keys begin with `prefix`, ascending.
    pub(crate) fn with_prefix(&self, table: Table, prefix: &[u8]) -> Result<Vec<Entry>, KvError> {
        let mut merged = std::collections::BTreeMap::new();
        let mut from = prefix.to_vec();
        let mut limit = SCAN_STEP;
        'scan: loop {
            let step = self.kv.scan(table, &from, limit)?;
            let full = step.len() == limit;
            limit = SCAN_STEP_MAX;
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

    /// The batch, and what is known of the state once it is committed.
    pub(crate) fn into_parts(self) -> (Batch, Hot) {
        (self.batch.into_inner(), self.hot.into_inner())
    }
}
