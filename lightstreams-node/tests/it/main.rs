//! What the node promises, held against the real libraries and real processes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod api;
mod chain;
mod crash;
mod follow;
mod full;
mod shell;
mod start;
mod support;
mod vault;
mod wallets;
