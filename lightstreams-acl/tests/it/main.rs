//! The promises of the front page, one module each.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod answers;
mod artifacts;
mod contract;
mod custodians;
mod gates;
mod history;
mod market;
mod names;
mod registry;
mod signatures;
mod typed_data;
mod world;
