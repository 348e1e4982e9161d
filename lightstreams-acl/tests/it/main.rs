//! The promises of the front page, one module each.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod contract;
mod history;
mod world;
