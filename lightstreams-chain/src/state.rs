//! States: flat accounts and slots, their history, and the trie that commits to them.

use alloy_primitives::{Address, B256, Bytes, U256};

use crate::{BlockRef, KvError, StateError};

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
#[derive(Clone, Copy, Debug)]
pub struct StateView<'a> {
    pub(crate) _chain: std::marker::PhantomData<&'a ()>,
}

impl StateView<'_> {
    /// The block.
    pub fn block(&self) -> BlockRef {
        todo!()
    }
    /// The account at `address`, or `None` if there is none.
    pub fn account(&self, _address: Address) -> Result<Option<Account>, StateError> {
        todo!()
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
    pub fn code(&self, _address: Address) -> Result<Bytes, StateError> {
        todo!()
    }
    /// The value of `slot` at `address`, zero if never set.
    pub fn storage(&self, _address: Address, _slot: U256) -> Result<U256, StateError> {
        todo!()
    }
}

#[allow(dead_code)]
fn _keep(_: KvError) {}
