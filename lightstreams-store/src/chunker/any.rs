use std::str::FromStr;

#[cfg(feature = "fastcdc")]
use super::FastCdcChunker;
use super::{BuzhashChunker, Chunker, EnvelopeChunker, FixedChunker, RabinChunker};

/// A chunker chosen at run time, or by its name.
///
/// | Name | Cuts |
/// |---|---|
/// | `size-N` | every N bytes |
/// | `rabin`, `rabin-AVG`, `rabin-MIN-AVG-MAX` | [`RabinChunker`]; the parts may be labelled: `rabin-min:16-avg:32-max:64` |
/// | `buzhash` | [`BuzhashChunker`] |
/// | `envelope`, `envelope-K` | [`EnvelopeChunker`] |
/// | `fastcdc-MIN-AVG-MAX` | `FastCdcChunker`, with the feature `fastcdc` |
///
/// The first three are Kubo's names.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnyChunker {
    /// Every so many bytes.
    Fixed(FixedChunker),
    /// By content, with Rabin fingerprints.
    Rabin(RabinChunker),
    /// By content, with a cyclic hash.
    Buzhash(BuzhashChunker),
    /// Every few encrypted chunks.
    Envelope(EnvelopeChunker),
    /// By content, with a gear hash.
    #[cfg(feature = "fastcdc")]
    FastCdc(FastCdcChunker),
}

impl Chunker for AnyChunker {
    fn max_len(&self) -> usize {
        match self {
            Self::Fixed(chunker) => chunker.max_len(),
            Self::Rabin(chunker) => chunker.max_len(),
            Self::Buzhash(chunker) => chunker.max_len(),
            Self::Envelope(chunker) => chunker.max_len(),
            #[cfg(feature = "fastcdc")]
            Self::FastCdc(chunker) => chunker.max_len(),
        }
    }

    fn cut(&mut self, bytes: &[u8]) -> usize {
        match self {
            Self::Fixed(chunker) => chunker.cut(bytes),
            Self::Rabin(chunker) => chunker.cut(bytes),
            Self::Buzhash(chunker) => chunker.cut(bytes),
            Self::Envelope(chunker) => chunker.cut(bytes),
            #[cfg(feature = "fastcdc")]
            Self::FastCdc(chunker) => chunker.cut(bytes),
        }
    }
}

impl FromStr for AnyChunker {
    type Err = BadChunker;

    fn from_str(name: &str) -> Result<Self, BadChunker> {
        let parts: Vec<&str> = name.split('-').collect();
        match parts.as_slice() {
            ["size", len] => {
                let chunker = FixedChunker::new(number(len)?);
                chunker.map(Self::Fixed).ok_or(BadChunker::new("a fixed length is from 1 to 2096896 bytes"))
            }
            ["rabin"] => Ok(Self::Rabin(RabinChunker::default())),
            ["rabin", avg] => RabinChunker::with_average(number(avg)?).map(Self::Rabin),
            ["rabin", min, avg, max] => {
                let (min, avg, max) = (labelled("min", min)?, labelled("avg", avg)?, labelled("max", max)?);
                RabinChunker::new(min, avg, max).map(Self::Rabin)
            }
            ["buzhash"] => Ok(Self::Buzhash(BuzhashChunker)),
            ["envelope"] => Ok(Self::Envelope(EnvelopeChunker::default())),
            ["envelope", k] => {
                let chunker = k.parse().ok().and_then(EnvelopeChunker::new);
                chunker.map(Self::Envelope).ok_or(BadChunker::new("encrypted chunks per leaf are 1, 4 or 15"))
            }
            #[cfg(feature = "fastcdc")]
            ["fastcdc", min, avg, max] => {
                FastCdcChunker::new(number(min)?, number(avg)?, number(max)?).map(Self::FastCdc)
            }
            _ => Err(BadChunker::new("no chunker has this name")),
        }
    }
}

fn labelled(label: &str, text: &str) -> Result<usize, BadChunker> {
    number(text.strip_prefix(label).and_then(|text| text.strip_prefix(':')).unwrap_or(text))
}

fn number(text: &str) -> Result<usize, BadChunker> {
    text.parse().map_err(|_| BadChunker::new("a length is no number"))
}

/// Why there is no such chunker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct BadChunker {
    reason: &'static str,
}

impl BadChunker {
    pub(crate) const TOO_LONG: Self = Self::new("no chunk may exceed 2096896 bytes");

    pub(crate) const fn new(reason: &'static str) -> Self {
        Self { reason }
    }
}
