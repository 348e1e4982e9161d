//! Chain files: blocks in RLP one after the other, as go-ethereum exports and imports them.

use std::{
    io::{self, BufReader, Read, Write},
    ops::{ControlFlow, RangeInclusive},
    sync::mpsc::{self, Sender},
};

use super::Chain;
use crate::{
    Block, BlockRef, BlockRlpError, ImportError, KvError, Table, decode_block, types::BLOCK_RLP_MAX,
};

/// How far reading or writing a chain file has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileProgress {
    /// Bytes of whole blocks read or written.
    pub bytes: u64,
    /// Blocks in them.
    pub blocks: u64,
    /// Blocks among them that were here already.
    pub known: u64,
    /// Number of the block that came last.
    pub number: u64,
}

/// Why a chain file was not written to its end.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The range is upside down, or ends above the head.
    #[error("the range {first} to {last} is none of this chain, whose head is {head}")]
    Range {
        /// First block asked for.
        first: u64,
        /// Last block asked for.
        last: u64,
        /// The head.
        head: u64,
    },
    /// The chain changed its branch while it was written: write the file again, up to a final block.
    #[error("a reorg replaced block {0} while the file was written")]
    Reorg(u64),
    /// The file could not be written.
    #[error("cannot write the chain file")]
    Write(#[source] io::Error),
    /// Our storage failed.
    #[error("chain storage failed")]
    Storage(#[from] KvError),
}

/// Why a chain file was not imported to its end. What came before was, so that the same file can be imported again.
#[derive(Debug, thiserror::Error)]
#[error("stopped at block {} of the file{}, which begins at byte {}", .done.blocks, numbered(.block), .done.bytes)]
pub struct ImportFileError {
    /// What came before.
    pub done: FileProgress,
    /// The block at which it stopped, if it could be read.
    pub block: Option<BlockRef>,
    /// What is wrong with it.
    #[source]
    pub fault: Box<FileFault>,
}

fn numbered(block: &Option<BlockRef>) -> String {
    block.map(|block| format!(" (number {}, {})", block.number, block.hash)).unwrap_or_default()
}

/// What stops the import of a chain file.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum FileFault {
    /// The file could not be read.
    #[error("cannot read the chain file")]
    Read(#[source] io::Error),
    /// The file ends in the middle of a block.
    #[error("the file ends in the middle of the block")]
    Cut,
    /// These bytes are no block.
    #[error("not a block")]
    Rlp(#[from] BlockRlpError),
    /// The file begins with another genesis.
    #[error("the file is of another chain: this one has the genesis {genesis}")]
    OtherChain {
        /// Hash of the genesis here.
        genesis: alloy_primitives::B256,
    },
    /// The chain does not take the block.
    #[error(transparent)]
    Import(#[from] ImportError),
}

impl Chain {
    /// Writes the canonical blocks `range` to `to`, the genesis too if it is among them, and tells `progress` of each.
    ///
    /// It is the caller who flushes and syncs `to`. Where `progress` breaks, it ends in good order after that block.
    pub fn export_to(
        &self,
        range: RangeInclusive<u64>,
        mut to: impl Write,
        mut progress: impl FnMut(&FileProgress) -> ControlFlow<()>,
    ) -> Result<FileProgress, ExportError> {
        let (first, last, head) = (*range.start(), *range.end(), self.head().number());
        if first > last || last > head {
            return Err(ExportError::Range { first, last, head });
        }
        let mut done = FileProgress::default();
        let mut parent = None;
        for number in range {
            let hash = self.canonical_at(number)?.ok_or(ExportError::Reorg(number))?;
            let block = self.blocks().body(BlockRef { number, hash })?;
            let block =
                block.ok_or_else(|| KvError::corrupt(Table::Bodies, "the body of a block is missing"))?;
            if parent.is_some_and(|parent| parent != block.header.parent_hash) {
                return Err(ExportError::Reorg(number));
            }
            parent = Some(hash);
            let rlp = alloy_rlp::encode(&block);
            to.write_all(&rlp).map_err(ExportError::Write)?;
            done.bytes += rlp.len() as u64;
            done.blocks += 1;
            done.number = number;
            if progress(&done).is_break() {
                break;
            }
        }
        Ok(done)
    }

    /// Imports the blocks of the chain file `from` as [`Chain::import_many`] does, and tells `progress` after each group of them; `now`
    /// in Unix seconds.
    ///
    /// At most two groups are in memory at a time. Blocks that are here already are passed over, so a file whose import was
    /// interrupted is simply imported again. Where `progress` breaks, it ends in good order after that group.
    pub fn import_from(
        &self,
        from: impl Read + Send,
        now: u64,
        mut progress: impl FnMut(&FileProgress) -> ControlFlow<()>,
    ) -> Result<FileProgress, ImportFileError> {
        let (tell, told) = mpsc::channel();
        let mut blocks = FileBlocks { chain: self, from: BufReader::new(from), tell, end: None };
        let mut done = FileProgress::default();
        let mut broken = ControlFlow::Continue(());
        let imported = self.import_groups(&mut blocks, now, |taken| {
            for (this, bytes) in told.try_iter().take(usize::try_from(taken.blocks).unwrap_or(usize::MAX)) {
                done.bytes = done.bytes.saturating_add(bytes);
                done.blocks = done.blocks.saturating_add(1);
                done.number = this.number;
            }
            done.known = done.known.saturating_add(taken.known);
            if taken.blocks > 0 {
                broken = progress(&done);
            }
            broken
        });
        match (imported, blocks.end) {
            (Err(error), _) => {
                // The first that was read and not taken.
                let block = told.try_iter().next().map(|(this, _)| this);
                Err(ImportFileError { done, block, fault: Box::new(error.into()) })
            }
            (Ok(()), Some(Unreadable { block, fault })) if broken.is_continue() => {
                Err(ImportFileError { done, block, fault })
            }
            _ => Ok(done),
        }
    }
}

/// The blocks of a chain file, up to its end or to what is none of this chain.
struct FileBlocks<'a, R> {
    chain: &'a Chain,
    from: BufReader<R>,
    /// Is told of each block that was read, and of its length.
    tell: Sender<(BlockRef, u64)>,
    /// What the file ends with, if not in good order.
    end: Option<Unreadable>,
}

/// What stands in a chain file where a block of this chain should.
struct Unreadable {
    /// The block, if it is one.
    block: Option<BlockRef>,
    fault: Box<FileFault>,
}

impl<R: Read> FileBlocks<'_, R> {
    fn read_block(&mut self) -> Result<Option<Block>, Unreadable> {
        let unreadable = |block, fault| Unreadable { block, fault: Box::new(fault) };
        let rlp = next_list(&mut self.from).map_err(|fault| unreadable(None, fault))?;
        let Some(rlp) = rlp else { return Ok(None) };
        let block = decode_block(&rlp).map_err(|error| unreadable(None, error.into()))?;
        let hash = self.chain.engine.block_hash(&block.header);
        let this = BlockRef { number: block.header.number, hash };
        let genesis = self.chain.genesis_hash;
        if this.number == 0 && hash != genesis {
            return Err(unreadable(Some(this), FileFault::OtherChain { genesis }));
        }
        // Who is told waits for the end of this import.
        let _ = self.tell.send((this, rlp.len() as u64));
        Ok(Some(block))
    }
}

impl<R: Read> Iterator for FileBlocks<'_, R> {
    type Item = Block;

    fn next(&mut self) -> Option<Block> {
        if self.end.is_some() {
            return None;
        }
        self.read_block().unwrap_or_else(|end| {
            self.end = Some(end);
            None
        })
    }
}

