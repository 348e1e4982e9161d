//! The part of one state that blocks met lately, in memory.
//!
//! What a block read and wrote the next one mostly needs again. Here it is decoded, with the upper nodes of the tries open and
//! their hashes known. All of it is bounded, and all of it follows from the root of the state: what is known of one root is
//! never used under another.

use std::collections::HashMap;

use alloy_primitives::{B256, U256};
use alloy_trie::TrieAccount;
use revm::bytecode::Bytecode;

use super::trie::Trie;
use crate::cache::Cache;

const ACCOUNTS_MAX: usize = 1 << 16;
const SLOTS_MAX: usize = 1 << 17;
/// Codes, of at most 24,576 bytes each.
const CODES_MAX: usize = 512;
/// Open nodes of one trie; a branch takes up to a kilobyte.
const NODES_MAX: usize = 1 << 16;
/// Open nodes of all storage tries.
const STORAGE_NODES_MAX: usize = 1 << 17;

/// What is known of one state.
pub(crate) struct Hot {
    /// The root of the state; `None` as long as nothing was written.
    root: Option<B256>,
    accounts: Cache<B256, Option<TrieAccount>>,
    slots: Cache<(B256, B256), U256>,
    codes: Cache<B256, Bytecode>,
    account_trie: Option<Trie>,
    storage_tries: HashMap<B256, Trie>,
    /// Open nodes of the storage tries.
    storage_nodes: usize,
}

impl Default for Hot {
    fn default() -> Self {
        Self {
            root: None,
            accounts: Cache::new(ACCOUNTS_MAX),
            slots: Cache::new(SLOTS_MAX),
            codes: Cache::new(CODES_MAX),
            account_trie: None,
            storage_tries: HashMap::new(),
            storage_nodes: 0,
        }
    }
}

impl Hot {
    /// Says that the state is the one of `root`; what is known of another one goes.
    pub(super) fn begin(&mut self, root: B256) {
        if self.root.is_some_and(|known| known != root) {
            *self = Self::default();
        }
        self.root = Some(root);
    }

    /// Takes the account trie out, to be changed and put back.
    pub(super) fn take_account_trie(&mut self, root: B256) -> Trie {
        self.account_trie.take().filter(|trie| trie.root() == root).unwrap_or_else(|| Trie::new(root))
    }

    /// Puts the account trie back: the state is the one of its root now.
    pub(super) fn put_account_trie(&mut self, mut trie: Trie) {
        trie.shed(NODES_MAX);
        self.root = Some(trie.root());
        self.account_trie = Some(trie);
    }

    /// Takes the trie of a storage out, to be changed and put back.
    pub(super) fn take_storage_trie(&mut self, address: B256, root: B256) -> Trie {
        match self.storage_tries.remove(&address) {
            Some(trie) => {
                self.storage_nodes = self.storage_nodes.saturating_sub(trie.open_nodes());
                if trie.root() == root { trie } else { Trie::new(root) }
            }
            None => Trie::new(root),
        }
    }

    pub(super) fn put_storage_trie(&mut self, address: B256, mut trie: Trie) {
        trie.shed(NODES_MAX);
        self.storage_nodes = self.storage_nodes.saturating_add(trie.open_nodes());
        if self.storage_nodes > STORAGE_NODES_MAX {
            self.storage_tries.clear();
            self.storage_nodes = trie.open_nodes();
        }
        self.storage_tries.insert(address, trie);
    }

    pub(super) fn account(&self, address: B256) -> Option<Option<TrieAccount>> {
        self.accounts.get(&address)
    }

    pub(super) fn set_account(&mut self, address: B256, account: Option<TrieAccount>) {
        self.accounts.insert(address, account);
    }

    pub(super) fn slot(&self, address: B256, slot: B256) -> Option<U256> {
        self.slots.get(&(address, slot))
    }

    pub(super) fn set_slot(&mut self, address: B256, slot: B256, value: U256) {
        self.slots.insert((address, slot), value);
    }

    pub(super) fn code(&self, hash: B256) -> Option<Bytecode> {
        self.codes.get(&hash)
    }

    pub(super) fn set_code(&mut self, hash: B256, code: Bytecode) {
        self.codes.insert(hash, code);
    }
}
