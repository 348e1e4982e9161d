//! Files, directories and symbolic links.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::{StatusCode, header};
use bytes::Bytes;
use cid::Cid;

use super::{
    Door, Found, GatewayConfig,
    ask::{Ask, Format},
    listing, media,
    out::{Head, Out},
    ranges::{self, Content},
    refusal::Refusal,
    reply::{self, Keep, Stop, disposition},
};
use crate::{
    BlockSource, Directory, DirectoryEntry, ExportLimits, FileReader, Metadata, NodeKind, export_tar, stat,
    unixfs::Borrowed,
};

/// Markup of listings, whose entity tags change with it.
const LISTING_VERSION: &str = "1";

impl<S: BlockSource> Content for FileReader<S> {
    fn len(&self) -> u64 {
        FileReader::len(self)
    }

    fn at(&self, at: u64) -> Result<Bytes, Stop> {
        Ok(self.bytes_at(at)?)
    }
}

/// Serves what a UnixFS root is.
pub(super) fn unixfs(
    door: &Door<'_>,
    found: &Found,
    ask: &Ask,
    config: &GatewayConfig,
    out: &mut Out,
) -> Result<(), Stop> {
    let cid = found.cid();
    let root = stat(door, cid)?;
    let name = ask.filename.as_deref().or(ask.names.last().map(String::as_str));
    match root.kind {
        NodeKind::File { .. } => {
            file(door, found, ask, config, &File { cid, metadata: root.metadata, name }, out)
        }
        NodeKind::Symlink { target } => {
            let etag = format!("\"{cid}\"");
            let mut head = content_head(found, ask, config, &etag, root.metadata, out)?;
            head.set(header::CONTENT_TYPE, "inode/symlink");
            let target = Bytes::from(target);
            let ranges = reply::ranges(&head, ask, &etag, target.len() as u64)?;
            ranges::send(head, &target, ranges, out)
        }
        NodeKind::Directory { .. } => directory(door, found, ask, config, out),
    }
}

/// A file to be served.
struct File<'a> {
    /// Its root; that of the directory, if it is the index of one, is in its entity tag.
    cid: &'a Cid,
    metadata: Metadata,
    /// What it is called, for its type.
    name: Option<&'a str>,
}

fn content_head(
    found: &Found,
    ask: &Ask,
    config: &GatewayConfig,
    etag: &str,
    metadata: Metadata,
    out: &mut Out,
) -> Result<Head, Stop> {
    let mut head = reply::head(found, ask, Keep::Forever, etag, out)?;
    if config.sandbox {
        head.set(header::CONTENT_SECURITY_POLICY, "sandbox");
    }
    let seconds = metadata.mtime.and_then(|mtime| u64::try_from(mtime.seconds()).ok());
    let modified = seconds.and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
    // HTTP knows the years to 9999.
    if let Some(modified) = modified.filter(|_| seconds < Some(253_402_300_800)) {
        head.set(header::LAST_MODIFIED, &httpdate::fmt_http_date(modified));
        if !ask.headers.contains_key(header::IF_NONE_MATCH)
            && since(ask).is_some_and(|since| modified <= since)
        {
            head.status = StatusCode::NOT_MODIFIED;
            out.head(head)?;
            return Err(Stop::Gone);
        }
    }
    Ok(head)
}

/// `If-Modified-Since` (RFC 9110, section 13.1.3).
fn since(ask: &Ask) -> Option<SystemTime> {
    httpdate::parse_http_date(ask.headers.get(header::IF_MODIFIED_SINCE)?.to_str().ok()?).ok()
}

fn file(
    door: &Door<'_>,
    found: &Found,
    ask: &Ask,
    config: &GatewayConfig,
    file: &File<'_>,
    out: &mut Out,
) -> Result<(), Stop> {
    let etag = format!("\"{}\"", found.cid());
    let mut head = content_head(found, ask, config, &etag, file.metadata, out)?;
    disposition(&mut head, ask, false, None);
    let reader = FileReader::open(Borrowed(door), file.cid)?;
    let ranges = reply::ranges(&head, ask, &etag, reader.len())?;
    let kind = file.name.and_then(media::by_name).unwrap_or_else(|| {
        let mut first = vec![0; media::SNIFF_BYTES];
        // A range is served although the first block may be missing.
        let n = reader.read_at(0, &mut first).unwrap_or_default();
        let first = first.get(..n).unwrap_or_default();
        media::by_content(first, first.len() as u64 == reader.len()).to_owned()
    });
    head.set(header::CONTENT_TYPE, &kind);
    ranges::send(head, &reader, ranges, out)
}

fn directory(
    door: &Door<'_>,
    found: &Found,
    ask: &Ask,
    config: &GatewayConfig,
    out: &mut Out,
) -> Result<(), Stop> {
    let cid = found.cid();
    if !ask.slash {
        // Links in a page are relative to the directory only under a path that ends with a slash.
        let query = ask.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        let mut head = reply::head(found, ask, Keep::Generated, &format!("\"{cid}.redirect\""), out)?;
        head.headers.remove(header::ETAG);
        head.status = StatusCode::MOVED_PERMANENTLY;
        head.set(header::LOCATION, &format!("{}/{query}", ask.raw_path));
        return out.head(head);
    }
    let directory = Directory::open(Borrowed(door), cid)?;
    if let Some(index) = directory.get("index.html")? {
        let metadata = stat(door, &index.cid)?.metadata;
        return file(
            door,
            found,
            ask,
            config,
            &File { cid: &index.cid, metadata, name: Some("index.html") },
            out,
        );
    }
    let etag = format!("\"DirIndex-{LISTING_VERSION}_CID-{cid}\"");
    let mut head = reply::head(found, ask, Keep::Generated, &etag, out)?;
    head.set(header::CONTENT_TYPE, "text/html; charset=utf-8");
    if config.sandbox {
        head.set(header::CONTENT_SECURITY_POLICY, "sandbox allow-top-navigation");
    }
    out.head(head)?;
    let mut entries: Vec<DirectoryEntry> =
        directory.entries().take(config.listing_max.saturating_add(1)).collect::<Result<_, _>>()?;
    let more = entries.len() > config.listing_max;
    entries.truncate(config.listing_max);
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(out.send(listing::directory(ask, cid, &entries, more).into())?)
}

/// Serves everything below a UnixFS root as an archive.
pub(super) fn tar(door: &Door<'_>, found: &Found, ask: &Ask, out: &mut Out) -> Result<(), Stop> {
    let cid = found.cid();
    let etag = format!("W/\"{cid}.x-tar\"");
    let mut head = reply::head(found, ask, Keep::Forever, &etag, out)?;
    if !found.path.rest().is_empty() {
        return Err(Refusal::bad("a value within a block is no archive").into());
    }
    head.set(header::CONTENT_TYPE, Format::Tar.media());
    disposition(&mut head, ask, true, Some(&format!("{cid}.tar")));
    // What is no tree is found before the answer begins.
    stat(door, cid)?;
    out.head(head)?;
    export_tar(door, cid, &cid.to_string(), ExportLimits::default(), &mut *out)?;
    Ok(())
}
