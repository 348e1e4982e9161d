//! JSON-RPC answers as go-ethereum does, and a library that knows nothing of us works against it.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use alloy_consensus::{TxEip1559, TxLegacy};
use alloy_primitives::{Address, Bytes, TxKind, U256, address, bytes, hex};
use jsonrpsee::RpcModule;
use lightstreams_chain::{
    Chain, DEV_ACCOUNTS, Genesis, HeaderRules, LocalSigner, MemoryKv, proof, rpc, testing::Ethash,
};
use serde_json::{Value, json};

use crate::{
    headers::vectors,
    network::{Driver, Node, genesis},
};

const TO: Address = address!("0x00000000000000000000000000000000000000b0");

struct Server {
    node: Node,
    module: RpcModule<()>,
}

impl Server {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut rpc::Options)) -> Self {
        let node = Node::new(&genesis(161, 1));
        let mut options = rpc::Options { clique: Some(node.rules.clone()), ..rpc::Options::default() };
        change(&mut options);
        let module = rpc::module(node.chain.clone(), options).unwrap();
        Self { node, module }
    }

    /// The whole response to a call.
    fn response(&self, method: &str, params: Value) -> Value {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let (response, _) = runtime.block_on(self.module.raw_json_request(&request, 1)).unwrap();
        serde_json::from_str(response.get()).unwrap()
    }

    #[track_caller]
    fn call(&self, method: &str, params: Value) -> Value {
        let mut response = self.response(method, params);
        assert!(response.get("error").is_none(), "{method}: {response}");
        response["result"].take()
    }

    #[track_caller]
    fn error(&self, method: &str, params: Value) -> (i64, String, Value) {
        let mut response = self.response(method, params);
        let error = response["error"].take();
        let code = error["code"].as_i64().unwrap_or_else(|| panic!("{method} gave no error: {response}"));
        (code, error["message"].as_str().unwrap().to_owned(), error["data"].clone())
    }

    /// Sends a transaction of dev account `from`; gives its hash.
    fn send(&self, from: usize, to: TxKind, input: Bytes) -> String {
        let account = DEV_ACCOUNTS[from];
        let nonce = self.node.chain.next_nonce(account.address).unwrap();
        let tx = TxEip1559 {
            chain_id: 161,
            nonce,
            gas_limit: 500_000,
            max_fee_per_gas: 5_000_000_000,
            max_priority_fee_per_gas: 1_000_000_000,
            to,
            value: U256::from(7 * u64::from(input.is_empty())),
            input,
            ..TxEip1559::default()
        };
        let raw = account.signer().unwrap().sign_raw_transaction(tx).unwrap();
        self.call("eth_sendRawTransaction", json!([raw])).as_str().unwrap().to_owned()
    }

    /// A contract with this code, deployed and sealed.
    fn deploy(&self, runtime: &[u8]) -> String {
        let size = u8::try_from(runtime.len()).unwrap();
        // CODECOPY of what follows, RETURN of it.
        let init = [&[0x60, size, 0x60, 10, 0x5f, 0x39, 0x60, size, 0x5f, 0xf3], runtime].concat();
        let hash = self.send(9, TxKind::Create, init.into());
        self.node.seal();
        let receipt = self.call("eth_getTransactionReceipt", json!([hash]));
        assert_eq!(receipt["status"], "0x1", "{receipt}");
        receipt["contractAddress"].as_str().unwrap().to_owned()
    }
}

/// LOG1 of an empty text under topic 7.
fn logging() -> Bytes {
    bytes!("60075f5fa100")
}

#[test]
fn a_node_says_who_and_where_it_is() {
    let server = Server::with(|options| options.peer_count = Arc::new(|| 3));
    server.node.seal();
    let version = server.call("web3_clientVersion", json!([]));
    assert!(version.as_str().unwrap().starts_with("lightstreams/v"));
    let empty_hash = "0xc5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470";
    for (method, params, expected) in [
        ("web3_sha3", json!(["0x"]), json!(empty_hash)),
        ("net_version", json!([]), json!("161")),
        ("net_listening", json!([]), json!(true)),
        ("net_peerCount", json!([]), json!("0x3")),
        ("eth_chainId", json!([]), json!("0xa1")),
        ("eth_blockNumber", json!([]), json!("0x1")),
        ("eth_syncing", json!([]), json!(false)),
        ("eth_accounts", json!([]), json!([])),
    ] {
        assert_eq!(server.call(method, params), expected, "{method}");
    }
    let behind = Server::with(|options| options.highest_block = Arc::new(|| Some(0x100)));
    assert_eq!(behind.call("eth_syncing", json!([]))["highestBlock"], "0x100");
}

