use super::{BadChunker, Chunker, MAX_CHUNK_LEN};

/// Cuts where the Rabin fingerprint of the last 16 bytes ends in zero bits: Kubo's `rabin`.
///
/// Rules and polynomial are those of ipfs/boxo `chunker/rabin.go` and whyrusleeping/chunker; Kubo keeps the right to
/// change them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RabinChunker {
    min: usize,
    max: usize,
    mask: u64,
}

const POLYNOMIAL: u64 = 17_437_180_132_763_653;
const DEGREE: u32 = 53;
const WINDOW: usize = 16;

impl RabinChunker {
    /// Chunks of `min` to `max` bytes and, of random data, about `avg` above `min`.
    ///
    /// `min` is at least 16, `min < avg < max`, `max` at most [`MAX_CHUNK_LEN`].
    pub fn new(min: usize, avg: usize, max: usize) -> Result<Self, BadChunker> {
        if min < WINDOW {
            return Err(BadChunker::new("a rabin chunker cuts no chunks shorter than 16 bytes"));
        }
        if min >= avg || avg >= max {
            return Err(BadChunker::new("the lengths of a rabin chunker are minimum < average < maximum"));
        }
        if max > MAX_CHUNK_LEN {
            return Err(BadChunker::TOO_LONG);
        }
        Ok(Self { min, max, mask: (1 << avg.ilog2()) - 1 })
    }

    /// Chunks of a third of `avg` to one and a half times `avg`.
    pub fn with_average(avg: usize) -> Result<Self, BadChunker> {
        Self::new(avg / 3, avg, avg.saturating_add(avg / 2))
    }
}

impl Default for RabinChunker {
    /// The average is 256 KiB.
    fn default() -> Self {
        Self { min: 87_381, max: 393_216, mask: (256 << 10) - 1 }
    }
}

impl Chunker for RabinChunker {
    fn max_len(&self) -> usize {
        self.max
    }

    fn cut(&mut self, bytes: &[u8]) -> usize {
        // A chunk begins with the window 0, .., 0, 1; but for the last window of it, the minimum is not looked at.
        let skipped = self.min - WINDOW;
        let Some(rest) = bytes.get(skipped..) else { return bytes.len() };
        let mut window = [0; WINDOW];
        window[WINDOW - 1] = 1;
        let outgoing = window.iter().chain(rest);
        let mut digest = 1;
        for (len, (&old, &new)) in (skipped + 1..).zip(outgoing.zip(rest)) {
            digest = slide(digest, old, new);
            if len >= self.min && (digest & self.mask == 0 || len >= self.max) {
                return len;
            }
        }
        bytes.len()
    }
}

/// The fingerprint with `old` out of the window and `new` in it.
fn slide(digest: u64, old: u8, new: u8) -> u64 {
    let at = |table: &[u64; 256], byte: u8| table.get(usize::from(byte)).copied().unwrap_or_default();
    let digest = digest ^ at(&TABLES.leaving, old);
    ((digest << 8) | u64::from(new)) ^ at(&TABLES.reduction, (digest >> (DEGREE - 8)) as u8)
}

struct Tables {
    /// The fingerprint of a byte with a window less one of zeros behind it.
    leaving: [u64; 256],
    /// What takes eight bits above the degree away and adds what they are modulo the polynomial.
    reduction: [u64; 256],
}

static TABLES: Tables = tables();

#[allow(clippy::indexing_slicing, reason = "the compiler computes it, and would notice")]
const fn tables() -> Tables {
    let mut tables = Tables { leaving: [0; 256], reduction: [0; 256] };
    let mut byte = 0;
    while byte < 256 {
        let mut fingerprint = modulo(byte as u64);
        let mut zeros = 1;
        while zeros < WINDOW {
            fingerprint = modulo(fingerprint << 8);
            zeros += 1;
        }
        tables.leaving[byte] = fingerprint;
        let above = (byte as u64) << DEGREE;
        tables.reduction[byte] = modulo(above) | above;
        byte += 1;
    }
    tables
}

/// The remainder of a polynomial over two elements.
const fn modulo(mut value: u64) -> u64 {
    while value >> DEGREE != 0 {
        let degree = 63 - value.leading_zeros();
        value ^= POLYNOMIAL << (degree - DEGREE);
    }
    value
}
