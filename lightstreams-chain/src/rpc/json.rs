//! Blocks, transactions, receipts and logs as go-ethereum writes them.

use alloy_consensus::{Eip658Value, Transaction as _, TxReceipt, Typed2718};
use alloy_primitives::{Address, B256, Log, U64, U128, U256};
use alloy_rlp::Encodable;
use serde_json::{Map, Value, json};

use crate::{Block, BlockRef, HeadInfo, LogEntry, MinedReceipt, MinedTransaction, Receipt, Transaction};

pub(super) fn quantity(number: u64) -> Value {
    json!(U64::from(number))
}

/// Where a transaction stands.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) block: BlockRef,
    pub(super) index: u64,
    pub(super) base_fee: Option<u64>,
    pub(super) timestamp: u64,
}

impl From<&MinedTransaction> for Place {
    fn from(mined: &MinedTransaction) -> Self {
        Self { block: mined.block, index: mined.index, base_fee: mined.base_fee, timestamp: mined.timestamp }
    }
}

/// A block with its transactions in full, if their `senders` are given, or as hashes.
pub(super) fn block(head: &HeadInfo, block: &Block, senders: Option<&[Address]>) -> Value {
    let mut fields = header(head);
    let transactions: Vec<Value> = match senders {
        Some(senders) => block
            .body
            .transactions
            .iter()
            .zip(senders)
            .zip(0..)
            .map(|((transaction, sender), index)| {
                let place = Place {
                    block: head.block_ref(),
                    index,
                    base_fee: head.header.base_fee_per_gas,
                    timestamp: head.header.timestamp,
                };
                self::transaction(transaction, *sender, Some(place))
            })
            .collect(),
        None => block.body.transactions.iter().map(|transaction| json!(transaction.tx_hash())).collect(),
    };
    fields.insert("transactions".into(), transactions.into());
    fields.insert("size".into(), quantity(u64::try_from(block.length()).unwrap_or(u64::MAX)));
    fields.insert("uncles".into(), json!([]));
    if block.header.withdrawals_root.is_some() {
        fields.insert("withdrawals".into(), json!([]));
    }
    fields.into()
}

fn header(head: &HeadInfo) -> Map<String, Value> {
    let mut fields = match json!(head.header) {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    fields.insert("hash".into(), json!(head.hash));
    fields.insert("totalDifficulty".into(), json!(head.total_difficulty));
    fields
}

/// A transaction, in a block or waiting for one.
pub(super) fn transaction(transaction: &Transaction, sender: Address, place: Option<Place>) -> Value {
    let mut fields = match json!(transaction) {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    fields.insert("from".into(), json!(sender));
    fields.insert("hash".into(), json!(transaction.tx_hash()));
    fields.insert("type".into(), quantity(transaction.ty().into()));
    let base_fee = place.and_then(|place| place.base_fee);
    let price = match base_fee {
        Some(_) => transaction.effective_gas_price(base_fee),
        None => transaction.max_fee_per_gas(),
    };
    fields.insert("gasPrice".into(), json!(U128::from(price)));
    fields.insert("blockHash".into(), json!(place.map(|place| place.block.hash)));
    fields.insert("blockNumber".into(), json!(place.map(|place| quantity(place.block.number))));
    fields.insert("transactionIndex".into(), json!(place.map(|place| quantity(place.index))));
    fields.insert("blockTimestamp".into(), json!(place.map(|place| quantity(place.timestamp))));
    // A creation has an address to go to: null.
    fields.entry("to").or_insert(Value::Null);
    fields.into()
}

pub(super) fn mined_transaction(mined: &MinedTransaction) -> Value {
    transaction(&mined.transaction, mined.sender, Some(mined.into()))
}

pub(super) fn mined_receipt(mined: &MinedReceipt) -> Value {
    let place = Place::from(&mined.transaction);
    let transaction = &mined.transaction.transaction;
    receipt(
        transaction,
        mined.transaction.sender,
        place,
        &mined.receipt,
        mined.gas_used,
        mined.first_log_index,
    )
}

/// A receipt; `gas_used` and `first_log` are what the receipts before it leave over.
pub(super) fn receipt(
    transaction: &Transaction,
    sender: Address,
    place: Place,
    receipt: &Receipt,
    gas_used: u64,
    first_log: u64,
) -> Value {
    let hash = *transaction.tx_hash();
    let logs: Vec<Value> = receipt
        .logs()
        .iter()
        .zip(first_log..)
        .map(|(entry, index)| {
            let entry = LogEntry {
                log: entry.clone(),
                block: place.block,
                timestamp: place.timestamp,
                transaction_hash: hash,
                transaction_index: place.index,
                log_index: index,
            };
            log(&entry, false)
        })
        .collect();
    let contract = transaction.is_create().then(|| sender.create(transaction.nonce()));
    let mut fields = json!({
        "type": quantity(transaction.ty().into()),
        "transactionHash": hash,
        "transactionIndex": quantity(place.index),
        "blockHash": place.block.hash,
        "blockNumber": quantity(place.block.number),
        "from": sender,
        "to": transaction.to(),
        "contractAddress": contract,
        "gasUsed": quantity(gas_used),
        "cumulativeGasUsed": quantity(receipt.cumulative_gas_used()),
        "effectiveGasPrice": U128::from(transaction.effective_gas_price(place.base_fee)),
        "logs": logs,
        "logsBloom": receipt.bloom(),
    });
    let (key, value) = match receipt.status_or_post_state() {
        Eip658Value::Eip658(success) => ("status", quantity(success.into())),
        Eip658Value::PostState(root) => ("root", json!(root)),
    };
    if let Some(fields) = fields.as_object_mut() {
        fields.insert(key.into(), value);
    }
    fields
}

pub(super) fn log(entry: &LogEntry, removed: bool) -> Value {
    let Log { address, data } = &entry.log;
    json!({
        "address": address,
        "topics": data.topics(),
        "data": data.data,
        "blockNumber": quantity(entry.block.number),
        "blockHash": entry.block.hash,
        "blockTimestamp": quantity(entry.timestamp),
        "transactionHash": entry.transaction_hash,
        "transactionIndex": quantity(entry.transaction_index),
        "logIndex": quantity(entry.log_index),
        "removed": removed,
    })
}

/// A 32-byte word, written in full.
pub(super) fn word(value: U256) -> Value {
    json!(B256::from(value))
}
