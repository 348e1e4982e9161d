//! Nodes in swarms of their own, and a peer that sends whatever bytes it is told to.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::{
    Multiaddr, Swarm, SwarmBuilder, identify, identity,
    multiaddr::Protocol,
    request_response as raw,
    swarm::{NetworkBehaviour, SwarmEvent, dial_opts::DialOpts},
    tcp,
};
#[cfg(feature = "tls")]
use lightstreams_store::p2p::Tls;
use lightstreams_store::{
    Account, AllowAll, Block, BlockStore, Cid, Exchange, FetchError, Gate, MemoryStore, PeerFailureKind,
    PeerId, Requester, ServePolicy, Session,
    p2p::{
        Bitswap, BitswapConfig, BitswapEvent, BitswapExchange, Noise, Yamux,
        wire::{Entry, Message, Revision, WantKind},
    },
};
use tokio::{runtime::Runtime, sync::mpsc, task::JoinHandle};

pub(super) const LEAF: usize = 65_536;

/// Builds a swarm whose connections are encrypted by `$by`.
macro_rules! swarm {
    ($by:expr, $behaviour:expr) => {
        SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(tcp::Config::default(), $by, Yamux::default)
            .unwrap()
            .with_behaviour($behaviour)
            .unwrap()
            .build()
    };
}
pub(super) use swarm;

/// What a node speaks: others learn from identify that it speaks Bitswap.
#[derive(NetworkBehaviour)]
struct Peer {
    bitswap: Bitswap,
    identify: identify::Behaviour,
}

/// A node in a swarm of its own, driven by its own task.
pub(super) struct Node {
    pub(super) id: libp2p::PeerId,
    pub(super) addr: Multiaddr,
    pub(super) store: Arc<MemoryStore>,
    pub(super) exchange: BitswapExchange,
    pub(super) tell: mpsc::UnboundedSender<Tell>,
    pub(super) blamed: Arc<Mutex<BTreeSet<libp2p::PeerId>>>,
    connected: Connected,
    pub(super) task: JoinHandle<()>,
}

pub(super) enum Tell {
    Dial(Multiaddr),
    Disconnect(libp2p::PeerId),
}

impl Node {
    pub(super) fn peer(&self) -> PeerId {
        PeerId::from_bytes(&self.id.to_bytes()).unwrap()
    }

    /// Dials a peer, and waits until both are connected as far as this node knows.
    pub(super) fn connect(&self, addr: &Multiaddr) {
        self.dial(addr);
        let Some(Protocol::P2p(peer)) = addr.iter().last() else { panic!("{addr} is of no peer") };
        wait_until("a connection", || self.connected.has(&peer));
    }

    pub(super) fn dial(&self, addr: &Multiaddr) {
        self.tell.send(Tell::Dial(addr.clone())).unwrap();
    }

    pub(super) fn blames(&self, peer: &libp2p::PeerId) -> bool {
        self.blamed.lock().unwrap().contains(peer)
    }
}

/// The peers that a swarm is connected with.
#[derive(Clone, Default)]
struct Connected(Arc<Mutex<BTreeSet<libp2p::PeerId>>>);

impl Connected {
    fn has(&self, peer: &libp2p::PeerId) -> bool {
        self.0.lock().unwrap().contains(peer)
    }

    fn see<E>(&self, event: &SwarmEvent<E>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                self.0.lock().unwrap().insert(*peer_id);
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } => {
                self.0.lock().unwrap().remove(peer_id);
            }
            _ => {}
        }
    }
}

/// Nodes and their runtime; they end with it.
pub(super) struct Net {
    pub(super) runtime: Runtime,
}

