//! Reading a segment from its front.

use std::io;

use super::{
    SegmentError,
    record::{FIRST, FOOTER_END_LEN, Header, Kind, MAGIC, Record, Spot, footer_at, footer_entries},
};
use crate::DiskFile;

/// Bytes read at once.
const READ_LEN: usize = 1 << 20;

/// A segment's name: `number-salt.seg`, both in eight hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) number: u32,
    pub(super) salt: u32,
}

impl Name {
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (number, salt) = name.strip_suffix(".seg")?.split_once('-')?;
        let name_of =
            Self { number: u32::from_str_radix(number, 16).ok()?, salt: u32::from_str_radix(salt, 16).ok()? };
        (name_of.to_string() == name).then_some(name_of)
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08x}-{:08x}.seg", self.number, self.salt)
    }
}

/// What was found in a segment.
#[derive(Debug)]
pub(super) struct Scanned {
    /// Where the last sound record ends.
    pub(super) end: u64,
    /// Whether a footer ends it.
    pub(super) sealed: bool,
    /// Where damaged records begin.
    pub(super) damaged: Vec<Spot>,
}

type Visit<'a> = dyn FnMut(u32, &Record<'_>) -> Result<(), SegmentError> + 'a;

/// Visits what the records of a segment say, in order, each with the byte at which it begins; without their data, if there is
/// a footer to read instead.
pub(super) fn load(
    file: &dyn DiskFile,
    name: Name,
    last: bool,
    visit: &mut Visit<'_>,
) -> Result<Scanned, SegmentError> {
    let mut window = Window::new(name, file)?;
    let len = window.len;
    let end = window.bytes(len.saturating_sub(FOOTER_END_LEN as u64), FOOTER_END_LEN)?;
    if let Some(at) = footer_at(end).map(u64::from)
        && let Some(footer) = window.record(at, 0)?
        && footer.kind == Kind::Footer
        && at + u64::from(footer.size()) == len
    {
        let mut at = FIRST;
        for entry in footer_entries(footer.data) {
            let damaged = SegmentError::Damaged { segment: name.number, offset: at };
            let entry = entry.ok_or(damaged.clone())?;
            visit(at, &entry)?;
            at = at.checked_add(entry.size()).ok_or(damaged)?;
        }
        return Ok(Scanned { end: len, sealed: true, damaged: Vec::new() });
    }
    scan(file, name, last, visit)
}

/// Visits the sound records of a segment, in order, each with the byte at which it begins.
///
/// In the `last` segment an unsound record that no later commit follows is the rest of one that was never
/// acknowledged, and everything ends before it. Every other is damage, behind which the scan goes on.
pub(super) fn scan(
    file: &dyn DiskFile,
    name: Name,
    last: bool,
    visit: &mut Visit<'_>,
) -> Result<Scanned, SegmentError> {
    let mut window = Window::new(name, file)?;
    let len = window.len;
    let mut found = Scanned { end: FIRST.into(), sealed: false, damaged: Vec::new() };
    let spot = |at: u64| Spot { segment: name.number, offset: at as u32 };
    let sound_magic = window.bytes(0, MAGIC.len())? == MAGIC;
    let mut at = u64::from(FIRST);
    while at < len {
        if let Some(record) = window.record(at, 0)? {
            let size = record.size();
            if record.kind == Kind::Footer {
                found.sealed = at + u64::from(size) == len;
            } else {
                visit(at as u32, &record)?;
            }
            at += u64::from(size);
            found.end = at;
            continue;
        }
        // A sound record of a later commit proves that this one was acknowledged.
        if last && window.next_sound(at, at + 1)?.is_none() {
            break;
        }
        found.damaged.push(spot(at));
        match window.next_sound(at, 0)? {
            Some(next) => at = next,
            None => break,
        }
    }
    // The magic of a new segment is synced together with its first commit.
    if !sound_magic && found.end > u64::from(FIRST) {
        found.damaged.push(spot(0));
    }
    Ok(found)
}

/// The part of a segment that was read last.
struct Window<'a> {
    file: &'a dyn DiskFile,
    salt: u32,
    len: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    /// On the first 4 GiB, which is more than a segment has.
    fn new(name: Name, file: &'a dyn DiskFile) -> io::Result<Self> {
        let len = file.len()?.min(u32::MAX.into());
        Ok(Self { file, salt: name.salt, len, start: 0, bytes: Vec::new() })
    }

    /// The record at `at`, if there is a sound one whose commit began at `earliest` or after it.
    fn record(&mut self, at: u64, earliest: u64) -> io::Result<Option<Record<'_>>> {
        let Some(header) = self.header(at)?.filter(|header| u64::from(header.start) >= earliest) else {
            return Ok(None);
        };
        let body = header.size() - super::record::HEADER_LEN;
        let salt = self.salt;
        let rest = self.bytes(at + super::record::HEADER_LEN as u64, body)?;
        Ok(Record::parse(&header, rest, salt))
    }

    fn header(&mut self, at: u64) -> io::Result<Option<Header>> {
        let header = Header::parse(self.bytes(at, super::record::HEADER_LEN)?, at);
        Ok(header.filter(|header| at + header.size() as u64 <= self.len))
    }

    /// Where the next sound record begins behind the unsound one at `at`.
    fn next_sound(&mut self, at: u64, earliest: u64) -> io::Result<Option<u64>> {
        // Mostly only the data is damaged, and the header says where the next record is.
        if let Some(header) = self.header(at)? {
            let next = at + header.size() as u64;
            if self.record(next, earliest)?.is_some() {
                return Ok(Some(next));
            }
        }
        for next in at + 1..self.len {
            if self.record(next, earliest)?.is_some() {
                return Ok(Some(next));
            }
        }
        Ok(None)
    }

    /// Up to `len` bytes from `at` on; fewer only at the end.
    fn bytes(&mut self, at: u64, len: usize) -> io::Result<&[u8]> {
        let held = self.start + self.bytes.len() as u64;
        let end = at.saturating_add(len as u64).min(self.len);
        if at < self.start || end > held {
            self.bytes.resize(len.max(READ_LEN), 0);
            let n = self.file.read_at(at, &mut self.bytes)?;
            self.bytes.truncate(n);
            self.start = at;
        }
        let bytes = self.bytes.get((at - self.start) as usize..).unwrap_or_default();
        Ok(bytes.get(..len).unwrap_or(bytes))
    }
}
