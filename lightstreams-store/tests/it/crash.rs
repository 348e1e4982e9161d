//! What `put_many` acknowledged survives kill -9 and a power cut.
//!
//! A child process, which is this test binary itself, puts blocks and says on its standard output which batches were
//! acknowledged. While it runs, no other process gets its directory. It is killed at a random moment, and its database is opened again.
//!
//! The page cache survives a kill but not a power cut. So in the second test the child runs with a small library in
//! front of libc (`unsynced.c`) that notes every write and every sync, and after the kill all or some of the bytes that
//! were written and not synced are taken away from the files. A moment between two syncs is rarely met by chance where
//! syncs are quick, so every other child is killed in front of one of its syncs.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use lightstreams_store::{Block, BlockStore, StoreError, StoreOp, testing::Seeded};

const CHILD: &str = "LIGHTSTREAMS_STORE_CRASH_CHILD";
const ROUNDS: u64 = 8;

fn open(backend: &str, path: &Path) -> Result<Box<dyn BlockStore>, StoreError> {
    match backend {
        "segments" => Ok(Box::new(lightstreams_store::SegmentStore::open(path)?)),
        "folder" => Ok(Box::new(lightstreams_store::FolderStore::open(path)?)),
        #[cfg(feature = "fjall")]
        "fjall" => Ok(Box::new(lightstreams_store::FjallStore::open(path)?)),
        #[cfg(feature = "rocksdb")]
        "rocksdb" => Ok(Box::new(lightstreams_store::RocksStore::open(path)?)),
        other => panic!("no backend {other}"),
    }
}

const BACKENDS: &[&str] = &[
    "segments",
    "folder",
    #[cfg(feature = "fjall")]
    "fjall",
    #[cfg(feature = "rocksdb")]
    "rocksdb",
];

/// The blocks of a batch, small and large.
fn batch(number: u64) -> Vec<Block> {
    let mut seeded = Seeded::new(number);
    (0..=seeded.below(6))
        .map(|_| {
            let len = [50, 3000, 65_552, 262_208][seeded.below(4) as usize];
            seeded.block(len)
        })
        .collect()
}

#[test]
fn child() {
    let Ok(task) = env::var(CHILD) else { return };
    let [backend, first, path] = task.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{task}") };
    let store = open(backend, Path::new(path)).unwrap();
    for number in first.parse().unwrap().. {
        store.put_many(&batch(number)).unwrap();
        std::io::stdout().write_all(format!("acknowledged {number}\n").as_bytes()).unwrap();
        std::io::stdout().flush().unwrap();
    }
}

/// What runs in front of libc in a child.
struct Preload<'a> {
    library: &'a Path,
    journal: &'a Path,
    /// The sync in front of which the child dies; `None` for a moment by chance.
    die_at: Option<u64>,
}

