//! Chain sync: a libp2p behaviour that follows the best chain among its peers and tells them of new blocks.
//!
//! ```text
//! /lightstreams/<genesis8>/sync/1    question -> reply: status first, then ranges of headers and blocks
//! /lightstreams/<genesis8>/block/1   a block that became the head, or was sealed
//! /lightstreams/<genesis8>/tx/1      transactions newly in the pool
//!
//! frame    = unsigned varint of the length ‖ RLP
//! question = [0, status] | [1, first, count] headers | [2, first, count] blocks        at most 1 KiB
//! reply    = [0, status] | [1, [header ..]]          | [2, [block ..]]                 at most 8 MiB
//! status   = [version, genesis hash, head number, head hash, total difficulty]
//! block    = [total difficulty, block]                                                 at most 16 MiB
//! tx       = [[bytes ..]]                                                              at most 512 KiB
//! ```
//!
//! A peer is asked for its status when it connects, and again from time to time. The heaviest chain claimed is fetched
//! from the last common block on; nothing is believed before the chain has verified and executed it, on a thread of its
//! own. Who sends a block that is invalid on every honest node is dropped, and not let in again for a while.

// A public behaviour names the types of its protocols, though no one else can.
#[allow(unreachable_pub, missing_debug_implementations)]
mod codec;
mod follow;
mod gossip;
#[allow(unreachable_pub, missing_debug_implementations)]
mod inner;
#[allow(unreachable_pub)]
mod message;
mod worker;

use std::{
    collections::{HashMap, VecDeque},
    fmt, iter,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use alloy_eips::Encodable2718;
use alloy_primitives::{B256, Bytes};
use futures::{
    StreamExt,
    channel::mpsc::{Receiver, UnboundedReceiver, channel, unbounded},
};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol,
    core::{Endpoint, transport::PortUse},
    request_response::{self, OutboundFailure, ProtocolSupport, ResponseChannel},
    swarm::{
        CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm, behaviour::ConnectionClosed,
    },
};

use self::{
    codec::Codec,
    follow::State,
    inner::{Inner, InnerEvent},
    message::{ANSWER_MAX, Ack, BLOCK_MAX, QUESTION_MAX, Question, Reply, Status, TRANSACTIONS_MAX, VERSION},
    worker::{Done, Read, Workers, status},
};
use crate::{Block, BlockRef, Chain, KvError, cache::Cache};

/// How long a peer may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// How long a peer of another network has to read what it was told.
const PARTING: Duration = Duration::from_secs(1);
/// How long a peer that misbehaved is not let in.
const BAN: Duration = Duration::from_secs(600);
/// How often peers are asked anew where they stand.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);
/// Peers, hashes and events remembered.
const PEERS_MAX: usize = 1_024;
const KNOWN_BLOCKS_MAX: usize = 256;
const KNOWN_TRANSACTIONS_MAX: usize = 8_192;
const BAD_BLOCKS_MAX: usize = 1_024;
const OBSERVED_MAX: usize = 4_096;

/// What [`ChainSync`] tells its swarm's owner.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A peer of this network told its head.
    Status {
        /// The peer.
        peer: PeerId,
        /// Its head.
        head: BlockRef,
    },
    /// A peer follows another network, and was dropped.
    OtherNetwork {
        /// The peer.
        peer: PeerId,
        /// What it said of its genesis.
        genesis: String,
    },
    /// A peer sent what no honest one sends, and was dropped.
    Misbehaved {
        /// The peer.
        peer: PeerId,
        /// What it was.
        reason: String,
    },
    /// Blocks of a peer were imported.
    Imported {
        /// The peer.
        peer: PeerId,
        /// The last of them.
        last: BlockRef,
    },
    /// A peer's chain is heavier, but leaves ours too far down to follow it.
    Diverged {
        /// The peer.
        peer: PeerId,
        /// What the chain said.
        reason: String,
    },
    /// Our own storage failed: nothing is imported any more.
    Failed {
        /// Why.
        reason: String,
    },
}

/// How a sync goes, for other threads to read.
#[derive(Debug, Default)]
pub struct Progress {
    peers: AtomicUsize,
    highest: AtomicU64,
}

impl Progress {
    /// How many peers of this network are connected.
    pub fn peer_count(&self) -> usize {
        self.peers.load(Ordering::Relaxed)
    }

    /// The number of the highest block that one of them has told of.
    pub fn highest_block(&self) -> Option<u64> {
        (self.peer_count() > 0).then(|| self.highest.load(Ordering::Relaxed))
    }
}

