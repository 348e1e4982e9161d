//! A run of chunks in one buffer, and what the two directions of a payload do with it.

use std::{
    io::{self, Read},
    ops::Range,
};

use zeroize::Zeroizing;

use crate::{
    CHUNK, Error, PayloadKey, TAG,
    payload::{SEALED, chunk_layout, payload_len},
};

/// A direction of a payload: how the next chunks are read, and what is then done with them.
///
/// Reading keeps the order; the work on a run depends on nothing but the run, and is done in any thread.
pub(crate) trait Direction: Sized {
    /// A new, empty run with room for `chunks` chunks.
    fn run(&self, chunks: usize) -> Run;

    /// Reads the next run; `state` is how far those before it are known to have come.
    ///
    /// After an error, `run` holds what was read so far, and the next call with it goes on there.
    fn fill(&mut self, reader: &mut impl Read, run: &mut Run, state: State) -> Result<(), Error>;

    /// Seals or opens the chunks of a run, and leaves in it what can be given out and how it ended.
    fn apply(key: &PayloadKey, run: &mut Run);
}

/// How far a payload has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// More chunks are to come.
    Reading,
    /// This chunk was the last one, and it is still to be seen that nothing follows it.
    Ending { last: u64 },
    /// All is done.
    Ended,
    /// This chunk is at fault. Nothing is given out any more.
    Failed(Fault, u64),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    Damaged,
    Truncated,
    Trailing,
    Refused,
}

impl State {
    /// Whether there is more to read; the fault, if there was one.
    pub(crate) fn goes_on(self) -> Result<bool, Error> {
        match self {
            State::Reading | State::Ending { .. } => Ok(true),
            State::Ended => Ok(false),
            State::Failed(Fault::Damaged, chunk) => Err(Error::DamagedPayload { chunk }),
            State::Failed(Fault::Truncated, chunk) => Err(Error::TruncatedPayload { chunk }),
            State::Failed(Fault::Trailing, chunk) => Err(Error::TrailingData { chunk }),
            State::Failed(Fault::Refused, _) => Err(Error::Unsupported("the cipher refused a payload chunk")),
        }
    }

    /// The state after the next run in order. What follows the last chunk is not looked into.
    pub(crate) fn after(self, run: &mut Run) -> State {
        match self {
            State::Ending { last } => {
                run.ready = 0..0;
                if run.found == 0 { State::Ended } else { State::Failed(Fault::Trailing, last) }
            }
            _ => run.outcome,
        }
    }
}

/// Bytes that are wiped on drop, and lie where reading into them is fast.
///
/// Copying to an address that lies up to 31 bytes above that of the source, modulo a page, takes three times as long on
/// several processors (glibc bug 30994). Large buffers of the allocator lie 16 bytes behind a page, and cached files at
/// its start: so this one lies a cache line behind a page, and the chunks in it further still.
pub(crate) struct Buffer {
    bytes: Zeroizing<Vec<u8>>,
    /// Where in `bytes` the buffer begins.
    origin: usize,
}

impl Buffer {
    const PAGE: usize = 4096;
    const LINE: usize = 64;

    pub(crate) fn new(len: usize) -> Self {
        let bytes = Zeroizing::new(vec![0; len + Self::PAGE + Self::LINE]);
        let origin = bytes.as_ptr().align_offset(Self::PAGE).min(Self::PAGE) + Self::LINE;
        Self { bytes, origin }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(self.origin..).unwrap_or_default()
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.origin..).unwrap_or_default()
    }
}

/// Consecutive chunks in one buffer.
pub(crate) struct Run {
    buffer: Buffer,
    /// Bytes that a full run reads.
    capacity: usize,
    /// Index of the first chunk.
    first: u64,
    /// Bytes read so far.
    filled: usize,
    /// Bytes that were read when the run was complete.
    found: usize,
    /// Whether the source has ended, or need not be read further.
    pub(crate) end: bool,
    /// Plaintext length of the whole payload, where known.
    expected: Option<u64>,
    ready: Range<usize>,
    outcome: State,
}

impl Run {
    fn new(len: usize, capacity: usize) -> Self {
        Self {
            buffer: Buffer::new(len),
            capacity,
            first: 0,
            filled: 0,
            found: 0,
            end: false,
            expected: None,
            ready: 0..0,
            outcome: State::Reading,
        }
    }

    /// What is to be given out next.
    pub(crate) fn ready(&self) -> &[u8] {
        self.buffer.bytes().get(self.ready.clone()).unwrap_or_default()
    }

    /// Whether there is nothing in it, to be given out or to be gone on with.
    pub(crate) fn is_idle(&self) -> bool {
        self.ready.is_empty() && self.filled == 0
    }

