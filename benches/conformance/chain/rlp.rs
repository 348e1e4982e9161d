//! `rlp`: the encoding beneath everything, and the strictness of its reader.

use std::path::Path;

use alloy_primitives::{Bytes, U512};
use alloy_rlp::{BufMut, Decodable, Encodable, Header};
use serde_json::Value;

use super::fixture::bytes;
use crate::report::{Outcome, Report, Stop, ensure, failed, list};

/// Runs the suite.
pub(crate) fn run(root: &Path, report: &mut Report) {
    for path in report.files(root, "ethereum-tests/rlp", ".json") {
        let file = report.json(&path);
        for (name, case) in file.as_object().into_iter().flatten() {
            report.case(name, || check(case));
        }
    }
}

fn check(case: &Value) -> Outcome {
    let out = bytes(&case["out"])?;
    let read = Item::read_all(&out);
    match case["in"].as_str() {
        Some("INVALID") => ensure(read.is_none(), "it is read"),
        Some("VALID") => ensure(read.is_some(), "it is not read"),
        _ => {
            let item = Item::of(&case["in"])?;
            ensure(alloy_rlp::encode(&item) == *out, "it is encoded otherwise")?;
            ensure(read.as_ref() == Some(&item), "it is read otherwise")
        }
    }
}

/// What RLP can say.
#[derive(Debug, PartialEq, Eq)]
enum Item {
    Text(Bytes),
    List(Vec<Item>),
}

impl Item {
    fn of(value: &Value) -> Result<Self, Stop> {
        let number = |digits: &str| {
            let number: U512 = digits.parse().or_else(failed)?;
            Ok(Self::Text(number.to_be_bytes_trimmed_vec().into()))
        };
        match value {
            Value::Array(_) => list(value).iter().map(Self::of).collect::<Result<_, _>>().map(Self::List),
            Value::String(text) => match text.strip_prefix('#') {
                Some(digits) => number(digits),
                None => Ok(Self::Text(text.clone().into_bytes().into())),
            },
            other => number(&other.to_string()),
        }
    }

    /// The one item that `bytes` are.
    fn read_all(mut bytes: &[u8]) -> Option<Self> {
        let item = Self::decode(&mut bytes).ok()?;
        bytes.is_empty().then_some(item)
    }
}

impl Decodable for Item {
    fn decode(buf: &mut &[u8]) -> alloy_rlp::Result<Self> {
        let mut ahead = *buf;
        if !Header::decode(&mut ahead)?.list {
            return Bytes::decode(buf).map(Self::Text);
        }
        Vec::decode(buf).map(Self::List)
    }
}

impl Encodable for Item {
    fn encode(&self, out: &mut dyn BufMut) {
        match self {
            Self::Text(text) => text.encode(out),
            Self::List(items) => items.encode(out),
        }
    }
}
