//! The bytes of a record.

use crate::MAX_BLOCK_LEN;

/// What every segment begins with.
pub(super) const MAGIC: &[u8; 8] = b"LSSEG1\r\n";
/// Where its first record begins.
pub(super) const FIRST: u32 = MAGIC.len() as u32;
/// Bytes of a record before its key.
pub(super) const HEADER_LEN: usize = 14;
/// Bytes of a [`Spot`] on disk.
pub(super) const SPOT_LEN: usize = 8;
/// The longest footer, 4 MiB; a segment with more to say has none.
pub(super) const MAX_FOOTER_LEN: usize = 4 << 20;
/// Bytes of an entry of a footer before its key.
const ENTRY_LEN: usize = 6;
/// What a footer ends with, after the offset of its record.
const FOOTER_MARK: &[u8; 4] = b"LSFT";
/// Bytes of the end of a footer.
pub(super) const FOOTER_END_LEN: usize = 8;

/// Names a record: its segment, and where the bytes after its key (and after a moved record's [`Spot`]) begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Spot {
    pub(super) segment: u32,
    pub(super) offset: u32,
}

impl Spot {
    fn to_bytes(self) -> [u8; SPOT_LEN] {
        let mut bytes = [0; SPOT_LEN];
        let (segment, offset) = bytes.split_at_mut(4);
        segment.copy_from_slice(&self.segment.to_be_bytes());
        offset.copy_from_slice(&self.offset.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (segment, rest) = bytes.split_first_chunk()?;
        let (offset, rest) = rest.split_first_chunk()?;
        let spot = Self { segment: u32::from_be_bytes(*segment), offset: u32::from_be_bytes(*offset) };
        rest.is_empty().then_some(spot)
    }
}

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Here is a block.
    Put,
    /// Here is a block, and the record at the spot is void.
    Moved,
    /// The record at the spot is void.
    Tombstone,
    /// This is what the records before say; nothing follows.
    Footer,
}

impl Kind {
    fn to_byte(self) -> u8 {
        match self {
            Self::Put => 1,
            Self::Moved => 2,
            Self::Tombstone => 3,
            Self::Footer => 4,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Put, Self::Moved, Self::Tombstone, Self::Footer]
            .into_iter()
            .find(|kind| kind.to_byte() == byte)
    }

    /// Bytes of the spot that follows the key.
    fn spot_len(self) -> usize {
        match self {
            Self::Put | Self::Footer => 0,
            Self::Moved | Self::Tombstone => SPOT_LEN,
        }
    }

    fn body_fits(self, key_len: usize, len: usize) -> bool {
        match self {
            Self::Put => len <= MAX_BLOCK_LEN && key_len > 0,
            Self::Moved => (SPOT_LEN..=SPOT_LEN + MAX_BLOCK_LEN).contains(&len) && key_len > 0,
            Self::Tombstone => len == SPOT_LEN && key_len > 0,
            Self::Footer => (FOOTER_END_LEN..=MAX_FOOTER_LEN).contains(&len) && key_len == 0,
        }
    }
}

/// The fixed part of a record, which may be damaged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    sum: u32,
    pub(super) kind: Kind,
    pub(super) key_len: usize,
    /// Bytes after the key.
    pub(super) len: usize,
    /// Where the commit began that wrote the record.
    pub(super) start: u32,
}

impl Header {
    /// Reads the header at byte `at` of a segment; `None` where none can be.
    pub(super) fn parse(bytes: &[u8], at: u64) -> Option<Self> {
        let [s0, s1, s2, s3, kind, key_len, l0, l1, l2, l3, b0, b1, b2, b3] =
            *bytes.first_chunk::<HEADER_LEN>()?;
        let (kind, key_len) = (Kind::from_byte(kind)?, usize::from(key_len));
        let len = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        let start = u32::from_be_bytes([b0, b1, b2, b3]);
        let fits = kind.body_fits(key_len, len) && start >= FIRST && u64::from(start) <= at;
        fits.then_some(Self { sum: u32::from_be_bytes([s0, s1, s2, s3]), kind, key_len, len, start })
    }

    /// Bytes of the whole record.
    pub(super) fn size(&self) -> usize {
        HEADER_LEN + self.key_len + self.len
    }
}

/// A record, or an entry of a footer, which is one without data.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) kind: Kind,
    pub(super) key: &'a [u8],
    /// What it makes void.
    pub(super) target: Option<Spot>,
    pub(super) data: &'a [u8],
    /// Bytes of data.
    pub(super) data_len: u32,
}

