//! What happens in the swarm, and what is asked of it, one after the other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_primitives::Address;
use futures::StreamExt;
use libp2p::request_response::{self, OutboundRequestId, ResponseChannel};
use libp2p::swarm::dial_opts::PeerCondition;
use libp2p::swarm::{ConnectionId, DialError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, identify, ping, tcp};
use lightstreams_chain::p2p::{self as chain_p2p, ChainSync};
use lightstreams_store::p2p::{Bitswap, BitswapConfig, BitswapExchange, Noise, Tls, Yamux};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::auth::{self, AccountBook, Held};
use super::dial::{Configured, dial_failure, dial_opts, innermost, peer_of, unreachable};
use super::{
    Behaviour, BehaviourEvent, COMMANDS_MAX, Command, NetworkHandle, NetworkParts, PeerInfo,
    RELEASES_RUNNING_MAX, RELEASES_WAITING_MAX, ReleaseService, unix_now,
};
use crate::error::{Exit, NodeError, Result};
use crate::vault::{AuthAnswer, Domain};

/// Starts the network task. It ends when the last handle is dropped.
///
/// Returns once the listener is bound, so that a taken port is an error here.
pub async fn start(parts: NetworkParts) -> Result<(NetworkHandle, BitswapExchange)> {
    let own = parts.keypair.public().to_peer_id();
    let wrong = |what: &'static str| NodeError::new("network", what);
    // The gate asks the account book itself: a peer may have proven several accounts.
    let bitswap = Bitswap::new(parts.gate, |_| None, BitswapConfig::default())
        .map_err(|e| wrong("cannot start the threads of the block exchange").because(e))?;
    let exchange = bitswap.exchange();
    let sync = ChainSync::new(parts.chain);
    let progress = sync.progress();
    let mut swarm = libp2p::SwarmBuilder::with_existing_identity(parts.keypair)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), (Tls::new, Noise::new), Yamux::default)
        .map_err(|e| wrong("cannot set up the transport").because(e))?
        .with_behaviour(|keypair| Behaviour::new(keypair, bitswap, sync))
        .map_err(|_| wrong("cannot set up the protocols"))?
        .with_swarm_config(|c| c.with_idle_connection_timeout(Duration::from_secs(24 * 3600)))
        .build();
    let (listen_to, listen) = watch::channel(Vec::new());
    if let Some(address) = parts.listen {
        bind(&mut swarm, address, &listen_to).await?;
    }
    let (commands, from) = mpsc::channel(COMMANDS_MAX);
    let (answers, answered) = mpsc::channel(RELEASES_WAITING_MAX);
    let now = Instant::now();
    let task = Task {
        fatal: parts.fatal,
        swarm,
        listen: listen_to,
        domain: parts.domain,
        accounts: parts.accounts,
        releases: parts.releases,
        running: Arc::new(Semaphore::new(RELEASES_RUNNING_MAX)),
        waiting: Arc::new(Semaphore::new(RELEASES_WAITING_MAX)),
        answers,
        peers: HashMap::new(),
        held: Vec::new(),
        dials: HashMap::new(),
        shows: HashMap::new(),
        shown_waiters: Vec::new(),
        released: HashMap::new(),
        configured: parts.peers.into_iter().map(|address| Configured::new(address, now)).collect(),
    };
    tokio::spawn(task.run(from, answered));
    Ok((NetworkHandle { own, commands, listen, sync: progress }, exchange))
}

/// Listens on `address` and waits until the first bound address is known.
async fn bind(
    swarm: &mut Swarm<Behaviour>,
    address: Multiaddr,
    listen: &watch::Sender<Vec<Multiaddr>>,
) -> Result<()> {
    let taken = |why: String| {
        NodeError::new("port_taken", format!("cannot listen on {address}: {why}"))
            .hint("another process has the port; stop it or change `p2p` in lightstreams.toml")
    };
    let listener = swarm.listen_on(address.clone()).map_err(|e| taken(innermost(&e)))?;
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::NewListenAddr { listener_id, address } if listener_id == listener => {
                note_listen(listen, swarm.local_peer_id(), address);
                return Ok(());
            }
            SwarmEvent::ListenerError { listener_id, error } if listener_id == listener => {
                return Err(taken(error.to_string()));
            }
            SwarmEvent::ListenerClosed { listener_id, reason, .. } if listener_id == listener => {
                return Err(taken(reason.err().map_or_else(|| "closed".into(), |e| e.to_string())));
            }
            _ => {}
        }
    }
}