impl Net {
    pub(super) fn new() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Self { runtime }
    }

    pub(super) fn node(&self) -> Node {
        self.node_with(Arc::new(AllowAll), |_| None, BitswapConfig::default())
    }

    pub(super) fn node_with(
        &self,
        policy: Arc<dyn ServePolicy>,
        accounts: impl Fn(&libp2p::PeerId) -> Option<Account> + Send + Sync + 'static,
        config: BitswapConfig,
    ) -> Node {
        let store = Arc::new(MemoryStore::default());
        self.node_over(store.clone(), store, policy, accounts, config)
    }

    /// A node that serves from `serves`, which may be another store than `store`.
    pub(super) fn node_over(
        &self,
        store: Arc<MemoryStore>,
        serves: Arc<dyn BlockStore>,
        policy: Arc<dyn ServePolicy>,
        accounts: impl Fn(&libp2p::PeerId) -> Option<Account> + Send + Sync + 'static,
        config: BitswapConfig,
    ) -> Node {
        let _guard = self.runtime.enter();
        let bitswap = Bitswap::new(Gate::new(serves, policy), accounts, config).unwrap();
        let exchange = bitswap.exchange();
        let (mut swarm, addr) = self.listening(|key| Peer {
            bitswap,
            identify: identify::Behaviour::new(identify::Config::new("test/1".to_owned(), key.public())),
        });
        let (tell, mut told) = mpsc::unbounded_channel();
        let blamed = Arc::new(Mutex::new(BTreeSet::new()));
        let (id, blames) = (*swarm.local_peer_id(), blamed.clone());
        let connected = Connected::default();
        let sees = connected.clone();
        let task = self.runtime.spawn(async move {
            loop {
                tokio::select! {
                    event = swarm.select_next_some() => {
                        sees.see(&event);
                        if let SwarmEvent::Behaviour(PeerEvent::Bitswap(BitswapEvent::Misbehaved { peer })) = event {
                            blames.lock().unwrap().insert(peer);
                        }
                    }
                    Some(tell) = told.recv() => match tell {
                        Tell::Dial(addr) => swarm.dial(dial_opts(addr)).unwrap(),
                        Tell::Disconnect(peer) => { let _ = swarm.disconnect_peer_id(peer); }
                    },
                }
            }
        });
        Node { id, addr, store, exchange, tell, blamed, connected, task }
    }

    pub(super) fn listening<B: NetworkBehaviour + Send>(
        &self,
        behaviour: impl FnOnce(&identity::Keypair) -> B,
    ) -> (Swarm<B>, Multiaddr) {
        self.runtime.block_on(async {
            #[cfg(feature = "tls")]
            let mut swarm = swarm!((Tls::new, Noise::new), behaviour);
            #[cfg(not(feature = "tls"))]
            let mut swarm = swarm!(Noise::new, behaviour);
            swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
            loop {
                if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                    let addr = address.with_p2p(*swarm.local_peer_id()).unwrap();
                    return (swarm, addr);
                }
            }
        })
    }

    /// A peer that sends the bytes it is told to, and shows the messages it receives.
    pub(super) fn raw(&self, protocol: &'static str) -> Raw {
        let _guard = self.runtime.enter();
        let (got, received) = mpsc::unbounded_channel();
        let protocols = [(protocol, raw::ProtocolSupport::Full)];
        let config = raw::Config::default().with_request_timeout(Duration::from_secs(60));
        let (mut swarm, addr) =
            self.listening(|_| raw::Behaviour::with_codec(RawCodec { got: got.clone() }, protocols, config));
        let (send, mut to_send) = mpsc::unbounded_channel::<(libp2p::PeerId, Vec<u8>)>();
        let (dial, mut to_dial) = mpsc::unbounded_channel::<Multiaddr>();
        let id = *swarm.local_peer_id();
        let connected = Connected::default();
        let sees = connected.clone();
        self.runtime.spawn(async move {
            loop {
                tokio::select! {
                    event = swarm.select_next_some() => sees.see(&event),
                    Some((peer, bytes)) = to_send.recv() => { swarm.behaviour_mut().send_request(&peer, bytes); }
                    Some(addr) = to_dial.recv() => swarm.dial(dial_opts(addr)).unwrap(),
                }
            }
        });
        Raw { id, addr, send, dial, received, connected }
    }
}

/// From a port of its own, as peers that dial each other at once must.
pub(super) fn dial_opts(addr: Multiaddr) -> DialOpts {
    DialOpts::unknown_peer_id().address(addr).allocate_new_port().build()
}

/// A peer without a protocol: bytes out, messages in.
pub(super) struct Raw {
    pub(super) id: libp2p::PeerId,
    pub(super) addr: Multiaddr,
    pub(super) send: mpsc::UnboundedSender<(libp2p::PeerId, Vec<u8>)>,
    pub(super) dial: mpsc::UnboundedSender<Multiaddr>,
    pub(super) received: mpsc::UnboundedReceiver<Message>,
    connected: Connected,
}

impl Raw {
    /// Dials a node, and waits until both know that they are connected.
    pub(super) fn connect(&self, node: &Node) {
        self.dial.send(node.addr.clone()).unwrap();
        wait_until("a connection", || self.connected.has(&node.id) && node.connected.has(&self.id));
    }

    pub(super) fn send(&self, to: &Node, message: &Message) {
        let pieces = message.encode(Revision::V1_2).unwrap().pieces;
        self.send.send((to.id, pieces.iter().flatten().copied().collect())).unwrap();
    }

    /// All that arrives until `enough` does, and a little longer.
    #[track_caller]
    pub(super) fn receive_until(&mut self, net: &Net, enough: impl Fn(&[Message]) -> bool) -> Vec<Message> {
        let mut messages = Vec::new();
        wait_until("what was to come", || {
            messages.extend(self.receive(net, Duration::from_millis(20)));
            enough(&messages)
        });
        messages.extend(self.receive(net, Duration::from_millis(100)));
        messages
    }

