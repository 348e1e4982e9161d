//! `evm-state`: single transactions on given states, at every fork.

use std::path::Path;

use alloy_consensus::{Header, transaction::SignerRecoverable};
use alloy_eips::eip2718::Decodable2718;
use alloy_primitives::{Address, B256, Log, U256, keccak256};
use lightstreams_chain::{Genesis, Permits, Transaction, testing::TestState};
use serde_json::{Value, value::RawValue};

use super::{
    archive::{self, Packed},
    fixture::{alloc, bytes, config, field, optional, optional_quantity, quantity},
};
use crate::report::{Outcome, Report, Stop, ensure, failed, list};

/// Archives of state tests: folder, part of their names.
const ARCHIVES: [(&str, &str); 3] = [
    ("execution-spec-tests", "state-tests"),
    ("ethereum-tests", "state-tests"),
    ("ethereum-legacytests", "state-tests"),
];

/// Why tests of Prague are skipped that the tool before the one of today made.
const DRAFT: &str = "filled when Prague was a draft: EIP-2537 had other addresses and prices";

/// Runs the suite.
pub(crate) fn run(root: &Path, report: &mut Report) {
    for (folder, part) in ARCHIVES {
        let files = archive::files(root, folder, part, report);
        report.on_all_cores(files, |file, report| run_file(folder, &file, report));
    }
}

fn run_file(folder: &str, file: &Packed, report: &mut Report) {
    for (name, test) in archive::cases(file, report) {
        let name = format!("{folder}/{}/{name}", file.name);
        if report.chooses(&name) {
            run_test(&name, test, report);
        }
    }
}

/// Runs each result of a test as a case of its own.
fn run_test(name: &str, test: &RawValue, report: &mut Report) {
    let test: Value = serde_json::from_str(test.get()).unwrap_or_default();
    let state = || {
        let file = alloy_genesis::Genesis { alloc: alloc(&test["pre"])?, ..Default::default() };
        TestState::new(&Genesis::new(file).or_else(failed)?, hash_of).or_else(failed)
    };
    let state = match state() {
        Ok(state) => state,
        Err(stop) => return report.case(name, || Err(stop)),
    };
    let filler = test["_info"]["filling-tool-version"].as_str().unwrap_or_default();
    for (fork, results) in test["post"].as_object().into_iter().flatten() {
        let genesis = || {
            let chain_id = optional_quantity(&test["config"]["chainid"])?.unwrap_or(1);
            let config = config(fork, chain_id, &test["config"]["blobSchedule"])?;
            Genesis::new(alloy_genesis::Genesis { config, ..Default::default() }).or_else(failed)
        };
        let genesis = match genesis() {
            Ok(genesis) => genesis,
            Err(stop) => {
                report.case(format_args!("{name} {fork}"), || Err(stop));
                continue;
            }
        };
        let is_draft = filler.starts_with("retesteth") && genesis.file().config.prague_time.is_some();
        for (index, result) in list(results).iter().enumerate() {
            report.case(format_args!("{name} {fork} {index}"), || match is_draft {
                true => Err(Stop::Skipped(DRAFT)),
                false => check(&test, &state, &genesis, result),
            });
        }
    }
}

/// What the hashes of blocks are in state tests.
fn hash_of(number: u64) -> Option<B256> {
    Some(keccak256(number.to_string()))
}

fn check(test: &Value, state: &TestState, genesis: &Genesis, result: &Value) -> Outcome {
    let header = header(&test["env"], genesis)?;
    let permits = Permits { blobs: true, ..Permits::default() };
    let transaction = signed(&bytes(&result["txbytes"])?, genesis);
    // A reward of nothing touches the sealer, as the tests want it; those that give the state in full want it only with a
    // transaction.
    let expected = result["expectException"].as_str();
    let touched = expected.is_none() || result["state"].is_null();
    let rewards = touched.then_some((header.beneficiary, U256::ZERO));
    let after = state
        .run(genesis, permits, &header, U256::ZERO, transaction.as_slice(), &[], rewards.as_slice())
        .or_else(failed)?;
    let refused = transaction.is_none() || after.results.iter().any(Result::is_err);
    match (expected, after.results.first()) {
        (Some(_), _) => ensure(refused, format_args!("it runs, against {expected:?}"))?,
        (None, Some(Ok(_))) => {}
        (None, Some(Err(reason))) => return failed(format_args!("it is refused: {reason}")),
        (None, None) => return failed("the transaction does not decode, or its signature is wrong"),
    }
    let logs: Vec<&Log> = after.receipts.iter().flat_map(|receipt| receipt.logs()).collect();
    let logs = keccak256(alloy_rlp::encode(logs.into_iter().cloned().collect::<Vec<Log>>()));
    let (root, expected): (B256, B256) = (after.state_root, field(&result["hash"])?);
    ensure(root == expected, format_args!("the state root is {root}, not {expected}"))?;
    ensure(logs == field::<B256>(&result["logs"])?, "other logs")
}

/// The transaction with its sender, if it can have one under the forks of `genesis`.
pub(super) fn signed(raw: &[u8], genesis: &Genesis) -> Option<(Transaction, Address)> {
    let mut rest = raw;
    let transaction = Transaction::decode_2718(&mut rest).ok().filter(|_| rest.is_empty())?;
    let sender = match genesis.file().config.homestead_block {
        Some(0) => transaction.recover_signer(),
        _ => transaction.recover_signer_unchecked(),
    };
    Some((transaction, sender.ok()?))
}

fn header(env: &Value, genesis: &Genesis) -> Result<Header, Stop> {
    let config = &genesis.file().config;
    Ok(Header {
        parent_hash: optional(&env["previousHash"])?.unwrap_or_default(),
        beneficiary: field(&env["currentCoinbase"])?,
        difficulty: field(&env["currentDifficulty"])?,
        mix_hash: optional::<U256>(&env["currentRandom"])?.unwrap_or_default().into(),
        number: quantity(&env["currentNumber"])?,
        // More than a block can have is as good as all that it can have.
        gas_limit: field::<U256>(&env["currentGasLimit"])?.saturating_to(),
        timestamp: quantity(&env["currentTimestamp"])?,
        base_fee_per_gas: match config.london_block {
            Some(_) => Some(optional_quantity(&env["currentBaseFee"])?.unwrap_or(10)),
            None => None,
        },
        excess_blob_gas: match config.cancun_time {
            Some(_) => Some(optional_quantity(&env["currentExcessBlobGas"])?.unwrap_or(0)),
            None => None,
        },
        ..Header::default()
    })
}
