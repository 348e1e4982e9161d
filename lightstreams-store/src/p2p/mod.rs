//! Blocks between peers: Bitswap as a component of a libp2p swarm, behind the store's gate.
//!
//! ```text
//!  Exchange::fetch --> Client --wants--> Handler ==stream==> Handler --> Server --> policy, store
//!  (any thread)          ^                  ^                               |       (own threads)
//!                        +--- verified <----+<=======stream=== blocks <-----+
//! ```
//!
//! [`Bitswap`] is the [`NetworkBehaviour`]; [`Bitswap::exchange`] gives the handle that implements
//! [`Exchange`](crate::Exchange). The wire is `/ipfs/bitswap/1.2.0`, `1.1.0` and `1.0.0`, as Kubo and Helia speak it,
//! specified in [`wire`].
//!
//! ```
//! use std::sync::Arc;
//! use libp2p::swarm::NetworkBehaviour;
//! use lightstreams_store::{AllowAll, Gate, MemoryStore, p2p::{Bitswap, BitswapConfig}};
//!
//! #[derive(NetworkBehaviour)]
//! struct Behaviour {
//!     bitswap: Bitswap,
//!     ping: libp2p::ping::Behaviour,
//! }
//!
//! let gate = Gate::new(Arc::new(MemoryStore::default()), Arc::new(AllowAll));
//! let accounts = |_: &libp2p::PeerId| None;
//! let bitswap = Bitswap::new(gate, accounts, BitswapConfig::default())?;
//! let exchange = bitswap.exchange();
//! let behaviour = Behaviour { bitswap, ping: Default::default() };
//! # drop((exchange, behaviour));
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! **Asking.** Peers are those that the session names, or whoever is or gets connected. Where there are several, one of which nothing
//! is known is asked first whether it has a few of the blocks. A block is then asked of one peer at a time, and of the next after
//! DONT_HAVE, silence, disconnection or misbehaviour; all are asked at once about what one of them lacks. Who answers slowly
//! is asked for less. What arrives is hashed before anyone sees it; a peer that sends what was not asked of it, which is what
//! wrong bytes are, is asked no more in that session. Bytes asked for and not yet taken by the consumer are bounded, per peer and
//! per session. [`BitswapExchange::stats`] counts what came twice.
//!
//! **Answering.** Before a block or a HAVE leaves, the gate is asked with the peer and the account that it has proven, for
//! each want anew, so that a revocation ends a transfer within the bytes already on their way. Denied and absent are
//! one answer: DONT_HAVE if it was asked for, else none, by one queue, a whole number of
//! [`negative_delay`](BitswapConfig::negative_delay)s after the want. Neither is remembered: unlike Kubo we push no block that
//! comes later.
//!
//! **Bounds.** 4 MiB a message, 2 MiB a block, 1,024 wants a peer, 168 bytes a CID; per connection 64 inbound streams
//! with at most 8 MiB being read or verified; up to 16 MiB of memory that waits for the next messages; bytes looked up and not
//! yet written per peer and in all by [`BitswapConfig`].

mod client;
mod exchange;
mod handler;
#[cfg(feature = "kad")]
mod kad;
mod pool;
mod server;
mod stream;
#[cfg(feature = "tls")]
mod tls;
mod transport;
pub mod wire;

use std::{
    collections::{HashMap, VecDeque},
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    thread,
    time::{Duration, Instant},
};

use futures::FutureExt;
use futures_timer::Delay;
use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionId, DialError, DialFailure, FromSwarm, NetworkBehaviour, NotifyHandler,
        THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
        behaviour::{ConnectionClosed, ConnectionEstablished},
        dial_opts::DialOpts,
    },
};

pub use exchange::BitswapExchange;
pub use handler::{FromBehaviour, Handler, ToBehaviour, Upgrade};
#[cfg(feature = "kad")]
pub use kad::{KadRouting, Kademlia, KademliaConfig};
#[cfg(feature = "tls")]
pub use tls::{Tls, TlsError};
pub use transport::{Muxer, Noise, Yamux};

