use std::{
    fmt,
    io::{self, BufRead, Read},
};

use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit, Tag};
use zeroize::Zeroizing;

use crate::{Error, FileKey, PayloadNonce};

/// Plaintext bytes in every chunk but the last.
pub const CHUNK: usize = 65_536;
/// Bytes that each chunk grows by: a Poly1305 tag.
pub const TAG: usize = 16;
const SEALED: usize = CHUNK + TAG;

/// Length of the payload (without nonce) of `plaintext_len` bytes.
///
/// Saturates at `u64::MAX`.
pub const fn payload_len(plaintext_len: u64) -> u64 {
    plaintext_len.saturating_add(chunk_count(plaintext_len).saturating_mul(TAG as u64))
}

/// Length of the plaintext of a payload of `payload_len` bytes, or `None` if no payload has that length.
pub const fn plaintext_len(payload_len: u64) -> Option<u64> {
    let chunks = payload_len.div_ceil(SEALED as u64);
    match payload_len.checked_sub(chunks.saturating_mul(TAG as u64)) {
        // The last chunk is empty only if it is the first.
        Some(len) if chunks != 0 && chunk_count(len) == chunks => Some(len),
        _ => None,
    }
}

/// How many chunks `plaintext_len` bytes make; an empty file has one.
pub const fn chunk_count(plaintext_len: u64) -> u64 {
    match plaintext_len.div_ceil(CHUNK as u64) {
        0 => 1,
        chunks => chunks,
    }
}

/// The key of one payload, and the operations on its single chunks.
///
/// Chunk `index` is encrypted under the nonce `index` (11 bytes) ‖ `last` (1 byte), so that chunks cannot be
/// left out, added or reordered unnoticed. Whoever seals uses each index once. Wiped on drop.
#[derive(Clone)]
pub struct PayloadKey(ChaCha20Poly1305);

impl PayloadKey {
    /// Derives the key; fresh nonces make fresh keys.
    pub fn derive(file_key: &FileKey, nonce: &PayloadNonce) -> Self {
        let key = file_key.derive(nonce.as_bytes(), &[b"payload"]);
        Self(ChaCha20Poly1305::new((&*key).into()))
    }

    /// Encrypts a chunk in place and returns the tag that is written behind it.
    pub fn seal_chunk(&self, index: u64, last: bool, plaintext: &mut [u8]) -> Result<[u8; TAG], Error> {
        if plaintext.len() > CHUNK {
            return Err(Error::Unsupported("a payload chunk has at most 65536 bytes"));
        }
        self.0
            .encrypt_inout_detached(&chunk_nonce(index, last).into(), b"", plaintext.into())
            .map(Into::into)
            .map_err(|_| Error::Unsupported("the cipher refused a payload chunk"))
    }

    /// Decrypts a chunk with the tag at its end in place, and returns the part that is plaintext.
    ///
    /// A chunk that does not verify is left as it was.
    pub fn open_chunk<'a>(
        &self,
        index: u64,
        last: bool,
        sealed: &'a mut [u8],
    ) -> Result<&'a mut [u8], Error> {
        let damaged = Error::DamagedPayload { chunk: index };
        let Some((body, tag)) = sealed.split_last_chunk_mut::<TAG>() else { return Err(damaged) };
        if body.len() > CHUNK {
            return Err(damaged);
        }
        let nonce = chunk_nonce(index, last).into();
        match self.0.decrypt_inout_detached(&nonce, b"", (&mut *body).into(), &Tag::from(*tag)) {
            Ok(()) => Ok(body),
            Err(_) => Err(damaged),
        }
    }
}

impl fmt::Debug for PayloadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PayloadKey(..)")
    }
}

fn chunk_nonce(index: u64, last: bool) -> [u8; 12] {
    let [a, b, c, d, e, f, g, h] = index.to_be_bytes();
    [0, 0, 0, a, b, c, d, e, f, g, h, u8::from(last)]
}

/// Reads plaintext and gives out the payload, without the nonce in front of it.
///
/// Holds one chunk. As a [`BufRead`] it hands out whole encrypted chunks without copying them. After a read
/// error of the source it goes on where it stood.
pub struct PayloadEncryptor<R> {
    reader: R,
    key: PayloadKey,
    /// Chunk `index`: first plaintext, one byte more than a chunk to see whether it is the last; then sealed.
    buffer: Zeroizing<Vec<u8>>,
    /// How much of `buffer` is plaintext so far.
    filled: usize,
    /// The first byte of the chunk after this one.
    carry: Option<u8>,
    index: u64,
    ready: Ready,
    finished: bool,
}

