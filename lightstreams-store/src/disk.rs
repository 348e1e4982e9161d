//! Our own file I/O, behind a seam that a test can break.

use std::{
    io,
    path::{Path, PathBuf},
};

/// A folder of files.
///
/// Nothing survives a power cut before it is synced: bytes by [`DiskFile::sync`], names (of new, renamed and removed
/// files) by [`Disk::sync`]. Names are plain file names.
pub trait Disk: Send + Sync {
    /// Opens the file `name`, which is created if it is not there.
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Gives the file `from` the name `to`; a file of that name is replaced.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes the file `name`.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// The names of all files, sorted.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Makes all names durable.
    fn sync(&self) -> io::Result<()>;
}

// The node hands its disk around as a trait object.
const _: Option<&dyn Disk> = None;

/// A file that grows at its end.
pub trait DiskFile: Send + Sync {
    /// Number of bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether there are no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Fills `buf` from byte `offset` on; fewer bytes come back only at the end.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;
    /// Writes `bytes` at the end.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Cuts the file to `len` bytes, which it has.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
    /// Returns once all bytes survive a power cut.
    fn sync(&mut self) -> io::Result<()>;
}

/// A folder of the file system.
#[derive(Debug, Clone)]
pub struct FileDisk {
    folder: PathBuf,
}

impl FileDisk {
    /// Opens `folder`, which is created, durably, if it is not there.
    pub fn open(folder: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self { folder: folder.as_ref().to_owned() })
    }
}

impl Disk for FileDisk {
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let _ = (&self.folder, name);
        todo!()
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let _ = (from, to);
        todo!()
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        let _ = name;
        todo!()
    }
    fn list(&self) -> io::Result<Vec<String>> {
        todo!()
    }
    fn sync(&self) -> io::Result<()> {
        todo!()
    }
}
