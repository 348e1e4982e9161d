//! The methods, by namespace.

use alloy_consensus::{TxEip1559, TxLegacy};
use alloy_primitives::{Address, B256, Bytes, TxKind, U64, U128, U256, keccak256};
use alloy_rlp::Decodable;
use jsonrpsee::types::ErrorObjectOwned;
use serde_json::{Value, json};

use super::{
    Answer, Api, Method,
    args::{Args, BlockArg, FilterArgs, TransactionArgs},
    error, fees, filters,
    json::{self as forms, Place, quantity},
};
use crate::{
    Block, BlockId, BlockRef, CallOutcome, Clique, EngineError, HeadInfo, Header, HeaderRules, Snapshot,
    StateView,
};

/// Methods of every module.
pub(super) const ALWAYS: &[(&str, Method)] = &[
    ("web3_clientVersion", |api, _| Ok(api.options.client_version.clone().into())),
    ("web3_sha3", |_, args| Ok(json!(keccak256(args.required::<Bytes>(0)?)))),
    ("net_version", |api, _| Ok(api.chain.chain_id().to_string().into())),
    ("net_listening", |_, _| Ok(true.into())),
    ("net_peerCount", |api, _| Ok(quantity(u64::try_from((api.options.peer_count)()).unwrap_or(u64::MAX)))),
    ("eth_chainId", |api, _| Ok(quantity(api.chain.chain_id()))),
    ("eth_syncing", syncing),
    ("eth_blockNumber", |api, _| Ok(quantity(api.chain.head().number()))),
    ("eth_accounts", |api, _| {
        Ok(api.options.dev_signers.iter().map(|signer| json!(signer.address())).collect())
    }),
    ("eth_gasPrice", |api, _| Ok(fees::price(fees::gas_price(api)?))),
    ("eth_maxPriorityFeePerGas", |api, _| Ok(fees::price(fees::tip(api)?))),
    ("eth_feeHistory", fees::history),
    ("eth_getBalance", |api, args| {
        Ok(json!(api.state(args.block(1)?)?.balance(args.required(0)?).map_err(error::state)?))
    }),
    ("eth_getTransactionCount", transaction_count),
    ("eth_getCode", |api, args| {
        Ok(json!(api.state(args.block(1)?)?.code(args.required(0)?).map_err(error::state)?))
    }),
    ("eth_getStorageAt", storage_at),
    ("eth_getProof", proof),
    ("eth_getBlockByNumber", block_by),
    ("eth_getBlockByHash", block_by_hash),
    ("eth_getBlockTransactionCountByNumber", transaction_count_of_block),
    ("eth_getBlockTransactionCountByHash", transaction_count_of_block),
    ("eth_getUncleCountByBlockNumber", uncle_count),
    ("eth_getUncleCountByBlockHash", uncle_count),
    ("eth_getUncleByBlockNumberAndIndex", |_, _| Ok(Value::Null)),
    ("eth_getUncleByBlockHashAndIndex", |_, _| Ok(Value::Null)),
    ("eth_getTransactionByHash", transaction_by_hash),
    ("eth_getTransactionByBlockNumberAndIndex", transaction_by_index),
    ("eth_getTransactionByBlockHashAndIndex", transaction_by_index),
    ("eth_getTransactionReceipt", receipt),
    ("eth_getBlockReceipts", block_receipts),
    ("eth_call", call),
    ("eth_estimateGas", estimate_gas),
    ("eth_sendRawTransaction", |api, args| {
        Ok(json!(api.chain.submit(&args.required::<Bytes>(0)?).map_err(error::submit)?))
    }),
    ("eth_getLogs", logs),
    ("eth_newFilter", new_filter),
    ("eth_newBlockFilter", |api, _| filters::add(api, None)),
    ("eth_getFilterChanges", |api, args| filters::changes(api, args.required::<U128>(0)?)),
    ("eth_getFilterLogs", |api, args| filters::logs(api, args.required::<U128>(0)?)),
    ("eth_uninstallFilter", |api, args| filters::remove(api, args.required::<U128>(0)?)),
    ("lightstreams_finalBlock", |api, _| Ok(block_ref(api.chain.final_block()))),
];

