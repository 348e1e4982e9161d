//! Node processes on loopback, and a client of their private API in a few lines of std.

use alloy_primitives::{Address, U256};
use cid::Cid;
use lightstreams_chain::DEV_ACCOUNTS;
use lightstreams_crypto::keystore;
use lightstreams_node::config::{BlockStorage, Storage};
use lightstreams_node::datadir::{DataDir, write_private};
use lightstreams_node::init::{Init, Network, NewNetwork, init};
use lightstreams_node::secrets::{NodeIdentity, Password};
use lightstreams_store::{Block, CarReader, CarWriter};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) const PASSWORD: &str = "open sesame";
const START_TIME_MAX: Duration = Duration::from_secs(60);

/// The storage that this run of the tests is about.
pub(crate) fn storage() -> Storage {
    match std::env::var("LIGHTSTREAMS_TEST_STORAGE") {
        Ok(name) => name.parse().unwrap(),
        Err(_) => Storage::Fjall,
    }
}

/// A directory of a node, which is removed with this value.
pub(crate) struct Home {
    temp: tempfile::TempDir,
}

impl Home {
    /// A directory with identity, the keystore of the first development account, and a password file.
    pub(crate) fn new() -> Self {
        let temp = tempfile::Builder::new().prefix("ls").tempdir().unwrap();
        let home = Self { temp };
        let dir = home.dir();
        dir.create().unwrap();
        write_private(&home.password_file(), PASSWORD.as_bytes()).unwrap();
        let mut rng = rand::rng();
        NodeIdentity::generate(&mut rng)
            .save_new(&dir.identity(), &Password::new(PASSWORD), &mut rng)
            .unwrap();
        home
    }

    pub(crate) fn dir(&self) -> DataDir {
        DataDir::new(self.temp.path().join("node"))
    }

    fn password_file(&self) -> std::path::PathBuf {
        self.temp.path().join("node/password")
    }

    /// Adds the keystore of the first development account.
    pub(crate) fn with_authority(self) -> Self {
        let dir = self.dir();
        lightstreams_node::datadir::make_private_dir(&dir.keystore()).unwrap();
        let secret = DEV_ACCOUNTS[0].secret.0;
        let json = keystore::encrypt(
            &secret,
            Some(&authority().into_array()),
            PASSWORD.as_bytes(),
            &mut rand::rng(),
        )
        .unwrap();
        write_private(&dir.keystore().join("authority.json"), json.as_bytes()).unwrap();
        self
    }

    /// Founds a network of one authority with blocks every `period_ms`.
    pub(crate) fn found(self, period_ms: u64) -> Self {
        self.found_with(period_ms, BlockStorage::default())
    }

    /// The same, with the node's blocks in `blocks`.
    pub(crate) fn found_with(self, period_ms: u64, blocks: BlockStorage) -> Self {
        let network = NewNetwork {
            chain_id: 162,
            authorities: vec![authority()],
            period_ms,
            empty_ms: Some(period_ms.max(200)),
            alloc: DEV_ACCOUNTS.iter().map(|a| (a.address, U256::from(10u128.pow(21)))).collect(),
            dev: false,
            // Networks of another pace are other networks from block 0 on.
            timestamp: 1_700_000_000 + period_ms,
        };
        let plan = Init { blocks, ..plan(Network::New(network)) };
        init(&self.dir(), &Init { authority: Some(authority()), account: Some(authority()), ..plan })
            .unwrap();
        self
    }

    /// Joins the network of `other`, which listens on `peer`.
    pub(crate) fn join(self, other: &Home, peer: &str) -> Self {
        let plan = plan(Network::Join { genesis: other.dir().genesis() });
        init(&self.dir(), &Init { peers: vec![peer.parse().unwrap()], ..plan }).unwrap();
        self
    }

    /// A verb on this directory.
    pub(crate) fn verb(&self, words: &[&str]) -> Command {
        self.starting(Command::new(binary()), words)
    }

    fn starting(&self, mut command: Command, words: &[&str]) -> Command {
        command
            .arg("--data")
            .arg(self.dir().root())
            .args(words)
            .env("LIGHTSTREAMS_PASSWORD_FILE", self.password_file())
            .env("LIGHTSTREAMS_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    pub(crate) fn command(&self) -> Command {
        self.verb(&["run"])
    }

    /// Starts the node with `dir` on a disk of `mib` MiB of its own; nothing where this machine does not let us.
    pub(crate) fn start_on_small_disk(&self, dir: &Path, mib: u32) -> Option<Running> {
        let mount = format!("mount -t tmpfs -o size={mib}m tmpfs '{}' && exec \"$@\"", dir.display());
        let unshare = || {
            let mut command = Command::new("unshare");
            command.args(["--map-root-user", "--mount", "sh", "-c", &mount, "sh"]);
            command
        };
        let may = unshare().arg("true").stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        if !may {
            eprintln!("skipped: this machine lets nobody mount a small disk");
            return None;
        }
        let mut command = unshare();
        command.arg(binary());
        let child = self.starting(command, &["run"]).stderr(Stdio::piped()).spawn().unwrap();
        Some(Running::wait(child, self.dir()))
    }

    /// Starts the node and waits until its private API answers.
    pub(crate) fn start(&self) -> Running {
        let child = self.command().stderr(Stdio::piped()).spawn().unwrap();
        Running::wait(child, self.dir())
    }

    /// Starts a node that must end by itself; returns its exit code and what it said.
    pub(crate) fn fails(&self) -> (i32, String) {
        let output = self.command().output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap_or(-1), said)
    }
}

/// Another build of the command can be put under the same tests.
pub(crate) fn binary() -> std::ffi::OsString {
    std::env::var_os("LIGHTSTREAMS_TEST_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_lightstreams").into())
}

