//! Blocks, CARs, and values.

use axum::http::{StatusCode, header};
use bytes::Bytes;

use super::{
    Door, Found, GatewayConfig,
    ask::{Ask, Format},
    listing,
    out::Out,
    ranges,
    refusal::Refusal,
    reply::{self, Keep, Stop, disposition, short_hash},
};
use crate::{
    Codec, DAG_CBOR, DAG_JSON, DagSelection,
    codec::{CBOR, JSON},
    payload::read_block,
};

/// Markup of pages of values, whose entity tags change with it.
const PAGE_VERSION: &str = "1";
/// The longest value that a page shows.
const PREVIEW_BYTES: usize = 256 << 10;

/// Sends a block as it is.
pub(super) fn raw(door: &Door<'_>, found: &Found, ask: &Ask, out: &mut Out) -> Result<(), Stop> {
    let cid = found.cid();
    let etag = format!("\"{cid}.raw\"");
    let mut head = reply::head(found, ask, Keep::Forever, &etag, out)?;
    head.set(header::CONTENT_TYPE, Format::Raw.media());
    disposition(&mut head, ask, true, Some(&format!("{cid}.bin")));
    let block = read_block(door, cid)?;
    let ranges = reply::ranges(&head, ask, &etag, block.len() as u64)?;
    ranges::send(head, block.data(), ranges, out)
}

/// Sends a CAR of the blocks on the path and below it.
pub(super) fn car(
    door: &Door<'_>,
    found: &Found,
    ask: &Ask,
    blocks_max: u64,
    out: &mut Out,
) -> Result<(), Stop> {
    let root = &found.named.root;
    let selection = DagSelection {
        scope: ask.car.scope,
        bytes: ask.car.bytes,
        duplicates: ask.car.duplicates,
        blocks_max,
        ..DagSelection::default()
    };
    let what = format!("{:?} {:?}", found.path.roots(), ask.car);
    let etag = format!("W/\"{root}.car.{}\"", short_hash(what.as_bytes()));
    let mut head = reply::head(found, ask, Keep::Forever, &etag, out)?;
    let dups = if selection.duplicates { "y" } else { "n" };
    head.set(header::CONTENT_TYPE, &format!("{}; version=1; order=dfs; dups={dups}", Format::Car.media()));
    head.set(header::ACCEPT_RANGES, "none");
    let name = match found.named.names.last() {
        Some(name) => format!("{root}_{name}.car"),
        None => format!("{root}.car"),
    };
    disposition(&mut head, ask, true, Some(&name));
    // A root that is missing is found before the answer begins.
    read_block(door, found.cid())?;
    out.head(head)?;
    found.path.write_car(door, &selection, &mut *out)?;
    Ok(())
}

/// Sends a block of JSON, CBOR, dag-json or dag-cbor, or another one as dag-json or dag-cbor where that is allowed.
pub(super) fn value(
    door: &Door<'_>,
    found: &Found,
    ask: &Ask,
    config: &GatewayConfig,
    out: &mut Out,
) -> Result<(), Stop> {
    let cid = found.cid();
    if !found.path.rest().is_empty() {
        let text = format!("the path ends within the block {cid}, and only whole blocks are served");
        return Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, text).into());
    }
    let own = match cid.codec() {
        JSON => Some(Format::Json),
        CBOR => Some(Format::Cbor),
        DAG_JSON => Some(Format::DagJson),
        DAG_CBOR => Some(Format::DagCbor),
        _ => None,
    };
    if let (None, true, Some(own)) = (ask.format, ask.html, own) {
        return page(door, found, ask, own, out);
    }
    let Some(format) = ask.format.or(own) else {
        return Err(Refusal::new(StatusCode::NOT_ACCEPTABLE, "the block has no value").into());
    };
    // Each of the plain formats is also the form in which the other one is written.
    let as_it_is = match (format, own) {
        (Format::Json, Some(Format::Json | Format::DagJson)) => true,
        (Format::Cbor, Some(Format::Cbor | Format::DagCbor)) => true,
        (format, Some(own)) => format == own,
        (_, None) => false,
    };
    let etag = format!("\"{cid}.{}\"", format.name());
    let mut head = reply::head(found, ask, Keep::Forever, &etag, out)?;
    head.set(header::CONTENT_TYPE, format.media());
    let (end, attachment) = match format {
        Format::Json | Format::DagJson => ("json", false),
        _ => ("cbor", true),
    };
    disposition(&mut head, ask, attachment, Some(&format!("{cid}.{end}")));
    let block = read_block(door, cid)?;
    let bytes =
        if as_it_is { block.data().clone() } else { converted(cid.codec(), format, block.data(), config)? };
    let ranges = reply::ranges(&head, ask, &etag, bytes.len() as u64)?;
    ranges::send(head, &bytes, ranges, out)
}

fn converted(from: u64, to: Format, block: &[u8], config: &GatewayConfig) -> Result<Bytes, Refusal> {
    let refused = |text: &str| Refusal::new(StatusCode::NOT_ACCEPTABLE, text);
    if !config.codec_conversion {
        return Err(refused("the block has another codec, and none is converted here; ask for format=raw"));
    }
    let from = Codec::from_code(from).ok_or_else(|| refused("the codec of the block is not known here"))?;
    let to = match to {
        Format::Json | Format::DagJson => Codec::DagJson,
        _ => Codec::DagCbor,
    };
    let value = from.decode(block).map_err(|error| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error))?;
    let bytes = to.encode(&value).map_err(|error| Refusal::new(StatusCode::NOT_ACCEPTABLE, error))?;
    Ok(bytes.into())
}

fn page(door: &Door<'_>, found: &Found, ask: &Ask, own: Format, out: &mut Out) -> Result<(), Stop> {
    let cid = found.cid();
    let etag = format!("\"DagIndex-{PAGE_VERSION}_CID-{cid}\"");
    let mut head = reply::head(found, ask, Keep::Generated, &etag, out)?;
    head.set(header::CONTENT_TYPE, "text/html; charset=utf-8");
    head.set(header::CONTENT_SECURITY_POLICY, "sandbox allow-top-navigation");
    out.head(head)?;
    let block = read_block(door, cid)?;
    let codec = Codec::from_code(cid.codec()).filter(|_| block.len() <= PREVIEW_BYTES);
    let preview = codec.and_then(|codec| listing::preview(codec, block.data()));
    Ok(out.send(listing::value(ask, cid, own.name(), preview.as_deref()).into())?)
}
