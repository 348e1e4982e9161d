//! `genesis`: the blocks that genesis files stand for.

use std::path::Path;

use alloy_primitives::{B256, U256};
use lightstreams_chain::{Block, Genesis};
use serde_json::{Map, Value, json};

use super::fixture::{bytes, field};
use crate::report::{Outcome, Report, Stop, ensure, failed};

/// Runs the suite.
pub(crate) fn run(root: &Path, report: &mut Report) {
    for path in report.files(root, "ethereum-tests/genesis", ".json") {
        let file = report.json(&path);
        for (name, case) in file.as_object().into_iter().flatten() {
            report.case(name, || has_block(case));
        }
    }
    let folder = root.join("chain-import/hive-genesis");
    for path in report.files(root, "chain-import/hive-genesis", "expected.json") {
        let expected = report.json(&path);
        for (name, hash) in expected.as_object().into_iter().flatten() {
            report.case(name, || {
                let file = std::fs::read(folder.join(name)).or_else(failed)?;
                let genesis = Genesis::from_json(&file).or_else(failed)?;
                ensure(genesis.hash() == field::<B256>(hash)?, genesis.hash())
            });
        }
    }
    for path in report.files(root, "poa-clique", "-spec-openethereum.json") {
        let name =
            path.file_name().unwrap_or_default().to_string_lossy().replace("-spec-openethereum.json", "");
        let (spec, expected) =
            (report.json(&path), report.json(&root.join("poa-clique/expected-genesis.json")));
        report.case(&name, || {
            let genesis = of_openethereum(&spec)?;
            let (root, hash) = (genesis.header().state_root, genesis.hash());
            ensure(root == field::<B256>(&expected[&name]["stateRoot"])?, format_args!("state root {root}"))?;
            ensure(hash == field::<B256>(&expected[&name]["hash"])?, format_args!("hash {hash}"))
        });
    }
}

/// A file without a configuration has the block that it says.
fn has_block(case: &Value) -> Outcome {
    let mut file = case.clone();
    let Some(fields) = file.as_object_mut() else { return failed("no genesis") };
    let expected = fields.remove("result").unwrap_or_default();
    let expected = bytes(&Value::String(format!("0x{}", expected.as_str().unwrap_or_default())))?;
    fields.insert("config".into(), json!({ "chainId": 1 }));
    let genesis = Genesis::from_json(file.to_string().as_bytes()).or_else(failed)?;
    ensure(alloy_rlp::encode(Block::uncle(genesis.header())) == *expected, "another block")
}

/// The genesis of a specification in the form of OpenEthereum.
fn of_openethereum(spec: &Value) -> Result<Genesis, Stop> {
    let field = |name: &str| spec["genesis"][name].clone();
    let mut alloc = Map::new();
    for (address, account) in spec["accounts"].as_object().into_iter().flatten() {
        if account["balance"].is_string() {
            let balance: U256 = super::fixture::field(&account["balance"])?;
            alloc.insert(address.clone(), json!({ "balance": balance }));
        }
    }
    let file = json!({
        "config": { "chainId": 1, "homesteadBlock": 0, "clique": { "period": 15, "epoch": 30000 } },
        "alloc": alloc,
        "difficulty": field("difficulty"),
        "gasLimit": field("gasLimit"),
        "timestamp": field("timestamp"),
        "extraData": field("extraData"),
        "nonce": "0x0",
        "mixHash": B256::ZERO,
    });
    Genesis::from_json(file.to_string().as_bytes()).or_else(failed)
}
