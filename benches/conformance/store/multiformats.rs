//! Multihashes, and texts in each multibase.

use std::{fs, path::Path};

use lightstreams_store::{HashFunction, multibase};

use crate::report::{Outcome, Report, Stop, ensure, failed};

pub(crate) fn run(root: &Path, report: &mut Report) {
    let folder = root.join("multiformats");
    let table = fs::read_to_string(folder.join("multihash_test_cases.csv")).unwrap_or_default();
    for (line, row) in table.lines().enumerate().skip(1) {
        report.case(format_args!("multihash line {}", line + 1), || multihash(row));
    }
    for path in report.files(&folder, "multibase", ".csv") {
        let table = fs::read_to_string(&path).unwrap_or_default();
        let mut lines = table.lines();
        let (kind, plain) = lines.next().and_then(pair).unwrap_or_default();
        let plain = unescape(&plain);
        for line in lines.filter(|line| !line.trim().is_empty()) {
            let (name, encoded) = pair(line).unwrap_or_default();
            let file = path.file_name().unwrap_or_default();
            report.case(format_args!("{} {name}", file.display()), || {
                let (base, decoded) = multibase::decode(&encoded).or_else(failed)?;
                ensure(decoded == plain, format_args!("{encoded} reads to {decoded:?}"))?;
                // Texts in another case than their base writes are only read.
                if kind.starts_with("non-canonical") {
                    return Ok(());
                }
                let written = multibase::encode(base, &plain);
                ensure(written == encoded, format_args!("written as {written}"))
            });
        }
    }
}

/// `algorithm,bits,input,multihash`: the input is the text as it stands, though it looks like hex; a digest may be cut to fewer bits than the function gives.
fn multihash(row: &str) -> Outcome {
    let fields: Vec<&str> = row.split(',').collect();
    let [_, bits, input, expected] = fields[..] else { return failed("not four fields") };
    let expected = hex::decode(expected).or_else(failed)?;
    let bits: usize = bits.parse().or_else(failed)?;
    // All codes of the table here are of one byte.
    let code = expected.first().copied().unwrap_or_default();
    let function = HashFunction::from_code(code.into());
    let function = function.ok_or(Stop::Failed(format!("unknown hash function 0x{code:x}")))?;
    let found = function.digest(input.as_bytes()).truncate((bits / 8) as u8).to_bytes();
    ensure(found == expected, format_args!("found {}", hex::encode(found)))
}

/// `name, "text"`.
fn pair(line: &str) -> Option<(String, String)> {
    let (name, text) = line.split_once(", ")?;
    Some((name.trim().to_owned(), text.trim().strip_prefix('"')?.strip_suffix('"')?.to_owned()))
}

/// Resolves `\\xNN`, the only escape of the lists.
fn unescape(text: &str) -> Vec<u8> {
    let mut parts = text.split("\\x");
    let mut out = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.split_at_checked(2).unwrap_or_default();
        out.extend(u8::from_str_radix(code, 16).ok());
        out.extend_from_slice(rest.as_bytes());
    }
    out
}
