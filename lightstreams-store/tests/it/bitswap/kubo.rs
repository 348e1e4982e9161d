//! Kubo, where its program `ipfs` is on the PATH: it fetches from us, we fetch from it.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use lightstreams_store::{ExportLimits, MemoryStore, Session, export, fetch_dag};

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
        let mut ipfs = Command::new("ipfs");
        let output = ipfs.env("IPFS_PATH", self.repository.path()).args(arguments).output().unwrap();
        assert!(output.status.success(), "ipfs {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
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
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
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
        let copy = to.path().join("copy.age");
        kubo.run(&["get", "-o", text(&copy), &sealed.root.to_string()]);
        assert_eq!(sealed.open(&copy), bytes(len));
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
        std::fs::create_dir(&folder).unwrap();
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
