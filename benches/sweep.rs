//! What a sweep costs, and what those pay who add blocks beside it.
//!
//! ```text
//! TMPDIR=/dev/shm cargo bench -p lightstreams-benches --bench sweep [-- BLOCKS]
//! ```
//!
//! A store holds `BLOCKS` dead blocks of 1 KiB (a million unless told otherwise) and a tenth as many that are pinned. One thread adds
//! blocks, one every 100 microseconds or so, each durable before the next: first alone, then beside a thread that hashes and never
//! touches the store, then beside the sweep. What the second takes longer than the first is the machine's doing.
//! CPU seconds are those of the process, less what the adding thread took alone per block. Linux only.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

mod support;

use std::{
    fs,
    hint::black_box,
    ops::ControlFlow::Continue,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use lightstreams_store::{
    Block, BlockStore, Cid, Codec, DAG_CBOR, FileDisk, FjallStore, Ipld, Pin, PinnedStore, SegmentStore,
};

use support::{bytes, cpu};

const LEN: usize = 1 << 10;
/// Between two adds.
const GAP: Duration = Duration::from_micros(100);
/// Blocks that are put at once while the store is filled.
const BATCH: u64 = 1000;

type Open = fn(&Path) -> Arc<dyn BlockStore>;

const BACKENDS: &[(&str, Open)] = &[
    ("segments", |path| Arc::new(SegmentStore::open(path).unwrap())),
    ("fjall", |path| Arc::new(FjallStore::open(path).unwrap())),
    #[cfg(feature = "rocksdb")]
    ("rocksdb", |path| Arc::new(lightstreams_store::RocksStore::open(path).unwrap())),
];

fn block(seed: u64) -> Block {
    Block::raw(bytes(seed, LEN))
}

/// Puts blocks, and a node that links to them.
fn fill(store: &dyn BlockStore, from: u64, count: u64) -> Vec<Cid> {
    let mut nodes = Vec::new();
    for first in (from..from + count).step_by(BATCH as usize) {
        let mut blocks: Vec<Block> = (first..(first + BATCH).min(from + count)).map(block).collect();
        let links = blocks.iter().map(|block| Ipld::Link(*block.cid())).collect();
        let node = Block::new(DAG_CBOR, Codec::DagCbor.encode(&Ipld::List(links)).unwrap());
        nodes.push(*node.cid());
        blocks.push(node);
        store.put_many(&blocks).unwrap();
    }
    nodes
}

/// Adds blocks until `done` says so; returns how long each took, in ascending order.
fn add(store: &PinnedStore<Arc<dyn BlockStore>>, first: u64, done: &dyn Fn() -> bool) -> Vec<Duration> {
    let hold = store.hold();
    let mut times = Vec::new();
    for seed in first.. {
        let block = block(seed);
        let clock = Instant::now();
        hold.put(&block).unwrap();
        times.push(clock.elapsed());
        // Who adds without a break would seldom meet what takes long.
        std::thread::sleep(GAP);
        if done() {
            break;
        }
    }
    times.sort();
    times
}

fn bytes_below(path: &Path) -> u64 {
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() { bytes_below(&entry.path()) } else { metadata.len() }
        })
        .sum()
}

fn measure(name: &str, open: Open, count: u64, alone: Duration) {
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(FileDisk::open(folder.path().join("pins")).unwrap());
    let store = PinnedStore::open(open(&folder.path().join("blocks")), disk).unwrap();
    // Dead and pinned blocks lie between one another, as they do in a store that was in use.
    let (mut dead, mut live) = (0, 0);
    for part in 0..10 {
        dead += count / 10 + fill(&store, 1 + part * count, count / 10).len() as u64;
        let pinned = fill(&store, 1 + part * count + count / 10, count / 100);
        live += count / 100 + pinned.len() as u64;
        store.pin_many(&pinned.iter().map(|cid| Pin::recursive(*cid, "live")).collect::<Vec<_>>()).unwrap();
    }
    let full = bytes_below(folder.path());

    let (clock, cpu_before) = (Instant::now(), cpu("self"));
    let before = add(&store, 1 << 30, &|| clock.elapsed() >= alone);
    let cpu_add = (cpu("self") - cpu_before) / before.len() as f64;
    let clock = Instant::now();
    let ended = AtomicBool::new(false);
    let busy = std::thread::scope(|scope| {
        scope.spawn(|| {
            (0..)
                .map(block)
                .take_while(|_| !ended.load(Ordering::Acquire))
                .for_each(|block| drop(black_box(block)))
        });
        let times = add(&store, 3 << 29, &|| clock.elapsed() >= alone);
        ended.store(true, Ordering::Release);
        times
    });
    // Nothing holds them any more.
    dead += (before.len() + busy.len()) as u64;

    let swept = AtomicBool::new(false);
    let cpu_before = cpu("self");
    let (beside, sweep, seconds) = std::thread::scope(|scope| {
        let adder = scope.spawn(|| add(&store, 1 << 31, &|| swept.load(Ordering::Acquire)));
        let clock = Instant::now();
        let sweep = store.sweep(&|| clock.elapsed(), &mut |_| Continue(())).unwrap();
        let seconds = clock.elapsed().as_secs_f64();
        swept.store(true, Ordering::Release);
        (adder.join().unwrap(), sweep, seconds)
    });
    let cpu_sweep = cpu("self") - cpu_before - cpu_add * beside.len() as f64;
    // What is added meanwhile makes it keep a few.
    assert!(sweep.marked == live && sweep.removed <= dead && sweep.removed * 1000 >= dead * 999, "{sweep:?}");

    let at =
        |times: &[Duration], part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e6;
    println!("{name}: {} dead and {live} pinned blocks", sweep.removed);
    println!("  sweep {seconds:.2} s, {cpu_sweep:.2} CPU-s, {:.0} blocks/s", dead as f64 / seconds);
    println!("  {} MiB before, {} MiB after", full >> 20, bytes_below(folder.path()) >> 20);
    for (when, times) in [("alone", &before), ("beside a hasher", &busy), ("beside the sweep", &beside)] {
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|part| at(times, part));
        let count = times.len();
        println!("  add {when:16} p50 {p50:7.0} us  p99 {p99:7.0} us  max {max:8.0} us  ({count} adds)");
    }
    let [p99_alone, p99_busy, p99] = [&before, &busy, &beside].map(|times| at(times, 0.99));
    println!(
        "  p99 of an add beside the sweep: {:.2} times that alone, {:.2} times that beside a hasher",
        p99 / p99_alone,
        p99 / p99_busy
    );
}

fn main() {
    // `cargo test` runs benches too, only to see that they work.
    let quick = !std::env::args().any(|argument| argument == "--bench");
    let told = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let count = if quick { 10_000 } else { told.unwrap_or(1_000_000) };
    let alone = Duration::from_millis(if quick { 50 } else { 5000 });
    for (name, open) in BACKENDS {
        measure(name, *open, count, alone);
    }
}
