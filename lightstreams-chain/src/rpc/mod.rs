//! The chain's JSON-RPC methods, as one jsonrpsee module to mount in a server.

use std::{fmt, sync::Arc};

use jsonrpsee::RpcModule;

use crate::{Chain, Clique, LocalSigner};

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

/// The methods of namespaces `web3`, `net`, `eth` and, under Clique, `clique`, over `chain`.
///
/// They answer as go-ethereum does, error codes included, and block: jsonrpsee runs them on its blocking pool.
pub fn module(chain: Arc<Chain>, options: Options) -> Result<RpcModule<()>, ModuleError> {
    let _ = (chain, options);
    todo!()
}
