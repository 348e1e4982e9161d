//! What the crate promises, one module a promise.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod clique;
mod consensus;
mod dev;
mod headers;
mod signer;
mod vectors;
