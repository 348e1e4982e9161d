//! Building the DAG of a file while its bytes stream by.

use std::{
    io::{self, Read},
    sync::Arc,
};

use cid::Cid;

use crate::{
    Block, BlockStore, Chunker, DAG_PB, FileLayout, ImportOptions, Metadata, OptionsError, RAW, StoreError,
    ahead::{Ahead, Event, Hashed, Leaf, Source},
    buffers::Buffers,
    chunks::{Chunk, Chunks, FREE_BYTES},
    crew::{Crew, crew},
    dagpb::{Child, file_leaf_bytes, file_node_bytes},
    unixfs::{Batch, TYPE_FILE, TYPE_RAW},
};

/// The most links of one node, as the profile `unixfs-v1-2025` says.
pub const MAX_LINKS: usize = 1024;

/// Subtrees of each depth below a node of a trickle layout.
const TRICKLE_REPEAT: usize = 4;

/// The root of a file, or of a tree of files, that was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileRoot {
    /// Name of the root: of the only leaf, where there is one leaf.
    pub cid: Cid,
    /// Bytes of the file; of all files below, for a directory.
    pub size: u64,
    /// Bytes of all blocks of the DAG, repeated ones counted each time: what a link to it states as `Tsize`.
    pub tsize: u64,
    /// Blocks of the DAG, repeated ones counted each time.
    pub blocks: u64,
}

/// Builds UnixFS files: raw leaves, CIDv1, sha2-256, balanced, at most 1,024 links (the profile `unixfs-v1-2025`), or
/// whatever [`ImportOptions`] say.
///
/// Memory holds what is read ahead for the [threads](ImportOptions::threads) that hash (at most 8 MiB), two batches of
/// [`import`](Self::import), and the open node of each level, whatever the length of the file.
#[derive(Debug, Clone)]
pub struct FileBuilder<C> {
    chunker: C,
    options: ImportOptions,
}

impl<C: Chunker> FileBuilder<C> {
    /// Cuts leaves with `chunker`; the rest is the profile `unixfs-v1-2025`.
    pub fn new(chunker: C) -> Self {
        Self { chunker, options: ImportOptions::unixfs_v1_2025() }
    }

    /// Cuts leaves with `chunker`; the rest is as `options` say, their mode and time included.
    pub fn with_options(chunker: C, options: &ImportOptions) -> Result<Self, OptionsError> {
        options.check()?;
        Ok(Self { chunker, options: options.clone() })
    }

    /// Reads `reader` to its end and hands each block to `sink`, children before parents, the root last.
    pub fn build(
        self,
        reader: &mut dyn Read,
        sink: &mut dyn FnMut(Block) -> Result<(), StoreError>,
    ) -> Result<FileRoot, BuildError> {
        let Self { chunker, options } = self;
        crew(options.threads, |crew| {
            build_alone(crew, chunker, &options, reader, &mut |block, _| sink(block))
        })
    }

    /// Reads `reader` to its end and puts all blocks into `store`, in batches; `progress` is told how many bytes of the
    /// file are durable so far. When this returns, all of it is.
    ///
    /// Blocks that the store has are not written again: an import that was cut off goes on where it was.
    pub fn import(
        self,
        reader: &mut dyn Read,
        store: &dyn BlockStore,
        progress: &mut dyn FnMut(u64),
    ) -> Result<FileRoot, BuildError> {
        let Self { chunker, options } = self;
        crew(options.threads, |crew| {
            let mut batch = Batch::new(crew, store, progress);
            let sink = &mut |block, bytes| batch.push(block, bytes);
            let root = build_alone(crew, chunker, &options, reader, sink)?;
            batch.finish().map_err(BuildError::Store)?;
            Ok(root)
        })
    }
}

/// Builds the only file of an input.
fn build_alone<'t, C: Chunker>(
    crew: &Crew<'_, 't>,
    chunker: C,
    options: &'t ImportOptions,
    reader: &mut dyn Read,
    sink: &mut Sink<'_>,
) -> Result<FileRoot, BuildError> {
    let chunk_len_max = chunker.max_len();
    let leaves = FileLeaves::new(chunker, reader, Buffers::new(FREE_BYTES), options, options.metadata);
    let source = &mut Alone(leaves);
    build_file(options, options.metadata, &mut Ahead::new(crew, options, chunk_len_max, source), sink)
}

/// Takes a block and the number of bytes of a file that it brings.
pub(crate) type Sink<'a> = dyn FnMut(Block, u64) -> Result<(), StoreError> + 'a;

