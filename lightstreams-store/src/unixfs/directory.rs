use std::fmt;

use cid::Cid;

use super::{
    DirectoryEntry, Message, Metadata, TYPE_DIRECTORY, TYPE_FILE, TYPE_RAW, TYPE_SHARD, TYPE_SYMLINK,
    check_name,
    hamt::{Shard, murmur3, position},
};
use crate::{
    Block, BlockSource, DAG_PB, LayoutError, RAW, ReadError, StoreError,
    dagpb::{Link, Node, malformed},
    payload::read_block,
};

/// The longest target of a symbolic link, as file systems have it.
const MAX_TARGET_LEN: usize = 4096;

/// What a root is, as its own block says.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// File, directory or symbolic link.
    pub kind: NodeKind,
    /// Mode and time, where they are stated.
    pub metadata: Metadata,
}

/// What stands under a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeKind {
    /// A file, for [`FileReader`](crate::FileReader).
    File {
        /// Bytes of it, as the root states them.
        size: u64,
    },
    /// A directory, for [`Directory`].
    Directory {
        /// Whether it is spread over several blocks.
        sharded: bool,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points, as it stands there. Nothing here follows it.
        target: Vec<u8>,
    },
}

/// Says what the root `cid` is; one block is read.
pub fn stat(source: &impl BlockSource, cid: &Cid) -> Result<Stat, ReadError> {
    let (node, message) = match read_node(source, cid)? {
        Content::Raw(size) => {
            return Ok(Stat { kind: NodeKind::File { size }, metadata: Metadata::default() });
        }
        Content::Node(node, message) => (node, message),
    };
    let wrong = |source| ReadError::Layout { cid: *cid, source };
    let own = message.data.len() as u64;
    let kind = match message.kind {
        TYPE_FILE | TYPE_RAW => {
            let size = message.blocksizes.iter().try_fold(own, |sum, size| sum.checked_add(*size));
            let reason = "blocksizes exceed 64 bits";
            NodeKind::File { size: size.ok_or(wrong(LayoutError::Malformed { reason }))? }
        }
        TYPE_DIRECTORY => NodeKind::Directory { sharded: false },
        TYPE_SHARD => {
            Shard::new(node, &message).map_err(wrong)?;
            NodeKind::Directory { sharded: true }
        }
        TYPE_SYMLINK if message.data.len() > MAX_TARGET_LEN => {
            return Err(wrong(LayoutError::Malformed { reason: "the target of a link is too long" }));
        }
        TYPE_SYMLINK => NodeKind::Symlink { target: message.data.to_vec() },
        kind => return Err(wrong(LayoutError::UnknownType { kind })),
    };
    Ok(Stat { kind, metadata: message.metadata })
}

/// A source, borrowed.
pub(crate) struct Borrowed<'a, S>(pub(crate) &'a S);

impl<S: BlockSource> BlockSource for Borrowed<'_, S> {
    fn block(&self, cid: &Cid) -> Result<Option<Block>, StoreError> {
        self.0.block(cid)
    }
}

enum Content {
    /// So many bytes of a file.
    Raw(u64),
    Node(Node, Message),
}

fn read_node(source: &impl BlockSource, cid: &Cid) -> Result<Content, ReadError> {
    let block = read_block(source, cid)?;
    let decode = || match cid.codec() {
        RAW => Ok(Content::Raw(block.len() as u64)),
        DAG_PB => {
            let node = Node::decode(block.data())?;
            let message = Message::decode(&node.data)?;
            Ok(Content::Node(node, message))
        }
        _ => Err(LayoutError::NotUnixFs),
    };
    decode().map_err(|source| ReadError::Layout { cid: *cid, source })
}

/// A directory, whole or sharded: entries by name and in order.
///
/// A name that could be more than an entry of this directory (empty, `.`, `..`, with a slash or a zero byte) makes the
/// block it stands in malformed, and so does a name that stands there twice. In a HAMT an entry counts only where its name is looked for, so that what is
/// listed and what is found are the same, and no shard is listed twice.
pub struct Directory<S> {
    source: S,
    root: Level,
    metadata: Metadata,
}

/// A block of a directory.
#[derive(Debug)]
enum Level {
    Plain(Vec<DirectoryEntry>),
    Shard(Shard),
}

impl<S: BlockSource> Directory<S> {
    /// Opens the directory by its root, which is read and checked now.
    pub fn open(source: S, root: &Cid) -> Result<Self, ReadError> {
        let (level, metadata) = Level::read(&source, root)?;
        Ok(Self { source, root: level, metadata })
    }

    /// Mode and time, where they are stated.
    pub fn metadata(&self) -> Metadata {
        self.metadata
    }

    /// The entry `name`; in a sharded directory one block is read for each level below the root.
    pub fn get(&self, name: &str) -> Result<Option<DirectoryEntry>, ReadError> {
        let slots = match &self.root {
            Level::Plain(entries) => return Ok(entries.iter().find(|entry| entry.name == name).cloned()),
            Level::Shard(shard) => shard,
        };
        let hash = murmur3(name.as_bytes());
        let fanout = slots.fanout;
        let mut below;
        let mut shard = slots;
        for level in 0.. {
            let Some(wanted) = position(hash, level, fanout) else { break };
            let Ok(found) = shard.slots.binary_search_by_key(&wanted, |(position, _)| *position) else {
                break;
            };
            let Some((_, entry)) = shard.slots.get(found) else { break };
            if !entry.name.is_empty() {
                return Ok((entry.name == name).then(|| entry.clone()));
            }
            below = Level::read_shard(&self.source, &entry.cid, fanout)?;
            shard = &below;
        }
        Ok(None)
    }

