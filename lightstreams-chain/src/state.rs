//! States: flat accounts and slots, the values they had before, and the trie that commits to them.
//!
//! A state is addressed by its block. The flat tables hold the state of the head. The histories hold, for every change, the
//! value before it under the number of the block that made it: the value after block N is that of the first change
//! above N, or else the head's.

mod hot;
mod path;
mod staged;
#[cfg(test)]
mod tests;
mod trie;
mod writer;

use std::sync::atomic::{AtomicU64, Ordering};

use alloy_primitives::{Address, B256, Bytes, U256, keccak256, utils::keccak256_cached};
use revm::{
    bytecode::Bytecode,
    database_interface::{DBErrorMarker, DatabaseRef},
    primitives::KECCAK_EMPTY,
    state::AccountInfo,
};

#[cfg(feature = "testing")]
pub(crate) use self::trie::{NodeSource, Trie};
pub(crate) use self::{
    hot::Hot,
    path::{account_path, slot_path},
    staged::Staged,
    writer::{
        AccountChange, AccountFields, ChangeLog, StateChanges, change_set, changes_of, decode_account,
        decode_slot, forget, history_table, restored, unwind, write,
    },
};
use crate::{BlockRef, Chain, KvError, StateError, Table, chain::prove::prove, proof::AccountProof, tables};

/// An account as the state keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// Transactions sent, or contracts created.
    pub nonce: u64,
    /// Balance in wei.
    pub balance: U256,
    /// Keccak of the code.
    pub code_hash: B256,
    /// Root of the storage trie.
    pub storage_root: B256,
}

/// The state after one block. Reads fail once the block is no longer canonical or too old.
pub struct StateView<'a> {
    chain: &'a Chain,
    block: BlockRef,
    /// The count of reorgs at which the block was last seen to be canonical.
    reorgs: AtomicU64,
}

impl<'a> StateView<'a> {
    pub(crate) fn new(chain: &'a Chain, block: BlockRef) -> Self {
        // No count of reorgs is this high, so that the first read looks.
        Self { chain, block, reorgs: AtomicU64::new(u64::MAX) }
    }

    /// The block.
    pub fn block(&self) -> BlockRef {
        self.block
    }

    /// The account at `address`, or `None` if there is none.
    pub fn account(&self, address: Address) -> Result<Option<Account>, StateError> {
        let record = self.read(Table::Accounts, Table::AccountHistory, keccak256(address).as_slice())?;
        if record.is_empty() {
            return Ok(None);
        }
        let account = decode_account(&record)?;
        Ok(Some(Account {
            nonce: account.nonce,
            balance: account.balance,
            code_hash: account.code_hash,
            storage_root: account.storage_root,
        }))
    }

    /// The balance at `address`.
    pub fn balance(&self, address: Address) -> Result<U256, StateError> {
        Ok(self.account(address)?.map_or(U256::ZERO, |account| account.balance))
    }

    /// The nonce of `address`.
    pub fn nonce(&self, address: Address) -> Result<u64, StateError> {
        Ok(self.account(address)?.map_or(0, |account| account.nonce))
    }

    /// The code at `address`, empty if there is none.
    pub fn code(&self, address: Address) -> Result<Bytes, StateError> {
        match self.account(address)? {
            Some(account) => Ok(code(self.chain.kv(), account.code_hash)?),
            None => Ok(Bytes::new()),
        }
    }

    /// The value of `slot` at `address`, zero if never set.
    pub fn storage(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        let key = tables::slot(keccak256(address), keccak256(slot.to_be_bytes::<32>()));
        Ok(decode_slot(&self.read(Table::Slots, Table::SlotHistory, &key)?)?)
    }

    /// The account at `address` and its `slots` with proofs against the state root of the block, in the form of EIP-1186.
    ///
    /// The head's proofs are read; those of an older block are computed from what changed since, which is bounded: 100,000
    /// records, and 1,024 slots in one proof.
    pub fn proof(&self, address: Address, slots: &[U256]) -> Result<AccountProof, StateError> {
        prove(self.chain, self.block, address, slots)
    }

