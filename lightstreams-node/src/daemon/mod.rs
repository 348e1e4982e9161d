//! A running node: databases opened, secrets unlocked, listeners bound, then the story of the front page.
//!
//! ```text
//! lock -> genesis -> secrets -> listeners -> databases -> index, release engine -> network -> consensus -> serve .. stop
//! ```
//!
//! A port that is taken and a password that is wrong are found before any database is touched. Whatever fails later
//! ends the node with one line; what it acknowledged before is on disk.

mod custody;
mod dev;
mod driver;
mod release;
pub(crate) mod snapshot;
mod storage;

pub use dev::{DEV_PASSWORD, Dev, dev};
pub(crate) use storage::{Blocks, ensure_room, open_chain_db, storage_error};

use crate::adapters::{NodeView, PermissionGate, now_ms, now_s};
use crate::config::{Config, States};
use crate::datadir::{DataDir, Lock, read_text_bounded};
use crate::error::{NodeError, Result, io_error};
use crate::http::{self, Listeners, rpc::RpcFace};
use crate::init::{DEV_CHAIN_ID, read_genesis};
use crate::network::{self, AccountBook, ByProvenAccounts, NetworkHandle, NetworkParts};
use crate::secrets::{NodeIdentity, Password, PasswordSource, PublicIdentity, derivation_turn};
use crate::vault::{
    ChainView, ContentIndex, Custodian, Domain, KeptHeaders, Manifest, Place, ReleaseEngine, ReleaseLog,
};
use alloy_primitives::Address;
use driver::{DiskGuard, Driver, RecordFile, Wake};
use lightstreams_chain::consensus::{CliqueMachine, ConsensusMachine, DevMachine, Pacing};
use lightstreams_chain::{
    Chain, Clique, DEV_ACCOUNTS, EngineKind, Genesis, GuardedSigner, LocalSigner, OpenError, Options, Signer,
    rpc,
};
use lightstreams_store::{Block, BlockStore, FileDisk, Gate, Session, p2p::BitswapExchange};
use release::Releases;
use std::fmt;
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use zeroize::Zeroizing;

/// How long open requests may take to end when the node stops.
const STOP_TIME_MAX: Duration = Duration::from_secs(5);
/// How long the databases may still be in use by threads that were told to end.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(5);
/// A keystore file has at most this many bytes, a directory of them at most this many files.
const KEYSTORE_LEN_MAX: u64 = 16 * 1024;
const KEYSTORES_MAX: usize = 1024;
/// The codec of manifests.
const DAG_CBOR: u64 = 0x71;

