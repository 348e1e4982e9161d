//! `t8n`: what go-ethereum's tools make of states, transactions and headers.

use std::path::Path;

use alloy_consensus::{EMPTY_OMMER_ROOT_HASH, EMPTY_ROOT_HASH, Header, TxEip7702, TxLegacy, proofs};
use alloy_eips::{
    eip1559::BaseFeeParams,
    eip2718::Encodable2718,
    eip4895::{Withdrawal, Withdrawals},
    eip7840::BlobParams,
};
use alloy_primitives::{
    Address, B64, B256, Bloom, Bytes, Log, Signature, TxKind, U256, keccak256, logs_bloom,
};
use alloy_rlp::Decodable;
use lightstreams_chain::{
    Block, Clique, CliqueConfig, Genesis, HeaderRules, LocalSigner, Permits, Signer, Slot, Transaction,
    decode_block,
    testing::{Ethash, TestState},
};
use serde_json::Value;

use super::{
    fixture::{Alloc, alloc, bytes, config, field, optional, optional_quantity, quantity, root_of},
    state::signed,
};
use crate::report::{Outcome, Report, Stop, ensure, failed, list, text};

/// The tool's exit codes for a bad configuration, an unknown block hash, and input that is not what it should be.
const BAD_CONFIG: u64 = 3;
const NO_HASH: u64 = 4;
const BAD_INPUT: u64 = 11;

/// Runs the suite.
pub(crate) fn run(root: &Path, report: &mut Report) {
    let folder = root.join("go-ethereum/evm-t8n");
    for path in report.files(root, "go-ethereum/evm-t8n", "index.json") {
        for row in list(&report.json(&path)) {
            let dir = folder.join(row["dir"].as_str().unwrap_or_default());
            let name = format!("{} {} {} {}", row["tool"], row["dir"], row["about"], row["fork"]);
            report.case(name.replace('"', ""), || match row["tool"].as_str() {
                Some("t8n") => transition(&dir, row),
                Some("t9n") => transactions(&dir, row),
                Some("b11r") => block(&dir, row),
                _ => Err(Stop::Skipped("a tool that we do not know")),
            });
        }
    }
}

fn read(dir: &Path, name: &Value) -> Result<Value, Stop> {
    let Some(name) = name.as_str() else { return Ok(Value::Null) };
    serde_json::from_slice(&std::fs::read(dir.join(name)).or_else(failed)?).or_else(failed)
}

