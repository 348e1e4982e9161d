//! Blocks in RocksDB.

use std::{collections::HashSet, path::Path};

use cid::Cid;
use rocksdb::{BlockBasedOptions, Cache, DB, DBCompressionType, Options, WriteBatch, WriteOptions};

use crate::{
    Block, BlockStore, StoreError, StoreOp, StoreOptions,
    folder::claim,
    key::{check_batch, cid_of_key, key},
};

/// Bytes of blocks that gather in memory before they are written to a blob file.
const MEMTABLE_BYTES: usize = 16 << 20;
/// Bytes of write-ahead logs on disk, beside the blobs.
const WAL_BYTES: u64 = 64 << 20;
/// Blocks from this length on are kept outside the tree, in blob files.
const BLOB_FROM_BYTES: u64 = 4 << 10;
/// Bytes of one blob file.
const BLOB_FILE_BYTES: u64 = 64 << 20;

/// Keeps blocks in a RocksDB database of its own.
///
/// `put_many` is one write batch, whose write-ahead log is synced to disk before the call returns. Blocks of 4 KiB and
/// more lie in blob files beside the tree, and space of removed ones comes back. Nothing is compressed: what is stored
/// here is ciphertext.
pub struct RocksStore {
    database: DB,
    synced: WriteOptions,
}

impl RocksStore {
    /// Opens the store in the folder `path`, which is created if it is not there.
    ///
    /// A folder of another backend, or with other files in it, is refused.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(path, StoreOptions::default())
    }

    /// Opens the store in the folder `path` with `options`.
    pub fn open_with(path: impl AsRef<Path>, options: StoreOptions) -> Result<Self, StoreError> {
        let path = claim(path.as_ref(), "rocksdb")?;
        let database = DB::open(&database_options(options), path).map_err(failed(StoreOp::Open))?;
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        Ok(Self { database, synced })
    }
}

fn database_options(options: StoreOptions) -> Options {
    let cache = Cache::new_lru_cache(usize::try_from(options.cache_bytes).unwrap_or(usize::MAX));
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&cache);
    table.set_bloom_filter(10.0, false);
    table.set_cache_index_and_filter_blocks(true);
    let mut database = Options::default();
    database.create_if_missing(true);
    database.set_block_based_table_factory(&table);
    database.set_blob_cache(&cache);
    database.set_write_buffer_size(MEMTABLE_BYTES);
    database.set_max_total_wal_size(WAL_BYTES);
    database.set_max_background_jobs(2);
    database.set_compression_type(DBCompressionType::None);
    database.set_enable_blob_files(true);
    database.set_min_blob_size(BLOB_FROM_BYTES);
    database.set_blob_file_size(BLOB_FILE_BYTES);
    database.set_blob_compression_type(DBCompressionType::None);
    database.set_enable_blob_gc(true);
    database.set_blob_gc_force_threshold(0.5);
    database.set_keep_log_file_num(2);
    database
}

impl std::fmt::Debug for RocksStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RocksStore").finish_non_exhaustive()
    }
}

impl BlockStore for RocksStore {
    fn get(&self, cid: &Cid) -> Result<Option<Block>, StoreError> {
        let data = self.database.get(key(cid)).map_err(|e| failed(StoreOp::Get)(e).on(cid))?;
        let Some(data) = data else { return Ok(None) };
        let block = Block::from_cid(*cid, data).map_err(|e| StoreError::new(StoreOp::Get, e).on(cid))?;
        Ok(Some(block))
    }

    fn size(&self, cid: &Cid) -> Result<Option<u64>, StoreError> {
        let data = self.database.get_pinned(key(cid)).map_err(|e| failed(StoreOp::Size)(e).on(cid))?;
        Ok(data.map(|data| data.len() as u64))
    }

    fn put_many(&self, blocks: &[Block]) -> Result<(), StoreError> {
        check_batch(blocks)?;
        let mut batch = WriteBatch::default();
        let mut seen = HashSet::new();
        for block in blocks {
            let key = key(block.cid());
            // A block becomes visible only after its batch was synced: one that is seen here is durable.
            let held = self.database.key_may_exist(&key)
                && self.database.get_pinned(&key).map_err(failed(StoreOp::Put))?.is_some();
            if !held && seen.insert(key.clone()) {
                batch.put(key, block.data());
            }
        }
        self.database.write_opt(batch, &self.synced).map_err(failed(StoreOp::Put))
    }

    fn remove_many(&self, cids: &[Cid]) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        for cid in cids {
            batch.delete(key(cid));
        }
        self.database.write_opt(batch, &self.synced).map_err(failed(StoreOp::Remove))
    }

    fn cids(&self, after: Option<&Cid>, limit: usize) -> Result<Vec<Cid>, StoreError> {
        let mut cids = Vec::new();
        let mut entries = self.database.raw_iterator();
        match after.map(key) {
            None => entries.seek_to_first(),
            Some(after) => {
                entries.seek(&after);
                if entries.key() == Some(&after) {
                    entries.next();
                }
            }
        }
        while cids.len() < limit
            && let Some(key) = entries.key()
        {
            cids.push(cid_of_key(key)?);
            entries.next();
        }
        entries.status().map_err(failed(StoreOp::List))?;
        Ok(cids)
    }
}

fn failed(op: StoreOp) -> impl Fn(rocksdb::Error) -> StoreError {
    move |e| {
        // RocksDB reports a held lock as an I/O error that only its text tells apart.
        if op == StoreOp::Open && e.as_ref().contains("lock") {
            return StoreError::new(op, "another process has the database open");
        }
        StoreError::new(op, e)
    }
}
