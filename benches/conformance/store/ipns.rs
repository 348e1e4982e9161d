//! IPNS records of IPFS's own tests, and those that Kubo made and judged.

use std::{
    fs,
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use lightstreams_store::{IpnsError, IpnsName, IpnsRecord, multibase::Base};
use serde_json::Value;

use crate::report::{Outcome, Report, Stop, ensure, failed, files_below, list, number, text};

/// A time at which the records of IPFS's tests are valid: the year 2030.
const NOW: Duration = Duration::from_secs(1_893_456_000);

/// Records whose file names say whose they are and what is wrong with them.
pub(crate) fn run(root: &Path, report: &mut Report) {
    for path in files_below(&root.join("ipfs-car-fixtures"), ".ipns-record") {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        report.case(&stem, || {
            let (name, kind) = stem.split_once('_').unwrap_or((&stem, ""));
            let name: IpnsName = name.parse().or_else(failed)?;
            let record = IpnsRecord::verify(&name, fs::read(&path).or_else(failed)?, NOW);
            let refused =
                kind == "v1" || kind.contains("broken-v1-value") || kind.contains("broken-signature-v2");
            match record {
                // What says nothing of itself may have been made for a shorter time.
                Err(IpnsError::Expired { .. }) if kind.is_empty() => Ok(()),
                Err(error) => ensure(refused, error),
                Ok(_) => ensure(!refused, "accepted"),
            }
        });
    }
}

/// Records made by Kubo, and changed ones with its verdict.
pub(crate) fn kubo(root: &Path, report: &mut Report) {
    let path = root.join("kubo/ipns.json");
    if !path.is_file() {
        return;
    }
    let all = report.json(&path);
    let records = list(&all["records"]);
    for row in records {
        report.case(text(row, "id").unwrap_or_default(), || {
            let now = time(text(&all, "verified_at")?)?;
            let name: IpnsName = text(row, "name")?.parse().or_else(failed)?;
            ensure(name.to_string() == text(row, "name")?, "the name is printed otherwise")?;
            for form in ["name_peer_id", "name_base32"] {
                ensure(text(row, form)?.parse() == Ok(name), format_args!("{form} is another name"))?;
            }
            let bytes = Base::Base64Pad.decode(text(row, "record_base64")?).or_else(failed)?;
            let valid = row["valid"] == true;
            let validity = time(text(row, "validity")?)?;
            let record = match IpnsRecord::verify(&name, bytes.clone(), now) {
                Err(IpnsError::Expired { .. }) if !valid => {
                    // It was valid to its last moment.
                    IpnsRecord::verify(&name, bytes, validity)
                }
                other => other,
            };
            let record = record.or_else(failed)?;
            ensure(valid == (now <= validity), "valid for another reason")?;
            let entry = record.entry();
            ensure(entry.value == text(row, "value_in_record")?.as_bytes(), "another value")?;
            ensure(entry.sequence == number(row, "sequence")?, "another sequence")?;
            ensure(entry.ttl == Duration::from_nanos(number(row, "ttl_ns")?), "another time to live")?;
            ensure(entry.validity == validity, format_args!("valid until {:?}", entry.validity))
        });
    }
    for row in list(&all["mutations"]) {
        report.case(text(row, "id").unwrap_or_default(), || {
            let bytes = match row["record_base64"].as_str() {
                Some(base64) => Base::Base64Pad.decode(base64).or_else(failed)?,
                None => padded(records, row)?,
            };
            mutation(row, bytes, time(text(&all, "verified_at")?)?)
        });
    }
}

fn mutation(row: &Value, bytes: Vec<u8>, now: Duration) -> Outcome {
    let name: IpnsName = text(row, "name")?.parse().or_else(failed)?;
    match IpnsRecord::verify(&name, bytes, now) {
        Ok(_) => ensure(row["valid"] == true, "accepted"),
        Err(error) => ensure(row["valid"] == false, error),
    }
}

/// The record with an unknown field behind it that makes it longer than 10 KiB.
fn padded(records: &[Value], row: &Value) -> Result<Vec<u8>, Stop> {
    let of = records.iter().find(|record| record["id"] == row["of"]);
    let Some(of) = of else { return failed("there is no such record") };
    let mut bytes = Base::Base64Pad.decode(text(of, "record_base64")?).or_else(failed)?;
    let len = 10_240_usize.saturating_sub(bytes.len());
    // Field 100, wire type 2.
    bytes.extend([0xa2, 0x06, len as u8 | 0x80, (len >> 7) as u8]);
    bytes.resize(bytes.len() + len, 0);
    Ok(bytes)
}

/// A time of RFC 3339 in UTC as time since 1970.
fn time(text: &str) -> Result<Duration, Stop> {
    let time = humantime::parse_rfc3339(text).or_else(failed)?;
    time.duration_since(UNIX_EPOCH).or_else(failed)
}
