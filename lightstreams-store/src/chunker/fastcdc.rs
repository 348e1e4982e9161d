use fastcdc::v2020::{self, FastCDC};

use super::{BadChunker, Chunker, MAX_CHUNK_LEN};

/// Cuts by content as FastCDC does in its form of 2020, level 1: near duplicates share most of their chunks.
///
/// Other importers of IPFS do not have it: the CIDs match nobody else's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FastCdcChunker {
    min: usize,
    avg: usize,
    max: usize,
}

impl FastCdcChunker {
    /// Chunks of `min` to `max` bytes and, of random data, about `avg`.
    ///
    /// All are even, `min < avg < max`; `min` is at least 64, `avg` at least 256, `max` from 1,024 to [`MAX_CHUNK_LEN`].
    pub fn new(min: usize, avg: usize, max: usize) -> Result<Self, BadChunker> {
        if min < v2020::MINIMUM_MIN || avg < v2020::AVERAGE_MIN || max < v2020::MAXIMUM_MIN {
            return Err(BadChunker::new("lengths of a FastCDC chunker begin at 64, 256 and 1024"));
        }
        if min >= avg || avg >= max {
            return Err(BadChunker::new("the lengths of a FastCDC chunker are minimum < average < maximum"));
        }
        if (min | avg | max) & 1 != 0 {
            return Err(BadChunker::new("the lengths of a FastCDC chunker are even"));
        }
        if max > MAX_CHUNK_LEN || min > v2020::MINIMUM_MAX {
            return Err(BadChunker::TOO_LONG);
        }
        Ok(Self { min, avg, max })
    }
}

impl Chunker for FastCdcChunker {
    fn max_len(&self) -> usize {
        self.max
    }

    fn cut(&mut self, bytes: &[u8]) -> usize {
        let (_, cut) = FastCDC::new(bytes, self.min, self.avg, self.max).cut(0, bytes.len());
        cut.clamp(1, bytes.len().max(1))
    }
}
