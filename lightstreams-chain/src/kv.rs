//! The storage seam: named tables of ordered keys, and batches that are written whole or not at all.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{PoisonError, RwLock},
};

#[cfg(feature = "fjall")]
mod fjall;
#[cfg(feature = "fjall")]
mod fjall_journal;
#[cfg(feature = "rocksdb")]
mod rocks;

#[cfg(feature = "fjall")]
pub use self::fjall::FjallKv;
#[cfg(feature = "rocksdb")]
pub use self::rocks::RocksKv;

/// A table of the chain's database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Table {
    /// Name to value: schema version, genesis, head, final block.
    Meta,
    /// Number and hash to total difficulty and header.
    Headers,
    /// Hash to number.
    Numbers,
    /// Number to the hash of the canonical block.
    Canon,
    /// Number and hash to body.
    Bodies,
    /// Number and hash to the senders of the transactions.
    Senders,
    /// Number and hash to receipts, without the blooms.
    Receipts,
    /// Transaction hash to number and index in the canonical chain.
    Transactions,
    /// Keccak of an address to its account.
    Accounts,
    /// Keccak of an address and keccak of a slot to the value of the slot.
    Slots,
    /// Code hash to code.
    Code,
    /// Path to node of the account trie.
    AccountTrie,
    /// Keccak of an address and path to node of its storage trie.
    StorageTrie,
    /// Number to the keys of what the block changed; the values before are in the histories.
    Changes,
    /// Keccak of an address and number to the account before that block.
    AccountHistory,
    /// Keccak of an address, keccak of a slot and number to the value before that block.
    SlotHistory,
    /// Address or topic and number, for every canonical block with such a log.
    LogIndex,
    /// Records of the engine.
    Engine,
}

impl Table {
    /// All tables, in the order of their numbers.
    pub const ALL: [Self; 18] = [
        Self::Meta,
        Self::Headers,
        Self::Numbers,
        Self::Canon,
        Self::Bodies,
        Self::Senders,
        Self::Receipts,
        Self::Transactions,
        Self::Accounts,
        Self::Slots,
        Self::Code,
        Self::AccountTrie,
        Self::StorageTrie,
        Self::Changes,
        Self::AccountHistory,
        Self::SlotHistory,
        Self::LogIndex,
        Self::Engine,
    ];

    /// The name under which a database keeps the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Headers => "headers",
            Self::Numbers => "numbers",
            Self::Canon => "canon",
            Self::Bodies => "bodies",
            Self::Senders => "senders",
            Self::Receipts => "receipts",
            Self::Transactions => "transactions",
            Self::Accounts => "accounts",
            Self::Slots => "slots",
            Self::Code => "code",
            Self::AccountTrie => "account_trie",
            Self::StorageTrie => "storage_trie",
            Self::Changes => "changes",
            Self::AccountHistory => "account_history",
            Self::SlotHistory => "slot_history",
            Self::LogIndex => "log_index",
            Self::Engine => "engine",
        }
    }
}

/// A key with its value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// Keeps the chain's tables.
///
/// Keys are ordered as bytes; each has at least one and at most 255. A batch is seen whole or not at all, by readers of this process as after a crash.
/// Implementations pass `testing::check_kv`.
pub trait Kv: Send + Sync {
    /// The value under `key`, or `None`.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, KvError>;
    /// The first entries from `from` on, ascending, at most `limit`, as one moment saw them.
    fn scan(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Entry>, KvError>;
    /// Writes `batch` as one, and returns once it survives a power cut.
    fn commit(&self, batch: Batch) -> Result<(), KvError>;
    /// The tables as they are now. Later commits are not seen through it, and do not wait for it.
    fn view(&self) -> Result<Box<dyn KvView + '_>, KvError>;
}

/// What [`Kv`] tables held at one moment.
pub trait KvView {
    /// As [`Kv::get`].
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, KvError>;
    /// As [`Kv::scan`].
    fn scan(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Entry>, KvError>;
}

// A node chooses its database at run time.
const _: Option<&dyn Kv> = None;

/// Writes that belong together. A later write to a key replaces an earlier one.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    tables: [Writes; Table::ALL.len()],
}

type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

impl Batch {
    /// Puts `value` under `key`.
    pub fn put(&mut self, table: Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.table_mut(table).insert(key.into(), Some(value.into()));
    }

