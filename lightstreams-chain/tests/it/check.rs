//! A damaged database is found out, whichever table it is.

use std::{ops::ControlFlow, sync::Arc};

use alloy_primitives::{Address, Bytes, TxKind, U256};
use lightstreams_chain::{
    Batch, Chain, CheckReport, Clique, DEV_ACCOUNTS, Engine, Entry, FeePolicy, Genesis, Kv, MemoryKv,
    Options, Remedy, Table, check,
    testing::{Ethash, NoSeal},
};

use crate::{
    dev::{AUTHOR, genesis, logger, seal, seal_as, send, transfer},
    headers::{unzstd, vectors},
};

/// A chain with contracts, logs, slots, a side block and histories.
fn database() -> (Genesis, MemoryKv) {
    let genesis = genesis(FeePolicy::Market);
    let kv = Arc::new(MemoryKv::default());
    let chain =
        Chain::open_with(genesis.clone(), kv.clone(), Arc::new(NoSeal::default()), Options::default())
            .unwrap();
    let twin =
        Chain::open(genesis.clone(), Arc::new(MemoryKv::default()), Arc::new(NoSeal::default())).unwrap();
    chain.submit(&send(&chain, 9, 0, TxKind::Create, U256::ZERO, logger(), 300_000)).unwrap();
    seal(&chain);
    let contract = DEV_ACCOUNTS[9].address.create(0);
    for nonce in 0..5 {
        chain
            .submit(&send(&chain, 0, nonce, TxKind::Call(contract), U256::ZERO, Bytes::new(), 60_000))
            .unwrap();
        chain.submit(&transfer(&chain, 1, nonce, Address::with_last_byte(0x50 + nonce as u8), 7)).unwrap();
        seal(&chain);
    }
    seal_as(&twin, AUTHOR.create(1));
    let side = twin.block(1.into()).unwrap().unwrap();
    chain.import(side, 4_000_000_000).unwrap();
    drop(chain);
    (genesis, Arc::into_inner(kv).unwrap())
}

fn entries(kv: &dyn Kv, table: Table) -> Vec<Entry> {
    kv.scan(table, &[], 100_000).unwrap()
}

fn copy(kv: &dyn Kv) -> MemoryKv {
    let other = MemoryKv::default();
    let mut batch = Batch::default();
    for table in Table::ALL {
        for (key, value) in entries(kv, table) {
            batch.put(table, key, value);
        }
    }
    other.commit(batch).unwrap();
    other
}

fn checked(genesis: &Genesis, kv: &dyn Kv, deep: bool) -> CheckReport {
    check(kv, genesis, &NoSeal::default(), deep, &mut |_| ())
}

/// Tables whose records are wrong in themselves; a deep check finds them all. Records of the engine have no form here.
const CHECKED: [Table; 17] = [
    Table::Meta,
    Table::Headers,
    Table::Numbers,
    Table::Canon,
    Table::Bodies,
    Table::Senders,
    Table::Receipts,
    Table::Transactions,
    Table::Accounts,
    Table::Slots,
    Table::Code,
    Table::AccountTrie,
    Table::StorageTrie,
    Table::Changes,
    Table::AccountHistory,
    Table::SlotHistory,
    Table::LogIndex,
];
/// Tables whose damage a quick check finds.
const QUICK: [Table; 9] = [
    Table::Meta,
    Table::Headers,
    Table::Canon,
    Table::Bodies,
    Table::Receipts,
    Table::Transactions,
    Table::Changes,
    Table::AccountHistory,
    Table::LogIndex,
];

#[test]
fn a_sound_database_is_sound() {
    let (genesis, kv) = database();
    let quick = checked(&genesis, &kv, false);
    assert!(quick.is_sound(), "{:?}", quick.findings);
    assert_eq!((quick.blocks, quick.transactions, quick.accounts), (7, 11, 0));
    let mut steps = 0;
    let deep = check(&kv, &genesis, &NoSeal::default(), true, &mut |_| steps += 1);
    assert!(deep.is_sound(), "{:?}", deep.findings);
    assert!(deep.accounts > 15 && deep.slots >= 1 && deep.states == 6 && steps > 100, "{deep:?} {steps}");
}

#[test]
fn a_record_that_is_missing_is_found_in_every_table() {
    let (genesis, kv) = database();
    for table in CHECKED {
        let all = entries(&kv, table);
        assert!(!all.is_empty(), "{} has records", table.name());
        for (key, _) in all {
            let damaged = copy(&kv);
            let mut batch = Batch::default();
            batch.remove(table, key.clone());
            damaged.commit(batch).unwrap();
            let report = checked(&genesis, &damaged, true);
            // Beside the genesis file, which serves to explain differences.
            let optional = table == Table::Meta && key == b"genesis_file";
            assert_eq!(report.is_sound(), optional, "{} {key:?}", table.name());
            if QUICK.contains(&table) && !optional {
                let side = table == Table::Headers || table == Table::Bodies;
                // Without its first change set a database looks like one that forgot it.
                let first = table == Table::Changes && key == 1u64.to_be_bytes();
                assert!(
                    side || first || !checked(&genesis, &damaged, false).is_sound(),
                    "quick: {} {key:?}",
                    table.name()
                );
            }
        }
    }
}