/// The leaves of a file.
pub(crate) struct FileLeaves<R, C> {
    chunks: Chunks<R, C>,
    layout: FileLayout,
    metadata: Metadata,
    first: bool,
    /// What had to be read to know whether the leaf before it is the only one.
    second: Option<Chunk>,
}

impl<R: Read, C: Chunker> FileLeaves<R, C> {
    /// Those of a file of this metadata.
    pub(crate) fn new(
        chunker: C,
        reader: R,
        buffers: Arc<Buffers>,
        options: &ImportOptions,
        metadata: Metadata,
    ) -> Self {
        let (chunks, layout) = (Chunks::new(chunker, reader, buffers), options.layout);
        Self { chunks, layout, metadata, first: true, second: None }
    }

    /// The next leaf. Balanced, a file without bytes has one, and a single leaf is the file and has its metadata.
    pub(crate) fn next(&mut self) -> Result<Option<Leaf>, BuildError> {
        let first = std::mem::replace(&mut self.first, false);
        let data = match self.second.take() {
            None => self.chunks.next()?,
            second => second,
        };
        let leaf = |data, kind, metadata| Ok(Some(Leaf { data, kind, metadata }));
        match (self.layout, data) {
            (FileLayout::Trickle, Some(data)) => leaf(data, TYPE_RAW, Metadata::default()),
            (FileLayout::Balanced, None) if first => leaf(Chunk::EMPTY, TYPE_FILE, self.metadata),
            (_, None) => Ok(None),
            (FileLayout::Balanced, Some(data)) => {
                if first && !self.metadata.is_empty() {
                    self.second = self.chunks.next()?;
                    if self.second.is_none() {
                        return leaf(data, TYPE_FILE, self.metadata);
                    }
                }
                leaf(data, TYPE_FILE, Metadata::default())
            }
        }
    }
}

/// A file that is all of an input.
struct Alone<R, C>(FileLeaves<R, C>);

impl<R: Read, C: Chunker> Source for Alone<R, C> {
    fn next(&mut self) -> Result<Option<Event<Leaf>>, BuildError> {
        Ok(self.0.next()?.map(Event::Leaf))
    }
}

impl ImportOptions {
    /// Hashes a leaf: the bytes themselves, or a node around them.
    pub(crate) fn leaf(&self, Leaf { data, kind, metadata }: Leaf) -> Result<Hashed, BuildError> {
        let size = data.len() as u64;
        let block = match self.raw_leaves {
            true => self.block(RAW, data.into_bytes())?,
            false => self.block(DAG_PB, file_leaf_bytes(data, kind, metadata))?,
        };
        Ok(Hashed { block, size })
    }
}

/// Builds a file of the leaves that come next, with options that were checked.
pub(crate) fn build_file(
    options: &ImportOptions,
    metadata: Metadata,
    leaves: &mut Ahead<'_, '_>,
    sink: &mut Sink<'_>,
) -> Result<FileRoot, BuildError> {
    let mut tree = Tree { levels: Vec::new(), blocks: 0, options, sink };
    let root = match options.layout {
        FileLayout::Balanced => tree.balanced(leaves, metadata)?,
        FileLayout::Trickle => tree.trickle(leaves, None, metadata)?,
    };
    Ok(FileRoot { cid: root.cid, size: root.size, tsize: root.tsize, blocks: tree.blocks })
}

/// A tree that grows from its leaves.
struct Tree<'a, 'b> {
    /// Balanced: the children that the open node of each level has so far, the lowest level first.
    levels: Vec<Vec<Child>>,
    blocks: u64,
    options: &'a ImportOptions,
    sink: &'a mut Sink<'b>,
}

impl Tree<'_, '_> {
    /// All leaves are equally far from the root; a single leaf is the root.
    fn balanced(&mut self, leaves: &mut Ahead<'_, '_>, metadata: Metadata) -> Result<Child, BuildError> {
        let mut count = 0u64;
        while let Some(leaf) = self.next(leaves)? {
            count += 1;
            if count == 1 && !leaves.has_leaf()? {
                return Ok(leaf);
            }
            self.add(0, leaf)?;
        }
        let mut level = 0;
        loop {
            let children = self.levels.get_mut(level).map(std::mem::take).unwrap_or_default();
            level += 1;
            // The top level has two children or more: it was begun when a second one came.
            if level >= self.levels.len() {
                return self.close(&children, metadata);
            }
            let node = self.close(&children, Metadata::default())?;
            self.add(level, node)?;
        }
    }