fn note_listen(listen: &watch::Sender<Vec<Multiaddr>>, own: &PeerId, address: Multiaddr) {
    let address = address.with_p2p(*own).unwrap_or_else(|same| same);
    listen.send_modify(|known| {
        if !known.contains(&address) {
            known.push(address);
        }
    });
}

struct Peer {
    address: Multiaddr,
    outgoing: bool,
    /// By account: `None` while the answer is awaited, then what it was, `Some(None)` for none.
    shown: HashMap<Address, Option<Option<AuthAnswer>>>,
}

impl Peer {
    fn answers(&self) -> Vec<(Address, Option<AuthAnswer>)> {
        self.shown.iter().map(|(account, answer)| (*account, answer.flatten())).collect()
    }

    fn awaits(&self) -> bool {
        self.shown.values().any(Option::is_none)
    }
}

enum Dial {
    /// Of the configured peer at this index.
    Configured(usize),
    Asked(Multiaddr, oneshot::Sender<Result<PeerId>>),
}

type Answered = (ResponseChannel<Vec<u8>>, Vec<u8>);

/// What a peer answered to the delegations shown, by account.
type Shown = Vec<(Address, Option<AuthAnswer>)>;
/// Where the answer to a relayed request for a key goes.
type Relay = oneshot::Sender<Result<Vec<u8>>>;

struct Task {
    swarm: Swarm<Behaviour>,
    fatal: mpsc::Sender<NodeError>,
    listen: watch::Sender<Vec<Multiaddr>>,
    domain: Domain,
    accounts: Arc<AccountBook>,
    releases: Arc<dyn ReleaseService>,
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    answers: mpsc::Sender<Answered>,
    peers: HashMap<PeerId, Peer>,
    held: Vec<Held>,
    dials: HashMap<ConnectionId, Dial>,
    shows: HashMap<OutboundRequestId, (PeerId, Address)>,
    shown_waiters: Vec<(PeerId, oneshot::Sender<Shown>)>,
    released: HashMap<OutboundRequestId, (PeerId, Relay)>,
    configured: Vec<Configured>,
}

