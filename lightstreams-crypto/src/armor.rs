use std::{
    fmt,
    io::{self, BufRead, Read},
};

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{Error, payload::read_buffered};

mod writer;

pub use writer::ArmorWriter;

const BEGIN: &str = "-----BEGIN AGE ENCRYPTED FILE-----";
const END: &str = "-----END AGE ENCRYPTED FILE-----";
/// Base64 characters in a full line, and the bytes they stand for.
const COLUMNS: usize = 64;
const BYTES: usize = COLUMNS / 4 * 3;
/// Lines that are held at once.
const LINES: usize = 128;
/// age: how much white space is borne before, and how much behind the armor.
const SPACE_MAX: usize = 1024;

/// Reads an armored file and gives out the binary one.
///
/// ```text
/// -----BEGIN AGE ENCRYPTED FILE-----
/// YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IFgyNTUxOSAxZXpVQTZhNlcxNFpCYTc3        base64 with padding, 64 columns
/// U2lzdllrOFhwc3F5TW==                                                    the last line may be shorter
/// -----END AGE ENCRYPTED FILE-----
/// ```
///
/// This is the strict encoding of RFC 7468 as age has it. Lines end in LF or CRLF, the last in either or none. Up
/// to 1024 bytes of white space are borne before the first line and behind the last. Everything else is
/// refused with [`Error::MalformedArmor`]: header fields, other labels, empty lines, lines that are not full
/// before the last, base64 that is not canonical, and whatever stands outside.
///
/// Holds 6 KiB. It has read all and found it sound when it ends without an error; an error stays.
pub struct ArmorReader<R> {
    reader: R,
    /// The line that is being read: its columns, CR and LF.
    line: [u8; COLUMNS + 2],
    line_len: usize,
    /// Counts lines from 1.
    line_number: u64,
    space: usize,
    state: State,
    decoded: Box<[u8; LINES * BYTES]>,
    start: usize,
    end: usize,
    /// A read error that came after lines that were sound.
    failed: Option<io::Error>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// White space, and whether a line starts here.
    Before {
        line_starts: bool,
    },
    Begin,
    Body,
    /// The last line was short, and nothing but the end may follow.
    End,
    Behind,
    Ended,
    Broken(&'static str),
}

impl<R: BufRead> ArmorReader<R> {
    /// Reads from `reader`, which must be armored; [`MaybeArmored`] finds out.
    pub fn new(reader: R) -> Self {
        Self {
            reader,
            line: [0; COLUMNS + 2],
            line_len: 0,
            line_number: 1,
            space: 0,
            state: State::Before { line_starts: true },
            decoded: Box::new([0; LINES * BYTES]),
            start: 0,
            end: 0,
            failed: None,
        }
    }

    /// Gives the source back; what was read ahead from it is lost.
    pub fn into_inner(self) -> R {
        self.reader
    }

    fn refill(&mut self) -> io::Result<()> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        (self.start, self.end) = (0, 0);
        while self.end + BYTES <= LINES * BYTES && self.state != State::Ended {
            match self.step() {
                Ok(()) => {}
                // What was sound before a fault is given out; a fault of the format is found again.
                Err(Error::Io(error)) if self.end > 0 => {
                    self.failed = Some(error);
                    break;
                }
                Err(_) if self.end > 0 => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Reads one line, the lines that are ready, or a stretch of white space outside.
    fn step(&mut self) -> Result<(), Error> {
        let outcome = match self.state {
            State::Ended => Ok(State::Ended),
            State::Broken(reason) => Err(reason),
            State::Before { .. } | State::Behind => self.skip_space()?,
            State::Begin => match self.read_line()? {
                Some(line) if line == BEGIN.as_bytes() => Ok(State::Body),
                _ => Err("the first line is not that of an age file"),
            },
            State::End => match self.read_line()? {
                Some(line) if line == END.as_bytes() => Ok(State::Behind),
                Some(_) => Err("a line follows one that is not full"),
                None => Err("ends before its last line"),
            },
            State::Body => match self.line_len == 0 && self.decode_ready()? {
                true => Ok(State::Body),
                false => self.decode_line()?,
            },
        };
        match outcome {
            Ok(state) => {
                self.state = state;
                if self.line_len > 0 {
                    self.line_len = 0;
                    self.line_number = self.line_number.saturating_add(1);
                }
                Ok(())
            }
            Err(reason) => {
                self.state = State::Broken(reason);
                Err(Error::MalformedArmor { line: self.line_number, reason })
            }
        }
    }

    fn skip_space(&mut self) -> Result<Result<State, &'static str>, Error> {
        let available = self.reader.fill_buf().map_err(Error::Io)?;
        let len = available.iter().position(|byte| !is_space(*byte)).unwrap_or(available.len());
        let (space, rest) = available.split_at(len);
        let next = match (self.state, space.last(), rest.first()) {
            (State::Behind, _, Some(_)) => Err("something follows the last line"),
            (State::Behind, None, None) => Ok(State::Ended),
            (state @ State::Behind, ..) => Ok(state),
            (_, None, None) => Err("there is no first line"),
            (State::Before { line_starts: false }, None, Some(_)) => Err("the first line is indented"),
            (_, Some(last), Some(_)) if *last != b'\n' => Err("the first line is indented"),
            (_, _, Some(_)) => Ok(State::Begin),
            (_, Some(last), None) => Ok(State::Before { line_starts: *last == b'\n' }),
        };
        let lines = space.iter().filter(|byte| **byte == b'\n').count();
        self.line_number = self.line_number.saturating_add(lines as u64);
        self.space = self.space.saturating_add(len);
        self.reader.consume(len);
        if self.space > SPACE_MAX {
            return Ok(Err("too much white space outside"));
        }
        if next == Ok(State::Begin) {
            self.space = 0;
        }
        Ok(next)
    }

    /// Decodes the full lines that the source holds ready, straight from its buffer, and tells whether there
    /// were any.
    fn decode_ready(&mut self) -> Result<bool, Error> {
        let available = match self.reader.fill_buf() {
            Ok(available) => available,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(false),
            Err(error) => return Err(Error::Io(error)),
        };
        let lines = available.as_chunks::<{ COLUMNS + 1 }>().0;
        let rooms = self.decoded.get_mut(self.end..).unwrap_or_default().as_chunks_mut::<BYTES>().0;
        let mut count = 0;
        for (line, room) in lines.iter().zip(rooms) {
            // Whatever is not simply a full line is left for a closer look.
            let Some((b'\n', line)) = line.split_last() else { break };
            if STANDARD.decode_slice(line, room) != Ok(BYTES) {
                break;
            }
            count += 1;
        }
        self.reader.consume(count * (COLUMNS + 1));
        self.end += count * BYTES;
        self.line_number = self.line_number.saturating_add(count as u64);
        Ok(count > 0)
    }

    fn decode_line(&mut self) -> Result<Result<State, &'static str>, Error> {
        let Some(line) = read_line(&mut self.reader, &mut self.line, &mut self.line_len)? else {
            return Ok(Err("ends before its last line"));
        };
        let room = self.decoded.get_mut(self.end..).unwrap_or_default();
        Ok(match line {
            _ if line == END.as_bytes() => Ok(State::Behind),
            [] => Err("an empty line"),
            _ if line.len() > COLUMNS => Err("a line is longer than 64 columns"),
            _ => match STANDARD.decode_slice(line, room) {
                Ok(count) => {
                    self.end = self.end.saturating_add(count);
                    Ok(if count == BYTES { State::Body } else { State::End })
                }
                Err(_) => Err("a line is not canonical base64"),
            },
        })
    }

