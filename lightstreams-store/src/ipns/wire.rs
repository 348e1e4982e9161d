//! Fields of protobuf messages.

use crate::varint;

pub(super) enum Value<'a> {
    Int(u64),
    Bytes(&'a [u8]),
    /// A fixed-width integer, which no field that is read here has.
    Fixed,
}

/// Takes a field, its number and value, off the front of `rest`; `None` if it is cut off or malformed.
pub(super) fn field<'a>(rest: &mut &'a [u8]) -> Option<(u64, Value<'a>)> {
    let tag = varint::take(rest)?;
    let take = |rest: &mut &'a [u8], len: u64| {
        let (bytes, after) = rest.split_at_checked(usize::try_from(len).ok()?)?;
        *rest = after;
        Some(bytes)
    };
    let value = match tag & 7 {
        0 => Value::Int(varint::take(rest)?),
        1 => take(rest, 8).map(|_| Value::Fixed)?,
        2 => {
            let len = varint::take(rest)?;
            Value::Bytes(take(rest, len)?)
        }
        5 => take(rest, 4).map(|_| Value::Fixed)?,
        _ => return None,
    };
    (tag >> 3 != 0).then_some((tag >> 3, value))
}

pub(super) fn put_bytes(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    varint::put(out, number << 3 | 2);
    varint::put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(super) fn put_int(out: &mut Vec<u8>, number: u64, value: u64) {
    varint::put(out, number << 3);
    varint::put(out, value);
}
