//! Genesis files: what is read, what is refused and how, and what a new network starts with.

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes, TxKind, U256, address, bytes};
use lightstreams_chain::{
    Batch, BlockId, CallRequest, Chain, FeePolicy, Genesis, Kv, MemoryKv, OpenError, Table,
    genesis_differences, testing::NoSeal,
};
use serde_json::{Value, json};

use crate::dev::{genesis, logger, open, seal, send};

fn file(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut file: Value = serde_json::from_str(&genesis(FeePolicy::Market).to_json()).unwrap();
    change(&mut file);
    file.to_string().into_bytes()
}

#[track_caller]
fn refused(change: impl FnOnce(&mut Value), names: &str) {
    let error = Genesis::from_json(&file(change)).unwrap_err().to_string();
    assert!(error.contains(names), "{error:?} does not name {names:?}");
}

#[test]
fn a_file_is_read_back_as_it_was_written() {
    for policy in [FeePolicy::Market, FeePolicy::Zero, FeePolicy::Fixed { base_fee: 7 }] {
        let genesis = genesis(policy);
        let again = Genesis::from_json(genesis.to_json().as_bytes()).unwrap();
        assert_eq!(again, genesis);
        assert_eq!(again.hash(), genesis.hash());
    }
}

#[test]
fn a_file_that_breaks_a_rule_is_refused_and_the_field_named() {
    refused(|file| file["config"]["lightstreams"]["colour"] = json!("red"), "colour");
    let blobs = |target: u64, max: u64, fraction: u64| {
        move |file: &mut Value| {
            file["config"]["blobSchedule"]["osaka"] =
                json!({"target": target, "max": max, "baseFeeUpdateFraction": fraction});
        }
    };
    refused(blobs(7, 6, 1), "blobSchedule.osaka");
    refused(blobs(3, 6, 0), "blobSchedule.osaka");
    refused(blobs(3, 1 << 17, 1), "blobSchedule.osaka");
    refused(|file| file["config"]["bpo2Time"] = json!(1), "bpo2Time");
    refused(
        |file| {
            for fork in ["bpo1Time", "bpo2Time", "bpo3Time"] {
                file["config"][fork] = json!(1);
            }
        },
        "blobSchedule.bpo3",
    );
    refused(|file| file["config"]["lightstreams"]["feePolicy"]["colour"] = json!("red"), "colour");
    refused(|file| file["config"]["lightstreams"]["engines"][0]["colour"] = json!("red"), "colour");
    refused(|file| file["config"]["lightstreams"]["engines"] = json!([]), "engines");
    refused(|file| file["config"]["lightstreams"]["engines"][0]["at"] = json!(1), "engines[0].at");
    refused(|file| file["config"]["lightstreams"]["engines"][0]["engine"] = json!("ethash"), "engines[0]");
    refused(
        |file| file["config"]["lightstreams"]["engines"][0]["validators"] = json!("header"),
        "engines[0]",
    );
    refused(
        |file| {
            file["config"]["lightstreams"]["engines"] =
                json!([{"at": 0, "engine": "dev"}, {"at": 0, "engine": "dev"}])
        },
        "engines",
    );
    refused(
        |file| {
            file["config"]["lightstreams"]["engines"] =
                json!([{"at": 0, "engine": "bft", "validators": "contract"}])
        },
        "contract",
    );
    refused(|file| file["config"]["lightstreams"]["emptyBlockMs"] = json!(60_001), "emptyBlockMs");
    refused(|file| file["config"]["lightstreams"]["blockPeriodMs"] = json!("soon"), "config.lightstreams");
    refused(
        |file| {
            file["config"]["lightstreams"]["blockPeriodMs"] = json!(2_000);
            file["config"]["lightstreams"]["emptyBlockMs"] = json!(1_999);
        },
        "emptyBlockMs",
    );
    refused(|file| file["config"]["lightstreams"]["engines"][0]["engine"] = json!("clique"), "emptyBlockMs");
    refused(
        |file| {
            file["config"]["lightstreams"]["engines"][0]["engine"] = json!("clique");
            file["config"]["lightstreams"]["emptyBlockMs"] = json!(1_000);
        },
        "config.clique.period",
    );
    refused(
        |file| file["config"]["lightstreams"]["feePolicy"] = json!({"kind": "fixed"}),
        "feePolicy.baseFee",
    );
    refused(|file| file["config"]["lightstreams"]["feePolicy"] = json!({"kind": "free"}), "feePolicy.kind");
    refused(
        |file| file["config"]["lightstreams"]["feePolicy"] = json!({"kind": "zero", "baseFee": 1}),
        "feePolicy.baseFee",
    );
    refused(|file| file["config"]["lightstreams"]["feeRecipient"] = json!(Address::ZERO), "feeRecipient");
    refused(
        |file| file["config"]["lightstreams"]["contracts"]["shop"] = json!(Address::ZERO),
        "contracts.shop",
    );
    refused(
        |file| file["config"]["lightstreams"]["contracts"]["market"] = json!("0x12"),
        "config.lightstreams",
    );
    refused(|file| file["config"]["cancunTime"] = Value::Null, "pragueTime");
    refused(|file| file["config"]["amsterdamTime"] = json!(0), "amsterdamTime");
    refused(|file| file["config"]["homesteadBlock"] = json!(5), "eip150Block");
    refused(|file| file["number"] = json!("0x1"), "number");
    refused(|file| file["gasLimit"] = json!("0xffffffffffffffff"), "gasLimit");
    for text in ["", "{", "[]", "null", "{\"config\": 3}", "\u{0}"] {
        assert!(Genesis::from_json(text.as_bytes()).is_err(), "{text:?}");
    }
}

