//! dag-cbor: the one canonical form, read without recursion.

use cid::Cid;
use ipld_core::ipld::Ipld;

use super::{
    MAX_NESTING,
    event::{Event, Sink},
};
use crate::{
    fault::{Fault, fault},
    multiformats::exact_cid,
};

/// Major types of CBOR (RFC 8949, section 3.1).
const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const LIST: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;

/// The only tag: a link.
const LINK: u64 = 42;

/// A list or map that is not yet ended.
struct Open<'a> {
    /// Values that are to come.
    left: u64,
    /// In a map the key before, which the next one must exceed.
    last_key: Option<Option<&'a str>>,
}

/// Reads the value that `bytes` are, and refuses every form of it but the canonical one.
pub(super) fn scan(bytes: &[u8], sink: Sink<'_>) -> Result<(), Fault> {
    let mut input = Input { bytes, at: 0 };
    let mut stack: Vec<Open<'_>> = Vec::new();
    loop {
        if let Some(Open { last_key: Some(last), .. }) = stack.last_mut() {
            let at = input.at;
            let key = input.key()?;
            // Shorter keys come first, those of one length in the order of their bytes.
            if last.is_some_and(|last| (last.len(), last.as_bytes()) >= (key.len(), key.as_bytes())) {
                return fault(at, "a key is repeated or out of order");
            }
            *last = Some(key);
            sink(Event::Key(key))?;
        }
        let at = input.at;
        let (major, value) = input.head()?;
        match major {
            UNSIGNED => sink(Event::Integer(i128::from(value)))?,
            NEGATIVE => sink(Event::Integer(-1 - i128::from(value)))?,
            BYTES => sink(Event::Bytes(input.take(at, value)?))?,
            TEXT => sink(Event::Text(input.text(at, value)?))?,
            LIST | MAP => {
                // Each value takes a byte at least, each pair of a map two.
                let room = input.left() / if major == MAP { 2 } else { 1 };
                if value > room {
                    return fault(at, "a list or map is longer than its block");
                }
                if stack.len() >= MAX_NESTING {
                    return fault(at, "the value is nested too deeply");
                }
                sink(if major == MAP { Event::Map } else { Event::List })?;
                stack.push(Open { left: value, last_key: (major == MAP && value > 0).then_some(None) });
            }
            TAG if value == LINK => sink(Event::Link(input.link(at)?))?,
            TAG => return fault(at, "a tag is not 42"),
            _ => input.simple(at, value, sink)?,
        }
        // A list or map just opened is not yet a value of the one around it, unless it is empty.
        if matches!(major, LIST | MAP) && value > 0 {
            continue;
        }
        if matches!(major, LIST | MAP) {
            stack.pop();
            sink(Event::End)?;
        }
        while let Some(open) = stack.last_mut() {
            open.left = open.left.saturating_sub(1);
            if open.left > 0 {
                break;
            }
            stack.pop();
            sink(Event::End)?;
        }
        if stack.is_empty() {
            return if input.left() == 0 { Ok(()) } else { fault(input.at, "bytes follow the value") };
        }
    }
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn left(&self) -> u64 {
        self.bytes.len().saturating_sub(self.at) as u64
    }

    fn take(&mut self, start: usize, len: u64) -> Result<&'a [u8], Fault> {
        let taken =
            usize::try_from(len).ok().and_then(|len| self.bytes.get(self.at..self.at.checked_add(len)?));
        let Some(taken) = taken else { return fault(start, "the value is cut off") };
        self.at += taken.len();
        Ok(taken)
    }

    /// Reads a major type and its argument; major type 7 gives the byte itself.
    fn head(&mut self) -> Result<(u8, u64), Fault> {
        let start = self.at;
        let byte = self.take(start, 1)?.first().copied().unwrap_or_default();
        let (major, short) = (byte >> 5, byte & 0x1f);
        if major == 7 {
            return Ok((major, u64::from(byte)));
        }
        let (len, least) = match short {
            0..24 => return Ok((major, u64::from(short))),
            24 => (1, 24),
            25 => (2, 1 << 8),
            26 => (4, 1 << 16),
            27 => (8, 1 << 32),
            31 => return fault(start, "a length is indefinite"),
            _ => return fault(start, "a length has a reserved form"),
        };
        let value = self.take(start, len)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        if value < least {
            return fault(start, "an integer or length is not written in its shortest form");
        }
        Ok((major, value))
    }

    fn key(&mut self) -> Result<&'a str, Fault> {
        let start = self.at;
        match self.head()? {
            (TEXT, len) => self.text(start, len),
            _ => fault(start, "a key is no text"),
        }
    }

    fn text(&mut self, start: usize, len: u64) -> Result<&'a str, Fault> {
        let bytes = self.take(start, len)?;
        std::str::from_utf8(bytes).or_else(|_| fault(start, "a text is not UTF-8"))
    }

    fn link(&mut self, start: usize) -> Result<Cid, Fault> {
        let (BYTES, len) = self.head()? else { return fault(start, "a link is no byte string") };
        // The zero is the multibase prefix of plain bytes.
        match self.take(start, len)?.split_first() {
            Some((0, cid)) => {
                exact_cid(cid).or_else(|_| fault(start, "a link has a CID that cannot be read"))
            }
            _ => fault(start, "a link does not begin with a zero byte"),
        }
    }

    fn simple(&mut self, start: usize, byte: u64, sink: Sink<'_>) -> Result<(), Fault> {
        match byte {
            0xf4 => sink(Event::Bool(false)),
            0xf5 => sink(Event::Bool(true)),
            0xf6 => sink(Event::Null),
            0xf9 | 0xfa => fault(start, "a float has fewer than 64 bits"),
            0xfb => {
                let bits = self.take(start, 8)?.iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte));
                let value = f64::from_bits(bits);
                if !value.is_finite() {
                    return fault(start, "a float is not a finite number");
                }
                sink(Event::Float(value))
            }
            0xff => fault(start, "a break stands outside of an indefinite length"),
            _ => fault(start, "a simple value is neither null nor bool"),
        }
    }
}

