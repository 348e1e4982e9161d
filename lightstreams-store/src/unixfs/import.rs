use super::{
    Batch, DirectoryEntry, DirectorySize, ImportOptions, Input, Message, Metadata, TYPE_DIRECTORY,
    TYPE_SYMLINK, hamt, reading::Reading,
};
use crate::{
    Block, BlockStore, BuildError, Chunker, DAG_PB, FileRoot, StoreError,
    ahead::{Ahead, Event},
    crew::{Crew, crew},
    dagpb::{encode_node, link_len},
    file::{Sink, build_file},
    varint,
};

/// The most directories within one another that are imported or exported.
pub const MAX_TREE_DEPTH: usize = 256;

impl ImportOptions {
    /// Reads a file or a tree to its end and puts all blocks into `store`, in batches; `progress` is told how many bytes
    /// of files are durable so far. When this returns, all of it is.
    ///
    /// Blocks that the store has are not written again: an import that was cut off goes on where it was. Memory holds what is read
    /// ahead for the [threads](Self::threads) that hash (at most 8 MiB), two batches of 8 MiB, and the names and CIDs of the directories that are
    /// open, whatever the size of the tree.
    pub fn import(
        &self,
        input: Input<'_>,
        store: &dyn BlockStore,
        progress: &mut dyn FnMut(u64),
    ) -> Result<FileRoot, BuildError> {
        self.check()?;
        crew(self.threads, |crew| {
            let mut batch = Batch::new(crew, store, progress);
            let root = self.build_with(crew, input, &mut |block, bytes| batch.push(block, bytes))?;
            batch.finish().map_err(BuildError::Store)?;
            Ok(root)
        })
    }

    /// Reads a file or a tree to its end and hands each block to `sink`, children before parents, the root last; a block
    /// that occurs several times comes as often, and so do those that their identity CIDs carry.
    pub fn build(
        &self,
        input: Input<'_>,
        sink: &mut dyn FnMut(Block) -> Result<(), StoreError>,
    ) -> Result<FileRoot, BuildError> {
        self.check()?;
        crew(self.threads, |crew| self.build_with(crew, input, &mut |block, _| sink(block)))
    }

    fn build_with<'t>(
        &'t self,
        crew: &Crew<'_, 't>,
        input: Input<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<FileRoot, BuildError> {
        let source = &mut Reading::new(self, input);
        let mut ahead = Ahead::new(crew, self, self.chunker.max_len(), source);
        Tree { options: self, ahead: &mut ahead, sink }.root()
    }

    /// What the node of an input with this mode and time says.
    pub(super) fn metadata_for(&self, own: Metadata) -> Metadata {
        Metadata {
            mode: self.metadata.mode.or(own.mode.filter(|_| self.preserve_mode)),
            mtime: self.metadata.mtime.or(own.mtime.filter(|_| self.preserve_mtime)),
        }
    }
}

struct Tree<'a, 'b, 't> {
    options: &'t ImportOptions,
    ahead: &'a mut Ahead<'b, 't>,
    sink: &'a mut Sink<'b>,
}

impl Tree<'_, '_, '_> {
    /// The root, which is never left out.
    fn root(&mut self) -> Result<FileRoot, BuildError> {
        if let Some(root) = self.next(0)? {
            return Ok(root);
        }
        let mut blocks = 0;
        let root = self.directory(Vec::new(), self.options.metadata, &mut blocks)?;
        Ok(FileRoot { cid: root.cid, size: 0, tsize: root.tsize, blocks })
    }

    /// Builds what comes next, below `depth` directories, of which there are at most [`MAX_TREE_DEPTH`]; nothing comes of a directory
    /// that is left out.
    fn next(&mut self, depth: usize) -> Result<Option<FileRoot>, BuildError> {
        match self.ahead.next()? {
            Some(Event::File(metadata)) => {
                let root = build_file(self.options, metadata, self.ahead, self.sink)?;
                // Its end.
                self.ahead.next()?;
                Ok(Some(root))
            }
            Some(Event::Symlink(metadata, target)) => {
                let metadata = Metadata { mode: None, ..metadata };
                let message =
                    Message { kind: TYPE_SYMLINK, data: target.into(), metadata, ..Message::default() };
                let node = encode_node([].into_iter(), &message.encode());
                let block = self.options.block(DAG_PB, node)?;
                let root = FileRoot { cid: *block.cid(), size: 0, tsize: block.len() as u64, blocks: 1 };
                (self.sink)(block, 0).map_err(BuildError::Store)?;
                Ok(Some(root))
            }
            Some(Event::Imported(root)) => Ok(Some(root)),
            Some(Event::Directory(metadata)) => {
                let mut listed = Vec::new();
                let (mut size, mut blocks) = (0, 0);
                while let Some(Event::Entry(name)) = self.ahead.next()? {
                    let Some(root) = self.next(depth + 1)? else { continue };
                    size += root.size;
                    blocks += root.blocks;
                    listed.push(DirectoryEntry { name, cid: root.cid, tsize: root.tsize });
                }
                if depth > 0 && listed.is_empty() && !self.options.empty_directories {
                    return Ok(None);
                }
                let root = self.directory(listed, metadata, &mut blocks)?;
                Ok(Some(FileRoot { cid: root.cid, size, tsize: root.tsize, blocks }))
            }
            // Nothing else stands where an input does.
            Some(Event::Entry(_) | Event::Leaf(_) | Event::End) | None => Ok(None),
        }
    }

    /// Writes a directory, as one block or as a HAMT.
    fn directory(
        &mut self,
        mut entries: Vec<DirectoryEntry>,
        metadata: Metadata,
        blocks: &mut u64,
    ) -> Result<DirectoryEntry, BuildError> {
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some([twice, _]) = entries.array_windows().find(|[a, b]| a.name == b.name) {
            let reason = "another entry has this name";
            return Err(BuildError::Name { name: twice.name.clone(), reason });
        }
        let mut emit = |block| {
            *blocks += 1;
            (self.sink)(block, 0).map_err(BuildError::Store)
        };
        let message = Message { kind: TYPE_DIRECTORY, metadata, ..Message::default() }.encode();
        if is_large(&entries, message.len() as u64, self.options) {
            return hamt::build(entries, self.options, metadata, &mut emit);
        }
        let links = entries.iter().map(|entry| (&entry.cid, &*entry.name, entry.tsize));
        let block = self.options.block(DAG_PB, encode_node(links, &message))?;
        let below: u64 = entries.iter().map(|entry| entry.tsize).sum();
        let root =
            DirectoryEntry { name: String::new(), cid: *block.cid(), tsize: below + block.len() as u64 };
        emit(block)?;
        Ok(root)
    }
}

/// Whether a directory becomes a HAMT. Exactly at a limit it does not (IPIP-499).
fn is_large(entries: &[DirectoryEntry], message_len: u64, options: &ImportOptions) -> bool {
    let sharding = options.sharding;
    if sharding.max_entries.is_some_and(|max| entries.len() as u64 > max) {
        return true;
    }
    let lens =
        entries.iter().map(|entry| (entry.cid.encoded_len() as u64, entry.name.len() as u64, entry.tsize));
    let size: u64 = match sharding.estimate {
        DirectorySize::Disabled => return false,
        DirectorySize::Links => lens.map(|(cid, name, _)| cid + name).sum(),
        DirectorySize::Block => {
            let data = 1 + varint::len(message_len) + message_len;
            lens.map(|(cid, name, tsize)| link_len(cid, name, tsize)).sum::<u64>() + data
        }
    };
    size > sharding.threshold
}
