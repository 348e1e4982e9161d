//! What it costs to bring a file from peers, and what more peers are good for.
//!
//! ```text
//! TMPDIR=/dev/shm cargo bench -p lightstreams-benches --bench transfer [-- [MIB] [loopback]]
//! ```
//!
//! Processes of their own, each with a `SegmentStore` in `TMPDIR`: seeders, which have a file of `MIB` MiB (1024 unless told otherwise), and a
//! reader, which fetches it by its root and stores it. First one seeder over loopback, with the CPU seconds of both ends from the first
//! request to the last block stored. Then 1, 2 and 4 seeders, each in a network namespace with a link of 200 Mbit/s to the reader's, and an
//! eighth of the file: that needs root and iproute2, and is left out if told `loopback`. Linux only.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

mod support;

use std::{
    env,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use libp2p::{
    Multiaddr, Swarm, SwarmBuilder, identify,
    swarm::{NetworkBehaviour, SwarmEvent, dial_opts::DialOpts},
    tcp,
};
use lightstreams_store::{
    AllowAll, BlockStore, Cid, Gate, ImportOptions, Input, SegmentStore, Session, fetch_dag,
    p2p::{Bitswap, BitswapConfig, BitswapExchange, Noise, Tls, Yamux},
};

use support::{bytes, cpu};

/// Of a link to a seeder.
const LINK: &str = "200mbit";

#[derive(NetworkBehaviour)]
struct Peer {
    bitswap: Bitswap,
    identify: identify::Behaviour,
}

/// Bytes that no two blocks share.
struct Random {
    seed: u64,
    left: u64,
}

impl Read for Random {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let len = (buf.len() as u64).min(self.left) as usize;
        self.seed += 1;
        buf[..len].copy_from_slice(&bytes(self.seed, len));
        self.left -= len as u64;
        Ok(len)
    }
}

fn swarm(store: Arc<dyn BlockStore>) -> (Swarm<Peer>, BitswapExchange) {
    let bitswap =
        Bitswap::new(Gate::new(store, Arc::new(AllowAll)), |_| None, BitswapConfig::default()).unwrap();
    let exchange = bitswap.exchange();
    let swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), (Tls::new, Noise::new), Yamux::default)
        .unwrap()
        .with_behaviour(|key| Peer {
            bitswap,
            identify: identify::Behaviour::new(identify::Config::new("bench/1".to_owned(), key.public())),
        })
        .unwrap()
        .build();
    (swarm, exchange)
}

/// Serves the file, and prints where; ends with its standard input.
async fn serve(ip: &str, mib: u64) {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(SegmentStore::open(folder.path()).unwrap());
    let file = Input::reader(Random { seed: 0, left: mib << 20 });
    let root = ImportOptions::unixfs_v1_2025().import(file, &*store, &mut |_| ()).unwrap().cid;
    let (mut swarm, _) = swarm(store);
    swarm.listen_on(format!("/ip4/{ip}/tcp/0").parse().unwrap()).unwrap();
    let closed = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    tokio::pin!(closed);
    loop {
        tokio::select! {
            event = swarm.select_next_some() => {
                if let SwarmEvent::NewListenAddr { address, .. } = event {
                    println!("{address}/p2p/{} {root}", swarm.local_peer_id());
                }
            }
            _ = &mut closed => return,
        }
    }
}

/// Fetches `root` from the peers at `addresses`, and prints seconds, CPU seconds, bytes, and bytes that came twice.
async fn fetch(root: Cid, addresses: Vec<Multiaddr>) {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(SegmentStore::open(folder.path()).unwrap());
    let (mut swarm, exchange) = swarm(store.clone());
    let mut connected = 0;
    for address in &addresses {
        swarm.dial(DialOpts::unknown_peer_id().address(address.clone()).build()).unwrap();
    }
    while connected < addresses.len() {
        if let SwarmEvent::ConnectionEstablished { .. } = swarm.select_next_some().await {
            connected += 1;
        }
    }
    let driven = tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    let (clock, before) = (Instant::now(), cpu("self"));
    let asking = exchange.clone();
    let fetched = tokio::task::spawn_blocking(move || {
        fetch_dag(&root, &*store, &asking, &Session::new(), u64::MAX, &mut |_| ())
    });
    let fetched = fetched.await.unwrap().unwrap();
    let (seconds, cpu) = (clock.elapsed().as_secs_f64(), cpu("self") - before);
    println!("{seconds} {cpu} {} {}", fetched.bytes, exchange.stats().duplicate_bytes);
    driven.abort();
}

/// A seeder in a process of its own, in the namespace `space` if there is one.
struct Seeder {
    process: Child,
    address: String,
    root: String,
}

impl Seeder {
    fn start(space: Option<&str>, ip: &str, mib: u64) -> Self {
        let mut process = own(space).args(["--serve", ip, &mib.to_string()]).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let (address, root) = line.trim().split_once(' ').unwrap();
        Self { process, address: address.into(), root: root.into() }
    }
}

