use std::{
    fmt,
    io::{self, BufRead, Read},
    sync::Arc,
};

use crate::{
    Error, FileKey, PayloadNonce,
    aead::{self, Key},
    run::{Direction, Open, Run, Seal, State},
};

/// Plaintext bytes in every chunk but the last.
pub const CHUNK: usize = 65_536;
/// Bytes that each chunk grows by: a Poly1305 tag.
pub const TAG: usize = aead::TAG;
/// Bytes of every sealed chunk but the last.
pub(crate) const SEALED: usize = CHUNK + TAG;

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
/// left out, added or reordered unnoticed. Whoever seals uses each index once. Clones share one copy of the
/// key, which is wiped when the last of them drops.
#[derive(Clone)]
pub struct PayloadKey(Arc<Key>);

impl PayloadKey {
    /// Derives the key; fresh nonces make fresh keys.
    pub fn derive(file_key: &FileKey, nonce: &PayloadNonce) -> Self {
        Self(Arc::new(Key::new(&file_key.derive(nonce.as_bytes(), &[b"payload"]))))
    }

    /// Encrypts a chunk in place and returns the tag that is written behind it.
    pub fn seal_chunk(&self, index: u64, last: bool, plaintext: &mut [u8]) -> Result<[u8; TAG], Error> {
        if plaintext.len() > CHUNK {
            return Err(Error::TooLarge { what: "a payload chunk", len_max: CHUNK });
        }
        self.0
            .seal(chunk_nonce(index, last), plaintext)
            .ok_or(Error::Unsupported("the cipher refused a payload chunk"))
    }

    /// Decrypts a chunk with the tag at its end in place, and returns the part that is plaintext.
    ///
    /// A chunk that does not verify is left as it was or, with the features `ring` and `openssl`, overwritten with zeros.
    pub fn open_chunk<'a>(
        &self,
        index: u64,
        last: bool,
        sealed: &'a mut [u8],
    ) -> Result<&'a mut [u8], Error> {
        let damaged = Error::DamagedPayload { chunk: index };
        if sealed.len() > SEALED {
            return Err(damaged);
        }
        self.0.open(chunk_nonce(index, last), sealed).ok_or(damaged)
    }

    /// Decrypts the chunk `buffer[at..]` to the start of `buffer` and leaves its sealed form as it is.
    pub(crate) fn open_apart(&self, index: u64, last: bool, buffer: &mut [u8], at: usize) -> Option<usize> {
        self.0.open_apart(chunk_nonce(index, last), buffer, at)
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

/// Length of sealed chunk `index` of `plaintext_len` bytes, and whether it is the last.
pub(crate) fn chunk_layout(plaintext_len: u64, index: u64) -> (usize, bool) {
    let rest = plaintext_len.saturating_sub(index.saturating_mul(CHUNK as u64));
    let len = usize::try_from(rest).unwrap_or(CHUNK).min(CHUNK);
    (len + TAG, rest <= CHUNK as u64)
}

/// Reads plaintext and gives out the payload, without the nonce in front of it.
///
/// Holds one chunk. As a [`BufRead`] it hands out whole encrypted chunks without copying them. After a read
/// error of the source it goes on where it stood.
pub struct PayloadEncryptor<R>(pub(crate) Stream<Seal, R>);

impl<R: Read> PayloadEncryptor<R> {
    /// Encrypts what `reader` gives. One key serves for one payload only.
    pub fn new(key: PayloadKey, reader: R) -> Self {
        Self(Stream::new(key, Seal::default(), reader))
    }
}

/// Reads a payload, without the nonce in front of it, and gives out the plaintext.
///
/// Holds one chunk and gives out nothing that did not verify. What it has given out is the start of the
/// plaintext; that it was all is known when it ends without an error. An error stays: it is reported again
/// by every later read. As a [`BufRead`] it hands out whole chunks without copying them.
pub struct PayloadDecryptor<R>(pub(crate) Stream<Open, R>);

impl<R: Read> PayloadDecryptor<R> {
    /// Decrypts what `reader` gives.
    ///
    /// A payload that was cut inside of a chunk shows as [`Error::DamagedPayload`], since the chunk could
    /// also be a damaged last one; [`with_plaintext_len`](Self::with_plaintext_len) tells them apart.
    pub fn new(key: PayloadKey, reader: R) -> Self {
        Self(Stream::new(key, Open::default(), reader))
    }

    /// Accepts only a plaintext of `len` bytes.
    pub fn with_plaintext_len(mut self, len: u64) -> Self {
        self.0.direction.expect_len(len);
        self
    }
}

macro_rules! reader {
    ($stream:ident) => {
        impl<R> $stream<R> {
            /// Gives the source back; what was read ahead from it is lost.
            pub fn into_inner(self) -> R {
                self.0.into_inner()
            }
        }

        impl<R: Read> BufRead for $stream<R> {
            fn fill_buf(&mut self) -> io::Result<&[u8]> {
                self.0.fill_buf()
            }

            fn consume(&mut self, amount: usize) {
                self.0.consume(amount);
            }
        }

        impl<R> fmt::Debug for $stream<R> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($stream)).finish_non_exhaustive()
            }
        }
    };
}

/// `Read` by `BufRead`.
macro_rules! read_by_buffer {
    ($stream:ident) => {
        impl<R: Read> Read for $stream<R> {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                read_buffered(self, buf)
            }
        }
    };
}
#[cfg(feature = "parallel")]
pub(crate) use {read_by_buffer, reader};

reader!(PayloadEncryptor);
reader!(PayloadDecryptor);
read_by_buffer!(PayloadDecryptor);

impl<R: Read> Read for PayloadEncryptor<R> {
    /// A chunk that fits into `buf` whole is read and sealed there, and copied nowhere.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Stream { reader, key, direction, run, state } = &mut self.0;
        if buf.len() < SEALED || !run.is_idle() {
            return read_buffered(self, buf);
        }
        if !state.goes_on()? {
            return Ok(0);
        }
        let (count, after) = direction.seal_to(key, reader, run, buf)?;
        *state = after;
        state.goes_on()?;
        Ok(count)
    }
}

/// One chunk after the other is read, sealed or opened, and given out.
pub(crate) struct Stream<D, R> {
    pub(crate) reader: R,
    pub(crate) key: PayloadKey,
    pub(crate) direction: D,
    pub(crate) run: Run,
    pub(crate) state: State,
}

impl<D: Direction, R> Stream<D, R> {
    fn new(key: PayloadKey, direction: D, reader: R) -> Self {
        Self { reader, key, run: direction.run(1), direction, state: State::Reading }
    }

    fn into_inner(self) -> R {
        self.reader
    }

    fn fill_buf(&mut self) -> io::Result<&[u8]>
    where
        R: Read,
    {
        // The last chunk of an empty file, and the look behind a full one, give nothing out.
        while self.run.ready().is_empty() && self.state.goes_on()? {
            self.direction.fill(&mut self.reader, &mut self.run, self.state)?;
            D::apply(&self.key, &mut self.run);
            self.state = self.state.after(&mut self.run);
        }
        Ok(self.run.ready())
    }

    fn consume(&mut self, amount: usize) {
        self.run.consume(amount);
    }
}

/// `Read` for those that are `BufRead`.
pub(crate) fn read_buffered(reader: &mut impl BufRead, buf: &mut [u8]) -> io::Result<usize> {
    let mut ready = reader.fill_buf()?;
    let count = ready.read(buf)?;
    reader.consume(count);
    Ok(count)
}
