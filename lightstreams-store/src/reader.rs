//! Reading any UnixFS file.

use std::{
    fmt,
    io::{self, Read, Seek, SeekFrom},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use cid::Cid;

use crate::{
    Block, BlockSource, DAG_PB, LayoutError, RAW, ReadError,
    dagpb::Node,
    payload::read_block,
    unixfs::{Message, TYPE_FILE, TYPE_RAW},
};

/// The deepest tree that is read; 1,024 links make 2^80 leaves in eight levels.
pub(crate) const MAX_DEPTH: usize = 32;

/// Reads a UnixFS file of any valid layout, with seek and ranges; only the blocks that a range needs are read.
///
/// A node whose `blocksizes` are not one for each link, or whose children have other lengths than it states, is
/// refused. Memory holds one node of each level on the way to the last byte read.
pub struct FileReader<S> {
    source: S,
    root: Cid,
    len: u64,
    position: u64,
    path: Mutex<Vec<(Cid, Arc<Part>)>>,
}

/// A part of a file: bytes of its own, then those of its children.
struct Part {
    data: Bytes,
    children: Vec<(Cid, u64)>,
    len: u64,
}

impl<S: BlockSource> FileReader<S> {
    /// Opens the file by its root, which is read and checked now.
    pub fn open(source: S, root: &Cid) -> Result<Self, ReadError> {
        let mut reader = Self { source, root: *root, len: 0, position: 0, path: Mutex::default() };
        reader.len = reader.part(root, 0)?.len;
        Ok(reader)
    }

    /// Bytes of the file.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the file has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Fills `buf` from byte `offset` on; fewer bytes than `buf` has come back only at the end.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        let mut done = 0;
        while done < buf.len() {
            let at = offset.saturating_add(done as u64);
            if at >= self.len {
                break;
            }
            let bytes = self.bytes_at(at)?;
            let n = bytes.len().min(buf.len() - done);
            if let (Some(to), Some(from)) = (buf.get_mut(done..done + n), bytes.get(..n)) {
                to.copy_from_slice(from);
            }
            done += n;
        }
        Ok(done)
    }

    /// Some bytes from `at` on, which lies before the end: at least one.
    pub(crate) fn bytes_at(&self, mut at: u64) -> Result<Bytes, ReadError> {
        let mut cid = self.root;
        let mut part = self.part(&cid, 0)?;
        for depth in 1.. {
            let own = part.data.len() as u64;
            if at < own {
                return Ok(part.data.slice(at as usize..));
            }
            at -= own;
            let below = part.children.iter().find(|(_, len)| {
                let here = at < *len;
                if !here {
                    at -= len;
                }
                here
            });
            let Some(&(child, expected)) = below else { break };
            let parent = cid;
            cid = child;
            part = self.part(&cid, depth)?;
            if part.len != expected {
                let source = LayoutError::Length { expected, found: part.len };
                return Err(ReadError::Layout { cid: parent, source });
            }
        }
        // A part is as long as its data and its children together.
        Err(ReadError::Layout { cid, source: LayoutError::NotAFile })
    }

    fn part(&self, cid: &Cid, depth: usize) -> Result<Arc<Part>, ReadError> {
        if depth >= MAX_DEPTH {
            return Err(ReadError::Layout { cid: *cid, source: LayoutError::TooDeep });
        }
        let path = || self.path.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((cached, part)) = path().get(depth)
            && cached == cid
        {
            return Ok(part.clone());
        }
        let block = read_block(&self.source, cid)?;
        let part = Part::decode(&block).map_err(|source| ReadError::Layout { cid: *cid, source })?;
        let part = Arc::new(part);
        let mut path = path();
        path.truncate(depth);
        path.push((*cid, part.clone()));
        Ok(part)
    }
}

impl Part {
    fn decode(block: &Block) -> Result<Self, LayoutError> {
        match block.cid().codec() {
            RAW => {
                let data = block.data().clone();
                return Ok(Self { len: data.len() as u64, data, children: Vec::new() });
            }
            DAG_PB => {}
            _ => return Err(LayoutError::NotAFile),
        }
        let node = Node::decode(block.data())?;
        let unixfs = Message::decode(&node.data)?;
        if !matches!(unixfs.kind, TYPE_FILE | TYPE_RAW) {
            return Err(LayoutError::NotAFile);
        }
        if unixfs.blocksizes.len() != node.links.len() {
            return Err(LayoutError::Malformed { reason: "blocksizes and links differ in number" });
        }
        let own = unixfs.data.len() as u64;
        let len = unixfs.blocksizes.iter().try_fold(own, |sum, size| sum.checked_add(*size));
        let len = len.ok_or(LayoutError::Malformed { reason: "blocksizes exceed 64 bits" })?;
        if unixfs.filesize.is_some_and(|filesize| filesize != len) {
            return Err(LayoutError::Malformed { reason: "filesize is not the sum of its parts" });
        }
        let cids = node.links.into_iter().map(|link| link.cid);
        let children = cids.zip(unixfs.blocksizes).collect();
        Ok(Self { data: unixfs.data, children, len })
    }
}

impl<S> fmt::Debug for FileReader<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileReader").field("root", &self.root).field("len", &self.len).finish_non_exhaustive()
    }
}

impl<S: BlockSource> Read for FileReader<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.read_at(self.position, buf).map_err(io::Error::other)?;
        self.position = self.position.saturating_add(n as u64);
        Ok(n)
    }
}

impl<S: BlockSource> Seek for FileReader<S> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        let outside = || io::Error::new(io::ErrorKind::InvalidInput, "seek to before the start of the file");
        self.position = target.ok_or_else(outside)?;
        Ok(self.position)
    }
}
