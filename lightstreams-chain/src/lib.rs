//! An embeddable Ethereum-compatible proof-of-authority chain.

mod cache;
mod chain;
mod types;

mod clique;
pub mod consensus;
mod engine;
mod genesis;
mod kv;
mod pool;
mod signer;
mod state;

mod blocks;
mod execute;
mod rules;
mod tables;

#[cfg(feature = "p2p")]
pub mod p2p;
#[cfg(feature = "rpc")]
pub mod rpc;
#[cfg(feature = "testing")]
pub mod testing;

pub use chain::{Chain, Options};
pub use clique::{Clique, CliqueConfig, Snapshot, Tally, Vote};
pub use engine::{Ancestry, BlockRef, Engine, EngineError, ForkChoice, HeadInfo, HeaderRules, InvalidHeader};
pub use genesis::{EngineKind, EngineSwitch, FeePolicy, Genesis, GenesisError, NetworkConfig};
#[cfg(feature = "fjall")]
pub use kv::FjallKv;
#[cfg(feature = "rocksdb")]
pub use kv::RocksKv;
pub use kv::{Batch, Entry, Kv, KvError, MemoryKv, Table};
pub use pool::{PoolLimits, PoolStatus, PooledTransaction, SubmitError};
pub use signer::{
    DEV_ACCOUNTS, DevAccount, GuardError, GuardLog, GuardedSigner, LocalSigner, MemoryGuard, Signer,
    SignerError, Slot,
};
pub use state::{Account, StateView};
pub use types::{
    Block, BlockId, BlockRlpError, BuildAttributes, BuildError, CallError, CallOutcome, CallRequest,
    HeadChange, ImportError, Imported, InvalidBlock, LogEntry, LogFilter, LogsError, MinedReceipt,
    MinedTransaction, OpenError, Receipt, StateError, Transaction, decode_block,
};

#[doc(no_inline)]
pub use alloy_consensus::{self, Header};
#[doc(no_inline)]
pub use alloy_primitives;
