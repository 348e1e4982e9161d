use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use cid::Cid;

use super::{
    ExportError, ExportLimits, Metadata, Mtime,
    walk::{Visitor, walk},
};
use crate::{BlockSource, FileReader};

/// Bytes that are read and written at a time.
const COPY_BYTES: usize = 1 << 20;

/// Writes everything below `root` to `target`, where nothing stands yet: a file, a symbolic link, or a directory with
/// all that is in it.
///
/// Everything is made anew and nothing is followed: an entry never replaces another one, a directory is entered only after it was
/// made, and no name leads out of it. Symbolic links are made as they are stated, wherever they point. Modes and times
/// are set where they are stated, but for setuid, setgid and sticky. After an error, what was written until then remains.
pub fn export(
    source: &impl BlockSource,
    root: &Cid,
    target: impl AsRef<Path>,
    limits: ExportLimits,
) -> Result<(), ExportError> {
    walk(source, root, limits, &mut Files { target: target.as_ref(), buf: vec![0; COPY_BYTES] })
}

struct Files<'a> {
    target: &'a Path,
    buf: Vec<u8>,
}

impl Files<'_> {
    fn place(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.target.to_owned() } else { self.target.join(path) }
    }
}

impl<S: BlockSource> Visitor<S> for Files<'_> {
    fn directory(&mut self, path: &str, _: Metadata) -> Result<(), ExportError> {
        fs::create_dir(self.place(path)).map_err(ExportError::write(path))
    }

    fn directory_end(&mut self, path: &str, metadata: Metadata) -> Result<(), ExportError> {
        if metadata.is_empty() {
            return Ok(());
        }
        // A directory that its owner may not write is closed after it was filled.
        let set = || set_metadata(&File::open(self.place(path))?, metadata);
        set().map_err(ExportError::write(path))
    }

    fn file(&mut self, path: &str, metadata: Metadata, file: FileReader<S>) -> Result<(), ExportError> {
        let place = self.place(path);
        let made = OpenOptions::new().write(true).create_new(true).open(place);
        let mut out = made.map_err(ExportError::write(path))?;
        copy(&file, &mut out, path, &mut self.buf)?;
        set_metadata(&out, metadata).map_err(ExportError::write(path))
    }

    fn symlink(&mut self, path: &str, _: Metadata, target: &[u8]) -> Result<(), ExportError> {
        make_symlink(target, &self.place(path)).map_err(ExportError::write(path))
    }
}

/// Writes all of `file` to `out`.
pub(super) fn copy<S: BlockSource>(
    file: &FileReader<S>,
    out: &mut dyn Write,
    path: &str,
    buf: &mut [u8],
) -> Result<(), ExportError> {
    let mut at = 0;
    while at < file.len() {
        let n = file.read_at(at, buf)?;
        let Some(bytes) = buf.get(..n).filter(|bytes| !bytes.is_empty()) else {
            return Err(ExportError::write(path)(io::ErrorKind::UnexpectedEof.into()));
        };
        out.write_all(bytes).map_err(ExportError::write(path))?;
        at += n as u64;
    }
    Ok(())
}

fn set_metadata(file: &File, metadata: Metadata) -> io::Result<()> {
    if let Some(mtime) = metadata.mtime.and_then(system_time) {
        file.set_modified(mtime)?;
    }
    #[cfg(unix)]
    if let Some(mode) = metadata.mode {
        use std::os::unix::fs::PermissionsExt;
        file.set_permissions(fs::Permissions::from_mode(mode & 0o777))?;
    }
    Ok(())
}

/// `None` for a time that the system does not have.
fn system_time(mtime: Mtime) -> Option<SystemTime> {
    let seconds = Duration::from_secs(mtime.seconds().unsigned_abs());
    let whole = match mtime.seconds() {
        0.. => UNIX_EPOCH.checked_add(seconds),
        _ => UNIX_EPOCH.checked_sub(seconds),
    };
    whole?.checked_add(Duration::from_nanos(mtime.nanos().into()))
}

#[cfg(unix)]
fn make_symlink(target: &[u8], place: &Path) -> io::Result<()> {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    std::os::unix::fs::symlink(OsStr::from_bytes(target), place)
}

#[cfg(not(unix))]
fn make_symlink(_: &[u8], _: &Path) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "symbolic links are made on Unix only"))
}
