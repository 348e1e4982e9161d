//! One libp2p swarm: TCP, TLS or Noise, and Yamux below, our protocols and the libraries' faces above.
//!
//! ```text
//! http, daemon --NetworkHandle, bounded channel--> task { swarm: limits, ping, identify, auth, release, bitswap, chain }
//!                                                    |-- /lightstreams/auth/1     AccountBook, delegations held
//!                                                    |-- /lightstreams/release/1  ReleaseService, off the reactor
//!                                                    +-- configured peers         redialled, 1 s doubling to 60 s
//! ```

mod auth;
mod codec;
mod dial;
mod task;

pub use auth::{AccountBook, ByProvenAccounts, Held};
pub use codec::Framed;
pub use dial::peer_of;
pub use task::start;

use dial::unreachable;

use crate::error::{NodeError, Result};
use crate::vault::{ANSWER_MAX, AuthAnswer, DELEGATION_MAX, Domain, REQUEST_MAX};
use alloy_primitives::Address;
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::NetworkBehaviour;
use libp2p::{Multiaddr, PeerId, StreamProtocol, identify, identity::Keypair, ping};
use lightstreams_chain::p2p::{ChainSync, Progress};
use lightstreams_chain::{Block, Chain};
use lightstreams_store::Gate;
use lightstreams_store::p2p::Bitswap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot, watch};

/// Protocol of delegations.
pub const AUTH_PROTOCOL: StreamProtocol = StreamProtocol::new("/lightstreams/auth/1");
/// Protocol of key releases.
pub const RELEASE_PROTOCOL: StreamProtocol = StreamProtocol::new("/lightstreams/release/1");

/// Commands waiting for the network task.
const COMMANDS_MAX: usize = 64;
/// Connections that others may open to this node.
const INCOMING_MAX: u32 = 256;
/// Connections that this node opens.
const OUTGOING_MAX: u32 = 64;
/// Connections between this node and one peer; two of them may come of dialling at the same time.
const PER_PEER_MAX: u32 = 4;
/// How long an auth or release exchange may take.
const EXCHANGE_TIME_MAX: Duration = Duration::from_secs(30);
/// How long a caller waits for a connection and for its delegations to be judged.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(15);
/// Release requests being answered at a time, and waiting for that.
const RELEASES_RUNNING_MAX: usize = 4;
const RELEASES_WAITING_MAX: usize = 64;

/// Answers key requests. The answer to a refused request is a signed refusal, so there is always one.
pub trait ReleaseService: Send + Sync {
    /// Judges the request and returns the Release or refusal, in CBOR. Blocks; called off the reactor.
    fn answer(&self, request: &[u8]) -> Vec<u8>;
    /// The refusal of a request that this node is too busy to judge. Does not block.
    fn busy(&self, request: &[u8]) -> Vec<u8>;
}

/// What the network task is made of.
pub struct NetworkParts {
    /// The node's libp2p key.
    pub keypair: Keypair,
    /// Where to listen, if at all.
    pub listen: Option<Multiaddr>,
    /// Peers to stay connected to.
    pub peers: Vec<Multiaddr>,
    /// The registry that delegations are for.
    pub domain: Domain,
    /// The accounts that peers prove.
    pub accounts: Arc<AccountBook>,
    /// Who answers key requests.
    pub releases: Arc<dyn ReleaseService>,
    /// The blocks, and who may have which.
    pub gate: Gate,
    /// The chain to follow.
    pub chain: Arc<Chain>,
    /// Told when this node cannot go on.
    pub fatal: mpsc::Sender<NodeError>,
}

impl std::fmt::Debug for NetworkParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NetworkParts")
            .field("listen", &self.listen)
            .field("peers", &self.peers)
            .finish_non_exhaustive()
    }
}

/// A connected peer.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// The peer.
    pub id: PeerId,
    /// The address of its first connection.
    pub address: Multiaddr,
    /// Whether this node dialled it.
    pub outgoing: bool,
    /// What it answered to the delegations shown, by account.
    pub shown: Vec<(Address, Option<AuthAnswer>)>,
}

/// How the rest of the node talks to the network.
#[derive(Clone, Debug)]
pub struct NetworkHandle {
    own: PeerId,
    commands: mpsc::Sender<Command>,
    listen: watch::Receiver<Vec<Multiaddr>>,
    sync: Arc<Progress>,
}

