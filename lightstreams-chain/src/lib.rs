//! An embeddable Ethereum-compatible proof-of-authority chain.
//!
//! ```text
//!  raw transaction --submit--> pool --build--> block --seal (authority)--+
//!                                                                       v
//!  block of a peer --------------------------------------------------> import --one batch--> Kv
//!                                                                       |  HeaderRules: is it right, who sealed it
//!                                                                       |  revm: what does it do to the state
//!                                                                       +- ForkChoice: is it the head, what is final
//!  call, logs, receipts, state at a block <--- Chain --- observers <--- head
//! ```
//!
//! One account, one authority, one block:
//!
//! ```
//! use std::sync::Arc;
//! use lightstreams_chain::alloy_consensus::TxEip1559;
//! use lightstreams_chain::alloy_primitives::{Address, TxKind, U256};
//! use lightstreams_chain::{
//!     BlockId, BuildAttributes, Chain, Clique, DEV_ACCOUNTS, EngineKind, EngineSwitch, FeePolicy, Genesis, HeaderRules,
//!     MemoryKv, NetworkConfig, Signer, Slot,
//! };
//!
//! let authority = DEV_ACCOUNTS[0].signer()?;
//! let network = NetworkConfig {
//!     engines: vec![EngineSwitch { at: 0, engine: EngineKind::Clique }],
//!     block_period_ms: 1_000,
//!     empty_block_ms: Some(10_000),
//!     fee_policy: FeePolicy::Zero,
//!     fee_recipient: None,
//!     contracts: Default::default(),
//! };
//! // Clique's form of extra data: 32 free bytes, the authorities, room for a seal.
//! let authorities = [&[0; 32][..], authority.address().as_slice(), &[0; 65]].concat();
//! let mut genesis = Genesis::for_network(161, network, authorities.into(), 1_700_000_000)?;
//! genesis.fund(authority.address(), U256::from(1_000));
//!
//! let engine = Arc::new(Clique::for_genesis(&genesis));
//! let chain = Chain::open(genesis, Arc::new(MemoryKv::default()), engine.clone())?;
//!
//! let friend = Address::repeat_byte(0xfe);
//! let transfer = TxEip1559 {
//!     chain_id: 161,
//!     gas_limit: 21_000,
//!     to: TxKind::Call(friend),
//!     value: U256::from(7),
//!     ..Default::default()
//! };
//! chain.submit(&authority.sign_raw_transaction(transfer)?)?;
//!
//! let (parent, now) = (chain.head(), 1_700_000_001);
//! let author = authority.address();
//! let mut block =
//!     chain.build(&BuildAttributes { parent: parent.hash, author, now, with_transactions: true })?;
//! let slot = Slot::Clique { number: block.header.number, parent: parent.hash };
//! let seal = authority.sign(&slot, engine.seal_hash(&block.header))?;
//! Clique::write_seal(&mut block.header, &seal);
//! chain.import(block, now)?;
//!
//! assert_eq!(chain.state(BlockId::Latest)?.balance(friend)?, U256::from(7));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Promises.** A block is believed only when its seal was verified and every transaction in it executed here, and its
//! header says what came out. Roots, receipts and gas are Ethereum's, to Osaka: chains that go-ethereum made are
//! imported to the same hashes. What [`Chain::import`] acknowledged survives a power cut, whole: block, state, receipts
//! and look-ups are one batch of the [`Kv`]. Building and checking are the same code. States of recent blocks
//! can be read, and proven to whoever knows the block's hash ([`proof`]); a change of head leaves nothing of the other
//! branch behind. Nothing that comes from outside panics, and every queue is bounded.
//!
//! **Not here.** Clocks, threads and sockets, but in the modules behind `rpc` and `p2p`, which are components to compose; blobs,
//! ommers, withdrawals and requests under proof of authority, whose engines do not permit them ([`Permits`]); seals of proof of
//! work; keys beyond a signer in memory; content, permissions and files.
//!
//! | feature | brings |
//! |---|---|
//! | `std` | on by default; without it there is [`proof`] alone, which needs `alloc` |
//! | `parallel` | senders recovered on all cores, and beside execution, and large tries hashed on them, in the rayon pool that the caller installed; `p2p` has one of its own |
//! | `fjall` | `FjallKv`: a database in pure Rust |
//! | `rocksdb` | `RocksKv`: RocksDB, which needs a C++ compiler and libclang |
//! | `rpc` | the JSON-RPC methods as a jsonrpsee `RpcModule` |
//! | `p2p` | following the chain of peers, as a libp2p behaviour |
//! | `testing` | checks, an engine and a failing database for tests |

