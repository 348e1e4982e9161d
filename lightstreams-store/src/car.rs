//! CAR files, version 1: blocks in a stream.
//!
//! ```text
//! header:   varint length, dag-cbor {roots: [CID], version: 1}
//! section:  varint length, CID, bytes of the block                 (any number)
//! ```

use std::io::{self, Read, Write};

use bytes::Bytes;
use cid::Cid;
use serde::{Deserialize, Serialize};

use crate::{Block, BlockError, MAX_BLOCK_LEN, varint};

/// The longest header that is read: room for some twenty thousand roots.
const MAX_HEADER_LEN: u64 = 1 << 20;
/// The longest CID in a section, as elsewhere in IPFS.
const MAX_CID_LEN: u64 = 168;
/// The longest section.
const MAX_SECTION_LEN: u64 = MAX_BLOCK_LEN as u64 + MAX_CID_LEN;

#[derive(Serialize)]
struct HeaderOut<'a> {
    roots: &'a [Cid],
    version: u64,
}

#[derive(Deserialize)]
struct HeaderIn {
    version: u64,
    /// Absent in the pragma of version 2.
    roots: Option<Vec<Cid>>,
}

/// Writes a CARv1.
#[derive(Debug)]
pub struct CarWriter<W> {
    out: W,
    frame: Vec<u8>,
}

impl<W: Write> CarWriter<W> {
    /// Writes the header, which names `roots`.
    pub fn new(mut out: W, roots: &[Cid]) -> io::Result<Self> {
        let header =
            serde_ipld_dagcbor::to_vec(&HeaderOut { roots, version: 1 }).map_err(io::Error::other)?;
        let mut frame = Vec::new();
        varint::put(&mut frame, header.len() as u64);
        frame.extend_from_slice(&header);
        out.write_all(&frame)?;
        Ok(Self { out, frame })
    }

    /// Writes one block.
    pub fn write(&mut self, block: &Block) -> io::Result<()> {
        self.frame.clear();
        varint::put(&mut self.frame, (block.cid().encoded_len() + block.len()) as u64);
        block.cid().write_bytes(&mut self.frame).map_err(io::Error::other)?;
        self.out.write_all(&self.frame)?;
        self.out.write_all(block.data())
    }

    /// Flushes, and gives the output back.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }

    /// Gives access to the output, for who takes what was written so far.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.out
    }
}

/// Reads a CARv1; every block is verified, every length is bounded. An iterator over the blocks, which ends at the
/// first error.
///
/// It reads in small steps: give it a [`BufReader`](io::BufReader) where the input is a file or a socket.
#[derive(Debug)]
pub struct CarReader<R> {
    input: R,
    at: u64,
    roots: Vec<Cid>,
    failed: bool,
}

impl<R: Read> CarReader<R> {
    /// Reads the header.
    pub fn new(input: R) -> Result<Self, CarError> {
        let mut reader = Self { input, at: 0, roots: Vec::new(), failed: false };
        let Some(len) = reader.length(0)? else { return malformed(0, "the file is empty") };
        if len > MAX_HEADER_LEN {
            return malformed(0, "the header is too long");
        }
        let header = reader.bytes(0, len)?;
        let Ok(header) = serde_ipld_dagcbor::from_slice::<HeaderIn>(&header) else {
            return malformed(0, "the header is not a dag-cbor map of version and roots");
        };
        match header {
            HeaderIn { version: 1, roots: Some(roots) } => reader.roots = roots,
            HeaderIn { version: 1, roots: None } => return malformed(0, "the header names no roots"),
            HeaderIn { version, .. } => return Err(CarError::Version { version }),
        }
        Ok(reader)
    }

    /// The roots that the header names; nothing says that they are in the file.
    pub fn roots(&self) -> &[Cid] {
        &self.roots
    }

    /// Reads the next block; `None` at the end. Nothing more is read after an error.
    pub fn next_block(&mut self) -> Result<Option<Block>, CarError> {
        if self.failed {
            return Ok(None);
        }
        let block = self.section();
        self.failed = block.is_err();
        block
    }

    fn section(&mut self) -> Result<Option<Block>, CarError> {
        let start = self.at;
        let Some(len) = self.length(start)? else { return Ok(None) };
        if len == 0 {
            return malformed(start, "the section has no bytes");
        }
        if len > MAX_SECTION_LEN {
            return malformed(start, "the section is too long");
        }
        let section = self.bytes(start, len)?;
        let mut rest = &section[..];
        let Ok(cid) = Cid::read_bytes(&mut rest) else {
            return malformed(start, "the section starts with no CID that can be read");
        };
        let data = section.slice_ref(rest);
        let block = Block::from_cid(cid, data);
        block.map(Some).map_err(|source| CarError::Block { at: start, cid, source })
    }

    /// Reads a length; `None` at the end of the input.
    fn length(&mut self, start: u64) -> Result<Option<u64>, CarError> {
        // A length that matters fits five bytes; more would only hide a wrong one.
        let mut bytes = Vec::with_capacity(5);
        loop {
            let byte = self.bytes_up_to(1)?;
            let Some(&byte) = byte.first() else {
                return if bytes.is_empty() { Ok(None) } else { malformed(start, "a length is cut off") };
            };
            bytes.push(byte);
            if byte & 0x80 == 0 {
                break;
            }
            if bytes.len() == 5 {
                return malformed(start, "a length is too long");
            }
        }
        match varint::take(&mut &bytes[..]) {
            Some(len) if bytes.len() as u64 == varint::len(len) => Ok(Some(len)),
            _ => malformed(start, "a length is not written in its shortest form"),
        }
    }

    /// Reads exactly `len` bytes, which was bounded before.
    fn bytes(&mut self, start: u64, len: u64) -> Result<Bytes, CarError> {
        let bytes = self.bytes_up_to(len)?;
        if (bytes.len() as u64) < len {
            return malformed(start, "the file is cut off");
        }
        Ok(bytes.into())
    }

    /// Reads `len` bytes, or up to the end; memory follows what arrives, not what was promised.
    fn bytes_up_to(&mut self, len: u64) -> Result<Vec<u8>, CarError> {
        let mut bytes = Vec::new();
        let read = self.input.by_ref().take(len).read_to_end(&mut bytes);
        let at = self.at;
        self.at += bytes.len() as u64;
        read.map_err(|source| CarError::Io { at, source })?;
        Ok(bytes)
    }
}

impl<R: Read> Iterator for CarReader<R> {
    type Item = Result<Block, CarError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_block().transpose()
    }
}

fn malformed<T>(at: u64, reason: &'static str) -> Result<T, CarError> {
    Err(CarError::Malformed { at, reason })
}

/// Why a CAR could not be read, and at which byte.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum CarError {
    /// The input failed, which says nothing about the file.
    #[error("reading the CAR failed at byte {at}")]
    Io {
        /// Where.
        at: u64,
        /// How.
        source: io::Error,
    },
    /// The file is no CAR, or is cut off.
    #[error("malformed CAR at byte {at}: {reason}")]
    Malformed {
        /// Start of the header or section concerned.
        at: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// The file is a CAR of another version.
    #[error("CAR of version {version}, only version 1 is read")]
    Version {
        /// Which.
        version: u64,
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