/// Applies transactions to a state.
fn transition(dir: &Path, row: &Value) -> Outcome {
    let exit = quantity(&row["exit_code"])?;
    let (env, expected) = (read(dir, &row["env"])?, read(dir, &row["expected"])?);
    let header = genesis(row).and_then(|genesis| Ok((header(&env, &genesis)?, genesis)));
    let (header, genesis) = match header {
        Ok(header) => header,
        Err(_) if exit == BAD_CONFIG => return Ok(()),
        Err(stop) => return Err(stop),
    };
    ensure(exit != BAD_CONFIG, "the configuration is taken")?;
    let mut hashes = std::collections::HashMap::<u64, B256>::new();
    for (number, hash) in env["blockHashes"].as_object().into_iter().flatten() {
        hashes.insert(quantity(&number.as_str().into())?, field(hash)?);
    }
    let file = alloy_genesis::Genesis { alloc: accounts(&read(dir, &row["alloc"])?)?, ..Default::default() };
    let state =
        TestState::new(&Genesis::new(file).or_else(failed)?, move |number| hashes.get(&number).copied());
    let state = state.or_else(failed)?;

    // What does not decode, or has a wrong signature, is rejected as what cannot run is.
    let given = given(&read(dir, &row["txs"])?)?;
    let readable: Vec<_> = given.iter().map(|raw| signed(raw, &genesis)).collect();
    let transactions: Vec<_> = readable.iter().flatten().cloned().collect();
    let withdrawals: Vec<Withdrawal> = optional(&env["withdrawals"])?.unwrap_or_default();
    let permits = Permits { blobs: true, beacon_root: true, ..Permits::default() };
    let after =
        state.run(&genesis, permits, &header, U256::ZERO, &transactions, &withdrawals, &rewards(row, &env)?);
    if exit == NO_HASH {
        return ensure(after.is_err(), "no block hash is missed");
    }
    let after = after.or_else(failed)?;
    let mut results = after.results.iter();
    let ran: Vec<bool> = readable
        .iter()
        .map(|readable| readable.is_some() && results.next().is_some_and(Result::is_ok))
        .collect();
    let included: Vec<Transaction> = transactions
        .into_iter()
        .zip(&after.results)
        .filter_map(|((transaction, _), result)| result.is_ok().then_some(transaction))
        .collect();
    let rejected: Vec<u64> = (0..).zip(&ran).filter_map(|(index, ran)| (!ran).then_some(index)).collect();
    let told = list(&expected["result"]["rejected"]).iter().map(|case| quantity(&case["index"]));
    let told: Vec<u64> = told.collect::<Result<_, _>>()?;
    ensure(rejected == told, format_args!("rejected are {rejected:?}"))?;

    let result = &expected["result"];
    let same = |name: &str, found: B256| -> Outcome {
        match optional::<B256>(&result[name])? {
            Some(expected) => ensure(found == expected, format_args!("{name} is {found}")),
            None => Ok(()),
        }
    };
    let logs: Vec<Log> = after.receipts.iter().flat_map(|receipt| receipt.logs()).cloned().collect();
    same("stateRoot", after.state_root)?;
    same("txRoot", proofs::calculate_transaction_root(&included))?;
    same("receiptsRoot", proofs::calculate_receipt_root(&after.receipts))?;
    same("withdrawalsRoot", proofs::calculate_withdrawals_root(&withdrawals))?;
    same("requestsHash", after.requests.requests_hash())?;
    let bloom = optional::<Bloom>(&result["logsBloom"])?;
    ensure(bloom.is_none_or(|bloom| logs_bloom(&logs) == bloom), "another bloom")?;
    same("logsHash", keccak256(alloy_rlp::encode(&logs)))?;
    let same = |name: &str, found: Option<u64>| -> Outcome {
        let expected = optional_quantity(&result[name])?;
        ensure(expected.is_none() || found == expected, format_args!("{name} is {found:?}"))
    };
    same("gasUsed", Some(after.gas_used))?;
    same("blobGasUsed", Some(after.blob_gas_used))?;
    same("currentExcessBlobGas", header.excess_blob_gas)?;
    if genesis.file().config.london_block.is_some() {
        same("currentBaseFee", header.base_fee_per_gas)?;
    }
    let difficulty = optional::<U256>(&result["currentDifficulty"])?;
    ensure(
        difficulty.is_none_or(|difficulty| difficulty == header.difficulty),
        format_args!("the difficulty is {}", header.difficulty),
    )?;
    for (receipt, expected) in after.receipts.iter().zip(list(&result["receipts"])) {
        let gas = receipt.cumulative_gas_used();
        ensure(gas == quantity(&expected["cumulativeGasUsed"])?, format_args!("cumulative gas {gas}"))?;
    }
    if expected["alloc"].is_null() {
        return Ok(());
    }
    ensure(root_of(accounts(&expected["alloc"])?)? == after.state_root, "the accounts are others")
}

/// Accounts as the tool takes and gives them: with remarks, and without balances of nothing.
fn accounts(accounts: &Value) -> Result<Alloc, Stop> {
    let mut accounts = accounts.clone();
    for account in accounts.as_object_mut().into_iter().flat_map(|accounts| accounts.values_mut()) {
        if let Some(account) = account.as_object_mut() {
            account.retain(|field, _| !field.starts_with('_'));
            account.entry("balance").or_insert_with(|| "0x0".into());
        }
    }
    alloc(&accounts)
}

