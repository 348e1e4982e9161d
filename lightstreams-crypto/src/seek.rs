use std::{
    fmt,
    io::{self, BufRead, Read, Seek, SeekFrom},
    sync::Arc,
};

use crate::{
    CHUNK, Error, PayloadKey, TAG,
    payload::{SEALED, chunk_count, chunk_layout, plaintext_len, read_buffered},
    run::Buffer,
};

/// Bytes that can be read at any offset: a file, a slice, the leaves of a DAG.
pub trait ReadAt {
    /// Reads up to `buf.len()` bytes at `offset`; 0 means the end, or an empty `buf`.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// How many bytes there are.
    fn len(&self) -> io::Result<u64>;

    /// Whether there are none.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..));
        rest.unwrap_or_default().read(buf)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

impl ReadAt for Vec<u8> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.as_slice().read_at(offset, buf)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

impl ReadAt for std::fs::File {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        #[cfg(unix)]
        return std::os::unix::fs::FileExt::read_at(self, buf, offset);
        #[cfg(windows)]
        return std::os::windows::fs::FileExt::seek_read(self, buf, offset);
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

macro_rules! forward_read_at {
    ($($pointer:ty),*) => {$(
        impl<T: ReadAt + ?Sized> ReadAt for $pointer {
            fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
                (**self).read_at(offset, buf)
            }

            fn len(&self) -> io::Result<u64> {
                (**self).len()
            }
        }
    )*};
}
forward_read_at!(&T, Box<T>, Arc<T>);

/// Reads the plaintext of a payload (without the nonce in front of it) at any position.
///
/// Decrypts the chunks that are asked for and no others, and keeps the last of them: reading on decrypts none twice.
/// Every byte it gives out has verified for its position; that the length is right is shown by the last chunk.
pub struct SeekableReader<R> {
    source: R,
    key: PayloadKey,
    len: u64,
    position: u64,
    /// Made when the first chunk is read.
    buffer: Option<Buffer>,
    /// The chunk whose plaintext `buffer` holds.
    held: Option<u64>,
}

impl<R: ReadAt> SeekableReader<R> {
    /// Opens a payload of unknown length: the last chunk is read and verified first.
    pub fn open(key: PayloadKey, source: R) -> Result<Self, Error> {
        let sealed_len = source.len().map_err(Error::from)?;
        let truncated = Error::TruncatedPayload { chunk: sealed_len / SEALED as u64 };
        let len = plaintext_len(sealed_len).ok_or(truncated)?;
        let mut reader = Self::with_plaintext_len(key, source, len);
        reader.load(chunk_count(len) - 1)?;
        Ok(reader)
    }

    /// Opens a payload whose plaintext is known to have `len` bytes, and reads nothing yet.
    ///
    /// A wrong length is found out when the last chunk is read, and only then.
    pub fn with_plaintext_len(key: PayloadKey, source: R, len: u64) -> Self {
        Self { source, key, len, position: 0, buffer: None, held: None }
    }

    /// Length of the plaintext.
    pub fn plaintext_len(&self) -> u64 {
        self.len
    }

    fn load(&mut self, index: u64) -> Result<(), Error> {
        if self.held == Some(index) {
            return Ok(());
        }
        self.held = None;
        let (want, last) = chunk_layout(self.len, index);
        let buffer = self.buffer.get_or_insert_with(|| Buffer::new(SEALED));
        let sealed = buffer.bytes_mut().get_mut(..want).unwrap_or_default();
        let start = index.saturating_mul(SEALED as u64);
        let mut filled = 0;
        while let Some(room @ [_, ..]) = sealed.get_mut(filled..) {
            match self.source.read_at(start.saturating_add(filled as u64), room) {
                Ok(0) => return Err(Error::TruncatedPayload { chunk: index }),
                Ok(count) => filled += count.min(room.len()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::from(error)),
            }
        }
        self.key.open_chunk(index, last, sealed)?;
        self.held = Some(index);
        Ok(())
    }
}

impl<R: ReadAt> BufRead for SeekableReader<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position >= self.len {
            return Ok(&[]);
        }
        let index = self.position / CHUNK as u64;
        self.load(index)?;
        let (sealed, _) = chunk_layout(self.len, index);
        let offset = (self.position % CHUNK as u64) as usize;
        let held = self.buffer.as_ref().and_then(|buffer| buffer.bytes().get(offset..sealed - TAG));
        Ok(held.unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        self.position = self.position.saturating_add(amount as u64).min(self.len);
    }
}

impl<R: ReadAt> Read for SeekableReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, buf)
    }
}

impl<R: ReadAt> Seek for SeekableReader<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.len.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or(io::Error::new(
            io::ErrorKind::InvalidInput,
            "seek to a position before the start or beyond 2^64",
        ))?;
        Ok(self.position)
    }
}

impl<R> fmt::Debug for SeekableReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SeekableReader")
            .field("len", &self.len)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}
