//! Chains and blocks that others made.

use std::{cmp::Ordering, collections::BTreeMap, path::Path, sync::Arc};

use alloy_primitives::{Address, B256, U256, b256};
use lightstreams_chain::{
    Ancestry, Block, BlockId, Chain, Clique, Engine, EngineError, ForkChoice, Genesis, HeadInfo, Header,
    HeaderRules, ImportError, Imported, MemoryKv, testing::NoSeal,
};
use serde_json::Value;

use crate::headers::{GethChain, chain_names, decode_block, hex_bytes, json, unzstd, vectors};

/// A time after all blocks of the vectors.
pub(crate) const NOW: u64 = 4_000_000_000;

pub(crate) fn open_geth(suite: &Path, name: &str) -> (Chain, Arc<Clique>) {
    let genesis = std::fs::read(suite.join("chains").join(name).join("genesis.json")).unwrap();
    let genesis = Genesis::from_json(&genesis).unwrap();
    let clique = Arc::new(Clique::for_genesis(&genesis));
    let engine: Arc<dyn Engine> = clique.clone();
    (Chain::open(genesis, Arc::new(MemoryKv::default()), engine).unwrap(), clique)
}

/// Imports the blocks of `geth` up to number `last`.
#[track_caller]
fn import_to(chain: &Chain, geth: &GethChain, last: u64) {
    for block in geth.blocks.iter().skip(1).take_while(|block| block.header.number <= last) {
        let number = block.header.number;
        match chain.import(block.clone(), NOW) {
            Ok(Imported::Head(_)) => {}
            other => panic!("block {number}: {other:?}"),
        }
    }
}

fn hash_of(value: &Value) -> B256 {
    value.as_str().unwrap().parse().unwrap()
}

#[test]
fn chains_of_go_ethereum_are_imported_to_the_same_state() {
    let Some(suite) = vectors("clique-geth") else { return };
    let mut count = 0;
    for name in chain_names(&suite) {
        let Some(geth) = GethChain::read(&suite, &name) else { return };
        let (chain, _) = open_geth(&suite, &name);
        let expect = &geth.expect;
        assert_eq!(chain.genesis_hash(), hash_of(&expect["genesisHash"]), "{name}");
        import_to(&chain, &geth, u64::MAX);
        let head = chain.head();
        assert_eq!(head.hash, hash_of(&expect["head"]["hash"]), "{name}");
        assert_eq!(head.header.state_root, hash_of(&expect["head"]["stateRoot"]), "{name}");
        assert_eq!(head.total_difficulty, U256::from(expect["totalDifficulty"].as_u64().unwrap()), "{name}");
        let state = chain.state(BlockId::Latest).unwrap();
        for account in expect["accounts"].as_array().into_iter().flatten() {
            let address: Address = account["address"].as_str().unwrap().parse().unwrap();
            let found = state.account(address).unwrap();
            assert_eq!(found.is_some(), account["exists"].as_bool().unwrap(), "{name} {address}");
            let Some(found) = found else { continue };
            assert_eq!(found.nonce, account["nonce"].as_u64().unwrap(), "{name} {address}");
            assert_eq!(
                found.balance,
                account["balance"].as_str().unwrap().parse::<U256>().unwrap(),
                "{name}"
            );
            assert_eq!(found.code_hash, hash_of(&account["codeHash"]), "{name} {address}");
            for (slot, value) in account["storage"].as_object().into_iter().flatten() {
                let found = state.storage(address, slot.parse().unwrap()).unwrap();
                assert_eq!(
                    found,
                    value.as_str().unwrap().parse::<U256>().unwrap(),
                    "{name} {address} {slot}"
                );
            }
        }
        count += 1;
    }
    assert!(count > 50, "only {count} chains");
}

