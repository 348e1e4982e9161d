use std::{
    fmt,
    io::{self, Write},
};

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{BEGIN, BYTES, COLUMNS, END, LINES};

/// Takes a binary file and writes it armored (see [`ArmorReader`](crate::ArmorReader) for the form).
///
/// The file is whole after [`finish`](Self::finish), and refused by every reader without it. Holds 9 KiB. After
/// an error of the sink, a `write` or `flush` may be repeated.
///
/// ```
/// # use lightstreams_crypto::{ArmorWriter, Error, X25519Identity, decrypt, encrypt};
/// # let rng = &mut rand::rng();
/// # let key = X25519Identity::generate(rng);
/// let mut armor = ArmorWriter::new(Vec::new());
/// encrypt(&[&key.recipient()], &b"for a mail"[..], &mut armor, rng)?;
/// let mail = armor.finish()?;
///
/// assert!(mail.starts_with(b"-----BEGIN AGE ENCRYPTED FILE-----\n"));
/// let mut text = Vec::new();
/// decrypt(&[&key], &mail[..], &mut text)?;
/// assert_eq!(text, b"for a mail");
/// # Ok::<(), Error>(())
/// ```
pub struct ArmorWriter<W> {
    writer: W,
    /// The start of a line that is not full.
    partial: Vec<u8>,
    /// Text that the sink has not taken yet, from `sent` on.
    text: Vec<u8>,
    sent: usize,
}

impl<W: Write> ArmorWriter<W> {
    /// Writes to `writer`.
    pub fn new(writer: W) -> Self {
        let mut armor = Self {
            writer,
            partial: Vec::with_capacity(BYTES),
            text: Vec::with_capacity((LINES + 2) * (COLUMNS + 1)),
            sent: 0,
        };
        armor.push_line(BEGIN);
        armor
    }

    /// Writes what is left and the last line, and gives the sink back.
    pub fn finish(mut self) -> io::Result<W> {
        self.drain()?;
        if !self.partial.is_empty() {
            push_base64(&mut self.text, &self.partial);
        }
        self.push_line(END);
        self.drain()?;
        self.writer.flush()?;
        Ok(self.writer)
    }

    fn push_line(&mut self, line: &str) {
        self.text.extend_from_slice(line.as_bytes());
        self.text.push(b'\n');
    }

    fn drain(&mut self) -> io::Result<()> {
        while let Some(rest @ [_, ..]) = self.text.get(self.sent..) {
            match self.writer.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.sent = self.sent.saturating_add(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.text.clear();
        self.sent = 0;
        Ok(())
    }
}

fn push_base64(text: &mut Vec<u8>, line: &[u8]) {
    let start = text.len();
    let end = start + line.len().div_ceil(3) * 4;
    text.resize(end + 1, b'\n');
    let written = STANDARD.encode_slice(line, text.get_mut(start..end).unwrap_or_default());
    debug_assert_eq!(written, Ok(end - start));
}

impl<W: Write> Write for ArmorWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.drain()?;
        let room = LINES * BYTES - self.partial.len();
        let taken = bytes.get(..room).unwrap_or(bytes);
        let mut rest = taken;
        if !self.partial.is_empty() {
            let (start, more) = rest.split_at(rest.len().min(BYTES - self.partial.len()));
            self.partial.extend_from_slice(start);
            rest = more;
            if self.partial.len() < BYTES {
                return Ok(taken.len());
            }
            push_base64(&mut self.text, &self.partial);
            self.partial.clear();
        }
        let (lines, more) = rest.as_chunks::<BYTES>();
        for line in lines {
            push_base64(&mut self.text, line);
        }
        self.partial.extend_from_slice(more);
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.drain()?;
        self.writer.flush()
    }
}

impl<W> fmt::Debug for ArmorWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArmorWriter").finish_non_exhaustive()
    }
}
