//! What adding costs: a large file, many small ones, a tree in which much occurs twice; plain, and encrypted on the way.
//!
//! ```text
//! cargo bench -p lightstreams-benches --bench add [--features ring|openssl] [-- FOLDER]
//! ```
//!
//! Input and store lie in `FOLDER`, best one in memory (`/dev/shm`); nothing else is touched there, and 3 GiB must be free. Every add is
//! a process of its own into a new `SegmentStore`; the rounds interleave them, and each figure is the median. CPU seconds are those of
//! the whole process, memory is how far its peak lies above what it had before. First comes what bounds all of it on this machine: hashing
//! alone, with one thread and with all. Last, a read somewhere in an encrypted file of 10 GiB. Linux only.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

mod support;

use std::{
    cell::Cell,
    collections::HashMap,
    fs::{self, File},
    io::{self, Read, Write},
    num::NonZeroUsize,
    path::Path,
    process::Command,
    thread::{self, available_parallelism},
    time::Instant,
};

use lightstreams_crypto::{CHUNK, FileKey, PayloadEncryptor, PayloadKey, PayloadNonce, TAG};
use lightstreams_store::{
    Block, BlockSource, BlockStore, Bytes, Cid, EnvelopeChunker, FileBuilder, ImportOptions, Input,
    PayloadReader, PayloadShape, RAW, SegmentStore, StoreError,
};

use support::{bytes, cpu};

const AEAD: &str = if cfg!(feature = "openssl") {
    "openssl"
} else if cfg!(feature = "ring") {
    "ring"
} else {
    "chacha20poly1305"
};
const ROUNDS: usize = 3;
const MIB: u64 = 1 << 20;

/// Name and ways of each load.
const LOADS: [(&str, &[&str]); 4] = [
    ("a file of 256 MiB", &["v1-2025", "encrypted"]),
    ("a file of 1 GiB", &["v1-2025", "v0-2015", "encrypted", "encrypted, parallel"]),
    ("100,000 files of 1 KiB", &["v1-2025", "v0-2015"]),
    ("a tree of 1 GiB, 30 % of it twice", &["v1-2025", "v0-2015"]),
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [child, way, threads, input, store] = &args[..]
        && child == "--child"
    {
        return add(way, threads.parse().unwrap(), Path::new(input), Path::new(store));
    }
    // `cargo test` runs benches too, only to see that they work.
    let quick = !args.iter().any(|argument| argument == "--bench");
    let place = args.iter().find(|argument| !argument.starts_with("--"));
    let folder = match place {
        Some(place) => tempfile::tempdir_in(place).unwrap(),
        None => tempfile::tempdir().unwrap(),
    };
    machine(quick);
    for (load, ways) in LOADS {
        let input = folder.path().join("input");
        let amount = make(load, &input, quick);
        measure(load, ways, amount, &input, &folder.path().join("store"), quick);
        let _ = fs::remove_dir_all(&input).or_else(|_| fs::remove_file(&input));
    }
    seek(if quick { 64 * MIB } else { 10 << 30 });
}

/// What can be hashed in a second.
fn machine(quick: bool) {
    let block = Bytes::from(bytes(1, 1 << 20));
    let blocks = if quick { 8 } else { 2048 };
    let all = available_parallelism().map_or(1, NonZeroUsize::get);
    for threads in [1, all] {
        let clock = Instant::now();
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| (0..blocks / threads).for_each(|_| drop(Block::raw(block.clone()))));
            }
        });
        let rate = blocks as f64 * MIB as f64 / clock.elapsed().as_secs_f64() / 1e9;
        println!("this machine: sha2-256 of 1 MiB blocks, {threads} threads: {rate:.2} GB/s");
    }
}

/// Files and bytes of a load.
type Amount = (u64, u64);

fn make(load: &str, at: &Path, quick: bool) -> Amount {
    let part = if quick { 64 } else { 1 };
    match load {
        "a file of 256 MiB" | "a file of 1 GiB" => {
            let mib = if load.ends_with("MiB") { 256 } else { 1024 } / part;
            let mut file = File::create(at).unwrap();
            (0..mib).for_each(|i| file.write_all(&bytes(i + 1, 1 << 20)).unwrap());
            (1, mib * MIB)
        }
        "100,000 files of 1 KiB" => {
            let folders = 100.min(6400 / part);
            for folder in 0..folders {
                let folder_path = at.join(format!("{folder:03}"));
                fs::create_dir_all(&folder_path).unwrap();
                let text = bytes(folder + 1, 1000 << 10);
                for (i, text) in text.chunks(1 << 10).enumerate() {
                    fs::write(folder_path.join(format!("file-{i:04}")), text).unwrap();
                }
            }
            (folders * 1000, (folders * 1000) << 10)
        }
        _ => {
            let files = 512 / part;
            fs::create_dir_all(at).unwrap();
            for i in 0..files {
                // Three of ten are an earlier one.
                let seed = if i % 10 < 7 { i } else { i - 7 };
                fs::write(at.join(format!("{i:04}")), bytes(seed + 1, 2 << 20)).unwrap();
            }
            (files, files * 2 * MIB)
        }
    }
}

/// Wall seconds, CPU seconds, MiB of memory.
type Row = [f64; 3];

