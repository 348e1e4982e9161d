//! The index of version 2: found by bisection in the file itself, so that memory holds its buckets only.

use std::{
    cmp::Ordering,
    collections::HashMap,
    io::{self, Write},
};

use multihash::Multihash;

use super::{CarError, ReadAt, file::fill, malformed};
use crate::varint;

/// Multicodecs of the two forms.
const SORTED: u64 = 0x0400;
const SORTED_BY_CODE: u64 = 0x0401;

/// Bytes of an offset in an entry.
const OFFSET_LEN: u64 = 8;
/// The widest entry: a digest of 128 bytes.
const MAX_WIDTH: u64 = 128 + OFFSET_LEN;
/// The most buckets; a writer makes one for each hash function and length of digest.
const MAX_BUCKETS: usize = 1024;
/// The most entries of one digest that are looked at.
const MAX_SAME: usize = 1024;

/// The hash of a block, and its section's offset in the data.
pub(super) type Entry = (Multihash<64>, u64);

/// Writes the index of `entries`, which are sorted for it.
pub(super) fn write(out: &mut impl Write, entries: &mut [Entry]) -> io::Result<()> {
    entries.sort_by(|(a, a_at), (b, b_at)| {
        (a.code(), a.size(), a.digest(), a_at).cmp(&(b.code(), b.size(), b.digest(), b_at))
    });
    let mut head = Vec::new();
    varint::put(&mut head, SORTED_BY_CODE);
    let codes: Vec<&[Entry]> = entries.chunk_by(|(a, _), (b, _)| a.code() == b.code()).collect();
    head.extend((codes.len() as u32).to_le_bytes());
    out.write_all(&head)?;
    for of_code in codes {
        let widths: Vec<&[Entry]> = of_code.chunk_by(|(a, _), (b, _)| a.size() == b.size()).collect();
        let code = of_code.first().map_or(0, |(hash, _)| hash.code());
        out.write_all(&code.to_le_bytes())?;
        out.write_all(&(widths.len() as u32).to_le_bytes())?;
        for bucket in widths {
            let width = OFFSET_LEN + bucket.first().map_or(0, |(hash, _)| u64::from(hash.size()));
            out.write_all(&(width as u32).to_le_bytes())?;
            out.write_all(&(width * bucket.len() as u64).to_le_bytes())?;
            for (hash, offset) in bucket {
                out.write_all(hash.digest())?;
                out.write_all(&offset.to_le_bytes())?;
            }
        }
    }
    Ok(())
}

/// Where the sections of a file are.
#[derive(Debug)]
pub(super) enum Index {
    /// As the file says.
    File(Vec<Bucket>),
    /// As was found by going through a file that does not say.
    Memory(HashMap<Vec<u8>, u64>),
}

/// Entries of one width, sorted by digest.
#[derive(Debug)]
pub(super) struct Bucket {
    /// The hash function; the older form does not tell them apart.
    code: Option<u64>,
    width: u64,
    at: u64,
    entries: u64,
}

impl Index {
    /// Reads the buckets of the index at `at`; `None` if it has a form that is not known.
    pub(super) fn read(source: &impl ReadAt, at: u64, end: u64) -> Result<Option<Self>, CarError> {
        let mut input = Input { source, at, end };
        let codec = input.varint()?;
        let mut buckets = Vec::new();
        match codec {
            SORTED => input.widths(None, &mut buckets)?,
            SORTED_BY_CODE => {
                for _ in 0..input.u32()? {
                    let code = input.u64()?;
                    input.widths(Some(code), &mut buckets)?;
                }
            }
            _ => return Ok(None),
        }
        if input.at != end {
            return malformed(input.at, "bytes follow the index");
        }
        Ok(Some(Self::File(buckets)))
    }

    /// Number of entries in the file.
    pub(super) fn entries(&self) -> u64 {
        match self {
            Self::File(buckets) => buckets.iter().map(|bucket| bucket.entries).sum(),
            Self::Memory(map) => map.len() as u64,
        }
    }