#[test]
fn accounts_are_read_at_any_block() {
    let server = Server::new();
    server.send(0, TxKind::Call(TO), Bytes::new());
    let sender = DEV_ACCOUNTS[0].address;
    assert_eq!(server.call("eth_getTransactionCount", json!([sender, "latest"])), "0x0");
    assert_eq!(server.call("eth_getTransactionCount", json!([sender, "pending"])), "0x1");
    let block = server.node.seal();
    let hash = block.header.hash_slow();
    for (at, balance) in [
        (json!("latest"), "0x7"),
        (json!("0x1"), "0x7"),
        (json!("safe"), "0x7"),
        (json!("finalized"), "0x7"),
        (json!("pending"), "0x7"),
        (json!("earliest"), "0x0"),
        (json!({ "blockNumber": "0x0" }), "0x0"),
        (json!({ "blockHash": hash, "requireCanonical": true }), "0x7"),
        (json!(hash), "0x7"),
    ] {
        assert_eq!(server.call("eth_getBalance", json!([TO, at])), balance, "{at}");
    }
    assert_eq!(server.call("eth_getBalance", json!([TO])), "0x7");
    assert_eq!(server.call("eth_getTransactionCount", json!([sender])), "0x1");
    assert_eq!(server.call("eth_getCode", json!([TO, "latest"])), "0x");
    // SSTORE(1, 42) when called.
    let contract = server.deploy(&bytes!("602a60015500"));
    assert_eq!(server.call("eth_getCode", json!([contract, "latest"])), "0x602a60015500");
    server.send(1, TxKind::Call(contract.parse().unwrap()), bytes!("00"));
    server.node.seal();
    let expected = format!("0x{:064x}", 42);
    assert_eq!(server.call("eth_getStorageAt", json!([contract, "0x1", "latest"])), expected);
    assert_eq!(
        server.call("eth_getStorageAt", json!([contract, format!("0x{:064x}", 1), "latest"])),
        expected
    );
    assert_eq!(server.call("eth_getStorageAt", json!([contract, "0x2", "latest"])), format!("0x{:064x}", 0));
}

#[test]
fn what_is_not_there_is_null_or_header_not_found() {
    let server = Server::new();
    let hash = format!("0x{:064x}", 1);
    for (method, params) in [
        ("eth_getBlockByNumber", json!(["0x99", true])),
        ("eth_getBlockByHash", json!([hash, true])),
        ("eth_getBlockTransactionCountByNumber", json!(["0x99"])),
        ("eth_getBlockTransactionCountByHash", json!([hash])),
        ("eth_getTransactionByHash", json!([hash])),
        ("eth_getTransactionByBlockNumberAndIndex", json!(["0x0", "0x0"])),
        ("eth_getTransactionByBlockHashAndIndex", json!([hash, "0x0"])),
        ("eth_getTransactionReceipt", json!([hash])),
        ("eth_getBlockReceipts", json!([hash])),
        ("eth_getUncleCountByBlockHash", json!([hash])),
    ] {
        assert_eq!(server.call(method, params), Value::Null, "{method}");
    }
    for (method, params) in [
        ("eth_getBalance", json!([TO, "0x99"])),
        ("eth_getCode", json!([TO, hash])),
        ("eth_call", json!([{}, "0x99"])),
        ("eth_estimateGas", json!([{}, "0x99"])),
    ] {
        assert_eq!(
            server.error(method, params),
            (-32000, "header not found".into(), Value::Null),
            "{method}"
        );
    }
}

#[test]
fn bad_parameters_and_unknown_methods_are_refused() {
    let server = Server::new();
    for (method, params) in [
        ("eth_getBalance", json!([])),
        ("eth_getBalance", json!(["0x12", "latest"])),
        ("eth_getBalance", json!([TO, "lastest"])),
        ("eth_getBalance", json!([TO, "0x"])),
        ("eth_getBalance", json!([TO, "0x+1"])),
        ("eth_getBalance", json!([TO, "0x10000000000000000"])),
        ("eth_getBalance", json!([TO, {}])),
        ("eth_getBalance", json!([TO, { "blockNumber": "0x1", "blockHash": format!("0x{:064x}", 1) }])),
        ("eth_getBalance", json!({ "address": TO })),
        ("eth_getBlockByHash", json!(["latest", true])),
        ("eth_getBlockByNumber", json!(["latest", "yes"])),
        ("eth_sendRawTransaction", json!(["nonsense"])),
        ("eth_call", json!([{ "to": TO }, "latest", { TO.to_string(): { "balance": "0x1" } }])),
        ("eth_getLogs", json!([{ "fromBlock": "0x2", "toBlock": "0x1" }])),
        ("eth_getLogs", json!([{ "topics": [null, null, null, null, null] }])),
        ("eth_getLogs", json!([{ "address": vec![TO; 2_000] }])),
        ("eth_getLogs", json!([{ "blockHash": format!("0x{:064x}", 1), "fromBlock": "0x1" }])),
    ] {
        let (code, message, _) = server.error(method, params.clone());
        assert_eq!(code, -32602, "{method} {params}: {message}");
    }
    assert_eq!(server.error("eth_sendTransaction", json!([{}])).0, -32601);
    assert_eq!(server.error("personal_listAccounts", json!([])).0, -32601);
}