/// Methods under Clique.
pub(super) const CLIQUE: &[(&str, Method)] = &[
    ("clique_getSigners", |api, args| Ok(json!(snapshot(api, args)?.signers))),
    ("clique_getSignersAtHash", |api, args| Ok(json!(snapshot(api, args)?.signers))),
    ("clique_getSnapshot", |api, args| Ok(snapshot_form(&*snapshot(api, args)?))),
    ("clique_getSnapshotAtHash", |api, args| Ok(snapshot_form(&*snapshot(api, args)?))),
    ("clique_getSigner", sealer),
];

/// Methods that sign for the caller.
pub(super) const DEV: &[(&str, Method)] = &[("eth_sendTransaction", send_transaction)];

impl Api {
    pub(super) fn resolve(&self, block: BlockArg) -> Result<Option<BlockRef>, ErrorObjectOwned> {
        let Some(found) = self.chain.resolve(block.id).map_err(error::storage)? else { return Ok(None) };
        if block.canonical {
            let canonical = self.chain.resolve(BlockId::Number(found.number)).map_err(error::storage)?;
            if canonical != Some(found) {
                return Err(error::server("hash is not currently canonical"));
            }
        }
        Ok(Some(found))
    }

    fn state(&self, block: BlockArg) -> Result<StateView<'_>, ErrorObjectOwned> {
        self.resolve(block)?.ok_or_else(error::unknown_block)?;
        self.chain.state(block.id).map_err(error::state)
    }

    fn head_info(&self, block: BlockArg) -> Result<Option<HeadInfo>, ErrorObjectOwned> {
        match self.resolve(block)? {
            Some(found) => self.chain.header(found.into()).map_err(error::storage),
            None => Ok(None),
        }
    }

    fn block(&self, block: BlockArg) -> Result<Option<(HeadInfo, Block)>, ErrorObjectOwned> {
        let Some(head) = self.head_info(block)? else { return Ok(None) };
        let body = self.chain.block(head.hash.into()).map_err(error::storage)?;
        Ok(body.map(|body| (head, body)))
    }
}

fn block_ref(block: BlockRef) -> Value {
    json!({ "number": quantity(block.number), "hash": block.hash })
}

fn syncing(api: &Api, _: &Args) -> Answer {
    let current = api.chain.head().number();
    // A block or two behind is how a network looks from any place.
    match (api.options.highest_block)().filter(|highest| *highest > current.saturating_add(2)) {
        Some(highest) => Ok(json!({
            "startingBlock": "0x0",
            "currentBlock": quantity(current),
            "highestBlock": quantity(highest),
        })),
        None => Ok(false.into()),
    }
}

fn transaction_count(api: &Api, args: &Args) -> Answer {
    let (account, block): (Address, _) = (args.required(0)?, args.block(1)?);
    let nonce = if block.pending {
        api.chain.next_nonce(account).map_err(error::storage)?
    } else {
        api.state(block)?.nonce(account).map_err(error::state)?
    };
    Ok(quantity(nonce))
}

fn storage_at(api: &Api, args: &Args) -> Answer {
    let (account, slot) = (args.required(0)?, args.required::<U256>(1)?);
    let value = api.state(args.block(2)?)?.storage(account, slot).map_err(error::state)?;
    Ok(forms::word(value))
}

fn proof(api: &Api, args: &Args) -> Answer {
    let (account, keys) = (args.required(0)?, args.required::<Vec<String>>(1)?);
    let slots = keys.iter().map(|key| slot(key)).collect::<Result<Vec<_>, _>>()?;
    let proof = api.state(args.block(2)?)?.proof(account, &slots).map_err(error::state)?;
    let mut form = json!(proof);
    // A slot is called back what the caller called it: by all 32 bytes, or by its number.
    let named = form.get_mut("storageProof").and_then(Value::as_array_mut).into_iter().flatten();
    for ((entry, key), slot) in named.zip(&keys).zip(slots) {
        if let (Some(fields), true) = (entry.as_object_mut(), digits(key).len() == 64) {
            fields.insert("key".into(), forms::word(slot));
        }
    }
    Ok(form)
}