/// The behaviour.
pub struct ChainSync {
    chain: Arc<Chain>,
    inner: Inner,
    sync_protocol: StreamProtocol,
    workers: Workers,
    done: UnboundedReceiver<Done>,
    heads: Receiver<B256>,
    transactions: Receiver<(B256, Bytes)>,
    peers: HashMap<PeerId, Peer>,
    banned: HashMap<PeerId, Instant>,
    bad_blocks: Cache<B256, ()>,
    state: State,
    /// Peers that were told why, and are dropped once they had the time to read it.
    closing: Vec<(PeerId, Instant)>,
    asked_status: Instant,
    failed: bool,
    progress: Arc<Progress>,
    events: VecDeque<ToSwarm<Event, THandlerInEvent<Inner>>>,
}

/// A connected peer of this network, or one that may be.
struct Peer {
    status: Option<Status>,
    not_before: Instant,
    known_blocks: Cache<B256, ()>,
    known_transactions: Cache<B256, ()>,
}

impl ChainSync {
    /// A behaviour over `chain`. It announces what the chain takes as its head, and transactions newly in the pool, by
    /// itself; imports run on a thread of its own.
    pub fn new(chain: Arc<Chain>) -> Self {
        let genesis8 = genesis8(&chain);
        let protocol = |name| protocol(&genesis8, name);
        let config = || request_response::Config::default().with_request_timeout(ANSWER_TIME);
        let full = || ProtocolSupport::Full;
        let sync_protocol = protocol("sync");
        let inner = Inner {
            sync: request_response::Behaviour::with_codec(
                Codec::new(QUESTION_MAX, ANSWER_MAX),
                iter::once((sync_protocol.clone(), full())),
                config(),
            ),
            blocks: request_response::Behaviour::with_codec(
                Codec::new(BLOCK_MAX, 0),
                iter::once((protocol("block"), full())),
                config(),
            ),
            transactions: request_response::Behaviour::with_codec(
                Codec::new(TRANSACTIONS_MAX, 0),
                iter::once((protocol("tx"), full())),
                config(),
            ),
        };
        let (done_sender, done) = unbounded();
        let workers = Workers::start(chain.clone(), done_sender);
        // What does not fit is not announced: peers learn of it with the next head.
        let (head_sender, heads) = channel(OBSERVED_MAX);
        let head_sender = Mutex::new(head_sender);
        chain.observe_head(move |change| {
            let mut sender = head_sender.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = sender.try_send(change.head.hash);
        });
        let (transaction_sender, transactions) = channel(OBSERVED_MAX);
        let transaction_sender = Mutex::new(transaction_sender);
        chain.observe_pool(move |pooled| {
            let raw = (*pooled.transaction.tx_hash(), Bytes::from(pooled.transaction.encoded_2718()));
            let _ = transaction_sender.lock().unwrap_or_else(PoisonError::into_inner).try_send(raw);
        });
        Self {
            chain,
            inner,
            sync_protocol,
            workers,
            done,
            heads,
            transactions,
            peers: HashMap::new(),
            banned: HashMap::new(),
            bad_blocks: Cache::new(BAD_BLOCKS_MAX),
            state: State::Idle,
            closing: Vec::new(),
            asked_status: Instant::now(),
            failed: false,
            progress: Arc::default(),
            events: VecDeque::new(),
        }
    }

    /// Announces a block that need not be the head, for instance an own one that lost its turn.
    pub fn announce_block(&mut self, block: &Block) {
        let hash = self.chain.engine().block_hash(&block.header);
        // The reader finds it in the chain, with its total difficulty.
        self.workers.read(Read::Load { hash });
    }

    /// What identify says of a peer: one that speaks the sync protocol of another network, and not of this one, is
    /// dropped. A peer without any chain is left alone.
    pub fn note_protocols(&mut self, peer: PeerId, protocols: &[StreamProtocol]) {
        if protocols.contains(&self.sync_protocol) {
            return;
        }
        let other = protocols.iter().find_map(|protocol| {
            let genesis = protocol.as_ref().strip_prefix("/lightstreams/")?.strip_suffix("/sync/1")?;
            (genesis.len() == 8).then(|| genesis.to_owned())
        });
        if let Some(genesis) = other {
            self.drop_peer(peer, Event::OtherNetwork { peer, genesis });
        }
    }

