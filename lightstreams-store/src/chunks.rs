//! Chunks of a stream, read to where they stay.

use std::{
    io::{self, Read},
    sync::Arc,
};

use bytes::Bytes;

use crate::{
    BuildError, Chunker,
    buffers::{Buffer, Buffers, ROOM},
};

/// Bytes of buffers that wait for their next use, of an import.
pub(crate) const FREE_BYTES: usize = 24 << 20;

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
            Self::Long(buffer) => buffer.len(),
            Self::Short(bytes) => bytes.len(),
        }
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        match self {
            Self::Long(buffer) => buffer.into(),
            Self::Short(bytes) => bytes,
        }
    }

    /// The bytes with `before` and `after` around them. A long piece stays where it is.
    pub(crate) fn between(self, before: &[u8], after: &[u8]) -> Bytes {
        match self {
            Self::Long(mut buffer) if before.len().max(after.len()) <= ROOM => {
                buffer.append(after);
                buffer.prepend(before);
                buffer.into()
            }
            Self::Long(buffer) => [before, buffer.as_ref(), after].concat().into(),
            Self::Short(bytes) => [before, &bytes, after].concat().into(),
        }
    }
}

/// Reads until `max` bytes are in it or the source ends; returns whether it has.
fn fill(buffer: &mut Buffer, reader: &mut dyn Read, max: usize) -> io::Result<bool> {
    while let room @ [_, ..] = buffer.space(max) {
        let len = room.len();
        match reader.read(room) {
            Ok(0) => return Ok(true),
            Ok(count) => buffer.filled(count.min(len)),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(false)
}

/// The chunks of a stream.
pub(crate) struct Chunks<R, C> {
    chunker: C,
    /// Of a chunk, and of each buffer.
    len_max: usize,
    reader: R,
    buffers: Arc<Buffers>,
    /// What was read and not yet cut.
    pending: Option<Buffer>,
    ended: bool,
}

impl<R: Read, C: Chunker> Chunks<R, C> {
    /// Those that `chunker` cuts.
    pub(crate) fn new(chunker: C, reader: R, buffers: Arc<Buffers>) -> Self {
        Self { len_max: chunker.max_len(), chunker, reader, buffers, pending: None, ended: false }
    }

    /// The next chunk.
    pub(crate) fn next(&mut self) -> Result<Option<Chunk>, BuildError> {
        let mut pending = self.pending.take().unwrap_or_else(|| self.buffers.take(self.len_max));
        if !self.ended {
            self.ended = fill(&mut pending, &mut self.reader, self.len_max).map_err(BuildError::Read)?;
        }
        let len = pending.len();
        if len == 0 {
            return Ok(None);
        }
        let cut = self.chunker.cut(pending.as_ref());
        if cut == 0 || cut > len {
            return Err(BuildError::Chunker { cut, len });
        }
        let (chunk, rest) = pending.as_ref().split_at_checked(cut).unwrap_or_default();
        // Short ones would hold much more memory than they need.
        if cut < self.len_max / 2 {
            let chunk = Bytes::copy_from_slice(chunk);
            pending.advance(cut);
            self.pending = Some(pending);
            return Ok(Some(Chunk::Short(chunk)));
        }
        if !rest.is_empty() {
            let mut next = self.buffers.take(self.len_max);
            next.append(rest);
            self.pending = Some(next);
        }
        pending.truncate(cut);
        Ok(Some(Chunk::Long(pending)))
    }
}
