//! `transactions`: signed transactions, and at which forks they are valid.

use std::path::Path;

use alloy_consensus::{Header, Signed, Transaction as _, TxLegacy};
use alloy_primitives::{B256, U256};
use lightstreams_chain::{Genesis, Permits, Transaction, testing::TestState};
use serde_json::Value;

use super::{
    archive,
    fixture::{bytes, config, field, quantity},
    state::signed,
};
use crate::report::{Outcome, Report, ensure, failed};

/// Runs the suite: each fork of each test is a case.
pub(crate) fn run(root: &Path, report: &mut Report) {
    let files = archive::files(root, "ethereum-tests", "transaction-tests", report);
    report.on_all_cores(files, |file, report| {
        for (name, test) in archive::cases(&file, report) {
            let test: Value = serde_json::from_str(test.get()).unwrap_or_default();
            for (fork, expected) in test["result"].as_object().into_iter().flatten() {
                report.case(format_args!("{name} {fork}"), || check(&test, fork, expected));
            }
        }
    });
}

fn check(test: &Value, fork: &str, expected: &Value) -> Outcome {
    let config = config(fork, 1, &Value::Null)?;
    let genesis = Genesis::new(alloy_genesis::Genesis { config, ..Default::default() }).or_else(failed)?;
    let outcome = bytes(&test["txbytes"]).ok().and_then(|raw| signed(&raw, &genesis));
    let Some((transaction, sender)) = outcome else {
        return ensure(expected["exception"].is_string(), "it does not decode, or its signature is wrong");
    };
    // A sender who can pay and whose turn it is, and nothing else there: gas is spent on nothing but being a transaction.
    let account = alloy_genesis::GenesisAccount {
        nonce: Some(transaction.nonce()),
        balance: U256::MAX >> 1,
        ..Default::default()
    };
    let alloc = [(sender, account)].into();
    let state = Genesis::new(alloy_genesis::Genesis { alloc, ..Default::default() }).or_else(failed)?;
    let state = TestState::new(&state, |_| None).or_else(failed)?;
    let header = Header {
        number: 1,
        gas_limit: u64::MAX,
        base_fee_per_gas: genesis.file().config.london_block.map(|_| 0),
        excess_blob_gas: genesis.file().config.cancun_time.map(|_| 0),
        ..Header::default()
    };
    let permits = Permits { blobs: true, ..Permits::default() };
    let hash = *transaction.tx_hash();
    let transactions = [(without_value(transaction), sender)];
    let after = state.run(&genesis, permits, &header, U256::ZERO, &transactions, &[], &[]).or_else(failed)?;
    let [(transaction, _)] = &transactions;
    match (after.results.first(), expected["exception"].as_str()) {
        (Some(Ok(_)), Some(exception)) => failed(format_args!("it runs, against {exception}")),
        (Some(Err(reason)), None) => failed(format_args!("it is refused: {reason}")),
        (Some(Ok(ran)), None) => {
            ensure(hash == field::<B256>(&expected["hash"])?, format_args!("its hash is {hash}"))?;
            ensure(
                sender == field::<alloy_primitives::Address>(&expected["sender"])?,
                format_args!("{sender} sent it"),
            )?;
            let least = quantity(&expected["intrinsicGas"])?;
            // A creation runs code besides.
            let right = if transaction.kind().is_create() { ran.spent >= least } else { ran.spent == least };
            ensure(right, format_args!("{} gas, not {least}", ran.spent))
        }
        _ => Ok(()),
    }
}

/// The same transaction, in so far as it is valid whoever can pay for it: there is not so much ether as some send.
fn without_value(transaction: Transaction) -> Transaction {
    match transaction {
        Transaction::Legacy(signed) => {
            let (transaction, signature, hash) = signed.into_parts();
            let transaction = TxLegacy { value: U256::ZERO, ..transaction };
            Transaction::Legacy(Signed::new_unchecked(transaction, signature, hash))
        }
        other => other,
    }
}