/// Writes `value` in its canonical form.
pub(super) fn encode(value: &Ipld) -> Result<Vec<u8>, &'static str> {
    let mut out = Vec::new();
    put(&mut out, value, 0)?;
    Ok(out)
}

/// Writes what [`scan`] reads back, and refuses all else.
fn put(out: &mut Vec<u8>, value: &Ipld, depth: usize) -> Result<(), &'static str> {
    match value {
        Ipld::Null => out.push(0xf6),
        Ipld::Bool(value) => out.push(0xf4 | u8::from(*value)),
        Ipld::Integer(value) => {
            // Of a negative integer -1 less itself is written, which its complement is.
            let (major, value) = if *value < 0 { (NEGATIVE, !*value) } else { (UNSIGNED, *value) };
            put_head(out, major, u64::try_from(value).map_err(|_| "an integer exceeds 64 bits")?);
        }
        Ipld::Float(value) if !value.is_finite() => return Err("a float is not a finite number"),
        // The zero with a sign keeps it, as in Kubo: to drop it would name another block.
        Ipld::Float(value) => {
            out.push(0xfb);
            out.extend(value.to_bits().to_be_bytes());
        }
        Ipld::String(text) => put_bytes(out, TEXT, text.as_bytes()),
        Ipld::Bytes(bytes) => put_bytes(out, BYTES, bytes),
        Ipld::Link(cid) => {
            put_head(out, TAG, LINK);
            put_bytes(out, BYTES, &[&[0][..], &cid.to_bytes()].concat());
        }
        Ipld::List(_) | Ipld::Map(_) if depth >= MAX_NESTING => return Err("the value is nested too deeply"),
        Ipld::List(list) => {
            put_head(out, LIST, list.len() as u64);
            for value in list {
                put(out, value, depth + 1)?;
            }
        }
        Ipld::Map(map) => {
            put_head(out, MAP, map.len() as u64);
            let mut pairs: Vec<_> = map.iter().collect();
            // Stable: those of one length stay in the order of their bytes.
            pairs.sort_by_key(|(key, _)| key.len());
            for (key, value) in pairs {
                put_bytes(out, TEXT, key.as_bytes());
                put(out, value, depth + 1)?;
            }
        }
    }
    Ok(())
}

fn put_bytes(out: &mut Vec<u8>, major: u8, bytes: &[u8]) {
    put_head(out, major, bytes.len() as u64);
    out.extend(bytes);
}

/// Writes a major type and its argument in the shortest form.
fn put_head(out: &mut Vec<u8>, major: u8, value: u64) {
    let bytes = value.to_be_bytes();
    let (short, len) = match value {
        0..24 => return out.push(major << 5 | value as u8),
        24..=0xff => (24, 1),
        0x100..=0xffff => (25, 2),
        0x1_0000..=0xffff_ffff => (26, 4),
        _ => (27, 8),
    };
    out.push(major << 5 | short);
    out.extend(bytes.iter().skip(8 - len));
}
