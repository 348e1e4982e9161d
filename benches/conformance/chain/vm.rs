//! `vm`: single calls, from the time when tests had no transactions.

use std::path::Path;

use alloy_consensus::{Header, Signed, TxLegacy};
use alloy_primitives::{Address, B256, Log, Signature, TxKind, U256, keccak256};
use lightstreams_chain::{Genesis, Permits, Transaction, testing::TestState};
use serde_json::Value;

use super::{
    archive,
    fixture::{alloc, bytes, config, field, quantity},
};
use crate::report::{Outcome, Report, Stop, ensure, failed, list};

/// The fork by whose prices the tests were made.
const FORK: &str = "Frontier";
/// Gas of a transaction that carries nothing.
const TRANSACTION_GAS: u64 = 21_000;

/// Runs the suite.
pub(crate) fn run(root: &Path, report: &mut Report) {
    let files = archive::files(root, "ethereum-legacytests", "vm-tests", report);
    report.on_all_cores(files, |file, report| {
        for (name, test) in archive::cases(&file, report) {
            report.case(&name, || check(&serde_json::from_str(test.get()).or_else(failed)?));
        }
    });
}

fn check(test: &Value) -> Outcome {
    if !list(&test["callcreates"]).is_empty() {
        return Err(Stop::Skipped("calls and creations were only written down, not run"));
    }
    let exec = &test["exec"];
    let (address, caller): (Address, Address) = (field(&exec["address"])?, field(&exec["caller"])?);
    let (gas, value): (u64, U256) = (quantity(&exec["gas"])?, field(&exec["value"])?);
    let data = bytes(&exec["data"])?;
    let mut pre = alloc(&test["pre"])?;
    if caller == address || pre.get(&caller).is_some_and(|caller| caller.non_empty_code().is_some()) {
        return Err(Stop::Skipped("a contract calls, which no transaction can be from (EIP-3607)"));
    }
    // The call was given its value before it began, and the caller was no one: here both are made up for.
    let callee = pre.entry(address).or_default();
    callee.code = Some(bytes(&exec["code"])?);
    callee.balance = callee.balance.wrapping_sub(value);
    pre.entry(caller).or_default().balance = U256::MAX >> 2;
    let nonce = pre.get(&caller).and_then(|account| account.nonce).unwrap_or(0);
    let file = alloy_genesis::Genesis { alloc: pre, ..Default::default() };
    let state =
        TestState::new(&Genesis::new(file).or_else(failed)?, |number| Some(keccak256(number.to_string())));
    let state = state.or_else(failed)?;

    let intrinsic = intrinsic_gas(&data, 68);
    let transaction = unsigned(TxLegacy {
        chain_id: None,
        nonce,
        gas_price: field::<U256>(&exec["gasPrice"])?.saturating_to(),
        gas_limit: gas.saturating_add(intrinsic),
        to: TxKind::Call(address),
        value,
        input: data,
    });
    let env = &test["env"];
    let header = Header {
        beneficiary: field(&env["currentCoinbase"])?,
        difficulty: field(&env["currentDifficulty"])?,
        number: quantity(&env["currentNumber"])?,
        gas_limit: u64::MAX,
        timestamp: quantity(&env["currentTimestamp"])?,
        ..Header::default()
    };
    let config = config(FORK, 1, &Value::Null)?;
    let genesis = Genesis::new(alloy_genesis::Genesis { config, ..Default::default() }).or_else(failed)?;
    let run = [(transaction, caller)];
    let after =
        state.run(&genesis, Permits::default(), &header, U256::ZERO, &run, &[], &[]).or_else(failed)?;
    let ran = match after.results.first() {
        Some(Ok(ran)) => ran,
        other => return failed(format_args!("it does not begin: {other:?}")),
    };
    let left = gas.saturating_add(intrinsic).saturating_sub(ran.spent);
    if test["gas"].is_null() {
        return ensure(left == 0, format_args!("it does not fail, and leaves {left} gas"));
    }
    ensure(left == quantity(&test["gas"])?, format_args!("it leaves {left} gas"))?;
    ensure(ran.output == bytes(&test["out"])?, format_args!("it returns {}", ran.output))?;
    let logs: Vec<Log> = after.receipts.iter().flat_map(|receipt| receipt.logs()).cloned().collect();
    ensure(keccak256(alloy_rlp::encode(logs)) == field::<B256>(&test["logs"])?, "other logs")?;
    for (address, account) in alloc(&test["post"])? {
        for (slot, value) in account.storage_slots() {
            let found = after.storage(address, slot.into()).or_else(failed)?;
            ensure(found == value, format_args!("slot {slot} of {address} is {found}"))?;
        }
    }
    Ok(())
}

/// A transaction whose sender is said beside it.
pub(super) fn unsigned(transaction: TxLegacy) -> Transaction {
    let signature = Signature::new(U256::ONE, U256::ONE, false);
    Transaction::Legacy(Signed::new_unchecked(transaction, signature, B256::ZERO))
}

/// Gas of a transaction with `data`, of which a byte that is not zero costs `price`.
pub(super) fn intrinsic_gas(data: &[u8], price: u64) -> u64 {
    let zeros = data.iter().filter(|byte| **byte == 0).count() as u64;
    TRANSACTION_GAS + 4 * zeros + price * (data.len() as u64 - zeros)
}
