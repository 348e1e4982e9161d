//! Writing what a node needs before its first start: a new network, or a place in one that exists.
//!
//! A new network is a `chain/genesis.json` in which the contracts stand already: their constructors run here, and the
//! code and storage that they leave go into the allocation, at the same addresses in every network:
//!
//! | contract | address |
//! |---|---|
//! | `registry` | `0x4c53000000000000000000000000000000000001` |
//! | `custodians` | `0x4c53000000000000000000000000000000000002` |
//! | `market` | `0x4c53000000000000000000000000000000000003` |
//!
//! To join, the same file is copied from a node that has it; two nodes whose genesis differs in one byte of meaning
//! never talk to each other.

use crate::config::{BlockStorage, Config, Storage};
use crate::daemon::{open_chain, snapshot};
use crate::datadir::{DataDir, make_private_dir, read_text_bounded, write_private_new};
use crate::error::{NodeError, Result};
use alloy_primitives::{Address, Bytes, U256, address};
use libp2p::Multiaddr;
use lightstreams_chain::{EngineKind, EngineSwitch, FeePolicy, Genesis, NetworkConfig};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where the registry stands.
pub const REGISTRY: Address = address!("4c53000000000000000000000000000000000001");
/// Where the records of custodians stand.
pub const CUSTODIANS: Address = address!("4c53000000000000000000000000000000000002");
/// Where the market stands.
pub const MARKET: Address = address!("4c53000000000000000000000000000000000003");
/// The chain id of development networks.
pub const DEV_CHAIN_ID: u64 = 161;
/// A genesis file has at most this many bytes.
const GENESIS_LEN_MAX: u64 = 64 << 20;
/// A network is founded with at most this many authorities.
const AUTHORITIES_MAX: usize = 256;

/// What `init` writes.
#[derive(Clone, Debug)]
pub struct Init {
    /// A new network, or one to join.
    pub network: Network,
    /// Peers to stay connected to.
    pub peers: Vec<Multiaddr>,
    /// The database of the chain.
    pub storage: Storage,
    /// What keeps the blocks.
    pub blocks: BlockStorage,
    /// The operator's account; else what the directory's configuration names.
    pub account: Option<Address>,
    /// Further owners whose contents the node takes custody of.
    pub admit: Vec<Address>,
    /// The account of this node that seals blocks.
    pub authority: Option<Address>,
    /// Where JSON-RPC listens.
    pub rpc: Option<SocketAddr>,
    /// Where libp2p listens.
    pub p2p: Option<Multiaddr>,
    /// Where the private API listens beside its socket.
    pub private: Option<SocketAddr>,
}

/// The network that a data directory belongs to.
#[derive(Clone, Debug)]
pub enum Network {
    /// One that starts here.
    New(NewNetwork),
    /// One whose genesis file this is.
    Join {
        /// The genesis file.
        genesis: PathBuf,
    },
    /// One of which this is a snapshot, as `chain snapshot` writes it.
    Restore {
        /// The directory.
        snapshot: PathBuf,
    },
}

/// What is decided when a network starts.
#[derive(Clone, Debug)]
pub struct NewNetwork {
    /// The chain id.
    pub chain_id: u64,
    /// The accounts that seal blocks.
    pub authorities: Vec<Address>,
    /// Milliseconds between blocks with transactions.
    pub period_ms: u64,
    /// Milliseconds between empty blocks; `None`, only for `dev`, seals none.
    pub empty_ms: Option<u64>,
    /// Balances from the start, in wei.
    pub alloc: Vec<(Address, U256)>,
    /// One local sealer that seals at once.
    pub dev: bool,
    /// The time of block 0, in Unix seconds.
    pub timestamp: u64,
}

/// Prepares `dir`, which may hold a keystore, an identity and their public halves, but no network yet.
pub fn init(dir: &DataDir, plan: &Init) -> Result<Genesis> {
    let mut config = Config::load_or_default(dir)?;
    if dir.genesis().exists() {
        return Err(already(dir, plan));
    }
    let genesis = match &plan.network {
        Network::New(new) => new.genesis()?,
        Network::Join { genesis } => read_genesis_file(genesis)?,
        Network::Restore { snapshot } => read_genesis_file(&snapshot.join(snapshot::GENESIS))?,
    };
    require_registry(&genesis)?;
    config.storage = plan.storage;
    if let Network::Restore { snapshot } = &plan.network {
        config.storage = restore(dir, snapshot, &genesis)?;
    }
    config.blocks = Some(plan.blocks);
    config.account = plan.account.or(config.account);
    config.admit.clone_from(&plan.admit);
    config.authority = plan.authority;
    config.rpc = plan.rpc;
    config.p2p.clone_from(&plan.p2p);
    config.private = plan.private;
    config.peers.clone_from(&plan.peers);
    dir.create()?;
    make_private_dir(&dir.chain())?;
    config.save(dir)?;
    // Last, since it is what makes the directory count as initialised.
    write_private_new(&dir.genesis(), genesis.to_json().as_bytes())?;
    Ok(genesis)
}

/// The directory holds a network: the one asked for, or one that differs from it.
fn already(dir: &DataDir, plan: &Init) -> NodeError {
    let other = match &plan.network {
        Network::Join { genesis } => read_genesis_file(genesis).ok(),
        Network::Restore { snapshot } => read_genesis_file(&snapshot.join(snapshot::GENESIS)).ok(),
        Network::New(_) => None,
    };
    let which = match (other, read_genesis(dir)) {
        (Some(other), Ok(own)) => match genesis_difference(&own, &other) {
            None => "this network already".to_owned(),
            Some(difference) => format!("another network: {difference}"),
        },
        _ => "a network already".to_owned(),
    };
    NodeError::usage("already_initialised", format!("{} holds {which}", dir.root().display()))
        .hint("nothing was changed; choose another directory with --data")
}

