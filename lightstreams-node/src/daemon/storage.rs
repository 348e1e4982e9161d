//! The chain's database and the block store of a data directory, each opened by its own crate behind its seam.

use crate::config::{BlockStorage, Config, Storage};
use crate::datadir::{DataDir, claim_database, database_mark};
use crate::error::{NodeError, Result, io_error};
use lightstreams_chain::{FjallKv, Kv};
use lightstreams_store::{BlockStore, FjallStore, PinnedStore, SegmentStore, StoreError};
use serde_json::{Value, json};
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The versions of what this node writes; another version is refused, not guessed.
const CHAIN_FORMAT: &str = "lightstreams chain";
const BLOCKS_FORMAT: &str = "lightstreams blocks";
const FORMAT_VERSION: u32 = 1;
/// The word for segments in the mark of a directory of blocks.
const SEGMENTS: &str = "segments";
/// The folder of the pins, beside the blocks.
const PINS: &str = "pins";
/// What blocks leave free of the disk that they are on. A database that runs into the end of the disk refuses all
/// further work, so room stays for what it holds in memory, and for the chain, which mostly is on the same disk.
/// Compaction of a segment needs less than half of that, and gives back more.
const FREE_MIN: u64 = 256 << 20;
/// How often segments are looked through for space of removed blocks.
const COMPACT_PAUSE: Duration = Duration::from_secs(600);
/// Damaged places of the block store that are told one by one at the start.
const DAMAGE_TOLD_MAX: usize = 16;

/// Opens the chain database in `path`.
pub(crate) fn open_chain_db(path: &Path, storage: Storage) -> Result<Arc<dyn Kv>> {
    claim_database(path, &mark(CHAIN_FORMAT, storage.name()))?;
    let opened: Result<Arc<dyn Kv>, _> = match storage {
        Storage::Fjall => FjallKv::open(path).map(|db| Arc::new(db) as Arc<dyn Kv>),
        #[cfg(feature = "rocksdb")]
        Storage::Rocksdb => lightstreams_chain::RocksKv::open(path).map(|db| Arc::new(db) as Arc<dyn Kv>),
        #[cfg(not(feature = "rocksdb"))]
        Storage::Rocksdb => return Err(no_rocksdb()),
    };
    opened.map_err(|e| storage_error(&format!("cannot open the chain database in {}", path.display()), e))
}

/// The block store of a data directory.
pub(crate) struct Blocks {
    pub(crate) store: Arc<dyn BlockStore>,
    /// The same store, through which all else writes: a sweep keeps what is written beside it.
    pub(crate) pinned: Arc<PinnedStore<Arc<dyn BlockStore>>>,
    backend: &'static str,
    /// The same store, if it is one of segments.
    segments: Option<Arc<SegmentStore>>,
}

impl Blocks {
    /// Opens the block store that the configuration names, or else the one that is there, or else segments.
    pub(super) fn open(dir: &DataDir, config: &Config) -> Result<Self> {
        let path = dir.blocks();
        let kind = match config.blocks {
            Some(kind) => kind,
            None if database_mark(&path)? == Some(mark(BLOCKS_FORMAT, config.storage.name())) => {
                BlockStorage::Database
            }
            None => BlockStorage::Segments,
        };
        let backend = match kind {
            BlockStorage::Segments => SEGMENTS,
            BlockStorage::Database => config.storage.name(),
        };
        claim_database(&path, &mark(BLOCKS_FORMAT, backend))?;
        let failed = |e| storage_error(&format!("cannot open the block store in {}", path.display()), e);
        let within = path.join("db");
        let mut segments = None;
        let store: Arc<dyn BlockStore> = match (kind, config.storage) {
            (BlockStorage::Segments, _) => {
                segments.insert(Arc::new(SegmentStore::open(&within).map_err(failed)?)).clone()
            }
            (BlockStorage::Database, Storage::Fjall) => Arc::new(FjallStore::open(&within).map_err(failed)?),
            #[cfg(feature = "rocksdb")]
            (BlockStorage::Database, Storage::Rocksdb) => {
                Arc::new(lightstreams_store::RocksStore::open(&within).map_err(failed)?)
            }
            #[cfg(not(feature = "rocksdb"))]
            (BlockStorage::Database, Storage::Rocksdb) => return Err(no_rocksdb()),
        };
        let pins = super::open_disk(&path.join(PINS))?;
        let pinned = PinnedStore::open(store, pins)
            .map_err(|e| storage_error(&format!("cannot open the pins in {}", path.display()), e))?;
        let pinned = Arc::new(pinned);
        let blocks = Self { store: pinned.clone(), pinned, backend, segments };
        blocks.tell_damage();
        Ok(blocks)
    }

