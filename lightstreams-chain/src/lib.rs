//! An embeddable Ethereum-compatible proof-of-authority chain.

mod engine;
mod kv;

pub use engine::{Ancestry, BlockRef, Engine, EngineError, ForkChoice, HeadInfo, HeaderRules, InvalidHeader};
#[cfg(any())]
pub use kv::FjallKv;
#[cfg(any())]
pub use kv::RocksKv;
pub use kv::{Batch, Entry, Kv, KvError, MemoryKv, Table};
