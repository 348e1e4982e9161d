//! `Range` of bytes (RFC 9110, section 14.2).

use std::{
    hash::{BuildHasher, RandomState},
    ops::Range,
};

use axum::http::{HeaderValue, StatusCode, header};
use bytes::Bytes;

use super::{
    out::{Head, Out},
    refusal::Refusal,
    reply::Stop,
};

/// A request for more ranges gets everything.
const RANGES_MAX: usize = 16;

/// Ranges within a representation: at least one, none of them empty.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ranges(Vec<Range<u64>>);

impl Ranges {
    /// Reads the header; `None` if everything is to be sent.
    ///
    /// As Kubo does, and unlike what the RFC advises, a header that is malformed or of another unit is refused.
    pub(super) fn read(text: &str, len: u64) -> Result<Option<Self>, Refusal> {
        let malformed = || Refusal::bad("the Range header is malformed");
        let list = text.trim().strip_prefix("bytes=").ok_or_else(malformed)?;
        let mut ranges = Vec::new();
        let mut count = 0;
        for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            count += 1;
            let (from, to) = part.split_once('-').ok_or_else(malformed)?;
            let number = |digits: &str| {
                let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
                // A number of more than 64 bits is behind every end.
                all_digits.then(|| digits.parse().unwrap_or(u64::MAX)).ok_or_else(malformed)
            };
            let range = match (from, to) {
                ("", last) => len.saturating_sub(number(last)?)..len,
                (from, "") => number(from)?..len,
                (from, to) => {
                    let (from, to) = (number(from)?, number(to)?);
                    if to < from {
                        return Err(malformed());
                    }
                    from..to.saturating_add(1).min(len)
                }
            };
            if range.start < range.end && ranges.len() < RANGES_MAX {
                ranges.push(range);
            }
        }
        match (count, ranges.len()) {
            (0, _) => Err(malformed()),
            // Nothing of nothing is everything.
            _ if len == 0 => Ok(None),
            (_, 0) => {
                let refusal =
                    Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, "no range lies within the content");
                let value = HeaderValue::from_str(&format!("bytes */{len}"));
                Err(match value {
                    Ok(value) => refusal.with(header::CONTENT_RANGE, value),
                    Err(_) => refusal,
                })
            }
            (count, _) if count > RANGES_MAX => Ok(None),
            _ => Ok(Some(Self(ranges))),
        }
    }
}

/// Bytes that are read at any place.
pub(super) trait Content {
    fn len(&self) -> u64;
    /// Some bytes from `at` on, which lies before the end: at least one.
    fn at(&self, at: u64) -> Result<Bytes, Stop>;
}

impl Content for Bytes {
    fn len(&self) -> u64 {
        Bytes::len(self) as u64
    }

    fn at(&self, at: u64) -> Result<Bytes, Stop> {
        Ok(self.slice(usize::try_from(at).unwrap_or(usize::MAX).min(Bytes::len(self))..))
    }
}

/// Sends `content`, of the type that `head` states: all of it or the ranges asked for.
pub(super) fn send(
    mut head: Head,
    content: &impl Content,
    ranges: Option<Ranges>,
    out: &mut Out,
) -> Result<(), Stop> {
    let len = content.len();
    head.set(header::ACCEPT_RANGES, "bytes");
    let Some(Ranges(ranges)) = ranges else {
        head.len = Some(len);
        out.head(head)?;
        return copy(content, 0..len, out);
    };
    head.status = StatusCode::PARTIAL_CONTENT;
    let content_range = |range: &Range<u64>| format!("bytes {}-{}/{len}", range.start, range.end - 1);
    if let [range] = &ranges[..] {
        head.set(header::CONTENT_RANGE, &content_range(range));
        head.len = Some(range.end - range.start);
        out.head(head)?;
        return copy(content, range.clone(), out);
    }
    // Random, so that no author can put it into the content.
    let boundary = format!("{:016x}", RandomState::new().hash_one(len));
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let part = |range: &Range<u64>| {
        format!("--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: {}\r\n\r\n", content_range(range))
    };
    let parts: Vec<(String, Range<u64>)> = ranges.into_iter().map(|range| (part(&range), range)).collect();
    let end = format!("--{boundary}--\r\n");
    let lens = parts.iter().map(|(text, range)| text.len() as u64 + (range.end - range.start) + 2);
    head.len = Some(lens.sum::<u64>() + end.len() as u64);
    head.set(header::CONTENT_TYPE, &format!("multipart/byteranges; boundary={boundary}"));
    out.head(head)?;
    for (text, range) in parts {
        out.send(text.into())?;
        copy(content, range, out)?;
        out.send(Bytes::from_static(b"\r\n"))?;
    }
    Ok(out.send(end.into())?)
}

fn copy(content: &impl Content, range: Range<u64>, out: &mut Out) -> Result<(), Stop> {
    let mut at = range.start;
    while at < range.end {
        let mut bytes = content.at(at)?;
        bytes.truncate(usize::try_from(range.end - at).unwrap_or(usize::MAX));
        at += bytes.len() as u64;
        out.send(bytes)?;
    }
    Ok(())
}
