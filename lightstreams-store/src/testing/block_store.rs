//! What every store of blocks must do.

use std::collections::BTreeMap;

use super::Seeded;
use crate::{Block, BlockError, BlockStore, Cid, DAG_CBOR, DAG_PB, MAX_BLOCK_LEN, StoreOp};

/// Holds an empty `store` to the contract of [`BlockStore`]; panics where it breaks it.
///
/// A store that keeps blocks on disk passes [`check_reopened_block_store`] as well.
pub fn check_block_store(store: &dyn BlockStore) {
    assert_eq!(store.cids(None, 1).unwrap(), [], "check_block_store needs an empty store");
    blocks_come_back(store);
    versions_and_codecs_meet(store);
    long_blocks_are_refused(store);
    putting_and_removing_is_idempotent(store);
    listing_is_ordered_and_complete(store);
    calls_may_race(store);
}

fn blocks_come_back(store: &dyn BlockStore) {
    let mut seeded = Seeded::new(1);
    let absent = seeded.block(10);
    assert_eq!(store.get(absent.cid()).unwrap(), None);
    assert_eq!(store.get_unhashed(absent.cid()).unwrap(), None);
    assert_eq!(store.size(absent.cid()).unwrap(), None);
    assert!(!store.has(absent.cid()).unwrap());

    store.put_many(&[]).unwrap();
    let lengths = [0, 1, 100, 4095, 4096, 4097, 65_552, 262_208, 983_280, MAX_BLOCK_LEN];
    let blocks: Vec<Block> = lengths.iter().map(|len| seeded.block(*len)).collect();
    store.put_many(&blocks).unwrap();
    for block in &blocks {
        assert_eq!(store.get(block.cid()).unwrap().as_ref(), Some(block), "{} bytes", block.len());
        assert_eq!(
            store.get_unhashed(block.cid()).unwrap().as_ref(),
            Some(block.data()),
            "{} bytes",
            block.len()
        );
        assert_eq!(store.size(block.cid()).unwrap(), Some(block.len() as u64));
        assert!(store.has(block.cid()).unwrap());
    }
    remove_all(store);
}

fn versions_and_codecs_meet(store: &dyn BlockStore) {
    let v1 = Block::new(DAG_PB, Seeded::new(2).bytes(5000));
    store.put(&v1).unwrap();
    let v0 = Cid::new_v0(*v1.cid().hash()).unwrap();
    let cbor = Cid::new_v1(DAG_CBOR, *v1.cid().hash());
    for name in [v0, cbor, *v1.cid()] {
        let found = store.get(&name).unwrap().expect("one multihash, one block");
        assert_eq!(found.cid(), &name, "a block carries the CID that was asked for");
        assert_eq!(found.data(), v1.data());
        assert_eq!(store.size(&name).unwrap(), Some(5000));
    }
    assert_eq!(store.cids(None, 10).unwrap().len(), 1);
    store.remove_many(&[v0]).unwrap();
    assert_eq!(store.get(v1.cid()).unwrap(), None);
}

fn long_blocks_are_refused(store: &dyn BlockStore) {
    let mut seeded = Seeded::new(3);
    let long = seeded.block(MAX_BLOCK_LEN + 1);
    let good = seeded.block(100);
    let error = store.put_many(&[good.clone(), long.clone()]).expect_err("one byte above the limit");
    assert_eq!((error.op, error.cid.as_deref()), (StoreOp::Put, Some(long.cid())));
    let source = error.source.downcast_ref::<BlockError>();
    assert_eq!(source, Some(&BlockError::TooLong { len: MAX_BLOCK_LEN + 1 }));
    assert_eq!(store.get(long.cid()).unwrap(), None);
    assert_eq!(store.get(good.cid()).unwrap(), None, "all of a batch or nothing");
}

fn putting_and_removing_is_idempotent(store: &dyn BlockStore) {
    let mut seeded = Seeded::new(4);
    let (a, b) = (seeded.block(20_000), seeded.block(30));
    store.put_many(&[a.clone(), b.clone(), a.clone()]).unwrap();
    store.put(&a).unwrap();
    assert_eq!(store.cids(None, 10).unwrap().len(), 2);
    assert_eq!(store.get(a.cid()).unwrap().as_ref(), Some(&a));
    store.remove_many(&[*a.cid(), *a.cid()]).unwrap();
    store.remove_many(&[*a.cid()]).unwrap();
    store.remove_many(&[]).unwrap();
    assert_eq!(store.get(a.cid()).unwrap(), None);
    assert_eq!(store.size(a.cid()).unwrap(), None);
    assert_eq!(store.get(b.cid()).unwrap().as_ref(), Some(&b));
    store.put(&a).unwrap();
    assert_eq!(store.get(a.cid()).unwrap().as_ref(), Some(&a), "what was removed may come back");
    remove_all(store);
}

