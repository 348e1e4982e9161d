//! CAR files: blocks in a stream, with an index where one block must be found among many.
//!
//! ```text
//! version 1   header:   varint length, dag-cbor {roots: [CID], version: 1}
//!             section:  varint length, CID, bytes of the block                         (any number)
//!
//! version 2   pragma:   0a a1 67 "version" 02                                          11 bytes
//!             header:   16 bytes of characteristics; offset of the data, length of the data, offset of the
//!                       index or 0, each 8 bytes, little-endian                        40 bytes
//!             data:     a version 1 as above, at its offset
//!             index:    varint codec, then buckets of entries, see below; at its offset, up to the end
//!
//! index       0x0401: u32 number of codes, each: u64 code of a hash function, widths
//!             0x0400: widths
//!             widths: u32 number of widths, each: u32 width, u64 bytes of all entries, entries
//!             entry: digest (width - 8 bytes), u64 offset of its section from the start of the data
//! ```
//!
//! Codes and widths ascend, entries of one bucket ascend by digest. (Rules: ipld/ipld
//! `specs/transport/car/carv1/index.md`, `carv2/index.md`; ipld/go-car `v2/index` for the byte order of the index.)

mod file;
mod import;
mod index;
mod reader;
mod writer;

use std::io;

use cid::Cid;

pub use self::{
    file::{CarFile, ReadAt},
    import::{CarImport, CarImportError, import_car},
    reader::CarReader,
    writer::{CarWriter, IndexedCarWriter},
};
use crate::{BlockError, MAX_BLOCK_LEN, StoreError};

/// The longest CID in a section, as elsewhere in IPFS.
const MAX_CID_LEN: u64 = 168;

/// The first bytes of version 2: a header of version 1's form that names the version only.
const PRAGMA: [u8; 11] = *b"\x0a\xa1\x67version\x02";
/// Bytes of the header of version 2, behind the pragma.
const HEADER_V2_LEN: u64 = 40;
/// Where the data of version 2 can begin.
const FIRST_DATA: u64 = PRAGMA.len() as u64 + HEADER_V2_LEN;

/// What is read of a CAR, and how much at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CarLimits {
    /// Bytes of a header of version 1; the default of 1 MiB holds some twenty thousand roots.
    pub header: u64,
    /// Bytes of a block, at most and by default [`MAX_BLOCK_LEN`].
    pub block: u64,
    /// Whether a section without bytes ends the file, as one that was padded with zeros has it; by default it is an error.
    pub empty_section_ends: bool,
}

impl Default for CarLimits {
    fn default() -> Self {
        Self { header: 1 << 20, block: MAX_BLOCK_LEN as u64, empty_section_ends: false }
    }
}

impl CarLimits {
    /// The longest section.
    fn section(&self) -> u64 {
        self.block.min(MAX_BLOCK_LEN as u64) + MAX_CID_LEN
    }
}

fn malformed<T>(at: u64, reason: &'static str) -> Result<T, CarError> {
    Err(CarError::Malformed { at, reason })
}

/// Why a CAR could not be read, and at which byte of the file.
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
        /// Start of the header, section or index concerned.
        at: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// The file is a CAR of another version.
    #[error("CAR of version {version}, only versions 1 and 2 are read")]
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
    /// The index says what the data does not.
    #[error("the index is wrong about byte {at}: {reason}")]
    Index {
        /// The section concerned, as the index or the data has it.
        at: u64,
        /// What is wrong.
        reason: &'static str,
    },
}

impl From<CarError> for StoreError {
    fn from(error: CarError) -> Self {
        Self::new(crate::StoreOp::Get, error)
    }
}