#[test]
fn a_constructor_runs_at_the_address_it_is_given() {
    let at = address!("0x0000000000000000000000000000000000001001");
    let sender = address!("0x00000000000000000000000000000000000000cc");
    let mut genesis = genesis(FeePolicy::Zero);
    genesis.predeploy(at, logger(), sender).unwrap();
    // SSTORE(0, ADDRESS), SSTORE(1, CALLER), and calls the contract predeployed before: SSTORE(2, what it returns)
    let second = address!("0x0000000000000000000000000000000000001002");
    let init = bytes!("305f55" "33600155" "60205f5f5f5f6110015af150" "5f51600255" "60fe5f5360015ff3");
    genesis.predeploy(second, init.clone(), sender).unwrap();
    assert!(genesis.predeploy(second, init, sender).is_err(), "a contract stands there");
    let failing = genesis.predeploy(Address::ZERO, bytes!("5f5ffd"), sender).unwrap_err();
    assert!(failing.to_string().contains("reverted"), "{failing}");

    let again = Genesis::from_json(genesis.to_json().as_bytes()).unwrap();
    assert_eq!(again.hash(), genesis.hash());
    let chain = open(again);
    let state = chain.state(BlockId::Latest).unwrap();
    assert_eq!(state.storage(at, U256::ONE).unwrap(), U256::from(42));
    assert_eq!(state.account(at).unwrap().unwrap().nonce, 1);
    assert_eq!(state.storage(second, U256::ZERO).unwrap(), U256::from_be_slice(second.as_slice()));
    assert_eq!(state.storage(second, U256::ONE).unwrap(), U256::from_be_slice(sender.as_slice()));
    assert_eq!(state.storage(second, U256::from(2)).unwrap(), U256::from(42));
    assert_eq!(state.code(second).unwrap(), bytes!("fe"));
    assert_eq!(state.account(sender).unwrap(), None, "who runs constructors leaves no trace");
    let outcome = chain.call(BlockId::Latest, &CallRequest::new(at, Bytes::new())).unwrap();
    assert_eq!(outcome.output().map(|bytes| U256::from_be_slice(bytes)), Some(U256::from(42)));
}