#[test]
fn a_block_has_the_fields_of_go_ethereum() {
    let server = Server::new();
    let hash = server.send(0, TxKind::Call(TO), Bytes::new());
    server.node.seal();
    let block = server.call("eth_getBlockByNumber", json!(["0x1", false]));
    let expected = [
        "baseFeePerGas",
        "blobGasUsed",
        "difficulty",
        "excessBlobGas",
        "extraData",
        "gasLimit",
        "gasUsed",
        "hash",
        "logsBloom",
        "miner",
        "mixHash",
        "nonce",
        "number",
        "parentBeaconBlockRoot",
        "parentHash",
        "receiptsRoot",
        "requestsHash",
        "sha3Uncles",
        "size",
        "stateRoot",
        "timestamp",
        "totalDifficulty",
        "transactions",
        "transactionsRoot",
        "uncles",
        "withdrawals",
        "withdrawalsRoot",
    ];
    assert_eq!(block.as_object().unwrap().keys().collect::<Vec<_>>(), expected);
    assert_eq!(block["transactions"], json!([hash]));
    assert_eq!(block["number"], "0x1");
    assert_eq!(block["difficulty"], "0x2");
    assert_eq!(block["nonce"], "0x0000000000000000");
    assert_eq!(server.call("eth_getBlockByHash", json!([block["hash"], false])), block);
    assert_eq!(server.call("eth_getBlockTransactionCountByNumber", json!(["0x1"])), "0x1");
    assert_eq!(server.call("eth_getUncleCountByBlockNumber", json!(["0x1"])), "0x0");

    let full = server.call("eth_getBlockByNumber", json!(["latest", true]));
    let transaction = &full["transactions"][0];
    let expected = [
        "accessList",
        "blockHash",
        "blockNumber",
        "blockTimestamp",
        "chainId",
        "from",
        "gas",
        "gasPrice",
        "hash",
        "input",
        "maxFeePerGas",
        "maxPriorityFeePerGas",
        "nonce",
        "r",
        "s",
        "to",
        "transactionIndex",
        "type",
        "v",
        "value",
        "yParity",
    ];
    assert_eq!(transaction.as_object().unwrap().keys().collect::<Vec<_>>(), expected);
    for (method, params) in [
        ("eth_getTransactionByHash", json!([hash])),
        ("eth_getTransactionByBlockNumberAndIndex", json!(["0x1", "0x0"])),
        ("eth_getTransactionByBlockHashAndIndex", json!([block["hash"], "0x0"])),
    ] {
        assert_eq!(&server.call(method, params), transaction, "{method}");
    }
    let genesis = server.call("eth_getBlockByNumber", json!(["earliest", true]));
    assert_eq!(genesis["transactions"], json!([]));
}

#[test]
fn a_pending_block_and_its_transactions_have_no_place_yet() {
    let server = Server::new();
    let hash = server.send(0, TxKind::Call(TO), Bytes::new());
    let transaction = server.call("eth_getTransactionByHash", json!([hash]));
    assert_eq!(transaction["blockHash"], Value::Null);
    assert_eq!(transaction["from"], json!(DEV_ACCOUNTS[0].address));
    assert_eq!(server.call("eth_getTransactionReceipt", json!([hash])), Value::Null);
    let pending = server.call("eth_getBlockByNumber", json!(["pending", true]));
    assert_eq!(pending["number"], "0x1");
    for field in ["hash", "nonce", "miner"] {
        assert_eq!(pending[field], Value::Null);
    }
    let listed = &pending["transactions"][0];
    assert_eq!(listed["hash"], transaction["hash"]);
    assert_eq!(listed["blockHash"], Value::Null);
}