fn listing_is_ordered_and_complete(store: &dyn BlockStore) {
    let mut seeded = Seeded::new(5);
    let blocks: Vec<Block> = (0..100).map(|_| seeded.block(40)).collect();
    store.put_many(&blocks).unwrap();
    let mut expected: Vec<Vec<u8>> = blocks.iter().map(|block| block.cid().hash().to_bytes()).collect();
    expected.sort();
    for page in [1, 7, 100, 1000] {
        let (mut listed, mut after) = (Vec::new(), None);
        loop {
            let cids = store.cids(after.as_ref(), page).unwrap();
            assert!(cids.len() <= page);
            let Some(last) = cids.last() else { break };
            after = Some(*last);
            listed.extend(cids.iter().map(|cid| cid.hash().to_bytes()));
        }
        assert_eq!(listed, expected, "pages of {page}");
    }
    assert_eq!(store.cids(None, 0).unwrap(), []);
    // A block that is gone still marks its place.
    let all = store.cids(None, 100).unwrap();
    store.remove_many(&[all[50]]).unwrap();
    assert_eq!(store.cids(Some(&all[50]), 1).unwrap(), [all[51]]);
    // So does the same block under another CID.
    let other = Cid::new_v1(DAG_CBOR, *all[70].hash());
    assert_eq!(store.cids(Some(&other), 1).unwrap(), [all[71]]);
    remove_all(store);
}

fn calls_may_race(store: &dyn BlockStore) {
    let mut seeded = Seeded::new(6);
    let blocks: Vec<Block> = (0..24).map(|_| seeded.block(50_000)).collect();
    std::thread::scope(|scope| {
        for writer in 0..2 {
            let blocks = &blocks;
            scope.spawn(move || {
                for round in 0..4 {
                    for part in blocks.chunks(6) {
                        store.put_many(part).unwrap();
                        if (round + writer) % 2 == 0 {
                            store.remove_many(&[*part[0].cid()]).unwrap();
                        }
                    }
                }
                store.put_many(blocks).unwrap();
            });
        }
        for _ in 0..2 {
            let blocks = &blocks;
            scope.spawn(move || {
                for block in blocks.iter().cycle().take(400) {
                    if let Some(found) = store.get(block.cid()).unwrap() {
                        assert_eq!(&found, block, "all of a block or none");
                    }
                }
            });
        }
    });
    // Each writer ends with all blocks in place, and the other may have removed some after that; once more settles it.
    store.put_many(&blocks).unwrap();
    for block in &blocks {
        assert_eq!(store.get(block.cid()).unwrap().as_ref(), Some(block));
    }
    remove_all(store);
}

fn remove_all(store: &dyn BlockStore) {
    loop {
        let cids = store.cids(None, 64).unwrap();
        if cids.is_empty() {
            break;
        }
        store.remove_many(&cids).unwrap();
    }
}

/// Holds a store that `open` opens, each time the same one, to keeping over a reopening what it accepted; the store is
/// empty at first.
pub fn check_reopened_block_store<S: BlockStore>(mut open: impl FnMut() -> S) {
    let mut seeded = Seeded::new(7);
    let mut held: BTreeMap<Vec<u8>, Block> = BTreeMap::new();
    for round in 0..6 {
        let store = open();
        assert_eq!(store.cids(None, 1000).unwrap().len(), held.len(), "opened for the {round}th time");
        for block in held.values() {
            assert_eq!(store.get(block.cid()).unwrap().as_ref(), Some(block));
        }
        if let Some((key, block)) = held.pop_first() {
            store.remove_many(&[*block.cid()]).unwrap();
            assert!(!held.contains_key(&key));
        }
        let new: Vec<Block> = [10, 4096, 262_208, 1 << 20].map(|len| seeded.block(len)).into();
        store.put_many(&new).unwrap();
        held.extend(new.into_iter().map(|block| (block.cid().hash().to_bytes(), block)));
    }
}
