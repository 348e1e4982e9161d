//! Building the DAG of a file while its bytes stream by.

use std::io::{self, Read};

use bytes::Bytes;
use cid::Cid;

use crate::{
    Block, BlockStore, Chunker, RAW, StoreError,
    dagpb::{Child, file_node},
};

/// The most links of one node, as the profile `unixfs-v1-2025` says.
pub const MAX_LINKS: usize = 1024;

/// Bytes of blocks that [`FileBuilder::import`] stores in one commit.
const BATCH_BYTES: usize = 8 << 20;

/// The root of a file that was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileRoot {
    /// Name of the root: of the only leaf, where there is one leaf.
    pub cid: Cid,
    /// Bytes of the file.
    pub size: u64,
    /// Bytes of all blocks of the DAG, repeated ones counted each time: what a link to it states as `Tsize`.
    pub tsize: u64,
    /// Blocks of the DAG, repeated ones counted each time.
    pub blocks: u64,
}

/// Builds balanced UnixFS files: raw leaves, CIDv1, sha2-256, at most 1,024 links; the profile `unixfs-v1-2025`.
///
/// Memory holds one chunk, the batch of [`import`](Self::import), and the open node of each level, whatever the length
/// of the file.
#[derive(Debug, Clone)]
pub struct FileBuilder<C> {
    chunker: C,
}

impl<C: Chunker> FileBuilder<C> {
    /// Cuts leaves with `chunker`.
    pub fn new(chunker: C) -> Self {
        Self { chunker }
    }

    /// Reads `reader` to its end and hands each block to `sink`, children before parents, the root last.
    pub fn build(
        mut self,
        reader: &mut dyn Read,
        sink: &mut dyn FnMut(Block) -> Result<(), StoreError>,
    ) -> Result<FileRoot, BuildError> {
        let mut tree = Tree { levels: Vec::new(), blocks: 0, sink };
        let mut chunks = Chunks { chunker: &mut self.chunker, reader, pending: Vec::new() };
        while let Some(chunk) = chunks.next()? {
            tree.leaf(chunk)?;
        }
        if tree.blocks == 0 {
            tree.leaf(Bytes::new())?;
        }
        tree.finish()
    }

    /// Reads `reader` to its end and puts all blocks into `store`, in batches; `progress` is told how many bytes of the
    /// file are durable so far. When this returns, all of it is.
    pub fn import(
        self,
        reader: &mut dyn Read,
        store: &dyn BlockStore,
        progress: &mut dyn FnMut(u64),
    ) -> Result<FileRoot, BuildError> {
        let mut batch = Vec::new();
        let (mut batch_bytes, mut file_bytes) = (0, 0);
        let root = self.build(reader, &mut |block| {
            batch_bytes += block.len();
            if block.cid().codec() == RAW {
                file_bytes += block.len() as u64;
            }
            batch.push(block);
            if batch_bytes >= BATCH_BYTES {
                store.put_many(&batch)?;
                batch.clear();
                batch_bytes = 0;
                progress(file_bytes);
            }
            Ok(())
        })?;
        store.put_many(&batch).map_err(BuildError::Store)?;
        progress(file_bytes);
        Ok(root)
    }
}

/// The chunks of a stream.
struct Chunks<'a, C> {
    chunker: &'a mut C,
    reader: &'a mut dyn Read,
    /// What was read and not yet cut.
    pending: Vec<u8>,
}

impl<C: Chunker> Chunks<'_, C> {
    fn next(&mut self) -> Result<Option<Bytes>, BuildError> {
        let max = self.chunker.max_len();
        let missing = max.saturating_sub(self.pending.len());
        self.pending.reserve_exact(missing);
        (&mut *self.reader).take(missing as u64).read_to_end(&mut self.pending).map_err(BuildError::Read)?;
        let len = self.pending.len();
        if len == 0 {
            return Ok(None);
        }
        let cut = self.chunker.cut(&self.pending);
        if cut == 0 || cut > len {
            return Err(BuildError::Chunker { cut, len });
        }
        let rest = self.pending.split_off(cut);
        let mut chunk = std::mem::replace(&mut self.pending, rest);
        if chunk.len() < chunk.capacity() / 2 {
            chunk.shrink_to_fit();
        }
        Ok(Some(chunk.into()))
    }
}

/// A balanced tree that grows from its leaves; all leaves are equally far from the root.
struct Tree<'a> {
    /// The children that the open node of each level has so far, the lowest level first.
    levels: Vec<Vec<Child>>,
    blocks: u64,
    sink: &'a mut dyn FnMut(Block) -> Result<(), StoreError>,
}

impl Tree<'_> {
    fn leaf(&mut self, data: Bytes) -> Result<(), BuildError> {
        let len = data.len() as u64;
        let block = Block::raw(data);
        let child = Child { cid: *block.cid(), size: len, tsize: len };
        self.emit(block)?;
        self.add(0, child)
    }

    /// Adds a child to the open node of `level`; a full node is closed only now, since it may have been the root.
    fn add(&mut self, mut level: usize, mut child: Child) -> Result<(), BuildError> {
        loop {
            if self.levels.len() <= level {
                self.levels.push(Vec::new());
            }
            let Some(open) = self.levels.get_mut(level) else { return Ok(()) };
            if open.len() < MAX_LINKS {
                open.push(child);
                return Ok(());
            }
            let full = std::mem::replace(open, vec![child]);
            child = self.close(&full)?;
            level += 1;
        }
    }

    /// Turns `children` into a node, which becomes a child itself.
    fn close(&mut self, children: &[Child]) -> Result<Child, BuildError> {
        let block = file_node(children);
        let below: u64 = children.iter().map(|child| child.tsize).sum();
        let node = Child {
            cid: *block.cid(),
            size: children.iter().map(|child| child.size).sum(),
            tsize: below + block.len() as u64,
        };
        self.emit(block)?;
        Ok(node)
    }

    fn finish(mut self) -> Result<FileRoot, BuildError> {
        let mut level = 0;
        loop {
            let is_top = level + 1 >= self.levels.len();
            let children = self.levels.get_mut(level).map(std::mem::take).unwrap_or_default();
            if let ([root], true) = (children.as_slice(), is_top) {
                return Ok(FileRoot {
                    cid: root.cid,
                    size: root.size,
                    tsize: root.tsize,
                    blocks: self.blocks,
                });
            }
            let node = self.close(&children)?;
            level += 1;
            self.add(level, node)?;
        }
    }

    fn emit(&mut self, block: Block) -> Result<(), BuildError> {
        self.blocks += 1;
        (self.sink)(block).map_err(BuildError::Store)
    }
}

/// Why a file was not built.
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
}
