//! The Kademlia of IPFS as a [`Routing`].

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use cid::Cid;
use futures::task::AtomicWaker;
use libp2p::{
    Multiaddr, PeerId, StreamProtocol,
    core::{Endpoint, transport::PortUse},
    kad::{
        self, GetProvidersOk, InboundRequest, Mode, QueryId, QueryResult, RecordKey, StoreInserts,
        store::{MemoryStore, MemoryStoreConfig, RecordStore},
    },
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm,
    },
};

use crate::{Routing, RoutingError};

/// Beyond its patience, a question waits so long for a swarm that nobody polls.
const GRACE: Duration = Duration::from_secs(5);

/// What may be tuned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KademliaConfig {
    /// The protocol: networks of different ones do not meet. IPFS has `/ipfs/kad/1.0.0`.
    pub protocol: StreamProtocol,
    /// Whether this node answers others and keeps what they provide; else it only asks. A node that others cannot dial should not.
    pub server: bool,
    /// How long a question may take.
    pub patience: Duration,
    /// The most blocks of which providers are kept, for others and for this node, each with at most 20.
    pub records_max: usize,
}

impl Default for KademliaConfig {
    fn default() -> Self {
        Self {
            protocol: StreamProtocol::new("/ipfs/kad/1.0.0"),
            server: false,
            patience: Duration::from_secs(10),
            records_max: 64 * 1024,
        }
    }
}

/// Finds and says who has which block, as a component of a libp2p swarm; [`routing`](Self::routing) gives the handle.
///
/// Peers are known once they are connected and speak the protocol, or by [`add_address`](Self::add_address). Only provider
/// records are kept for others: values, as of names, are not taken. What is provided is repeated every 12 hours.
///
/// ```
/// use lightstreams_store::p2p::{Kademlia, KademliaConfig};
/// let kademlia = Kademlia::new(libp2p::PeerId::random(), KademliaConfig::default());
/// let routing = kademlia.routing();
/// # drop((kademlia, routing));
/// ```
pub struct Kademlia {
    inner: kad::Behaviour<MemoryStore>,
    own: PeerId,
    shared: Arc<Shared>,
    queries: HashMap<QueryId, Query>,
}

struct Query {
    found: Vec<PeerId>,
    limit: usize,
    answer: Arc<Answer>,
}

impl Kademlia {
    /// Takes part as `own`, the identity of the swarm.
    pub fn new(own: PeerId, config: KademliaConfig) -> Self {
        let store = MemoryStoreConfig {
            max_records: 0,
            max_provided_keys: config.records_max,
            ..MemoryStoreConfig::default()
        };
        let mut kademlia = kad::Config::new(config.protocol);
        kademlia.set_query_timeout(config.patience).set_record_filtering(StoreInserts::FilterBoth);
        let mut inner = kad::Behaviour::with_config(own, MemoryStore::with_config(own, store), kademlia);
        inner.set_mode(Some(if config.server { Mode::Server } else { Mode::Client }));
        let shared = Arc::new(Shared {
            patience: config.patience,
            records_max: config.records_max,
            ..Shared::default()
        });
        Self { inner, own, shared, queries: HashMap::new() }
    }

    /// The handle that asks through this behaviour.
    pub fn routing(&self) -> KadRouting {
        KadRouting { shared: self.shared.clone() }
    }

    /// Makes a peer known, as one to begin with.
    pub fn add_address(&mut self, peer: &PeerId, address: Multiaddr) {
        self.inner.add_address(peer, address);
    }

    fn take_questions(&mut self) {
        for (question, answer) in std::mem::take(&mut self.shared.inbox().questions) {
            match question {
                Question::Find { key, limit } => {
                    let id = self.inner.get_providers(key);
                    self.queries.insert(id, Query { found: Vec::new(), limit, answer });
                }
                Question::Provide { key } => match self.inner.start_providing(key) {
                    Ok(id) => {
                        self.queries.insert(id, Query { found: Vec::new(), limit: 0, answer });
                    }
                    Err(_) => answer.give(Err(Failure::Full)),
                },
                Question::Withdraw { key } => {
                    self.inner.stop_providing(&key);
                    answer.give(Ok(Vec::new()));
                }
            }
        }
    }

    /// Takes what an event says to a question; returns it if it says something else.
    fn heard(&mut self, event: kad::Event) -> Option<kad::Event> {
        match event {
            kad::Event::OutboundQueryProgressed { id, result, step, .. }
                if self.queries.contains_key(&id) =>
            {
                let query = self.queries.get_mut(&id)?;
                let mut outcome = None;
                match result {
                    QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })) => {
                        let mut seen: HashSet<PeerId> = query.found.iter().copied().collect();
                        let new =
                            providers.into_iter().filter(|peer| *peer != self.own && seen.insert(*peer));
                        query.found.extend(new);
                        if query.found.len() >= query.limit
                            && let Some(mut running) = self.inner.query_mut(&id)
                        {
                            running.finish();
                        }
                    }
                    // Silence of others is no failure of this node: it goes on being said every 12 hours.
                    QueryResult::StartProviding(Err(error)) => {
                        outcome = Some(Failure::Network(error.to_string()))
                    }
                    _ => {}
                }
                if (step.last || outcome.is_some())
                    && let Some(mut query) = self.queries.remove(&id)
                {
                    query.found.truncate(query.limit);
                    query.answer.give(match outcome {
                        None => Ok(query.found),
                        Some(failure) => Err(failure),
                    });
                }
                None
            }
            kad::Event::InboundRequest { request: InboundRequest::AddProvider { record: Some(record) } } => {
                // A store that is full takes no more; who said so says it to others too.
                let _ = self.inner.store_mut().add_provider(record);
                None
            }
            other => Some(other),
        }
    }
}

