//! Where a file is cut.

mod any;
mod buzhash;
#[cfg(feature = "fastcdc")]
mod fastcdc;
mod rabin;

pub use any::{AnyChunker, BadChunker};
pub use buzhash::BuzhashChunker;
#[cfg(feature = "fastcdc")]
pub use fastcdc::FastCdcChunker;
pub use rabin::RabinChunker;

use crate::MAX_BLOCK_LEN;

/// The longest chunk: a block, less room for the node that may wrap it.
pub const MAX_CHUNK_LEN: usize = MAX_BLOCK_LEN - 256;

/// Cuts a stream of bytes into chunks.
///
/// Where it cuts depends on its settings and on the bytes alone: same bytes and settings, same chunks, on every
/// machine.
pub trait Chunker: Send {
    /// The length of the longest chunk this makes, in `1..=MAX_CHUNK_LEN`.
    fn max_len(&self) -> usize;

    /// The length of the first chunk of `bytes`, in `1..=bytes.len()`.
    ///
    /// `bytes` is what follows the last cut: exactly [`max_len`](Self::max_len) bytes, or fewer, but at least one, if the stream ends with
    /// them.
    fn cut(&mut self, bytes: &[u8]) -> usize;
}

/// Cuts every `n` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FixedChunker(usize);

impl FixedChunker {
    /// Chunks of 1 MiB, as the profile `unixfs-v1-2025` says.
    pub const V1_2025: Self = Self(1 << 20);
    /// Chunks of 256 KiB, as Kubo cuts unless told otherwise.
    pub const KUBO: Self = Self(256 << 10);

    /// Chunks of `len` bytes; `None` if that is not in `1..=MAX_CHUNK_LEN`.
    pub fn new(len: usize) -> Option<Self> {
        (1..=MAX_CHUNK_LEN).contains(&len).then_some(Self(len))
    }
}

impl Chunker for FixedChunker {
    fn max_len(&self) -> usize {
        self.0
    }

    fn cut(&mut self, bytes: &[u8]) -> usize {
        bytes.len().min(self.0)
    }
}

/// Bytes of one full encrypted chunk: 64 KiB and a tag of 16 bytes.
pub const SEALED_CHUNK_LEN: u64 = PLAIN_CHUNK_LEN + TAG_LEN;
/// Bytes of plaintext in one full encrypted chunk.
pub const PLAIN_CHUNK_LEN: u64 = 65_536;
/// Bytes that encryption adds to each chunk.
pub(crate) const TAG_LEN: u64 = 16;

/// Cuts an encrypted payload every `k` whole chunks of 65,552 bytes, so that a leaf decrypts alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnvelopeChunker(u8);

impl EnvelopeChunker {
    /// Leaves of `k` encrypted chunks; `None` unless `k` is 1, 4 or 15.
    pub fn new(k: u8) -> Option<Self> {
        matches!(k, 1 | 4 | 15).then_some(Self(k))
    }

    /// Encrypted chunks per leaf.
    pub fn k(&self) -> u8 {
        self.0
    }
}

impl Default for EnvelopeChunker {
    /// Four encrypted chunks per leaf.
    fn default() -> Self {
        Self(4)
    }
}

impl Chunker for EnvelopeChunker {
    fn max_len(&self) -> usize {
        usize::from(self.0) * SEALED_CHUNK_LEN as usize
    }

    fn cut(&mut self, bytes: &[u8]) -> usize {
        bytes.len().min(self.max_len())
    }
}
