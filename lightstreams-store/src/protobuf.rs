//! Fields of protobuf messages (protobuf.dev, "Encoding"), with the place at which they stand.

use crate::{
    fault::{Fault, fault},
    varint,
};

/// Wire types of protobuf.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

/// The fields of a protobuf message.
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
    /// The byte of the block at which `rest` begins.
    at: usize,
}

pub(crate) enum Value<'a> {
    Int(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
    /// An integer of 64 bits, which no field that is read here has.
    Fixed64,
}

impl<'a> Fields<'a> {
    /// Those of a message whose first byte counts as byte 0.
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self { rest: message, at: 0 }
    }

    /// Those of a message that the field before here is.
    pub(crate) fn within(&self, message: &'a [u8]) -> Self {
        Self { rest: message, at: self.at - message.len() }
    }

    /// The byte at which the next field begins.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// The next field: where it begins, its number, its value.
    pub(crate) fn next(&mut self) -> Result<Option<(usize, u64, Value<'a>)>, Fault> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (start, len) = (self.at, self.rest.len());
        let Some((number, value)) = self.field() else {
            return fault(start, "a protobuf field is cut off or malformed");
        };
        self.at += len - self.rest.len();
        Ok(Some((start, number, value)))
    }

    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let tag = varint::take(&mut self.rest)?;
        let value = match tag & 7 {
            VARINT => Value::Int(varint::take(&mut self.rest)?),
            BYTES => {
                let len = varint::take(&mut self.rest)?;
                Value::Bytes(self.bytes(len)?)
            }
            FIXED64 => self.bytes(8).map(|_| Value::Fixed64)?,
            FIXED32 => Value::Fixed32(u32::from_le_bytes(self.bytes(4)?.try_into().ok()?)),
            _ => return None,
        };
        (tag >> 3 != 0).then_some((tag >> 3, value))
    }

    fn bytes(&mut self, len: u64) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(usize::try_from(len).ok()?)?;
        self.rest = rest;
        Some(bytes)
    }
}

/// Writes a field of bytes; `tag` is its number times 8, and 2.
pub(crate) fn put_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    varint::put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Writes a field of an integer; `tag` is its number times 8.
#[cfg(feature = "ipns")]
pub(crate) fn put_int(out: &mut Vec<u8>, tag: u8, value: u64) {
    out.push(tag);
    varint::put(out, value);
}
