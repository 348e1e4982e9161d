//! Reading one block among many.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufReader, Read},
};

use bytes::Bytes;
use cid::Cid;

use super::{CarError, CarLimits, CarReader, MAX_CID_LEN, index::Index, malformed, reader::Layout};
use crate::{Block, BlockSource, StoreError, varint};

/// Bytes that can be read anywhere: a file, a buffer, an object behind range requests.
pub trait ReadAt {
    /// Number of bytes.
    fn size(&self) -> io::Result<u64>;

    /// Reads into `buf` from byte `offset` on; 0 bytes come back only at the end, or for an empty `buf`.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;
}

impl<S: ReadAt + ?Sized> ReadAt for &S {
    fn size(&self) -> io::Result<u64> {
        (**self).size()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        (**self).read_at(offset, buf)
    }
}

macro_rules! read_at_bytes {
    ($($bytes:ty),*) => {$(
        impl ReadAt for $bytes {
            fn size(&self) -> io::Result<u64> {
                Ok(self.len() as u64)
            }
            fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
                let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..));
                rest.unwrap_or_default().read(buf)
            }
        }
    )*};
}
read_at_bytes!([u8], Vec<u8>, Bytes);

impl ReadAt for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    #[cfg(unix)]
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, buf, offset)
    }

    #[cfg(windows)]
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_read(self, buf, offset)
    }
}

/// Fills `buf` from `at` on; fewer bytes come back only at the end.
pub(super) fn fill(source: &impl ReadAt, at: u64, buf: &mut [u8]) -> Result<usize, CarError> {
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match source.read_at(at.saturating_add(done as u64), rest) {
            Ok(0) => break,
            Ok(read) => done += read.min(rest.len()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(CarError::Io { at, source }),
        }
    }
    Ok(done)
}

/// Reads from front to back what can be read anywhere.
struct Forward<'a, S> {
    source: &'a S,
    at: u64,
}

impl<S: ReadAt> Read for Forward<'_, S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read_at(self.at, buf)?.min(buf.len());
        self.at += read as u64;
        Ok(read)
    }
}

/// Gives the blocks of a CAR by their CIDs; every block is verified, whatever the index says.
///
/// An index of version 2 is searched where it lies, and memory holds a few bytes of it. A file without one, or with one of a
/// form that is not known, is gone through once when it is opened, which reads the head of each section and keeps about
/// 100 bytes for each.
#[derive(Debug)]
pub struct CarFile<S> {
    source: S,
    limits: CarLimits,
    roots: Vec<Cid>,
    layout: Layout,
    fully_indexed: bool,
    /// Byte behind the data.
    end: u64,
    index: Index,
}

/// The head of a section.
struct Head {
    cid: Cid,
    /// First byte of the block.
    block: u64,
    /// Byte behind it.
    end: u64,
}

impl<S: ReadAt> CarFile<S> {
    /// Reads the header and the head of the index, or all heads of sections.
    pub fn open(source: S, limits: CarLimits) -> Result<Self, CarError> {
        let size = source.size().map_err(|source| CarError::Io { at: 0, source })?;
        let reader = CarReader::with_limits(BufReader::new(Forward { source: &source, at: 0 }), limits)?;
        let (layout, first) = (reader.layout(), reader.at());
        let (roots, fully_indexed) = (reader.roots().to_vec(), reader.is_fully_indexed());
        let end = if layout.version == 1 { size } else { layout.data_end };
        if end > size {
            return malformed(first, "the file is cut off");
        }
        let index = match layout.index {
            0 => None,
            at => Index::read(&source, at, size)?,
        };
        let scan = index.is_none();
        let index = index.unwrap_or_else(|| Index::Memory(HashMap::new()));
        let mut file = Self { source, limits, roots, layout, fully_indexed, end, index };
        if scan {
            file.index = Index::Memory(file.scan(first)?);
        }
        Ok(file)
    }

    /// The roots that the header names; nothing says that they are in the file.
    pub fn roots(&self) -> &[Cid] {
        &self.roots
    }

    /// Whether the file brought an index of a known form.
    pub fn has_index(&self) -> bool {
        matches!(self.index, Index::File(_))
    }

