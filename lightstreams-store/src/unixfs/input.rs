use std::{
    fmt, fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{Metadata, Mtime};
use crate::{BuildError, FileRoot};

/// A file, a symbolic link, or a directory that is to be imported; files are opened when their turn comes.
#[non_exhaustive]
pub enum Input<'a> {
    /// A file.
    File {
        /// Its mode and time, which options may keep.
        metadata: Metadata,
        /// Opens it.
        open: Box<dyn FnOnce() -> io::Result<Box<dyn Read + 'a>> + 'a>,
    },
    /// A symbolic link.
    Symlink {
        /// Its time, which options may keep.
        metadata: Metadata,
        /// Where it points, as it stands in the link.
        target: Vec<u8>,
    },
    /// A directory.
    Directory {
        /// Its mode and time, which options may keep.
        metadata: Metadata,
        /// Name and content of each entry, in any order; an error ends the import.
        entries: Box<dyn Iterator<Item = Result<(String, Input<'a>), BuildError>> + 'a>,
    },
    /// What was imported before and becomes an entry of a directory; nothing of it is read.
    Imported(FileRoot),
}

impl<'a> Input<'a> {
    /// A file of what `reader` gives.
    pub fn reader(reader: impl Read + 'a) -> Self {
        Self::File { metadata: Metadata::default(), open: Box::new(|| Ok(Box::new(reader))) }
    }

    /// A symbolic link to `target`.
    pub fn symlink(target: impl Into<Vec<u8>>) -> Self {
        Self::Symlink { metadata: Metadata::default(), target: target.into() }
    }

    /// A directory of these entries; one of a single entry wraps it.
    pub fn directory(entries: impl IntoIterator<Item = (String, Input<'a>)> + 'a) -> Self {
        let entries = Box::new(entries.into_iter().map(Ok));
        Self::Directory { metadata: Metadata::default(), entries }
    }

    /// What stands at `path` in the file system, with everything below. Symbolic links stay links.
    pub fn path(path: impl Into<PathBuf>) -> Result<Self, BuildError> {
        let path = path.into();
        let found = fs::symlink_metadata(&path).map_err(|error| on(&path, error))?;
        let metadata = metadata_of(&found);
        let kind = found.file_type();
        if kind.is_symlink() {
            let target = fs::read_link(&path).map_err(|error| on(&path, error))?;
            return Ok(Self::Symlink { metadata, target: target_bytes(target) });
        }
        if kind.is_dir() {
            return Ok(Self::Directory { metadata, entries: Children::of(path).into_entries() });
        }
        if !kind.is_file() {
            return Err(BuildError::FileType { name: path.display().to_string() });
        }
        let open = move || match fs::File::open(&path) {
            Ok(file) => Ok(Box::new(file) as Box<dyn Read>),
            Err(error) => Err(named(&path, error)),
        };
        Ok(Self::File { metadata, open: Box::new(open) })
    }

    /// The same input with this mode and time; what was [imported](Self::Imported) keeps its own.
    #[must_use]
    pub fn with_metadata(mut self, new: Metadata) -> Self {
        match &mut self {
            Self::File { metadata, .. }
            | Self::Symlink { metadata, .. }
            | Self::Directory { metadata, .. } => {
                *metadata = new;
            }
            Self::Imported(_) => {}
        }
        self
    }
}

impl fmt::Debug for Input<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File { .. } => "File",
            Self::Symlink { .. } => "Symlink",
            Self::Directory { .. } => "Directory",
            Self::Imported(_) => "Imported",
        })
    }
}

/// The entries of a folder, sorted by name.
struct Children {
    folder: PathBuf,
    names: Option<std::vec::IntoIter<String>>,
}

impl Children {
    fn of(folder: PathBuf) -> Self {
        Self { folder, names: None }
    }

    fn into_entries<'a>(mut self) -> Box<dyn Iterator<Item = Result<(String, Input<'a>), BuildError>> + 'a> {
        Box::new(std::iter::from_fn(move || self.next()))
    }

    fn names(folder: &Path) -> Result<Vec<String>, BuildError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(folder).map_err(|error| on(folder, error))? {
            let name = entry.map_err(|error| on(folder, error))?.file_name();
            names.push(name.into_string().map_err(|name| BuildError::Name {
                name: name.to_string_lossy().into_owned(),
                reason: "it is no UTF-8",
            })?);
        }
        names.sort();
        Ok(names)
    }

    fn next<'a>(&mut self) -> Option<Result<(String, Input<'a>), BuildError>> {
        // The folder is read when the first entry is asked for: folders whose turn is yet to come take no memory.
        let names = match &mut self.names {
            Some(names) => names,
            unread => match Self::names(&self.folder) {
                Ok(names) => unread.insert(names.into_iter()),
                Err(error) => {
                    *unread = Some(Vec::new().into_iter());
                    return Some(Err(error));
                }
            },
        };
        let name = names.next()?;
        Some(Input::path(self.folder.join(&name)).map(|input| (name, input)))
    }
}

fn on(path: &Path, error: io::Error) -> BuildError {
    BuildError::Read(named(path, error))
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(unix)]
fn metadata_of(found: &fs::Metadata) -> Metadata {
    use std::os::unix::fs::MetadataExt;
    let nanos = u32::try_from(found.mtime_nsec()).unwrap_or(0);
    Metadata::new(Some(found.mode() & 0o7777), Mtime::new(found.mtime(), nanos))
}

#[cfg(not(unix))]
fn metadata_of(found: &fs::Metadata) -> Metadata {
    let since = found.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    let mtime = since.and_then(|since| Mtime::new(since.as_secs().try_into().ok()?, since.subsec_nanos()));
    Metadata::new(None, mtime)
}

#[cfg(unix)]
fn target_bytes(target: PathBuf) -> Vec<u8> {
    use std::os::unix::ffi::OsStringExt;
    target.into_os_string().into_vec()
}

#[cfg(not(unix))]
fn target_bytes(target: PathBuf) -> Vec<u8> {
    target.to_string_lossy().into_owned().into_bytes()
}
