//! A store whose process is killed, and one whose disk loses power.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use super::{FaultyDisk, Seeded};
use crate::{Block, BlockStore, Cid};

const CHILD: &str = "LIGHTSTREAMS_STORE_KILLED_CHILD";
const KILLS: u64 = 6;

/// Holds a store that `open` opens in a folder to keeping what it acknowledged when its process is killed at any moment
/// (kill -9), while it stores, removes, and does what `beside` does (a compaction, say).
///
/// The test `test`, named as the test harness names it, calls this and nothing else: it is run again as the process that
/// is killed. `folder` is empty at first.
pub fn check_killed_block_store<S: BlockStore>(
    test: &str,
    folder: &Path,
    open: impl Fn(&Path) -> S,
    beside: impl Fn(&S),
) {
    if let Ok(task) = env::var(CHILD) {
        let (first, path) = task.split_once(' ').unwrap();
        work(&open(Path::new(path)), first.parse().unwrap(), beside);
    }
    let path = folder.join("killed");
    let mut seeded = Seeded::new(77);
    let mut next = 0;
    for _ in 0..KILLS {
        next = run_and_kill(test, &path, next, &mut seeded);
        let store = open(&path);
        for round in 0..next {
            for (i, block) in batch(round).iter().enumerate() {
                let expected = (!goes(round, i, next)).then_some(block);
                let found = store.get(block.cid()).unwrap();
                // The round that was cut off may have removed it.
                let cut_off = round + 1 == next && goes(round, i, u64::MAX) && found.is_none();
                assert!(cut_off || found.as_ref() == expected, "round {round} of {next}, block {i}");
            }
        }
    }
    fs::remove_dir_all(&path).unwrap();
}

fn batch(round: u64) -> Vec<Block> {
    let mut seeded = Seeded::new(5000 + round);
    (0..5)
        .map(|_| {
            let len = [50, 3000, 30_000][seeded.below(3) as usize];
            seeded.block(len)
        })
        .collect()
}

/// Whether block `i` of `round` was removed when `next` rounds were done.
fn goes(round: u64, i: usize, next: u64) -> bool {
    round + 1 < next && batch(round)[i].cid().hash().digest()[0].is_multiple_of(2)
}

/// Each round stores a batch and removes half of the one before; then it says so.
fn work<S: BlockStore>(store: &S, first: u64, beside: impl Fn(&S)) -> ! {
    for round in first.. {
        store.put_many(&batch(round)).unwrap();
        if let Some(before) = round.checked_sub(1) {
            let blocks = batch(before);
            let gone: Vec<Cid> =
                (0..blocks.len()).filter(|i| goes(before, *i, u64::MAX)).map(|i| *blocks[i].cid()).collect();
            store.remove_many(&gone).unwrap();
        }
        std::io::stdout().write_all(format!("acknowledged {round}\n").as_bytes()).unwrap();
        std::io::stdout().flush().unwrap();
        beside(store);
    }
    unreachable!("rounds do not end")
}