#[derive(Debug)]
enum Command {
    Announce(Box<Block>),
    Peers(oneshot::Sender<Vec<PeerInfo>>),
    Connect(Multiaddr, oneshot::Sender<Result<PeerId>>),
    Shown(PeerId, oneshot::Sender<Vec<(Address, Option<AuthAnswer>)>>),
    Hold(Held, oneshot::Sender<()>),
    Release(PeerId, Vec<u8>, oneshot::Sender<Result<Vec<u8>>>),
}

impl NetworkHandle {
    /// The peer id of this node.
    pub fn own(&self) -> PeerId {
        self.own
    }

    /// The addresses this node listens on, with its peer id.
    pub fn listen_addresses(&self) -> Vec<Multiaddr> {
        self.listen.borrow().clone()
    }

    /// How many peers of this network are connected.
    pub fn peer_count(&self) -> usize {
        self.sync.peer_count()
    }

    /// The number of the highest block that a connected peer has told of.
    pub fn highest_block(&self) -> Option<u64> {
        self.sync.highest_block()
    }

    /// Announces a block of our own. Heads are announced anyway; where the queue is full this one is not.
    pub fn announce(&self, block: Box<Block>) {
        let _ = self.commands.try_send(Command::Announce(block));
    }

    /// The connected peers.
    pub async fn peers(&self) -> Result<Vec<PeerInfo>> {
        self.ask(Command::Peers).await
    }

    /// Connects to `address`, or finds that it is connected already.
    pub async fn connect(&self, address: Multiaddr) -> Result<PeerId> {
        let shown = address.clone();
        let connected = self.ask(|reply| Command::Connect(address, reply));
        match tokio::time::timeout(CONNECT_TIME_MAX, connected).await {
            Ok(connected) => connected?,
            Err(_) => Err(unreachable(&shown, "no answer in time")),
        }
    }

    /// Waits until `peer` has judged every delegation this node holds; by account, with `None` where it did not answer.
    pub async fn shown(&self, peer: PeerId) -> Result<Vec<(Address, Option<AuthAnswer>)>> {
        match tokio::time::timeout(CONNECT_TIME_MAX, self.ask(|reply| Command::Shown(peer, reply))).await {
            Ok(shown) => shown,
            Err(_) => Ok(Vec::new()),
        }
    }

    /// Keeps a delegation and shows it to every peer, now and on each later connection.
    pub async fn hold(&self, held: Held) -> Result<()> {
        self.ask(|reply| Command::Hold(held, reply)).await
    }

    /// Sends a key request to a connected peer and returns its answer.
    pub async fn release(&self, peer: PeerId, request: Vec<u8>) -> Result<Vec<u8>> {
        self.ask(|reply| Command::Release(peer, request, reply)).await?
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let gone = || NodeError::new("stopping", "the node is stopping");
        self.commands.send(command(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}

/// The Unix time in seconds.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs())
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    limits: connection_limits::Behaviour,
    ping: ping::Behaviour,
    identify: identify::Behaviour,
    auth: request_response::Behaviour<Framed>,
    release: request_response::Behaviour<Framed>,
    bitswap: Bitswap,
    chain: ChainSync,
}

impl Behaviour {
    fn new(keypair: &Keypair, bitswap: Bitswap, chain: ChainSync) -> Self {
        let limits = ConnectionLimits::default()
            .with_max_pending_incoming(Some(64))
            .with_max_pending_outgoing(Some(64))
            .with_max_established_incoming(Some(INCOMING_MAX))
            .with_max_established_outgoing(Some(OUTGOING_MAX))
            .with_max_established_per_peer(Some(PER_PEER_MAX));
        let identify = identify::Config::new("/lightstreams/1".into(), keypair.public())
            .with_agent_version(concat!("lightstreams/", env!("CARGO_PKG_VERSION")).into());
        let exchange = |protocol, request_len_max, response_len_max| {
            let config = request_response::Config::default()
                .with_request_timeout(EXCHANGE_TIME_MAX)
                .with_max_concurrent_streams(8);
            request_response::Behaviour::with_codec(
                Framed::new(request_len_max, response_len_max),
                [(protocol, ProtocolSupport::Full)],
                config,
            )
        };
        Self {
            limits: connection_limits::Behaviour::new(limits),
            ping: ping::Behaviour::new(ping::Config::new()),
            identify: identify::Behaviour::new(identify),
            auth: exchange(AUTH_PROTOCOL, DELEGATION_MAX, DELEGATION_MAX),
            release: exchange(RELEASE_PROTOCOL, REQUEST_MAX, ANSWER_MAX),
            bitswap,
            chain,
        }
    }
}