fn measure(load: &str, ways: &[&str], (files, bytes): Amount, input: &Path, store: &Path, quick: bool) {
    // One thread, and as many as the machine runs.
    let each: Vec<(&str, usize)> = ways.iter().flat_map(|way| [(*way, 1), (*way, 0)]).collect();
    let mut rows: HashMap<(&str, usize), Vec<Row>> = HashMap::new();
    for _ in 0..if quick { 1 } else { ROUNDS } {
        for (way, threads) in &each {
            let child = Command::new(std::env::current_exe().unwrap())
                .args(["--child", way, &threads.to_string()])
                .args([input, store])
                .output()
                .unwrap();
            assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
            let row: Vec<f64> = String::from_utf8(child.stdout)
                .unwrap()
                .split_whitespace()
                .map(|figure| figure.parse().unwrap())
                .collect();
            rows.entry((*way, *threads)).or_default().push(row.try_into().unwrap());
            fs::remove_dir_all(store).unwrap();
        }
    }
    println!("{load}");
    println!("  way                             threads   GB/s  CPU-s/GiB  files per CPU-s  memory MiB");
    for key in each {
        let [wall, cpu, memory] = std::array::from_fn(|column| {
            let mut values: Vec<f64> = rows[&key].iter().map(|row| row[column]).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        });
        let (way, threads) = (key.0, if key.1 == 0 { "all" } else { "1" });
        let way = way.replace("encrypted", &format!("encrypted ({AEAD})"));
        let (rate, per_gib) = (bytes as f64 / wall / 1e9, cpu / bytes as f64 * (1u64 << 30) as f64);
        println!(
            "  {way:38} {threads:>3} {rate:6.2} {per_gib:10.2} {:16.0} {memory:11.1}",
            files as f64 / cpu
        );
    }
}

/// Adds `input` and prints a [`Row`].
fn add(way: &str, threads: usize, input: &Path, store: &Path) {
    let (before, cpu_before, clock) = (status("VmRSS:"), cpu("self"), Instant::now());
    let store = SegmentStore::open(store).unwrap();
    let progress = &mut |_| ();
    match way {
        "v1-2025" | "v0-2015" => {
            let options = match way {
                "v1-2025" => ImportOptions::unixfs_v1_2025(),
                _ => ImportOptions::unixfs_v0_2015(),
            };
            options.with_threads(threads).import(Input::path(input).unwrap(), &store, progress).unwrap();
        }
        _ => {
            let options = ImportOptions::unixfs_v1_2025().with_threads(threads);
            let sealed = PayloadEncryptor::new(key(), File::open(input).unwrap());
            let builder = FileBuilder::with_options(EnvelopeChunker::default(), &options).unwrap();
            let cores = available_parallelism().unwrap();
            match way {
                "encrypted" => builder.import(&mut { sealed }, &store, progress),
                _ => builder.import(&mut sealed.parallel(cores), &store, progress),
            }
            .unwrap();
        }
    }
    drop(store);
    println!("{} {} {}", clock.elapsed().as_secs_f64(), cpu("self") - cpu_before, status("VmHWM:") - before);
}

fn key() -> PayloadKey {
    PayloadKey::derive(&FileKey::from_bytes([7; 16]), &PayloadNonce::from_bytes([9; 16]))
}

/// A figure of `/proc/self/status`, in MiB.
fn status(name: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
}

/// Reads one chunk in the middle of an encrypted file of `len` bytes, with nothing but its root known before.
fn seek(len: u64) {
    /// Of so many leaves one is kept.
    const KEPT: u64 = 1000;
    let folder = tempfile::tempdir().unwrap();
    let store = SegmentStore::open(folder.path()).unwrap();
    let (mut leaf, mut kept) = (0, Vec::new());
    let mut sealed = PayloadEncryptor::new(key(), io::repeat(0x5a).take(len));
    let keep = &mut |block: Block| {
        let is_leaf = block.cid().codec() == RAW;
        if !is_leaf || leaf % KEPT == KEPT / 2 {
            kept.extend(is_leaf.then_some(leaf));
            store.put(&block)?;
        }
        leaf += u64::from(is_leaf);
        Ok(())
    };
    let root = FileBuilder::new(EnvelopeChunker::default()).build(&mut sealed, keep).unwrap();
    let shape = PayloadShape::new(len, 4).unwrap();
    let sealed_len = CHUNK + TAG;
    let (mut times, mut blocks) = (Vec::new(), 0);
    for (i, leaf) in kept.iter().cycle().take(1000).enumerate() {
        let chunk = leaf * 4 + i as u64 % 4;
        let asked = Cell::new(0);
        let clock = Instant::now();
        let counted = Counted { store: &store, asked: &asked };
        let reader = PayloadReader::open(counted, &root.cid, shape.clone()).unwrap();
        let mut bytes = vec![0; sealed_len];
        reader.read_at(chunk * sealed_len as u64, &mut bytes).unwrap();
        assert_eq!(key().open_chunk(chunk, false, &mut bytes).unwrap()[0], 0x5a);
        times.push(clock.elapsed().as_secs_f64() * 1e3);
        blocks = blocks.max(asked.get());
    }
    times.sort_by(f64::total_cmp);
    println!("an encrypted file of {} MiB, one chunk anywhere in it, warm", len / MIB);
    let at = |part: usize| times[(times.len() - 1) * part / 100];
    println!("  {blocks} blocks at most; first byte after {:.2} ms, p99 {:.2} ms", at(50), at(99));
}

/// Counts the blocks that are asked for.
struct Counted<'a> {
    store: &'a SegmentStore,
    asked: &'a Cell<u64>,
}

impl BlockSource for Counted<'_> {
    fn block(&self, cid: &Cid) -> Result<Option<Block>, StoreError> {
        self.asked.set(self.asked.get() + 1);
        self.store.get(cid)
    }
}
