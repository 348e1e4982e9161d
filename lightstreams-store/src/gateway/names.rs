//! Names that change what they lead to.

use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use cid::Cid;

use super::{
    ask::{Ask, Format},
    out::{Head, Out},
    refusal::Refusal,
    reply::{Stop, disposition, mutable, not_modified, short_hash},
};
use crate::{IpnsName, IpnsRecord, StoreError, parse_cid};

/// Names that lead to one another before a CID comes.
const HOPS_MAX: usize = 16;

/// Knows records of IPNS names.
pub trait IpnsRecords: Send + Sync {
    /// The best record of `name` that is known, or `None`; the caller verifies it.
    fn record(&self, name: &IpnsName) -> Result<Option<Bytes>, StoreError>;
}

pub(crate) struct NoRecords;

impl IpnsRecords for NoRecords {
    fn record(&self, _: &IpnsName) -> Result<Option<Bytes>, StoreError> {
        Ok(None)
    }
}

/// Where a namespace leads.
pub(crate) struct Named {
    pub(crate) root: Cid,
    pub(crate) names: Vec<String>,
    /// How long that may be believed; forever, if there was no name.
    pub(super) ttl: Option<Duration>,
}

/// Follows `name` to a CID, at the time `now` since 1970.
pub(crate) fn resolve(
    records: &dyn IpnsRecords,
    name: &IpnsName,
    names: &[String],
    now: Duration,
) -> Result<Named, Refusal> {
    let mut name = *name;
    let mut names = names.to_vec();
    let mut ttl = Duration::MAX;
    for _ in 0..HOPS_MAX {
        let record = verified(records, &name, now)?;
        ttl = ttl.min(lifetime(&record, now));
        let nowhere = || Refusal::unresolved(format!("{name} leads to no path of IPFS"));
        let value = std::str::from_utf8(&record.entry().value).map_err(|_| nowhere())?;
        let mut path = value.split('/').filter(|part| !part.is_empty());
        let (kind, key) = (path.next().unwrap_or_default(), path.next().unwrap_or_default());
        names = path.map(str::to_owned).chain(names).collect();
        match kind {
            "ipfs" => {
                let root = parse_cid(key).map_err(|_| nowhere())?;
                return Ok(Named { root, names, ttl: Some(ttl) });
            }
            "ipns" => name = key.parse().map_err(|_| nowhere())?,
            _ => return Err(nowhere()),
        }
    }
    Err(Refusal::unresolved(format!("more than {HOPS_MAX} names lead to one another")))
}

fn verified(records: &dyn IpnsRecords, name: &IpnsName, now: Duration) -> Result<IpnsRecord, Refusal> {
    let bytes = records.record(name)?;
    let bytes = bytes.ok_or_else(|| Refusal::unresolved(format!("no record of {name} is here")))?;
    IpnsRecord::verify(name, bytes, now).map_err(|error| Refusal::unresolved(format!("{name}: {error}")))
}

/// How long a record may be kept: as it says, and while it is valid.
fn lifetime(record: &IpnsRecord, now: Duration) -> Duration {
    record.entry().ttl.min(record.entry().validity.saturating_sub(now))
}

/// Sends the record itself.
pub(super) fn serve_record(
    records: &dyn IpnsRecords,
    name: &IpnsName,
    now: Duration,
    ask: &Ask,
    out: &mut Out,
) -> Result<(), Stop> {
    if !ask.names.is_empty() {
        return Err(Refusal::bad("a name has a record, a path below it has none").into());
    }
    let record = verified(records, name, now)?;
    let etag = format!("\"{name}.ipns-record.{}\"", short_hash(record.bytes()));
    let len = record.bytes().len() as u64;
    let mut head = Head { status: StatusCode::OK, headers: HeaderMap::new(), len: Some(len) };
    head.set(header::CACHE_CONTROL, &mutable(lifetime(&record, now)));
    head.set(header::ETAG, &etag);
    if not_modified(&ask.headers, &etag) {
        head.status = StatusCode::NOT_MODIFIED;
        head.len = None;
        return out.head(head);
    }
    head.set(header::CONTENT_TYPE, Format::IpnsRecord.media());
    head.set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    disposition(&mut head, ask, true, Some(&format!("{name}.ipns-record")));
    out.head(head)?;
    Ok(out.send(record.bytes().clone())?)
}
