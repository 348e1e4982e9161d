//! One module for each promise of the front page.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[cfg(feature = "p2p")]
mod bitswap;
mod block;
mod car;
mod car_v2;
mod codec;
mod contract;
mod crash;
mod dag;
mod file;
#[cfg(feature = "fjall")]
mod fjall_torn;
mod folder;
#[cfg(feature = "gateway")]
mod gateway;
#[cfg(feature = "ipns")]
mod ipns;
mod log;
#[cfg(any(feature = "p2p", feature = "rpc"))]
mod npm;
#[cfg(feature = "objects")]
mod objects;
mod payload;
mod pins;
mod reader;
mod routing;
#[cfg(feature = "rpc")]
mod rpc;
#[cfg(feature = "rpc")]
mod rpc_client;
mod segments;
mod support;
mod threads;
mod unixfs;
mod vectors;