/// Runs a child from round `first` on, kills it, and returns the round after the last one that it acknowledged.
fn run_and_kill(test: &str, path: &Path, first: u64, seeded: &mut Seeded) -> u64 {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, format!("{first} {}", path.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = first;
    let mut take = |line: String| {
        // The test harness writes lines of its own.
        if let Some((_, round)) = line.split_once("acknowledged ") {
            next = round.parse::<u64>().unwrap() + 1;
        }
        next
    };
    let until = first + 1 + seeded.below(24);
    for line in lines.by_ref() {
        if take(line.unwrap()) >= until {
            break;
        }
    }
    std::thread::sleep(Duration::from_micros(seeded.below(20_000)));
    child.kill().unwrap();
    for line in lines {
        take(line.unwrap());
    }
    child.wait().unwrap();
    assert!(next >= until, "the process of {test} died by itself before round {until}");
    next
}

/// Holds a store that `open` opens on a [`Disk`](crate::Disk) to keeping what it acknowledged when the power goes at every single
/// operation of the disk, for each of `seeds` histories of puts, removals, and what `beside` does; and again while it is
/// opened after that. Returns the number of power cuts.
pub fn check_cut_block_store<S: BlockStore, E: std::fmt::Debug>(
    seeds: u64,
    open: impl Fn(&FaultyDisk) -> Result<S, E>,
    beside: impl Fn(&S),
) -> u64 {
    let mut cuts = 0;
    for seed in 0..seeds {
        let disk = FaultyDisk::new(seed);
        let mut history = History::default();
        history.run(&open(&disk).unwrap(), seed, &beside, &disk);
        for n in 1..=disk.operations() {
            let what = format!("seed {seed}, operation {n}");
            let disk = FaultyDisk::new(seed * 100_000 + n);
            disk.cut_power_at(n);
            let mut history = History::default();
            if let Ok(store) = open(&disk) {
                history.run(&store, seed, &beside, &disk);
            }
            assert!(disk.is_off(), "{what}: the same history takes the same operations");
            cuts += 1;
            // The power may go again while the store is opened, which must lose nothing either.
            let mut disk = disk.after_power_cut();
            for again in 1..5 {
                disk.cut_power_at(again);
                let _ = open(&disk);
                if !disk.is_off() {
                    break;
                }
                disk = disk.after_power_cut();
                cuts += 1;
            }
            // What was read once after a cut is there after another.
            let disk = disk.after_power_cut();
            let first = history.check(&open(&disk).unwrap_or_else(|e| panic!("{what}: {e:?}")), &what);
            let disk = disk.after_power_cut();
            let store = open(&disk).unwrap_or_else(|e| panic!("{what}: {e:?}"));
            assert_eq!(history.check(&store, &what), first, "{what}: what was held once is held");
            // It goes on from there, and what was removed stays so.
            let more = Seeded::new(seed + 31).block(500);
            store.put(&more).unwrap();
            beside(&store);
            drop(store);
            let store = open(&disk.after_power_cut()).unwrap();
            assert_eq!(store.get(more.cid()).unwrap(), Some(more), "{what}");
            assert_eq!(history.check(&store, &what), first, "{what}: the same blocks as before");
        }
    }
    cuts
}

/// What a store must hold.
#[derive(Default)]
struct History {
    /// By multihash; `Some(true)` must be held, `Some(false)` must not, `None` may be.
    blocks: BTreeMap<Vec<u8>, (Block, Option<bool>)>,
}

impl History {
    fn held(&mut self, block: &Block) -> &mut Option<bool> {
        let key = block.cid().hash().to_bytes();
        &mut self.blocks.entry(key).or_insert((block.clone(), Some(false))).1
    }

    /// Puts and removes until the power goes.
    fn run<S: BlockStore>(&mut self, store: &S, seed: u64, beside: &impl Fn(&S), disk: &FaultyDisk) {
        let mut seeded = Seeded::new(seed);
        let all: Vec<Block> = (0..14)
            .map(|_| {
                let len = [1, 100, 512, 1500, 4000][seeded.below(5) as usize];
                Seeded::new(seeded.next_u64()).block(len)
            })
            .collect();
        for _ in 0..9 {
            let from = seeded.below(12) as usize;
            let some = &all[from..from + 1 + seeded.below(3) as usize];
            let put = seeded.below(5) < 3;
            for block in some {
                let held = self.held(block);
                // What is so already is promised already.
                *held = held.filter(|held| *held == put);
            }
            let result = if put {
                store.put_many(some)
            } else {
                store.remove_many(&some.iter().map(|block| *block.cid()).collect::<Vec<_>>())
            };
            match result {
                Ok(()) => some.iter().for_each(|block| *self.held(block) = Some(put)),
                Err(_) => {
                    assert!(disk.is_off());
                    return;
                }
            }
            beside(store);
            if disk.is_off() {
                return;
            }
        }
    }

    /// Returns which of the blocks are held.
    fn check(&self, store: &dyn BlockStore, what: &str) -> Vec<bool> {
        let listed = store.cids(None, 1000).unwrap();
        self.blocks
            .iter()
            .map(|(key, (block, expected))| {
                let found = store.get(block.cid()).unwrap_or_else(|e| panic!("{what}: {e}: {}", e.source));
                assert!(
                    found.is_none() || found.as_ref() == Some(block),
                    "{what}: nothing wrong is returned"
                );
                let held = found.is_some();
                assert_eq!(store.size(block.cid()).unwrap(), held.then_some(block.len() as u64));
                assert_eq!(listed.iter().any(|cid| cid.hash().to_bytes() == *key), held, "{what}: listed");
                assert!(expected.is_none_or(|expected| expected == held), "{what}: {expected:?}, but {held}");
                held
            })
            .collect()
    }
}
