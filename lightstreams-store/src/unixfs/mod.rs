//! Files, directories and symbolic links as DAGs (ipfs/specs `src/unixfs.md`).
//!
//! ```text
//! Input ---------import----------> BlockStore        Directory, resolve, FileReader: by name, by range
//!   file, link, directory             ^   |          export, export_tar: everything below a root
//!        ImportOptions: profile ------+   +--------> files, TAR
//! ```

mod batch;
mod directory;
mod export;
mod hamt;
mod import;
mod input;
mod message;
mod options;
mod reading;
mod tar;
mod walk;

pub(crate) use batch::Batch;
pub(crate) use directory::Borrowed;
pub use directory::{Directory, Entries, NodeKind, Stat, resolve, stat};
pub use export::export;
pub(crate) use hamt::prefix_len as hamt_prefix_len;
pub use import::MAX_TREE_DEPTH;
pub use input::Input;
pub(crate) use message::{Message, TYPE_DIRECTORY, TYPE_FILE, TYPE_RAW, TYPE_SHARD, TYPE_SYMLINK};
pub use message::{Metadata, Mtime};
pub use options::{DirectorySize, FileLayout, ImportOptions, MAX_INLINE_LEN, OptionsError, Sharding};
pub use tar::export_tar;
pub use walk::{ExportError, ExportLimits};

use cid::Cid;

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// Its name: not empty, not `.` or `..`, without `/` and zero bytes.
    pub name: String,
    /// The root of what it is.
    pub cid: Cid,
    /// Bytes of all blocks of it, as the directory states them.
    pub tsize: u64,
}

/// Refuses a name that would be something else than an entry, wherever a tree is made of it.
pub(crate) fn check_name(name: &str) -> Result<(), &'static str> {
    if matches!(name, "" | "." | "..") {
        return Err("it has a meaning of its own in a path");
    }
    if name.contains(['/', '\0']) {
        return Err("it holds a slash or a zero byte");
    }
    if cfg!(windows) && name.contains(['\\', ':']) {
        return Err("it holds a separator of Windows");
    }
    Ok(())
}
