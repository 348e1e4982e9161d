//! Helia, a real one: it fetches from us, we fetch from it.

use std::{
    fs,
    io::{BufRead, BufReader, Lines, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use lightstreams_store::{
    Block, BlockStore, Cid, ExportLimits, ImportOptions, MemoryStore, Session, export, fetch_dag,
    p2p::BitswapConfig,
};
use serde_json::{Value, json};

use super::{net::*, things::*};
use crate::npm::npm;

const PATIENCE_MS: u64 = 120_000;

/// A node of another make, which ends with this value.
struct Helia {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    address: libp2p::Multiaddr,
}

impl Helia {
    /// `None`, with a line that says so, where its tools are absent.
    fn start() -> Option<Self> {
        // The tests install it once, and the others wait for that.
        static INSTALLED: OnceLock<Option<PathBuf>> = OnceLock::new();
        let folder = INSTALLED.get_or_init(|| npm("helia")).as_ref()?;
        let mut child = Command::new("node")
            .arg(folder.join("peer.mjs"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let first: Value = serde_json::from_str(&output.next().unwrap().unwrap()).unwrap();
        let address = first["address"].as_str().unwrap().parse().unwrap();
        Some(Self { child, input, output, address })
    }

    fn ask(&mut self, request: &Value) -> Result<Value, String> {
        writeln!(self.input, "{request}").unwrap();
        let answer: Value = serde_json::from_str(&self.output.next().unwrap().unwrap()).unwrap();
        match answer.get("error") {
            Some(error) => Err(error.to_string()),
            None => Ok(answer),
        }
    }

    #[track_caller]
    fn tell(&mut self, request: Value) -> Value {
        self.ask(&request).unwrap_or_else(|error| panic!("{request}: {error}"))
    }

    fn dial(&mut self, node: &Node) {
        self.tell(json!({"command": "dial", "address": node.addr.to_string()}));
    }

    fn add(&mut self, path: &Path, profile: &str) -> Cid {
        let directory = path.is_dir();
        let answer =
            self.tell(json!({"command": "add", "path": path, "directory": directory, "profile": profile}));
        answer["cid"].as_str().unwrap().parse().unwrap()
    }

    fn peer(&self) -> lightstreams_store::PeerId {
        let Some(libp2p::multiaddr::Protocol::P2p(peer)) = self.address.iter().last() else {
            panic!("an address without a peer")
        };
        lightstreams_store::PeerId::from_bytes(&peer.to_bytes()).unwrap()
    }
}

impl Drop for Helia {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn helia_fetches_what_we_have() {
    let Some(mut helia) = Helia::start() else { return };
    let net = Net::new();
    let node = net.node();
    helia.dial(&node);
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let things = things(from.path());
    for (profile, options) in PROFILES {
        for (i, thing) in things.iter().enumerate() {
            let cid = import(thing, &options(), &node.store);
            let copy = to.path().join(format!("{profile} {i}"));
            // Every second one through a session, in which Helia asks one peer only.
            let session = (i % 2 == 1).then(|| node.addr.to_string());
            helia.tell(json!({"command": "get", "cid": cid.to_string(), "path": copy, "session": session,
                "ms": PATIENCE_MS}));
            assert_same(thing, &copy);
            assert_eq!(helia.add(thing, profile), cid, "{} under {profile}", thing.display());
        }
    }
}

#[test]
fn we_fetch_what_helia_has() {
    let Some(mut helia) = Helia::start() else { return };
    let net = Net::new();
    let node = net.node();
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let session = Session::new().with_peers([helia.peer()]);
    node.connect(&helia.address);
    let unknown = *Block::raw(&b"nobody has this"[..]).cid();
    wait_until("a connection", || absent(&node, &unknown, &session));
    for (profile, options) in PROFILES {
        let folder = from.path().join(profile);
        fs::create_dir(&folder).unwrap();
        for (i, thing) in things(&folder).iter().enumerate() {
            let cid = helia.add(thing, profile);
            assert_eq!(import(thing, &options(), &MemoryStore::default()), cid, "{}", thing.display());
            fetch_dag(&cid, &*node.store, &node.exchange, &session, 100_000, &mut |_| ())
                .unwrap_or_else(|error| panic!("{} under {profile}: {error:?}", thing.display()));
            let copy = to.path().join(format!("{profile} {i}"));
            export(&*node.store, &cid, &copy, ExportLimits::default()).unwrap();
            assert_same(thing, &copy);
        }
    }
}

#[test]
fn what_helia_reads_of_a_readable_root_age_opens() {
    let Some(mut helia) = Helia::start() else { return };
    let net = Net::new();
    let node = net.node();
    helia.dial(&node);
    let folder = tempfile::tempdir().unwrap();
    for len in [0, 1, 65_536, 700_000] {
        let Some(sealed) = Sealed::make(folder.path(), &bytes(len), &node.store) else { return };
        let copy = folder.path().join("copy.age");
        helia
            .tell(json!({"command": "get", "cid": sealed.root.to_string(), "path": copy, "ms": PATIENCE_MS}));
        assert_eq!(sealed.open(fs::File::open(&copy).unwrap()), bytes(len));
    }
}

#[test]
fn what_helia_may_not_have_it_does_not_get_and_then_it_does() {
    let Some(mut helia) = Helia::start() else { return };
    let net = Net::new();
    let policy = Arc::new(Listed::default());
    let node = net.node_with(policy.clone(), |_| None, BitswapConfig::default());
    let block = Block::raw(bytes(1000));
    node.store.put(&block).unwrap();
    helia.dial(&node);
    let ask = json!({"command": "block", "cid": block.cid().to_string(), "ms": 1500});
    helia.ask(&ask).unwrap_err();
    policy.0.lock().unwrap().insert(*block.cid());
    // Within milliseconds, Helia would take the new want for the one that it gave up.
    thread::sleep(Duration::from_millis(500));
    helia.tell(ask);
}

#[test]
fn helia_is_served_after_a_pause_in_which_it_closed_our_stream() {
    let Some(mut helia) = Helia::start() else { return };
    let net = Net::new();
    let node = net.node();
    helia.dial(&node);
    let blocks = [Block::raw(bytes(100_000)), Block::raw(bytes(100_001))];
    node.store.put_many(&blocks).unwrap();
    for block in &blocks {
        helia.tell(json!({"command": "block", "cid": block.cid().to_string(), "ms": 5000}));
        // Helia resets a stream on which nothing came for 10 seconds.
        thread::sleep(Duration::from_secs(11));
    }
}

#[test]
fn helia_is_asked_again_for_what_it_did_not_have() {
    let Some(mut helia) = Helia::start() else { return };
    let net = Net::new();
    let node = net.node();
    node.connect(&helia.address);
    let from = tempfile::tempdir().unwrap();
    let path = from.path().join("late");
    fs::write(&path, bytes(200_000)).unwrap();
    let cid = import(&path, &ImportOptions::unixfs_v1_2025(), &MemoryStore::default());
    let session = Session::new().with_peers([helia.peer()]).with_patience(Duration::from_secs(4));
    wait_until("a refusal", || absent(&node, &cid, &session));
    // Helia says only once that it does not have a block that is still wanted of it.
    assert!(absent(&node, &cid, &session));
    assert_eq!(helia.add(&path, "unixfs-v1-2025"), cid);
    let (got, result) = fetch(&node, &[cid], &session);
    result.unwrap();
    assert_eq!(got.len(), 1);
}
