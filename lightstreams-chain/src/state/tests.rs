//! The state against alloy's root builder, which knows nothing of updates, and against its own past.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeMap;

use alloy_primitives::{B256, U256, keccak256};
use alloy_trie::{EMPTY_ROOT_HASH, KECCAK_EMPTY, Nibbles, TrieAccount};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

use super::{
    Hot, Staged, StateChanges,
    trie::{NodeSource, NodeWrite, Trie},
    writer::{AccountChange, AccountFields, ChangeLog, unwind, write},
};
use crate::{Batch, Entry, Kv, KvError, MemoryKv, Table};

/// Accounts with their slots, as a plain model.
type Model = BTreeMap<B256, (u64, BTreeMap<B256, U256>)>;

fn key(n: u32) -> B256 {
    keccak256(n.to_be_bytes())
}

fn root_of(model: &Model) -> B256 {
    let mut builder = alloy_trie::HashBuilder::default();
    for (address, (balance, slots)) in model {
        let mut storage = alloy_trie::HashBuilder::default();
        for (slot, value) in slots {
            storage.add_leaf(Nibbles::unpack(slot), &alloy_rlp::encode(value));
        }
        let account = TrieAccount::new(1, U256::from(*balance), storage.root(), KECCAK_EMPTY);
        builder.add_leaf(Nibbles::unpack(address), &alloy_rlp::encode(account));
    }
    builder.root()
}

/// Changes a few things in `model` and says what.
fn step(model: &mut Model, rng: &mut StdRng, accounts: u32, slots: u32) -> StateChanges {
    let mut changes = StateChanges::new();
    for _ in 0..rng.random_range(0..8) {
        let address = key(rng.random_range(0..accounts));
        let change = changes.entry(address).or_default();
        match rng.random_range(0..10) {
            0 if change.slots.is_empty() => {
                change.info = Some(None);
                change.wipe = true;
                model.remove(&address);
            }
            // Made anew in the same block: nothing of its storage is left.
            1 if change.slots.is_empty() => {
                change.wipe = true;
                let balance = rng.random();
                change.info = Some(Some(fields(balance)));
                model.insert(address, (balance, BTreeMap::new()));
            }
            _ => {
                let balance = rng.random();
                change.info = Some(Some(fields(balance)));
                let account = model.entry(address).or_default();
                account.0 = balance;
                for _ in 0..rng.random_range(0..6) {
                    let slot = key(rng.random_range(0..slots));
                    let value = if rng.random_bool(0.4) { U256::ZERO } else { U256::from(rng.next_u64()) };
                    change.slots.insert(slot, value);
                    account.1.insert(slot, value);
                    account.1.retain(|_, value| !value.is_zero());
                }
            }
        }
    }
    changes
}

fn fields(balance: u64) -> AccountFields {
    AccountFields { nonce: 1, balance: U256::from(balance), code_hash: KECCAK_EMPTY }
}

fn dump(kv: &dyn Kv) -> Vec<(Table, Vec<Entry>)> {
    let tables = [
        Table::Accounts,
        Table::Slots,
        Table::AccountTrie,
        Table::StorageTrie,
        Table::Changes,
        Table::AccountHistory,
        Table::SlotHistory,
    ];
    tables.map(|table| (table, kv.scan(table, &[], usize::MAX).unwrap())).to_vec()
}

/// The state of `model`, written in one go.
fn built(model: &Model) -> MemoryKv {
    let kv = MemoryKv::default();
    let staged = Staged::new(&kv);
    let changes = model.iter().map(|(address, (balance, slots))| {
        let info = Some(Some(fields(*balance)));
        (*address, AccountChange { info, wipe: false, slots: slots.clone() })
    });
    write(&staged, changes.collect(), EMPTY_ROOT_HASH, None).unwrap();
    kv.commit(staged.into_batch()).unwrap();
    kv
}

fn nodes(kv: &dyn Kv) -> [Vec<Entry>; 4] {
    [Table::Accounts, Table::Slots, Table::AccountTrie, Table::StorageTrie]
        .map(|table| kv.scan(table, &[], usize::MAX).unwrap())
}