/// The next RLP list, as it stands in `from`; `None` at the end.
fn next_list(from: &mut impl Read) -> Result<Option<Vec<u8>>, FileFault> {
    let mut rlp = Vec::new();
    if read(from, 1, &mut rlp)? == 0 {
        return Ok(None);
    }
    let payload = match rlp.first().copied().unwrap_or_default() {
        short @ 0xc0..=0xf7 => usize::from(short - 0xc0),
        long @ 0xf8.. => {
            let size = usize::from(long - 0xf7);
            if read(from, size, &mut rlp)? < size {
                return Err(FileFault::Cut);
            }
            let length = rlp.iter().skip(1).fold(0u64, |length, byte| length << 8 | u64::from(*byte));
            usize::try_from(length).unwrap_or(usize::MAX)
        }
        _ => return Err(BlockRlpError::Rlp(alloy_rlp::Error::UnexpectedString).into()),
    };
    let whole = payload.saturating_add(rlp.len());
    if whole > BLOCK_RLP_MAX {
        return Err(BlockRlpError::TooLong(whole).into());
    }
    if read(from, payload, &mut rlp)? < payload {
        return Err(FileFault::Cut);
    }
    Ok(Some(rlp))
}

/// Appends the next `count` bytes to `rlp`, or as many as are left; memory grows as they come.
fn read(from: &mut impl Read, count: usize, rlp: &mut Vec<u8>) -> Result<usize, FileFault> {
    from.take(count as u64).read_to_end(rlp).map_err(FileFault::Read)
}