use self::{
    client::{Client, Output, SessionId},
    exchange::{News, Outcome, Shared, ToBitswap},
    handler::{Command, Event, Received},
    pool::Pool,
    server::{Answer, LOOKUP_BYTES, Server, Want},
    wire::{BLOCK_BYTES_MAX, Message, Presence, WantKind},
};
use crate::{Account, Gate, PeerFailure, Requester, buffers::Buffers};

/// Peers whose address is remembered for dialing them again.
const ADDRESSES_MAX: usize = 1024;
/// A want for word of a block of at most so many bytes is answered by the block, as Kubo does.
const HAVE_AS_BLOCK_MAX: u64 = 1024;

/// Bytes of memory that wait for the next message.
const FREE_BYTES: usize = 16 << 20;

/// What may be tuned. The defaults suit a node that moves large files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitswapConfig {
    /// Bytes asked of one peer, by one session, and not yet arrived.
    pub peer_window: usize,
    /// Bytes of one session asked for, or arrived and not yet taken by its consumer.
    pub session_window: usize,
    /// How long a peer may take to its next answer before others are asked; at most half the session's patience.
    pub answer_timeout: Duration,
    /// Bytes looked up for one peer and not yet written to its connection, beyond which its wants wait.
    pub serve_peer_bytes: usize,
    /// The same over all peers.
    pub serve_total_bytes: usize,
    /// A negative answer leaves a whole number of these after its want arrived. Longer than a look-up usually takes.
    pub negative_delay: Duration,
    /// Threads that ask the policy and read the store.
    pub lookup_threads: usize,
    /// Threads that hash what arrives.
    pub verify_threads: usize,
}

impl Default for BitswapConfig {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self {
            peer_window: 4 * 1024 * 1024,
            session_window: 8 * 1024 * 1024,
            answer_timeout: Duration::from_secs(8),
            serve_peer_bytes: 1024 * 1024,
            serve_total_bytes: 64 * 1024 * 1024,
            negative_delay: Duration::from_millis(25),
            lookup_threads: 4,
            verify_threads: cores.min(4),
        }
    }
}

/// What came and left since the behaviour was made.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BitswapStats {
    /// Blocks that came, wanted or not.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those of them that nobody wanted any more, since they had come from elsewhere or too late.
    pub duplicate_blocks: u64,
    /// Their bytes.
    pub duplicate_bytes: u64,
    /// Those that came from a peer of which nothing was wanted any more: too late or wrong, which was not looked at.
    pub dropped_blocks: u64,
    /// Their bytes.
    pub dropped_bytes: u64,
    /// Blocks handed to connections.
    pub sent_blocks: u64,
    /// Their bytes.
    pub sent_bytes: u64,
}

/// What the behaviour tells its swarm.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BitswapEvent {
    /// The peer sent what is no message, or blocks that nobody asked of it.
    Misbehaved {
        /// The peer.
        peer: PeerId,
    },
}

type Accounts = dyn Fn(&PeerId) -> Option<Account> + Send + Sync;

/// Block exchange with peers, both sides of it.
pub struct Bitswap {
    client: Client,
    server: Server,
    gate: Gate,
    accounts: Arc<Accounts>,
    lookups: Pool,
    verify: Pool,
    /// For the messages of all connections.
    buffers: Arc<Buffers>,
    shared: Arc<Shared>,
    sessions: HashMap<SessionId, Arc<News>>,
    peers: HashMap<PeerId, Link>,
    /// Where peers that were dialed, by whomever, were last reached.
    addresses: HashMap<PeerId, Multiaddr>,
    timer: Delay,
    /// When `timer` fires.
    armed: Option<Instant>,
    pending: VecDeque<ToSwarm<BitswapEvent, FromBehaviour>>,
}

/// The connections to a peer; messages go by the first.
#[derive(Default)]
struct Link {
    connections: Vec<ConnectionId>,
    wanted: Arc<AtomicUsize>,
}