    /// Removes `key`; one that is absent stays so.
    pub fn remove(&mut self, table: Table, key: impl Into<Vec<u8>>) {
        self.table_mut(table).insert(key.into(), None);
    }

    /// What the batch does to `key`: `None` if nothing, `Some(None)` if it removes it.
    pub fn get(&self, table: Table, key: &[u8]) -> Option<Option<&[u8]>> {
        self.table(table).get(key).map(Option::as_deref)
    }

    /// The writes to `table` from `from` on, ascending.
    pub fn range(&self, table: Table, from: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.table(table)
            .range::<[u8], _>((Bound::Included(from), Bound::Unbounded))
            .map(|(key, value)| (key.as_slice(), value.as_deref()))
    }

    /// All writes: table, key, and the value or `None` for a removal; tables in their order, keys ascending.
    pub fn iter(&self) -> impl Iterator<Item = (Table, &[u8], Option<&[u8]>)> {
        Table::ALL.into_iter().zip(&self.tables).flat_map(|(table, writes)| {
            writes.iter().map(move |(key, value)| (table, key.as_slice(), value.as_deref()))
        })
    }

    /// All writes, as [`iter`](Self::iter) lists them.
    pub fn into_writes(self) -> impl Iterator<Item = (Table, Vec<u8>, Option<Vec<u8>>)> {
        Table::ALL
            .into_iter()
            .zip(self.tables)
            .flat_map(|(table, writes)| writes.into_iter().map(move |(key, value)| (table, key, value)))
    }

    /// How many keys the batch writes or removes.
    pub fn len(&self) -> usize {
        self.tables.iter().map(Writes::len).sum()
    }

    /// Whether the batch does nothing.
    pub fn is_empty(&self) -> bool {
        self.tables.iter().all(Writes::is_empty)
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "there is a map for each table, in the order of their numbers"
    )]
    fn table(&self, table: Table) -> &Writes {
        &self.tables[table as usize]
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "there is a map for each table, in the order of their numbers"
    )]
    fn table_mut(&mut self, table: Table) -> &mut Writes {
        &mut self.tables[table as usize]
    }
}

/// A failure of the database beneath a [`Kv`].
#[derive(Debug, thiserror::Error)]
#[error("database: {op} failed in table {}", table.map_or("(all)", Table::name))]
pub struct KvError {
    /// What was asked for.
    pub op: &'static str,
    /// The table, where one was named.
    pub table: Option<Table>,
    /// What the database says.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl KvError {
    /// A failure of `op`.
    pub fn new(
        op: &'static str,
        table: Option<Table>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { op, table, source: source.into() }
    }

    /// A record of `table` that is not in the form in which this crate writes it.
    pub(crate) fn corrupt(table: Table, what: &'static str) -> Self {
        Self::new("read", Some(table), format!("a record is damaged: {what}"))
    }
}

/// Tables in memory: for tests, tools and embedders that keep nothing.
#[derive(Debug, Default)]
pub struct MemoryKv {
    tables: RwLock<[BTreeMap<Vec<u8>, Vec<u8>>; Table::ALL.len()]>,
}

#[expect(clippy::indexing_slicing, reason = "there is a map for each table, in the order of their numbers")]
impl Kv for MemoryKv {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        Ok(tables[table as usize].get(key).cloned())
    }

    fn scan(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Entry>, KvError> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        Ok(tables[table as usize]
            .range::<[u8], _>((Bound::Included(from), Bound::Unbounded))
            .take(limit)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }

    fn commit(&self, batch: Batch) -> Result<(), KvError> {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        for (table, key, value) in batch.into_writes() {
            match value {
                Some(value) => tables[table as usize].insert(key, value),
                None => tables[table as usize].remove(&key),
            };
        }
        Ok(())
    }

    fn view(&self) -> Result<Box<dyn KvView + '_>, KvError> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Box::new(MemoryView(Self { tables: RwLock::new(tables) })))
    }
}

/// A copy.
struct MemoryView(MemoryKv);

impl KvView for MemoryView {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        self.0.get(table, key)
    }

    fn scan(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Entry>, KvError> {
        self.0.scan(table, from, limit)
    }
}