#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

#[cfg(feature = "std")]
mod chain;
#[cfg(feature = "std")]
mod types;

#[cfg(feature = "std")]
mod clique;
#[cfg(feature = "std")]
pub mod consensus;
#[cfg(feature = "std")]
mod engine;
#[cfg(feature = "std")]
mod genesis;
#[cfg(feature = "std")]
mod kv;
#[cfg(feature = "std")]
mod native;
#[cfg(feature = "std")]
mod pool;
#[cfg(feature = "std")]
mod signer;
#[cfg(feature = "std")]
mod state;

#[cfg(feature = "std")]
mod check;
#[cfg(feature = "std")]
mod difference;

#[cfg(feature = "std")]
mod blocks;
#[cfg(feature = "std")]
mod cache;
#[cfg(feature = "std")]
mod dao;
#[cfg(feature = "std")]
mod deposits;
#[cfg(feature = "std")]
mod execute;
#[cfg(feature = "std")]
mod rules;
#[cfg(feature = "std")]
mod senders;
#[cfg(feature = "std")]
mod tables;

#[cfg(feature = "p2p")]
pub mod p2p;
pub mod proof;
#[cfg(feature = "rpc")]
pub mod rpc;
#[cfg(feature = "testing")]
pub mod testing;

#[cfg(feature = "std")]
pub use chain::{
    Chain, ExportError, FileFault, FileProgress, ImportFileError, Options, SnapshotError, SnapshotInfo,
};
#[cfg(feature = "std")]
pub use check::{CheckReport, CheckStep, Finding, Remedy, check};
#[cfg(feature = "std")]
pub use clique::{Clique, CliqueConfig, Snapshot, Tally, Vote};
#[cfg(feature = "std")]
pub use difference::{Difference, genesis_differences};
#[cfg(feature = "std")]
pub use engine::{
    Ancestry, BlockRef, Engine, EngineError, ForkChoice, HeadInfo, HeaderRules, InvalidHeader, Permits,
};
#[cfg(feature = "std")]
pub use genesis::{EngineKind, EngineSwitch, FeePolicy, Genesis, GenesisError, NetworkConfig};
#[cfg(feature = "fjall")]
pub use kv::FjallKv;
#[cfg(feature = "rocksdb")]
pub use kv::RocksKv;
#[cfg(feature = "std")]
pub use kv::{Batch, Entry, Kv, KvError, KvView, MemoryKv, Table};
#[cfg(feature = "std")]
pub use native::{NativeCall, NativeContract, NativeError, NativeOutput};
#[cfg(feature = "std")]
pub use pool::{PoolLimits, PoolStatus, PooledTransaction, SubmitError};
#[cfg(feature = "std")]
pub use signer::{
    DEV_ACCOUNTS, DevAccount, GuardError, GuardLog, GuardedSigner, LocalSigner, MemoryGuard, Signer,
    SignerError, Slot,
};
#[cfg(feature = "std")]
pub use state::{Account, StateView};
#[cfg(feature = "std")]
pub use types::{
    Block, BlockId, BlockRlpError, BuildAttributes, BuildError, CallError, CallOutcome, CallRequest,
    HeadChange, ImportError, Imported, InvalidBlock, LogEntry, LogFilter, LogsError, MinedReceipt,
    MinedTransaction, OpenError, Receipt, StateError, Transaction, decode_block,
};

#[doc(no_inline)]
pub use alloy_consensus::{self, Header};
#[doc(no_inline)]
pub use alloy_primitives;