fn plan(network: Network) -> Init {
    Init {
        network,
        peers: Vec::new(),
        storage: storage(),
        blocks: BlockStorage::default(),
        account: None,
        admit: Vec::new(),
        authority: None,
        rpc: "127.0.0.1:0".parse().ok(),
        p2p: "/ip4/127.0.0.1/tcp/0".parse().ok(),
        private: None,
    }
}

pub(crate) fn authority() -> Address {
    DEV_ACCOUNTS[0].address
}

/// Sends a signal; a bare system has no `kill` command.
pub(crate) fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// A node process. It is killed when dropped.
pub(crate) struct Running {
    child: Child,
    dir: DataDir,
}

impl Running {
    fn wait(mut child: Child, dir: DataDir) -> Self {
        // What the node says is read on, so that it never waits for us; the last lines are shown if it does not start.
        let (to, from) = std::sync::mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).for_each(|line| drop(to.send(line))));
        let mut node = Self { child, dir };
        let end = Instant::now() + START_TIME_MAX;
        loop {
            if node.try_get("/v1/status").is_ok() {
                return node;
            }
            if node.child.try_wait().unwrap().is_some() || Instant::now() > end {
                std::thread::sleep(Duration::from_millis(100));
                panic!("the node does not start: {:#?}", from.try_iter().collect::<Vec<_>>());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// kill -9, while others still talk to it.
    pub(crate) fn kill_now(&self) {
        signal(&self.child, Signal::KILL);
    }

    /// kill -9
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; the node must end with success.
    pub(crate) fn stop(mut self) {
        signal(&self.child, Signal::TERM);
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "{status}");
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the node does not stop");
    }

    pub(crate) fn socket(&self) -> std::path::PathBuf {
        self.dir.socket()
    }

    pub(crate) fn try_get(&self, path: &str) -> std::io::Result<Reply> {
        request(&self.socket(), "GET", path, "", &[])
    }

    pub(crate) fn status(&self) -> Value {
        self.try_get("/v1/status").unwrap().json()
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        request(&self.socket(), "POST", path, "application/json", body.to_string().as_bytes()).unwrap()
    }

    pub(crate) fn put(&self, path: &str, kind: &str, body: &[u8]) -> std::io::Result<Reply> {
        request(&self.socket(), "PUT", path, kind, body)
    }

    /// A JSON-RPC call that must succeed.
    pub(crate) fn rpc(&self, method: &str, params: Value) -> Value {
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let answer = self.post("/rpc", &call).json();
        assert!(answer.get("error").is_none_or(Value::is_null), "{method}: {answer}");
        answer["result"].clone()
    }

    /// Those of `cids` that the node holds itself.
    pub(crate) fn held(&self, cids: &[Cid]) -> Vec<Block> {
        let ask = json!({
            "content": format!("0x{}", "11".repeat(32)),
            "cids": cids.iter().map(ToString::to_string).collect::<Vec<_>>(),
        });
        let reply = self.post("/v1/fetch", &ask);
        assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
        CarReader::new(reply.body.as_slice()).unwrap().map(Result::unwrap).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `done` gives something.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(60);
    while Instant::now() < end {
        if let Some(value) = done() {
            return value;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("timeout: {what}");
}

/// An answer of the private API.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&self.body)))
    }
}

/// One request on a connection of its own.
pub(crate) fn request(
    socket: &Path,
    method: &str,
    path: &str,
    kind: &str,
    body: &[u8],
) -> std::io::Result<Reply> {
    exchange(UnixStream::connect(socket)?, method, path, kind, "", body)
}

pub(crate) fn exchange(
    mut stream: impl Read + Write,
    method: &str,
    path: &str,
    kind: &str,
    extra: &str,
    body: &[u8],
) -> std::io::Result<Reply> {
    let kind = if kind.is_empty() { String::new() } else { format!("content-type: {kind}\r\n") };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n{kind}{extra}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    // A node that refuses early closes before all of the body is written; its answer is what counts.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    parse(&answer).ok_or_else(|| read.err().unwrap_or_else(|| std::io::ErrorKind::UnexpectedEof.into()))
}

fn parse(answer: &[u8]) -> Option<Reply> {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?.to_ascii_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let rest = &answer[end + 4..];
    if !head.contains("transfer-encoding: chunked") {
        let len =
            head.lines().find_map(|l| l.strip_prefix("content-length: "))?.trim().parse::<usize>().ok()?;
        return (rest.len() == len).then(|| Reply { status, body: rest.to_vec() });
    }
    let (mut rest, mut body) = (rest, Vec::new());
    loop {
        let line = rest.windows(2).position(|w| w == b"\r\n")?;
        let len = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?, 16).ok()?;
        if len == 0 {
            return Some(Reply { status, body });
        }
        body.extend_from_slice(rest.get(line + 2..line + 2 + len)?);
        rest = rest.get(line + 4 + len..)?;
    }
}

/// A CAR of `blocks`.
pub(crate) fn car(blocks: &[Block]) -> Vec<u8> {
    let root: Cid = "bafkqaaa".parse().unwrap();
    let mut car = CarWriter::new(Vec::new(), &[root]).unwrap();
    blocks.iter().for_each(|block| car.write(block).unwrap());
    car.finish().unwrap()
}

/// `count` raw blocks of `len` bytes that no one has seen before.
pub(crate) fn blocks(count: usize, len: usize) -> Vec<Block> {
    (0..count)
        .map(|_| {
            let mut data = vec![0; len];
            rand::Rng::fill_bytes(&mut rand::rng(), &mut data);
            Block::raw(data)
        })
        .collect()
}