#[test]
fn a_receipt_has_the_fields_of_go_ethereum() {
    let server = Server::new();
    let contract = server.deploy(&logging());
    let first = server.send(0, TxKind::Call(TO), Bytes::new());
    let second = server.send(1, TxKind::Call(contract.parse().unwrap()), bytes!("01"));
    let third = server.send(2, TxKind::Call(contract.parse().unwrap()), bytes!("02"));
    server.node.seal();
    let receipts = server.call("eth_getBlockReceipts", json!(["latest"]));
    let expected = [
        "blockHash",
        "blockNumber",
        "contractAddress",
        "cumulativeGasUsed",
        "effectiveGasPrice",
        "from",
        "gasUsed",
        "logs",
        "logsBloom",
        "status",
        "to",
        "transactionHash",
        "transactionIndex",
        "type",
    ];
    let mut cumulative = 0;
    let mut logs = 0;
    for (index, receipt) in receipts.as_array().unwrap().iter().enumerate() {
        assert_eq!(receipt.as_object().unwrap().keys().collect::<Vec<_>>(), expected);
        assert_eq!(server.call("eth_getTransactionReceipt", json!([receipt["transactionHash"]])), *receipt);
        assert_eq!(receipt["transactionIndex"], format!("0x{index:x}"));
        assert_eq!(receipt["type"], "0x2");
        cumulative += number(&receipt["gasUsed"]);
        assert_eq!(number(&receipt["cumulativeGasUsed"]), cumulative);
        for log in receipt["logs"].as_array().unwrap() {
            assert_eq!(number(&log["logIndex"]), logs);
            assert_eq!(log["transactionHash"], receipt["transactionHash"]);
            logs += 1;
        }
    }
    assert_eq!(logs, 2);
    let mut hashes: Vec<&str> = receipts
        .as_array()
        .unwrap()
        .iter()
        .map(|receipt| receipt["transactionHash"].as_str().unwrap())
        .collect();
    hashes.sort_unstable();
    let mut sent = [first.as_str(), second.as_str(), third.as_str()];
    sent.sort_unstable();
    assert_eq!(hashes, sent);
}

fn number(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap().strip_prefix("0x").unwrap(), 16).unwrap()
}

#[test]
fn a_call_that_reverts_is_error_3_with_its_data() {
    let server = Server::new();
    let message = {
        let mut data = hex::decode("08c379a0").unwrap();
        data.extend(U256::from(32).to_be_bytes::<32>());
        data.extend(U256::from(4).to_be_bytes::<32>());
        data.extend(b"no!!");
        data.extend([0; 28]);
        data
    };
    let panic = [&hex::decode("4e487b71").unwrap()[..], &U256::from(0x11).to_be_bytes::<32>()].concat();
    let strange = vec![0xde, 0xad];
    // An Error(string) whose length lies.
    let mut lying = message.clone();
    lying[4 + 32..4 + 64].fill(0xff);
    for (data, expected) in [
        (message, "execution reverted: no!!"),
        (panic, "execution reverted: arithmetic underflow or overflow"),
        (strange, "execution reverted"),
        (lying, "execution reverted"),
        (Vec::new(), "execution reverted"),
    ] {
        // CODECOPY(0, 10, size) REVERT(0, size) and the data.
        let size = u8::try_from(data.len()).unwrap();
        let runtime = [&[0x60, size, 0x60, 10, 0x5f, 0x39, 0x60, size, 0x5f, 0xfd], &data[..]].concat();
        let contract = server.deploy(&runtime);
        let error = (3, expected.to_owned(), json!(format!("0x{}", hex::encode(&data))));
        assert_eq!(server.error("eth_call", json!([{ "to": contract }, "latest"])), error);
        assert_eq!(server.error("eth_estimateGas", json!([{ "to": contract }])), error);
    }
    // INVALID uses up all gas and leaves no data.
    let contract = server.deploy(&[0xfe]);
    assert_eq!(server.error("eth_call", json!([{ "to": contract }])).0, -32000);
}

#[test]
fn a_call_returns_what_the_contract_says() {
    let server = Server::new();
    // Returns the caller.
    let contract = server.deploy(&bytes!("335f5260205ff3"));
    let from = DEV_ACCOUNTS[4].address;
    let result = server.call("eth_call", json!([{ "to": contract, "from": from }, "latest"]));
    assert_eq!(result, format!("0x{:0>64}", hex::encode(from)));
    let gas = server.call("eth_estimateGas", json!([{ "to": contract, "from": from }]));
    assert!((21_000..22_000).contains(&number(&gas)), "{gas}");
    assert_eq!(server.call("eth_estimateGas", json!([{ "to": TO, "from": from, "value": "0x1" }])), "0x5208");
    assert_eq!(server.call("eth_call", json!([{ "to": TO }, "latest", null])), "0x");
    for (call, expected) in [
        (json!({ "to": TO, "data": "0x01", "input": "0x02" }), "both \"data\" and \"input\" are set"),
        (json!({ "to": TO, "gasPrice": "0x1", "maxFeePerGas": "0x1" }), "both gasPrice and"),
        (json!({ "to": TO, "maxFeePerGas": "0x1", "maxPriorityFeePerGas": "0x2" }), "maxFeePerGas (1) <"),
        (json!({ "to": TO, "chainId": "0x1" }), "chainId does not match"),
    ] {
        let (code, message, _) = server.error("eth_call", json!([call]));
        assert!(code == -32000 && message.starts_with(expected), "{code} {message}");
    }
    let poor = json!([{ "to": TO, "from": TO, "value": "0x1" }]);
    let (code, message, _) = server.error("eth_call", poor);
    assert!(code == -32000 && message.contains("insufficient funds"), "{code} {message}");
}

