//! Our own file I/O, behind a seam that a test can break.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::{self, IoSlice, Write},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

/// A folder of files.
///
/// Nothing survives a power cut before it is synced: bytes by [`DiskFile::sync`], names (of new, renamed and removed
/// files, and of new folders) by [`Disk::sync`]. Names are plain file names; any other is an
/// [`InvalidInput`](io::ErrorKind::InvalidInput) error. One process at a time uses a folder, which its owner sees to, by
/// [`Disk::lock`] if it likes.
pub trait Disk: Send + Sync {
    /// Opens the file `name`, which is created if it is not there.
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Opens the file `name`, which must be there, for reading; what is open can be read on after it was removed.
    fn read(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        if !self.list()?.iter().any(|found| found == name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.open(name)
    }
    /// Takes the folder until the lock is dropped; a [`WouldBlock`](io::ErrorKind::WouldBlock) error if somebody else has
    /// it. A disk that nobody else can reach needs none.
    fn lock(&self) -> io::Result<DiskLock> {
        Ok(DiskLock::default())
    }
    /// Gives the file `from` the name `to`; a file of that name is replaced.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes the file `name`.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// The names of all files, sorted.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Returns once all names in this folder survive a power cut; those in folders within have a sync of their own.
    fn sync(&self) -> io::Result<()>;
    /// Says that nothing more is appended to the file `name`, which is synced: a disk may now take it to where nothing can be.
    fn complete(&self, _name: &str) -> io::Result<()> {
        Ok(())
    }
    /// The folder `name` within this one, which is created if it is not there. A disk without folders within says that
    /// this is [`Unsupported`](io::ErrorKind::Unsupported).
    fn folder(&self, _name: &str) -> io::Result<Arc<dyn Disk>> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// The names of all folders within, sorted.
    fn folders(&self) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }
}

// The node hands its disk around as a trait object.
const _: Option<&dyn Disk> = None;

/// Holds a folder of a [`Disk`] against others.
#[derive(Default)]
pub struct DiskLock {
    _held: Option<Box<dyn Send + Sync>>,
}

impl DiskLock {
    /// The lock that ends when `guard` is dropped.
    pub fn new(guard: impl Send + Sync + 'static) -> Self {
        Self { _held: Some(Box::new(guard)) }
    }
}

impl std::fmt::Debug for DiskLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskLock").finish_non_exhaustive()
    }
}

/// A file that grows at its end.
///
/// After a failed `append`, `truncate` or `sync` nothing is known of the unsynced bytes: the file must be opened again.
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
    /// Writes all `parts` at the end, one after the other.
    fn append_parts(&mut self, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        parts.iter().try_for_each(|part| self.append(part))
    }
    /// Cuts the file to `len` bytes, at most what it has.
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
        let folder = std::path::absolute(folder)?;
        // The name of a new folder stands in the folder above it, which must be synced in turn.
        let mut missing = Vec::new();
        let mut above = folder.as_path();
        while !above.is_dir() {
            missing.push(above.to_owned());
            let Some(parent) = above.parent() else { break };
            above = parent;
        }
        for path in missing.iter().rev() {
            match fs::create_dir(path) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                _ => {}
            }
            if let Some(parent) = path.parent() {
                sync_folder(parent)?;
            }
        }
        Ok(Self { folder })
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    fn at(&self, name: &str) -> io::Result<PathBuf> {
        check_name(name)?;
        Ok(self.folder.join(name))
    }

    /// The names of all that is of the kind `wanted`, sorted.
    fn names(&self, wanted: fn(&fs::FileType) -> bool) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if wanted(&entry.file_type()?)
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }
}

/// Refuses what is not a plain file name.
pub(crate) fn check_name(name: &str) -> io::Result<()> {
    let mut components = Path::new(name).components();
    let plain = components.next() == Some(Component::Normal(OsStr::new(name))) && components.next().is_none();
    if !plain {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file name"));
    }
    Ok(())
}

fn sync_folder(path: &Path) -> io::Result<()> {
    // Elsewhere than on Unix a folder cannot be opened as a file, and names need no sync of their own.
    if cfg!(unix) {
        File::open(path)?.sync_all()?;
    }
    Ok(())
}

/// A file that nobody else may lock while this lives.
struct LockedFile(File);

impl Drop for LockedFile {
    fn drop(&mut self) {
        // Closing it would not be enough: a child that another thread has just forked holds a copy of the descriptor, and the
        // lock with it (flock(2)), until it executes its program. If this fails, closing is all that is left.
        let _ = self.0.unlock();
    }
}

impl Disk for FileDisk {
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let options = OpenOptions::new().read(true).append(true).create(true).open(self.at(name)?);
        Ok(Box::new(RealFile(options?)))
    }

    fn read(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(RealFile(File::open(self.at(name)?)?)))
    }

    fn lock(&self) -> io::Result<DiskLock> {
        let file = File::create(self.at(LOCK)?)?;
        match file.try_lock() {
            Ok(()) => Ok(DiskLock::new(LockedFile(file))),
            Err(fs::TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(fs::TryLockError::Error(e)) => Err(e),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.at(from)?, self.at(to)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.at(name)?)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.names(fs::FileType::is_file)
    }

    fn sync(&self) -> io::Result<()> {
        sync_folder(&self.folder)
    }

    fn folder(&self, name: &str) -> io::Result<Arc<dyn Disk>> {
        let folder = self.at(name)?;
        match fs::create_dir(&folder) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists || !folder.is_dir() => Err(e),
            _ => Ok(Arc::new(Self { folder })),
        }
    }

    fn folders(&self) -> io::Result<Vec<String>> {
        self.names(fs::FileType::is_dir)
    }
}

/// The file whose lock is the folder's.
pub(crate) const LOCK: &str = "LOCK";

/// A file of the file system, opened for appending or for reading only.
struct RealFile(File);

#[cfg(unix)]
fn read_some_at(file: &File, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buf, offset)
}

#[cfg(windows)]
fn read_some_at(file: &File, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
    // It moves the file's position, which nothing here uses: writes go to the end.
    std::os::windows::fs::FileExt::seek_read(file, buf, offset)
}

#[cfg(not(any(unix, windows)))]
fn read_some_at(mut file: &File, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
    use std::{
        io::{Read, Seek, SeekFrom},
        sync::{Mutex, PoisonError},
    };
    // The readers of a file share its position.
    static READING: Mutex<()> = Mutex::new(());
    let _reading = READING.lock().unwrap_or_else(PoisonError::into_inner);
    file.seek(SeekFrom::Start(offset))?;
    file.read(buf)
}

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match read_some_at(&self.0, offset.saturating_add(done as u64), rest) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn append_parts(&mut self, mut parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            match self.0.write_vectored(parts) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => IoSlice::advance_slices(&mut parts, n),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        // The length is part of what is needed to read the bytes; times of change are not.
        self.0.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_where_a_copy_of_its_descriptor_lives_on() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::create(folder.path().join(LOCK)).unwrap();
        file.try_lock().unwrap();
        let lock = LockedFile(file);
        // As a child holds one between its fork and its program.
        let _copy = lock.0.try_clone().unwrap();
        let disk = FileDisk::open(folder.path()).unwrap();
        assert_eq!(disk.lock().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(lock);
        disk.lock().unwrap();
    }
}
