//! A reader that is killed in the middle of a transfer keeps what was stored, and fetches only the rest.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use lightstreams_store::{
    Block, BlockStore, Cid, FetchedDag, FileReader, ImportOptions, Input, PeerId, Requester, SegmentStore,
    ServePolicy, Session, fetch_dag, p2p::BitswapConfig,
};

use super::{net::*, things::bytes};

const CHILD: &str = "LIGHTSTREAMS_STORE_KILLED_READER";
const LEN: usize = 24 << 20;

/// Takes its time, so that a transfer has a middle.
struct Slow;

impl ServePolicy for Slow {
    fn allows(&self, _: &Requester, _: &Cid) -> bool {
        thread::sleep(Duration::from_millis(4));
        true
    }
}

fn read(
    address: &libp2p::Multiaddr,
    root: &Cid,
    path: &Path,
    progress: &mut dyn FnMut(FetchedDag),
) -> FetchedDag {
    let store = SegmentStore::open(path).unwrap();
    let net = Net::new();
    let node = net.node();
    node.connect(address);
    let Some(libp2p::multiaddr::Protocol::P2p(seeder)) = address.iter().last() else { panic!("{address}") };
    let session = Session::new().with_peers(PeerId::from_bytes(&seeder.to_bytes()));
    let unknown = *Block::raw(&b"nobody has this"[..]).cid();
    wait_until("a connection", || absent(&node, &unknown, &session));
    fetch_dag(root, &store, &node.exchange, &session, 10_000, progress).unwrap()
}

#[test]
fn child() {
    let Ok(task) = env::var(CHILD) else { return };
    let [address, root, path] = task.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{task}") };
    read(&address.parse().unwrap(), &root.parse().unwrap(), Path::new(path), &mut |fetched| {
        std::io::stdout().write_all(format!("stored {}\n", fetched.blocks).as_bytes()).unwrap();
        std::io::stdout().flush().unwrap();
    });
}

#[test]
fn a_reader_killed_in_the_middle_of_a_transfer_fetches_only_the_rest() {
    let net = Net::new();
    let seeder = net.node_with(Arc::new(Slow), |_| None, BitswapConfig::default());
    let content = bytes(LEN);
    let file = ImportOptions::unixfs_v1_2025()
        .import(Input::reader(&content[..]), &*seeder.store, &mut |_| ())
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blocks");

    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "bitswap::killed::child", "--nocapture"])
        .env(CHILD, format!("{} {} {}", seeder.addr, file.cid, path.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let stored = |line: String| line.split_once("stored ").and_then(|(_, count)| count.parse().ok());
    // The first batch may be the root alone.
    let mut acknowledged: u64 =
        lines.by_ref().map(Result::unwrap).filter_map(stored).find(|count| *count > 8).unwrap();
    child.kill().unwrap();
    acknowledged = lines.map(Result::unwrap).filter_map(stored).last().unwrap_or(acknowledged);
    assert!(!child.wait().unwrap().success(), "the reader came to its end before it was killed");
    assert!(acknowledged < file.blocks, "all was there when it was killed");

    let sent = || seeder.exchange.stats().sent_blocks;
    // What was on its way to the killed reader has left the counts of the seeder when nothing is added any more.
    let mut before = sent();
    wait_until("the end of the killed connection", || {
        thread::sleep(Duration::from_millis(500));
        std::mem::replace(&mut before, sent()) == before
    });
    let fetched = read(&seeder.addr, &file.cid, &path, &mut |_| ());
    assert!(fetched.held >= acknowledged, "{acknowledged} blocks were acknowledged: {fetched:?}");
    assert_eq!(fetched.held + fetched.blocks, file.blocks);
    assert_eq!(sent() - before, fetched.blocks, "blocks were fetched that were there");

    let store = SegmentStore::open(&path).unwrap();
    let mut copy = Vec::new();
    std::io::Read::read_to_end(&mut FileReader::open(&store, &file.cid).unwrap(), &mut copy).unwrap();
    assert!(copy == content, "other bytes");
    assert!(store.damage().is_empty() && store.has(&file.cid).unwrap());
}
