//! What the crate promises, one module a promise.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod clique;
mod consensus;
mod dev;
mod headers;
#[cfg(any(feature = "rpc", feature = "p2p"))]
mod network;
#[cfg(feature = "rpc")]
mod rpc;
mod signer;
#[cfg(feature = "p2p")]
mod sync;
mod vectors;