    /// Returns the block named `cid`, verified, or `None` if the index does not name it.
    pub fn get(&self, cid: &Cid) -> Result<Option<Block>, CarError> {
        if let Some(block) = Block::inline(cid) {
            return Ok(Some(block));
        }
        for offset in self.index.find(&self.source, cid.hash())? {
            let wrong = |reason| Err(CarError::Index { at: offset, reason });
            let at = self.layout.data.checked_add(offset).filter(|at| *at < self.end);
            let Some(at) = at else { return wrong("it points outside of the data") };
            let Some(head) = self.head(at)? else { return wrong("it points outside of the data") };
            if head.cid.hash() != cid.hash() {
                // The older form of an index does not tell hash functions apart.
                if self.index.is_exact() {
                    return wrong("it points to another block");
                }
                continue;
            }
            let mut bytes = vec![0; (head.end - head.block) as usize];
            if fill(&self.source, head.block, &mut bytes)? < bytes.len() {
                return malformed(at, "the file is cut off");
            }
            let block = Block::from_cid(*cid, bytes);
            return block.map(Some).map_err(|source| CarError::Block { at, cid: *cid, source });
        }
        Ok(None)
    }

    /// Reads the whole file and verifies every block, and that the index names each section and nothing else; returns the
    /// number of sections. Blocks of identity CIDs need not be named, unless the file says that it is fully indexed;
    /// of several sections of one block one is enough.
    pub fn verify(&self) -> Result<u64, CarError> {
        let forward = Forward { source: &self.source, at: 0 };
        let mut reader = CarReader::with_limits(BufReader::with_capacity(1 << 16, forward), self.limits)?;
        let (mut sections, mut named) = (0, 0);
        loop {
            let at = reader.at();
            let Some(block) = reader.next_block()? else { break };
            sections += 1;
            let offset = at - self.layout.data;
            let found = self.index.find(&self.source, block.cid().hash())?;
            named += u64::from(found.contains(&offset));
            let may_lack = Block::inline(block.cid()).is_some() && !self.fully_indexed;
            if found.is_empty() && !may_lack {
                return Err(CarError::Index { at: offset, reason: "it does not name this section" });
            }
        }
        if self.index.entries() != named {
            let reason = "it names what is no section, or one twice";
            return Err(CarError::Index { at: 0, reason });
        }
        Ok(sections)
    }

    /// Where each block first stands.
    fn scan(&self, first: u64) -> Result<HashMap<Vec<u8>, u64>, CarError> {
        let mut index = HashMap::new();
        let mut at = first;
        while let Some(head) = self.head(at)? {
            index.entry(head.cid.hash().to_bytes()).or_insert(at - self.layout.data);
            at = head.end;
        }
        Ok(index)
    }

    /// Reads the head of the section at `at`; `None` at the end.
    fn head(&self, at: u64) -> Result<Option<Head>, CarError> {
        let room = self.end.saturating_sub(at);
        let mut bytes = [0; 5 + MAX_CID_LEN as usize];
        let read = fill(&self.source, at, &mut bytes)?;
        let bytes = bytes.get(..read.min(usize::try_from(room).unwrap_or(read))).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(None);
        }
        let mut rest = bytes;
        let len =
            varint::take(&mut rest).filter(|len| varint::len(*len) == (bytes.len() - rest.len()) as u64);
        let Some(len) = len else { return malformed(at, "a length is cut off or malformed") };
        if len == 0 {
            if self.limits.empty_section_ends {
                return Ok(None);
            }
            return malformed(at, "the section has no bytes");
        }
        if len > self.limits.section() {
            return malformed(at, "the section is too long");
        }
        let start = at + (bytes.len() - rest.len()) as u64;
        let end = start + len;
        if end > self.end {
            return malformed(at, "the file is cut off");
        }
        let mut section = rest.get(..usize::try_from(len).unwrap_or(usize::MAX)).unwrap_or(rest);
        let before = section.len();
        let Ok(cid) = Cid::read_bytes(&mut section) else {
            return malformed(at, "the section starts with no CID that can be read");
        };
        Ok(Some(Head { cid, block: start + (before - section.len()) as u64, end }))
    }
}

impl<S: ReadAt> BlockSource for CarFile<S> {
    fn block(&self, cid: &Cid) -> Result<Option<Block>, StoreError> {
        self.get(cid).map_err(|error| StoreError::from(error).on(cid))
    }
}