#[test]
fn transactions_are_refused_in_words_that_libraries_know() {
    let server = Server::new();
    let signer = DEV_ACCOUNTS[0].signer().unwrap();
    let tx =
        TxLegacy { chain_id: Some(161), gas_limit: 21_000, gas_price: 2_000_000_000, ..TxLegacy::default() };
    let send = |tx: TxLegacy| {
        let tx = TxLegacy { to: TxKind::Call(TO), ..tx };
        let raw = signer.sign_raw_transaction(tx).unwrap();
        let (code, message, _) = server.error("eth_sendRawTransaction", json!([raw]));
        assert_eq!(code, -32000, "{message}");
        message
    };
    assert!(send(TxLegacy { value: U256::MAX, ..tx.clone() }).starts_with("insufficient funds"));
    assert!(send(TxLegacy { chain_id: Some(1), ..tx.clone() }).starts_with("invalid chain id"));
    assert!(send(TxLegacy { gas_limit: 20_000, ..tx.clone() }).starts_with("intrinsic gas too low"));
    let good = TxLegacy { to: TxKind::Call(TO), ..tx.clone() };
    server.call("eth_sendRawTransaction", json!([signer.sign_raw_transaction(good).unwrap()]));
    assert_eq!(send(tx.clone()), "already known");
    assert_eq!(send(TxLegacy { value: U256::from(1), ..tx.clone() }), "replacement transaction underpriced");
    server.node.seal();
    assert!(send(tx).starts_with("nonce too low"));
    assert_eq!(server.error("eth_sendRawTransaction", json!(["0x02c0"])).0, -32000);
    assert_eq!(server.error("eth_sendRawTransaction", json!(["0x"])).0, -32000);
}

#[test]
fn fees_are_suggested_and_told() {
    let server = Server::new();
    let fixed = server.call("eth_maxPriorityFeePerGas", json!([]));
    assert_eq!(fixed, "0x3b9aca00");
    for _ in 0..3 {
        server.send(0, TxKind::Call(TO), Bytes::new());
        server.node.seal();
    }
    let base = number(&server.call("eth_getBlockByNumber", json!(["latest", false]))["baseFeePerGas"]);
    assert_eq!(number(&server.call("eth_gasPrice", json!([]))), base + 1_000_000_000);
    let history = server.call("eth_feeHistory", json!(["0x2", "latest", [0, 50, 100]]));
    assert_eq!(history["oldestBlock"], "0x2");
    assert_eq!(history["baseFeePerGas"].as_array().unwrap().len(), 3);
    assert_eq!(history["gasUsedRatio"].as_array().unwrap().len(), 2);
    assert_eq!(history["reward"][0], json!(["0x3b9aca00", "0x3b9aca00", "0x3b9aca00"]));
    assert_eq!(number(&history["baseFeePerGas"][1]), base);
    let all = server.call("eth_feeHistory", json!([1_000, "latest", []]));
    assert_eq!(all["oldestBlock"], "0x0");
    assert!(all.get("reward").is_none());
    for params in
        [json!(["0x2", "latest", [50, 10]]), json!(["0x2", "latest", [101]]), json!(["0x2", "0x99", []])]
    {
        assert_eq!(server.error("eth_feeHistory", params).0, -32000);
    }
}