    /// All entries: of a whole directory as they stand there, of a sharded one by the hash of their names. Memory holds one
    /// block for each level. After an error it ends.
    pub fn entries(&self) -> Entries<'_, S> {
        let stack = vec![(0, 0)];
        Entries { directory: self, below: Vec::new(), stack }
    }
}

impl<S> fmt::Debug for Directory<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").field("metadata", &self.metadata).finish_non_exhaustive()
    }
}

impl Level {
    fn read(source: &impl BlockSource, cid: &Cid) -> Result<(Self, Metadata), ReadError> {
        let wrong = |source| ReadError::Layout { cid: *cid, source };
        let Content::Node(node, message) = read_node(source, cid)? else {
            return Err(wrong(LayoutError::NotADirectory));
        };
        let level = match message.kind {
            TYPE_DIRECTORY => {
                let entries: Vec<DirectoryEntry> = node
                    .links
                    .into_iter()
                    .map(|Link { cid, name, tsize }| DirectoryEntry { name, cid, tsize })
                    .collect();
                if entries.iter().any(|entry| check_name(&entry.name).is_err()) {
                    return malformed("an entry has a name that none may have").map_err(wrong);
                }
                let mut names: Vec<&str> = entries.iter().map(|entry| &*entry.name).collect();
                names.sort_unstable();
                if names.array_windows().any(|[a, b]| a == b) {
                    return malformed("two entries have the same name").map_err(wrong);
                }
                Self::Plain(entries)
            }
            TYPE_SHARD => Self::Shard(Shard::new(node, &message).map_err(wrong)?),
            TYPE_RAW | TYPE_FILE | TYPE_SYMLINK => return Err(wrong(LayoutError::NotADirectory)),
            kind => return Err(wrong(LayoutError::UnknownType { kind })),
        };
        Ok((level, message.metadata))
    }

    /// Reads a node of a HAMT below the root. An empty one is refused: many levels of them, each linked from all
    /// positions above, would be walked without an entry ever coming out.
    fn read_shard(source: &impl BlockSource, cid: &Cid, fanout: u64) -> Result<Shard, ReadError> {
        match Self::read(source, cid)? {
            (Self::Shard(shard), _) if shard.fanout == fanout && !shard.slots.is_empty() => Ok(shard),
            _ => Err(ReadError::Layout {
                cid: *cid,
                source: LayoutError::Malformed {
                    reason: "a shard below is empty, or no shard of the same fanout",
                },
            }),
        }
    }
}

/// The entries of a [`Directory`].
#[derive(Debug)]
pub struct Entries<'a, S> {
    directory: &'a Directory<S>,
    /// The shards below the root that are open.
    below: Vec<(Cid, Shard)>,
    /// For the root and each shard below: which slot is next, and the bits of a hash that lead here.
    stack: Vec<(usize, u64)>,
}

impl<S: BlockSource> Entries<'_, S> {
    fn advance(&mut self) -> Result<Option<DirectoryEntry>, ReadError> {
        while let Some((slot, prefix)) = self.stack.last_mut() {
            let (here, prefix) = (*slot, *prefix);
            *slot += 1;
            let root = match &self.directory.root {
                Level::Plain(entries) => return Ok(entries.get(here).cloned()),
                Level::Shard(root) => root,
            };
            let (cid, shard) = self.below.last().map_or((None, root), |(cid, shard)| (Some(*cid), shard));
            let Some((found, entry)) = shard.slots.get(here) else {
                self.stack.pop();
                self.below.pop();
                continue;
            };
            let bits = root.fanout.trailing_zeros();
            let level = self.below.len() as u32;
            let used = (level + 1) * bits;
            let path = (prefix << bits) | found;
            let malformed = |reason| {
                let cid = cid.unwrap_or(entry.cid);
                Err(ReadError::Layout { cid, source: LayoutError::Malformed { reason } })
            };
            if entry.name.is_empty() {
                if used + bits > u64::BITS {
                    return malformed("a shard lies deeper than a hash reaches");
                }
                let shard = Level::read_shard(&self.directory.source, &entry.cid, root.fanout)?;
                self.below.push((entry.cid, shard));
                self.stack.push((0, path));
                continue;
            }
            if murmur3(entry.name.as_bytes()) >> (u64::BITS - used) != path {
                return malformed("an entry stands where its name is not looked for");
            }
            return Ok(Some(entry.clone()));
        }
        Ok(None)
    }
}

impl<S: BlockSource> Iterator for Entries<'_, S> {
    type Item = Result<DirectoryEntry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance();
        if next.is_err() {
            self.stack.clear();
        }
        next.transpose()
    }
}

/// The entry that `path` leads to from the directory `root`: names with slashes between them, of which several count as
/// one. `None` if an entry is missing; the empty path is the root itself, with an empty name and tsize 0. Symbolic links are not followed.
pub fn resolve(
    source: &impl BlockSource,
    root: &Cid,
    path: &str,
) -> Result<Option<DirectoryEntry>, ReadError> {
    let mut found = DirectoryEntry { name: String::new(), cid: *root, tsize: 0 };
    for name in path.split('/').filter(|name| !name.is_empty()) {
        match Directory::open(Borrowed(source), &found.cid)?.get(name)? {
            Some(entry) => found = entry,
            None => return Ok(None),
        }
    }
    Ok(Some(found))
}