    /// All that arrives within `wait`.
    pub(super) fn receive(&mut self, net: &Net, wait: Duration) -> Vec<Message> {
        let mut messages = Vec::new();
        net.runtime.block_on(async {
            let end = tokio::time::Instant::now() + wait;
            while let Ok(Some(message)) = tokio::time::timeout_at(end, self.received.recv()).await {
                messages.push(message);
            }
        });
        messages
    }
}

#[derive(Clone)]
pub(super) struct RawCodec {
    got: mpsc::UnboundedSender<Message>,
}

impl raw::Codec for RawCodec {
    type Protocol = &'static str;
    type Request = Vec<u8>;
    type Response = ();

    async fn read_request<T>(&mut self, _: &&'static str, io: &mut T) -> std::io::Result<Vec<u8>>
    where
        T: futures::AsyncRead + Unpin + Send,
    {
        loop {
            let (mut len, mut shift, mut byte) = (0usize, 0, [0u8]);
            loop {
                io.read_exact(&mut byte).await?;
                len |= usize::from(byte[0] & 0x7f) << shift;
                shift += 7;
                if byte[0] < 0x80 {
                    break;
                }
            }
            let mut body = vec![0; len];
            io.read_exact(&mut body).await?;
            let _ = self.got.send(Message::decode(&body.into()).unwrap());
        }
    }

    async fn read_response<T>(&mut self, _: &&'static str, _: &mut T) -> std::io::Result<()>
    where
        T: futures::AsyncRead + Unpin + Send,
    {
        Ok(())
    }

    async fn write_request<T>(&mut self, _: &&'static str, io: &mut T, bytes: Vec<u8>) -> std::io::Result<()>
    where
        T: futures::AsyncWrite + Unpin + Send,
    {
        io.write_all(&bytes).await?;
        io.flush().await
    }

    async fn write_response<T>(&mut self, _: &&'static str, _: &mut T, (): ()) -> std::io::Result<()>
    where
        T: futures::AsyncWrite + Unpin + Send,
    {
        Ok(())
    }
}

pub(super) fn leaves(count: usize, seed: u8) -> Vec<Block> {
    let leaf = |i: usize| {
        let mut data = vec![seed; LEAF];
        data[..8].copy_from_slice(&i.to_be_bytes());
        Block::raw(data)
    };
    (0..count).map(leaf).collect()
}

pub(super) fn cids(blocks: &[Block]) -> Vec<Cid> {
    blocks.iter().map(|block| *block.cid()).collect()
}

pub(super) fn patient(peers: &[&Node]) -> Session {
    Session::new().with_peers(peers.iter().map(|node| node.peer())).with_patience(Duration::from_secs(20))
}

/// Fetches on this thread and returns what came.
pub(super) fn fetch(node: &Node, cids: &[Cid], session: &Session) -> (Vec<Block>, Result<(), FetchError>) {
    let mut got = Vec::new();
    let result = node.exchange.fetch(cids, session, &mut |block| {
        got.push(block);
        Ok(())
    });
    (got, result)
}

/// Whether the peers of `session` are asked, and say that they do not have the block.
pub(super) fn absent(node: &Node, cid: &Cid, session: &Session) -> bool {
    matches!(fetch(node, &[*cid], session).1, Err(FetchError::Missing { peers, .. })
        if peers.iter().all(|failure| failure.kind == PeerFailureKind::Absent))
}

#[track_caller]
pub(super) fn check_missing(
    result: Result<(), FetchError>,
    wanted: &[Cid],
    failures: &[(PeerId, PeerFailureKind)],
) {
    match result {
        Err(FetchError::Missing { cids, peers }) => {
            assert_eq!(cids, wanted);
            let peers: Vec<_> = peers.into_iter().map(|failure| (failure.peer, failure.kind)).collect();
            assert_eq!(peers, failures);
        }
        other => panic!("expected missing blocks, got {other:?}"),
    }
}

#[track_caller]
pub(super) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < end, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(super) fn want(cid: &Cid, kind: WantKind, send_dont_have: bool) -> Entry {
    Entry { cid: *cid, priority: 1, cancel: false, kind, send_dont_have }
}

/// Lets through what is in the set, for whoever asks.
#[derive(Default)]
pub(super) struct Listed(pub(super) Mutex<BTreeSet<Cid>>);

impl ServePolicy for Listed {
    fn allows(&self, _: &Requester, cid: &Cid) -> bool {
        self.0.lock().unwrap().contains(cid)
    }
}
