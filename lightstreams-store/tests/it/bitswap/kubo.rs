//! Kubo, where its program `ipfs` is on the PATH: it fetches from us, we fetch from it.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use lightstreams_store::{
    Block, BlockStore, CarLimits, DagPath, DagSelection, ExportLimits, FolderStore, ImportOptions, Input,
    MemoryStore, Session, export, fetch_dag, import_car, p2p::BitswapConfig, parse_cid,
};

use super::{net::*, things::*};

/// A daemon with a repository of its own, on 127.0.0.1 and without a routing system, which ends with this value.
struct Kubo {
    repository: tempfile::TempDir,
    daemon: Child,
}

impl Kubo {
    /// `None`, with a line that says so, where there is no `ipfs`.
    fn start() -> Option<Self> {
        let repository = tempfile::tempdir().unwrap();
        let run = |arguments: &[&str]| {
            Command::new("ipfs").env("IPFS_PATH", repository.path()).args(arguments).output()
        };
        let Ok(made) = run(&["init", "--profile", "test"]) else {
            eprintln!("skipped: ipfs is not on the PATH");
            return None;
        };
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        for (key, value) in [
            ("Addresses.Swarm", r#"["/ip4/127.0.0.1/tcp/0"]"#),
            ("Addresses.API", r#""/ip4/127.0.0.1/tcp/0""#),
            ("Addresses.Gateway", r#""/ip4/127.0.0.1/tcp/0""#),
            ("Routing.Type", r#""none""#),
        ] {
            assert!(run(&["config", "--json", key, value]).unwrap().status.success());
        }
        let mut daemon = Command::new("ipfs")
            .env("IPFS_PATH", repository.path())
            .arg("daemon")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(daemon.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "Daemon is ready"));
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self { repository, daemon })
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) -> String {
        String::from_utf8(self.bytes(arguments)).unwrap().trim().to_owned()
    }

    #[track_caller]
    fn bytes(&self, arguments: &[&str]) -> Vec<u8> {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "ipfs {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut ipfs = Command::new("ipfs");
        ipfs.env("IPFS_PATH", self.repository.path()).args(arguments);
        ipfs
    }

    /// Ends the daemon; commands work on the repository from then on.
    fn stop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }

    fn connect(&self, node: &Node) {
        self.run(&["swarm", "connect", &node.addr.to_string()]);
    }

    fn peer(&self) -> lightstreams_store::PeerId {
        let id: libp2p::PeerId = self.run(&["id", "-f", "<id>"]).parse().unwrap();
        lightstreams_store::PeerId::from_bytes(&id.to_bytes()).unwrap()
    }
}

impl Drop for Kubo {
    fn drop(&mut self) {
        self.stop();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn kubo_fetches_what_we_have() {
    let Some(kubo) = Kubo::start() else { return };
    let net = Net::new();
    let node = net.node();
    kubo.connect(&node);
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let things = things(from.path());
    for (profile, options) in PROFILES {
        for (i, thing) in things.iter().enumerate() {
            let cid = import(thing, &options(), &node.store);
            let copy = to.path().join(format!("{profile} {i}"));
            kubo.run(&["get", "--timeout", "120s", "-o", text(&copy), &cid.to_string()]);
            assert_same(thing, &copy);
        }
    }
    for len in [0, 1, 65_536, 700_000] {
        let Some(sealed) = Sealed::make(to.path(), &bytes(len), &node.store) else { return };
        let mut cat =
            kubo.command(&["cat", &sealed.root.to_string()]).stdout(Stdio::piped()).spawn().unwrap();
        assert_eq!(sealed.open(cat.stdout.take().unwrap()), bytes(len));
        assert!(cat.wait().unwrap().success());
    }
}

#[test]
fn we_fetch_what_kubo_has() {
    let Some(kubo) = Kubo::start() else { return };
    let net = Net::new();
    let node = net.node();
    kubo.connect(&node);
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let session = Session::new().with_peers([kubo.peer()]);
    for (profile, options) in PROFILES {
        let folder = from.path().join(profile);
        fs::create_dir(&folder).unwrap();
        kubo.run(&["config", "profile", "apply", profile]);
        for (i, thing) in things(&folder).iter().enumerate() {
            let cid = import(thing, &options(), &MemoryStore::default());
            assert_eq!(kubo.run(&["add", "-Q", "-r", text(thing)]), cid.to_string(), "{}", thing.display());
            fetch_dag(&cid, &*node.store, &node.exchange, &session, 100_000, &mut |_| ()).unwrap();
            let copy = to.path().join(format!("{profile} {i}"));
            export(&*node.store, &cid, &copy, ExportLimits::default()).unwrap();
            assert_same(thing, &copy);
        }
    }
}

#[test]
fn what_kubo_may_not_have_it_does_not_get_and_then_it_does() {
    let Some(kubo) = Kubo::start() else { return };
    let net = Net::new();
    let policy = Arc::new(Listed::default());
    let node = net.node_with(policy.clone(), |_| None, BitswapConfig::default());
    let block = Block::raw(bytes(1000));
    node.store.put(&block).unwrap();
    kubo.connect(&node);
    let cid = block.cid().to_string();
    let denied = kubo.command(&["block", "get", "--timeout", "2s", &cid]).output().unwrap();
    assert!(!denied.status.success());
    policy.0.lock().unwrap().insert(*block.cid());
    assert_eq!(kubo.bytes(&["block", "get", "--timeout", "60s", &cid]), block.data()[..]);
}

#[test]
fn cars_go_both_ways() {
    let Some(kubo) = Kubo::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let car = folder.path().join("a.car");
    for thing in things(folder.path()) {
        // Theirs, and out again as they wrote it.
        let cid = kubo.run(&["add", "-Q", "-r", "--cid-version", "1", text(&thing)]);
        let root = parse_cid(&cid).unwrap();
        let theirs = kubo.bytes(&["dag", "export", "--progress=false", &cid]);
        let store = MemoryStore::default();
        let imported = import_car(&theirs[..], CarLimits::default(), &store, &mut |_| ()).unwrap();
        assert_eq!(imported.roots, [root]);
        let path = DagPath::resolve::<&str>(&store, &root, &[]).unwrap();
        let ours = path.write_car(&store, &DagSelection::default(), Vec::new()).unwrap();
        assert!(ours == theirs, "{}", thing.display());

        // Ours, of a root that Kubo does not have yet.
        let mut options = ImportOptions::unixfs_v1_2025();
        options.raw_leaves = false;
        let root = import(&thing, &options, &store);
        let path = DagPath::resolve::<&str>(&store, &root, &[]).unwrap();
        fs::write(&car, path.write_car(&store, &DagSelection::default(), Vec::new()).unwrap()).unwrap();
        kubo.run(&["dag", "import", text(&car)]);
        let copy = folder.path().join("copy");
        kubo.run(&["get", "--timeout", "60s", "-o", text(&copy), &root.to_string()]);
        assert_same(&thing, &copy);
        let _ = fs::remove_dir_all(&copy).or_else(|_| fs::remove_file(&copy));
    }
}

#[test]
fn a_folder_of_blocks_is_used_in_turn() {
    let Some(mut kubo) = Kubo::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let theirs = folder.path().join("theirs");
    fs::write(&theirs, bytes(700_000)).unwrap();
    let cid = parse_cid(&kubo.run(&["add", "-Q", text(&theirs)])).unwrap();
    kubo.stop();

    let store = FolderStore::open(kubo.repository.path().join("blocks")).unwrap();
    let copy = folder.path().join("copy");
    export(&store, &cid, &copy, ExportLimits::default()).unwrap();
    assert_same(&theirs, &copy);
    let ours = bytes(800_000);
    let options = ImportOptions::unixfs_v1_2025();
    let root = options.import(Input::reader(&ours[..]), &store, &mut |_| ()).unwrap().cid;
    drop(store);

    assert!(kubo.bytes(&["cat", &root.to_string()]) == ours);
    assert!(kubo.run(&["repo", "verify"]).ends_with("verify complete, all blocks validated."));
}