/// What the parts of a running node share.
pub(crate) struct Node {
    pub(crate) dir: DataDir,
    pub(crate) config: Config,
    pub(crate) identity: PublicIdentity,
    pub(crate) holder: lightstreams_crypto::ed25519::SigningKey,
    pub(crate) chain: Arc<Chain>,
    pub(crate) view: Arc<NodeView>,
    pub(crate) store: Arc<dyn BlockStore>,
    pub(crate) blocks: Arc<Blocks>,
    pub(crate) index: Arc<ContentIndex>,
    pub(crate) kept: KeptHeaders,
    pub(crate) releases: Arc<Releases>,
    pub(crate) network: NetworkHandle,
    pub(crate) exchange: BitswapExchange,
    /// Asked before a block leaves, by whatever door.
    pub(crate) gate: Gate,
    pub(crate) rpc: RpcFace,
    pub(crate) listeners: http::Bound,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Node {
    /// The registry that contents of this node are in.
    pub(crate) fn domain(&self) -> Domain {
        self.view.domain()
    }

    /// A content of this node's registry.
    pub(crate) fn place(&self, content: lightstreams_acl::ContentId) -> Place {
        Place { domain: self.domain(), content }
    }

    /// A session that asks `peers`, in order.
    pub(crate) fn session(&self, peers: &[libp2p::PeerId]) -> Session {
        let id = |peer: &libp2p::PeerId| lightstreams_store::PeerId::from_bytes(&peer.to_bytes());
        Session::new().with_peers(peers.iter().filter_map(id))
    }
}

/// Runs the node of `dir` until it is told to stop (SIGINT, SIGTERM) or cannot go on.
pub fn run(dir: &DataDir, password: &PasswordSource) -> Result<()> {
    init_logging();
    dir.require_initialised()?;
    let config = Config::load(dir)?;
    let lock = dir.lock()?;
    let secrets = Secrets::unlock(dir, &config, password)?;
    run_with(dir, config, secrets, lock, |_| {})
}

/// What was unlocked before the start.
pub(crate) struct Secrets {
    identity: NodeIdentity,
    signer: Option<LocalSigner>,
    dev_signers: Vec<Arc<LocalSigner>>,
}

impl Secrets {
    fn unlock(dir: &DataDir, config: &Config, source: &PasswordSource) -> Result<Self> {
        if !dir.identity().exists() {
            return Err(NodeError::not_found(
                "no_identity",
                format!("{} does not exist", dir.identity().display()),
            )
            .hint("`lightstreams account new` makes it, together with an account"));
        }
        let password = source.read(&format!("password of {}", dir.root().display()), false)?;
        let identity = NodeIdentity::load(&dir.identity(), &password)?;
        let signer = match config.authority {
            Some(authority) => {
                let secret = unlock_account(&dir.keystore(), authority, &password)?;
                Some(LocalSigner::from_bytes(&secret).map_err(bad_key)?)
            }
            None => None,
        };
        Ok(Self { identity, signer, dev_signers: Vec::new() })
    }
}

fn bad_key(error: lightstreams_chain::SignerError) -> NodeError {
    NodeError::new("bad_key", "a keystore holds no usable key").because(error)
}

/// Opens the keystore of `account`.
pub(crate) fn unlock_account(
    keystore: &Path,
    account: Address,
    password: &Password,
) -> Result<Zeroizing<[u8; 32]>> {
    let unknown = || {
        NodeError::not_found("unknown_account", format!("{} holds no key of {account}", keystore.display()))
            .hint("`lightstreams account list` shows the accounts, `lightstreams account import` adds one")
    };
    let entries = match std::fs::read_dir(keystore) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(unknown()),
        Err(e) => return Err(io_error("read", keystore, e)),
    };
    for entry in entries.take(KEYSTORES_MAX) {
        let path = entry.map_err(|e| io_error("read", keystore, e))?.path();
        let Ok(text) = read_text_bounded(&path, KEYSTORE_LEN_MAX) else { continue };
        if keystore_address(&text) != Some(account) {
            continue;
        }
        let turn = derivation_turn();
        let opened = lightstreams_crypto::keystore::decrypt(text.as_bytes(), password.expose().as_bytes())
            .map_err(|e| {
                NodeError::usage("wrong_password", format!("cannot open {}", path.display()))
                    .because(e)
                    .hint("the password is wrong, or the file is damaged")
            })?;
        drop(turn);
        return Ok(opened.key());
    }
    Err(unknown())
}

fn keystore_address(text: &str) -> Option<Address> {
    let json: serde_json::Value = serde_json::from_str(text).ok()?;
    json.get("address")?.as_str()?.parse().ok()
}

/// Runs a node on a directory that this process has locked, until it is told to stop; calls `ready` when it answers.
fn run_with(
    dir: &DataDir,
    config: Config,
    secrets: Secrets,
    _lock: Lock,
    ready: impl FnOnce(&Node),
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(64)
        .enable_all()
        .build()
        .map_err(|e| NodeError::new("runtime", "cannot start the runtime").because(e))?;
    let mut databases = None;
    let ended = runtime.block_on(serve(dir, config, secrets, ready, &mut databases));
    // A blocking call that does not end (a fetch from a silent peer) must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(2));
    if let Some(databases) = databases {
        databases.close();
    }
    ended
}

/// What must be closed before the process ends.
struct Databases {
    chain: Arc<Chain>,
    blocks: Arc<dyn BlockStore>,
}