    pub(crate) fn consume(&mut self, amount: usize) {
        self.ready.start = self.ready.start.saturating_add(amount).min(self.ready.end);
    }

    /// Whether a read error came while this run was being filled.
    #[cfg(feature = "parallel")]
    pub(crate) fn is_partial(&self) -> bool {
        self.filled > 0
    }

    /// Reads until `buffer[range]` is full or the source ends, and returns how much of it was read.
    ///
    /// `before` bytes were read for other places. `filled` is right after an error, or a panic of the source, too.
    fn read(&mut self, reader: &mut impl Read, range: Range<usize>, before: usize) -> Result<usize, Error> {
        let buffer = self.buffer.bytes_mut().get_mut(range).unwrap_or_default();
        fill(reader, buffer, before, &mut self.filled)?;
        Ok(self.filled - before)
    }
}

/// Reads until `buffer` is full or the source ends; of `filled`, which is right after an error or a panic of the source too, `before`
/// bytes are elsewhere.
fn fill(reader: &mut impl Read, buffer: &mut [u8], before: usize, filled: &mut usize) -> Result<(), Error> {
    while let Some(room @ [_, ..]) = buffer.get_mut(*filled - before..) {
        match reader.read(room) {
            Ok(0) => break,
            Ok(count) => *filled += count.min(room.len()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::Io(error)),
        }
    }
    Ok(())
}

/// Seals a chunk that ends with room for its tag; `false` if there is none, or the cipher refused.
fn seal(key: &PayloadKey, index: u64, last: bool, chunk: Option<&mut [u8]>) -> bool {
    let Some((text, tag)) = chunk.and_then(|chunk| chunk.split_last_chunk_mut::<TAG>()) else { return false };
    match key.seal_chunk(index, last, text) {
        Ok(sealed) => {
            *tag = sealed;
            true
        }
        Err(_) => false,
    }
}

/// Plaintext becomes payload. Chunks are read to where they stay, with room for their tags between them.
#[derive(Default)]
pub(crate) struct Seal {
    /// The first byte of the next run: a run reads one byte more than it seals, to see whether it is the last.
    carry: Option<u8>,
    /// Index of the next chunk.
    next: u64,
}

/// A chunk that is being read to where it goes. What came before an error, or a panic, of the source moves to the run, which goes on
/// from there.
struct Direct<'a> {
    room: &'a mut [u8],
    filled: usize,
    run: &'a mut Run,
}

impl Drop for Direct<'_> {
    fn drop(&mut self) {
        let kept = self.run.buffer.bytes_mut().get_mut(..self.filled);
        if let (Some(kept), Some(read)) = (kept, self.room.get_mut(..self.filled)) {
            kept.copy_from_slice(read);
            read.fill(0);
            self.run.filled = self.filled;
        }
    }
}

impl Seal {
    /// Reads the next chunk to the start of `out`, which has room for it and its tag, and seals it there: the length of both, and how far
    /// the payload has come. `run` is idle.
    pub(crate) fn seal_to(
        &mut self,
        key: &PayloadKey,
        reader: &mut impl Read,
        run: &mut Run,
        out: &mut [u8],
    ) -> Result<(usize, State), Error> {
        // As in a run, a byte more than the chunk tells whether it is the last; it lies where the tag comes.
        let room = out.get_mut(..CHUNK + 1).unwrap_or_default();
        let mut direct = Direct { room, filled: 0, run };
        if let (Some(carry), Some(first)) = (self.carry.take(), direct.room.first_mut()) {
            *first = carry;
            direct.filled = 1;
        }
        fill(reader, direct.room, 0, &mut direct.filled)?;
        let found = std::mem::take(&mut direct.filled);
        drop(direct);
        let (index, end, len) = (self.next, found <= CHUNK, found.min(CHUNK));
        if !end {
            self.carry = out.get(CHUNK).copied();
        }
        self.next += 1;
        if !seal(key, index, end, out.get_mut(..len + TAG)) {
            return Ok((0, State::Failed(Fault::Refused, index)));
        }
        Ok((len + TAG, if end { State::Ended } else { State::Reading }))
    }
}

impl Direction for Seal {
    fn run(&self, chunks: usize) -> Run {
        Run::new(chunks * SEALED, chunks * CHUNK)
    }