/// The first field in which `given` differs from `own`.
fn genesis_difference(own: &Genesis, given: &Genesis) -> Option<lightstreams_chain::Difference> {
    own.differences(given).into_iter().next()
}

/// Puts the database of a snapshot into place, once its chain is the one that its manifest names; tells of which kind it is.
fn restore(dir: &DataDir, from: &std::path::Path, genesis: &Genesis) -> Result<Storage> {
    let manifest = snapshot::read(from)?;
    if manifest.info.genesis != genesis.hash() {
        return Err(NodeError::usage(
            "bad_snapshot",
            format!(
                "{} is of genesis {}, its genesis.json is {}",
                from.display(),
                manifest.info.genesis,
                genesis.hash()
            ),
        ));
    }
    let database = dir.chain_db();
    if database.exists() {
        return Err(NodeError::usage("already_exists", format!("{} already exists", database.display()))
            .hint(
                "a snapshot is restored into a directory without a chain; move it away, or choose another",
            ));
    }
    dir.create()?;
    make_private_dir(&dir.chain())?;
    let restored = snapshot::restore(from, &database).and_then(|()| {
        let config = Config { storage: manifest.storage, ..Config::default() };
        let (chain, _) = open_chain(dir, &config, genesis.clone())?;
        let head = chain.head();
        if (head.block_ref(), head.header.state_root) == (manifest.info.head, manifest.info.state_root) {
            return Ok(());
        }
        Err(NodeError::new(
            "bad_snapshot",
            format!("the head in {} is not the one its manifest names", from.display()),
        )
        .hint("get the snapshot again"))
    });
    if restored.is_err() {
        let _ = std::fs::remove_dir_all(&database);
    }
    restored.map(|()| manifest.storage)
}

/// Reads the genesis of an initialised data directory.
pub fn read_genesis(dir: &DataDir) -> Result<Genesis> {
    read_genesis_file(&dir.genesis())
}

pub(crate) fn read_genesis_file(path: &std::path::Path) -> Result<Genesis> {
    let text = read_text_bounded(path, GENESIS_LEN_MAX)?;
    Genesis::from_json(text.as_bytes()).map_err(|e| {
        NodeError::usage("bad_genesis", format!("{} is no genesis file of a network", path.display()))
            .because(e)
            .hint("copy chain/genesis.json from a node of the network, unchanged")
    })
}

fn require_registry(genesis: &Genesis) -> Result<()> {
    if genesis.network().is_some_and(|network| network.contracts.contains_key("registry")) {
        return Ok(());
    }
    Err(NodeError::usage("no_registry", "the genesis names no registry contract").hint(
        "config.lightstreams.contracts.registry is missing; take the genesis of a network made by `init`",
    ))
}

impl NewNetwork {
    /// The genesis, with the contracts deployed.
    pub fn genesis(&self) -> Result<Genesis> {
        self.check()?;
        let contracts = BTreeMap::from([
            ("registry".to_owned(), REGISTRY),
            ("custodians".to_owned(), CUSTODIANS),
            ("market".to_owned(), MARKET),
        ]);
        let engine = if self.dev { EngineKind::Dev } else { EngineKind::Clique };
        let network = NetworkConfig {
            engines: vec![EngineSwitch { at: 0, engine }],
            block_period_ms: self.period_ms,
            empty_block_ms: self.empty_ms,
            fee_policy: FeePolicy::Market,
            fee_recipient: None,
            contracts,
        };
        let wrong = |e| NodeError::usage("bad_genesis", "these settings make no network").because(e);
        let mut genesis = Genesis::for_network(
            self.chain_id,
            network,
            clique_extra_data(&self.authorities),
            self.timestamp,
        )
        .map_err(wrong)?;
        for (account, wei) in &self.alloc {
            genesis.fund(*account, *wei);
        }
        let codes = [
            (REGISTRY, lightstreams_acl::ContentRegistry::init_code()),
            (CUSTODIANS, lightstreams_acl::Custodians::init_code()),
            (MARKET, lightstreams_acl::Market::init_code(REGISTRY)),
        ];
        for (address, code) in codes {
            genesis.predeploy(address, code, Address::ZERO).map_err(wrong)?;
        }
        Ok(genesis)
    }

    fn check(&self) -> Result<()> {
        if self.authorities.is_empty() {
            return Err(NodeError::usage("no_authority", "a network needs an account that seals its blocks")
                .hint("`lightstreams account new` makes one; or name it with --authority"));
        }
        if self.authorities.len() > AUTHORITIES_MAX {
            return Err(NodeError::usage(
                "too_many_authorities",
                format!("at most {AUTHORITIES_MAX} authorities"),
            ));
        }
        let mut sorted = self.authorities.clone();
        sorted.sort();
        if sorted.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) || sorted.contains(&Address::ZERO) {
            return Err(NodeError::usage(
                "bad_authority",
                "an authority is named twice, or is the zero address",
            ));
        }
        Ok(())
    }
}

/// The extra data of a Clique genesis: 32 bytes of vanity, the authorities ascending, 65 bytes without a seal.
fn clique_extra_data(authorities: &[Address]) -> Bytes {
    let mut sorted = authorities.to_vec();
    sorted.sort();
    let mut extra = vec![0; 32];
    sorted.iter().for_each(|authority| extra.extend_from_slice(authority.as_slice()));
    extra.resize(extra.len() + 65, 0);
    extra.into()
}