#[test]
fn a_new_network_remembers_parent_hashes_as_eip_2935_says() {
    let chain = open(genesis(FeePolicy::Market));
    let hashes: Vec<B256> = (0..3).map(|_| seal(&chain).header.parent_hash).collect();
    let history = address!("0x0000F90827F1C53a10cb7A02335B175320002935");
    for (number, hash) in hashes.iter().enumerate() {
        let slot = U256::from(number).to_be_bytes::<32>();
        let outcome = chain.call(BlockId::Latest, &CallRequest::new(history, slot)).unwrap();
        assert_eq!(outcome.output().map(|bytes| B256::from_slice(bytes)), Some(*hash), "block {number}");
    }
}

#[test]
fn fees_go_where_the_policy_says() {
    let recipient = address!("0x00000000000000000000000000000000000000fe");
    for (policy, to) in [
        (FeePolicy::Zero, None),
        (FeePolicy::Fixed { base_fee: 5 }, None),
        (FeePolicy::Fixed { base_fee: 5 }, Some(recipient)),
    ] {
        let mut genesis = genesis(policy);
        let mut network = genesis.network().unwrap().clone();
        network.fee_recipient = to;
        genesis.set_network(network).unwrap();
        let chain = open(genesis);
        let hash = chain
            .submit(&send(&chain, 0, 0, TxKind::Call(Address::ZERO), U256::ZERO, Bytes::new(), 21_000))
            .unwrap();
        for _ in 0..3 {
            seal(&chain);
        }
        let base = match policy {
            FeePolicy::Fixed { base_fee } => base_fee,
            _ => 0,
        };
        assert_eq!(chain.head().header.base_fee_per_gas, Some(base), "it does not move");
        let paid = chain.receipt(&hash).unwrap().unwrap().effective_gas_price * 21_000;
        assert_eq!(paid, (1_000_000_000 + u128::from(base)) * 21_000);
        let state = chain.state(BlockId::Latest).unwrap();
        let earner = to.unwrap_or(crate::dev::AUTHOR);
        assert_eq!(state.balance(earner).unwrap(), U256::from(paid), "base fee and tip");
        if to.is_some() {
            assert_eq!(state.balance(crate::dev::AUTHOR).unwrap(), U256::ZERO);
        }
    }
}

#[test]
fn a_database_of_another_chain_is_refused() {
    let kv = Arc::new(MemoryKv::default());
    let engine = Arc::new(NoSeal::default());
    let chain = Chain::open(genesis(FeePolicy::Market), kv.clone(), engine.clone()).unwrap();
    let head = seal(&chain);
    drop(chain);

    let mut other = genesis(FeePolicy::Market);
    other.fund(Address::ZERO, U256::ONE);
    let error = Chain::open(other, kv.clone(), engine.clone()).unwrap_err();
    assert!(matches!(error, OpenError::OtherGenesis { .. }), "{error}");
    let zero = "alloc.0x0000000000000000000000000000000000000000";
    assert!(error.to_string().contains(&format!("{zero} is {{\"balance\":\"0x1\"")), "{error}");
    for (field, value, said) in [
        ("extraData", json!("0x77"), "extraData is \"0x77\", but the database was made with null"),
        ("gasLimit", json!("0x5000"), "gasLimit is \"0x5000\", but the database was made with \"0x1c9c380\""),
        ("timestamp", json!("0x5"), "timestamp is \"0x5\", but the database was made with \"0x6553f100\""),
    ] {
        let other = Genesis::from_json(&file(|file| file[field] = value.clone())).unwrap();
        let error = Chain::open(other, kv.clone(), engine.clone()).unwrap_err();
        let OpenError::OtherGenesis { differences, .. } = &error else { panic!("{field}: {error}") };
        assert_eq!(differences.len(), 1, "{field}: {differences:?}");
        assert!(error.to_string().ends_with(said), "{error}");
    }

    // The configuration is not part of the hash.
    let changed = |change: &dyn Fn(&mut Value)| Genesis::from_json(&file(|file| change(file))).unwrap();
    let fees = changed(&|file| file["config"]["lightstreams"]["feePolicy"] = json!({"kind": "zero"}));
    let error = Chain::open(fees, kv.clone(), engine.clone()).unwrap_err();
    assert!(error.to_string().starts_with("config.lightstreams"), "{error}");
    let id = changed(&|file| file["config"]["chainId"] = json!(162));
    assert!(matches!(Chain::open(id, kv.clone(), engine.clone()), Err(OpenError::OtherConfig { .. })));
    let past = changed(&|file| file["config"]["osakaTime"] = json!(1));
    assert!(matches!(Chain::open(past, kv.clone(), engine.clone()), Err(OpenError::OtherConfig { .. })));

    let again = Chain::open(genesis(FeePolicy::Market), kv.clone(), engine.clone()).unwrap();
    assert_eq!(again.head(), head);

    let mut batch = Batch::default();
    batch.put(Table::Meta, b"schema", 9u32.to_be_bytes());
    kv.commit(batch).unwrap();
    let error = Chain::open(genesis(FeePolicy::Market), kv, engine).unwrap_err();
    assert_eq!(error.to_string(), "the database has schema version 9, this software reads version 2");
}