/// Runs a child from batch `first` on, kills it, and returns the batch after the last one that it acknowledged.
fn run_and_kill(
    backend: &str,
    path: &Path,
    first: u64,
    seeded: &mut Seeded,
    preload: Option<Preload<'_>>,
) -> u64 {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "crash::child", "--nocapture"])
        .env(CHILD, format!("{backend} {first} {}", path.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let dies = preload.as_ref().is_some_and(|preload| preload.die_at.is_some());
    if let Some(Preload { library, journal, die_at }) = preload {
        command.env("LD_PRELOAD", library).env("UNSYNCED_JOURNAL", journal);
        command.envs(die_at.map(|sync| ("UNSYNCED_DIE_AT", sync.to_string())));
    }
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = first;
    let mut acknowledged = |line: String| {
        // The test harness writes lines of its own.
        if let Some((_, number)) = line.split_once("acknowledged ") {
            next = number.parse::<u64>().unwrap() + 1;
        }
        next
    };
    let until = if dies { u64::MAX } else { first + 1 + seeded.below(16) };
    for line in lines.by_ref() {
        if acknowledged(line.unwrap()) >= until {
            break;
        }
    }
    if !dies {
        // Two processes cannot have one directory: the second is told so, and disturbs nothing.
        let refused =
            open(backend, path).err().unwrap_or_else(|| panic!("{backend} is open in two processes"));
        let reason = refused.source.to_string();
        assert!(refused.op == StoreOp::Open && reason.contains("another process"), "{backend}: {reason}");
        std::thread::sleep(Duration::from_micros(seeded.below(20_000)));
        child.kill().unwrap();
    }
    lines.for_each(|line| {
        acknowledged(line.unwrap());
    });
    let status = child.wait().unwrap();
    assert!(
        !matches!(status.code(), Some(0 | 101)),
        "the child of {backend} ended by itself before batch {next}"
    );
    assert!(dies || next >= until, "the child of {backend} died before batch {until}");
    next
}

fn all_there(backend: &str, path: &Path, end: u64) {
    let store = open(backend, path).unwrap_or_else(|e| panic!("{backend} does not open: {e} {:?}", e.source));
    for number in 0..end {
        for block in batch(number) {
            let found = store
                .get(block.cid())
                .unwrap_or_else(|e| panic!("{backend}: batch {number}: {e} {:?}", e.source));
            assert_eq!(found.as_ref(), Some(&block), "{backend}: batch {number} of {end} was acknowledged");
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_by_a_kill() {
    for backend in BACKENDS {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blocks");
        let mut seeded = Seeded::new(1);
        let mut next = 0;
        for _ in 0..ROUNDS {
            next = run_and_kill(backend, &path, next, &mut seeded, None);
            all_there(backend, &path, next);
        }
        println!("{backend}: {ROUNDS} kills, {next} batches, none lost");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn nothing_acknowledged_is_lost_by_a_power_cut() {
    let folder = tempfile::tempdir().unwrap();
    let Some(library) = power::library(folder.path()) else { return };
    for backend in BACKENDS {
        let path = folder.path().join(backend);
        let mut seeded = Seeded::new(2);
        let (mut next, mut taken) = (0, 0);
        for round in 0..ROUNDS {
            let journal = folder.path().join(format!("{backend}-{round}"));
            let first = next;
            let die_at = (round % 2 == 1).then(|| 1 + seeded.below(40));
            let preload = Preload { library: &library, journal: &journal, die_at };
            next = run_and_kill(backend, &path, next, &mut seeded, Some(preload));
            let text = fs::read_to_string(&journal).unwrap();
            // The first batch may be there and synced already: the last child was killed before it could say so.
            let known = u64::from(round > 0);
            power::every_acknowledgement_follows_a_sync(&text, (next - first).saturating_sub(known));
            taken += power::take_unsynced_away(&path, &text, &mut seeded);
            all_there(backend, &path, next);
        }
        println!(
            "{backend}: {ROUNDS} power cuts, {next} batches, none lost; {taken} unsynced bytes were taken away"
        );
        assert!(taken > 0, "{backend}: no cut hit unsynced bytes");
    }
}

#[cfg(target_os = "linux")]
mod power {
    use std::{
        collections::HashMap,
        fs::File,
        os::unix::fs::{FileExt, MetadataExt},
    };

    use super::*;

    /// Compiles the library that keeps the journal; `None`, with a line that says so, where there is no C compiler.
    pub(super) fn library(folder: &Path) -> Option<PathBuf> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/unsynced.c");
        let library = folder.join("unsynced.so");
        let compiler = env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let mut words = compiler.split_whitespace();
        let status = Command::new(words.next().unwrap_or("cc"))
            .args(words)
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([&library, &source])
            .arg("-ldl")
            .status();
        match status {
            Ok(status) => {
                assert!(status.success(), "unsynced.c does not compile");
                Some(library)
            }
            Err(e) => {
                assert!(
                    env::var_os("LIGHTSTREAMS_REQUIRE_TOOLS").is_none_or(|v| v != "1"),
                    "no C compiler: {e}"
                );
                println!("no C compiler: skipped");
                None
            }
        }
    }

    /// The journal's lines that count: between the start of `put_many` and what says that it returned, a sync ended.
    pub(super) fn every_acknowledgement_follows_a_sync(journal: &str, acknowledged: u64) {
        let (mut synced, mut with_sync) = (false, 0);
        for line in journal.lines() {
            match line.as_bytes().first() {
                Some(b'S') => synced = true,
                Some(b'a') => with_sync += u64::from(std::mem::take(&mut synced)),
                _ => {}
            }
        }
        assert!(with_sync >= acknowledged, "{acknowledged} acknowledged, {with_sync} after a sync");
    }

    #[derive(Default)]
    struct Unsynced {
        /// Byte ranges, in the order written.
        ranges: Vec<(u64, u64)>,
        /// For a thread in the middle of a sync: how many of the ranges were written before it.
        syncing: HashMap<u64, usize>,
        /// Length at the last sync.
        size: u64,
    }

    /// Takes bytes that were not synced away from the files below `path`; returns how many.
    pub(super) fn take_unsynced_away(path: &Path, journal: &str, seeded: &mut Seeded) -> u64 {
        let mut files: HashMap<u64, Unsynced> = HashMap::new();
        for line in journal.lines() {
            let mut words = line.split(' ');
            let kind = words.next().unwrap();
            let numbers: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
            match (kind, numbers[..].as_ref()) {
                ("w", [inode, offset, len]) => files.entry(*inode).or_default().ranges.push((*offset, *len)),
                ("s", [thread, inode]) => {
                    let file = files.entry(*inode).or_default();
                    file.syncing.insert(*thread, file.ranges.len());
                }
                ("S", [thread, inode, size]) => {
                    let file = files.entry(*inode).or_default();
                    let before = file.syncing.remove(thread).unwrap_or(0).min(file.ranges.len());
                    file.ranges.drain(..before);
                    file.syncing.values_mut().for_each(|count| *count = count.saturating_sub(before));
                    file.size = *size;
                }
                _ => {}
            }
        }
        // One time in two nothing unsynced survives, else each sector by chance.
        let all = seeded.below(2) == 0;
        let mut taken = 0;
        for (path, inode) in files_below(path) {
            let Some(unsynced) = files.get(&inode) else { continue };
            let file = File::options().write(true).open(&path).unwrap();
            let len = file.metadata().unwrap().len();
            for (offset, count) in &unsynced.ranges {
                let mut at = *offset;
                let end = (offset + count).min(len);
                while at < end {
                    let sector_end = (at / 512 * 512 + 512).min(end);
                    if all || seeded.below(2) == 0 {
                        file.write_all_at(&vec![0; (sector_end - at) as usize], at).unwrap();
                        taken += sector_end - at;
                    }
                    at = sector_end;
                }
            }
            if all && !unsynced.ranges.is_empty() && unsynced.size < len {
                file.set_len(unsynced.size).unwrap();
            }
        }
        taken
    }

    fn files_below(path: &Path) -> Vec<(PathBuf, u64)> {
        let mut found = Vec::new();
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                found.extend(files_below(&entry.path()));
            } else {
                found.push((entry.path(), metadata.ino()));
            }
        }
        found.sort();
        found
    }
}
