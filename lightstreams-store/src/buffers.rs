//! Memory for what is read, which is used again.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use bytes::Bytes;

/// Shorter buffers are left to the allocator.
const LONG: usize = 32 << 10;
/// Bytes of a page of memory.
const PAGE: usize = 4096;
/// Where in a page the bytes begin.
const ORIGIN: usize = PAGE / 2;
/// Bytes behind, and at most as many before, for what a node puts around a chunk.
pub(crate) const ROOM: usize = 128;
/// What a buffer may have more than is asked for, as a part of it.
const SLACK_PART: usize = 8;

/// Memory for long pieces, which comes back when nobody needs them any more: fresh memory of the system costs as much time as
/// reading into it.
pub(crate) struct Buffers {
    /// Bytes that wait for their next use.
    bytes_max: usize,
    free: Mutex<Free>,
}

#[derive(Default)]
struct Free {
    buffers: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Buffers {
    /// None yet; `bytes_max` of those that come back are kept.
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { bytes_max, free: Mutex::default() })
    }

    /// A buffer for `max` bytes, without any.
    pub(crate) fn take(self: &Arc<Self>, max: usize) -> Buffer {
        if max < LONG {
            return Buffer { bytes: vec![0; ROOM + max + ROOM], origin: ROOM, len: 0, home: Weak::new() };
        }
        let needed = PAGE + ORIGIN + max + ROOM;
        let bytes = self.free_one(needed).unwrap_or_else(|| vec![0; needed]);
        // Copying to an address up to 31 bytes above that of the source, modulo a page, takes three times as long on several
        // processors (glibc bug 30994). What is copied here begins with a page, as cached files do, or shortly behind one.
        let origin = bytes.as_ptr().align_offset(PAGE).min(PAGE) + ORIGIN;
        Buffer { bytes, origin, len: 0, home: Arc::downgrade(self) }
    }

    /// The one that came back last, of those that are not much too large.
    fn free_one(&self, needed: usize) -> Option<Vec<u8>> {
        let fits = needed..=needed + needed / SLACK_PART;
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let at = free.buffers.iter().rposition(|bytes| fits.contains(&bytes.len()))?;
        let bytes = free.buffers.remove(at)?;
        free.bytes -= bytes.len();
        Some(bytes)
    }

    /// Makes place for it by those that waited longest.
    fn give_back(&self, bytes: Vec<u8>) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.bytes += bytes.len();
        free.buffers.push_back(bytes);
        while free.bytes > self.bytes_max {
            let Some(oldest) = free.buffers.pop_front() else { break };
            free.bytes -= oldest.len();
        }
    }
}

impl std::fmt::Debug for Buffers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buffers").field("bytes_max", &self.bytes_max).finish_non_exhaustive()
    }
}

/// A buffer of [`Buffers`], which is filled from its front.
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    /// Where in `bytes` it begins.
    origin: usize,
    /// How far it is filled.
    len: usize,
    /// Nobody's, if it is short. Who outlives its source, a block in memory say, keeps no other buffers alive.
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

impl From<Buffer> for Bytes {
    fn from(buffer: Buffer) -> Self {
        Self::from_owner(buffer)
    }
}

impl Buffer {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// What is to be filled until `max` bytes are in it, at most as many as it was taken for.
    pub(crate) fn space(&mut self, max: usize) -> &mut [u8] {
        self.bytes.get_mut(self.origin + self.len..self.origin + max).unwrap_or_default()
    }

    /// Says that `count` bytes of [`space`](Self::space) are filled.
    pub(crate) fn filled(&mut self, count: usize) {
        self.len = (self.len + count).min(self.bytes.len() - self.origin);
    }

    pub(crate) fn append(&mut self, more: &[u8]) {
        let end = self.len + more.len();
        if let space @ [_, ..] = self.space(end) {
            space.copy_from_slice(more);
            self.len = end;
        }
    }

    /// Puts up to [`ROOM`] bytes in front, once.
    pub(crate) fn prepend(&mut self, bytes: &[u8]) {
        let end = self.origin;
        if let Some(room) = self.bytes.get_mut(end.saturating_sub(bytes.len())..end) {
            room.copy_from_slice(bytes);
            self.origin -= bytes.len();
            self.len += bytes.len();
        }
    }

    /// Forgets the first `count` bytes.
    pub(crate) fn advance(&mut self, count: usize) {
        let end = self.origin + self.len;
        self.bytes.copy_within((self.origin + count).min(end)..end, self.origin);
        self.len = self.len.saturating_sub(count);
    }

    /// Forgets what is behind the first `len` bytes.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_for_what_is_about_as_long() {
        const LEN: usize = 2 * LONG;
        let buffers = Buffers::new(1 << 20);
        let place = |buffer: &Buffer| buffer.bytes.as_ptr();
        let first = buffers.take(LEN);
        let at = place(&first);
        let bytes = Bytes::from(first);
        // It is in use.
        assert_ne!(place(&buffers.take(LEN + LEN / 2)), at);
        drop(bytes);
        for other in [2 * LEN, LEN / 2, 1] {
            assert_ne!(place(&buffers.take(other)), at);
        }
        let again = buffers.take(LEN - 100);
        assert_eq!((place(&again), again.len()), (at, 0));
    }

    #[test]
    fn only_so_many_bytes_wait_and_what_waits_ends_with_its_source() {
        let buffers = Buffers::new(3 * (LONG + 2 * PAGE));
        let waiting = || buffers.free.lock().unwrap().buffers.len();
        let many: Vec<Buffer> = (0..9).map(|_| buffers.take(LONG)).collect();
        drop(many);
        assert_eq!(waiting(), 3);
        let last = buffers.take(LONG);
        assert_eq!((waiting(), Arc::weak_count(&buffers)), (2, 1));
        drop(buffers);
        assert_eq!(last.home.strong_count(), 0);
    }

    #[test]
    fn what_was_put_in_is_there_and_nothing_that_was_in_it_before() {
        let buffers = Buffers::new(1 << 20);
        let mut buffer = buffers.take(LONG);
        buffer.space(LONG).fill(7);
        buffer.filled(LONG);
        assert_eq!(buffer.space(LONG).len(), 0);
        drop(buffer);
        let mut buffer = buffers.take(LONG);
        assert_eq!(buffer.as_ref(), b"");
        buffer.append(b"xmiddle and more");
        buffer.advance(1);
        buffer.truncate(6);
        buffer.append(b" end");
        buffer.prepend(b"front ");
        assert_eq!(buffer.as_ref(), b"front middle end");
    }
}