    /// How the sync goes, to read from anywhere.
    pub fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    fn drop_peer(&mut self, peer: PeerId, why: Event) {
        if matches!(why, Event::Misbehaved { .. }) {
            if self.banned.len() >= PEERS_MAX {
                self.banned.retain(|_, until| *until > Instant::now());
            }
            if self.banned.len() < PEERS_MAX {
                self.banned.insert(peer, Instant::now() + BAN);
            }
        }
        self.forget(peer);
        self.events.push_back(ToSwarm::GenerateEvent(why));
        let connection = CloseConnection::All;
        self.events.push_back(ToSwarm::CloseConnection { peer_id: peer, connection });
    }

    fn blame(&mut self, peer: PeerId, reason: impl Into<String>) {
        self.drop_peer(peer, Event::Misbehaved { peer, reason: reason.into() });
    }

    fn forget(&mut self, peer: PeerId) {
        self.peers.remove(&peer);
        let busy = match self.state {
            State::Idle => None,
            State::Locating { peer, .. } | State::Fetching { peer, .. } => Some(peer),
            // What is with the thread comes back on its own.
            State::Importing => None,
        };
        if busy == Some(peer) {
            self.state = State::Idle;
        }
        self.count_peers();
    }

    fn count_peers(&self) {
        let known = self.peers.values().filter_map(|peer| peer.status.as_ref());
        let highest = known.clone().map(|status| status.number).max().unwrap_or_default();
        self.progress.peers.store(known.count(), Ordering::Relaxed);
        self.progress.highest.store(highest, Ordering::Relaxed);
    }

    fn is_banned(&self, peer: &PeerId) -> bool {
        self.banned.get(peer).is_some_and(|until| *until > Instant::now())
    }

    fn ask_status(&mut self, peer: &PeerId) {
        let status = status(&self.chain);
        self.inner.sync.send_request(peer, Question::Status(status));
    }

    /// Takes what a peer says of itself; `false` if it is of another network.
    fn take_status(&mut self, peer: PeerId, status: Status) -> bool {
        if status.genesis != self.chain.genesis_hash() || status.version != VERSION {
            return false;
        }
        let head = BlockRef { number: status.number, hash: status.hash };
        let Some(known) = self.peers.get_mut(&peer) else { return true };
        known.known_blocks.insert(status.hash, ());
        let news = known.status.as_ref() != Some(&status);
        known.status = Some(status);
        if news {
            self.events.push_back(ToSwarm::GenerateEvent(Event::Status { peer, head }));
        }
        self.count_peers();
        self.look_for_work();
        true
    }

    fn fail(&mut self, error: &KvError) {
        self.failed = true;
        self.state = State::Idle;
        let reason = error.to_string();
        self.events.push_back(ToSwarm::GenerateEvent(Event::Failed { reason }));
    }

    fn question(&mut self, peer: PeerId, question: Question, channel: ResponseChannel<Reply>) {
        let Question::Status(status) = question else {
            self.workers.read(Read::Answer { question, channel });
            return;
        };
        let ours = self::status(&self.chain);
        let genesis = status.genesis.to_string();
        let told = self.inner.sync.send_response(channel, Reply::Status(ours)).is_ok();
        if !self.take_status(peer, status) {
            if told && self.closing.len() < PEERS_MAX {
                self.closing.push((peer, Instant::now()));
                let event = Event::OtherNetwork { peer, genesis };
                self.forget(peer);
                self.events.push_back(ToSwarm::GenerateEvent(event));
            } else {
                self.drop_peer(peer, Event::OtherNetwork { peer, genesis });
            }
        }
    }

    fn on_sync(&mut self, event: request_response::Event<Question, Reply>) {
        use request_response::{Event as Sync, Message};
        match event {
            Sync::Message { peer, message: Message::Request { request, channel, .. }, .. } => {
                self.question(peer, request, channel);
            }
            Sync::Message { peer, message: Message::Response { request_id, response }, .. } => {
                self.take_reply(peer, request_id, response);
            }
            Sync::OutboundFailure { peer, request_id, error, .. } => {
                let ours = match &self.state {
                    State::Locating { request, .. } | State::Fetching { request, .. } => {
                        *request == request_id
                    }
                    _ => false,
                };
                // Not of this network, as most of the world.
                if matches!(error, OutboundFailure::UnsupportedProtocols)
                    && let Some(known) = self.peers.get_mut(&peer)
                {
                    known.status = None;
                    self.count_peers();
                }
                if ours {
                    self.back_off(peer);
                }
            }
            Sync::ResponseSent { .. } | Sync::InboundFailure { .. } => {}
        }
    }

