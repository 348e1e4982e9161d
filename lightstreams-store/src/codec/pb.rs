//! dag-pb: nodes as values.

use std::collections::BTreeMap;

use cid::Cid;
use ipld_core::ipld::Ipld;

use crate::{
    dagpb::{RawLink, RawNode},
    fault::Fault,
    protobuf::put_bytes,
    varint,
};

pub(super) fn decode(bytes: &[u8]) -> Result<Ipld, Fault> {
    let node = RawNode::decode(bytes)?;
    let link = |link: RawLink<'_>| {
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
    links.extend(RawNode::decode(bytes)?.links.into_iter().map(|link| link.cid));
    Ok(())
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