/// A slot: up to 32 bytes in hex, short ones filled up with zeros in front.
fn slot(key: &str) -> Result<U256, ErrorObjectOwned> {
    let digits = digits(key);
    if digits.len() > 64 {
        return Err(error::invalid(
            "unable to decode storage key: hex string too long, want at most 32 bytes",
        ));
    }
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(error::invalid("unable to decode storage key: hex string invalid"));
    }
    Ok(U256::from_str_radix(digits, 16).unwrap_or_default())
}

fn digits(key: &str) -> &str {
    key.strip_prefix("0x").or_else(|| key.strip_prefix("0X")).unwrap_or(key)
}

fn block_by(api: &Api, args: &Args) -> Answer {
    let (arg, full): (BlockArg, _) = (args.required(0)?, args.optional::<bool>(1)?.unwrap_or_default());
    if arg.pending {
        return Ok(pending_block(api, full));
    }
    let Some((head, block)) = api.block(arg)? else { return Ok(Value::Null) };
    let senders = match full {
        true => Some(api.chain.senders(head.hash.into()).map_err(error::storage)?.unwrap_or_default()),
        false => None,
    };
    Ok(forms::block(&head, &block, senders.as_deref()))
}

fn block_by_hash(api: &Api, args: &Args) -> Answer {
    args.required::<B256>(0)?;
    block_by(api, args)
}

/// The block that might come next: what waits in the pool, under a header without what only a sealed one has.
fn pending_block(api: &Api, full: bool) -> Value {
    let parent = api.chain.head();
    let mut header = Header {
        parent_hash: parent.hash,
        number: parent.number().saturating_add(1),
        base_fee_per_gas: api.chain.next_base_fee(),
        gas_used: 0,
        ..parent.header.clone()
    };
    header.logs_bloom = Default::default();
    let total_difficulty = parent.total_difficulty.saturating_add(header.difficulty);
    let pool = api.chain.pool_content();
    let waiting = pool.iter().filter(|pooled| matches!(pooled.status, crate::PoolStatus::Pending));
    let (transactions, senders): (Vec<_>, Vec<_>) =
        waiting.map(|pooled| (pooled.transaction.clone(), pooled.sender)).unzip();
    let mut block = Block::uncle(header.clone());
    block.body.transactions = transactions;
    let head = HeadInfo { header, hash: B256::ZERO, total_difficulty };
    let mut form = forms::block(&head, &block, full.then_some(senders.as_slice()));
    if let Some(fields) = form.as_object_mut() {
        for field in ["hash", "nonce", "miner"] {
            fields.insert(field.to_owned(), Value::Null);
        }
        let transactions = fields.get_mut("transactions").and_then(Value::as_array_mut).into_iter().flatten();
        for transaction in transactions.filter_map(Value::as_object_mut) {
            for field in ["blockHash", "blockNumber", "transactionIndex", "blockTimestamp"] {
                transaction.insert(field.to_owned(), Value::Null);
            }
        }
    }
    form
}

fn transaction_count_of_block(api: &Api, args: &Args) -> Answer {
    let block = api.block(args.required(0)?)?;
    Ok(block.map_or(Value::Null, |(_, block)| {
        quantity(u64::try_from(block.body.transactions.len()).unwrap_or(u64::MAX))
    }))
}

fn uncle_count(api: &Api, args: &Args) -> Answer {
    let found = api.resolve(args.required(0)?)?;
    Ok(found.map_or(Value::Null, |_| quantity(0)))
}

fn transaction_by_hash(api: &Api, args: &Args) -> Answer {
    let hash: B256 = args.required(0)?;
    if let Some(mined) = api.chain.transaction(&hash).map_err(error::storage)? {
        return Ok(forms::mined_transaction(&mined));
    }
    let pooled = api.chain.pooled(&hash);
    Ok(pooled.map_or(Value::Null, |pooled| forms::transaction(&pooled.transaction, pooled.sender, None)))
}

