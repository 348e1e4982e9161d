//! The tables as column families of one RocksDB database.

use std::{fmt, path::Path};

use rocksdb::{DB, Direction, IteratorMode, Options, SnapshotWithThreadMode, WriteBatch, WriteOptions};

use crate::{Batch, Entry, Kv, KvError, KvView, Table};

/// Tables in a RocksDB database.
pub struct RocksKv {
    database: DB,
}

impl RocksKv {
    /// Opens the database in the directory `path`, made if absent. One process opens it at a time.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, KvError> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        let database = DB::open_cf(&options, path, Table::ALL.iter().map(|table| table.name()))
            .map_err(|error| KvError::new("open", None, error))?;
        Ok(Self { database })
    }

    fn table(&self, table: Table) -> Result<&rocksdb::ColumnFamily, KvError> {
        self.database
            .cf_handle(table.name())
            .ok_or_else(|| KvError::new("find", Some(table), "no such table"))
    }
}

impl Kv for RocksKv {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        self.database.get_cf(self.table(table)?, key).map_err(|error| KvError::new("get", Some(table), error))
    }

    fn scan(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Entry>, KvError> {
        self.database
            .iterator_cf(self.table(table)?, IteratorMode::From(from, Direction::Forward))
            .take(limit)
            .map(|entry| {
                let (key, value) = entry.map_err(|error| KvError::new("scan", Some(table), error))?;
                Ok((key.into_vec(), value.into_vec()))
            })
            .collect()
    }

    fn view(&self) -> Result<Box<dyn KvView + '_>, KvError> {
        Ok(Box::new(RocksView { kv: self, snapshot: self.database.snapshot() }))
    }

    fn commit(&self, batch: Batch) -> Result<(), KvError> {
        let mut writes = WriteBatch::default();
        for (table, key, value) in batch.into_writes() {
            match value {
                Some(value) => writes.put_cf(self.table(table)?, key, value),
                None => writes.delete_cf(self.table(table)?, key),
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(true);
        self.database.write_opt(writes, &options).map_err(|error| KvError::new("commit", None, error))
    }
}

struct RocksView<'a> {
    kv: &'a RocksKv,
    snapshot: SnapshotWithThreadMode<'a, DB>,
}

impl KvView for RocksView<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        let value = self.snapshot.get_cf(self.kv.table(table)?, key);
        value.map_err(|error| KvError::new("get", Some(table), error))
    }

    fn scan(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Entry>, KvError> {
        self.snapshot
            .iterator_cf(self.kv.table(table)?, IteratorMode::From(from, Direction::Forward))
            .take(limit)
            .map(|entry| {
                let (key, value) = entry.map_err(|error| KvError::new("scan", Some(table), error))?;
                Ok((key.into_vec(), value.into_vec()))
            })
            .collect()
    }
}

impl fmt::Debug for RocksKv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksKv").finish_non_exhaustive()
    }
}