#[test]
fn blocks_that_go_ethereum_refuses_are_refused_and_their_siblings_taken() {
    let Some(suite) = vectors("clique-geth") else { return };
    let mut cases: BTreeMap<(String, u64), Vec<(String, Value)>> = BTreeMap::new();
    for entry in std::fs::read_dir(suite.join("invalid")).unwrap() {
        let case = json(entry.unwrap().path());
        let key = (case["chain"].as_str().unwrap().to_owned(), case["parent"].as_u64().unwrap());
        cases.entry(key).or_default().push((case["kind"].as_str().unwrap().to_owned(), case));
    }
    for ((name, parent), cases) in cases {
        let Some(geth) = GethChain::read(&suite, &name) else { return };
        let (chain, _) = open_geth(&suite, &name);
        import_to(&chain, &geth, parent);
        let head = chain.head();
        for (kind, case) in &cases {
            let Ok(block) = lightstreams_chain::decode_block(&hex_bytes(&case["block"])) else { continue };
            assert_ne!(case["stage"], "decode", "{kind} decodes");
            match chain.import(block, 1_790_000_000) {
                Err(ImportError::Storage(error)) => panic!("{kind}: {error}"),
                Err(_) => {}
                Ok(done) => panic!("{kind}: {done:?}"),
            }
            assert_eq!(chain.head(), head, "{kind} leaves the head alone");
        }
        let mut siblings: Vec<Value> = cases.iter().map(|(_, case)| case["sibling"].clone()).collect();
        siblings.dedup();
        for (sibling, (kind, _)) in siblings.iter().zip(&cases) {
            if let Some(block) = decode_block(sibling) {
                chain.import(block, NOW).unwrap_or_else(|error| panic!("{kind}: sibling: {error:?}"));
            }
        }
    }
}

#[test]
fn odd_blocks_that_go_ethereum_takes_are_taken() {
    let Some(suite) = vectors("clique-geth") else { return };
    for entry in std::fs::read_dir(suite.join("valid-edge")).unwrap() {
        let case = json(entry.unwrap().path());
        let kind = case["kind"].as_str().unwrap();
        if case["snapshotError"].is_string() {
            // A block that no other can follow; DESIGN refuses it where it stands.
            continue;
        }
        let name = case["chain"].as_str().unwrap();
        let Some(geth) = GethChain::read(&suite, name) else { return };
        let (chain, _) = open_geth(&suite, name);
        import_to(&chain, &geth, case["parent"].as_u64().unwrap());
        let block = decode_block(&case["block"]).unwrap();
        match chain.import(block, NOW) {
            Ok(Imported::Head(change)) => assert_eq!(change.head.hash, hash_of(&case["hash"]), "{kind}"),
            other => panic!("{kind}: {other:?}"),
        }
        let next = decode_block(&case["next"]).unwrap();
        assert_eq!(chain.import(next, NOW).is_ok(), case["nextError"].is_null(), "{kind}: the next");
    }
}

#[test]
fn the_heavier_branch_becomes_the_head_in_whatever_order_blocks_come() {
    let Some(suite) = vectors("clique-geth") else { return };
    for case in json(suite.join("forks.json")).as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let Some(geth) = GethChain::read(&suite, case["chain"].as_str().unwrap()) else { return };
        let branches: Vec<Vec<Block>> = case["branches"]
            .as_array()
            .unwrap()
            .iter()
            .map(|branch| {
                branch["blocks"].as_array().unwrap().iter().map(|b| decode_block(b).unwrap()).collect()
            })
            .collect();
        let heavier = &case["branches"][case["heavier"].as_u64().unwrap() as usize];
        let orders: [Vec<Block>; 3] = [
            branches.iter().flatten().cloned().collect(),
            branches.iter().rev().flatten().cloned().collect(),
            by_turns(&branches),
        ];
        for order in orders {
            let (chain, _) = open_geth(&suite, case["chain"].as_str().unwrap());
            import_to(&chain, &geth, case["forkAt"].as_u64().unwrap());
            for block in order {
                chain.import(block, NOW).unwrap_or_else(|error| panic!("{name}: {error:?}"));
            }
            assert_eq!(chain.head().hash, hash_of(&heavier["head"]), "{name}");
            assert_eq!(chain.head().header.state_root, hash_of(&heavier["stateRoot"]), "{name}");
            follows_its_numbers(&chain);
        }
    }
}