fn transaction_by_index(api: &Api, args: &Args) -> Answer {
    let index: U64 = args.required(1)?;
    let Some((head, block)) = api.block(args.required(0)?)? else { return Ok(Value::Null) };
    let senders = api.chain.senders(head.hash.into()).map_err(error::storage)?.unwrap_or_default();
    let index: u64 = index.to();
    let at = usize::try_from(index).unwrap_or(usize::MAX);
    let (Some(transaction), Some(sender)) = (block.body.transactions.get(at), senders.get(at)) else {
        return Ok(Value::Null);
    };
    Ok(forms::transaction(transaction, *sender, Some(place(&head, index))))
}

fn place(head: &HeadInfo, index: u64) -> Place {
    Place {
        block: head.block_ref(),
        index,
        base_fee: head.header.base_fee_per_gas,
        timestamp: head.header.timestamp,
    }
}

fn receipt(api: &Api, args: &Args) -> Answer {
    let mined = api.chain.receipt(&args.required(0)?).map_err(error::storage)?;
    Ok(mined.map_or(Value::Null, |mined| forms::mined_receipt(&mined)))
}

fn block_receipts(api: &Api, args: &Args) -> Answer {
    let Some((head, block)) = api.block(args.required(0)?)? else { return Ok(Value::Null) };
    let senders = api.chain.senders(head.hash.into()).map_err(error::storage)?.unwrap_or_default();
    let Some(receipts) = api.chain.receipts(head.hash.into()).map_err(error::storage)? else {
        return Ok(Value::Null);
    };
    let (mut gas_before, mut logs_before) = (0_u64, 0_u64);
    let mut answer = Vec::new();
    for (((transaction, sender), receipt), index) in
        block.body.transactions.iter().zip(senders).zip(&receipts).zip(0..)
    {
        let gas_used = receipt.cumulative_gas_used().saturating_sub(gas_before);
        answer.push(forms::receipt(transaction, sender, place(&head, index), receipt, gas_used, logs_before));
        gas_before = receipt.cumulative_gas_used();
        logs_before = logs_before.saturating_add(u64::try_from(receipt.logs().len()).unwrap_or(u64::MAX));
    }
    Ok(answer.into())
}

/// The state and the message of a call.
fn prepared(api: &Api, args: &Args) -> Result<(BlockId, crate::CallRequest), ErrorObjectOwned> {
    let transaction: TransactionArgs = args.required(0)?;
    transaction.check(api.chain.chain_id())?;
    if args.optional::<Value>(2)?.is_some_and(|overrides| overrides != json!({})) {
        return Err(error::invalid("state overrides are not supported"));
    }
    let block = args.block(1)?;
    let head = api.head_info(block)?.ok_or_else(error::unknown_block)?;
    Ok((head.hash.into(), transaction.request(head.header.base_fee_per_gas)?))
}

fn call(api: &Api, args: &Args) -> Answer {
    let (block, request) = prepared(api, args)?;
    match api.chain.call(block, &request).map_err(error::call)? {
        CallOutcome::Success { output, .. } => Ok(json!(output)),
        other => Err(error::failed(&other)),
    }
}

fn estimate_gas(api: &Api, args: &Args) -> Answer {
    let (block, request) = prepared(api, args)?;
    Ok(quantity(api.chain.estimate_gas(block, &request).map_err(error::call)?))
}

fn logs(api: &Api, args: &Args) -> Answer {
    let Some(filter) = args.required::<FilterArgs>(0)?.filter(&api.chain)? else { return Ok(json!([])) };
    let logs = api.chain.logs(&filter).map_err(error::logs)?;
    Ok(logs.iter().map(|entry| forms::log(entry, false)).collect())
}

fn new_filter(api: &Api, args: &Args) -> Answer {
    let given: FilterArgs = args.required(0)?;
    let (from, to) = (given.from_block, given.to_block);
    let mut filter =
        FilterArgs { from_block: None, to_block: None, ..given }.filter(&api.chain)?.unwrap_or_default();
    // A filter speaks of blocks to come: its bounds may lie above the head.
    filter.from = from.map_or(BlockId::Latest, |from| from.id);
    filter.to = to.map_or(BlockId::Latest, |to| to.id);
    filters::add(api, Some(filter))
}