/// A trie keeps few nodes in memory, and knows the same.
#[test]
fn a_trie_that_sheds_its_nodes_reads_them_again() {
    let mut rng = StdRng::seed_from_u64(3);
    let (mut kept, mut shed) = (Trie::new(EMPTY_ROOT_HASH), Trie::new(EMPTY_ROOT_HASH));
    let mut stored = Stored::default();
    for _ in 0..200 {
        for _ in 0..rng.random_range(1..20) {
            let key = key(rng.random_range(0..400));
            if rng.random_bool(0.4) {
                kept.remove(&stored, key).unwrap();
                shed.remove(&stored, key).unwrap();
            } else {
                // Short values lie inside their parents.
                let value = vec![rng.random::<u8>() | 1; rng.random_range(1..40)];
                kept.insert(&stored, key, value.clone()).unwrap();
                shed.insert(&stored, key, value).unwrap();
            }
        }
        let writes = shed.commit();
        kept.commit();
        assert_eq!(kept.root(), shed.root());
        stored.take(writes);
        let max = rng.random_range(0..60);
        shed.shed(max);
        assert!(shed.open_nodes() <= max.max(1));
    }
}

#[derive(Default)]
struct Stored(BTreeMap<Nibbles, Vec<u8>>);

impl Stored {
    fn take(&mut self, writes: Vec<NodeWrite>) {
        for (path, node) in writes {
            match node {
                Some(node) => self.0.insert(path, node),
                None => self.0.remove(&path),
            };
        }
    }
}

impl NodeSource for Stored {
    const TABLE: Table = Table::AccountTrie;

    fn node(&self, path: &Nibbles) -> Result<Option<Vec<u8>>, KvError> {
        Ok(self.0.get(path).cloned())
    }
}

#[test]
fn random_updates_give_the_roots_of_a_fresh_build_and_unwind_to_every_former_state() {
    for seed in 0..40 {
        let mut rng = StdRng::seed_from_u64(seed);
        let (accounts, slots) = (rng.random_range(1..60), rng.random_range(1..40));
        let kv = MemoryKv::default();
        let mut model = Model::new();
        let mut root = EMPTY_ROOT_HASH;
        let mut past = Vec::new();
        // Now and then a chain begins without what it knew, as after a block that was refused.
        let mut hot = Hot::default();
        let on = |hot: Hot, rng: &mut StdRng| {
            Staged::resume(&kv, Batch::default(), if rng.random_bool(0.2) { Hot::default() } else { hot })
        };
        for number in 1..=25 {
            past.push((root, dump(&kv)));
            let staged = on(hot, &mut rng);
            let mut log = ChangeLog::default();
            // Several writes in a block, as before Byzantium.
            for _ in 0..rng.random_range(1..3) {
                let changes = step(&mut model, &mut rng, accounts, slots);
                root = write(&staged, changes, root, Some(&mut log)).unwrap();
                assert_eq!(root, root_of(&model), "seed {seed}, block {number}");
            }
            log.stage(&staged, number);
            let (batch, known) = staged.into_parts();
            kv.commit(batch).unwrap();
            hot = known;
            assert_eq!(nodes(&kv), nodes(&built(&model)), "seed {seed}, block {number}");
        }
        for number in (1..=25u64).rev() {
            // What a reorg does: several blocks back in one batch.
            let staged = Staged::new(&kv);
            let deep = (number.saturating_sub(10).max(1)..=number)
                .rev()
                .fold(root, |root, number| unwind(&staged, number, root).unwrap());
            assert_eq!(
                deep,
                past[number.saturating_sub(10).max(1) as usize - 1].0,
                "seed {seed}, block {number}"
            );

            let staged = on(hot, &mut rng);
            root = unwind(&staged, number, root).unwrap();
            let (batch, known) = staged.into_parts();
            kv.commit(batch).unwrap();
            hot = known;
            let (before, tables) = &past[number as usize - 1];
            assert_eq!(root, *before, "seed {seed}, block {number}");
            assert_eq!(dump(&kv), *tables, "seed {seed}, block {number}: nothing is left of the block");
        }
        assert!(dump(&kv).iter().all(|(_, entries)| entries.is_empty()), "seed {seed}: no node is left over");
    }
}