impl Drop for Seeder {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

fn own(space: Option<&str>) -> Command {
    let program = env::current_exe().unwrap();
    let mut command = match space {
        Some(space) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", space]).arg(program);
            command
        }
        None => Command::new(program),
    };
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// What a reader in the namespace `space` printed: seconds, CPU seconds, bytes, bytes that came twice.
fn read(space: Option<&str>, seeders: &[Seeder]) -> [f64; 4] {
    let addresses = seeders.iter().map(|seeder| &seeder.address);
    let output = own(space).arg("--fetch").arg(&seeders[0].root).args(addresses).output().unwrap();
    assert!(output.status.success(), "the reader failed");
    let text = String::from_utf8(output.stdout).unwrap();
    let figures: Vec<f64> = text.split_whitespace().map(|figure| figure.parse().unwrap()).collect();
    figures.try_into().unwrap()
}

fn loopback(mib: u64) {
    let seeder = Seeder::start(None, "127.0.0.1", mib);
    let pid = seeder.process.id().to_string();
    let before = cpu(&pid);
    let seeders = [seeder];
    let [seconds, cpu_reader, bytes, twice] = read(None, &seeders);
    let (cpu_seeder, gib) = (cpu(&pid) - before, bytes / (1u64 << 30) as f64);
    println!("loopback, {mib} MiB: {:.0} MB/s, {:.2} s", bytes / seconds / 1e6, seconds);
    println!(
        "  CPU-s/GiB: {:.2} for both ends, {:.2} seeder, {:.2} reader; came twice: {:.2} %",
        (cpu_seeder + cpu_reader) / gib,
        cpu_seeder / gib,
        cpu_reader / gib,
        twice / bytes * 100.0
    );
}

/// Network namespaces, which end with this value.
struct Spaces(Vec<String>);

impl Spaces {
    /// One for the reader, the first, and one for each of `count` seeders, with a link of `LINK` to it.
    fn new(count: usize) -> Self {
        let name = |i: usize| format!("ls{}-{i}", std::process::id());
        let spaces = Self((0..=count).map(name).collect());
        for space in &spaces.0 {
            ip(&["netns", "add", space]);
            ip(&["-n", space, "link", "set", "lo", "up"]);
        }
        let reader = &spaces.0[0];
        for (i, space) in spaces.0.iter().enumerate().skip(1) {
            let here = format!("s{i}");
            ip(&[
                "-n", reader, "link", "add", &here, "type", "veth", "peer", "name", "reader", "netns", space,
            ]);
            for (space, link, end) in [(reader, here.as_str(), 2), (space, "reader", 1)] {
                ip(&["-n", space, "address", "add", &format!("10.77.{i}.{end}/24"), "dev", link]);
                ip(&["-n", space, "link", "set", link, "up"]);
            }
            let limit = ["tbf", "rate", LINK, "burst", "256kb", "latency", "50ms"];
            let tc = ["netns", "exec", space, "tc", "qdisc", "add", "dev", "reader", "root"];
            ip(&[&tc[..], &limit[..]].concat());
        }
        spaces
    }
}

impl Drop for Spaces {
    fn drop(&mut self) {
        for space in &self.0 {
            ip(&["netns", "delete", space]);
        }
    }
}

#[track_caller]
fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().unwrap();
    assert!(status.success(), "ip {}", arguments.join(" "));
}

fn seeders(mib: u64) {
    let allowed = Command::new("ip").args(["netns", "add", "ls-try"]).stderr(Stdio::null()).status();
    if !allowed.is_ok_and(|status| status.success()) {
        println!("no network namespaces without root and iproute2: 1, 2 and 4 seeders are not compared");
        return;
    }
    ip(&["netns", "delete", "ls-try"]);
    let spaces = Spaces::new(4);
    let all: Vec<Seeder> =
        (1..=4).map(|i| Seeder::start(Some(&spaces.0[i]), &format!("10.77.{i}.1"), mib)).collect();
    let mut alone = 0.0;
    for count in [1, 2, 4] {
        let [seconds, _, bytes, twice] = read(Some(&spaces.0[0]), &all[..count]);
        if count == 1 {
            alone = seconds;
        }
        println!(
            "{count} seeders at {LINK} each, {mib} MiB: {seconds:.2} s, {:.0} MB/s, {:.2} times one; came twice: {:.2} %",
            bytes / seconds / 1e6,
            alone / seconds,
            twice / bytes * 100.0
        );
        // What is on its way in a link's queue does not meet the next reader.
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--serve", ip, mib] => return runtime().block_on(serve(ip, mib.parse().unwrap())),
        ["--fetch", root, ref addresses @ ..] => {
            let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
            return runtime().block_on(fetch(root.parse().unwrap(), addresses));
        }
        _ => {}
    }
    assert!(Path::new("/proc/self/stat").exists(), "this bench needs Linux");
    // `cargo test` runs benches too, only to see that they work.
    let quick = !arguments.iter().any(|argument| argument == "--bench");
    let told = arguments.iter().find_map(|argument| argument.parse().ok());
    let mib = if quick { 16 } else { told.unwrap_or(1024) };
    loopback(mib);
    if !quick && !arguments.iter().any(|argument| argument == "loopback") {
        seeders(mib / 8);
    }
}