impl<R: Read> PayloadEncryptor<R> {
    /// Encrypts what `reader` gives. One key serves for one payload only.
    pub fn new(key: PayloadKey, reader: R) -> Self {
        Self {
            reader,
            key,
            buffer: Zeroizing::new(vec![0; SEALED]),
            filled: 0,
            carry: None,
            index: 0,
            ready: Ready::default(),
            finished: false,
        }
    }

    /// Gives the source back; what was read ahead from it is lost.
    pub fn into_inner(self) -> R {
        self.reader
    }

    fn next_chunk(&mut self) -> Result<(), Error> {
        if let (Some(carry), Some(first)) = (self.carry.take(), self.buffer.first_mut()) {
            *first = carry;
            self.filled = 1;
        }
        read_up_to(&mut self.reader, &mut self.buffer, CHUNK + 1, &mut self.filled)?;
        let last = self.filled <= CHUNK;
        if !last {
            self.carry = self.buffer.get(CHUNK).copied();
        }
        let len = self.filled.min(CHUNK);
        let (plaintext, rest) = self.buffer.split_at_mut(len);
        let tag = self.key.seal_chunk(self.index, last, plaintext)?;
        for (to, from) in rest.iter_mut().zip(tag) {
            *to = from;
        }
        self.filled = 0;
        self.index += 1;
        self.finished = last;
        self.ready = Ready { start: 0, end: len + TAG };
        Ok(())
    }
}

impl<R: Read> BufRead for PayloadEncryptor<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.ready.is_empty() && !self.finished {
            self.next_chunk()?;
        }
        Ok(self.ready.of(&self.buffer))
    }

    fn consume(&mut self, amount: usize) {
        self.ready.consume(amount);
    }
}

impl<R: Read> Read for PayloadEncryptor<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, buf)
    }
}

impl<R> fmt::Debug for PayloadEncryptor<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PayloadEncryptor").field("chunk", &self.index).finish_non_exhaustive()
    }
}

/// Reads a payload, without the nonce in front of it, and gives out the plaintext.
///
/// Holds one chunk and gives out nothing that did not verify. What it has given out is the start of the
/// plaintext; that it was all is known when it ends without an error. An error stays: it is reported again
/// by every later read. As a [`BufRead`] it hands out whole chunks without copying them.
pub struct PayloadDecryptor<R> {
    reader: R,
    key: PayloadKey,
    buffer: Zeroizing<Vec<u8>>,
    filled: usize,
    index: u64,
    ready: Ready,
    expected: Option<u64>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    /// The last chunk was opened, and it is still to be seen that nothing follows it.
    Ending,
    Ended,
    Failed(Fault),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    Damaged,
    Truncated,
    Trailing,
}

impl<R: Read> PayloadDecryptor<R> {
    /// Decrypts what `reader` gives.
    ///
    /// A payload that was cut inside of a chunk shows as [`Error::DamagedPayload`], since the chunk could
    /// also be a damaged last one; [`with_plaintext_len`](Self::with_plaintext_len) tells them apart.
    pub fn new(key: PayloadKey, reader: R) -> Self {
        Self {
            reader,
            key,
            buffer: Zeroizing::new(vec![0; SEALED]),
            filled: 0,
            index: 0,
            ready: Ready::default(),
            expected: None,
            state: State::Reading,
        }
    }

    /// Accepts only a plaintext of `len` bytes.
    pub fn with_plaintext_len(mut self, len: u64) -> Self {
        self.expected = Some(len);
        self
    }

    /// Gives the source back; what was read ahead from it is lost.
    pub fn into_inner(self) -> R {
        self.reader
    }

    fn next_chunk(&mut self) -> Result<(), Error> {
        let outcome = match self.state {
            State::Ended => return Ok(()),
            State::Failed(fault) => Err(fault),
            State::Ending => {
                read_up_to(&mut self.reader, &mut self.buffer, 1, &mut self.filled)?;
                if self.filled == 0 { Ok((0, State::Ended)) } else { Err(Fault::Trailing) }
            }
            State::Reading => {
                let (want, last) = self.layout();
                read_up_to(&mut self.reader, &mut self.buffer, want, &mut self.filled)?;
                let opened = self.open(want, last);
                if opened.is_ok() {
                    self.filled = 0;
                    self.index += 1;
                }
                opened
            }
        };
        let (len, state) = outcome.map_err(|fault| {
            self.state = State::Failed(fault);
            match fault {
                Fault::Damaged => Error::DamagedPayload { chunk: self.index },
                Fault::Truncated => Error::TruncatedPayload { chunk: self.index },
                Fault::Trailing => Error::TrailingData { chunk: self.index.saturating_sub(1) },
            }
        })?;
        self.ready = Ready { start: 0, end: len };
        self.state = state;
        Ok(())
    }