#[test]
fn what_lies_ahead_may_be_changed_and_what_happened_may_not() {
    let kv = Arc::new(MemoryKv::default());
    let engine = Arc::new(NoSeal::default());
    let start = |change: &dyn Fn(&mut Value)| Genesis::from_json(&file(|file| change(file))).unwrap();
    let ahead = |file: &mut Value| {
        file["config"]["pragueTime"] = json!(1_700_000_002);
        file["config"]["osakaTime"] = json!(1_800_000_000);
    };
    let chain = Chain::open(start(&ahead), kv.clone(), engine.clone()).unwrap();
    for _ in 0..3 {
        seal(&chain);
    }
    drop(chain);
    let network = |file: &mut Value, field: &str, value: Value| file["config"]["lightstreams"][field] = value;
    type Change<'a> = (&'a str, bool, &'a dyn Fn(&mut Value));
    let changes: [Change<'_>; 9] = [
        ("config.osakaTime", true, &|file| file["config"]["osakaTime"] = json!(1_900_000_000)),
        ("config.osakaTime", true, &|file| file["config"]["osakaTime"] = Value::Null),
        ("config.osakaTime", false, &|file| file["config"]["osakaTime"] = json!(1_700_000_003)),
        ("config.pragueTime", false, &|file| file["config"]["pragueTime"] = json!(1_750_000_000)),
        ("config.chainId", false, &|file| file["config"]["chainId"] = json!(7)),
        ("config.lightstreams.blockPeriodMs", false, &|file| {
            network(file, "blockPeriodMs", json!(1));
            network(file, "emptyBlockMs", json!(1_000));
        }),
        ("config.lightstreams.emptyBlockMs", true, &|file| network(file, "emptyBlockMs", json!(1_000))),
        ("config.lightstreams.engines[1]", true, &|file| {
            network(file, "engines", json!([{ "at": 0, "engine": "dev" }, { "at": 4, "engine": "bft" }]));
            network(file, "emptyBlockMs", json!(1_000));
        }),
        ("config.lightstreams.feePolicy.kind", false, &|file| {
            network(file, "feePolicy", json!({ "kind": "zero" }))
        }),
    ];
    for (field, allowed, change) in changes {
        let given = start(&|file: &mut Value| {
            ahead(file);
            change(file);
        });
        let found = genesis_differences(kv.as_ref(), &given).unwrap().unwrap();
        let named = found.iter().find(|difference| difference.field == field);
        assert_eq!(named.map(|difference| difference.allowed), Some(allowed), "{field}: {found:?}");
        match Chain::open(given, kv.clone(), engine.clone()) {
            Ok(_) => assert!(allowed, "{field} was changed"),
            Err(OpenError::OtherConfig { .. }) => assert!(!allowed, "{field}"),
            Err(error) => panic!("{field}: {error}"),
        }
        // What was taken is what the next comes after: put it back.
        Chain::open(start(&ahead), kv.clone(), engine.clone()).unwrap();
    }
    assert_eq!(genesis_differences(kv.as_ref(), &start(&ahead)).unwrap().unwrap(), []);
    assert_eq!(genesis_differences(&MemoryKv::default(), &start(&ahead)).unwrap(), None);
}