    /// Offsets at which the block of this hash may be; the older form may name another hash function's with the same
    /// digest.
    pub(super) fn find(&self, source: &impl ReadAt, hash: &Multihash<64>) -> Result<Vec<u64>, CarError> {
        let buckets = match self {
            Self::Memory(map) => return Ok(map.get(&hash.to_bytes()).copied().into_iter().collect()),
            Self::File(buckets) => buckets,
        };
        let mut found = Vec::new();
        for bucket in buckets {
            let fits = bucket.code.is_none_or(|code| code == hash.code());
            if fits && bucket.width == hash.digest().len() as u64 + OFFSET_LEN {
                bucket.find(source, hash.digest(), &mut found)?;
            }
        }
        Ok(found)
    }

    /// Whether entries tell hash functions apart, so that a digest names one block.
    pub(super) fn is_exact(&self) -> bool {
        match self {
            Self::Memory(_) => true,
            Self::File(buckets) => buckets.iter().all(|bucket| bucket.code.is_some()),
        }
    }
}

impl Bucket {
    fn find(&self, source: &impl ReadAt, digest: &[u8], found: &mut Vec<u64>) -> Result<(), CarError> {
        let (mut low, mut high) = (0, self.entries);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.entry(source, middle)?.0.as_slice().cmp(digest) {
                Ordering::Less => low = middle + 1,
                _ => high = middle,
            }
        }
        for i in low..self.entries {
            let (here, offset) = self.entry(source, i)?;
            if here != digest {
                break;
            }
            if found.len() == MAX_SAME {
                return Err(CarError::Index { at: offset, reason: "too many entries have one digest" });
            }
            found.push(offset);
        }
        Ok(())
    }

    fn entry(&self, source: &impl ReadAt, i: u64) -> Result<(Vec<u8>, u64), CarError> {
        let at = self.at + i * self.width;
        let mut entry = vec![0; self.width as usize];
        if fill(source, at, &mut entry)? < entry.len() {
            return malformed(at, "the index is cut off");
        }
        let offset = entry.split_off(entry.len() - OFFSET_LEN as usize);
        Ok((entry, u64::from_le_bytes(offset.try_into().unwrap_or_default())))
    }
}

/// The head of an index, read in steps.
struct Input<'a, S> {
    source: &'a S,
    at: u64,
    end: u64,
}

impl<S: ReadAt> Input<'_, S> {
    fn widths(&mut self, code: Option<u64>, buckets: &mut Vec<Bucket>) -> Result<(), CarError> {
        for _ in 0..self.u32()? {
            let start = self.at;
            let (width, bytes) = (u64::from(self.u32()?), self.u64()?);
            if !(OFFSET_LEN..=MAX_WIDTH).contains(&width) || bytes % width != 0 {
                return malformed(start, "entries of the index have an impossible width");
            }
            if bytes > self.end - self.at {
                return malformed(start, "the index is cut off");
            }
            if buckets.len() == MAX_BUCKETS {
                return malformed(start, "the index has too many buckets");
            }
            buckets.push(Bucket { code, width, at: self.at, entries: bytes / width });
            self.at += bytes;
        }
        Ok(())
    }

    fn varint(&mut self) -> Result<u64, CarError> {
        let start = self.at;
        let mut bytes = Vec::with_capacity(10);
        while bytes.last().is_none_or(|byte| byte & 0x80 != 0) {
            if bytes.len() == 10 {
                return malformed(start, "the codec of the index is malformed");
            }
            bytes.extend(self.take::<1>()?);
        }
        varint::take(&mut &bytes[..])
            .ok_or(CarError::Malformed { at: start, reason: "the codec of the index is malformed" })
    }

    fn u32(&mut self) -> Result<u32, CarError> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, CarError> {
        self.take().map(u64::from_le_bytes)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], CarError> {
        let mut bytes = [0; N];
        if self.end.saturating_sub(self.at) < N as u64 || fill(self.source, self.at, &mut bytes)? < N {
            return malformed(self.at, "the index is cut off");
        }
        self.at += N as u64;
        Ok(bytes)
    }
}