#[test]
fn logs_are_found_by_block_address_and_topic() {
    let server = Server::new();
    let contract = server.deploy(&logging());
    let hash = server.send(0, TxKind::Call(contract.parse().unwrap()), bytes!("01"));
    let block = server.node.seal();
    let topic = format!("0x{:064x}", 7);
    let other = format!("0x{:064x}", 8);
    let all = server.call("eth_getLogs", json!([{ "fromBlock": "0x0", "toBlock": "latest" }]));
    let expected = [
        "address",
        "blockHash",
        "blockNumber",
        "blockTimestamp",
        "data",
        "logIndex",
        "removed",
        "topics",
        "transactionHash",
        "transactionIndex",
    ];
    assert_eq!(all.as_array().unwrap().len(), 1);
    assert_eq!(all[0].as_object().unwrap().keys().collect::<Vec<_>>(), expected);
    assert_eq!(all[0]["transactionHash"], json!(hash));
    assert_eq!(all[0]["removed"], false);
    for (filter, found) in [
        (json!({}), 1),
        (json!({ "blockHash": block.header.hash_slow() }), 1),
        (json!({ "fromBlock": "0x1", "address": contract }), 1),
        (json!({ "fromBlock": "0x1", "address": [TO, contract] }), 1),
        (json!({ "fromBlock": "0x1", "address": TO }), 0),
        (json!({ "fromBlock": "0x1", "topics": [topic] }), 1),
        (json!({ "fromBlock": "0x1", "topics": [[other, topic]] }), 1),
        (json!({ "fromBlock": "0x1", "topics": [[other, null]] }), 1),
        (json!({ "fromBlock": "0x1", "topics": [other] }), 0),
        (json!({ "fromBlock": "0x1", "topics": [null, topic] }), 0),
        (json!({ "fromBlock": "0x1", "topics": [] }), 1),
        (json!({ "fromBlock": "0x0", "toBlock": "0x1" }), 0),
        (json!({ "fromBlock": "0x1", "toBlock": "0x9999" }), 1),
        (json!({ "fromBlock": "0x9999", "toBlock": "latest" }), 0),
    ] {
        let logs = server.call("eth_getLogs", json!([filter]));
        assert_eq!(logs.as_array().unwrap().len(), found, "{filter}");
    }
}

#[test]
fn a_filter_tells_each_change_once() {
    let server = Server::new();
    let contract = server.deploy(&logging());
    let logs = server.call("eth_newFilter", json!([{ "address": contract }]));
    let blocks = server.call("eth_newBlockFilter", json!([]));
    assert_ne!(logs, blocks);
    let changes = |id: &Value| server.call("eth_getFilterChanges", json!([id])).as_array().unwrap().len();
    assert_eq!((changes(&logs), changes(&blocks)), (0, 0));
    for _ in 0..2 {
        server.send(0, TxKind::Call(contract.parse().unwrap()), bytes!("01"));
        server.node.seal();
    }
    assert_eq!((changes(&logs), changes(&blocks)), (2, 2));
    assert_eq!((changes(&logs), changes(&blocks)), (0, 0));
    server.node.seal();
    assert_eq!((changes(&logs), changes(&blocks)), (0, 1));
    assert_eq!(server.call("eth_uninstallFilter", json!([logs])), true);
    assert_eq!(server.call("eth_uninstallFilter", json!([logs])), false);
    assert_eq!(
        server.error("eth_getFilterChanges", json!([logs])),
        (-32000, "filter not found".into(), Value::Null)
    );
    assert_eq!(server.error("eth_getFilterLogs", json!([blocks])).1, "filter not found");
}

#[test]
fn filters_are_bounded_and_forgotten() {
    let server = Server::with(|options| options.filters_max = 2);
    let ids: Vec<Value> = (0..3).map(|_| server.call("eth_newBlockFilter", json!([]))).collect();
    assert_eq!(server.call("eth_uninstallFilter", json!([ids[0]])), false, "the oldest made room");
    assert_eq!(server.call("eth_uninstallFilter", json!([ids[2]])), true);
    let forgetful = Server::with(|options| options.filter_expiry_secs = 0);
    let id = forgetful.call("eth_newBlockFilter", json!([]));
    assert_eq!(forgetful.error("eth_getFilterChanges", json!([id])).0, -32000);
}

#[test]
fn a_filter_takes_back_what_a_reorg_removed() {
    let node = Node::new(&genesis(161, 2));
    let module = rpc::module(node.chain.clone(), rpc::Options::default()).unwrap();
    let server = Server { node, module };
    let order = if DEV_ACCOUNTS[0].address < DEV_ACCOUNTS[1].address { [0, 1] } else { [1, 0] };
    // Block 1 is the turn of the second authority; the first seals it too, out of turn.
    let other = Node::new(&genesis(161, 2));
    let blocks = server.call("eth_newBlockFilter", json!([]));
    let light = server.node.seal_as(order[0]);
    let heavy = other.seal_as(order[1]);
    let first = server.call("eth_getFilterChanges", json!([blocks]));
    assert_eq!(first, json!([light.header.hash_slow()]));
    server.node.import(heavy.clone()).unwrap();
    assert_eq!(server.call("eth_getFilterChanges", json!([blocks])), json!([heavy.header.hash_slow()]));
    assert_eq!(server.call("eth_getFilterChanges", json!([blocks])), json!([]));
}

