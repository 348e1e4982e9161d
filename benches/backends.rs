//! What each backend of the store costs: CPU seconds and bytes written for what is stored, and random reads.
//!
//! ```text
//! TMPDIR=/dev/shm cargo bench -p lightstreams-benches --bench backends [--features rocksdb]
//! ```
//!
//! All backends store the same blocks in one run, by turns; each figure is the median of the rounds. The blocks were made and
//! hashed before: only the store is measured, with its threads, until it is closed. Bytes written are those handed to
//! the kernel (`wchar` of `/proc/self/io`), journals and background work included. Linux only.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

mod support;

use std::{collections::BTreeMap, fs, path::Path, time::Instant};

use lightstreams_store::{Block, BlockStore, FjallStore, FolderStore, SegmentStore};

use support::{bytes, cpu};

const ROUNDS: usize = 3;
/// Name, length of a block, number of blocks, blocks in a batch.
const LOADS: [(&str, usize, usize, usize); 3] = [
    ("leaves of 256 KiB, 32 in a batch", 4 * 65_552, 2048, 32),
    ("blocks of 1 KiB, 1000 in a batch", 1 << 10, 200_000, 1000),
    ("blocks of 1 KiB, 10 in a batch", 1 << 10, 50_000, 10),
];

type Open = fn(&Path) -> Box<dyn BlockStore>;

const BACKENDS: &[(&str, Open)] = &[
    ("segments", |path| Box::new(SegmentStore::open(path).unwrap())),
    ("fjall", |path| Box::new(FjallStore::open(path).unwrap())),
    ("folder", |path| Box::new(FolderStore::open(path).unwrap())),
    #[cfg(feature = "rocksdb")]
    ("rocksdb", |path| Box::new(lightstreams_store::RocksStore::open(path).unwrap())),
];

/// CPU seconds of the process and of all its threads, and bytes that it wrote.
fn used() -> (f64, u64) {
    let io = fs::read_to_string("/proc/self/io").unwrap();
    let wchar = io.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap();
    (cpu("self"), wchar.parse().unwrap())
}

/// CPU seconds per GiB put, wall seconds per GiB put, bytes written per byte, CPU seconds and wall seconds per GiB got, and
/// milliseconds to open it again.
type Row = [f64; 6];

fn measure(open: Open, blocks: &[Block], batch: usize) -> Row {
    let folder = tempfile::tempdir().unwrap();
    let total: usize = blocks.iter().map(Block::len).sum();
    let gib = total as f64 / (1u64 << 30) as f64;
    let ((cpu, written), clock) = (used(), Instant::now());
    let store = open(folder.path());
    blocks.chunks(batch).for_each(|batch| store.put_many(batch).unwrap());
    let put_seconds = clock.elapsed().as_secs_f64();
    drop(store);
    let (cpu_put, written_put) = used();

    let clock = Instant::now();
    let store = open(folder.path());
    let opened = clock.elapsed().as_secs_f64() * 1000.0;
    let ((cpu_get, _), clock) = (used(), Instant::now());
    // A step that has no factor in common with the number of blocks visits all of them.
    for i in 0..blocks.len() {
        let block = &blocks[i * 7919 % blocks.len()];
        assert_eq!(store.get(block.cid()).unwrap().unwrap().len(), block.len());
    }
    let (get_seconds, (cpu_got, _)) = (clock.elapsed().as_secs_f64(), used());
    [
        (cpu_put - cpu) / gib,
        put_seconds / gib,
        (written_put - written) as f64 / total as f64,
        (cpu_got - cpu_get) / gib,
        get_seconds / gib,
        opened,
    ]
}

fn main() {
    // `cargo test` runs benches too, only to see that they work.
    let quick = !std::env::args().any(|argument| argument == "--bench");
    for (name, len, count, batch) in LOADS {
        let (count, rounds) = if quick { (100, 1) } else { (count, ROUNDS) };
        let blocks: Vec<Block> = (0..count).map(|i| Block::raw(bytes(i as u64 + 1, len))).collect();
        let mut rows: BTreeMap<&str, Vec<Row>> = BTreeMap::new();
        for _ in 0..rounds {
            for (backend, open) in BACKENDS {
                rows.entry(backend).or_default().push(measure(*open, &blocks, batch));
            }
        }
        println!("{name}, {count} blocks");
        println!("  backend   put CPU-s/GiB  s/GiB  written/byte  get CPU-s/GiB  s/GiB  open ms");
        let median = |rows: &[Row], column: usize| {
            let mut values: Vec<f64> = rows.iter().map(|row| row[column]).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        for (backend, _) in BACKENDS {
            let [put, put_wall, written, get, get_wall, open] =
                std::array::from_fn(|column| median(&rows[backend], column));
            println!(
                "  {backend:9} {put:13.2} {put_wall:6.2} {written:13.3} {get:14.2} {get_wall:6.2} {open:8.1}"
            );
        }
        for (backend, _) in &BACKENDS[1..] {
            let ratio = |column| median(&rows[backend], column) / median(&rows["segments"], column);
            println!(
                "  {backend} / segments: put {:.1} times the CPU, {:.1} times the bytes; get {:.1} times the CPU",
                ratio(0),
                ratio(2),
                ratio(3)
            );
        }
    }
}
