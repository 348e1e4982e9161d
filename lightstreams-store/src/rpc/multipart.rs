//! Reading `multipart/form-data` (RFC 7578, RFC 2046 section 5.1) while it comes, as clients of Kubo send trees of files: each
//! entry is a part, named by its whole path, and what is in a directory comes after it or without it.

use std::io::{self, Read};

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem::Finder;
use percent_encoding::percent_decode;

use crate::{Metadata, Mtime};

/// The longest headers of a part, together.
const HEADERS_LEN_MAX: usize = 16 << 10;
/// The longest boundary (RFC 2046, section 5.1.1).
const BOUNDARY_LEN_MAX: usize = 70;
/// Bytes that are looked through before more are asked for.
const WINDOW: usize = 64 << 10;

/// A part that begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) kind: PartKind,
    /// The names of its path, from which `.` and `..` were taken away as they say; none if it has no name.
    pub(super) path: Vec<String>,
    pub(super) metadata: Metadata,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PartKind {
    File,
    Directory,
    /// Its content is where it points.
    Symlink,
}

/// Reads parts from what `chunks` gives, until that ends with `None`. Memory holds a chunk and a window.
pub(super) struct Multipart<C> {
    chunks: C,
    ahead: BytesMut,
    /// Bytes of it that are known to be content.
    known: usize,
    delimiter: Finder<'static>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Behind the headers of a part, before the line break that ends them.
    Headed,
    /// Before a delimiter, in a part or in what comes before the first.
    Content,
    /// Behind one.
    Delimited,
    /// Behind the last, or broken.
    End,
}

/// The boundary that a `Content-Type` states, if it is one of forms.
pub(super) fn boundary(content_type: &str) -> Option<String> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = parameter(parameters, "boundary")?;
    let fits = (1..=BOUNDARY_LEN_MAX).contains(&boundary.len());
    (fits && boundary.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')).then_some(boundary)
}

impl<C: FnMut() -> io::Result<Option<Bytes>>> Multipart<C> {
    pub(super) fn new(boundary: &str, chunks: C) -> Self {
        let delimiter = Finder::new(&format!("\r\n--{boundary}")).into_owned();
        // The first delimiter needs no line before it.
        let ahead = BytesMut::from(&b"\r\n"[..]);
        Self { chunks, ahead, known: 0, delimiter, state: State::Content }
    }

    /// Goes to the next part, over what is left of this one; `None` behind the last.
    pub(super) fn next_part(&mut self) -> io::Result<Option<Part>> {
        let next = self.advance();
        if next.is_err() {
            self.state = State::End;
        }
        next
    }

    fn advance(&mut self) -> io::Result<Option<Part>> {
        while matches!(self.state, State::Headed | State::Content) {
            self.content(usize::MAX)?;
        }
        if self.state == State::End {
            return Ok(None);
        }
        while self.ahead.len() < 2 {
            self.more()?;
        }
        if self.ahead.starts_with(b"--") {
            self.state = State::End;
            return Ok(None);
        }
        let headers = self.headers()?;
        self.state = State::Headed;
        Part::read(&headers).map(Some)
    }

    /// The headers of a part, with the rest of the delimiter's line before them.
    fn headers(&mut self) -> io::Result<Bytes> {
        loop {
            let window = self.ahead.get(..HEADERS_LEN_MAX).unwrap_or(&self.ahead);
            if let Some(end) = memchr::memmem::find(window, b"\r\n\r\n") {
                return Ok(self.ahead.split_to(end + 2).freeze());
            }
            if self.ahead.len() >= HEADERS_LEN_MAX {
                return malformed("the headers of a part are too long");
            }
            self.more()?;
        }
    }

    /// Some bytes of the part at hand, at most `limit`; none at its end.
    fn content(&mut self, limit: usize) -> io::Result<Bytes> {
        let delimiter_len = self.delimiter.needle().len();
        while self.state != State::Delimited && self.state != State::End {
            if self.known > 0 {
                let taken = self.known.min(limit);
                self.known -= taken;
                return Ok(self.ahead.split_to(taken).freeze());
            }
            if self.state == State::Headed {
                // The line break behind the headers may be the one that a delimiter begins with.
                if self.ahead.len() < delimiter_len {
                    self.more()?;
                    continue;
                }
                self.state = State::Content;
                if !self.ahead.starts_with(self.delimiter.needle()) {
                    self.ahead.advance(2);
                }
            }
            match self.delimiter.find(&self.ahead) {
                Some(0) => {
                    self.ahead.advance(delimiter_len);
                    self.state = State::Delimited;
                }
                Some(at) => self.known = at,
                // A delimiter may have begun.
                None if self.ahead.len() >= delimiter_len => {
                    self.known = self.ahead.len() - delimiter_len + 1
                }
                None => self.more()?,
            }
        }
        Ok(Bytes::new())
    }