impl Bitswap {
    /// Serves what `gate` lets through. `accounts` tells which account a connected peer has proven, if any; it is asked
    /// on a thread of the look-ups, and as often as the gate.
    ///
    /// Starts the threads of `config`, which end with this value; an error says that one could not be started.
    pub fn new(
        gate: Gate,
        accounts: impl Fn(&PeerId) -> Option<Account> + Send + Sync + 'static,
        config: BitswapConfig,
    ) -> io::Result<Self> {
        Ok(Self {
            client: Client::new(client::Limits {
                peer_window: config.peer_window,
                session_window: config.session_window,
                timeout: config.answer_timeout,
            }),
            server: Server::new(server::Limits {
                peer_bytes: config.serve_peer_bytes,
                total_bytes: config.serve_total_bytes,
                lookups: config.lookup_threads.max(1),
                negative_delay: config.negative_delay,
            }),
            gate,
            accounts: Arc::new(accounts),
            lookups: Pool::new("bitswap-serve", config.lookup_threads)?,
            verify: Pool::new("bitswap-verify", config.verify_threads)?,
            buffers: Buffers::new(FREE_BYTES),
            shared: Arc::default(),
            sessions: HashMap::new(),
            peers: HashMap::new(),
            addresses: HashMap::new(),
            timer: Delay::new(Duration::ZERO),
            armed: None,
            pending: VecDeque::new(),
        })
    }

    /// The handle that fetches through this behaviour.
    pub fn exchange(&self) -> BitswapExchange {
        BitswapExchange::new(self.shared.clone())
    }

    fn handle_messages(&mut self, now: Instant) {
        for message in self.shared.take() {
            match message {
                ToBitswap::Open { id, cids, peers, patience, news } => {
                    self.sessions.insert(id, news);
                    self.client.open(now, id, cids, &peers, patience);
                }
                ToBitswap::Close { id } => {
                    self.sessions.remove(&id);
                    self.client.close(now, id);
                }
                ToBitswap::Answered { lookup, answers } => self.server.answered(now, lookup, answers),
            }
        }
        for (id, news) in &self.sessions {
            let bytes = news.take_consumed();
            if bytes > 0 {
                self.client.consumed(now, *id, bytes);
            }
        }
    }

    fn stats(&self) -> BitswapStats {
        let (sent_blocks, sent_bytes) = self.server.sent();
        BitswapStats { sent_blocks, sent_bytes, ..self.client.stats() }
    }

    /// Does what the two cores say.
    fn carry_out(&mut self) {
        self.shared.count(self.stats());
        while let Some(output) = self.client.next_output() {
            match output {
                Output::Dial(peer) => {
                    let known = self.addresses.get(&peer).cloned().into_iter().collect();
                    // Addresses that other behaviours know are tried as well.
                    let opts = DialOpts::peer_id(peer).addresses(known).extend_addresses_through_behaviour();
                    // From a port of its own: two peers that dial each other from the ports they listen on may meet
                    // in one TCP connection (simultaneous open, RFC 9293 section 3.5), and then both dials fail.
                    self.pending.push_back(ToSwarm::Dial { opts: opts.allocate_new_port().build() });
                }
                Output::Send { peer, entries, full } => {
                    let id = self.server.message_id();
                    if let Some(link) = self.peers.get(&peer) {
                        link.wanted.store(self.client.wanted_of(&peer), Ordering::Relaxed);
                    }
                    self.send(peer, Command::Send(id, Message { entries, full, ..Message::default() }));
                }
                Output::Deliver { session, block } => {
                    if let Some(news) = self.sessions.get(&session) {
                        news.deliver(block);
                    }
                }
                Output::Finished { session, missing, failures } => {
                    if let Some(news) = self.sessions.remove(&session) {
                        news.end(outcome(missing, failures));
                    }
                }
                Output::Blame(peer) => {
                    tracing::debug!(%peer, "bitswap peer misbehaved");
                    self.pending.push_back(ToSwarm::GenerateEvent(BitswapEvent::Misbehaved { peer }));
                }
            }
        }
        while let Some((peer, id, message)) = self.server.next_message() {
            if !self.send(peer, Command::Send(id, message)) {
                self.server.done(peer, id);
            }
        }
        while let Some(lookup) = self.server.next_lookup() {
            let (gate, accounts, shared) = (self.gate.clone(), self.accounts.clone(), self.shared.clone());
            self.lookups.run(move || {
                let mut task = Task { shared, done: Some((lookup, Vec::new())) };
                if let Some((lookup, answers)) = &mut task.done {
                    look_up(&gate, &*accounts, lookup.peer, &lookup.wants, answers);
                }
            });
        }
    }