fn by_turns(branches: &[Vec<Block>]) -> Vec<Block> {
    let longest = branches.iter().map(Vec::len).max().unwrap_or(0);
    (0..longest).flat_map(|at| branches.iter().filter_map(move |branch| branch.get(at)).cloned()).collect()
}

/// Every number names a block whose parent is the block before, and every transaction is found.
#[track_caller]
fn follows_its_numbers(chain: &Chain) {
    let mut parent = chain.genesis_hash();
    for number in 1..=chain.head().number() {
        let block = chain.block(number.into()).unwrap().unwrap();
        assert_eq!(block.header.parent_hash, parent);
        parent = chain.canonical_hash(number).unwrap().unwrap();
        for transaction in &block.body.transactions {
            let receipt = chain.receipt(transaction.tx_hash()).unwrap().unwrap();
            assert_eq!(receipt.transaction.block.hash, parent);
        }
    }
    assert_eq!(chain.canonical_hash(chain.head().number() + 1).unwrap(), None);
}

#[test]
fn a_loaded_chain_of_go_ethereum_is_imported() {
    let Some(suite) = vectors("chain-load") else { return };
    if cfg!(debug_assertions) {
        println!("skipped: 40,000 transactions are for an optimised build");
        return;
    }
    let genesis = Genesis::from_json(&std::fs::read(suite.join("genesis.json")).unwrap()).unwrap();
    let engine = Arc::new(Clique::for_genesis(&genesis));
    let chain = Chain::open(genesis, Arc::new(MemoryKv::default()), engine).unwrap();
    let Some(packed) = unzstd(suite.join("chain.rlp.zst")) else { return };
    let begun = std::time::Instant::now();
    let mut transactions = 0;
    for block in blocks_of(&packed).into_iter().skip(1) {
        transactions += block.body.transactions.len();
        chain.import(block, NOW).unwrap();
    }
    println!("{transactions} transactions in {:?}", begun.elapsed());
    assert_eq!(chain.head().hash, b256!("daedb16540031260073e16ec03a9256beaa0595059f62d9b53330e47e3958f05"));
}

fn blocks_of(mut rlp: &[u8]) -> Vec<Block> {
    let mut blocks = Vec::new();
    while !rlp.is_empty() {
        blocks.push(alloy_rlp::Decodable::decode(&mut rlp).unwrap());
    }
    blocks
}

/// Proof of work with a fixed difficulty, as far as execution sees it.
struct Besu;

impl HeaderRules for Besu {
    fn verify_genesis(&self, _: &Header) -> Result<(), EngineError> {
        Ok(())
    }

    fn verify_header(&self, _: &Header, _: &HeadInfo, _: &dyn Ancestry, _: u64) -> Result<(), EngineError> {
        Ok(())
    }

    fn author(&self, header: &Header) -> Result<Address, EngineError> {
        Ok(header.beneficiary)
    }

    fn seal_hash(&self, header: &Header) -> B256 {
        header.hash_slow()
    }

    fn prepare(
        &self,
        _: &mut Header,
        _: &HeadInfo,
        _: Address,
        _: &dyn Ancestry,
        _: u64,
    ) -> Result<(), EngineError> {
        Ok(())
    }

    fn rewards(&self, header: &Header, _: &[Header]) -> Vec<(Address, U256)> {
        let coins = if header.number < 3 { 5 } else { 2 };
        vec![(header.beneficiary, U256::from(coins) * U256::from(10).pow(U256::from(18)))]
    }
}

impl ForkChoice for Besu {
    fn compare(&self, a: &HeadInfo, b: &HeadInfo, ancestry: &dyn Ancestry) -> Result<Ordering, EngineError> {
        NoSeal::default().compare(a, b, ancestry)
    }

    fn final_number(&self, _: &HeadInfo, _: u64, _: &dyn Ancestry) -> Result<u64, EngineError> {
        Ok(0)
    }
}

