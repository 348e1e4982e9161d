//! IPNS records of IPFS's own tests, and those that Kubo made and judged.

use std::{fs, path::Path, time::Duration};

use lightstreams_store::{IpnsError, IpnsName, IpnsRecord, multibase::Base};
use serde_json::Value;

use crate::report::{Outcome, Report, Stop, ensure, failed, list, number, text};

/// A time at which the records of IPFS's tests are valid: the year 2030.
const NOW: Duration = Duration::from_secs(1_893_456_000);

/// Records whose file names say whose they are and what is wrong with them.
pub(crate) fn run(root: &Path, report: &mut Report) {
    let mut folders = vec![root.join("ipfs-car-fixtures")];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Some(stem) = name.strip_suffix(".ipns-record") else { continue };
            report.case(&name, || {
                let (name, kind) = stem.split_once('_').unwrap_or((stem, ""));
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

/// `YYYY-MM-DDThh:mm:ss[.f…]Z` as time since 1970.
fn time(text: &str) -> Result<Duration, Stop> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let parts: Result<Vec<u64>, _> = whole.split(['-', 'T', ':']).map(str::parse).collect();
    let [year, month, day, hour, minute, second] = parts.or_else(failed)?[..] else {
        return failed("not a time");
    };
    // Days since 1970 of the civil calendar, its years counted from March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    let nanos = format!("{fraction:0<9}").parse().or_else(failed)?;
    Ok(Duration::new(((days * 24 + hour) * 60 + minute) * 60 + second, nanos))
}