fn send_transaction(api: &Api, args: &Args) -> Answer {
    let given: TransactionArgs = args.required(0)?;
    let chain_id = api.chain.chain_id();
    given.check(chain_id)?;
    let from = given.from.ok_or_else(|| error::invalid("missing field: from"))?;
    let signer = api.options.dev_signers.iter().find(|signer| signer.address() == from);
    let signer = signer.ok_or_else(|| error::server("unknown account"))?;
    let nonce = match given.nonce {
        Some(nonce) => nonce.to(),
        None => api.chain.next_nonce(from).map_err(error::storage)?,
    };
    let gas_limit = match given.gas {
        Some(gas) => gas.to(),
        None => {
            let mut request = given.request(api.chain.next_base_fee())?;
            // What it costs is checked when it is submitted.
            request.gas_price = None;
            request.nonce = None;
            api.chain.estimate_gas(BlockId::Latest, &request).map_err(error::call)?
        }
    };
    let narrow = |value: U256| u128::try_from(value).map_err(|_| error::invalid("fee higher than 2^128"));
    let to = given.to.map_or(TxKind::Create, TxKind::Call);
    let (value, input) = (given.value.unwrap_or_default(), given.data());
    let access_list = given.access_list.clone().unwrap_or_default();
    let signed = match given.gas_price {
        Some(price) => {
            let gas_price = narrow(price)?;
            signer.sign_raw_transaction(TxLegacy {
                chain_id: Some(chain_id),
                nonce,
                gas_price,
                gas_limit,
                to,
                value,
                input,
            })
        }
        None => {
            let max_priority_fee_per_gas = match given.max_priority_fee_per_gas {
                Some(tip) => narrow(tip)?,
                None => fees::tip(api)?.min(narrow(given.max_fee_per_gas.unwrap_or(U256::from(u128::MAX)))?),
            };
            let max_fee_per_gas = match given.max_fee_per_gas {
                Some(cap) => narrow(cap)?,
                None => fees::fee_cap(api, max_priority_fee_per_gas),
            };
            signer.sign_raw_transaction(TxEip1559 {
                chain_id,
                nonce,
                gas_limit,
                max_fee_per_gas,
                max_priority_fee_per_gas,
                to,
                value,
                access_list,
                input,
            })
        }
    };
    let raw = signed.map_err(|reason| error::server(reason.to_string()))?;
    Ok(json!(api.chain.submit(&raw).map_err(error::submit)?))
}

fn rules(api: &Api) -> Result<&Clique, ErrorObjectOwned> {
    api.options.clique.as_deref().ok_or_else(|| error::server("this chain is not under Clique"))
}

fn snapshot(api: &Api, args: &Args) -> Result<std::sync::Arc<Snapshot>, ErrorObjectOwned> {
    let head = api.head_info(args.block(0)?)?.ok_or_else(|| error::server("unknown block"))?;
    rules(api)?.snapshot(&head, &*api.chain).map_err(error::engine)
}

/// go-ethereum writes the signers as keys of empty objects, and absent votes as an empty list.
fn snapshot_form(snapshot: &Snapshot) -> Value {
    let signers: serde_json::Map<String, Value> = snapshot
        .signers
        .iter()
        .map(|signer| (format!("0x{}", alloy_primitives::hex::encode(signer)), json!({})))
        .collect();
    let mut form = json!(snapshot);
    if let Some(fields) = form.as_object_mut() {
        fields.insert("signers".into(), signers.into());
    }
    form
}

/// Who sealed a block, named by number or hash, or given as its RLP.
fn sealer(api: &Api, args: &Args) -> Answer {
    let rules = rules(api)?;
    let author = |header: &Header| -> Result<Address, EngineError> { rules.author(header) };
    if let Ok(Some(arg)) = args.optional::<BlockArg>(0) {
        let head = api.head_info(arg)?.ok_or_else(|| error::server("missing block"))?;
        return Ok(json!(author(&head.header).map_err(error::engine)?));
    }
    let raw: Bytes = args.required(0)?;
    let header = Block::decode(&mut raw.as_ref())
        .map(|block| block.header)
        .or_else(|_| Header::decode(&mut raw.as_ref()))
        .map_err(|reason| error::invalid(format!("invalid argument 0: {reason}")))?;
    Ok(json!(author(&header).map_err(error::engine)?))
}