    fn on_inner(&mut self, event: InnerEvent) {
        use request_response::{Event as Exchange, Message};
        match event {
            InnerEvent::Sync(event) => self.on_sync(event),
            InnerEvent::Blocks(Exchange::Message {
                peer,
                message: Message::Request { request, channel, .. },
                ..
            }) => {
                let _ = self.inner.blocks.send_response(channel, Ack);
                self.take_block(peer, request);
            }
            InnerEvent::Transactions(Exchange::Message {
                peer,
                message: Message::Request { request, channel, .. },
                ..
            }) => {
                let _ = self.inner.transactions.send_response(channel, Ack);
                self.take_transactions(peer, request);
            }
            // An announcement that was not taken is made up for by the next status.
            InnerEvent::Blocks(_) | InnerEvent::Transactions(_) => {}
        }
    }

    fn on_done(&mut self, done: Done) {
        match done {
            Done::Imported { peer, range, last, failed } => self.imported(peer, range, last, failed),
            Done::Answered { reply: Some(reply), channel } => {
                let _ = self.inner.sync.send_response(channel, reply);
            }
            // Our storage failed: the channel closes, and the peer asks another.
            Done::Answered { reply: None, .. } => {}
            Done::Loaded(new) => self.tell_block(&new),
            Done::Tick => {
                self.workers.take_tick();
                self.closing.retain(|(peer_id, since)| {
                    let due = since.elapsed() >= PARTING;
                    if due {
                        let connection = CloseConnection::All;
                        self.events.push_back(ToSwarm::CloseConnection { peer_id: *peer_id, connection });
                    }
                    !due
                });
                if self.asked_status.elapsed() >= STATUS_INTERVAL {
                    self.asked_status = Instant::now();
                    let peers: Vec<PeerId> = self.peers.keys().copied().collect();
                    peers.iter().for_each(|peer| self.ask_status(peer));
                }
                self.look_for_work();
            }
        }
    }
}

impl NetworkBehaviour for ChainSync {
    type ConnectionHandler = <Inner as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if self.is_banned(&peer) {
            return Err(ConnectionDenied::new(Banned));
        }
        self.inner.handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.inner.handle_pending_outbound_connection(connection, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if self.is_banned(&peer) {
            return Err(ConnectionDenied::new(Banned));
        }
        self.inner.handle_established_outbound_connection(connection, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.inner.on_swarm_event(event);
        match event {
            FromSwarm::ConnectionEstablished(established)
                if established.other_established == 0 && self.peers.len() < PEERS_MAX =>
            {
                let peer = Peer {
                    status: None,
                    not_before: Instant::now(),
                    known_blocks: Cache::new(KNOWN_BLOCKS_MAX),
                    known_transactions: Cache::new(KNOWN_TRANSACTIONS_MAX),
                };
                self.peers.insert(established.peer_id, peer);
                self.ask_status(&established.peer_id);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, remaining_established: 0, .. }) => {
                self.forget(peer_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.inner.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Event, THandlerInEvent<Self>>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            match self.inner.poll(cx) {
                Poll::Ready(ToSwarm::GenerateEvent(event)) => {
                    self.on_inner(event);
                    continue;
                }
                Poll::Ready(other) => {
                    // Events of our own never pass here, so there is nothing to map.
                    return Poll::Ready(other.map_out(|_| Event::Failed { reason: String::new() }));
                }
                Poll::Pending => {}
            }
            if let Poll::Ready(Some(done)) = self.done.poll_next_unpin(cx) {
                self.on_done(done);
                continue;
            }
            if !self.announce(cx) {
                return Poll::Pending;
            }
        }
    }
}

impl fmt::Debug for ChainSync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChainSync")
            .field("protocol", &self.sync_protocol)
            .field("progress", &self.progress)
            .finish()
    }
}

/// The peer misbehaved of late.
#[derive(Debug, thiserror::Error)]
#[error("this peer sent invalid blocks and is not let in for a while")]
struct Banned;

fn genesis8(chain: &Chain) -> String {
    let hash = alloy_primitives::hex::encode(chain.genesis_hash());
    hash.chars().take(8).collect()
}

fn protocol(genesis8: &str, name: &str) -> StreamProtocol {
    StreamProtocol::try_from_owned(format!("/lightstreams/{genesis8}/{name}/1"))
        .unwrap_or(StreamProtocol::new("/lightstreams/none"))
}
