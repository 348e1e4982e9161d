//! Blocks in RocksDB.

use std::{collections::HashSet, path::Path};

use cid::Cid;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, Options,
    WriteBatch, WriteOptions,
};

use crate::{
    Block, BlockStore, StoreError, StoreOp, StoreOptions,
    folder::claim,
    key::{check_batch, cid_of_key, key},
};

/// Bytes of blocks that gather in memory before they are written to a blob file.
const MEMTABLE_BYTES: usize = 16 << 20;
/// Bytes of lengths that gather in memory.
const SIZES_MEMTABLE_BYTES: usize = 1 << 20;
/// Bytes of write-ahead logs on disk, beside the blobs.
const WAL_BYTES: u64 = 64 << 20;
/// Blocks from this length on are kept outside the tree, in blob files.
const BLOB_FROM_BYTES: u64 = 4 << 10;
/// Bytes of one blob file.
const BLOB_FILE_BYTES: u64 = 64 << 20;

/// Keeps blocks in a RocksDB database of its own.
///
/// One column family holds the blocks, a second one their lengths: who asks about a block's presence, or lists the
/// blocks, reads none. `put_many` is one write batch over both, whose write-ahead log is synced to disk before the call
/// returns. Blocks of 4 KiB and more lie in blob files beside the tree, and space of removed ones comes back. Nothing
/// is compressed: what is stored here is ciphertext.
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
        let cache = Cache::new_lru_cache(usize::try_from(options.cache_bytes).unwrap_or(usize::MAX));
        let mut all = Options::default();
        all.create_if_missing(true);
        all.create_missing_column_families(true);
        all.set_max_total_wal_size(WAL_BYTES);
        all.set_max_background_jobs(2);
        all.set_keep_log_file_num(2);
        let families = [(BLOCKS, block_options(&cache)), (SIZES, size_options(&cache))];
        let families = families.map(|(name, options)| ColumnFamilyDescriptor::new(name, options));
        let database = DB::open_cf_descriptors(&all, path, families).map_err(failed(StoreOp::Open))?;
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        Ok(Self { database, synced })
    }

    fn sizes(&self, op: StoreOp) -> Result<&ColumnFamily, StoreError> {
        // It was made when the database was opened.
        self.database
            .cf_handle(SIZES)
            .ok_or_else(|| StoreError::new(op, "the lengths of the blocks are gone"))
    }

    fn size_under(&self, op: StoreOp, key: &[u8]) -> Result<Option<u64>, StoreError> {
        let size = self.database.get_pinned_cf(self.sizes(op)?, key).map_err(failed(op))?;
        let Some(size) = size else { return Ok(None) };
        let size =
            size.first_chunk().ok_or_else(|| StoreError::new(op, "the length of a block is damaged"))?;
        Ok(Some(u32::from_be_bytes(*size).into()))
    }
}

/// Blocks by multihash.
const BLOCKS: &str = "default";
/// Lengths of the blocks by multihash, four bytes each, big-endian.
const SIZES: &str = "sizes";

fn size_options(cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_bloom_filter(10.0, false);
    table.set_cache_index_and_filter_blocks(true);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_write_buffer_size(SIZES_MEMTABLE_BYTES);
    options.set_compression_type(DBCompressionType::None);
    options
}

fn block_options(cache: &Cache) -> Options {
    let mut options = size_options(cache);
    options.set_write_buffer_size(MEMTABLE_BYTES);
    options.set_blob_cache(cache);
    options.set_enable_blob_files(true);
    options.set_min_blob_size(BLOB_FROM_BYTES);
    options.set_blob_file_size(BLOB_FILE_BYTES);
    options.set_blob_compression_type(DBCompressionType::None);
    options.set_enable_blob_gc(true);
    options.set_blob_gc_force_threshold(0.5);
    options
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
        self.size_under(StoreOp::Size, &key(cid)).map_err(|e| e.on(cid))
    }

    fn put_many(&self, blocks: &[Block]) -> Result<(), StoreError> {
        check_batch(blocks)?;
        let sizes = self.sizes(StoreOp::Put)?;
        let mut batch = WriteBatch::default();
        let mut seen = HashSet::new();
        for block in blocks {
            let key = key(block.cid());
            // A block becomes visible only after its batch was synced: one that is seen here is durable.
            if self.size_under(StoreOp::Put, &key)?.is_none() && seen.insert(key.clone()) {
                batch.put(&key, block.data());
                batch.put_cf(sizes, &key, (block.len() as u32).to_be_bytes());
            }
        }
        self.database.write_opt(batch, &self.synced).map_err(failed(StoreOp::Put))
    }

    fn remove_many(&self, cids: &[Cid]) -> Result<(), StoreError> {
        let sizes = self.sizes(StoreOp::Remove)?;
        let mut batch = WriteBatch::default();
        for key in cids.iter().map(key) {
            batch.delete(&key);
            batch.delete_cf(sizes, &key);
        }
        self.database.write_opt(batch, &self.synced).map_err(failed(StoreOp::Remove))
    }

    fn cids(&self, after: Option<&Cid>, limit: usize) -> Result<Vec<Cid>, StoreError> {
        let mut cids = Vec::new();
        let mut entries = self.database.raw_iterator_cf(self.sizes(StoreOp::List)?);
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