#[test]
fn a_record_that_is_changed_is_found_in_every_table_and_named() {
    let (genesis, kv) = database();
    for table in CHECKED {
        for (key, value) in entries(&kv, table) {
            // An empty value has no bit to flip; a number is not the genesis file.
            if value.is_empty() || key == b"genesis_file" {
                continue;
            }
            for at in [0, value.len() / 2, value.len() - 1] {
                let damaged = copy(&kv);
                let mut changed = value.clone();
                changed[at] ^= 0x04;
                let mut batch = Batch::default();
                batch.put(table, key.clone(), changed);
                damaged.commit(batch).unwrap();
                let report = checked(&genesis, &damaged, true);
                // The configuration in the genesis record is not what blocks are checked against here.
                if report.is_sound() && table == Table::Meta && key == b"genesis" && at >= 32 {
                    continue;
                }
                let tables: Vec<_> = report.findings.iter().map(|finding| finding.table).collect();
                assert!(!tables.is_empty(), "{} {key:?} at {at}", table.name());
                let named = tables.contains(&table)
                    || matches!(table, Table::Meta | Table::Canon | Table::Changes | Table::Headers)
                    // What was before a change is noticed when the change is undone.
                    || matches!(table, Table::AccountHistory | Table::SlotHistory);
                assert!(named, "{} {key:?} at {at}: {:?}", table.name(), report.findings);
            }
        }
    }
}

#[test]
fn a_record_too_many_is_found() {
    let (genesis, kv) = database();
    for table in CHECKED {
        let Some((key, value)) = entries(&kv, table).pop() else { continue };
        let damaged = copy(&kv);
        let mut more = key.clone();
        let last = more.len() - 1;
        more[last] ^= 0x10;
        let mut batch = Batch::default();
        batch.put(table, more, value);
        damaged.commit(batch).unwrap();
        // Another name among the names, and another code, hurt nobody.
        let harmless = matches!(table, Table::Meta | Table::Code);
        let report = checked(&genesis, &damaged, true);
        assert_eq!(report.is_sound(), harmless, "{}: {:?}", table.name(), report.findings);
    }
}

#[test]
fn a_finding_says_what_to_do() {
    let (genesis, kv) = database();
    let remedy_of = |kv: &dyn Kv, genesis: &Genesis| checked(genesis, kv, true).findings[0].remedy;
    assert_eq!(remedy_of(&MemoryKv::default(), &genesis), Remedy::Other);
    let other = crate::dev::genesis(FeePolicy::Zero);
    assert_eq!(remedy_of(&kv, &other), Remedy::Other);
    let damaged = copy(&kv);
    let (key, _) = entries(&kv, Table::Bodies).pop().unwrap();
    let mut batch = Batch::default();
    batch.remove(Table::Bodies, key);
    damaged.commit(batch).unwrap();
    assert_eq!(remedy_of(&damaged, &genesis), Remedy::Refetch);
    let damaged = copy(&kv);
    let (key, _) = entries(&kv, Table::Transactions).pop().unwrap();
    let mut batch = Batch::default();
    batch.remove(Table::Transactions, key);
    damaged.commit(batch).unwrap();
    assert_eq!(remedy_of(&damaged, &genesis), Remedy::Rebuild);
    let report = checked(&genesis, &damaged, false);
    assert!(
        report.findings[0].to_string().contains("does not lead to transaction"),
        "{}",
        report.findings[0]
    );
}

#[test]
fn chains_of_others_are_sound_once_their_files_are_imported() {
    let clique = |name: &str| {
        let folder = vectors("clique-geth")?.join("chains").join(name);
        Some((folder.join("genesis.json"), unzstd(folder.join("chain.rlp.zst"))?))
    };
    let merged = || {
        let folder = vectors("chain-import")?.join("geth-ethtest");
        Some((folder.join("genesis.json"), std::fs::read(folder.join("chain.rlp")).unwrap()))
    };
    for (name, case) in [("forks", clique("forks")), ("frontier", clique("frontier")), ("merged", merged())] {
        let Some((genesis, file)) = case else { continue };
        let genesis = Genesis::from_json(&std::fs::read(genesis).unwrap()).unwrap();
        let engine: Arc<dyn Engine> = match genesis.file().config.clique {
            Some(_) => Arc::new(Clique::for_genesis(&genesis)),
            None => Arc::new(Ethash::for_genesis(&genesis)),
        };
        let kv = Arc::new(MemoryKv::default());
        let chain = Chain::open(genesis.clone(), kv.clone(), engine.clone()).unwrap();
        let done = chain.import_from(&file[..], 4_000_000_000, |_| ControlFlow::Continue(())).unwrap();
        let report = check(kv.as_ref(), &genesis, engine.as_ref(), true, &mut |_| ());
        assert!(report.is_sound(), "{name}: {:?}", report.findings);
        assert_eq!(report.blocks, done.number + 1, "{name}");
        assert!(report.states == done.number && report.slots > 0, "{name}: {report:?}");
    }
}