#[test]
fn clique_tells_its_signers_snapshots_and_sealers() {
    let server = Server::new();
    let block = server.node.seal();
    let authority = DEV_ACCOUNTS[0].address;
    let hash = block.header.hash_slow();
    for (method, params) in [
        ("clique_getSigners", json!([])),
        ("clique_getSigners", json!(["latest"])),
        ("clique_getSignersAtHash", json!([hash])),
    ] {
        assert_eq!(server.call(method, params), json!([authority]), "{method}");
    }
    let snapshot = server.call("clique_getSnapshot", json!(["0x1"]));
    let lower = format!("0x{}", hex::encode(authority));
    assert_eq!(
        snapshot,
        json!({
            "number": 1, "hash": hash, "signers": { lower.as_str(): {} }, "recents": { "1": lower },
            "votes": [], "tally": {},
        })
    );
    assert_eq!(server.call("clique_getSnapshotAtHash", json!([hash])), snapshot);
    for named in [json!("0x1"), json!(hash), json!(Bytes::from(alloy_rlp::encode(&block)))] {
        assert_eq!(server.call("clique_getSigner", json!([named])), json!(authority));
    }
    assert_eq!(server.error("clique_getSnapshot", json!(["0x99"])).1, "unknown block");
    assert_eq!(server.node.rules.author(&block.header).unwrap(), authority);
    assert_eq!(server.call("lightstreams_finalBlock", json!([])), json!({ "number": "0x1", "hash": hash }));
}

#[test]
fn only_a_development_network_signs_for_its_callers() {
    let signers: Vec<Arc<LocalSigner>> =
        DEV_ACCOUNTS.iter().map(|account| Arc::new(account.signer().unwrap())).collect();
    let server = Server::with(|options| options.dev_signers = signers.clone());
    assert_eq!(server.call("eth_accounts", json!([])).as_array().unwrap().len(), 10);
    let from = DEV_ACCOUNTS[2].address;
    for (index, extra) in [
        json!({}),
        json!({ "gasPrice": "0x77359400", "gas": "0x5208" }),
        json!({ "maxFeePerGas": "0x77359400", "nonce": "0x2" }),
    ]
    .into_iter()
    .enumerate()
    {
        let mut transaction = json!({ "from": from, "to": TO, "value": "0x1" });
        transaction.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        server.call("eth_sendTransaction", json!([transaction]));
        server.node.seal();
        let sent = format!("0x{:x}", index + 1);
        assert_eq!(server.call("eth_getTransactionCount", json!([from])), sent, "{extra}");
    }
    let stranger = json!([{ "from": TO, "to": TO }]);
    assert_eq!(server.error("eth_sendTransaction", stranger).1, "unknown account");

    let main = Node::new(&genesis(163, 1));
    let options = rpc::Options { dev_signers: signers, ..rpc::Options::default() };
    assert!(matches!(rpc::module(main.chain, options), Err(rpc::ModuleError::NotADevNetwork(163))));
}

#[test]
fn ethers_works_against_it() {
    let Some(story) = installed(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ethers")) else { return };
    let signers = DEV_ACCOUNTS.iter().map(|account| Arc::new(account.signer().unwrap())).collect();
    let server = Server::with(|options| options.dev_signers = signers);
    let _driver = Driver::start(&server.node);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (address, handle) = runtime.block_on(async {
        let http = jsonrpsee::server::Server::builder().build("127.0.0.1:0").await.unwrap();
        (http.local_addr().unwrap(), http.start(server.module.clone()))
    });
    let output =
        Command::new("node").arg("story.mjs").arg(format!("http://{address}")).current_dir(story).output();
    let output = output.unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.ends_with("done\n"), "{told}");
    handle.stop().unwrap();
}

/// A copy of `story` with its packages, or `None` and a line if the tools for it are not here.
fn installed(story: PathBuf) -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ethers");
    std::fs::create_dir_all(&target).unwrap();
    for entry in std::fs::read_dir(story).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), target.join(entry.file_name())).unwrap();
    }
    if target.join("node_modules/ethers").is_dir() {
        return Some(target);
    }
    let install = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(&target)
        .output();
    match install {
        Ok(output) if output.status.success() => Some(target),
        _ if std::env::var_os("LIGHTSTREAMS_REQUIRE_TOOLS").is_some_and(|set| set == "1") => {
            panic!("node, npm and the package ethers are needed: {install:?}")
        }
        _ => {
            println!("skipped: node, npm or the package ethers is not here");
            None
        }
    }
}

