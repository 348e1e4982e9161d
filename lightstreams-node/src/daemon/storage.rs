//! The databases of a data directory, each opened by its own crate behind its seam.

use crate::config::Storage;
use crate::datadir::{DataDir, claim_database};
use crate::error::{NodeError, Result, io_error};
use lightstreams_chain::{FjallKv, Kv};
use lightstreams_store::{BlockStore, FjallStore};
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

/// The versions of what this node writes; another version is refused, not guessed.
const CHAIN_FORMAT: &str = "lightstreams chain";
const BLOCKS_FORMAT: &str = "lightstreams blocks";
const FORMAT_VERSION: u32 = 1;
/// What blocks leave free of the disk that they are on. A database that runs into the end of the disk refuses all
/// further work, so room stays for what it holds in memory, and for the chain, which mostly is on the same disk.
const FREE_MIN: u64 = 256 << 20;

/// Opens the chain's database.
pub(super) fn open_chain_db(dir: &DataDir, storage: Storage) -> Result<Arc<dyn Kv>> {
    let path = dir.chain_db();
    claim(&path, CHAIN_FORMAT, storage)?;
    let opened: Result<Arc<dyn Kv>, _> = match storage {
        Storage::Fjall => FjallKv::open(&path).map(|db| Arc::new(db) as Arc<dyn Kv>),
        #[cfg(feature = "rocksdb")]
        Storage::Rocksdb => lightstreams_chain::RocksKv::open(&path).map(|db| Arc::new(db) as Arc<dyn Kv>),
        #[cfg(not(feature = "rocksdb"))]
        Storage::Rocksdb => return Err(no_rocksdb()),
    };
    opened.map_err(|e| storage_error(&format!("cannot open the chain database in {}", path.display()), e))
}

/// Opens the block store.
pub(super) fn open_blocks(dir: &DataDir, storage: Storage) -> Result<Arc<dyn BlockStore>> {
    let path = dir.blocks();
    claim(&path, BLOCKS_FORMAT, storage)?;
    let path = path.join("db");
    let opened: Result<Arc<dyn BlockStore>, _> = match storage {
        Storage::Fjall => FjallStore::open(&path).map(|db| Arc::new(db) as Arc<dyn BlockStore>),
        #[cfg(feature = "rocksdb")]
        Storage::Rocksdb => {
            lightstreams_store::RocksStore::open(&path).map(|db| Arc::new(db) as Arc<dyn BlockStore>)
        }
        #[cfg(not(feature = "rocksdb"))]
        Storage::Rocksdb => return Err(no_rocksdb()),
    };
    opened.map_err(|e| storage_error(&format!("cannot open the block store in {}", path.display()), e))
}

/// Refuses blocks of `bytes` bytes when the disk under `dir` gets too full for them.
pub(crate) fn ensure_room(dir: &Path, bytes: u64) -> Result<()> {
    let disk =
        rustix::fs::statvfs(dir).map_err(|error| io_error("look at the disk of", dir, error.into()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free >= FREE_MIN.saturating_add(bytes) {
        return Ok(());
    }
    let message = format!(
        "the disk of {} has {} MiB free, and blocks leave {} MiB for the databases",
        dir.display(),
        free >> 20,
        FREE_MIN >> 20
    );
    Err(NodeError::new("disk_full", message).hint("free some space on this disk, then do it again"))
}

fn claim(path: &Path, what: &str, storage: Storage) -> Result<()> {
    claim_database(path, &format!("{what} {} {FORMAT_VERSION}", storage.name()))
}

#[cfg(not(feature = "rocksdb"))]
fn no_rocksdb() -> NodeError {
    NodeError::usage("no_rocksdb", "this build has no RocksDB")
        .hint("build with --features rocksdb, or set storage = \"fjall\" for a new data directory")
}

/// A failure of a database, with the advice that fits its cause.
pub(crate) fn storage_error(what: &str, error: impl Error + Send + Sync + 'static) -> NodeError {
    let full = is_disk_full(&error);
    let failed = NodeError::new(if full { "disk_full" } else { "storage" }, what).because(error);
    if full { failed.hint("free some space on this disk, then start the node again") } else { failed }
}

/// Whether somewhere below `error` the disk was full.
fn is_disk_full(error: &(dyn Error + 'static)) -> bool {
    let mut below = Some(error);
    for _ in 0..8 {
        let Some(error) = below else { return false };
        let io = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        let text = error.to_string();
        if matches!(io, Some(std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded))
            || text.contains("No space left on device")
        {
            return true;
        }
        below = error.source();
    }
    false
}