impl Task {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>, mut answered: mpsc::Receiver<Answered>) {
        let mut redial = tokio::time::interval(Duration::from_millis(500));
        redial.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => return,
                },
                event = self.swarm.select_next_some() => self.event(event),
                Some((channel, answer)) = answered.recv() => {
                    // The connection may have closed meanwhile; then there is no one to tell.
                    let _ = self.swarm.behaviour_mut().release.send_response(channel, answer);
                }
                _ = redial.tick() => self.redial(),
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Announce(block) => self.swarm.behaviour_mut().chain.announce_block(&block),
            Command::Peers(reply) => {
                let info = |(id, peer): (&PeerId, &Peer)| PeerInfo {
                    id: *id,
                    address: peer.address.clone(),
                    outgoing: peer.outgoing,
                    shown: peer.answers(),
                };
                let _ = reply.send(self.peers.iter().map(info).collect());
            }
            Command::Connect(address, reply) => self.connect(address, reply),
            Command::Shown(peer, reply) => {
                self.shown_waiters.push((peer, reply));
                self.settle_shown();
            }
            Command::Hold(held, reply) => {
                self.hold(held);
                let _ = reply.send(());
            }
            Command::Release(peer, request, reply) => {
                let id = self.swarm.behaviour_mut().release.send_request(&peer, request);
                self.released.insert(id, (peer, reply));
            }
        }
    }

    fn connect(&mut self, address: Multiaddr, reply: oneshot::Sender<Result<PeerId>>) {
        let peer = peer_of(&address);
        if let Some(peer) = peer.filter(|peer| self.peers.contains_key(peer)) {
            let _ = reply.send(Ok(peer));
            return;
        }
        if peer == Some(*self.swarm.local_peer_id()) {
            let _ = reply.send(Err(unreachable(&address, "that is this node itself")));
            return;
        }
        let dial = dial_opts(&address, PeerCondition::Disconnected);
        let id = dial.connection_id();
        match self.swarm.dial(dial) {
            Ok(()) => {
                self.dials.insert(id, Dial::Asked(address, reply));
            }
            Err(error) => {
                let _ = reply.send(Err(unreachable(&address, &dial_failure(&error))));
            }
        }
    }

    fn redial(&mut self) {
        let now = Instant::now();
        for (index, configured) in self.configured.iter_mut().enumerate() {
            let connected = configured.peer.is_some_and(|peer| self.peers.contains_key(&peer));
            let own = configured.peer == Some(*self.swarm.local_peer_id());
            if connected || own || configured.dialling || now < configured.next {
                continue;
            }
            let dial = dial_opts(&configured.address, PeerCondition::DisconnectedAndNotDialing);
            let id = dial.connection_id();
            match self.swarm.dial(dial) {
                Ok(()) => {
                    configured.dialling = true;
                    self.dials.insert(id, Dial::Configured(index));
                }
                Err(_) => configured.failed(now),
            }
        }
    }

    fn event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Auth(event)) => self.auth_event(event),
            SwarmEvent::Behaviour(BehaviourEvent::Release(event)) => self.release_event(event),
            SwarmEvent::Behaviour(BehaviourEvent::Chain(event)) => self.chain_event(event),
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received {
                peer_id,
                info,
                ..
            })) => self.swarm.behaviour_mut().chain.note_protocols(peer_id, &info.protocols),
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event {
                connection,
                result: Err(failure),
                ..
            })) if !matches!(failure, ping::Failure::Unsupported) => {
                // A peer without ping is still there; one that does not answer is not.
                self.swarm.close_connection(connection);
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                note_listen(&self.listen, self.swarm.local_peer_id(), address);
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                let own = *self.swarm.local_peer_id();
                let address = address.with_p2p(own).unwrap_or_else(|same| same);
                self.listen.send_modify(|known| known.retain(|a| *a != address));
            }
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                let address = endpoint.get_remote_address().clone();
                tracing::debug!(peer = %peer_id, %address, "connected");
                let outgoing = endpoint.is_dialer();
                let known = self.peers.contains_key(&peer_id);
                self.peers.entry(peer_id).or_insert_with(|| Peer {
                    address,
                    outgoing,
                    shown: HashMap::new(),
                });
                if !known {
                    self.show_all(peer_id);
                }
                match self.dials.remove(&connection_id) {
                    Some(Dial::Asked(_, reply)) => {
                        let _ = reply.send(Ok(peer_id));
                    }
                    Some(Dial::Configured(index)) => {
                        if let Some(configured) = self.configured.get_mut(index) {
                            configured.connected(peer_id);
                        }
                    }
                    None => {}
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } => {
                tracing::debug!(peer = %peer_id, "disconnected");
                self.peers.remove(&peer_id);
                self.accounts.forget(&peer_id);
                let now = Instant::now();
                for configured in self.configured.iter_mut().filter(|c| c.peer == Some(peer_id)) {
                    configured.failed(now);
                }
                self.settle_shown();
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                self.dial_failed(connection_id, &error);
            }
            _ => {}
        }
    }

    fn chain_event(&mut self, event: chain_p2p::Event) {
        use chain_p2p::Event;
        match event {
            Event::Imported { peer, last } => {
                tracing::info!(%peer, number = last.number, hash = %last.hash, "imported blocks")
            }
            Event::OtherNetwork { peer, genesis } => tracing::warn!(
                %peer, %genesis,
                "a peer follows another network: its genesis.json is not ours; take the file from one of its nodes to join it"
            ),
            Event::Misbehaved { peer, reason } => tracing::warn!(%peer, reason, "dropped a peer"),
            Event::Failed { reason } => {
                let failed = NodeError::new("storage", format!("cannot store blocks of peers: {reason}"))
                    .hint("check that the disk has space and is writable, then start the node again");
                let _ = self.fatal.try_send(failed);
            }
            other => tracing::debug!(?other, "chain sync"),
        }
    }

    fn dial_failed(&mut self, connection: ConnectionId, error: &DialError) {
        match self.dials.remove(&connection) {
            Some(Dial::Asked(address, reply)) => {
                let _ = reply.send(Err(unreachable(&address, &dial_failure(error))));
            }
            Some(Dial::Configured(index)) => {
                if let Some(configured) = self.configured.get_mut(index) {
                    tracing::debug!(address = %configured.address, why = dial_failure(error), "cannot connect");
                    configured.failed(Instant::now());
                }
            }
            None => {}
        }
    }

    fn hold(&mut self, held: Held) {
        let now = unix_now();
        self.held.retain(|known| known.account != held.account && now < known.not_after);
        if self.held.len() >= auth::HELD_MAX {
            self.held.sort_by_key(|known| known.not_after);
            self.held.remove(0);
        }
        self.held.push(held.clone());
        let peers: Vec<PeerId> = self.peers.keys().copied().collect();
        for peer in peers {
            self.show(peer, &held);
        }
    }

    fn show_all(&mut self, peer: PeerId) {
        let now = unix_now();
        self.held.retain(|held| now < held.not_after);
        for held in self.held.clone() {
            self.show(peer, &held);
        }
    }

    fn show(&mut self, peer: PeerId, held: &Held) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        state.shown.insert(held.account, None);
        let id = self.swarm.behaviour_mut().auth.send_request(&peer, held.message.clone());
        self.shows.insert(id, (peer, held.account));
    }

    fn auth_event(&mut self, event: request_response::Event<Vec<u8>, Vec<u8>>) {
        use request_response::{Event, Message};
        match event {
            Event::Message { peer, message: Message::Request { request, channel, .. }, .. } => {
                let answer = self.accounts.judge(&peer, &request, &self.domain, unix_now());
                tracing::debug!(%peer, ?answer, "judged a delegation");
                let _ = self.swarm.behaviour_mut().auth.send_response(channel, answer.encode());
            }
            Event::Message { message: Message::Response { request_id, response }, .. } => {
                self.shown_answered(request_id, AuthAnswer::decode(&response).ok());
            }
            Event::OutboundFailure { request_id, .. } => self.shown_answered(request_id, None),
            Event::InboundFailure { .. } | Event::ResponseSent { .. } => {}
        }
    }

    fn shown_answered(&mut self, id: OutboundRequestId, answer: Option<AuthAnswer>) {
        let Some((peer, account)) = self.shows.remove(&id) else { return };
        // An older answer does not settle a newer delegation of the same account.
        let newer = self.shows.values().any(|show| *show == (peer, account));
        if let Some(shown) =
            self.peers.get_mut(&peer).and_then(|p| p.shown.get_mut(&account)).filter(|_| !newer)
        {
            *shown = Some(answer);
        }
        self.settle_shown();
    }

    /// Answers those who wait for a peer that has judged everything, or is gone.
    fn settle_shown(&mut self) {
        let (settled, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.shown_waiters)
            .into_iter()
            .filter(|(_, reply)| !reply.is_closed())
            .partition(|(peer, _)| self.peers.get(peer).is_none_or(|p| !p.awaits()));
        self.shown_waiters = waiting;
        for (peer, reply) in settled {
            let _ = reply.send(self.peers.get(&peer).map(Peer::answers).unwrap_or_default());
        }
    }

    fn release_event(&mut self, event: request_response::Event<Vec<u8>, Vec<u8>>) {
        use request_response::{Event, Message};
        match event {
            Event::Message { message: Message::Request { request, channel, .. }, .. } => {
                self.answer_release(request, channel);
            }
            Event::Message { message: Message::Response { request_id, response }, .. } => {
                if let Some((_, reply)) = self.released.remove(&request_id) {
                    let _ = reply.send(Ok(response));
                }
            }
            Event::OutboundFailure { request_id, error, .. } => {
                if let Some((peer, reply)) = self.released.remove(&request_id) {
                    let failed =
                        NodeError::new("peer_failed", format!("{peer} did not answer the key request"))
                            .because(error)
                            .exit(Exit::Peer)
                            .hint("the custodian may be gone; try again later or ask another one");
                    let _ = reply.send(Err(failed));
                }
            }
            Event::InboundFailure { .. } | Event::ResponseSent { .. } => {}
        }
    }

    fn answer_release(&mut self, request: Vec<u8>, channel: ResponseChannel<Vec<u8>>) {
        let Ok(place) = self.waiting.clone().try_acquire_owned() else {
            let answer = self.releases.busy(&request);
            let _ = self.swarm.behaviour_mut().release.send_response(channel, answer);
            return;
        };
        let (running, releases, answers) =
            (self.running.clone(), self.releases.clone(), self.answers.clone());
        tokio::spawn(async move {
            let Ok(turn) = running.acquire_owned().await else { return };
            let answer = tokio::task::spawn_blocking(move || {
                let _turn = turn;
                releases.answer(&request)
            });
            if let Ok(answer) = answer.await {
                let _ = answers.send((channel, answer)).await;
            }
            drop(place);
        });
    }
}
