//! dag-pb nodes, byte for byte (ipld/ipld `specs/codecs/dag-pb/spec.md`).
//!
//! ```text
//! PBNode  = Links (field 2)*, then Data (field 1)         PBLink = Hash (1), Name (2), Tsize (3)
//! ```

use bytes::Bytes;
use cid::Cid;

use crate::{
    Block, DAG_PB, LayoutError,
    unixfs::{Message, Metadata, TYPE_FILE},
    varint,
};

/// Wire types of protobuf.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

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

/// Encodes the file node that joins `children`, named by a CIDv1 with sha2-256.
pub(crate) fn file_node(children: &[Child]) -> Block {
    Block::new(DAG_PB, file_node_bytes(children, Metadata::default()))
}

/// Encodes the file node that joins `children`; the names of its links are present and empty, as every importer of
/// IPFS writes them.
pub(crate) fn file_node_bytes(children: &[Child], metadata: Metadata) -> Vec<u8> {
    let message = Message {
        kind: TYPE_FILE,
        filesize: Some(children.iter().map(|child| child.size).sum()),
        blocksizes: children.iter().map(|child| child.size).collect(),
        metadata,
        ..Message::default()
    };
    encode_node(children.iter().map(|child| (&child.cid, "", child.tsize)), &message.encode())
}

/// Encodes a node with links of CID, name and tsize in the order given.
pub(crate) fn encode_node<'a>(links: impl Iterator<Item = (&'a Cid, &'a str, u64)>, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(links.size_hint().0 * 56 + data.len() + 8);
    let mut link = Vec::with_capacity(64);
    for (cid, name, tsize) in links {
        link.clear();
        put_bytes(&mut link, 0x0a, &cid.to_bytes());
        put_bytes(&mut link, 0x12, name.as_bytes());
        link.push(0x18);
        varint::put(&mut link, tsize);
        put_bytes(&mut out, 0x12, &link);
    }
    put_bytes(&mut out, 0x0a, data);
    out
}

/// Bytes that [`encode_node`] spends on a link.
pub(crate) fn link_len(cid_len: u64, name_len: u64, tsize: u64) -> u64 {
    let link = 3 + varint::len(cid_len) + cid_len + varint::len(name_len) + name_len + varint::len(tsize);
    1 + varint::len(link) + link
}

/// Length of what [`file_node`] makes of children of these sizes and tsizes whose CIDs have `cid_len` bytes.
pub(crate) fn file_node_len(children: impl Iterator<Item = (u64, u64)>, cid_len: u64) -> u64 {
    let (mut links, mut unixfs, mut total) = (0, 0, 0u64);
    for (size, tsize) in children {
        links += link_len(cid_len, 0, tsize);
        unixfs += 1 + varint::len(size);
        total += size;
    }
    unixfs += 2 + 1 + varint::len(total);
    links + 1 + varint::len(unixfs) + unixfs
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    varint::put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A dag-pb node, decoded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) links: Vec<Link>,
    pub(crate) data: Bytes,
}

/// A link of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) cid: Cid,
    /// Empty where there is none.
    pub(crate) name: String,
    /// Zero where there is none.
    pub(crate) tsize: u64,
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

fn decode_link(bytes: &[u8]) -> Result<Link, LayoutError> {
    let mut fields = Fields(bytes);
    let (mut cid, mut name, mut tsize) = (None, "", 0);
    let mut last = 0;
    while let Some((number, value)) = fields.next()? {
        if number <= last {
            return malformed("the fields of a link are out of order");
        }
        last = number;
        match (number, value) {
            (1, Value::Bytes(bytes)) => cid = Some(exact_cid(bytes)?),
            (2, Value::Bytes(bytes)) => match std::str::from_utf8(bytes) {
                Ok(text) => name = text,
                Err(_) => return malformed("the name of a link is not UTF-8"),
            },
            (3, Value::Int(value)) => tsize = value,
            _ => return malformed("a link has an unknown field"),
        }
    }
    let cid = cid.ok_or(LayoutError::Malformed { reason: "a link has no CID" })?;
    Ok(Link { cid, name: name.to_owned(), tsize })
}

/// Decodes a CID that takes up all of `bytes`.
fn exact_cid(bytes: &[u8]) -> Result<Cid, LayoutError> {
    match Cid::try_from(bytes) {
        Ok(cid) if cid.encoded_len() == bytes.len() => Ok(cid),
        _ => malformed("a link has a CID that cannot be read"),
    }
}

/// The fields of a protobuf message.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

pub(crate) enum Value<'a> {
    Int(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
    /// An integer of 64 bits, which no field that is read here has.
    Fixed64,
}

impl<'a> Fields<'a> {
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, LayoutError> {
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
            FIXED64 => self.bytes(8).map(|_| Value::Fixed64)?,
            FIXED32 => Value::Fixed32(u32::from_le_bytes(self.bytes(4)?.try_into().ok()?)),
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

pub(crate) fn malformed<T>(reason: &'static str) -> Result<T, LayoutError> {
    Err(LayoutError::Malformed { reason })
}
