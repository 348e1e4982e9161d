//! One module for each promise of the front page.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod block;
mod car;
mod contract;
mod file;
mod log;
mod payload;
mod reader;
mod support;
mod vectors;