#[test]
fn besus_chain_across_london_is_imported_with_its_rewards() {
    let Some(suite) = vectors("chain-import") else { return };
    let suite = suite.join("besu-fork-london");
    let mut genesis: Value = json(suite.join("genesis.json"));
    // Besu goes from Frontier to London at once where a genesis names nothing in between.
    let config = genesis["config"].as_object_mut().unwrap();
    let id = config.remove("chainID").unwrap();
    config.insert("chainId".into(), id);
    let forks =
        ["homestead", "eip150", "eip155", "eip158", "byzantium", "constantinople", "istanbul", "berlin"];
    for fork in forks {
        config.entry(format!("{fork}Block")).or_insert(3.into());
    }
    let genesis = Genesis::from_json(genesis.to_string().as_bytes()).unwrap();
    let chain = Chain::open(genesis, Arc::new(MemoryKv::default()), Arc::new(Besu)).unwrap();
    let blocks = blocks_of(&std::fs::read(suite.join("chain.blocks")).unwrap());
    let blocks: Vec<_> = blocks.into_iter().filter(|block| block.header.number > 0).collect();
    assert_eq!(blocks[0].header.parent_hash, chain.genesis_hash());
    for block in blocks {
        let number = block.header.number;
        chain.import(block, NOW).unwrap_or_else(|error| panic!("block {number}: {error:?}"));
    }
    assert!(chain.head().header.base_fee_per_gas.is_some());
}

#[test]
fn genesis_blocks_have_the_hashes_that_others_compute() {
    let Some(suite) = vectors("chain-import") else { return };
    let suite = suite.join("hive-genesis");
    for (file, hash) in json(suite.join("expected.json")).as_object().unwrap() {
        let genesis = Genesis::from_json(&std::fs::read(suite.join(file)).unwrap()).unwrap();
        assert_eq!(genesis.hash(), hash_of(hash), "{file}");
    }
    let Some(suite) = vectors("poa-clique") else { return };
    let spec = json(suite.join("goerli-spec-openethereum.json"));
    let expected = &json(suite.join("expected-genesis.json"))["goerli"];
    let field = |name: &str| spec["genesis"][name].clone();
    let alloc: serde_json::Map<String, Value> = spec["accounts"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, account)| account["balance"].is_string())
        .map(|(address, account)| {
            let balance: U256 = account["balance"].as_str().unwrap().parse().unwrap();
            (address.clone(), serde_json::json!({ "balance": balance }))
        })
        .collect();
    let file = serde_json::json!({
        "config": { "chainId": 5, "homesteadBlock": 0, "clique": { "period": 15, "epoch": 30000 } },
        "alloc": alloc,
        "difficulty": field("difficulty"),
        "gasLimit": field("gasLimit"),
        "timestamp": field("timestamp"),
        "extraData": field("extraData"),
        "nonce": "0x0",
        "mixHash": B256::ZERO,
    });
    let genesis = Genesis::from_json(file.to_string().as_bytes()).unwrap();
    assert_eq!(genesis.header().state_root, hash_of(&expected["stateRoot"]));
    assert_eq!(genesis.hash(), hash_of(&expected["hash"]));
}

#[test]
fn bytes_that_are_no_block_are_refused_without_a_panic() {
    let Some(suite) = vectors("clique-geth") else { return };
    let Some(geth) = GethChain::read(&suite, "edge-01") else { return };
    let rlp = alloy_rlp::encode(&geth.blocks[1]);
    let (chain, _) = open_geth(&suite, "edge-01");
    let decode = |bytes: &[u8]| {
        let mut rest = bytes;
        <Block as alloy_rlp::Decodable>::decode(&mut rest).ok()
    };
    for cut in 0..rlp.len() {
        assert!(decode(&rlp[..cut]).is_none(), "cut at {cut}");
    }
    for at in 0..rlp.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = rlp.clone();
            bytes[at] ^= flip;
            if let Some(block) = decode(&bytes) {
                if block == geth.blocks[1] {
                    continue;
                }
                assert!(chain.import(block, NOW).is_err(), "byte {at} ^ {flip:#x} is taken");
            }
        }
    }
    assert_eq!(chain.head().number(), 0);
    chain.import(geth.blocks[1].clone(), NOW).unwrap();
}
