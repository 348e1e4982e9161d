//! Reading from front to back.

use std::io::{self, Read};

use bytes::Bytes;
use cid::Cid;

use super::{CarError, CarLimits, FIRST_DATA, HEADER_V2_LEN, PRAGMA, malformed};
use crate::{Block, Codec, Ipld, MAX_BLOCK_LEN, varint};

/// Reads a CAR of version 1 or 2; every block is verified, every length is bounded. An iterator over the blocks, which
/// ends at the first error.
///
/// Of version 2 the data is read; what lies behind it, the index too, is neither read nor believed: see [`CarFile`](super::CarFile).
///
/// It reads in small steps: give it a [`BufReader`](io::BufReader) where the input is a file or a socket.
#[derive(Debug)]
pub struct CarReader<R> {
    input: R,
    limits: CarLimits,
    at: u64,
    /// Where the data ends, where that is known.
    end: Option<u64>,
    layout: Layout,
    roots: Vec<Cid>,
    done: bool,
}

/// Where the parts of a CAR lie.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) version: u64,
    pub(super) characteristics: [u8; 16],
    /// First byte of the data, which offsets of the index count from.
    pub(super) data: u64,
    /// Byte behind the data, 0 in version 1.
    pub(super) data_end: u64,
    /// First byte of the index, 0 where there is none.
    pub(super) index: u64,
}

impl<R: Read> CarReader<R> {
    /// Reads the header, under the default limits.
    pub fn new(input: R) -> Result<Self, CarError> {
        Self::with_limits(input, CarLimits::default())
    }

    /// Reads the header.
    pub fn with_limits(input: R, limits: CarLimits) -> Result<Self, CarError> {
        let mut reader = Self {
            input,
            limits,
            at: 0,
            end: None,
            layout: Layout { version: 1, ..Layout::default() },
            roots: Vec::new(),
            done: false,
        };
        if reader.header()? == 2 {
            reader.header_v2()?;
            let at = reader.at;
            if reader.header()? != 1 {
                return malformed(at, "the data of version 2 is not of version 1");
            }
        }
        Ok(reader)
    }

    /// The roots that the header names; nothing says that they are in the file.
    pub fn roots(&self) -> &[Cid] {
        &self.roots
    }

    /// Version of the file, 1 or 2.
    pub fn version(&self) -> u64 {
        self.layout.version
    }

    /// Whether a file of version 2 says that its index names every section, those of identity CIDs too.
    pub fn is_fully_indexed(&self) -> bool {
        self.layout.characteristics.first().is_some_and(|byte| byte & 0x80 != 0)
    }

    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    /// Where the next section begins.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Reads the next block; `None` at the end. Nothing more is read after an error.
    pub fn next_block(&mut self) -> Result<Option<Block>, CarError> {
        if self.done {
            return Ok(None);
        }
        let block = self.section();
        self.done = !matches!(block, Ok(Some(_)));
        block
    }

    /// Reads a header of version 1 or the pragma of version 2, and returns the version.
    fn header(&mut self) -> Result<u64, CarError> {
        let start = self.at;
        let Some(len) = self.length(start)? else { return malformed(start, "the file is empty") };
        if len > self.limits.header {
            return malformed(start, "the header is too long");
        }
        let header = self.bytes(start, len)?;
        let not_a_header = "the header is not a dag-cbor map of version and roots";
        let Ok(Ipld::Map(mut header)) = Codec::DagCbor.decode(&header) else {
            return malformed(start, not_a_header);
        };
        let version = match header.get("version") {
            Some(Ipld::Integer(version)) => u64::try_from(*version).unwrap_or(u64::MAX),
            _ => return malformed(start, not_a_header),
        };
        match (version, header.remove("roots"), header.len()) {
            (1, Some(Ipld::List(roots)), 1) => {
                for root in roots {
                    let Ipld::Link(root) = root else { return malformed(start, not_a_header) };
                    self.roots.push(root);
                }
            }
            (1, None, 1) => return malformed(start, "the header names no roots"),
            (2, None, 1) if start == 0 => {}
            (1 | 2, ..) => return malformed(start, not_a_header),
            _ => return Err(CarError::Version { version }),
        }
        Ok(version)
    }

    /// Reads the header of version 2 and goes to the data.
    fn header_v2(&mut self) -> Result<(), CarError> {
        let start = PRAGMA.len() as u64;
        let header = self.bytes(start, HEADER_V2_LEN)?;
        let (characteristics, numbers) = header.split_at_checked(16).unwrap_or_default();
        let mut numbers =
            numbers.chunks_exact(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap_or_default()));
        let mut number = || numbers.next().unwrap_or_default();
        let (data, len, index) = (number(), number(), number());
        let data_end = data.checked_add(len);
        let Some(data_end) = data_end.filter(|_| data >= FIRST_DATA && len > 0) else {
            return malformed(start, "the data lies outside of the file");
        };
        if index != 0 && index < data_end {
            return malformed(start, "the index lies in front of the end of the data");
        }
        let characteristics = characteristics.try_into().unwrap_or_default();
        self.layout = Layout { version: 2, characteristics, data, data_end, index };
        // Padding may lie in front of the data.
        let padding = data - FIRST_DATA;
        let skipped = io::copy(&mut self.input.by_ref().take(padding), &mut io::sink());
        let skipped = skipped.map_err(|source| CarError::Io { at: start, source })?;
        if skipped < padding {
            return malformed(start, "the file is cut off");
        }
        self.at = data;
        self.end = Some(data_end);
        Ok(())
    }

    fn section(&mut self) -> Result<Option<Block>, CarError> {
        let start = self.at;
        let Some(len) = self.length(start)? else {
            // Version 2 says how much there is.
            return match self.end {
                Some(end) if start < end => malformed(start, "the file is cut off"),
                _ => Ok(None),
            };
        };
        if len == 0 {
            if self.limits.empty_section_ends {
                return Ok(None);
            }
            return malformed(start, "the section has no bytes");
        }
        if len > self.limits.section() {
            return malformed(start, "the section is too long");
        }
        let section = self.bytes(start, len)?;
        let mut rest = &section[..];
        let Ok(cid) = Cid::read_bytes(&mut rest) else {
            return malformed(start, "the section starts with no CID that can be read");
        };
        if rest.len() as u64 > self.limits.block && rest.len() <= MAX_BLOCK_LEN {
            return malformed(start, "the section is too long");
        }
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
        let len = self.end.map_or(len, |end| len.min(end.saturating_sub(self.at)));
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
