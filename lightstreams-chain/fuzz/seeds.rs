//! First inputs of the fuzz targets, made by our own encoders: `seeds FOLDER`.

use std::{fs, ops::ControlFlow, path::Path, sync::Arc};

use lightstreams_chain::{
    BlockId, BuildAttributes, Chain, DEV_ACCOUNTS, Genesis, MemoryKv,
    alloy_consensus::{TxEip1559, TxEip2930, TxLegacy},
    alloy_primitives::{Address, TxKind, U256, keccak256},
    testing::NoSeal,
};

fn main() {
    let folder = std::env::args().nth(1).expect("the folder of the corpora");
    let put = |target: &str, name: &str, bytes: &[u8]| {
        let folder = Path::new(&folder).join(target);
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join(name), bytes).expect("a seed");
    };
    let json = include_bytes!("genesis.json");
    put("genesis", "network", json);
    let genesis = Genesis::from_json(json).expect("a genesis");
    put("genesis", "rewritten", genesis.to_json().as_bytes());
    put("genesis", "smallest", br#"{"config":{"chainId":1},"alloc":{},"difficulty":"0x1","gasLimit":"0x1000"}"#);

    let chain = Chain::open(genesis, Arc::new(MemoryKv::default()), Arc::new(NoSeal::default())).expect("a chain");
    let (id, to) = (chain.chain_id(), TxKind::Call(Address::repeat_byte(0x11)));
    let signer = DEV_ACCOUNTS[0].signer().expect("a key");
    let price = 3_000_000_000;
    let gas_limit = 30_000;
    let sent = [
        signer.sign_raw_transaction(TxLegacy {
            chain_id: Some(id), nonce: 0, gas_price: price, gas_limit, to, value: U256::ONE, ..Default::default()
        }),
        signer.sign_raw_transaction(TxEip2930 {
            chain_id: id, nonce: 1, gas_price: price, gas_limit, to, value: U256::ONE, ..Default::default()
        }),
        signer.sign_raw_transaction(TxEip1559 {
            chain_id: id, nonce: 2, gas_limit, max_fee_per_gas: price, to, value: U256::ONE, ..Default::default()
        }),
    ];
    for (index, raw) in sent.into_iter().enumerate() {
        let raw = raw.expect("a signature");
        put("transaction", &format!("type{index}"), &raw);
        chain.submit(&raw).expect("the pool takes it");
        let head = chain.head();
        let now = head.header.timestamp + 1;
        let attributes = BuildAttributes { parent: head.hash, author: Address::ZERO, now, with_transactions: true };
        let block = chain.build(&attributes).expect("a block");
        put("block", &format!("block{index}"), &alloy_rlp::encode(&block));
        put("proof", &format!("header{index}"), &alloy_rlp::encode(&block.header));
        chain.import(block, now).expect("an import");
    }
    let mut file = Vec::new();
    chain.export_to(0..=3, &mut file, |_| ControlFlow::Continue(())).expect("a file");
    put("block", "file", &file);

    let state = chain.state(BlockId::Latest).expect("a state");
    for (index, address) in [DEV_ACCOUNTS[0].address, Address::repeat_byte(0x11), Address::ZERO].iter().enumerate() {
        let proof = state.proof(*address, &[U256::ONE]).expect("a proof");
        put("proof", &format!("answer{index}"), serde_json::json!(proof).to_string().as_bytes());
        let mut input = keccak256(address).to_vec();
        for (at, node) in proof.account_proof.iter().enumerate() {
            let mut node = node.to_vec();
            if let Some(next) = proof.account_proof.get(at + 1) {
                let hash = keccak256(next);
                let place = node.windows(32).position(|window| window == hash.as_slice()).expect("a link");
                node[place..place + 32].fill(0xaa);
            }
            input.extend_from_slice(&(node.len() as u16).to_be_bytes());
            input.extend_from_slice(&node);
        }
        put("proof", &format!("path{index}"), &input);
    }
}