#[test]
fn a_proof_of_the_past_and_of_the_present_has_the_fields_of_eip_1186_and_holds() {
    let server = Server::new();
    // SSTORE(1, 42) when called.
    let contract = server.deploy(&bytes!("602a60015500"));
    let to = TxKind::Call(contract.parse().unwrap());
    let mut answers = Vec::new();
    let slots = json!(["0x1", format!("0x{:064x}", 1), "0x02"]);
    for _ in 0..2 {
        server.send(1, to, bytes!("00"));
        server.node.seal();
    }
    for (block, value) in [("0x0", "0x0"), ("0x1", "0x0"), ("0x2", "0x2a"), ("latest", "0x2a")] {
        let proof = server.call("eth_getProof", json!([contract, slots, block]));
        let header = server.call("eth_getBlockByNumber", json!([block, false]));
        let keys: Vec<_> =
            proof["storageProof"].as_array().unwrap().iter().map(|slot| slot["key"].clone()).collect();
        assert_eq!(keys, [json!("0x1"), json!(format!("0x{:064x}", 1)), json!("0x2")]);
        assert_eq!(proof["storageProof"][0]["value"], value, "{block}");
        assert_eq!(proof["nonce"], if block == "0x0" { "0x0" } else { "0x1" });
        let proof: proof::AccountProof = serde_json::from_value(proof).unwrap();
        let root = header["stateRoot"].as_str().unwrap().parse().unwrap();
        assert_eq!(proof.verify(root).unwrap().is_some(), block != "0x0");
        answers.push(proof);
    }
    assert_eq!(
        answers[0].code_hash,
        U256::ZERO.to_be_bytes::<32>(),
        "as go-ethereum writes what is not there"
    );
    assert_ne!(answers[2].account_proof, answers[3].account_proof, "another account changed in between");
    for keys in [json!(["0xzz"]), json!([format!("0x{:066x}", 1)]), json!("0x1"), Value::Null] {
        assert_eq!(server.error("eth_getProof", json!([contract, keys, "latest"])).0, -32602, "{keys}");
    }
    assert_eq!(server.error("eth_getProof", json!([contract, [], "0x99"])).1, "header not found");
}

#[test]
fn safe_and_finalized_name_the_newest_block_that_cannot_reorg() {
    // Three authorities: a block is final with 2L - 1 = 3 blocks on it, itself counted.
    let node = Node::new(&genesis(161, 3));
    let options = rpc::Options { clique: Some(node.rules.clone()), ..rpc::Options::default() };
    let module = rpc::module(node.chain.clone(), options).unwrap();
    let server = Server { node, module };
    let number = |tag: &str| server.call("eth_getBlockByNumber", json!([tag, false]))["number"].clone();
    assert_eq!(
        (number("safe"), number("finalized")),
        (json!("0x0"), json!("0x0")),
        "the genesis is final from the start"
    );
    for height in 1..=7u64 {
        server.node.seal_as(usize::try_from(height).unwrap() % 3);
        let last = json!(format!("{:#x}", height.saturating_sub(2)));
        assert_eq!((number("safe"), number("finalized")), (last.clone(), last.clone()), "at height {height}");
        assert_eq!(server.call("lightstreams_finalBlock", json!([]))["number"], last);
    }
    assert_eq!(number("latest"), "0x7");
}

#[test]
fn proofs_are_those_of_go_ethereum_to_the_byte() {
    let Some(suite) = vectors("execution-apis") else { return };
    let suite = suite.join("tests");
    let genesis = Genesis::from_json(&std::fs::read(suite.join("genesis.json")).unwrap()).unwrap();
    let engine = Arc::new(Ethash::for_genesis(&genesis));
    let chain = Arc::new(Chain::open(genesis, Arc::new(MemoryKv::default()), engine).unwrap());
    let file = std::fs::File::open(suite.join("chain.rlp")).unwrap();
    chain.import_from(file, u64::MAX >> 1, |_| ControlFlow::Continue(())).unwrap();
    let module = rpc::module(chain, rpc::Options::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let mut seen = 0;
    for entry in std::fs::read_dir(suite.join("eth_getProof")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let line = |start: &str| text.lines().find_map(|line| line.strip_prefix(start)).unwrap();
        let (answer, _) = runtime.block_on(module.raw_json_request(line(">> "), 1)).unwrap();
        let (answer, wanted): (Value, Value) =
            (serde_json::from_str(answer.get()).unwrap(), serde_json::from_str(line("<< ")).unwrap());
        // Words of errors differ, codes do not.
        assert_eq!(answer["result"], wanted["result"], "{}", line(">> "));
        assert_eq!(answer["error"]["code"], wanted["error"]["code"], "{}", line(">> "));
        seen += 1;
    }
    assert!(seen > 2);
}