    fn more(&mut self) -> io::Result<()> {
        match (self.chunks)()? {
            Some(chunk) => self.ahead.extend_from_slice(&chunk),
            None => return malformed("the body ends within a part"),
        }
        Ok(())
    }
}

/// Reads the content of the part at hand.
impl<C: FnMut() -> io::Result<Option<Bytes>>> Read for Multipart<C> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let bytes = self.content(buf.len().min(WINDOW))?;
        if let Some(to) = buf.get_mut(..bytes.len()) {
            to.copy_from_slice(&bytes);
        }
        Ok(bytes.len())
    }
}

impl Part {
    fn read(headers: &[u8]) -> io::Result<Self> {
        let Ok(text) = std::str::from_utf8(headers) else { return malformed("a header is no UTF-8") };
        let (mut name, mut path, mut kind) = (String::new(), Vec::new(), PartKind::File);
        for line in text.split("\r\n").skip(1).filter(|line| !line.is_empty()) {
            let Some((field, value)) = line.split_once(':') else {
                return malformed("a header has no colon");
            };
            if field.eq_ignore_ascii_case("content-disposition") {
                name = parameter(value, "name").unwrap_or_default();
                path = names(&parameter(value, "filename").unwrap_or_default())?;
            } else if field.eq_ignore_ascii_case("content-type") {
                kind = match value.split(';').next().unwrap_or_default().trim() {
                    "application/x-directory" | "multipart/form-data" => PartKind::Directory,
                    "application/symlink" => PartKind::Symlink,
                    _ => PartKind::File,
                };
            }
        }
        Ok(Self { kind, path, metadata: metadata(&name) })
    }
}

/// The names of a path that is escaped as in a query, with what `.` and `..` mean done.
fn names(filename: &str) -> io::Result<Vec<String>> {
    let spaced = filename.replace('+', " ");
    let broken = |text: &str| {
        let mut escapes = text.split('%').skip(1);
        escapes.any(|escape| escape.len() < 2 || !escape.bytes().take(2).all(|byte| byte.is_ascii_hexdigit()))
    };
    // As Kubo has it, a name that is not escaped right is no escaped name.
    let bytes = if broken(&spaced) {
        filename.as_bytes().to_vec()
    } else {
        percent_decode(spaced.as_bytes()).collect()
    };
    let Ok(text) = String::from_utf8(bytes) else { return malformed("the name of a part is no UTF-8") };
    let mut names = Vec::new();
    for name in text.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name.to_owned()),
        }
    }
    Ok(names)
}

/// Mode and time, which stand as a query behind the name of a field.
fn metadata(name: &str) -> Metadata {
    let query = name.split_once('?').map(|(_, query)| query).unwrap_or_default();
    let (mut mode, mut seconds, mut nanos) = (None, None, 0);
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*key {
            "mode" => mode = u32::from_str_radix(&value, 8).ok().map(unix_mode),
            "mtime" => seconds = value.parse().ok(),
            "mtime-nsecs" => nanos = value.parse().unwrap_or(0),
            _ => {}
        }
    }
    Metadata::new(mode.filter(|mode| *mode != 0), seconds.and_then(|seconds| Mtime::new(seconds, nanos)))
}

/// The Unix mode that is meant by one of Go, which keeps setuid, setgid and sticky in bits of its own.
pub(super) fn unix_mode(go: u32) -> u32 {
    let special = [(23, 0o4000), (22, 0o2000), (20, 0o1000)];
    special.iter().fold(go & 0o777, |mode, (bit, unix)| mode | if go >> bit & 1 == 1 { *unix } else { 0 })
}