    /// The length of the next chunk and, where the length of the whole is known, whether it is the last.
    fn layout(&self) -> (usize, Option<bool>) {
        match self.expected {
            None => (SEALED, None),
            Some(len) => {
                let (sealed, last) = chunk_layout(len, self.index);
                (sealed, Some(last))
            }
        }
    }

    fn open(&mut self, want: usize, last: Option<bool>) -> Result<(usize, State), Fault> {
        let full = self.filled == want;
        if self.filled == 0 || (last.is_some() && !full) {
            return Err(Fault::Truncated);
        }
        let sealed = self.buffer.get_mut(..self.filled).ok_or(Fault::Damaged)?;
        // age: the last chunk is empty only if the whole is.
        if sealed.len() <= TAG && self.index > 0 {
            return Err(Fault::Damaged);
        }
        // A full chunk may be the last one all the same. One that is not and yet ends the stream is given
        // out, and the next read finds the payload truncated.
        if full && last != Some(true) {
            if let Ok(plaintext) = self.key.open_chunk(self.index, false, sealed) {
                return Ok((plaintext.len(), State::Reading));
            }
            if last == Some(false) {
                return Err(Fault::Damaged);
            }
        }
        match self.key.open_chunk(self.index, true, sealed) {
            Ok(plaintext) if full => Ok((plaintext.len(), State::Ending)),
            Ok(plaintext) => Ok((plaintext.len(), State::Ended)),
            Err(_) => Err(Fault::Damaged),
        }
    }
}

impl<R: Read> BufRead for PayloadDecryptor<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.ready.is_empty() && self.state != State::Ended {
            self.next_chunk()?;
            // The last chunk of an empty file, and the look behind a full one, give nothing out.
            if self.ready.is_empty() && self.state != State::Ended {
                self.next_chunk()?;
            }
        }
        Ok(self.ready.of(&self.buffer))
    }

    fn consume(&mut self, amount: usize) {
        self.ready.consume(amount);
    }
}

impl<R: Read> Read for PayloadDecryptor<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, buf)
    }
}

impl<R> fmt::Debug for PayloadDecryptor<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PayloadDecryptor").field("chunk", &self.index).finish_non_exhaustive()
    }
}

/// Length of sealed chunk `index` of `plaintext_len` bytes, and whether it is the last.
pub(crate) fn chunk_layout(plaintext_len: u64, index: u64) -> (usize, bool) {
    let rest = plaintext_len.saturating_sub(index.saturating_mul(CHUNK as u64));
    let len = usize::try_from(rest).unwrap_or(CHUNK).min(CHUNK);
    (len + TAG, rest <= CHUNK as u64)
}

/// The part of a buffer that is not given out yet.
#[derive(Clone, Copy, Default)]
struct Ready {
    start: usize,
    end: usize,
}

impl Ready {
    fn is_empty(self) -> bool {
        self.start == self.end
    }

    fn of(self, buffer: &[u8]) -> &[u8] {
        buffer.get(self.start..self.end).unwrap_or_default()
    }

    fn consume(&mut self, amount: usize) {
        self.start = self.start.saturating_add(amount).min(self.end);
    }
}

/// Reads until `buffer` holds `want` bytes or the source ends; `filled` is right after an error too.
fn read_up_to(
    reader: &mut impl Read,
    buffer: &mut [u8],
    want: usize,
    filled: &mut usize,
) -> Result<(), Error> {
    while let Some(room @ [_, ..]) = buffer.get_mut(*filled..want) {
        match reader.read(room) {
            Ok(0) => break,
            Ok(count) => *filled = filled.saturating_add(count).min(want),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::Io(error)),
        }
    }
    Ok(())
}

/// `Read` for those that are `BufRead`.
pub(crate) fn read_buffered(reader: &mut impl BufRead, buf: &mut [u8]) -> io::Result<usize> {
    let mut ready = reader.fill_buf()?;
    let count = ready.read(buf)?;
    reader.consume(count);
    Ok(count)
}
