//! dag-pb nodes and the UnixFS messages in them, byte for byte.
//!
//! ```text
//! PBNode  = Links (field 2)*, then Data (field 1)         PBLink = Hash (1), Name (2), Tsize (3)
//! Data    = Type (1), Data (2)?, filesize (3)?, blocksizes (4)*, ..
//! ```

use bytes::Bytes;
use cid::Cid;

use crate::{Block, DAG_PB, LayoutError, varint};

/// Wire types of protobuf.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

/// UnixFS `Type`.
pub(crate) const TYPE_RAW: u64 = 0;
pub(crate) const TYPE_FILE: u64 = 2;

/// A child of a file node, as its parent states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Child {
    /// Its name.
    pub(crate) cid: Cid,
    /// Bytes of the file below it.
    pub(crate) size: u64,
    /// Bytes of all blocks below it, itself included.
    pub(crate) tsize: u64,
}

/// Encodes the file node that joins `children`.
pub(crate) fn file_node(children: &[Child]) -> Block {
    let mut unixfs = vec![0x08, TYPE_FILE as u8, 0x18];
    varint::put(&mut unixfs, children.iter().map(|child| child.size).sum());
    for child in children {
        unixfs.push(0x20);
        varint::put(&mut unixfs, child.size);
    }
    let mut out = Vec::with_capacity(unixfs.len() + children.len() * 56 + 8);
    let mut link = Vec::with_capacity(64);
    for child in children {
        link.clear();
        put_bytes(&mut link, 0x0a, &child.cid.to_bytes());
        // The name is present and empty, as every importer of IPFS writes it.
        put_bytes(&mut link, 0x12, b"");
        link.push(0x18);
        varint::put(&mut link, child.tsize);
        put_bytes(&mut out, 0x12, &link);
    }
    put_bytes(&mut out, 0x0a, &unixfs);
    Block::new(DAG_PB, out)
}

/// Length of what [`file_node`] makes of children of these sizes and tsizes whose CIDs have `cid_len` bytes.
pub(crate) fn file_node_len(children: impl Iterator<Item = (u64, u64)>, cid_len: u64) -> u64 {
    let (mut links, mut unixfs, mut total) = (0, 0, 0u64);
    for (size, tsize) in children {
        let link = 1 + varint::len(cid_len) + cid_len + 2 + 1 + varint::len(tsize);
        links += 1 + varint::len(link) + link;
        unixfs += 1 + varint::len(size);
        total += size;
    }
    unixfs += 2 + 1 + varint::len(total);
    links + 1 + varint::len(unixfs) + unixfs
}

fn put_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    varint::put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A dag-pb node, decoded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) links: Vec<Cid>,
    pub(crate) data: Bytes,
}

impl Node {
    /// Decodes a node. Links stand together; the data may stand before them.
    pub(crate) fn decode(block: &Bytes) -> Result<Self, LayoutError> {
        let mut fields = Fields(block);
        let (mut links, mut data) = (Vec::new(), None);
        let mut links_ended = false;
        while let Some(field) = fields.next()? {
            match field {
                (1, Value::Bytes(bytes)) => {
                    if data.replace(block.slice_ref(bytes)).is_some() {
                        return malformed("a node has two Data fields");
                    }
                    links_ended = !links.is_empty();
                }
                (2, Value::Bytes(bytes)) => {
                    if links_ended {
                        return malformed("a node has links on both sides of its Data");
                    }
                    links.push(decode_link(bytes)?);
                }
                _ => return malformed("a node has an unknown field"),
            }
        }
        Ok(Self { links, data: data.unwrap_or_default() })
    }
}

fn decode_link(bytes: &[u8]) -> Result<Cid, LayoutError> {
    let mut fields = Fields(bytes);
    let mut cid = None;
    let mut last = 0;
    while let Some((number, value)) = fields.next()? {
        if number <= last {
            return malformed("the fields of a link are out of order");
        }
        last = number;
        match (number, value) {
            (1, Value::Bytes(bytes)) => cid = Some(exact_cid(bytes)?),
            (2, Value::Bytes(name)) if std::str::from_utf8(name).is_ok() => {}
            (3, Value::Int(_)) => {}
            _ => return malformed("a link has an unknown field"),
        }
    }
    cid.ok_or(LayoutError::Malformed { reason: "a link has no CID" })
}

/// Decodes a CID that takes up all of `bytes`.
fn exact_cid(bytes: &[u8]) -> Result<Cid, LayoutError> {
    match Cid::try_from(bytes) {
        Ok(cid) if cid.encoded_len() == bytes.len() => Ok(cid),
        _ => malformed("a link has a CID that cannot be read"),
    }
}

/// The message in the data of a file's node.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnixFs {
    pub(crate) kind: u64,
    pub(crate) data: Bytes,
    pub(crate) filesize: Option<u64>,
    pub(crate) blocksizes: Vec<u64>,
}

impl UnixFs {
    /// Decodes the message; fields that say nothing about the bytes of a file (mode, time, ..) are passed over.
    pub(crate) fn decode(message: &Bytes) -> Result<Self, LayoutError> {
        let mut fields = Fields(message);
        let (mut kind, mut data, mut filesize) = (None, None, None);
        let mut blocksizes = Vec::new();
        while let Some(field) = fields.next()? {
            let twice = match field {
                (1, Value::Int(value)) => kind.replace(value).is_some(),
                (2, Value::Bytes(bytes)) => data.replace(message.slice_ref(bytes)).is_some(),
                (3, Value::Int(value)) => filesize.replace(value).is_some(),
                (4, Value::Int(value)) => {
                    blocksizes.push(value);
                    false
                }
                // protobuf lets a repeated integer come packed.
                (4, Value::Bytes(mut packed)) => {
                    while !packed.is_empty() {
                        let size = varint::take(&mut packed);
                        blocksizes
                            .push(size.ok_or(LayoutError::Malformed { reason: "blocksizes are cut off" })?);
                    }
                    false
                }
                (1..=4, _) => return malformed("a UnixFS field has the wrong type"),
                _ => false,
            };
            if twice {
                return malformed("a UnixFS field stands twice");
            }
        }
        let kind = kind.ok_or(LayoutError::Malformed { reason: "the UnixFS message has no type" })?;
        Ok(Self { kind, data: data.unwrap_or_default(), filesize, blocksizes })
    }
}

/// The fields of a protobuf message.
struct Fields<'a>(&'a [u8]);

enum Value<'a> {
    Int(u64),
    Bytes(&'a [u8]),
    /// A fixed-width integer, which no field that is read here has.
    Fixed,
}

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, LayoutError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        match self.field() {
            Some(field) => Ok(Some(field)),
            None => malformed("a protobuf field is cut off or malformed"),
        }
    }

    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let tag = varint::take(&mut self.0)?;
        let value = match tag & 7 {
            VARINT => Value::Int(varint::take(&mut self.0)?),
            BYTES => {
                let len = varint::take(&mut self.0)?;
                Value::Bytes(self.bytes(len)?)
            }
            FIXED64 => self.bytes(8).map(|_| Value::Fixed)?,
            FIXED32 => self.bytes(4).map(|_| Value::Fixed)?,
            _ => return None,
        };
        Some((tag >> 3, value))
    }

    fn bytes(&mut self, len: u64) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(usize::try_from(len).ok()?)?;
        self.0 = rest;
        Some(bytes)
    }
}

fn malformed<T>(reason: &'static str) -> Result<T, LayoutError> {
    Err(LayoutError::Malformed { reason })
}
