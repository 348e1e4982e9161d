//! Chunks of a stream, read to where they stay.

use std::{
    io::{self, Read},
    mem,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use bytes::Bytes;

use crate::{BuildError, Chunker};

/// Bytes of buffers that wait for their next use.
const FREE_BYTES: usize = 24 << 20;
/// Bytes of a page of memory.
const PAGE: usize = 4096;
/// Where in a page chunks begin.
const ORIGIN: usize = PAGE / 2;
/// Bytes behind a chunk, and at most as many before it, for what a node puts around it.
const ROOM: usize = 128;

/// Memory for long chunks, which comes back when nobody needs them any more: fresh memory of the system costs as much time as
/// reading into it.
pub(crate) struct Buffers {
    len: usize,
    free: Mutex<Vec<Vec<u8>>>,
}

impl Buffers {
    /// Buffers of `len` bytes.
    pub(crate) fn new(len: usize) -> Arc<Self> {
        Arc::new(Self { len, free: Mutex::default() })
    }

    fn take(self: &Arc<Self>) -> Buffer {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let bytes = free.unwrap_or_else(|| vec![0; PAGE + ORIGIN + self.len + ROOM]);
        // Copying to an address up to 31 bytes above that of the source, modulo a page, takes three times as long on several
        // processors (glibc bug 30994). What is copied here begins with a page, as cached files do, or shortly behind one.
        let origin = bytes.as_ptr().align_offset(PAGE).min(PAGE) + ORIGIN;
        Buffer { bytes, origin, len: 0, home: Arc::downgrade(self) }
    }

    fn give_back(&self, bytes: Vec<u8>) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < FREE_BYTES / self.len.max(1) {
            free.push(bytes);
        }
    }
}

/// A piece of a stream.
pub(crate) enum Chunk {
    /// In a buffer of its own.
    Long(Buffer),
    Short(Bytes),
}

impl Chunk {
    /// The piece without bytes.
    pub(crate) const EMPTY: Self = Self::Short(Bytes::new());

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Long(buffer) => buffer.len,
            Self::Short(bytes) => bytes.len(),
        }
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        match self {
            Self::Long(buffer) => Bytes::from_owner(buffer),
            Self::Short(bytes) => bytes,
        }
    }

    /// The bytes with `before` and `after` around them. A long piece stays where it is.
    pub(crate) fn between(self, before: &[u8], after: &[u8]) -> Bytes {
        match self {
            Self::Long(mut buffer) if before.len().max(after.len()) <= ROOM => {
                buffer.append(after);
                buffer.prepend(before);
                Bytes::from_owner(buffer)
            }
            Self::Long(buffer) => [before, buffer.as_ref(), after].concat().into(),
            Self::Short(bytes) => [before, &bytes, after].concat().into(),
        }
    }
}

/// A buffer of [`Buffers`], which is filled from its front.
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    /// Where in `bytes` it begins.
    origin: usize,
    /// How far it is filled.
    len: usize,
    /// Who outlives its source, a block in memory say, keeps no other buffers alive.
    home: Weak<Buffers>,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(self.origin..self.origin + self.len).unwrap_or_default()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(home) = self.home.upgrade() {
            home.give_back(mem::take(&mut self.bytes));
        }
    }
}

impl Buffer {
    /// Reads until `max` bytes are in it or the source ends; returns whether it has.
    fn fill(&mut self, reader: &mut dyn Read, max: usize) -> io::Result<bool> {
        while let Some(room @ [_, ..]) = self.bytes.get_mut(self.origin + self.len..self.origin + max) {
            match reader.read(room) {
                Ok(0) => return Ok(true),
                Ok(count) => self.len += count.min(room.len()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(false)
    }

    fn append(&mut self, more: &[u8]) {
        if let Some(room) = self.bytes.get_mut(self.origin + self.len..self.origin + self.len + more.len()) {
            room.copy_from_slice(more);
            self.len += more.len();
        }
    }

    /// Puts up to [`ROOM`] bytes in front, once.
    fn prepend(&mut self, bytes: &[u8]) {
        let end = self.origin;
        if let Some(room) = self.bytes.get_mut(end.saturating_sub(bytes.len())..end) {
            room.copy_from_slice(bytes);
            self.origin -= bytes.len();
            self.len += bytes.len();
        }
    }

    /// Forgets the first `count` bytes.
    fn advance(&mut self, count: usize) {
        let end = self.origin + self.len;
        self.bytes.copy_within((self.origin + count).min(end)..end, self.origin);
        self.len = self.len.saturating_sub(count);
    }
}

/// The chunks of a stream.
pub(crate) struct Chunks<R, C> {
    chunker: C,
    reader: R,
    buffers: Arc<Buffers>,
    /// What was read and not yet cut.
    pending: Option<Buffer>,
    ended: bool,
}

impl<R: Read, C: Chunker> Chunks<R, C> {
    /// Those that `chunker` cuts, of at most as many bytes as `buffers` have.
    pub(crate) fn new(chunker: C, reader: R, buffers: Arc<Buffers>) -> Self {
        Self { chunker, reader, buffers, pending: None, ended: false }
    }

    /// The next chunk.
    pub(crate) fn next(&mut self) -> Result<Option<Chunk>, BuildError> {
        let max = self.chunker.max_len().min(self.buffers.len);
        let mut pending = self.pending.take().unwrap_or_else(|| self.buffers.take());
        if !self.ended {
            self.ended = pending.fill(&mut self.reader, max).map_err(BuildError::Read)?;
        }
        let len = pending.len;
        if len == 0 {
            return Ok(None);
        }
        let cut = self.chunker.cut(pending.as_ref());
        if cut == 0 || cut > len {
            return Err(BuildError::Chunker { cut, len });
        }
        let (chunk, rest) = pending.as_ref().split_at_checked(cut).unwrap_or_default();
        // Short ones would hold much more memory than they need.
        if cut < self.buffers.len / 2 {
            let chunk = Bytes::copy_from_slice(chunk);
            pending.advance(cut);
            self.pending = Some(pending);
            return Ok(Some(Chunk::Short(chunk)));
        }
        if !rest.is_empty() {
            let mut next = self.buffers.take();
            next.append(rest);
            self.pending = Some(next);
        }
        pending.len = cut;
        Ok(Some(Chunk::Long(pending)))
    }
}
