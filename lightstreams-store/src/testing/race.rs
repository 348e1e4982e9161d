//! Many at one store.

use std::sync::{
    Barrier,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use super::Seeded;
use crate::{Block, BlockStore};

/// Writers, and readers beside them.
const WRITERS: u64 = 4;
const READERS: u64 = 2;
/// Batches of each writer.
const ROUNDS: u64 = 40;

/// Holds an empty `store` to its contract while several threads write, remove, read and list, and `beside` runs over and over
/// (a compaction, say); panics where it breaks it.
///
/// A block whose `put_many` returned is read by everybody until its removal begins; one whose `remove_many` returned is
/// read by nobody until it is put again; what is read is right; and a listing shows all that is held throughout.
pub fn check_racing_block_store<S: BlockStore>(store: &S, beside: impl Fn(&S) + Sync) {
    let kept: Vec<Block> = (0..30).map(|i| Seeded::new(900 + i).block(700)).collect();
    store.put_many(&kept).unwrap();
    let (running, done) = (AtomicU64::new(WRITERS), AtomicBool::new(false));
    // All begin at once, and whoever reads does so at least once: a quick store is done with the writing in no time.
    let start = Barrier::new((WRITERS + READERS + 1) as usize);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (running, done, start) = (&running, &done, &start);
            scope.spawn(move || {
                start.wait();
                write(store, writer);
                if running.fetch_sub(1, Ordering::AcqRel) == 1 {
                    done.store(true, Ordering::Release);
                }
            });
        }
        for reader in 0..READERS {
            let (kept, done, start) = (&kept, &done, &start);
            scope.spawn(move || {
                let mut seeded = Seeded::new(reader);
                start.wait();
                loop {
                    let last_time = done.load(Ordering::Acquire);
                    let block = &kept[seeded.below(30) as usize];
                    assert_eq!(store.get(block.cid()).unwrap().as_ref(), Some(block), "it was never removed");
                    let other = &batch(seeded.below(WRITERS), seeded.below(ROUNDS))[0];
                    let found = store.get(other.cid()).unwrap();
                    assert!(found.is_none_or(|found| found == *other), "all of a block or none");
                    if last_time {
                        break;
                    }
                }
            });
        }
        scope.spawn(|| {
            start.wait();
            loop {
                let last_time = done.load(Ordering::Acquire);
                let (mut seen, mut after) = (0, None);
                loop {
                    let page = store.cids(after.as_ref(), 17).unwrap();
                    seen += page.iter().filter(|cid| kept.iter().any(|block| block.cid() == *cid)).count();
                    let Some(last) = page.last() else { break };
                    after = Some(*last);
                }
                assert_eq!(seen, kept.len(), "a listing shows what is held throughout, once");
                beside(store);
                if last_time {
                    break;
                }
            }
        });
    });
    store.remove_many(&kept.iter().map(|block| *block.cid()).collect::<Vec<_>>()).unwrap();
    for writer in 0..WRITERS {
        for round in 0..ROUNDS {
            for (i, block) in batch(writer, round).iter().enumerate() {
                assert_eq!(
                    store.has(block.cid()).unwrap(),
                    stays(round, i),
                    "writer {writer}, round {round}, {i}"
                );
                store.remove_many(&[*block.cid()]).unwrap();
            }
        }
    }
    beside(store);
    assert_eq!(store.cids(None, 1).unwrap(), []);
}

fn stays(round: u64, i: usize) -> bool {
    (round + i as u64).is_multiple_of(3)
}

fn batch(writer: u64, round: u64) -> Vec<Block> {
    let mut seeded = Seeded::new(1000 * (writer + 1) + round);
    (0..4)
        .map(|_| {
            let len = [0, 300, 5000, 40_000][seeded.below(4) as usize];
            let mut bytes = seeded.bytes(len);
            // The same bytes twice would be one block of two owners.
            bytes.extend_from_slice(&seeded.next_u64().to_le_bytes());
            Block::raw(bytes)
        })
        .collect()
}

fn write(store: &dyn BlockStore, writer: u64) {
    for round in 0..ROUNDS {
        let blocks = batch(writer, round);
        store.put_many(&blocks).unwrap();
        for block in &blocks {
            assert_eq!(store.get(block.cid()).unwrap().as_ref(), Some(block), "it was acknowledged");
        }
        let gone: Vec<_> = blocks
            .iter()
            .enumerate()
            .filter(|(i, _)| !stays(round, *i))
            .map(|(_, block)| *block.cid())
            .collect();
        store.remove_many(&gone).unwrap();
        for cid in &gone {
            assert_eq!(store.get(cid).unwrap(), None, "its removal was acknowledged");
        }
        if round % 4 == 3 {
            // What was removed may come back, and go again.
            store.put_many(&blocks).unwrap();
            store.remove_many(&gone).unwrap();
        }
    }
}
