//! What answers have in common: names, caching, conditions.

use std::{io, time::Duration};

use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use cid::multibase::Base;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{
    Found,
    ask::Ask,
    out::{self, Head, Out},
    ranges::Ranges,
    refusal::Refusal,
};
use crate::HashFunction;

pub(super) const X_IPFS_PATH: HeaderName = HeaderName::from_static("x-ipfs-path");

/// Content under a CID never changes; a year less 29 days, as gateways have it.
const IMMUTABLE: &str = "public, max-age=29030400, immutable";
/// What is made of content may look otherwise tomorrow.
const GENERATED: &str = "public, max-age=604800, stale-while-revalidate=2678400";

/// What RFC 3986 lets stand in a segment of a path, but for what means something elsewhere.
pub(super) const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Why no more of an answer is written.
pub(super) type Stop = out::Stop<Refusal>;

impl<R: Into<Refusal>> From<R> for Stop {
    fn from(refusal: R) -> Self {
        Self::Refused(refusal.into())
    }
}

impl From<io::Error> for Stop {
    /// Nothing but the client's end of an answer is written to.
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// How long an answer may be kept.
pub(super) enum Keep {
    Forever,
    Generated,
}

/// The head of an answer from `found`, with its entity tag; or that of "not modified", after which nothing is to be read.
pub(super) fn head(found: &Found, ask: &Ask, keep: Keep, etag: &str, out: &mut Out) -> Result<Head, Stop> {
    let mut head = Head { status: StatusCode::OK, headers: HeaderMap::new(), len: None };
    let keep = match (found.named.ttl, keep) {
        (Some(ttl), _) => mutable(ttl),
        (None, Keep::Forever) => IMMUTABLE.to_owned(),
        (None, Keep::Generated) => GENERATED.to_owned(),
    };
    head.set(header::CACHE_CONTROL, &keep);
    head.set(header::ETAG, etag);
    if not_modified(&ask.headers, etag) {
        head.status = StatusCode::NOT_MODIFIED;
        out.head(head)?;
        return Err(Stop::Gone);
    }
    if let Some(location) = &ask.location {
        head.set(header::CONTENT_LOCATION, location);
    }
    head.set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    Ok(head)
}

/// Caching of what a name leads to.
pub(super) fn mutable(ttl: Duration) -> String {
    format!("public, max-age={}", ttl.as_secs())
}

/// Whether `If-None-Match` names the entity tag (RFC 9110, section 13.1.2: compared weakly).
pub(super) fn not_modified(headers: &HeaderMap, etag: &str) -> bool {
    let weak = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    headers.get_all(header::IF_NONE_MATCH).iter().any(|value| {
        let value = String::from_utf8_lossy(value.as_bytes());
        value.trim() == "*" || value.split(',').any(|tag| weak(tag) == weak(etag))
    })
}

/// The ranges that are asked for of `len` bytes with the entity tag `etag`, if the client still means that entity.
pub(super) fn ranges(head: &Head, ask: &Ask, etag: &str, len: u64) -> Result<Option<Ranges>, Stop> {
    let Some(range) = ask.headers.get(header::RANGE) else { return Ok(None) };
    // A date is never later than that of a thing without one; only a strong tag that is equal counts (section 13.1.5).
    if let Some(of) = ask.headers.get(header::IF_RANGE)
        && of.as_bytes() != etag.as_bytes()
        && of.to_str().ok() != head.headers.get(header::LAST_MODIFIED).and_then(|date| date.to_str().ok())
    {
        return Ok(None);
    }
    let range = range.to_str().map_err(|_| Refusal::bad("the Range header is no text"))?;
    Ok(Ranges::read(range, len)?)
}

/// `Content-Disposition` (RFC 6266) with the name asked for, else with `name`.
pub(super) fn disposition(head: &mut Head, ask: &Ask, attachment: bool, name: Option<&str>) {
    let Some(name) = ask.filename.as_deref().or(name) else {
        if ask.download {
            head.set(header::CONTENT_DISPOSITION, "attachment");
        }
        return;
    };
    let kind = if attachment || ask.download { "attachment" } else { "inline" };
    let ascii: String = name.chars().map(|c| if c.is_ascii() { c } else { '_' }).collect();
    let ascii = utf8_percent_encode(&ascii, SEGMENT);
    let full = utf8_percent_encode(name, SEGMENT);
    let value = format!("{kind}; filename=\"{ascii}\"; filename*=UTF-8''{full}");
    head.set(header::CONTENT_DISPOSITION, &value);
}

/// A short hash, for entity tags.
pub(super) fn short_hash(bytes: &[u8]) -> String {
    let digest = HashFunction::SHA2_256.digest(bytes);
    Base::Base32Lower.encode(digest.digest().get(..10).unwrap_or_default())
}
