//! `opcodes`: instructions with two operands, and precompiled contracts.

use std::path::Path;

use alloy_consensus::{Header, TxLegacy};
use alloy_primitives::{Address, Bytes, TxKind, U256};
use lightstreams_chain::{
    Genesis, Permits,
    testing::{Ran, TestState},
};
use serde_json::Value;

use super::{
    archive,
    fixture::{config, optional_quantity},
    vm::{intrinsic_gas, unsigned},
};
use crate::report::{Outcome, Report, Stop, bytes, ensure, failed, list};

/// Instructions by the names of their files.
const INSTRUCTIONS: [(&str, u8); 21] = [
    ("add", 0x01),
    ("mul", 0x02),
    ("sub", 0x03),
    ("div", 0x04),
    ("sdiv", 0x05),
    ("mod", 0x06),
    ("smod", 0x07),
    ("exp", 0x0a),
    ("signext", 0x0b),
    ("lt", 0x10),
    ("gt", 0x11),
    ("slt", 0x12),
    ("sgt", 0x13),
    ("eq", 0x14),
    ("and", 0x16),
    ("or", 0x17),
    ("xor", 0x18),
    ("byte", 0x1a),
    ("shl", 0x1b),
    ("shr", 0x1c),
    ("sar", 0x1d),
];

/// Precompiled contracts by the names of their files: address, and the fork whose prices the file has.
const PRECOMPILES: [(&str, u64, &str); 20] = [
    ("ecRecover", 0x01, "Osaka"),
    ("modexp", 0x05, "Byzantium"),
    ("modexp_eip2565", 0x05, "Prague"),
    ("modexp_eip7883", 0x05, "Osaka"),
    ("bn256Add", 0x06, "Osaka"),
    ("bn256ScalarMul", 0x07, "Osaka"),
    ("bn256Pairing", 0x08, "Osaka"),
    ("blake2F", 0x09, "Osaka"),
    ("blake2f", 0x09, "Osaka"),
    ("pointEvaluation", 0x0a, "Osaka"),
    ("blsG1Add", 0x0b, "Osaka"),
    // A product is a sum of one.
    ("blsG1Mul", 0x0c, "Osaka"),
    ("blsG1MultiExp", 0x0c, "Osaka"),
    ("blsG2Add", 0x0d, "Osaka"),
    ("blsG2Mul", 0x0e, "Osaka"),
    ("blsG2MultiExp", 0x0e, "Osaka"),
    ("blsPairing", 0x0f, "Osaka"),
    ("blsMapG1", 0x10, "Osaka"),
    ("blsMapG2", 0x11, "Osaka"),
    ("p256Verify", 0x100, "Osaka"),
];

/// Gas of a transaction at most, from Osaka on.
const GAS: u64 = 1 << 24;
/// Price of a byte of data that is not zero, until Istanbul and since.
const BYTE_GAS: [u64; 2] = [68, 16];

/// Runs the suite.
pub(crate) fn run(root: &Path, report: &mut Report) {
    let files = archive::files(root, "go-ethereum", "vm-opcodes-precompiles", report);
    report.on_all_cores(files, |file, report| {
        let cases: Value = serde_json::from_slice(&file.bytes).unwrap_or_default();
        let stem = file.name.rsplit('/').next().unwrap_or_default().trim_end_matches(".json");
        for (index, case) in list(&cases).iter().enumerate() {
            let name = case["Name"].as_str().map_or_else(|| index.to_string(), Into::into);
            report.case(format_args!("{stem} {name}"), || match stem.strip_prefix("testcases_") {
                Some(op) => instruction(op, case),
                None => precompile(stem.trim_start_matches("fail-"), case),
            });
        }
    });
}

fn instruction(name: &str, case: &Value) -> Outcome {
    let op = INSTRUCTIONS.iter().find(|(known, _)| *known == name);
    let Some((_, op)) = op else { return Err(Stop::Skipped("an instruction of a name that we do not know")) };
    // PUSH1 32 CALLDATALOAD PUSH1 0 CALLDATALOAD op PUSH1 0 MSTORE PUSH1 32 PUSH1 0 RETURN
    let code = [0x60, 0x20, 0x35, 0x60, 0x00, 0x35, *op, 0x60, 0x00, 0x52, 0x60, 0x20, 0x60, 0x00, 0xf3];
    // The second operand of the files is on top of the stack.
    let data = [bytes(case, "Y")?, bytes(case, "X")?].concat();
    let (_, ran) = call("Osaka", Address::repeat_byte(0xc0), &code, data.into())?;
    ensure(*ran.output == bytes(case, "Expected")?[..], format_args!("{}", ran.output))
}

fn precompile(name: &str, case: &Value) -> Outcome {
    let known = PRECOMPILES.iter().find(|(known, ..)| *known == name);
    let Some((_, address, fork)) = known else {
        return Err(Stop::Skipped("a precompiled contract of a name that we do not know"));
    };
    let data = bytes(case, "Input")?;
    let intrinsic = intrinsic_gas(&data, BYTE_GAS[usize::from(*fork != "Byzantium")]);
    let (succeeds, ran) = call(fork, Address::left_padding_from(&address.to_be_bytes()), &[], data.into())?;
    if case["ExpectedError"].is_string() {
        return ensure(!succeeds, format_args!("it answers {}", ran.output));
    }
    ensure(succeeds, "it fails")?;
    ensure(*ran.output == bytes(case, "Expected")?[..], format_args!("{}", ran.output))?;
    let gas = ran.spent - intrinsic;
    let expected = optional_quantity(&case["Gas"])?.unwrap_or(gas);
    ensure(gas == expected, format_args!("it costs {gas}, not {expected}"))
}

/// Calls `to`, where `code` stands, and says whether that succeeds.
fn call(fork: &str, to: Address, code: &[u8], input: Bytes) -> Result<(bool, Ran), Stop> {
    let caller = Address::repeat_byte(0xca);
    let mut file = alloy_genesis::Genesis { config: config(fork, 1, &Value::Null)?, ..Default::default() };
    file.alloc.entry(caller).or_default().balance = U256::MAX >> 1;
    if !code.is_empty() {
        file.alloc.entry(to).or_default().code = Some(Bytes::copy_from_slice(code));
    }
    let genesis = Genesis::new(file).or_else(failed)?;
    let state = TestState::new(&genesis, |_| None).or_else(failed)?;
    let london = genesis.file().config.london_block;
    let header = Header {
        number: 1,
        gas_limit: GAS,
        base_fee_per_gas: london.map(|_| 0),
        excess_blob_gas: london.map(|_| 0),
        ..Header::default()
    };
    let transaction = TxLegacy { gas_limit: GAS, to: TxKind::Call(to), input, ..TxLegacy::default() };
    let run = [(unsigned(transaction), caller)];
    let after =
        state.run(&genesis, Permits::default(), &header, U256::ZERO, &run, &[], &[]).or_else(failed)?;
    match (after.results.into_iter().next(), after.receipts.first()) {
        (Some(Ok(ran)), Some(receipt)) => Ok((receipt.status(), ran)),
        (other, _) => failed(format_args!("the call does not begin: {other:?}")),
    }
}