#[test]
fn secure_tries_of_the_ethereum_tests_have_their_roots() {
    let root = std::env::var_os("LIGHTSTREAMS_VECTORS").map_or_else(
        || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors"),
        Into::into,
    );
    let folder = root.join("ethereum-tests/trie");
    if !folder.is_dir() {
        println!("skipped: there are no vectors in {}", folder.display());
        return;
    }
    let bytes = |text: &str| -> Vec<u8> {
        if text.starts_with("0x") {
            text.parse::<alloy_primitives::Bytes>().unwrap().to_vec()
        } else {
            text.as_bytes().to_vec()
        }
    };
    let mut count = 0;
    for file in
        ["hex_encoded_securetrie_test.json", "trieanyorder_secureTrie.json", "trietest_secureTrie.json"]
    {
        let text = std::fs::read(folder.join(file)).unwrap();
        let cases: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&text).unwrap();
        for (name, case) in cases {
            let entries: Vec<(String, Option<String>)> = match &case["in"] {
                serde_json::Value::Object(map) => {
                    map.iter().map(|(k, v)| (k.clone(), v.as_str().map(Into::into))).collect()
                }
                list => list
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|pair| (pair[0].as_str().unwrap().into(), pair[1].as_str().map(Into::into)))
                    .collect(),
            };
            let mut trie = Trie::new(EMPTY_ROOT_HASH);
            for (key, value) in entries {
                let key = keccak256(bytes(&key));
                match value {
                    Some(value) => trie.insert(&Stored::default(), key, bytes(&value)).unwrap(),
                    None => trie.remove(&Stored::default(), key).unwrap(),
                }
            }
            let root: B256 = case["root"].as_str().unwrap().parse().unwrap();
            trie.commit();
            assert_eq!(trie.root(), root, "{file}: {name}");
            count += 1;
        }
    }
    assert!(count >= 6, "only {count} cases");
}

#[test]
fn a_damaged_node_is_an_error_and_no_wrong_root() {
    let kv = MemoryKv::default();
    let staged = Staged::new(&kv);
    let mut changes = StateChanges::new();
    for n in 0..50 {
        changes.entry(key(n)).or_default().info = Some(Some(fields(u64::from(n))));
    }
    let root = write(&staged, changes, EMPTY_ROOT_HASH, None).unwrap();
    kv.commit(staged.into_batch()).unwrap();
    let touch = || {
        let mut changes = StateChanges::new();
        changes.entry(key(1)).or_default().info = Some(Some(fields(7)));
        write(&Staged::new(&kv), changes, root, None)
    };
    touch().unwrap();
    let nodes = kv.scan(Table::AccountTrie, &[], 1).unwrap();
    for damage in [None, Some(vec![]), Some(vec![0xc0]), Some(vec![0xff; 40])] {
        let mut batch = Batch::default();
        match damage {
            Some(bytes) => batch.put(Table::AccountTrie, nodes[0].0.clone(), bytes),
            None => batch.remove(Table::AccountTrie, nodes[0].0.clone()),
        }
        kv.commit(batch).unwrap();
        assert!(touch().is_err());
    }
}

#[cfg(feature = "parallel")]
#[test]
fn all_cores_find_the_root_and_the_writes_that_one_does() {
    // Keys that part late, so that a short value makes a short leaf, which lies in its parent.
    let key = |n: u32| {
        let mut key = B256::ZERO;
        key[0] = (n as u8) << 4;
        key[30..].copy_from_slice(&(n as u16).to_be_bytes());
        key
    };
    let run = || {
        let mut stored = Stored::default();
        let mut root = EMPTY_ROOT_HASH;
        let round = |round: u8| {
            // The nodes of the round before are read again, so that some go that were stored.
            let mut trie = Trie::new(root);
            for n in 0..4_000 {
                match (n + 3 * u32::from(round)) % 4 {
                    0 => trie.remove(&stored, key(n)).unwrap(),
                    1 => trie.insert(&stored, key(n), vec![1]).unwrap(),
                    _ => trie.insert(&stored, key(n), vec![round; 40]).unwrap(),
                }
            }
            let mut writes = trie.commit();
            writes.sort();
            stored.take(writes.clone());
            root = trie.root();
            (root, writes)
        };
        (0..4).map(round).collect::<Vec<_>>()
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
    assert_eq!(run(), pool.install(run));
}
