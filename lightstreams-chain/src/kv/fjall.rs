//! The tables as keyspaces of one fjall database.

use std::{fmt, path::Path};

use fjall::{
    Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot, config::CompressionPolicy,
};

use super::fjall_journal::open_without_torn_batch;
use crate::{Batch, Entry, Kv, KvError, KvView, Table};

/// Writes of one table that gather in memory. There are many tables, and most are small.
const MEMTABLE_BYTES: u64 = 4 << 20;
/// Bytes of journals on disk, beside the tables; fjall's least.
const JOURNAL_BYTES: u64 = 64 << 20;
/// Memory for what was read lately.
const CACHE_BYTES: u64 = 16 << 20;

/// Tables in a fjall database: pure Rust, one directory.
///
/// A power cut that damages the batch which is being written costs that batch, which nobody was told of; damage in any other
/// is an error of [`open`](Self::open).
pub struct FjallKv {
    database: Database,
    tables: Vec<Keyspace>,
}

impl FjallKv {
    /// Opens the database in the directory `path`, made if absent. One process opens it at a time.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, KvError> {
        let path = path.as_ref();
        let database = open_without_torn_batch(path, || {
            Database::builder(path)
                .cache_size(CACHE_BYTES)
                .max_journaling_size(JOURNAL_BYTES)
                .worker_threads(2)
                .open()
        })
        .map_err(|error| KvError::new("open", None, error))?;
        let tables = Table::ALL
            .iter()
            .map(|table| {
                database
                    .keyspace(table.name(), || options(*table))
                    .map_err(|error| KvError::new("open", Some(*table), error))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { database, tables })
    }

    fn now(&self) -> FjallView<'_> {
        FjallView { kv: self, snapshot: self.database.snapshot() }
    }

    fn table(&self, table: Table) -> Result<&Keyspace, KvError> {
        self.tables.get(table as usize).ok_or_else(|| KvError::new("find", Some(table), "no such table"))
    }
}

fn options(table: Table) -> KeyspaceCreateOptions {
    let options = KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
    match table {
        // Hashes and balances do not get shorter.
        Table::Numbers
        | Table::Canon
        | Table::Senders
        | Table::Transactions
        | Table::Accounts
        | Table::Slots
        | Table::AccountTrie
        | Table::StorageTrie
        | Table::Changes
        | Table::AccountHistory
        | Table::SlotHistory => options.data_block_compression_policy(CompressionPolicy::disabled()),
        _ => options,
    }
}

impl Kv for FjallKv {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        self.now().get(table, key)
    }

    fn scan(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Entry>, KvError> {
        self.now().scan(table, from, limit)
    }

    fn view(&self) -> Result<Box<dyn KvView + '_>, KvError> {
        Ok(Box::new(self.now()))
    }

    fn commit(&self, batch: Batch) -> Result<(), KvError> {
        let mut writes = self.database.batch().durability(Some(PersistMode::SyncAll));
        for (table, key, value) in batch.into_writes() {
            match value {
                Some(value) => writes.insert(self.table(table)?, key, value),
                None => writes.remove(self.table(table)?, key),
            }
        }
        writes.commit().map_err(|error| KvError::new("commit", None, error))
    }
}

/// A keyspace by itself shows a batch while it is being applied; a snapshot does not.
struct FjallView<'a> {
    kv: &'a FjallKv,
    snapshot: Snapshot,
}

impl KvView for FjallView<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        let value = self.snapshot.get(self.kv.table(table)?, key);
        Ok(value.map_err(|error| KvError::new("get", Some(table), error))?.map(|value| value.to_vec()))
    }

    fn scan(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Entry>, KvError> {
        self.snapshot
            .range(self.kv.table(table)?, from..)
            .take(limit)
            .map(|guard| {
                let (key, value) =
                    guard.into_inner().map_err(|error| KvError::new("scan", Some(table), error))?;
                Ok((key.to_vec(), value.to_vec()))
            })
            .collect()
    }
}

impl fmt::Debug for FjallKv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FjallKv").finish_non_exhaustive()
    }
}
