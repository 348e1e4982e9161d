//! CAR files, version 1: blocks in a stream.

use std::io::{self, Read, Write};

use cid::Cid;

use crate::{Block, BlockError};

/// Writes a CARv1.
#[derive(Debug)]
pub struct CarWriter<W> {
    out: W,
}

impl<W: Write> CarWriter<W> {
    /// Writes the header, which names `roots`.
    pub fn new(out: W, roots: &[Cid]) -> io::Result<Self> {
        let _ = roots;
        Ok(Self { out })
    }

    /// Writes one block.
    pub fn write(&mut self, block: &Block) -> io::Result<()> {
        let _ = block;
        todo!()
    }

    /// Flushes, and gives the output back.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

/// Reads a CARv1; every block is verified, every length is bounded. An iterator over the blocks.
#[derive(Debug)]
pub struct CarReader<R> {
    input: R,
    roots: Vec<Cid>,
}

impl<R: Read> CarReader<R> {
    /// Reads the header.
    pub fn new(input: R) -> Result<Self, CarError> {
        Ok(Self { input, roots: Vec::new() })
    }

    /// The roots that the header names; nothing says that they are in the file.
    pub fn roots(&self) -> &[Cid] {
        &self.roots
    }

    /// Reads the next block; `None` at the end.
    pub fn next_block(&mut self) -> Result<Option<Block>, CarError> {
        let _ = &mut self.input;
        todo!()
    }
}

impl<R: Read> Iterator for CarReader<R> {
    type Item = Result<Block, CarError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_block().transpose()
    }
}

/// Why a CAR could not be read, and at which byte.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum CarError {
    /// The input failed.
    #[error("reading the CAR failed at byte {at}")]
    Io {
        /// Where.
        at: u64,
        /// How.
        source: io::Error,
    },
    /// The file is not a CARv1, or is cut off.
    #[error("malformed CAR at byte {at}: {reason}")]
    Malformed {
        /// Start of the header or section concerned.
        at: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// A section's bytes are not the block that its CID names.
    #[error("wrong block {cid} at byte {at}")]
    Block {
        /// Start of the section.
        at: u64,
        /// The CID it states.
        cid: Cid,
        /// What is wrong.
        source: BlockError,
    },
}