/// The parameter `name` of a header, which may stand in quotes.
fn parameter(header: &str, name: &str) -> Option<String> {
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ';']);
        let end = rest.find([';', '='])?;
        let (key, after) = (rest.get(..end)?, rest.get(end..)?);
        let Some(value) = after.strip_prefix('=') else {
            rest = after;
            continue;
        };
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = value.find(';').unwrap_or(value.len());
                (value.get(..end)?.trim_end().to_owned(), value.get(end..)?)
            }
        };
        if key.trim().eq_ignore_ascii_case(name) {
            return Some(value);
        }
        rest = after;
    }
}

/// What stands before the closing quote, and what behind it.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, quoted.get(at + 1..)?)),
            '\\' => match chars.next()?.1 {
                escaped @ ('"' | '\\') => value.push(escaped),
                // Browsers write the backslashes of Windows as they are.
                other => value.extend(['\\', other]),
            },
            c => value.push(c),
        }
    }
    None
}

fn malformed<T>(reason: &str) -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::InvalidData, format!("malformed multipart body: {reason}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Found = Vec<(PartKind, String, Vec<u8>)>;

    /// The parts of `body`, which comes in pieces of `step` bytes.
    fn parts(body: &[u8], step: usize) -> io::Result<Found> {
        let mut pieces = body.chunks(step).map(Bytes::copy_from_slice);
        let mut multipart = Multipart::new("b-7", || Ok(pieces.next()));
        let mut found = Vec::new();
        while let Some(part) = multipart.next_part()? {
            let mut content = Vec::new();
            multipart.read_to_end(&mut content)?;
            found.push((part.kind, part.path.join("/"), content));
        }
        Ok(found)
    }

    #[test]
    fn parts_are_the_same_however_they_come() {
        let body = b"before\r\n--b-7\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a%2Fb+c\"\r\n\
            Content-Type: application/octet-stream\r\n\r\none\r\n--b-\r\n--b-8\r\n\r\n--b-7\r\n\
            content-disposition: attachment; filename=d\r\nContent-Type: application/x-directory\r\n\r\n\r\n--b-7 \r\n\
            Content-Type: application/symlink\r\nContent-Disposition: x; filename=\"/../x/./\\\"y\"\r\n\r\nto\r\n--b-7\r\n\r\n\r\n--b-7\r\nX: y\r\n\r\n--b-7--rest";
        let expected: Found = vec![
            (PartKind::File, "a/b c".into(), b"one\r\n--b-\r\n--b-8\r\n".to_vec()),
            (PartKind::Directory, "d".into(), Vec::new()),
            (PartKind::Symlink, "x/\"y".into(), b"to".to_vec()),
            (PartKind::File, String::new(), Vec::new()),
            (PartKind::File, String::new(), Vec::new()),
        ];
        for step in (1..40).chain([body.len()]) {
            assert_eq!(parts(body, step).unwrap(), expected, "pieces of {step}");
        }
        for end in 0..body.len() - 6 {
            assert!(parts(&body[..end], 7).is_err(), "cut off at {end}");
        }
    }

    #[test]
    fn what_is_no_form_is_refused() {
        for (body, reason) in [
            (&b"--b-7\r\nno colon\r\n\r\n"[..], "colon"),
            (b"--b-7\r\nContent-Disposition: a; filename=\"%ff\"\r\n\r\n\r\n--b-7--", "UTF-8"),
            (b"--b-7\r\n\xff: x\r\n\r\n", "UTF-8"),
            (b"", "ends"),
        ] {
            let error = parts(body, 9).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        let long = [b"--b-7\r\nX: ".as_slice(), &vec![b'x'; HEADERS_LEN_MAX], b"\r\n\r\n"].concat();
        assert!(parts(&long, 100).unwrap_err().to_string().contains("too long"));
        for wrong in [
            "text/plain; boundary=x",
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=\"\r\"",
        ] {
            assert_eq!(boundary(wrong), None, "{wrong:?}");
        }
        assert_eq!(boundary("Multipart/Form-Data; charset=u; Boundary=\"a b\"").as_deref(), Some("a b"));
    }

    #[test]
    fn modes_and_times_stand_in_the_name() {
        let mtime = Mtime::new(-5, 7);
        assert_eq!(metadata("file?mode=0644&mtime=-5&mtime-nsecs=7"), Metadata::new(Some(0o644), mtime));
        assert_eq!(metadata("file-1?mtime=1&mtime-nsecs=1000000000"), Metadata::default());
        assert_eq!(metadata("file?mode=x"), Metadata::default());
        assert_eq!(names("100%").unwrap(), ["100%"]);
    }
}
