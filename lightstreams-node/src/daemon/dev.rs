//! `dev`: a network of one, for people who write applications.

use super::{Secrets, dev_signers, init_logging, run_with};
use crate::config::{BlockStorage, Config, Storage};
use crate::console::say;
use crate::datadir::DataDir;
use crate::error::{NodeError, Result, io_error};
use crate::init::{DEV_CHAIN_ID, Init, Network, NewNetwork, init};
use crate::secrets::{NodeIdentity, Password};
use alloy_primitives::U256;
use libp2p::Multiaddr;
use lightstreams_chain::DEV_ACCOUNTS;
use std::net::SocketAddr;

/// The password of a development network's identity: there is nothing to protect.
pub const DEV_PASSWORD: &str = "dev";
/// What each of the ten accounts starts with, in wei: 10,000 coins.
const DEV_BALANCE: u128 = 10_000 * 1_000_000_000_000_000_000;

/// How to run a development network.
#[derive(Clone, Debug)]
pub struct Dev {
    /// Where it is kept; a temporary directory that goes with the process if `None`.
    pub dir: Option<DataDir>,
    /// Where JSON-RPC listens; loopback.
    pub rpc: SocketAddr,
    /// Where libp2p listens, if at all.
    pub p2p: Option<Multiaddr>,
    /// Milliseconds between blocks; 0 seals as soon as there is a transaction.
    pub period_ms: u64,
    /// The database of the chain.
    pub storage: Storage,
    /// What keeps the blocks.
    pub blocks: BlockStorage,
}

/// Runs a single-authority network with the public mnemonic's ten funded accounts until it is told to stop.
pub fn dev(plan: &Dev) -> Result<()> {
    init_logging();
    let Some(dir) = &plan.dir else {
        let temporary = std::env::temp_dir().join(format!("lightstreams-dev-{}", std::process::id()));
        std::fs::create_dir(&temporary).map_err(|e| io_error("create", &temporary, e))?;
        let ended = run_in(&DataDir::new(&temporary), plan);
        let _ = std::fs::remove_dir_all(&temporary);
        return ended;
    };
    run_in(dir, plan)
}

fn run_in(dir: &DataDir, plan: &Dev) -> Result<()> {
    let Some(first) = DEV_ACCOUNTS.first() else {
        return Err(NodeError::new("no_accounts", "there are no development accounts"));
    };
    if !dir.genesis().exists() {
        let network = NewNetwork {
            chain_id: DEV_CHAIN_ID,
            authorities: vec![first.address],
            period_ms: plan.period_ms,
            empty_ms: None,
            alloc: DEV_ACCOUNTS.iter().map(|account| (account.address, U256::from(DEV_BALANCE))).collect(),
            dev: true,
            timestamp: crate::adapters::now_s(),
        };
        init(
            dir,
            &Init {
                network: Network::New(network),
                peers: Vec::new(),
                storage: plan.storage,
                blocks: plan.blocks,
                account: Some(first.address),
                admit: DEV_ACCOUNTS.iter().skip(1).map(|account| account.address).collect(),
                authority: Some(first.address),
                rpc: Some(plan.rpc),
                p2p: plan.p2p.clone(),
                private: None,
            },
        )?;
    }
    let lock = dir.lock()?;
    let password = Password::new(DEV_PASSWORD);
    let identity = if dir.identity().exists() {
        NodeIdentity::load(&dir.identity(), &password)?
    } else {
        let mut rng = crate::adapters::rng();
        let identity = NodeIdentity::generate(&mut rng);
        identity.save_new(&dir.identity(), &password, &mut rng)?;
        identity
    };
    let mut config = Config::load(dir)?;
    config.rpc = Some(plan.rpc);
    config.p2p.clone_from(&plan.p2p);
    let signer = first.signer().map_err(super::bad_key)?;
    let secrets = Secrets { identity, signer: Some(signer), dev_signers: dev_signers()? };
    run_with(dir, config, secrets, lock, |node| {
        say(format_args!("data directory  {}", node.dir.root().display()));
        if let Some(rpc) = node.listeners.rpc {
            say(format_args!("JSON-RPC        http://{rpc}   chain id {DEV_CHAIN_ID}"));
        }
        for account in &DEV_ACCOUNTS {
            say(format_args!("account         {}   key {}", account.address, account.secret));
        }
    })
}