    fn tell_damage(&self) {
        let damage = self.segments.as_ref().map_or(&[][..], |segments| segments.damage());
        for place in damage.iter().take(DAMAGE_TOLD_MAX) {
            tracing::error!("the block store is damaged, and blocks in it are lost: {place}");
        }
        if damage.len() > DAMAGE_TOLD_MAX {
            tracing::error!("{} more places of the block store are damaged", damage.len() - DAMAGE_TOLD_MAX);
        }
    }

    /// What `status` says of a store in which `contents` are: the backend, and of segments their bytes on disk and the
    /// damaged places found at the start.
    pub(crate) fn status(&self, contents: usize) -> Value {
        let segments = self.segments.as_ref();
        json!({
            "backend": self.backend,
            "contents": contents,
            "bytes": segments.map(|segments| segments.disk_bytes()),
            "damaged": segments.map(|segments| segments.damage().len()),
        })
    }

    /// Gives space of removed blocks back to the disk. A database does that by itself.
    fn compact(&self) -> std::result::Result<u64, StoreError> {
        self.segments.as_ref().map_or(Ok(0), |segments| Ok(segments.compact()?.freed_bytes))
    }
}

/// Frees the space of removed blocks now and then, until told to stop. Each removal frees some by itself; this takes
/// what is left when many were removed at once, or when the node was stopped in the middle.
pub(super) async fn keep_compact(blocks: Arc<Blocks>, mut stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        let compacted = blocks.clone();
        match tokio::task::spawn_blocking(move || compacted.compact()).await {
            Ok(Ok(0)) => {}
            Ok(Ok(bytes)) => tracing::info!(bytes, "freed the space of removed blocks"),
            Ok(Err(error)) => {
                tracing::warn!("{}", storage_error("cannot free the space of removed blocks", error))
            }
            Err(_) => return,
        }
        tokio::select! {
            () = tokio::time::sleep(COMPACT_PAUSE) => {}
            _ = stop.changed() => return,
        }
    }
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

fn mark(what: &str, backend: &str) -> String {
    format!("{what} {backend} {FORMAT_VERSION}")
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

#[cfg(test)]
mod tests {
    use super::*;
    use lightstreams_store::Block;
    use std::fs;

    fn open(dir: &DataDir) -> Blocks {
        Blocks::open(dir, &Config::default()).unwrap()
    }

    fn block(number: u8) -> Block {
        Block::raw(vec![number; 100_000])
    }

    #[test]
    fn space_of_removed_blocks_comes_back() {
        let temp = tempfile::tempdir().unwrap();
        let dir = DataDir::new(temp.path());
        let blocks = open(&dir);
        let all: Vec<Block> = (0..50).map(block).collect();
        blocks.store.put_many(&all).unwrap();
        blocks.store.remove_many(&all[1..].iter().map(|block| *block.cid()).collect::<Vec<_>>()).unwrap();
        assert!(blocks.status(0)["bytes"].as_u64() > Some(5_000_000));
        assert!(blocks.compact().unwrap() > 4_800_000);
        assert!(blocks.status(0)["bytes"].as_u64() < Some(200_000));
        assert_eq!(blocks.compact().unwrap(), 0);
        drop(blocks);
        assert_eq!(open(&dir).store.get(all[0].cid()).unwrap(), Some(block(0)));
    }

    #[test]
    fn damage_is_counted_and_the_rest_is_served() {
        let temp = tempfile::tempdir().unwrap();
        let dir = DataDir::new(temp.path());
        let blocks = open(&dir);
        (0..3).for_each(|number| blocks.store.put(&block(number)).unwrap());
        assert_eq!(blocks.status(7)["damaged"], 0);
        assert_eq!(blocks.status(7)["contents"], 7);
        drop(blocks);
        let segments = fs::read_dir(dir.blocks().join("db/db")).unwrap().map(|entry| entry.unwrap().path());
        let segment = segments.into_iter().find(|path| path.extension().is_some_and(|e| e == "seg")).unwrap();
        let mut bytes = fs::read(&segment).unwrap();
        bytes[150_000] ^= 1;
        fs::write(&segment, bytes).unwrap();
        let blocks = open(&dir);
        assert_eq!(blocks.status(0)["damaged"], 1);
        let held = [0, 1, 2].map(|number| blocks.store.get(block(number).cid()).unwrap().is_some());
        assert_eq!(held, [true, false, true]);
        blocks.store.put(&block(1)).unwrap();
        assert_eq!(blocks.store.get(block(1).cid()).unwrap(), Some(block(1)));
    }
}
