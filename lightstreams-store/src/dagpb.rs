//! dag-pb nodes, byte for byte (ipld/ipld `specs/codecs/dag-pb/spec.md`).
//!
//! ```text
//! PBNode  = Links (field 2)*, then Data (field 1)         PBLink = Hash (1), Name (2), Tsize (3)
//! ```

use bytes::Bytes;
use cid::Cid;

use crate::{
    Block, DAG_PB, LayoutError,
    chunks::Chunk,
    fault::{Fault, fault},
    multiformats::exact_cid,
    protobuf::{Fields, Value, put_bytes},
    unixfs::{Message, Metadata, TYPE_FILE},
    varint,
};

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

/// Encodes the node without links that holds a part of a file.
pub(crate) fn file_leaf_bytes(data: Chunk, kind: u64, metadata: Metadata) -> Bytes {
    let len = data.len() as u64;
    let message = Message { kind, filesize: Some(len), metadata, ..Message::default() }.encode();
    // The type, of two bytes, stands before the data, all else behind; empty data is left out.
    let (head, tail) = message.split_at_checked(2).unwrap_or_default();
    let mut field = Vec::with_capacity(8);
    if len > 0 {
        field.push(0x12);
        varint::put(&mut field, len);
    }
    let mut before = Vec::with_capacity(24);
    before.push(0x0a);
    varint::put(&mut before, (message.len() + field.len()) as u64 + len);
    before.extend_from_slice(head);
    before.extend_from_slice(&field);
    data.between(&before, tail)
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
    /// Decodes a node.
    pub(crate) fn decode(block: &Bytes) -> Result<Self, LayoutError> {
        let node = RawNode::decode(block)?;
        let links = node.links.into_iter().map(|RawLink { cid, name, tsize }| Link {
            cid,
            name: name.unwrap_or_default().to_owned(),
            tsize: tsize.unwrap_or_default(),
        });
        Ok(Self { links: links.collect(), data: block.slice_ref(node.data.unwrap_or_default()) })
    }
}

/// A node in the bytes of its block, with what is there told from what is not.
pub(crate) struct RawNode<'a> {
    pub(crate) links: Vec<RawLink<'a>>,
    pub(crate) data: Option<&'a [u8]>,
}

/// A link of a [`RawNode`].
pub(crate) struct RawLink<'a> {
    pub(crate) cid: Cid,
    pub(crate) name: Option<&'a str>,
    pub(crate) tsize: Option<u64>,
}

impl<'a> RawNode<'a> {
    /// Decodes a node. Links stand together; the data may stand before them.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, Fault> {
        let mut fields = Fields::new(bytes);
        let mut node = Self { links: Vec::new(), data: None };
        let mut links_ended = false;
        while let Some((at, number, value)) = fields.next()? {
            match (number, value) {
                (1, Value::Bytes(_)) if node.data.is_some() => {
                    return fault(at, "a node has two Data fields");
                }
                (1, Value::Bytes(data)) => {
                    node.data = Some(data);
                    links_ended = !node.links.is_empty();
                }
                (2, Value::Bytes(_)) if links_ended => {
                    return fault(at, "a node has links on both sides of its Data");
                }
                (2, Value::Bytes(link)) => {
                    node.links.push(RawLink::decode(fields.within(link))?);
                }
                _ => return fault(at, "a node has an unknown field"),
            }
        }
        Ok(node)
    }
}

impl<'a> RawLink<'a> {
    fn decode(mut fields: Fields<'a>) -> Result<Self, Fault> {
        let begin = fields.at();
        let (mut cid, mut name, mut tsize, mut last) = (None, None, None, 0);
        while let Some((at, number, value)) = fields.next()? {
            if number <= last {
                return fault(at, "the fields of a link are out of order");
            }
            last = number;
            match (number, value) {
                (1, Value::Bytes(bytes)) => {
                    cid = Some(
                        exact_cid(bytes).or_else(|_| fault(at, "a link has a CID that cannot be read"))?,
                    );
                }
                (2, Value::Bytes(bytes)) => {
                    let text = std::str::from_utf8(bytes);
                    name = Some(text.or_else(|_| fault(at, "the name of a link is not UTF-8"))?);
                }
                (3, Value::Int(value)) => tsize = Some(value),
                _ => return fault(at, "a link has an unknown field"),
            }
        }
        match cid {
            Some(cid) => Ok(Self { cid, name, tsize }),
            None => fault(begin, "a link has no CID"),
        }
    }
}

pub(crate) fn malformed<T>(reason: &'static str) -> Result<T, LayoutError> {
    Err(LayoutError::Malformed { reason })
}
