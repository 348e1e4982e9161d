use std::fmt;

use alloy_consensus::Header;
use alloy_eips::{eip4895::Withdrawal, eip7685::Requests};
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_trie::{EMPTY_ROOT_HASH, Nibbles};

use crate::{
    Account, Batch, Entry, Genesis, HeadInfo, InvalidBlock, Kv, KvError, KvView, MemoryKv, Permits, Receipt,
    Table, Transaction,
    chain::write_state,
    execute::{BlockError, Executor, TxError},
    rules::Rules,
    state::{NodeSource, Staged, Trie, decode_account, decode_slot},
    tables,
};

/// A state given in full, in memory, on which blocks can be tried out: no chain around it, and no check of a header.
///
/// What runs, and what computes the root, is what a [`crate::Chain`] builds and imports blocks with.
pub struct TestState {
    kv: Hashes,
    root: B256,
}

/// A memory whose canonical hashes are made by a function.
struct Hashes {
    kv: MemoryKv,
    hash_of: Box<dyn Fn(u64) -> Option<B256> + Send + Sync>,
}

impl Kv for Hashes {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        if table != Table::Canon {
            return self.kv.get(table, key);
        }
        let number = tables::decode_number(table, key)?;
        match (self.hash_of)(number) {
            Some(hash) => Ok(Some(hash.to_vec())),
            None => {
                Err(KvError::new("read", Some(table), format!("no one said what block {number} hashes to")))
            }
        }
    }

    fn scan(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Entry>, KvError> {
        self.kv.scan(table, from, limit)
    }

    fn commit(&self, batch: Batch) -> Result<(), KvError> {
        self.kv.commit(batch)
    }

    fn view(&self) -> Result<Box<dyn KvView + '_>, KvError> {
        self.kv.view()
    }
}

/// What a transaction came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Gas spent, refunds not taken off.
    pub spent: u64,
    /// What it returned.
    pub output: Bytes,
}

/// The state after a block that was tried out, and what else came of it.
pub struct After<'a> {
    staged: Staged<'a>,
    /// Root of the state.
    pub state_root: B256,
    /// Receipts of the transactions that ran.
    pub receipts: Vec<Receipt>,
    /// What each transaction came to, or why it could not stand where it stands.
    pub results: Vec<Result<Ran, String>>,
    /// Gas used.
    pub gas_used: u64,
    /// Blob gas used.
    pub blob_gas_used: u64,
    /// Requests (EIP-7685).
    pub requests: Requests,
}

impl TestState {
    /// The accounts of `genesis`, in a chain whose block hashes `hash_of` tells: a block that asks for one that it does
    /// not know fails.
    pub fn new(
        genesis: &Genesis,
        hash_of: impl Fn(u64) -> Option<B256> + Send + Sync + 'static,
    ) -> Result<Self, KvError> {
        let kv = Hashes { kv: MemoryKv::default(), hash_of: Box::new(hash_of) };
        let staged = Staged::new(&kv);
        let root = write_state(genesis, &staged)?;
        let batch = staged.into_batch();
        kv.commit(batch)?;
        Ok(Self { kv, root })
    }

    /// Root of the state.
    pub fn root(&self) -> B256 {
        self.root
    }

    /// Runs the block of `header`, whose sealer is its beneficiary, by the forks of `genesis`: `transactions` with their senders,
    /// those left out that cannot stand, then `withdrawals` and `rewards`. `difficulty` is the total before it.
    #[expect(clippy::too_many_arguments, reason = "they are the inputs of a block")]
    pub fn run(
        &self,
        genesis: &Genesis,
        permits: Permits,
        header: &Header,
        difficulty: U256,
        transactions: &[(Transaction, Address)],
        withdrawals: &[Withdrawal],
        rewards: &[(Address, U256)],
    ) -> Result<After<'_>, TestError> {
        let rules = Rules::new(genesis, permits);
        let parent =
            Header { number: header.number.saturating_sub(1), state_root: self.root, ..Header::default() };
        let parent = HeadInfo { header: parent, hash: header.parent_hash, total_difficulty: difficulty };
        let staged = Staged::new(&self.kv);
        let mut executor = Executor::begin(&rules, &staged, &parent, header, header.beneficiary)?;
        let mut results = Vec::with_capacity(transactions.len());
        for (transaction, sender) in transactions {
            results.push(match executor.transact(transaction, *sender) {
                Ok(ran) => Ok(Ran { spent: ran.gas.total_gas_spent(), output: ran.output }),
                Err(TxError::Storage(error)) => return Err(error.into()),
                Err(TxError::NoRoom) => Err("the block has no room for its gas".into()),
                Err(TxError::Invalid(reason)) => Err(reason),
            });
        }
        let executed = executor.finish(withdrawals, rewards).map_err(|error| match error {
            BlockError::Invalid(reason) => TestError::Invalid(reason),
            BlockError::Storage(error) => TestError::Storage(error),
        })?;
        Ok(After {
            staged,
            state_root: executed.root,
            receipts: executed.receipts,
            results,
            gas_used: executed.gas_used,
            blob_gas_used: executed.blob_gas_used,
            requests: executed.requests,
        })
    }
}

impl After<'_> {
    /// The account at `address`, or `None` if there is none.
    pub fn account(&self, address: Address) -> Result<Option<Account>, KvError> {
        let record = self.staged.get(Table::Accounts, keccak256(address).as_slice())?;
        record
            .map(|record| {
                let account = decode_account(&record)?;
                Ok(Account {
                    nonce: account.nonce,
                    balance: account.balance,
                    code_hash: account.code_hash,
                    storage_root: account.storage_root,
                })
            })
            .transpose()
    }

    /// The value of `slot` at `address`, zero if never set.
    pub fn storage(&self, address: Address, slot: U256) -> Result<U256, KvError> {
        let key = tables::slot(keccak256(address), keccak256(slot.to_be_bytes::<32>()));
        decode_slot(&self.staged.get(Table::Slots, &key)?.unwrap_or_default())
    }
}

/// The root of the trie that `changes` make, one after the other, of an empty one: values by their keys, `None` to remove.
pub fn trie_root(changes: impl IntoIterator<Item = (B256, Option<Vec<u8>>)>) -> Result<B256, KvError> {
    let mut trie = Trie::new(EMPTY_ROOT_HASH);
    for (key, value) in changes {
        match value {
            Some(value) => trie.insert(&Nothing, key, value)?,
            None => trie.remove(&Nothing, key)?,
        }
    }
    trie.commit();
    Ok(trie.root())
}

/// Where no node is.
struct Nothing;

impl NodeSource for Nothing {
    const TABLE: Table = Table::AccountTrie;

    fn node(&self, _: &Nibbles) -> Result<Option<Vec<u8>>, KvError> {
        Ok(None)
    }
}

/// Why a block could not be tried out.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum TestError {
    /// No such block can be.
    #[error("there can be no such block")]
    Invalid(#[source] InvalidBlock),
    /// The state could not be read, or a block hash that no one told.
    #[error("the state could not be read")]
    Storage(#[from] KvError),
}

impl fmt::Debug for TestState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestState").field("root", &self.root).finish_non_exhaustive()
    }
}

impl fmt::Debug for After<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("After")
            .field("state_root", &self.state_root)
            .field("results", &self.results)
            .field("gas_used", &self.gas_used)
            .finish_non_exhaustive()
    }
}