impl NetworkBehaviour for Kademlia {
    type ConnectionHandler = <kad::Behaviour<MemoryStore> as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = kad::Event;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.inner.handle_pending_inbound_connection(id, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_inbound_connection(id, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.inner.handle_pending_outbound_connection(id, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_outbound_connection(id, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        self.inner.on_connection_handler_event(peer, id, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<kad::Event, THandlerInEvent<Self>>> {
        self.shared.waker.register(cx.waker());
        loop {
            self.take_questions();
            match self.inner.poll(cx) {
                Poll::Ready(ToSwarm::GenerateEvent(event)) => {
                    if let Some(event) = self.heard(event) {
                        return Poll::Ready(ToSwarm::GenerateEvent(event));
                    }
                }
                other => return other,
            }
        }
    }
}

impl Drop for Kademlia {
    fn drop(&mut self) {
        let questions = {
            let mut inbox = self.shared.inbox();
            inbox.closed = true;
            std::mem::take(&mut inbox.questions)
        };
        let waiting = questions.into_iter().map(|(_, answer)| answer);
        for answer in waiting.chain(self.queries.drain().map(|(_, query)| query.answer)) {
            answer.give(Err(Failure::Stopped));
        }
    }
}

impl fmt::Debug for Kademlia {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kademlia").field("queries", &self.queries.len()).finish_non_exhaustive()
    }
}

/// Asks the [`Kademlia`] behaviour that it came from. Clones are cheap and share it.
///
/// Its methods block their thread while the swarm works, so they are called off the reactor.
#[derive(Clone)]
pub struct KadRouting {
    shared: Arc<Shared>,
}

impl KadRouting {
    fn ask(&self, question: Question) -> Result<Vec<PeerId>, RoutingError> {
        let answer = Arc::new(Answer::default());
        {
            let mut inbox = self.shared.inbox();
            if inbox.closed {
                return Err(RoutingError::Unavailable(Box::new(Failure::Stopped)));
            }
            inbox.questions.push((question, answer.clone()));
        }
        self.shared.waker.wake();
        answer.wait(self.shared.patience.saturating_mul(2) + GRACE).map_err(|failure| match failure {
            Failure::Full => RoutingError::Full { max: self.shared.records_max },
            other => RoutingError::Unavailable(Box::new(other)),
        })
    }
}

impl Routing for KadRouting {
    fn find_providers(&self, cid: &Cid, limit: usize) -> Result<Vec<crate::PeerId>, RoutingError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let found = self.ask(Question::Find { key: key(cid), limit })?;
        Ok(found.iter().filter_map(|peer| crate::PeerId::from_bytes(&peer.to_bytes())).collect())
    }

    fn provide(&self, cid: &Cid) -> Result<(), RoutingError> {
        self.ask(Question::Provide { key: key(cid) }).map(drop)
    }

    fn withdraw(&self, cid: &Cid) -> Result<(), RoutingError> {
        self.ask(Question::Withdraw { key: key(cid) }).map(drop)
    }
}

impl fmt::Debug for KadRouting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KadRouting").finish_non_exhaustive()
    }
}

/// IPFS looks for providers by the multihash, whatever the version and codec of the CID.
fn key(cid: &Cid) -> RecordKey {
    RecordKey::new(&cid.hash().to_bytes())
}

#[derive(Default)]
struct Shared {
    waker: AtomicWaker,
    inbox: Mutex<Inbox>,
    patience: Duration,
    records_max: usize,
}

impl Shared {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who asks waits for the answer: there are never more questions than threads that ask.
#[derive(Default)]
struct Inbox {
    questions: Vec<(Question, Arc<Answer>)>,
    closed: bool,
}

enum Question {
    Find { key: RecordKey, limit: usize },
    Provide { key: RecordKey },
    Withdraw { key: RecordKey },
}

#[derive(Clone, Debug, thiserror::Error)]
enum Failure {
    #[error("no more blocks can be provided")]
    Full,
    #[error("{0}")]
    Network(String),
    #[error("the swarm with the kademlia behaviour is gone, or nobody polls it")]
    Stopped,
}

#[derive(Default)]
struct Answer {
    given: Mutex<Option<Result<Vec<PeerId>, Failure>>>,
    ready: Condvar,
}

impl Answer {
    fn give(&self, answer: Result<Vec<PeerId>, Failure>) {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(answer);
        self.ready.notify_one();
    }

    fn wait(&self, wait: Duration) -> Result<Vec<PeerId>, Failure> {
        let given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.ready.wait_timeout_while(given, wait, |given| given.is_none());
        let (mut given, _) = waited.unwrap_or_else(PoisonError::into_inner);
        given.take().unwrap_or(Err(Failure::Stopped))
    }
}
