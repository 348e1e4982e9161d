//! What several modules need.

use std::{
    env, fs,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
};

use lightstreams_store::{Block, BlockSource, BlockStore, Cid, MemoryStore, StoreError};
use serde_json::Value;

/// The folder of vectors `suite`, or `None`, with a line that says so, where it is absent.
pub(crate) fn vectors(suite: &str) -> Option<PathBuf> {
    let root = match env::var_os("LIGHTSTREAMS_VECTORS") {
        Some(root) => PathBuf::from(root),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors"),
    };
    let folder = root.join(suite);
    if folder.is_dir() {
        return Some(folder);
    }
    let required = env::var_os("LIGHTSTREAMS_REQUIRE_TOOLS").is_some_and(|value| value == "1");
    assert!(!(required && root.is_dir()), "the vectors lack {suite}");
    println!("no vectors {suite}: skipped");
    None
}

pub(crate) fn json(path: PathBuf) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// A store that counts what is read from it.
#[derive(Default)]
pub(crate) struct Counting {
    pub(crate) store: MemoryStore,
    reads: AtomicUsize,
}

impl Counting {
    /// Reads since the last call.
    pub(crate) fn reads(&self) -> usize {
        self.reads.swap(0, Ordering::Relaxed)
    }
}

impl BlockSource for &Counting {
    fn block(&self, cid: &Cid) -> Result<Option<Block>, StoreError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.store.get(cid)
    }
}
