//! Writers, readers and sweeps beside each other.

use std::{
    collections::VecDeque,
    ops::ControlFlow::Continue,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use lightstreams_store::{
    Block, BlockStore, Cid, MemoryStore, Pin, PinnedStore, SegmentOptions, SegmentStore, StoreError,
    testing::{FaultyDisk, Seeded, check_block_store, check_racing_block_store},
};

use super::{leaf, node, pinned, sweep};

#[test]
fn with_pins_and_through_a_hold_a_store_is_a_store() {
    check_block_store(&pinned(MemoryStore::default()));
    let store = pinned(MemoryStore::default());
    check_block_store(&store.hold());
    // Sweeps take nothing of what goes through it.
    check_racing_block_store(&store.hold(), |_| {
        sweep(&store);
    });
}

/// A store in which a removal takes its time, so that others meet it.
struct Slow<S>(S);

impl<S: BlockStore> BlockStore for Slow<S> {
    fn get(&self, cid: &Cid) -> Result<Option<Block>, StoreError> {
        self.0.get(cid)
    }
    fn size(&self, cid: &Cid) -> Result<Option<u64>, StoreError> {
        let size = self.0.size(cid);
        std::thread::yield_now();
        size
    }
    fn put_many(&self, blocks: &[Block]) -> Result<(), StoreError> {
        std::thread::yield_now();
        self.0.put_many(blocks)
    }
    fn remove_many(&self, cids: &[Cid]) -> Result<(), StoreError> {
        let (first, second) = cids.split_at(cids.len() / 2);
        self.0.remove_many(first)?;
        std::thread::sleep(Duration::from_micros(300));
        self.0.remove_many(second)
    }
    fn cids(&self, after: Option<&Cid>, limit: usize) -> Result<Vec<Cid>, StoreError> {
        // Small pages let others in between.
        self.0.cids(after, limit.min(20))
    }
}

/// A tree that shares its leaves and the nodes above them with the trees of others.
fn tree(seeded: &mut Seeded) -> (Block, Vec<Block>) {
    let (mut below, mut links) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let kind = seeded.below(30);
        let leaves: Vec<Block> = (0..4).map(|i| leaf(kind + 7 * i)).collect();
        let middle = node(kind, &leaves.iter().map(|leaf| *leaf.cid()).collect::<Vec<_>>());
        links.push(*middle.cid());
        below.extend(leaves);
        below.push(middle);
    }
    (node(1000 + seeded.below(20), &links), below)
}

#[track_caller]
fn whole(store: &dyn BlockStore, root: &Block, below: &[Block]) {
    for block in below.iter().chain([root]) {
        assert_eq!(store.get(block.cid()).unwrap().as_ref(), Some(block), "it is pinned");
    }
}

/// A writer; when the last one is gone, also by a panic, those beside them end.
struct Running<'a>(&'a AtomicU64, &'a AtomicBool);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if self.0.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.1.store(true, Ordering::Release);
        }
    }
}

/// Sweeps that writers see before they end, and blocks that these remove.
const SWEEPS_MIN: u64 = 6;
const REMOVED_MIN: u64 = 51;
/// Trees of one writer, whatever the sweeps do.
const ROUNDS_MAX: u64 = 50_000;

/// Each writer pins and unpins trees, at least `rounds` and until the sweeps had something to do.
fn stress<S: BlockStore>(store: &PinnedStore<S>, rounds: u64) {
    let (running, done) = (AtomicU64::new(4), AtomicBool::new(false));
    let (sweeps, removed, pins) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let swept =
        || sweeps.load(Ordering::Relaxed) >= SWEEPS_MIN && removed.load(Ordering::Relaxed) >= REMOVED_MIN;
    std::thread::scope(|scope| {
        for writer in 0..4u64 {
            let (running, done, pins, swept) = (&running, &done, &pins, &swept);
            scope.spawn(move || {
                let _running = Running(running, done);
                let mut seeded = Seeded::new(writer);
                let mut mine: VecDeque<(Pin, Block, Vec<Block>)> = VecDeque::new();
                for round in (0..ROUNDS_MAX).take_while(|round| *round < rounds || !swept()) {
                    pins.fetch_add(1, Ordering::Relaxed);
                    let (root, below) = tree(&mut seeded);
                    let pin = Pin::recursive(*root.cid(), format!("{writer} {round}"));
                    let hold = store.hold();
                    // As an import does it: what is here is not put again.
                    for block in below.iter().chain([&root]) {
                        if !hold.has(block.cid()).unwrap() {
                            hold.put(block).unwrap();
                        }
                    }
                    whole(&hold, &root, &below);
                    if seeded.below(4) == 0 {
                        drop(hold);
                        // Without a hold the tree may be gone, and the pin says so; if it is set, all is here.
                        if store.pin(&pin).is_err() {
                            continue;
                        }
                    } else {
                        store.pin(&pin).unwrap();
                        drop(hold);
                    }
                    whole(store, &root, &below);
                    mine.push_back((pin, root, below));
                    let some = seeded.below(mine.len() as u64) as usize;
                    whole(store, &mine[some].1, &mine[some].2);
                    if mine.len() > 3 {
                        let (pin, ..) = mine.pop_front().unwrap();
                        assert!(store.unpin(&pin).unwrap());
                    }
                }
                mine.iter().for_each(|(_, root, below)| whole(store, root, below));
            });
        }
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                removed.fetch_add(sweep(store).removed, Ordering::Relaxed);
                sweeps.fetch_add(1, Ordering::Relaxed);
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                let found = store.verify(&mut |_| Continue(())).unwrap();
                assert_eq!(found.damaged, 0, "{found:?}");
            }
        });
    });
    println!("{sweeps:?} sweeps removed {removed:?} blocks beside {pins:?} pins");
    assert!(swept(), "the sweeps came to nothing");
    let pins = store.pins(None, 1000);
    store.unpin_many(&pins).unwrap();
    sweep(store);
    assert_eq!(store.cids(None, 1).unwrap(), []);
}

#[test]
fn nothing_pinned_is_swept_whoever_races() {
    stress(&pinned(Slow(MemoryStore::default())), 80);
    let disk = Arc::new(FaultyDisk::new(1));
    let options = SegmentOptions::default().with_segment_bytes(64 << 10);
    let segments = SegmentStore::open_on(disk.clone(), options).unwrap();
    stress(&PinnedStore::open(Slow(segments), disk).unwrap(), 20);
}
