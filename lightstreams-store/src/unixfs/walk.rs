use cid::Cid;

use super::{Borrowed, Directory, MAX_TREE_DEPTH, Metadata, NodeKind, stat};
use crate::{BlockSource, FileReader, RAW, ReadError};

/// How much may come out of a root, whoever made it: a small DAG can name one block a million times.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportLimits {
    /// The most files, directories and links.
    pub entries_max: u64,
    /// The most bytes of files together.
    pub bytes_max: u64,
}

impl Default for ExportLimits {
    /// Ten million entries, 16 TiB.
    fn default() -> Self {
        Self { entries_max: 10_000_000, bytes_max: 16 << 40 }
    }
}

/// Takes the entries of a tree, a directory before what is in it. Paths have the names of the entries, checked, with slashes
/// between them; that of the root is empty.
pub(super) trait Visitor<S> {
    fn directory(&mut self, path: &str, metadata: Metadata) -> Result<(), ExportError>;
    /// After everything in it.
    fn directory_end(&mut self, path: &str, metadata: Metadata) -> Result<(), ExportError>;
    fn file(&mut self, path: &str, metadata: Metadata, file: FileReader<S>) -> Result<(), ExportError>;
    fn symlink(&mut self, path: &str, metadata: Metadata, target: &[u8]) -> Result<(), ExportError>;
}

/// Shows everything below `root` to `visitor`.
pub(super) fn walk<'a, S: BlockSource>(
    source: &'a S,
    root: &Cid,
    limits: ExportLimits,
    visitor: &mut dyn Visitor<Borrowed<'a, S>>,
) -> Result<(), ExportError> {
    Walk { source, left: limits, visitor }.visit(root, &mut String::new(), 0)
}

struct Walk<'a, 'b, S> {
    source: &'a S,
    left: ExportLimits,
    visitor: &'b mut dyn Visitor<Borrowed<'a, S>>,
}

impl<S: BlockSource> Walk<'_, '_, S> {
    fn visit(&mut self, cid: &Cid, path: &mut String, depth: usize) -> Result<(), ExportError> {
        let left = self.left.entries_max.checked_sub(1);
        self.left.entries_max = left.ok_or(ExportError::Limit { what: "entries" })?;
        // Most files are a raw block, which is read once.
        if cid.codec() == RAW {
            return self.file(cid, path, Metadata::default());
        }
        let found = stat(self.source, cid)?;
        match found.kind {
            NodeKind::File { .. } => self.file(cid, path, found.metadata),
            NodeKind::Symlink { target } => self.visitor.symlink(path, found.metadata, &target),
            NodeKind::Directory { .. } => {
                if depth >= MAX_TREE_DEPTH {
                    return Err(ExportError::Limit { what: "directories within one another" });
                }
                self.visitor.directory(path, found.metadata)?;
                let directory = Directory::open(Borrowed(self.source), cid)?;
                let len = path.len();
                for entry in directory.entries() {
                    let entry = entry?;
                    if len > 0 {
                        path.push('/');
                    }
                    path.push_str(&entry.name);
                    self.visit(&entry.cid, path, depth + 1)?;
                    path.truncate(len);
                }
                self.visitor.directory_end(path, found.metadata)
            }
        }
    }

    fn file(&mut self, cid: &Cid, path: &str, metadata: Metadata) -> Result<(), ExportError> {
        let file = FileReader::open(Borrowed(self.source), cid)?;
        let left = self.left.bytes_max.checked_sub(file.len());
        self.left.bytes_max = left.ok_or(ExportError::Limit { what: "bytes" })?;
        self.visitor.file(path, metadata, file)
    }
}

/// Why a tree was not exported.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Blocks are missing, wrong, or not what UnixFS allows.
    #[error("reading the tree failed")]
    Read(#[from] ReadError),
    /// What was to be written could not be.
    #[error("writing {path:?} failed")]
    Write {
        /// The entry concerned; empty for the root.
        path: String,
        /// How it failed.
        source: std::io::Error,
    },
    /// More comes out of the root than was allowed.
    #[error("more {what} than allowed")]
    Limit {
        /// Of what there is too much.
        what: &'static str,
    },
}

impl ExportError {
    pub(super) fn write(path: &str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::Write { path, source }
    }
}
