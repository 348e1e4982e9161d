//! The chain's JSON-RPC methods, as one jsonrpsee module to mount in a server.
//!
//! ```text
//! server (node: hosts, origins, limits) ──> RpcModule ──> Chain
//!                                   web3, net, eth, clique
//! ```
//!
//! Answers and error codes are go-ethereum's, so that wallets and libraries work as they are. There are no unlocked
//! accounts: `eth_sendTransaction` exists only where [`Options::dev_signers`] were given, which only the development
//! network (chain id 161) may have.

mod args;
mod error;
mod fees;
mod filters;
mod json;
mod methods;

use std::{fmt, sync::Arc};

use jsonrpsee::{RpcModule, types::ErrorObjectOwned};
use serde_json::Value;

use self::{args::Args, filters::Filters};
use crate::{Chain, Clique, LocalSigner};

/// The one chain whose keys the whole world knows.
const DEV_CHAIN_ID: u64 = 161;

/// What the methods need beside the chain.
#[derive(Clone)]
pub struct Options {
    /// Answer of `web3_clientVersion`.
    pub client_version: String,
    /// The engine, for `clique_*`; absent where another one seals.
    pub clique: Option<Arc<Clique>>,
    /// How many peers are connected.
    pub peer_count: Arc<dyn Fn() -> usize + Send + Sync>,
    /// The number of the highest block that a peer has told of, for `eth_syncing`.
    pub highest_block: Arc<dyn Fn() -> Option<u64> + Send + Sync>,
    /// Keys with which `eth_sendTransaction` signs; only on chain id 161, and only for a listener on loopback.
    pub dev_signers: Vec<Arc<LocalSigner>>,
    /// Filters kept at a time; the one unused for longest makes room.
    pub filters_max: usize,
    /// Seconds after which a filter that nobody asked is forgotten.
    pub filter_expiry_secs: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            client_version: concat!("lightstreams/v", env!("CARGO_PKG_VERSION")).to_owned(),
            clique: None,
            peer_count: Arc::new(|| 0),
            highest_block: Arc::new(|| None),
            dev_signers: Vec::new(),
            filters_max: 1_024,
            filter_expiry_secs: 300,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("client_version", &self.client_version).finish_non_exhaustive()
    }
}

/// Why no module was made.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// A chain other than the development network must not sign for callers.
    #[error("keys for eth_sendTransaction were given on chain id {0}; only 161 may sign for its callers")]
    NotADevNetwork(u64),
}

/// The methods of namespaces `web3`, `net`, `eth`, `lightstreams` and, under Clique, `clique`, over `chain`.
///
/// They read storage and execute, so jsonrpsee runs them on its blocking pool.
pub fn module(chain: Arc<Chain>, options: Options) -> Result<RpcModule<()>, ModuleError> {
    let chain_id = chain.chain_id();
    if !options.dev_signers.is_empty() && chain_id != DEV_CHAIN_ID {
        return Err(ModuleError::NotADevNetwork(chain_id));
    }
    let signs = !options.dev_signers.is_empty();
    let clique = options.clique.is_some();
    let filters = Filters::new(options.filters_max, options.filter_expiry_secs);
    let mut module = RpcModule::new(Api { chain, options, filters });
    let optional = [(signs, methods::DEV), (clique, methods::CLIQUE)];
    let tables = [(true, methods::ALWAYS)].into_iter().chain(optional);
    for (name, method) in tables.filter(|(on, _)| *on).flat_map(|(_, table)| table.iter().copied()) {
        let registered = module.register_blocking_method(name, move |params, api, _| -> Answer {
            method(&api, &Args::new(&params)?)
        });
        debug_assert!(registered.is_ok(), "{name} stands twice in the tables");
    }
    Ok(module.remove_context())
}

/// What stands behind every method.
struct Api {
    chain: Arc<Chain>,
    options: Options,
    filters: Filters,
}

type Answer = Result<Value, ErrorObjectOwned>;
type Method = fn(&Api, &Args) -> Answer;
