//! What the crate promises, one module a promise.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod check;
mod clique;
mod consensus;
mod copy;
mod crash;
mod dev;
mod file;
mod genesis;
mod headers;
mod history;
mod kv;
mod native;
#[cfg(any(feature = "rpc", feature = "p2p"))]
mod network;
mod permits;
mod pool;
mod proof;
mod reorg;
#[cfg(feature = "rpc")]
mod rpc;
mod signer;
mod stops;
#[cfg(feature = "p2p")]
mod sync;