    fn read_line(&mut self) -> Result<Option<&[u8]>, Error> {
        read_line(&mut self.reader, &mut self.line, &mut self.line_len)
    }
}

/// Fills `line` up to its LF, or as far as it has room, and returns what stands before the line's end. `None`
/// is the end of the stream. After a read error the next call goes on.
fn read_line<'a, const N: usize>(
    reader: &mut impl BufRead,
    line: &'a mut [u8; N],
    len: &mut usize,
) -> Result<Option<&'a [u8]>, Error> {
    loop {
        let room = line.get_mut(*len..).unwrap_or_default();
        let available = match reader.fill_buf() {
            Ok(available) => available,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::Io(error)),
        };
        let wanted = available.get(..room.len()).unwrap_or(available);
        let newline = wanted.iter().position(|byte| *byte == b'\n');
        let count = newline.map_or(wanted.len(), |at| at + 1);
        for (to, from) in room.iter_mut().zip(wanted.iter().take(count)) {
            *to = *from;
        }
        reader.consume(count);
        *len = len.saturating_add(count).min(N);
        if newline.is_some() || count == 0 || *len == N {
            break;
        }
    }
    let read = line.get(..*len).unwrap_or_default();
    let text = read.strip_suffix(b"\n").unwrap_or(read);
    Ok((!read.is_empty()).then(|| text.strip_suffix(b"\r").unwrap_or(text)))
}

/// White space as RFC 7468 has it.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

impl<R: BufRead> BufRead for ArmorReader<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            self.refill()?;
        }
        Ok(self.decoded.get(self.start..self.end).unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        self.start = self.start.saturating_add(amount).min(self.end);
    }
}

impl<R: BufRead> Read for ArmorReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, buf)
    }
}

impl<R> fmt::Debug for ArmorReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArmorReader").field("line", &self.line_number).finish_non_exhaustive()
    }
}

/// Reads a file that may be armored, and gives out the binary one in either case.
///
/// The first byte tells: a binary file starts with the `a` of its version line, an armored one with `-` or
/// white space. What is armored is read as by [`ArmorReader`], everything else as it is.
pub struct MaybeArmored<R> {
    armor: ArmorReader<R>,
    armored: Option<bool>,
}

impl<R: BufRead> MaybeArmored<R> {
    /// Reads from `reader`.
    pub fn new(reader: R) -> Self {
        Self { armor: ArmorReader::new(reader), armored: None }
    }

    /// Whether the file is armored; looks at its first byte.
    pub fn is_armored(&mut self) -> io::Result<bool> {
        if let Some(armored) = self.armored {
            return Ok(armored);
        }
        let first = self.armor.reader.fill_buf()?.first().copied();
        let armored = first.is_some_and(|byte| byte == b'-' || is_space(byte));
        self.armored = Some(armored);
        Ok(armored)
    }

    /// Gives the source back; what was read ahead from it is lost.
    pub fn into_inner(self) -> R {
        self.armor.into_inner()
    }
}

impl<R: BufRead> BufRead for MaybeArmored<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self.is_armored()? {
            true => self.armor.fill_buf(),
            false => self.armor.reader.fill_buf(),
        }
    }

    fn consume(&mut self, amount: usize) {
        match self.armored {
            Some(true) => self.armor.consume(amount),
            _ => self.armor.reader.consume(amount),
        }
    }
}

impl<R: BufRead> Read for MaybeArmored<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.is_armored()? {
            true => self.armor.read(buf),
            false => self.armor.reader.read(buf),
        }
    }
}

impl<R> fmt::Debug for MaybeArmored<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MaybeArmored").field("armored", &self.armored).finish_non_exhaustive()
    }
}