    /// Adds a child to the open node of `level`; a full node is closed only now, since it may have been the root.
    fn add(&mut self, mut level: usize, mut child: Child) -> Result<(), BuildError> {
        loop {
            if self.levels.len() <= level {
                self.levels.push(Vec::new());
            }
            let Some(open) = self.levels.get_mut(level) else { return Ok(()) };
            if open.len() < self.options.max_links {
                open.push(child);
                return Ok(());
            }
            let full = std::mem::replace(open, vec![child]);
            child = self.close(&full, Metadata::default())?;
            level += 1;
        }
    }

    /// A node of the trickle layout with subtrees up to below `depth`, and of any depth for the root: leaves first, then
    /// four subtrees of each depth (ipfs/boxo `ipld/unixfs/importer/trickle`). Each depth holds five times the one below,
    /// so that 30 of them hold any file.
    fn trickle(
        &mut self,
        leaves: &mut Ahead<'_, '_>,
        depth: Option<usize>,
        metadata: Metadata,
    ) -> Result<Child, BuildError> {
        let mut children = Vec::new();
        while children.len() < self.options.max_links
            && let Some(leaf) = self.next(leaves)?
        {
            children.push(leaf);
        }
        for below in 1..depth.unwrap_or(usize::MAX) {
            for _ in 0..TRICKLE_REPEAT {
                if !leaves.has_leaf()? {
                    return self.close(&children, metadata);
                }
                children.push(self.trickle(leaves, Some(below), Metadata::default())?);
            }
        }
        self.close(&children, metadata)
    }

    /// Emits the next leaf, if there is one.
    fn next(&mut self, leaves: &mut Ahead<'_, '_>) -> Result<Option<Child>, BuildError> {
        if !leaves.has_leaf()? {
            return Ok(None);
        }
        let Some(Event::Leaf(Hashed { block, size })) = leaves.next()? else { return Ok(None) };
        let child = Child { cid: *block.cid(), size, tsize: block.len() as u64 };
        self.emit(block, size)?;
        Ok(Some(child))
    }

    /// Turns `children` into a node, which becomes a child itself.
    fn close(&mut self, children: &[Child], metadata: Metadata) -> Result<Child, BuildError> {
        let block = self.options.block(DAG_PB, file_node_bytes(children, metadata))?;
        let below: u64 = children.iter().map(|child| child.tsize).sum();
        let node = Child {
            cid: *block.cid(),
            size: children.iter().map(|child| child.size).sum(),
            tsize: below + block.len() as u64,
        };
        self.emit(block, 0)?;
        Ok(node)
    }

    fn emit(&mut self, block: Block, bytes: u64) -> Result<(), BuildError> {
        self.blocks += 1;
        (self.sink)(block, bytes).map_err(BuildError::Store)
    }
}

/// Why a file or a tree was not built.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The input could not be read.
    #[error("reading the input failed")]
    Read(#[source] io::Error),
    /// A block was not taken.
    #[error("storing the file failed")]
    Store(#[source] StoreError),
    /// The chunker broke its contract.
    #[error("the chunker cut {cut} bytes off {len}")]
    Chunker {
        /// What it cut.
        cut: usize,
        /// What there was.
        len: usize,
    },
    /// The options contradict each other.
    #[error("nothing can be imported with these options")]
    Options(#[from] OptionsError),
    /// A node would be longer than any block.
    #[error("a node of {len} bytes is no block: fewer links, or a smaller threshold for directories")]
    NodeTooLong {
        /// Its length.
        len: usize,
    },
    /// A block would go into its identity CID and does not fit.
    #[error("a block of {len} bytes does not fit into an identity CID of 64: lower the limit for inlining")]
    Inline {
        /// Its length.
        len: usize,
    },
    /// A name that no entry of a directory may have.
    #[error("an entry cannot be named {name:?}: {reason}")]
    Name {
        /// The name; what is no UTF-8 in it is replaced.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A directory whose names have so much of their hash in common that no HAMT tells them apart.
    #[error("the hashes of the names {name:?} and another collide")]
    Collision {
        /// One of them.
        name: String,
    },
    /// Directories within directories, deeper than [`MAX_TREE_DEPTH`](crate::MAX_TREE_DEPTH).
    #[error("the tree is deeper than {} directories", crate::MAX_TREE_DEPTH)]
    TooDeep,
    /// An entry that is no file, directory or symbolic link.
    #[error("{name:?} is no file, directory or symbolic link")]
    FileType {
        /// Its name.
        name: String,
    },
}
