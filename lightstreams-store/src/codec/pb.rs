//! dag-pb: nodes as values.
//!
//! ```text
//! PBNode  = Links (field 2)*, then Data (field 1)?        PBLink = Hash (1), Name (2)?, Tsize (3)?
//! ```

use std::collections::BTreeMap;

use cid::Cid;
use ipld_core::ipld::Ipld;

use super::Fault;
use crate::{multiformats::exact_cid, varint};

/// A link of a node.
struct Link<'a> {
    cid: Cid,
    name: Option<&'a str>,
    tsize: Option<u64>,
}

struct Node<'a> {
    links: Vec<Link<'a>>,
    data: Option<&'a [u8]>,
}

pub(super) fn decode(bytes: &[u8]) -> Result<Ipld, Fault> {
    let node = read(bytes)?;
    let link = |link: Link<'_>| {
        let mut map = BTreeMap::from([("Hash".to_owned(), Ipld::Link(link.cid))]);
        map.extend(link.name.map(|name| ("Name".to_owned(), Ipld::String(name.to_owned()))));
        map.extend(link.tsize.map(|tsize| ("Tsize".to_owned(), Ipld::Integer(tsize.into()))));
        Ipld::Map(map)
    };
    let links = node.links.into_iter().map(link).collect();
    let mut map = BTreeMap::from([("Links".to_owned(), Ipld::List(links))]);
    map.extend(node.data.map(|data| ("Data".to_owned(), Ipld::Bytes(data.to_vec()))));
    Ok(Ipld::Map(map))
}

pub(super) fn links(bytes: &[u8], links: &mut Vec<Cid>) -> Result<(), Fault> {
    links.extend(read(bytes)?.links.into_iter().map(|link| link.cid));
    Ok(())
}

fn read(bytes: &[u8]) -> Result<Node<'_>, Fault> {
    let mut fields = Fields { bytes, at: 0, base: 0 };
    let mut node = Node { links: Vec::new(), data: None };
    let mut links_ended = false;
    while let Some((at, number, value)) = fields.next()? {
        match (number, value) {
            (1, Value::Bytes(_)) if node.data.is_some() => return fault(at, "a node has two Data fields"),
            (1, Value::Bytes(data)) => {
                node.data = Some(data);
                links_ended = !node.links.is_empty();
            }
            (2, Value::Bytes(_)) if links_ended => {
                return fault(at, "a node has links on both sides of its Data");
            }
            (2, Value::Bytes(link)) => {
                let base = fields.place() - link.len();
                node.links.push(read_link(link, base)?);
            }
            _ => return fault(at, "a node has an unknown field"),
        }
    }
    Ok(node)
}

fn read_link(bytes: &[u8], base: usize) -> Result<Link<'_>, Fault> {
    let mut fields = Fields { bytes, at: 0, base };
    let (mut cid, mut name, mut tsize, mut last) = (None, None, None, 0);
    while let Some((at, number, value)) = fields.next()? {
        if number <= last {
            return fault(at, "the fields of a link are repeated or out of order");
        }
        last = number;
        match (number, value) {
            (1, Value::Bytes(bytes)) => {
                cid = Some(exact_cid(bytes).or_else(|_| fault(at, "a link has a CID that cannot be read"))?);
            }
            (2, Value::Bytes(bytes)) => {
                name = Some(std::str::from_utf8(bytes).or_else(|_| fault(at, "a name is not UTF-8"))?);
            }
            (3, Value::Int(value)) => tsize = Some(value),
            _ => return fault(at, "a link has an unknown field"),
        }
    }
    match cid {
        Some(cid) => Ok(Link { cid, name, tsize }),
        None => fault(base, "a link has no CID"),
    }
}

/// The fields of a protobuf message that begins at `base` of the block.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
    base: usize,
}

enum Value<'a> {
    Int(u64),
    Bytes(&'a [u8]),
}

impl<'a> Fields<'a> {
    /// Bytes of the block up to here.
    fn place(&self) -> usize {
        self.base + self.at
    }

    /// The next field: where it begins, its number, its value.
    fn next(&mut self) -> Result<Option<(usize, u64, Value<'a>)>, Fault> {
        let start = self.place();
        let mut rest = self.bytes.get(self.at..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let field = Self::field(&mut rest);
        self.at = self.bytes.len() - rest.len();
        match field {
            Some((number, value)) => Ok(Some((start, number, value))),
            None => fault(start, "a field is cut off or malformed"),
        }
    }

    fn field(rest: &mut &'a [u8]) -> Option<(u64, Value<'a>)> {
        let tag = varint::take(rest)?;
        let value = match tag & 7 {
            0 => Value::Int(varint::take(rest)?),
            2 => {
                let len = varint::take(rest)?;
                let (bytes, after) = rest.split_at_checked(usize::try_from(len).ok()?)?;
                *rest = after;
                Value::Bytes(bytes)
            }
            _ => return None,
        };
        Some((tag >> 3, value))
    }
}

/// Writes a node; `value` must have the form that [`decode`] gives, its links sorted by the bytes of their names.
pub(super) fn encode(value: &Ipld) -> Result<Vec<u8>, &'static str> {
    let Ipld::Map(map) = value else { return Err("a node is a map") };
    let mut out = Vec::new();
    let Some(Ipld::List(links)) = map.get("Links") else { return Err("Links is a list, and must be there") };
    let mut last: &[u8] = b"";
    for link in links {
        last = put_link(&mut out, link, last)?;
    }
    match map.get("Data") {
        Some(Ipld::Bytes(data)) => put_bytes(&mut out, 0x0a, data),
        Some(_) => return Err("Data is bytes"),
        None => {}
    }
    if map.keys().any(|key| key != "Links" && key != "Data") {
        return Err("a node has Links and Data only");
    }
    Ok(out)
}

/// Appends a link, whose name must not come before `last`; returns the name.
fn put_link<'a>(out: &mut Vec<u8>, link: &'a Ipld, last: &[u8]) -> Result<&'a [u8], &'static str> {
    let Ipld::Map(map) = link else { return Err("a link is a map") };
    let Some(Ipld::Link(cid)) = map.get("Hash") else { return Err("Hash is a link, and must be there") };
    let mut message = Vec::new();
    put_bytes(&mut message, 0x0a, &cid.to_bytes());
    let name = match map.get("Name") {
        Some(Ipld::String(name)) => {
            put_bytes(&mut message, 0x12, name.as_bytes());
            name.as_bytes()
        }
        Some(_) => return Err("Name is text"),
        None => b"",
    };
    match map.get("Tsize") {
        Some(Ipld::Integer(tsize)) => {
            let tsize = u64::try_from(*tsize).map_err(|_| "Tsize is an unsigned integer of 64 bits")?;
            message.push(0x18);
            varint::put(&mut message, tsize);
        }
        Some(_) => return Err("Tsize is an integer"),
        None => {}
    }
    if map.keys().any(|key| !matches!(key.as_str(), "Hash" | "Name" | "Tsize")) {
        return Err("a link has Hash, Name and Tsize only");
    }
    if name < last {
        return Err("links are sorted by their names");
    }
    put_bytes(out, 0x12, &message);
    Ok(name)
}

fn put_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    varint::put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn fault<T>(at: usize, reason: &'static str) -> Result<T, Fault> {
    Err(Fault { at, reason })
}