fn genesis(row: &Value) -> Result<Genesis, Stop> {
    let config = config(text(row, "fork")?, 1, &Value::Null)?;
    Genesis::new(alloy_genesis::Genesis { config, ..Default::default() }).or_else(failed)
}

/// The header of the block: what is said of it, and what follows from what is said of its parent.
fn header(env: &Value, genesis: &Genesis) -> Result<Header, Stop> {
    let config = &genesis.file().config;
    let parent = Header {
        ommers_hash: optional(&env["parentUncleHash"])?.unwrap_or(EMPTY_OMMER_ROOT_HASH),
        difficulty: optional(&env["parentDifficulty"])?.unwrap_or_default(),
        timestamp: optional_quantity(&env["parentTimestamp"])?.unwrap_or_default(),
        gas_used: optional_quantity(&env["parentGasUsed"])?.unwrap_or_default(),
        gas_limit: optional_quantity(&env["parentGasLimit"])?.unwrap_or_default(),
        base_fee_per_gas: optional_quantity(&env["parentBaseFee"])?,
        ..Header::default()
    };
    let (number, timestamp) = (quantity(&env["currentNumber"])?, quantity(&env["currentTimestamp"])?);
    let random = optional::<U256>(&env["currentRandom"])?;
    let merged = config.terminal_total_difficulty.is_some();
    if merged && random.is_none() {
        return failed("no randomness, after the merge");
    }
    let difficulty = match optional(&env["currentDifficulty"])? {
        Some(difficulty) => difficulty,
        None if merged => U256::ZERO,
        None => Ethash::for_genesis(genesis).difficulty(number, timestamp, &parent),
    };
    let base_fee = match optional_quantity(&env["currentBaseFee"])? {
        Some(fee) => Some(fee),
        None => parent.next_block_base_fee(BaseFeeParams::ethereum()),
    };
    let excess = match optional_quantity(&env["currentExcessBlobGas"])? {
        Some(excess) => excess,
        None => BlobParams::cancun().next_block_excess_blob_gas_osaka(
            optional_quantity(&env["parentExcessBlobGas"])?.unwrap_or_default(),
            optional_quantity(&env["parentBlobGasUsed"])?.unwrap_or_default(),
            0,
        ),
    };
    Ok(Header {
        beneficiary: field(&env["currentCoinbase"])?,
        difficulty,
        number,
        gas_limit: quantity(&env["currentGasLimit"])?,
        timestamp,
        mix_hash: random.unwrap_or_default().into(),
        base_fee_per_gas: base_fee.filter(|_| config.london_block.is_some()),
        excess_blob_gas: config.cancun_time.map(|_| excess),
        parent_beacon_block_root: optional(&env["parentBeaconBlockRoot"])?,
        ..Header::default()
    })
}

/// What the row wants paid: nothing touches the sealer, too.
fn rewards(row: &Value, env: &Value) -> Result<Vec<(Address, U256)>, Stop> {
    let reward = optional::<U256>(&row["reward"])?.unwrap_or_default();
    let ommers = list(&env["ommers"]);
    let mut rewards = Vec::new();
    for ommer in ommers {
        let eighths = U256::from(8 - quantity(&ommer["delta"])?);
        rewards.push((field(&ommer["address"])?, reward * eighths / U256::from(8)));
    }
    let own = reward + reward / U256::from(32) * U256::from(ommers.len());
    rewards.push((field(&env["currentCoinbase"])?, own));
    Ok(rewards)
}

/// The transactions of a file, each in the bytes that are signed and sent.
fn given(txs: &Value) -> Result<Vec<Bytes>, Stop> {
    match txs.as_str() {
        Some(_) => elements(&bytes(txs)?),
        None => list(txs).iter().map(of_json).collect(),
    }
}

