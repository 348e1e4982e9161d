//! A process that is killed while it commits blocks has lost nothing that it acknowledged.
#![cfg(any(feature = "fjall", feature = "rocksdb"))]

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use alloy_primitives::{Address, keccak256};
use lightstreams_chain::{Ancestry, BlockId, Chain, DEV_ACCOUNTS, FeePolicy, Kv, testing::NoSeal};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{
    dev::{AUTHOR, genesis, seal, transfer},
    history::assert_root_of_tables,
};

const FOLDER: &str = "LIGHTSTREAMS_CRASH_TEST_FOLDER";
/// How many blocks the child seals; without it, until it is killed.
const BLOCKS: &str = "LIGHTSTREAMS_CRASH_TEST_BLOCKS";
/// How often the child is killed; the number is 200:
/// `LIGHTSTREAMS_KILLS=200 cargo test --release -p lightstreams-chain --features fjall,testing crash -- --nocapture`.
const KILLS: &str = "LIGHTSTREAMS_KILLS";
const KILLS_DEFAULT: u64 = 12;
/// Transfers in a block; the first is the sealer's.
const TRANSFERS: u64 = 8;

fn database(folder: &Path) -> Arc<dyn Kv> {
    #[cfg(feature = "rocksdb")]
    if std::env::var("LIGHTSTREAMS_TEST_STORAGE").is_ok_and(|storage| storage == "rocksdb")
        || cfg!(not(feature = "fjall"))
    {
        return Arc::new(lightstreams_chain::RocksKv::open(folder).unwrap());
    }
    #[cfg(feature = "fjall")]
    return Arc::new(lightstreams_chain::FjallKv::open(folder).unwrap());
    #[cfg(not(feature = "fjall"))]
    unreachable!("one of the two is there")
}

fn open(folder: &Path) -> Chain {
    open_in(database(folder))
}

fn open_in(kv: Arc<dyn Kv>) -> Chain {
    Chain::open(genesis(FeePolicy::Market), kv, Arc::new(NoSeal::default())).unwrap()
}

/// What the child does: a transfer in every block, and a line once the block is acknowledged.
#[test]
fn child_that_seals_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let chain = open(Path::new(&folder));
    let blocks = std::env::var(BLOCKS).map_or(u64::MAX, |blocks| blocks.parse().unwrap());
    while chain.head().number() < blocks {
        let nonce = chain.next_nonce(DEV_ACCOUNTS[0].address).unwrap();
        chain.submit(&transfer(&chain, 0, nonce, AUTHOR, 1)).unwrap();
        for index in 1..TRANSFERS {
            let from = usize::try_from(index).unwrap();
            let to = Address::from_word(keccak256([nonce, index].map(u64::to_be_bytes).concat()));
            chain.submit(&transfer(&chain, from, nonce, to, 1)).unwrap();
        }
        let head = seal(&chain);
        println!("sealed {} {}", head.number(), head.hash);
        std::io::stdout().flush().unwrap();
    }
}

#[test]
fn blocks_acknowledged_before_a_kill_are_there_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut rng = StdRng::seed_from_u64(7);
    let mut acknowledged = 0;
    let kills = std::env::var(KILLS).map_or(KILLS_DEFAULT, |kills| kills.parse().unwrap());
    let mut slowest = Duration::ZERO;
    for round in 0..kills {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::child_that_seals_until_it_is_killed", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let until = acknowledged + rng.random_range(1..25);
        let mut last = None;
        for line in lines.map_while(Result::ok) {
            let Some(sealed) = line.strip_prefix("sealed ") else { continue };
            let (number, hash) = sealed.split_once(' ').unwrap();
            acknowledged = number.parse().unwrap();
            last = Some(hash.to_owned());
            if acknowledged == until {
                std::thread::sleep(Duration::from_micros(rng.random_range(0..4_000)));
                child.kill().unwrap();
                // Lines that were written before the kill are still read.
            }
        }
        child.wait().unwrap();
        assert!(last.is_some(), "round {round}: the child sealed nothing");

        let start = Instant::now();
        let kv = database(folder.path());
        let chain = open_in(kv.clone());
        slowest = slowest.max(start.elapsed());
        let head = chain.head();
        assert_root_of_tables(kv.as_ref(), head.header.state_root);
        assert!(head.number() >= acknowledged, "round {round}: {} of {acknowledged} blocks", head.number());
        let known = chain.canonical_hash(acknowledged).unwrap().unwrap();
        assert_eq!(Some(known.to_string()), last, "round {round}");
        // One transfer of the first account a block: state, receipts and look-ups are of the same block.
        let state = chain.state(BlockId::Latest).unwrap();
        assert_eq!(state.nonce(DEV_ACCOUNTS[0].address).unwrap(), head.number());
        let first = head.number().saturating_sub(100).max(1);
        let mut parent = chain.canonical_hash(first - 1).unwrap().unwrap();
        for number in first..=head.number() {
            let block = chain.block(number.into()).unwrap().unwrap();
            assert_eq!(block.header.parent_hash, parent);
            assert_eq!(block.body.transactions.len() as u64, TRANSFERS);
            let receipt = chain.receipt(block.body.transactions[7].tx_hash()).unwrap().unwrap();
            assert_eq!(receipt.transaction.block.number, number);
            parent = chain.canonical_hash(number).unwrap().unwrap();
        }
        acknowledged = head.number();
    }
    println!("{kills} kills, {acknowledged} blocks, the slowest start took {slowest:.2?}");
}

/// What a power cut would take is what was not synced, so the system calls of the child are read.
#[test]
fn every_block_is_synced_before_it_is_acknowledged() {
    if !Command::new("strace")
        .args(["-o", "/dev/null", "true"])
        .output()
        .is_ok_and(|run| run.status.success())
    {
        let required = std::env::var("LIGHTSTREAMS_REQUIRE_TOOLS").is_ok_and(|value| value == "1");
        assert!(!required, "strace is not here, or may not trace");
        println!("skipped: strace is not here, or may not trace");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let run = Command::new("strace")
        .args(["-f", "-e", "trace=fsync,fdatasync,write", "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child_that_seals_until_it_is_killed", "--nocapture"])
        .env(FOLDER, folder.path().join("database"))
        .env(BLOCKS, "8")
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let mut synced = false;
    let mut acknowledged = 0;
    for line in std::fs::read_to_string(trace).unwrap().lines() {
        if line.contains("fsync(") || line.contains("fdatasync(") {
            synced = true;
        } else if line.contains("write(1, \"sealed ") {
            assert!(synced, "a block was acknowledged before a sync: {line}");
            synced = false;
            acknowledged += 1;
        }
    }
    assert_eq!(acknowledged, 8);
}
