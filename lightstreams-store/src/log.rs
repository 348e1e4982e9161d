//! An append-only log of records that survives power cuts.

use std::{io, sync::Arc};

use crate::{Disk, DiskFile};

/// The longest record: 1 MiB.
pub const MAX_RECORD_LEN: usize = 1 << 20;

/// An append-only log of checksummed records in one file of a [`Disk`].
///
/// What [`append`](Self::append) acknowledged is replayed at every later open; what it did not may be there or not.
pub struct Log {
    file: Box<dyn DiskFile>,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

impl Log {
    /// Opens the log `name` on `disk`, which is created if it is not there, and replays its records through `visit`, in
    /// order. A torn tail (the rest of an append that was never acknowledged) is cut off.
    pub fn open(disk: Arc<dyn Disk>, name: &str, visit: &mut dyn FnMut(&[u8])) -> Result<Self, LogError> {
        let _ = visit;
        Ok(Self { file: disk.open(name)? })
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
        let _ = (&mut self.file, records);
        todo!()
    }
}

/// Why a log could not be opened or written.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk failed.
    #[error("the log's disk failed")]
    Disk(#[from] io::Error),
    /// The record is longer than [`MAX_RECORD_LEN`].
    #[error("a record of {len} bytes, more than {MAX_RECORD_LEN}")]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// The file is something else, or a log of another version.
    #[error("the file is not a log of this version")]
    Foreign,
    /// Records that were acknowledged are damaged: restore the file from a copy.
    #[error("the log is damaged at byte {at}, and records follow")]
    Damaged {
        /// Start of the first damaged record.
        at: u64,
    },
    /// An earlier append failed, so that the end of the file is unknown: open the log again.
    #[error("an earlier append failed; open the log again")]
    Stopped,
}