/// The transactions of a list in RLP: legacy ones are lists, others are in byte strings.
fn elements(list: &[u8]) -> Result<Vec<Bytes>, Stop> {
    let mut rest = list;
    let payload = alloy_rlp::Header::decode_bytes(&mut rest, true).or_else(failed)?;
    ensure(rest.is_empty(), "more than a list")?;
    let mut rest = payload;
    let mut elements = Vec::new();
    while !rest.is_empty() {
        let mut after = rest;
        let header = alloy_rlp::Header::decode(&mut after).or_else(failed)?;
        let length = rest.len() - after.len();
        let Some((element, tail)) = rest.split_at_checked(length + header.payload_length) else {
            return failed("an element is cut off");
        };
        elements.push(Bytes::copy_from_slice(if header.list { element } else { &element[length..] }));
        rest = tail;
    }
    Ok(elements)
}

/// A transaction with its signature, or with the key to sign it.
fn of_json(tx: &Value) -> Result<Bytes, Stop> {
    let key = optional::<B256>(&tx["secretKey"])?;
    let to = optional::<Address>(&tx["to"])?;
    let (nonce, gas_limit) = (quantity(&tx["nonce"])?, quantity(&tx["gas"])?);
    let (value, input) = (field(&tx["value"])?, bytes(&tx["input"])?);
    let signer = key.map(|key| LocalSigner::from_bytes(&key.0)).transpose().or_else(failed)?;
    if optional_quantity(&tx["type"])? == Some(4) {
        let transaction = TxEip7702 {
            chain_id: quantity(&tx["chainId"])?,
            nonce,
            gas_limit,
            max_fee_per_gas: quantity(&tx["maxFeePerGas"])?.into(),
            max_priority_fee_per_gas: quantity(&tx["maxPriorityFeePerGas"])?.into(),
            to: to.unwrap_or_default(),
            value,
            access_list: field(&tx["accessList"])?,
            authorization_list: field(&tx["authorizationList"])?,
            input,
        };
        let signer = signer.ok_or(Stop::Skipped("a signed transaction of a form that we do not read"))?;
        return signer.sign_raw_transaction(transaction).or_else(failed);
    }
    let transaction = TxLegacy {
        chain_id: signer.as_ref().map(|_| 1),
        nonce,
        gas_price: quantity(&tx["gasPrice"])?.into(),
        gas_limit,
        to: to.map_or(TxKind::Create, TxKind::Call),
        value,
        input,
    };
    if let Some(signer) = signer {
        return signer.sign_raw_transaction(transaction).or_else(failed);
    }
    let parity = match quantity(&tx["v"])? {
        27 => false,
        28 => true,
        _ => return Err(Stop::Skipped("a signed transaction of a form that we do not read")),
    };
    let signature = Signature::new(field(&tx["r"])?, field(&tx["s"])?, parity);
    let signed = alloy_consensus::Signed::new_unhashed(transaction, signature);
    Ok(Transaction::Legacy(signed).encoded_2718().into())
}

/// Decodes transactions and checks them as far as they go alone.
fn transactions(dir: &Path, row: &Value) -> Outcome {
    let (txs, expected) = (read(dir, &row["txs"])?, read(dir, &row["expected"])?);
    let given = given(&txs);
    if quantity(&row["exit_code"])? == BAD_INPUT {
        return ensure(given.is_err(), "it is a list of transactions");
    }
    let (genesis, given) = (genesis(row)?, given?);
    ensure(given.len() == list(&expected).len(), format_args!("{} transactions", given.len()))?;
    for (index, (raw, expected)) in given.iter().zip(list(&expected)).enumerate() {
        let found = signed(raw, &genesis);
        ensure(
            found.is_none() == expected["error"].is_string(),
            format_args!("transaction {index}: {found:?}"),
        )?;
        if let Some((transaction, sender)) = found {
            ensure(sender == field::<Address>(&expected["address"])?, format_args!("{sender} sent {index}"))?;
            ensure(
                *transaction.tx_hash() == field::<B256>(&expected["hash"])?,
                format_args!("hash of {index}"),
            )?;
        }
    }
    Ok(())
}

