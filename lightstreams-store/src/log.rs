//! An append-only log of records that survives power cuts.
//!
//! ```text
//! file   = "LSLOG1\r\n" record*
//! record = length of payload u32 | crc32c u32 | start of its append u64 | payload        (integers big-endian)
//! ```
//!
//! The checksum covers the length, the start and the payload. The start is the byte at which the append that wrote the
//! record began. It tells a torn tail from damage: appends are synced one after the other, so a sound record that
//! follows an unsound one, and whose own append began after it, proves that the unsound one was once acknowledged.

use std::{fmt, io};

use crate::{Disk, DiskFile};

/// The longest record: 1 MiB.
pub const MAX_RECORD_LEN: usize = 1 << 20;

const MAGIC: &[u8; 8] = b"LSLOG1\r\n";
const HEADER_LEN: usize = 16;

/// Bytes read at once when a log is opened.
const READ_LEN: usize = 256 << 10;

/// An append-only log of checksummed records in one file of a [`Disk`].
///
/// What [`append`](Self::append) acknowledged is replayed at every later open; what it did not may be there or not.
pub struct Log {
    file: Box<dyn DiskFile>,
    /// Where the next record goes; `None` after a failure.
    end: Option<u64>,
}

impl Log {
    /// Opens the log `name` on `disk`, which is created if it is not there, and replays its records through `visit`, in
    /// order. A torn tail (the rest of an append that was never acknowledged) is cut off.
    ///
    /// Damage to acknowledged records is an error, except in the last append, where it looks like a torn tail.
    pub fn open(disk: &dyn Disk, name: &str, visit: &mut dyn FnMut(&[u8])) -> Result<Self, LogError> {
        let mut file = disk.open(name)?;
        let magic = read_up_to(&*file, 0, MAGIC.len())?;
        if magic != MAGIC {
            // A log that was being created when the power went has no record yet, and at most a part of the magic.
            let len = file.len()?;
            if len > MAGIC.len() as u64 || !magic.iter().zip(MAGIC).all(|(is, must)| is == must || *is == 0) {
                return Err(LogError::Foreign);
            }
            file.truncate(0)?;
            file.append(MAGIC)?;
        }
        // Also when nothing was changed now: an earlier open may have been cut off before its syncs.
        file.sync()?;
        disk.sync()?;
        let end = replay(&mut *file, visit)?;
        Ok(Self { file, end: Some(end) })
    }

    /// Appends one record; returns once it survives a power cut.
    pub fn append(&mut self, record: &[u8]) -> Result<(), LogError> {
        self.append_many(&[record])
    }

    /// Appends `records`; returns once all of them survive a power cut. After a power cut before that, a first part of
    /// them may be there.
    ///
    /// After a failure the log takes nothing more until it is opened again.
    pub fn append_many(&mut self, records: &[&[u8]]) -> Result<(), LogError> {
        let start = self.end.ok_or(LogError::Stopped)?;
        let mut bytes = Vec::new();
        for record in records {
            let len = record.len();
            let short = u32::try_from(len).ok().filter(|_| len <= MAX_RECORD_LEN);
            let short = short.ok_or(LogError::TooLong { len })?.to_be_bytes();
            bytes.extend_from_slice(&short);
            bytes.extend_from_slice(&checksum(short, start, record).to_be_bytes());
            bytes.extend_from_slice(&start.to_be_bytes());
            bytes.extend_from_slice(record);
        }
        self.end = None;
        self.file.append(&bytes)?;
        self.file.sync()?;
        self.end = Some(start + bytes.len() as u64);
        Ok(())
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("end", &self.end).finish_non_exhaustive()
    }
}

/// Visits all sound records from the front, cuts off what follows them, and returns where they end.
fn replay(file: &mut dyn DiskFile, visit: &mut dyn FnMut(&[u8])) -> Result<u64, LogError> {
    let first = MAGIC.len() as u64;
    let len = file.len()?;
    let mut window = Window { start: 0, bytes: Vec::new(), len };
    let mut at = first;
    while at < len {
        let Some(payload) = window.record(file, at, first)? else { break };
        visit(payload);
        at += (HEADER_LEN + payload.len()) as u64;
    }
    if at == len {
        return Ok(at);
    }
    // What follows must be one append that was never acknowledged.
    for later in at + 1..len {
        if window.record(file, later, at + 1)?.is_some() {
            return Err(LogError::Damaged { at });
        }
    }
    file.truncate(at)?;
    file.sync()?;
    Ok(at)
}

/// The part of the file that was read last.
struct Window {
    start: u64,
    bytes: Vec<u8>,
    len: u64,
}

impl Window {
    /// The payload of the record at `at`, if there is a sound one whose append began at `earliest` or after it.
    fn record(&mut self, file: &dyn DiskFile, at: u64, earliest: u64) -> io::Result<Option<&[u8]>> {
        let Some(header) = self.bytes(file, at, HEADER_LEN)?.first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let [l0, l1, l2, l3, c0, c1, c2, c3, start @ ..] = *header;
        let short = [l0, l1, l2, l3];
        let len = u32::from_be_bytes(short) as usize;
        let start = u64::from_be_bytes(start);
        if len > MAX_RECORD_LEN || start < earliest || start > at {
            return Ok(None);
        }
        let payload = self.bytes(file, at + HEADER_LEN as u64, len)?;
        let sound =
            payload.len() == len && checksum(short, start, payload) == u32::from_be_bytes([c0, c1, c2, c3]);
        Ok(sound.then_some(payload))
    }

    /// Up to `len` bytes from `at` on; fewer only at the end.
    fn bytes(&mut self, file: &dyn DiskFile, at: u64, len: usize) -> io::Result<&[u8]> {
        let held = self.start + self.bytes.len() as u64;
        let end = at.saturating_add(len as u64).min(self.len);
        if at < self.start || end > held {
            self.bytes = read_up_to(file, at, len.max(READ_LEN))?;
            self.start = at;
        }
        let bytes = self.bytes.get((at - self.start) as usize..).unwrap_or_default();
        Ok(bytes.get(..len).unwrap_or(bytes))
    }
}

fn read_up_to(file: &dyn DiskFile, at: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let n = file.read_at(at, &mut bytes)?;
    bytes.truncate(n);
    Ok(bytes)
}

fn checksum(len: [u8; 4], start: u64, payload: &[u8]) -> u32 {
    let sum = crc32c::crc32c(&len);
    let sum = crc32c::crc32c_append(sum, &start.to_be_bytes());
    crc32c::crc32c_append(sum, payload)
}

/// Why a log could not be opened or written.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk failed.
    #[error("the log's disk failed")]
    Disk(#[from] io::Error),
    /// The record is longer than [`MAX_RECORD_LEN`]; nothing was written.
    #[error("a record of {len} bytes, more than {MAX_RECORD_LEN}")]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// The file is something else, or a log of another version; it was left as it is.
    #[error("the file is not a log of this version")]
    Foreign,
    /// Records that were acknowledged are damaged: restore the file from a copy. It was left as it is.
    #[error("the log is damaged at byte {at}, and sound records follow")]
    Damaged {
        /// Start of the first damaged record.
        at: u64,
    },
    /// An earlier append failed, so that the end of the file is unknown: open the log again.
    #[error("an earlier append failed; open the log again")]
    Stopped,
}