    fn send(&mut self, peer_id: PeerId, command: Command) -> bool {
        let Some(connection) = self.peers.get(&peer_id).and_then(|link| link.connections.first()) else {
            return false;
        };
        let handler = NotifyHandler::One(*connection);
        self.pending.push_back(ToSwarm::NotifyHandler { peer_id, handler, event: FromBehaviour(command) });
        true
    }

    fn connected(&mut self, now: Instant, peer_id: PeerId, connection: ConnectionId) {
        let link = self.peers.entry(peer_id).or_default();
        link.connections.push(connection);
        let handler = NotifyHandler::One(connection);
        let event = FromBehaviour(Command::Wanted(link.wanted.clone()));
        self.pending.push_back(ToSwarm::NotifyHandler { peer_id, handler, event });
        if link.connections.len() == 1 {
            self.client.connected(now, peer_id);
        }
    }

    fn disconnected(&mut self, now: Instant, peer: PeerId, connection: ConnectionId) {
        let Some(link) = self.peers.get_mut(&peer) else { return };
        let was_used = link.connections.first() == Some(&connection);
        link.connections.retain(|other| *other != connection);
        if link.connections.is_empty() {
            self.peers.remove(&peer);
            self.server.disconnected(peer);
            self.client.disconnected(now, peer);
        } else if was_used {
            self.server.connection_lost(peer);
            self.client.resend(peer);
        }
    }

    fn received(&mut self, now: Instant, peer: PeerId, message: Received) {
        let Received { entries, full, blocks, presences, unasked, dropped } = message;
        for block in &blocks {
            self.client.block(now, peer, block);
        }
        let (dropped_blocks, dropped_bytes) = dropped;
        self.client.dropped(dropped_blocks, dropped_bytes);
        for (cid, presence) in &presences {
            self.client.presence(now, peer, cid, *presence == Presence::Have);
        }
        if unasked {
            self.client.misbehaved(now, peer);
        }
        if let Some(link) = self.peers.get(&peer) {
            link.wanted.store(self.client.wanted_of(&peer), Ordering::Relaxed);
        }
        self.server.wants(now, peer, entries, full);
    }

    /// Arms the timer for what is due next; says whether something is due now.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        let due = self.client.next_timeout().into_iter().chain(self.server.next_timeout()).min();
        let Some(due) = due else { return false };
        // Most deadlines are moved on before they come: the timer fires at the old one and is set anew.
        if self.armed.is_none_or(|armed| due < armed) {
            self.timer.reset(due.saturating_duration_since(Instant::now()));
            self.armed = Some(due);
        }
        let fired = self.timer.poll_unpin(cx).is_ready();
        if fired {
            self.armed = None;
        }
        fired
    }
}

