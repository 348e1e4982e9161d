//! `trie`: roots of Merkle-Patricia tries, by the code that keeps a state's.

use std::path::Path;

use alloy_primitives::{B256, keccak256};
use lightstreams_chain::testing::trie_root;
use serde_json::Value;

use super::fixture::{bytes, field};
use crate::report::{Outcome, Report, Stop, ensure, failed, list};

/// Runs the suite.
pub(crate) fn run(root: &Path, report: &mut Report) {
    for path in report.files(root, "ethereum-tests/trie", ".json") {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        // `secureTrie` or `securetrie`: keys are hashed, as they are in every state.
        let is_secure = name.to_lowercase().contains("secure");
        let file = report.json(&path);
        for (case, test) in file.as_object().into_iter().flatten() {
            report.case(format_args!("{name} {case}"), || check(test, is_secure));
        }
    }
}

fn check(test: &Value, is_secure: bool) -> Outcome {
    let steps: Vec<(Value, Value)> = match &test["in"] {
        Value::Object(map) => map.iter().map(|(key, value)| (key.as_str().into(), value.clone())).collect(),
        pairs => list(pairs).iter().map(|pair| (pair[0].clone(), pair[1].clone())).collect(),
    };
    if test["root"].is_null() {
        return Err(Stop::Skipped("an order of keys, which nothing here asks a trie for"));
    }
    let mut keyed = Vec::new();
    for (key, value) in &steps {
        let key = raw(key)?;
        let key = if is_secure { keccak256(key).to_vec() } else { key };
        let Ok(key) = B256::try_from(key.as_slice()) else {
            return Err(Stop::Skipped("keys of other lengths than 32 bytes, which no state has"));
        };
        keyed.push((key, if value.is_null() { None } else { Some(raw(value)?) }));
    }
    let root = trie_root(keyed).or_else(failed)?;
    ensure(root == field::<B256>(&test["root"])?, format_args!("the root is {root}"))
}

/// Text as it is, or the bytes that it says in hex.
fn raw(value: &Value) -> Result<Vec<u8>, Stop> {
    match value.as_str() {
        Some(text) if text.starts_with("0x") => Ok(bytes(value)?.to_vec()),
        other => Ok(other.unwrap_or_default().as_bytes().to_vec()),
    }
}