impl<'a> Record<'a> {
    /// Reads the record of which `header` is the beginning and `rest` what follows; `None` if it is damaged.
    pub(super) fn parse(header: &Header, rest: &'a [u8], salt: u32) -> Option<Self> {
        let (key, body) = rest.split_at_checked(header.key_len)?;
        if body.len() != header.len {
            return None;
        }
        let sum = fixed_sum(header.kind, key, header.len as u32);
        if seal(crc32c::crc32c_append(sum, body), header.start, salt) != header.sum {
            return None;
        }
        let (spot, data) = body.split_at_checked(header.kind.spot_len())?;
        let target = if spot.is_empty() { None } else { Some(Spot::from_bytes(spot)?) };
        Some(Self { kind: header.kind, key, target, data, data_len: data.len() as u32 })
    }

    /// Reads one entry of a footer; returns it and the rest.
    fn from_footer(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let ([kind, key_len, l0, l1, l2, l3], rest) = bytes.split_first_chunk::<ENTRY_LEN>()?;
        let kind = Kind::from_byte(*kind)?;
        let (key, rest) = rest.split_at_checked(usize::from(*key_len))?;
        let (spot, rest) = rest.split_at_checked(kind.spot_len())?;
        let data_len = u32::from_be_bytes([*l0, *l1, *l2, *l3]);
        let target = if spot.is_empty() { None } else { Some(Spot::from_bytes(spot)?) };
        Some((Self { kind, key, target, data: &[], data_len }, rest))
    }

    /// Bytes of the whole record.
    pub(super) fn size(&self) -> u32 {
        self.data_at() + self.data_len
    }

    /// Bytes from the start of the record to those that its [`Spot`] names.
    pub(super) fn data_at(&self) -> u32 {
        (HEADER_LEN + self.key.len() + self.kind.spot_len()) as u32
    }

    /// Appends its entry to `footer`.
    pub(super) fn push_entry(&self, footer: &mut Vec<u8>) {
        footer.extend_from_slice(&[self.kind.to_byte(), self.key.len() as u8]);
        footer.extend_from_slice(&self.data_len.to_be_bytes());
        footer.extend_from_slice(self.key);
        if let Some(target) = self.target {
            footer.extend_from_slice(&target.to_bytes());
        }
    }

    /// The checksum of all that does not depend on where the record will stand.
    pub(super) fn sum(&self) -> u32 {
        let len = (self.kind.spot_len() + self.data.len()) as u32;
        let mut sum = fixed_sum(self.kind, self.key, len);
        if let Some(target) = self.target {
            sum = crc32c::crc32c_append(sum, &target.to_bytes());
        }
        crc32c::crc32c_append(sum, self.data)
    }

    /// Appends all but the data to `out`: the record belongs to the commit that begins at `start`, and `sum` is its
    /// [`sum`](Self::sum).
    pub(super) fn push_head(&self, sum: u32, start: u32, salt: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&seal(sum, start, salt).to_be_bytes());
        out.extend_from_slice(&[self.kind.to_byte(), self.key.len() as u8]);
        out.extend_from_slice(&((self.kind.spot_len() + self.data.len()) as u32).to_be_bytes());
        out.extend_from_slice(&start.to_be_bytes());
        out.extend_from_slice(self.key);
        if let Some(target) = self.target {
            out.extend_from_slice(&target.to_bytes());
        }
    }
}

/// The footer record, to stand at `at`, for `entries`.
pub(super) fn footer(mut entries: Vec<u8>, at: u32, salt: u32) -> Vec<u8> {
    entries.extend_from_slice(&at.to_be_bytes());
    entries.extend_from_slice(FOOTER_MARK);
    let record =
        Record { kind: Kind::Footer, key: &[], target: None, data: &entries, data_len: entries.len() as u32 };
    let mut bytes = Vec::with_capacity(HEADER_LEN + entries.len());
    record.push_head(record.sum(), at, salt, &mut bytes);
    bytes.extend_from_slice(&entries);
    bytes
}

/// Where the footer begins of a segment that ends with `end`.
pub(super) fn footer_at(end: &[u8]) -> Option<u32> {
    let (at, mark) = end.split_first_chunk()?;
    (mark == FOOTER_MARK).then(|| u32::from_be_bytes(*at))
}

/// The entries of a footer's data, in order; `None` where one cannot be read.
pub(super) fn footer_entries(data: &[u8]) -> impl Iterator<Item = Option<Record<'_>>> {
    let mut rest = data.get(..data.len().saturating_sub(FOOTER_END_LEN)).unwrap_or_default();
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let entry = Record::from_footer(rest);
        rest = entry.map(|(_, rest)| rest).unwrap_or_default();
        Some(entry.map(|(entry, _)| entry))
    })
}

fn fixed_sum(kind: Kind, key: &[u8], len: u32) -> u32 {
    let [l0, l1, l2, l3] = len.to_be_bytes();
    let sum = crc32c::crc32c(&[kind.to_byte(), key.len() as u8, l0, l1, l2, l3]);
    crc32c::crc32c_append(sum, key)
}

fn seal(sum: u32, start: u32, salt: u32) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(sum, &start.to_be_bytes()), &salt.to_be_bytes())
}