impl NetworkBehaviour for Bitswap {
    type ConnectionHandler = Handler;
    type ToSwarm = BitswapEvent;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(self.verify.clone(), self.buffers.clone()))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(self.verify.clone(), self.buffers.clone()))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        let now = Instant::now();
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            }) => {
                let room = self.addresses.len() < ADDRESSES_MAX || self.addresses.contains_key(&peer_id);
                if endpoint.is_dialer() && room {
                    self.addresses.insert(peer_id, endpoint.get_remote_address().clone());
                }
                self.connected(now, peer_id, connection_id);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. }) => {
                self.disconnected(now, peer_id, connection_id);
            }
            FromSwarm::DialFailure(DialFailure { peer_id: Some(peer), error, .. }) => {
                // A dial that another one stands in for has not failed.
                let stood_in_for = matches!(error, DialError::DialPeerConditionFalse(_));
                if !stood_in_for && !self.peers.contains_key(&peer) {
                    self.client.unreachable(now, peer);
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        _: ConnectionId,
        ToBehaviour(event): THandlerOutEvent<Self>,
    ) {
        let now = Instant::now();
        match event {
            Event::Received(message) => self.received(now, peer, message),
            Event::Written(id) => self.server.done(peer, id),
            Event::Lost(id) => {
                self.server.done(peer, id);
                self.client.resend(peer);
            }
            Event::Plain => self.client.plain(now, peer),
            Event::Unusable => self.client.unreachable(now, peer),
            Event::Violation => self.client.misbehaved(now, peer),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<BitswapEvent, THandlerInEvent<Self>>> {
        self.shared.waker.register(cx.waker());
        loop {
            self.handle_messages(Instant::now());
            self.carry_out();
            if let Some(event) = self.pending.pop_front() {
                return Poll::Ready(event);
            }
            if !self.poll_timer(cx) {
                return Poll::Pending;
            }
            let now = Instant::now();
            self.client.tick(now);
            self.server.tick(now);
        }
    }
}

impl Drop for Bitswap {
    fn drop(&mut self) {
        self.shared.close();
        for news in self.sessions.values() {
            news.end(Outcome::Stopped);
        }
    }
}

impl fmt::Debug for Bitswap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bitswap")
            .field("peers", &self.peers.len())
            .field("sessions", &self.sessions.len())
            .finish_non_exhaustive()
    }
}

/// A look-up that reports back whatever happens to it.
struct Task {
    shared: Arc<Shared>,
    done: Option<(server::Lookup, Vec<Answer>)>,
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some((lookup, mut answers)) = self.done.take() {
            // A panic in policy or store leaves answers open: access fails closed.
            answers.resize(lookup.wants.len(), Answer::Absent);
            self.shared.tell(ToBitswap::Answered { lookup, answers });
        }
    }
}

/// Asks the gate for each want, as far as the answers fit into one message.
fn look_up(gate: &Gate, accounts: &Accounts, peer: PeerId, wants: &[Want], answers: &mut Vec<Answer>) {
    let Some(id) = crate::PeerId::from_bytes(&peer.to_bytes()) else { return };
    let mut found = 0;
    for want in wants {
        if found >= LOOKUP_BYTES {
            answers.push(Answer::Later);
            continue;
        }
        let requester = Requester::Peer { id: id.clone(), account: accounts(&peer) };
        // What could not be found out is not served.
        let answer = match want.kind {
            WantKind::Block => block(gate, &requester, want),
            WantKind::Have => match gate.size(&requester, &want.cid) {
                Ok(Some(len)) if len <= HAVE_AS_BLOCK_MAX => block(gate, &requester, want),
                Ok(Some(_)) => Answer::Have,
                Ok(None) | Err(_) => Answer::Absent,
            },
        };
        if let Answer::Block(data) = &answer {
            found += data.len();
        }
        answers.push(answer);
    }
}

fn block(gate: &Gate, requester: &Requester, want: &Want) -> Answer {
    match gate.get_unhashed(requester, &want.cid) {
        Ok(Some(data)) if data.len() <= BLOCK_BYTES_MAX => Answer::Block(data),
        Ok(_) | Err(_) => Answer::Absent,
    }
}

fn outcome(missing: Vec<cid::Cid>, failures: Vec<(PeerId, crate::PeerFailureKind)>) -> Outcome {
    if missing.is_empty() {
        return Outcome::Complete;
    }
    let peers = failures.into_iter().filter_map(|(peer, kind)| {
        let peer = crate::PeerId::from_bytes(&peer.to_bytes())?;
        Some(PeerFailure { peer, kind })
    });
    Outcome::Missing { cids: missing, peers: peers.collect() }
}