/// Puts a block together, and seals it where a key is given.
pub(super) fn block(dir: &Path, row: &Value) -> Outcome {
    let (told, expected) = (read(dir, &row["header"])?, read(dir, &row["expected"])?);
    let mut transactions = Vec::new();
    for raw in match read(dir, &row["txs"])?.as_str() {
        Some(text) => elements(&alloy_primitives::hex::decode(text).or_else(failed)?)?,
        None => Vec::new(),
    } {
        transactions.push(alloy_eips::eip2718::Decodable2718::decode_2718(&mut &raw[..]).or_else(failed)?);
    }
    let mut ommers = Vec::new();
    for ommer in list(&read(dir, &row["ommers"])?) {
        ommers.push(decode_block(&bytes(ommer)?).or_else(failed)?.header);
    }
    let withdrawals: Option<Vec<Withdrawal>> = optional(&read(dir, &row["withdrawals"])?)?;
    let header = Header {
        parent_hash: field(&told["parentHash"])?,
        ommers_hash: proofs::calculate_ommers_root(&ommers),
        beneficiary: optional(&told["miner"])?.unwrap_or_default(),
        state_root: field(&told["stateRoot"])?,
        // The tool puts a header around a body without a look at it.
        transactions_root: optional(&told["transactionsRoot"])?.unwrap_or(EMPTY_ROOT_HASH),
        receipts_root: optional(&told["receiptsRoot"])?.unwrap_or(EMPTY_ROOT_HASH),
        logs_bloom: optional(&told["logsBloom"])?.unwrap_or_default(),
        difficulty: field(&told["difficulty"])?,
        number: quantity(&told["number"])?,
        gas_limit: quantity(&told["gasLimit"])?,
        gas_used: quantity(&told["gasUsed"])?,
        timestamp: quantity(&told["timestamp"])?,
        extra_data: optional(&told["extraData"])?.unwrap_or_default(),
        mix_hash: optional(&told["mixHash"])?.unwrap_or_default(),
        nonce: optional(&told["nonce"])?.unwrap_or_default(),
        // A later field wants the earlier ones to be there.
        base_fee_per_gas: optional_quantity(&told["baseFeePerGas"])?
            .or(if told["withdrawalsRoot"].is_null() { None } else { Some(0) }),
        withdrawals_root: optional(&told["withdrawalsRoot"])?,
        ..Header::default()
    };
    let mut block = Block::uncle(header);
    block.body.transactions = transactions;
    block.body.ommers = ommers;
    block.body.withdrawals = withdrawals.map(Withdrawals::new);
    let clique = read(dir, &row["clique"])?;
    if !clique.is_null() {
        seal(&mut block.header, &clique)?;
    }
    let rlp = bytes(&expected["rlp"])?;
    ensure(alloy_rlp::encode(&block) == *rlp, "another encoding")?;
    ensure(block.header.hash_slow() == field::<B256>(&expected["hash"])?, "another hash")?;
    ensure(Block::decode(&mut &rlp[..]).or_else(failed)? == block, "it is read otherwise")
}

fn seal(header: &mut Header, clique: &Value) -> Outcome {
    let rules = Clique::new(CliqueConfig { epoch: 0, block_period_ms: 0 });
    header.beneficiary = field(&clique["voted"])?;
    // The tool takes its switch the other way round than EIP-225 takes the nonce.
    header.nonce = if clique["authorize"] == false { B64::repeat_byte(0xff) } else { B64::ZERO };
    header.extra_data = [&field::<B256>(&clique["vanity"])?[..], &[0; 65]].concat().into();
    let signer = LocalSigner::from_bytes(&field::<B256>(&clique["secretKey"])?.0).or_else(failed)?;
    let slot = Slot::Clique { number: header.number, parent: header.parent_hash };
    let seal = signer.sign(&slot, rules.seal_hash(header)).or_else(failed)?;
    Clique::write_seal(header, &seal);
    Ok(())
}
