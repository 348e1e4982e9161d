//! Blocks in fjall, an LSM tree in pure Rust.

use std::{collections::HashSet, ops::Bound, path::Path};

use cid::Cid;
use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode,
    config::CompressionPolicy,
};

use crate::{
    Block, BlockStore, StoreError, StoreOp, StoreOptions,
    fjall_journal::open_without_torn_batch,
    folder::claim,
    key::{check_batch, cid_of_key, key},
};

/// Bytes of blocks that gather in memory before they are written to a blob file.
const MEMTABLE_BYTES: u64 = 16 << 20;
/// Bytes of journals on disk, beside the blobs; fjall's least.
const JOURNAL_BYTES: u64 = 64 << 20;
/// Blocks from this length on are kept outside the tree, in blob files.
const BLOB_FROM_BYTES: u32 = 4 << 10;
/// Bytes of one blob file.
const BLOB_FILE_BYTES: u64 = 64 << 20;

/// Keeps blocks in a fjall database of its own.
///
/// `put_many` is one batch of the journal, which is synced to disk before the call returns. Blocks of 4 KiB and more
/// lie in blob files beside the tree. Nothing is compressed: what is stored here is ciphertext.
///
/// A power cut that damages the batch which is being written costs that batch, which nobody was told of; damage in any other
/// is an error of [`open`](Self::open).
pub struct FjallStore {
    database: Database,
    blocks: Keyspace,
}

impl FjallStore {
    /// Opens the store in the folder `path`, which is created if it is not there.
    ///
    /// A folder of another backend, or with other files in it, is refused.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(path, StoreOptions::default())
    }

    /// Opens the store in the folder `path` with `options`.
    pub fn open_with(path: impl AsRef<Path>, options: StoreOptions) -> Result<Self, StoreError> {
        let folder = claim(path.as_ref(), "fjall")?;
        let database = open_without_torn_batch(&folder, || {
            Database::builder(&folder)
                .cache_size(options.cache_bytes)
                .max_journaling_size(JOURNAL_BYTES)
                .worker_threads(2)
                .open()
        })
        .map_err(failed(StoreOp::Open))?;
        let blocks = database.keyspace("blocks", keyspace_options).map_err(failed(StoreOp::Open))?;
        Ok(Self { database, blocks })
    }
}

fn keyspace_options() -> KeyspaceCreateOptions {
    let blobs = KvSeparationOptions::default()
        .compression(CompressionType::None)
        .separation_threshold(BLOB_FROM_BYTES)
        .file_target_size(BLOB_FILE_BYTES);
    KeyspaceCreateOptions::default()
        .max_memtable_size(MEMTABLE_BYTES)
        .data_block_compression_policy(CompressionPolicy::all(CompressionType::None))
        .with_kv_separation(Some(blobs))
}

impl std::fmt::Debug for FjallStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FjallStore").finish_non_exhaustive()
    }
}

impl BlockStore for FjallStore {
    fn get(&self, cid: &Cid) -> Result<Option<Block>, StoreError> {
        let data = self.blocks.get(key(cid)).map_err(|e| failed(StoreOp::Get)(e).on(cid))?;
        let Some(data) = data else { return Ok(None) };
        let block = Block::from_cid(*cid, data).map_err(|e| StoreError::new(StoreOp::Get, e).on(cid))?;
        Ok(Some(block))
    }

    fn size(&self, cid: &Cid) -> Result<Option<u64>, StoreError> {
        let size = self.blocks.size_of(key(cid)).map_err(|e| failed(StoreOp::Size)(e).on(cid))?;
        Ok(size.map(u64::from))
    }

    fn put_many(&self, blocks: &[Block]) -> Result<(), StoreError> {
        check_batch(blocks)?;
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        let mut seen = HashSet::new();
        for block in blocks {
            let key = key(block.cid());
            // A block becomes visible only after its batch was synced: one that is seen here is durable.
            let held = self.blocks.contains_key(&key).map_err(failed(StoreOp::Put))?;
            if !held && seen.insert(key.clone()) {
                batch.insert(&self.blocks, key, block.data().clone());
            }
        }
        batch.commit().map_err(failed(StoreOp::Put))
    }

    fn remove_many(&self, cids: &[Cid]) -> Result<(), StoreError> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        for cid in cids {
            batch.remove(&self.blocks, key(cid));
        }
        batch.commit().map_err(failed(StoreOp::Remove))
    }

    fn cids(&self, after: Option<&Cid>, limit: usize) -> Result<Vec<Cid>, StoreError> {
        let start = after.map_or(Bound::Unbounded, |cid| Bound::Excluded(key(cid)));
        let entries = self.blocks.range((start, Bound::Unbounded)).take(limit);
        entries.map(|entry| cid_of_key(&entry.key().map_err(failed(StoreOp::List))?)).collect()
    }
}

fn failed(op: StoreOp) -> impl Fn(fjall::Error) -> StoreError {
    move |e| match e {
        fjall::Error::Locked => StoreError::new(op, "another process has the database open"),
        fjall::Error::Io(e) => StoreError::new(op, e),
        e => StoreError::new(op, e),
    }
}
