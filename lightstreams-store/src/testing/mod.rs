//! The checks that we hold our own implementations of the seams to, and a disk that fails.
//!
//! ```
//! use lightstreams_store::{MemoryStore, testing::check_block_store};
//! check_block_store(&MemoryStore::default());
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a check that fails panics"
)]

mod block_store;
mod crash;
mod disk;
mod disk_check;
mod exchange;
mod quota;
mod race;

pub use self::{
    block_store::{check_block_store, check_reopened_block_store},
    crash::{check_cut_block_store, check_killed_block_store},
    disk::FaultyDisk,
    disk_check::check_disk,
    exchange::check_exchange,
    quota::check_full_block_store,
    race::check_racing_block_store,
};
use crate::Block;

/// A deterministic source of bytes for fixtures (SplitMix64): no cryptography.
#[derive(Debug, Clone)]
pub struct Seeded(u64);

impl Seeded {
    /// Starts from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }

    /// `len` bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next_u64().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }

    /// A raw block of `len` bytes.
    pub fn block(&mut self, len: usize) -> Block {
        Block::raw(self.bytes(len))
    }
}