    /// The record of `key` after the block, empty if there was none.
    fn read(&self, table: Table, history: Table, key: &[u8]) -> Result<Vec<u8>, StateError> {
        // A reorg takes history back; none does between the two reads.
        let reorgs = self.chain.hold_reorgs();
        if self.reorgs.load(Ordering::Relaxed) != *reorgs {
            if self.chain.canonical_at(self.block.number)? != Some(self.block.hash) {
                return Err(StateError::NotKept(self.block.number));
            }
            self.reorgs.store(*reorgs, Ordering::Relaxed);
        }
        let kv = self.chain.kv();
        // The head's value first: a block committed in between leaves that value in the history.
        let current = kv.get(table, key)?;
        let Some(after) = self.block.number.checked_add(1) else { return Ok(current.unwrap_or_default()) };
        let change = kv.scan(history, &tables::dated(key, after), 1)?.pop();
        let value = match change {
            Some((found, before)) if found.len() == key.len() + 8 && found.starts_with(key) => before,
            _ => current.unwrap_or_default(),
        };
        // The oldest states go as new blocks come; a value read while that happened may be a later one.
        if self.block.number < self.chain.oldest_state() {
            return Err(StateError::NotKept(self.block.number));
        }
        Ok(value)
    }
}

impl std::fmt::Debug for StateView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateView").field("block", &self.block).finish_non_exhaustive()
    }
}

fn code(kv: &dyn crate::Kv, hash: B256) -> Result<Bytes, KvError> {
    if hash == KECCAK_EMPTY {
        return Ok(Bytes::new());
    }
    match kv.get(Table::Code, hash.as_slice())? {
        Some(code) => Ok(code.into()),
        None => Err(KvError::corrupt(Table::Code, "the code of an account is missing")),
    }
}

/// A failure to read the state for the EVM.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct ReadError(#[from] pub(crate) StateError);

impl DBErrorMarker for ReadError {}

impl From<KvError> for ReadError {
    fn from(error: KvError) -> Self {
        Self(error.into())
    }
}

/// The state at the tip of what is staged, as the EVM reads it.
///
/// Blocks meet the same addresses and slots again and again, and their hashes are remembered. (Not those of all that is hashed: keys
/// are derived with the same function, and no memory of the process may keep those.)
#[derive(Clone, Copy)]
pub(crate) struct TipState<'a, 'kv>(pub(crate) &'a Staged<'kv>);

impl TipState<'_, '_> {
    /// Whether `address` has storage and neither code nor a nonce.
    pub(crate) fn has_only_storage(&self, address: Address) -> Result<bool, KvError> {
        let Some(record) = self.0.get(Table::Accounts, keccak256_cached(address).as_slice())? else {
            return Ok(false);
        };
        let account = decode_account(&record)?;
        Ok(account.nonce == 0
            && account.code_hash == KECCAK_EMPTY
            && account.storage_root != alloy_trie::EMPTY_ROOT_HASH)
    }
}

impl DatabaseRef for TipState<'_, '_> {
    type Error = ReadError;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, ReadError> {
        let account = self.0.account(keccak256_cached(address))?;
        Ok(account.map(|account| info(account.nonce, account.balance, account.code_hash)))
    }

    fn code_by_hash_ref(&self, hash: B256) -> Result<Bytecode, ReadError> {
        if hash == KECCAK_EMPTY {
            return Ok(Bytecode::default());
        }
        Ok(self.0.code(hash)?)
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, ReadError> {
        Ok(self.0.slot(keccak256_cached(address), keccak256_cached(slot.to_be_bytes::<32>()))?)
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, ReadError> {
        match self.0.get(Table::Canon, &tables::number(number))? {
            Some(hash) => Ok(tables::decode_hash(Table::Canon, &hash)?),
            None => Ok(B256::ZERO),
        }
    }
}

/// The state after some block, as the EVM reads it.
pub(crate) struct PastState<'a>(pub(crate) StateView<'a>);

impl DatabaseRef for PastState<'_> {
    type Error = ReadError;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, ReadError> {
        Ok(self.0.account(address)?.map(|account| info(account.nonce, account.balance, account.code_hash)))
    }

    fn code_by_hash_ref(&self, hash: B256) -> Result<Bytecode, ReadError> {
        Ok(bytecode(code(self.0.chain.kv(), hash)?))
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, ReadError> {
        Ok(self.0.storage(address, slot)?)
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, ReadError> {
        // The EVM asks for 256 blocks back at most; a block above this one is not there yet.
        if number >= self.0.block.number {
            return Ok(B256::ZERO);
        }
        Ok(self.0.chain.canonical_at(number)?.unwrap_or_default())
    }
}

fn info(nonce: u64, balance: U256, code_hash: B256) -> AccountInfo {
    AccountInfo { nonce, balance, code_hash, code: None, ..AccountInfo::default() }
}

/// Code as the EVM takes it. Before London code could begin like a delegation without being one.
fn bytecode(code: Bytes) -> Bytecode {
    Bytecode::new_raw_checked(code.clone()).unwrap_or_else(|_| Bytecode::new_legacy(code))
}