    fn fill(&mut self, reader: &mut impl Read, run: &mut Run, _: State) -> Result<(), Error> {
        if let (Some(carry), Some(first)) = (self.carry.take(), run.buffer.bytes_mut().first_mut()) {
            *first = carry;
            run.filled = 1;
        }
        let last_slot = run.capacity / CHUNK - 1;
        while run.filled <= run.capacity {
            let slot = (run.filled / CHUNK).min(last_slot);
            // The byte more goes where the tag of the last chunk comes.
            let room = CHUNK + usize::from(slot == last_slot);
            let at = slot * SEALED;
            if run.read(reader, at..at + room, slot * CHUNK)? < room {
                break;
            }
        }
        run.end = run.filled <= run.capacity;
        if !run.end {
            self.carry = run.buffer.bytes().get(last_slot * SEALED + CHUNK).copied();
        }
        run.found = run.filled.min(run.capacity);
        run.filled = 0;
        run.first = self.next;
        self.next += run.found.div_ceil(CHUNK) as u64;
        Ok(())
    }

    fn apply(key: &PayloadKey, run: &mut Run) {
        let (mut index, mut rest, mut at, end) = (run.first, run.found, 0, run.end);
        let buffer = run.buffer.bytes_mut();
        let outcome = loop {
            let len = rest.min(CHUNK);
            rest -= len;
            if !seal(key, index, end && rest == 0, buffer.get_mut(at..at + len + TAG)) {
                break State::Failed(Fault::Refused, index);
            }
            at += len + TAG;
            index += 1;
            if rest == 0 {
                break if end { State::Ended } else { State::Reading };
            }
        };
        run.ready = 0..at;
        run.outcome = outcome;
    }
}

/// Payload becomes plaintext. Sealed chunks are read one chunk behind the start of the buffer and opened to the
/// start, where the plaintext becomes one piece: a chunk thus stays as it is until it has verified, since without
/// the length of the whole one that fills a chunk is tried twice, as any and as the last.
#[derive(Default)]
pub(crate) struct Open {
    expected: Option<u64>,
    /// Index of the next chunk.
    next: u64,
}

impl Open {
    /// Sets the length of the plaintext.
    pub(crate) fn expect_len(&mut self, len: u64) {
        self.expected = Some(len);
    }
}

impl Direction for Open {
    fn run(&self, chunks: usize) -> Run {
        Run::new(CHUNK + chunks * SEALED, chunks * SEALED)
    }

    fn fill(&mut self, reader: &mut impl Read, run: &mut Run, state: State) -> Result<(), Error> {
        let rest = self
            .expected
            .map_or(u64::MAX, |len| payload_len(len).saturating_sub(self.next.saturating_mul(SEALED as u64)));
        let behind = rest == 0 || matches!(state, State::Ending { .. });
        let want = if behind { 1 } else { usize::try_from(rest).unwrap_or(usize::MAX).min(run.capacity) };
        run.found = run.read(reader, CHUNK..CHUNK + want, 0)?;
        run.end = behind || run.found < want;
        run.filled = 0;
        run.first = self.next;
        run.expected = self.expected;
        self.next += run.found.div_ceil(SEALED) as u64;
        Ok(())
    }

    fn apply(key: &PayloadKey, run: &mut Run) {
        let (first, end, expected) = (run.first, run.end, run.expected);
        let (mut index, mut rest, mut at, mut out) = (first, run.found, CHUNK, 0);
        let buffer = run.buffer.bytes_mut();
        let outcome = loop {
            if rest == 0 && index > first && !end {
                break State::Reading;
            }
            let (want, last) = match expected {
                None => (SEALED, None),
                Some(len) => {
                    let (want, last) = chunk_layout(len, index);
                    (want, Some(last))
                }
            };
            let len = rest.min(want);
            if len == 0 || (last.is_some() && len < want) {
                break State::Failed(Fault::Truncated, index);
            }
            // age: the last chunk is empty only if the whole is.
            if len <= TAG && index > 0 {
                break State::Failed(Fault::Damaged, index);
            }
            let chunk = buffer.get_mut(out..at + len).unwrap_or_default();
            // A full chunk may be the last one all the same. One that is not and yet ends the stream is given
            // out, and then the payload is found truncated.
            let inner = match len == want && last != Some(true) {
                true => key.open_apart(index, false, chunk, at - out),
                false => None,
            };
            let opened = match inner {
                None if last != Some(false) => key.open_apart(index, true, chunk, at - out),
                inner => inner,
            };
            let Some(text) = opened else { break State::Failed(Fault::Damaged, index) };
            (out, at, rest) = (out + text, at + len, rest - len);
            if inner.is_none() {
                break match (rest, end) {
                    (0, true) => State::Ended,
                    (0, false) => State::Ending { last: index },
                    _ => State::Failed(Fault::Trailing, index),
                };
            }
            index += 1;
        };
        run.ready = 0..out;
        run.outcome = outcome;
    }
}