impl Databases {
    /// Waits until nobody else has them, and closes them here.
    ///
    /// Threads that were told to end let go one after the other. If the last of them were still closing RocksDB when the process takes
    /// down what that stands on, the process would abort.
    fn close(self) {
        let end = Instant::now() + CLOSE_TIME_MAX;
        while Arc::strong_count(&self.chain) > 1 || Arc::strong_count(&self.blocks) > 1 {
            if Instant::now() > end {
                tracing::warn!("the databases are still in use; what was acknowledged is safe");
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

async fn serve(
    dir: &DataDir,
    config: Config,
    secrets: Secrets,
    ready: impl FnOnce(&Node),
    databases: &mut Option<Databases>,
) -> Result<()> {
    dir.check_socket_path()?;
    let mut stop = Signals::listen()?;
    let genesis = read_genesis(dir)?;
    check_dev(&genesis, &config, &secrets)?;
    let identity = secrets.identity.public()?;
    if config.holder.is_some_and(|holder| holder != identity.holder) {
        return Err(NodeError::usage(
            "other_identity",
            "`holder` in lightstreams.toml is not the key in identity.age",
        )
        .hint(
            "restore the identity.age that belongs to this directory, or remove `holder` and `recipient`",
        ));
    }
    let listeners = Listeners::bind(dir, &config).await?;
    let (fatal, mut failed) = mpsc::channel(4);
    let opened = Opened::open(dir, &config, genesis, &secrets)?;
    *databases = Some(Databases { chain: opened.chain.clone(), blocks: opened.blocks.store.clone() });
    let (node, wake, driver) = start(dir, config, secrets, opened, &listeners, fatal.clone()).await?;

    let (stopping, stopped) = watch::channel(false);
    let served = tokio::spawn(listeners.serve(node.clone(), stopped));
    let watcher = tokio::spawn(custody::watch(node.clone(), stopping.subscribe()));
    let compacting = tokio::spawn(storage::keep_compact(node.blocks.clone(), stopping.subscribe()));
    announce_ready(&node);
    ready(&node);
    let ended = tokio::select! {
        () = stop.wait() => Ok(()),
        Some(error) = failed.recv() => Err(error),
    };
    match &ended {
        Ok(()) => tracing::info!("stopping"),
        Err(error) => tracing::error!("stopping: {error}"),
    }
    let _ = stopping.send(true);
    if let Some(wake) = &wake {
        wake.stop();
    }
    if tokio::time::timeout(STOP_TIME_MAX, served).await.is_err() {
        tracing::warn!("some requests did not end in time");
    }
    watcher.abort();
    compacting.abort();
    if let Some(driver) = driver {
        let _ = tokio::task::spawn_blocking(move || driver.join()).await;
    }
    let _ = std::fs::remove_file(dir.socket());
    ended
}

/// `dev` signs for keys that the whole world has: nowhere but on its own chain, on loopback.
fn check_dev(genesis: &Genesis, config: &Config, secrets: &Secrets) -> Result<()> {
    let dev_engine = genesis
        .network()
        .is_some_and(|network| network.engines.iter().any(|switch| switch.engine == EngineKind::Dev));
    let refused = |why: &str| {
        Err(NodeError::usage("not_a_dev_network", why.to_owned()).hint(
            "`dev` runs on chain id 161 and loopback only; use `init` and `run` for a network with others",
        ))
    };
    if secrets.dev_signers.is_empty() {
        return match dev_engine {
            true => Err(NodeError::usage("dev_network", "this directory holds a development network")
                .hint("start it with `lightstreams dev`")),
            false => Ok(()),
        };
    }
    if genesis.chain_id() != DEV_CHAIN_ID || !dev_engine {
        return refused("this directory holds no development network");
    }
    if config.rpc.is_some_and(|rpc| !rpc.ip().is_loopback()) {
        return refused("`dev` signs for well-known accounts and listens on loopback only");
    }
    Ok(())
}

/// What stands on disk, opened.
struct Opened {
    chain: Arc<Chain>,
    rules: Arc<Clique>,
    view: Arc<NodeView>,
    blocks: Arc<Blocks>,
    index: Arc<ContentIndex>,
    kept: KeptHeaders,
    releases: Arc<Releases>,
}

impl Opened {
    fn open(dir: &DataDir, config: &Config, genesis: Genesis, secrets: &Secrets) -> Result<Self> {
        let (chain, rules) = open_chain(dir, config, genesis)?;
        let oldest = chain.oldest_state();
        let kept = config.states.map_or(CHAIN_STATES, States::count);
        if chain.head().number().saturating_sub(oldest) < kept && oldest > 0 {
            tracing::info!(
                from = oldest,
                "states before this block are gone, and stay so; those since are kept as configured"
            );
        }
        let view = Arc::new(NodeView::new(chain.clone()).map_err(|e| {
            NodeError::usage("no_registry", "this chain has no registry of contents").because(e)
        })?);
        let blocks = Arc::new(Blocks::open(dir, config)?);
        let store = blocks.store.clone();
        let vault = open_disk(&dir.vault())?;
        let index = ContentIndex::open(vault.clone(), &store)
            .map_err(|e| storage_error("cannot open the index of contents in vault/", e))?;
        let kept = KeptHeaders::open(vault)
            .map_err(|e| storage_error("cannot open the kept headers in vault/", e))?;
        let log = ReleaseLog::open(open_disk(&dir.log())?, now_s())
            .map_err(|e| storage_error("cannot open the log of releases in log/", e))?;
        let custodian = Custodian {
            // Without an operator there is no account in custody, and every request asks the wrong holder.
            account: config.account.unwrap_or(Address::ZERO),
            holder: secrets.identity.holder_key(),
            identity: clone_identity(secrets.identity.age())?,
        };
        let admitted: Vec<Address> = config.account.iter().chain(&config.admit).copied().collect();
        let engine = ReleaseEngine::new(custodian, Box::new(move |_, owner| admitted.contains(owner)), log);
        let index = Arc::new(index);
        let holder = secrets.identity.holder_key();
        let identity = clone_identity(secrets.identity.age())?;
        let releases =
            Releases::new(engine, view.clone(), blocks.pinned.clone(), index.clone(), holder, identity);
        Ok(Self { chain, rules, view, blocks, index, kept, releases: Arc::new(releases) })
    }
}

/// The states that a chain keeps unless its configuration says otherwise.
const CHAIN_STATES: u64 = 1_024;

/// Opens the chain of a data directory that this process has locked.
pub(crate) fn open_chain(
    dir: &DataDir,
    config: &Config,
    genesis: Genesis,
) -> Result<(Arc<Chain>, Arc<Clique>)> {
    let rules = Arc::new(Clique::for_genesis(&genesis));
    let kv = storage::open_chain_db(&dir.chain_db(), config.storage)?;
    let options =
        Options { state_history: config.states.map_or(CHAIN_STATES, States::count), ..Options::default() };
    let chain = Chain::open_with(genesis, kv, rules.clone(), options).map_err(|e| open_error(dir, e))?;
    Ok((Arc::new(chain), rules))
}

fn clone_identity(age: &lightstreams_crypto::X25519Identity) -> Result<lightstreams_crypto::X25519Identity> {
    age.to_secret_string()
        .parse()
        .map_err(|e| NodeError::new("bad_identity", "the age identity is unusable").because(e))
}

fn open_disk(path: &Path) -> Result<Arc<dyn lightstreams_store::Disk>> {
    crate::datadir::make_private_dir(path)?;
    Ok(Arc::new(FileDisk::open(path).map_err(|e| io_error("open", path, e))?))
}

fn open_error(dir: &DataDir, error: OpenError) -> NodeError {
    match error {
        OpenError::OtherGenesis { stored, given, differences } => {
            let first = differences.first().map(|difference| format!(": {difference}")).unwrap_or_default();
            let database = dir.chain_db();
            NodeError::usage(
                "wrong_genesis",
                format!(
                    "{} holds the chain of genesis {stored}, genesis.json is {given}{first}",
                    database.display()
                ),
            )
            .hint(
                "`lightstreams chain genesis-diff` lists all that differs; restore the genesis.json of this chain, or use another data directory for another network",
            )
        }
        error @ OpenError::OtherConfig { .. } => {
            NodeError::usage("wrong_genesis", "genesis.json was changed")
                .because(error)
                .hint("restore the genesis.json that the chain was made with")
        }
        error @ OpenError::Schema { .. } => {
            NodeError::usage("foreign_database", "cannot use the chain database")
                .because(error)
                .hint("run the version of lightstreams that wrote it, or sync into a new data directory")
        }
        OpenError::Storage(error) => storage_error("cannot open the chain", error),
        error => NodeError::usage("bad_genesis", "cannot start the chain of this genesis").because(error),
    }
}

type Started = (Arc<Node>, Option<Arc<Wake>>, Option<std::thread::JoinHandle<()>>);

/// Starts network and consensus.
async fn start(
    dir: &DataDir,
    config: Config,
    secrets: Secrets,
    opened: Opened,
    listeners: &Listeners,
    fatal: mpsc::Sender<NodeError>,
) -> Result<Started> {
    let Opened { chain, rules, view, blocks, index, kept, releases } = opened;
    let store = blocks.store.clone();
    let accounts = Arc::new(AccountBook::default());
    let clock = Arc::new(now_ms);
    let policy = Arc::new(PermissionGate::new(index.clone(), view.clone(), clock));
    let policy = Arc::new(ByProvenAccounts::new(policy, accounts.clone()));
    let gate = Gate::new(store.clone(), policy);
    let parts = NetworkParts {
        keypair: secrets.identity.libp2p_keypair()?,
        listen: config.p2p.clone(),
        peers: config.peers.clone(),
        domain: view.domain(),
        accounts,
        releases: releases.clone(),
        gate: gate.clone(),
        chain: chain.clone(),
        fatal: fatal.clone(),
    };
    let (network, exchange) = network::start(parts).await?;
    releases.fetch_through(exchange.clone());
    let (counts, highest) = (network.clone(), network.clone());
    let options = rpc::Options {
        clique: Some(rules.clone()),
        peer_count: Arc::new(move || counts.peer_count()),
        highest_block: Arc::new(move || highest.highest_block()),
        dev_signers: secrets.dev_signers.clone(),
        ..rpc::Options::default()
    };
    let module = rpc::module(chain.clone(), options)
        .map_err(|e| NodeError::usage("not_a_dev_network", "cannot serve JSON-RPC").because(e))?;
    let node = Arc::new(Node {
        dir: dir.clone(),
        identity: secrets.identity.public()?,
        holder: secrets.identity.holder_key(),
        config,
        chain: chain.clone(),
        view,
        store,
        blocks,
        index,
        kept,
        releases,
        network: network.clone(),
        exchange,
        gate,
        rpc: RpcFace::new(module),
        listeners: listeners.bound(),
    });
    let Some(signer) = secrets.signer else { return Ok((node, None, None)) };
    let (wake, driver) = start_driver(dir, chain, rules, signer, network, fatal)?;
    Ok((node, Some(wake), Some(driver)))
}

fn start_driver(
    dir: &DataDir,
    chain: Arc<Chain>,
    rules: Arc<Clique>,
    signer: LocalSigner,
    network: NetworkHandle,
    fatal: mpsc::Sender<NodeError>,
) -> Result<(Arc<Wake>, std::thread::JoinHandle<()>)> {
    let pacing = Pacing::for_genesis(chain.genesis());
    let engines = chain.genesis().network().map(|network| network.engines.as_slice()).unwrap_or_default();
    let dev = engines.first().is_some_and(|first| first.engine == EngineKind::Dev);
    let record = RecordFile::new(&dir.consensus())?;
    let (machine, signer): (Box<dyn ConsensusMachine>, Box<dyn Signer>) = if dev {
        (Box::new(DevMachine::new(rules.clone(), pacing)), Box::new(signer))
    } else {
        let guard = DiskGuard::open(open_disk(&dir.consensus())?)?;
        (Box::new(CliqueMachine::new(rules.clone(), pacing)), Box::new(GuardedSigner::new(signer, guard)))
    };
    let wake = Arc::new(Wake::default());
    let (on_head, on_pool) = (wake.clone(), wake.clone());
    chain.observe_head(move |_| on_head.head());
    chain.observe_pool(move |_| on_pool.pool());
    let driver = Driver { chain, rules, machine, signer, record, network, wake: wake.clone() };
    let thread = std::thread::Builder::new()
        .name("consensus".into())
        .spawn(move || {
            if let Err(error) = driver.run() {
                let _ = fatal.blocking_send(error);
            }
        })
        .map_err(|e| NodeError::new("runtime", "cannot start the consensus thread").because(e))?;
    Ok((wake, thread))
}

fn announce_ready(node: &Node) {
    let head = node.chain.head();
    tracing::info!(
        chain = node.chain.chain_id(),
        genesis = %node.chain.genesis_hash(),
        head = head.number(),
        peer = %node.identity.peer_id,
        rpc = node.listeners.rpc.map(tracing::field::display),
        gateway = node.listeners.gateway.map(tracing::field::display),
        kubo = node.listeners.kubo.map(tracing::field::display),
        socket = %node.dir.socket().display(),
        "ready"
    );
    for address in node.network.listen_addresses() {
        tracing::info!(%address, "listening");
    }
}

/// The signals that end a node.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let wrong = |e| NodeError::new("runtime", "cannot listen to signals").because(e);
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(wrong)?,
            terminate: signal(SignalKind::terminate()).map_err(wrong)?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Logs to standard error; `LIGHTSTREAMS_LOG` chooses (`debug`, `lightstreams_node=trace`).
fn init_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("LIGHTSTREAMS_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .try_init();
}

/// Whether `block` is a manifest of the content at `place`.
pub(crate) fn is_manifest(block: &Block, place: &Place) -> bool {
    block.cid().codec() == DAG_CBOR
        && Manifest::decode(block.data()).is_ok_and(|manifest| manifest.place == *place)
}

/// The signers of the public mnemonic's accounts.
fn dev_signers() -> Result<Vec<Arc<LocalSigner>>> {
    DEV_ACCOUNTS.iter().map(|account| account.signer().map(Arc::new).map_err(bad_key)).collect()
}
