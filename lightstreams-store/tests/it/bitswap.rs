//! Bitswap: its bytes, and what peers, honest and other, make of it over real sockets.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::{
    Multiaddr, Swarm, SwarmBuilder, noise, request_response as raw,
    swarm::{NetworkBehaviour, SwarmEvent, dial_opts::DialOpts},
    tcp, yamux,
};
use lightstreams_store::{
    Account, AllowAll, Block, BlockStore, Cid, DAG_CBOR, DAG_PB, EnvelopeChunker, Exchange, FetchError,
    FetchingSource, FileBuilder, Gate, MemoryStore, PayloadReader, PayloadShape, PeerFailureKind, PeerId,
    Requester, ServePolicy, Session, StoreError,
    p2p::{
        Bitswap, BitswapConfig, BitswapEvent, BitswapExchange,
        wire::{
            BLOCK_BYTES_MAX, CID_BYTES_MAX, Entry, MESSAGE_BYTES_MAX, Message, MessageError, Payload, Prefix,
            Presence, Revision, WANTS_MAX, WantKind,
        },
    },
    testing::check_exchange,
};
use proptest::{collection::vec, prelude::*};
use tokio::{runtime::Runtime, sync::mpsc, task::JoinHandle};

const LEAF: usize = 65_536;
const DENY: Duration = Duration::from_millis(25);

mod bytes {
    use super::*;

    fn cid() -> impl Strategy<Value = Cid> {
        (vec(any::<u8>(), 0..40), prop_oneof![Just(0x55u64), Just(DAG_PB), Just(DAG_CBOR), any::<u64>()])
            .prop_map(|(data, codec)| *Block::new(codec, data).cid())
            .prop_flat_map(|v1| prop_oneof![Just(v1), Just(Cid::new_v0(*v1.hash()).unwrap())])
    }

    fn entry() -> impl Strategy<Value = Entry> {
        let kind = prop_oneof![Just(WantKind::Block), Just(WantKind::Have)];
        (cid(), any::<i32>(), any::<bool>(), kind, any::<bool>()).prop_map(
            |(cid, priority, cancel, kind, send_dont_have)| Entry {
                cid,
                priority,
                cancel,
                kind,
                send_dont_have,
            },
        )
    }

    fn payload() -> impl Strategy<Value = Payload> {
        (cid(), vec(any::<u8>(), 0..3000))
            .prop_map(|(cid, data)| Payload { prefix: Prefix::of(&cid), data: data.into() })
    }

    fn message() -> impl Strategy<Value = Message> {
        let presence = prop_oneof![Just(Presence::Have), Just(Presence::DontHave)];
        (vec(entry(), 0..8), any::<bool>(), vec(payload(), 0..4), vec((cid(), presence), 0..8))
            .prop_map(|(entries, full, payloads, presences)| Message { entries, full, payloads, presences })
    }

    /// The message without its length prefix, which must be right.
    fn body(message: &Message, revision: Revision) -> lightstreams_store::Bytes {
        let framed = message.encode(revision).unwrap();
        assert_eq!(framed.len(), framed.pieces.iter().map(|piece| piece.len()).sum::<usize>());
        let framed: Vec<u8> = framed.pieces.iter().flatten().copied().collect();
        let (len, rest) = (0..4)
            .scan(0, |len, i| {
                *len |= usize::from(framed[i] & 0x7f) << (7 * i);
                Some((*len, i, framed[i] < 0x80))
            })
            .find_map(|(len, i, last)| last.then(|| (len, &framed[i + 1..])))
            .unwrap();
        assert_eq!(len, rest.len());
        rest.to_vec().into()
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(message in message()) {
            prop_assert_eq!(Message::decode(&body(&message, Revision::V1_2)), Ok(message));
        }

        #[test]
        fn an_older_revision_leaves_out_what_it_cannot_say(message in message()) {
            let middle = Message::decode(&body(&message, Revision::V1_1)).unwrap();
            prop_assert_eq!(&middle.payloads, &message.payloads);
            prop_assert!(middle.presences.is_empty());
            prop_assert!(middle.entries.iter().all(|entry| entry.kind == WantKind::Block && !entry.send_dont_have));
            let old = Message::decode(&body(&message, Revision::V1_0)).unwrap();
            let data = |message: &Message| message.payloads.iter().map(|p| p.data.clone()).collect::<Vec<_>>();
            prop_assert_eq!(data(&old), data(&message));
            prop_assert_eq!(old.entries, middle.entries);
        }

        #[test]
        fn any_bytes_are_a_message_or_an_error(bytes in vec(any::<u8>(), 0..600)) {
            let _ = Message::decode(&bytes.into());
        }

        #[test]
        fn a_damaged_message_is_a_message_or_an_error(message in message(), hits in vec(any::<(usize, u8)>(), 1..6), cut in any::<usize>()) {
            let mut bytes = body(&message, Revision::V1_2).to_vec();
            bytes.truncate(cut % (bytes.len() + 1));
            for (at, with) in hits {
                let len = bytes.len().max(1);
                if let Some(byte) = bytes.get_mut(at % len) {
                    *byte ^= with;
                }
            }
            let _ = Message::decode(&bytes.into());
        }

        #[test]
        fn unknown_fields_are_passed_over(message in message(), number in 6u64..1000, content in vec(any::<u8>(), 0..20)) {
            let mut bytes = body(&message, Revision::V1_2).to_vec();
            let tag = number << 3 | 2;
            bytes.extend(if tag < 0x80 { vec![tag as u8] } else { vec![tag as u8 | 0x80, (tag >> 7) as u8] });
            bytes.push(content.len() as u8);
            bytes.extend(content);
            prop_assert_eq!(Message::decode(&bytes.into()), Ok(message));
        }
    }

    #[test]
    fn a_want_is_written_as_the_specification_says() {
        let cid = *Block::raw(&b"hello"[..]).cid();
        let entry = Entry { cid, priority: 1, cancel: false, kind: WantKind::Have, send_dont_have: true };
        let message = Message { entries: vec![entry], full: true, ..Message::default() };
        // wantlist { entries { block, priority 1, wantType 1, sendDontHave 1 } full 1 }
        let mut expected = vec![0x0a, 0x30, 0x0a, 0x2c, 0x0a, 0x24];
        expected.extend(cid.to_bytes());
        expected.extend([0x10, 0x01, 0x20, 0x01, 0x28, 0x01, 0x10, 0x01]);
        assert_eq!(body(&message, Revision::V1_2), expected);
    }

    #[test]
    fn answers_are_written_as_the_specification_says() {
        let block = Block::raw(&b"hello"[..]);
        let payload = Payload { prefix: Prefix::of(block.cid()), data: block.data().clone() };
        let presences = vec![(*block.cid(), Presence::DontHave)];
        let message = Message { payloads: vec![payload], presences, ..Message::default() };
        // payload { prefix { 1, raw, sha2-256, 32 } data }, presence { cid, type DONT_HAVE }
        let mut expected = vec![0x1a, 0x0d, 0x0a, 0x04, 0x01, 0x55, 0x12, 0x20, 0x12, 0x05];
        expected.extend(b"hello");
        expected.extend([0x22, 0x28, 0x0a, 0x24]);
        expected.extend(block.cid().to_bytes());
        expected.extend([0x10, 0x01]);
        assert_eq!(body(&message, Revision::V1_2), expected);
    }

    #[track_caller]
    fn check_refused(bytes: Vec<u8>, place: &str) {
        let error = Message::decode(&bytes.into()).unwrap_err();
        assert!(error.to_string().contains(place), "{error} does not name {place}");
    }

    fn nested(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        let mut len = content.len();
        while len >= 0x80 {
            out.push(len as u8 | 0x80);
            len >>= 7;
        }
        out.push(len as u8);
        out.extend(content);
        out
    }

    #[test]
    fn what_is_over_a_bound_or_broken_is_refused_by_name() {
        let cid = Block::raw(&b"x"[..]).cid().to_bytes();
        check_refused(vec![0; MESSAGE_BYTES_MAX + 1], "message exceeds");
        check_refused(nested(0x12, &vec![0; BLOCK_BYTES_MAX + 1]), "block exceeds");
        check_refused(nested(0x22, &nested(0x0a, &[1; CID_BYTES_MAX + 1])), "CID exceeds");
        check_refused(nested(0x12, b"").repeat(3000), "blocks exceeds");
        check_refused(nested(0x22, &nested(0x0a, &cid)).repeat(3000), "presences exceeds");
        check_refused(nested(0x32, b"").repeat(40_000), "message items exceeds");
        check_refused(nested(0x0a, &nested(0x0a, b"")), "entry.cid");
        check_refused(nested(0x22, b""), "presence.cid");
        check_refused(nested(0x1a, &nested(0x12, b"data")), "payload.prefix");
        check_refused(nested(0x1a, &nested(0x0a, &[9, 0x55, 0x12, 0x20])), "payload.prefix");
        check_refused(nested(0x1a, &nested(0x0a, &[1, 0x55, 0x12])), "payload.prefix");
        check_refused(nested(0x22, &nested(0x0a, &[cid.as_slice(), b"more"].concat())), "CID");
        check_refused(nested(0x22, &nested(0x0a, &cid[..20])), "CID");
        check_refused(nested(0x0a, &nested(0x0a, &[nested(0x0a, &cid), vec![0x20, 2]].concat())), "entry");
        check_refused(vec![0x0a, 0x05, 0x0a], "message");
        check_refused(vec![0x0b], "message");
        check_refused(vec![0x08, 0x01], "message");
        check_refused(vec![0x02], "message");
        check_refused(vec![0xff; 11], "message");
    }

    #[test]
    fn no_more_wants_are_kept_of_a_message_than_a_peer_may_have() {
        let entries = (0..5000u32).map(|i| Entry {
            cid: *Block::raw(i.to_be_bytes().to_vec()).cid(),
            priority: 0,
            cancel: false,
            kind: WantKind::Block,
            send_dont_have: false,
        });
        let message = Message { entries: entries.collect(), ..Message::default() };
        let read = Message::decode(&body(&message, Revision::V1_2)).unwrap();
        assert_eq!(read.entries, message.entries[..2 * WANTS_MAX]);
    }

    #[test]
    fn what_is_too_large_is_not_written() {
        let prefix = Prefix::of(Block::raw(&b"x"[..]).cid());
        let payload = |len| Payload { prefix, data: vec![0; len].into() };
        let message = |lens: &[usize]| Message {
            payloads: lens.iter().map(|len| payload(*len)).collect(),
            ..Message::default()
        };
        assert!(message(&[BLOCK_BYTES_MAX]).encode(Revision::V1_2).is_ok());
        for lens in [&[BLOCK_BYTES_MAX + 1][..], &[BLOCK_BYTES_MAX, BLOCK_BYTES_MAX]] {
            let refused = message(lens).encode(Revision::V1_2).unwrap_err();
            assert!(matches!(refused, MessageError::TooLarge { .. }));
        }
    }
}

/// A node in a swarm of its own, driven by its own task.
struct Node {
    id: libp2p::PeerId,
    addr: Multiaddr,
    store: Arc<MemoryStore>,
    exchange: BitswapExchange,
    tell: mpsc::UnboundedSender<Tell>,
    blamed: Arc<Mutex<BTreeSet<libp2p::PeerId>>>,
    task: JoinHandle<()>,
}

enum Tell {
    Dial(Multiaddr),
    Disconnect(libp2p::PeerId),
}

impl Node {
    fn peer(&self) -> PeerId {
        PeerId::from_bytes(&self.id.to_bytes()).unwrap()
    }

    fn connect(&self, addr: &Multiaddr) {
        self.tell.send(Tell::Dial(addr.clone())).unwrap();
    }

    fn blames(&self, peer: &libp2p::PeerId) -> bool {
        self.blamed.lock().unwrap().contains(peer)
    }
}

/// Nodes and their runtime; they end with it.
struct Net {
    runtime: Runtime,
}

impl Net {
    fn new() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Self { runtime }
    }

    fn node(&self) -> Node {
        self.node_with(Arc::new(AllowAll), |_| None, BitswapConfig::default())
    }

    fn node_with(
        &self,
        policy: Arc<dyn ServePolicy>,
        accounts: impl Fn(&libp2p::PeerId) -> Option<Account> + Send + Sync + 'static,
        config: BitswapConfig,
    ) -> Node {
        let store = Arc::new(MemoryStore::default());
        self.node_over(store.clone(), store, policy, accounts, config)
    }

    /// A node that serves from `serves`, which may be another store than `store`.
    fn node_over(
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
        let (mut swarm, addr) = self.listening(bitswap);
        let (tell, mut told) = mpsc::unbounded_channel();
        let blamed = Arc::new(Mutex::new(BTreeSet::new()));
        let (id, blames) = (*swarm.local_peer_id(), blamed.clone());
        let task = self.runtime.spawn(async move {
            loop {
                tokio::select! {
                    event = swarm.select_next_some() => {
                        if let SwarmEvent::Behaviour(BitswapEvent::Misbehaved { peer }) = event {
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
        Node { id, addr, store, exchange, tell, blamed, task }
    }

    fn listening<B: NetworkBehaviour + Send>(&self, behaviour: B) -> (Swarm<B>, Multiaddr) {
        self.runtime.block_on(async {
            let mut swarm = SwarmBuilder::with_new_identity()
                .with_tokio()
                .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
                .unwrap()
                .with_behaviour(|_| behaviour)
                .unwrap()
                .build();
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
    fn raw(&self, protocol: &'static str) -> Raw {
        let _guard = self.runtime.enter();
        let (got, received) = mpsc::unbounded_channel();
        let protocols = [(protocol, raw::ProtocolSupport::Full)];
        let config = raw::Config::default().with_request_timeout(Duration::from_secs(60));
        let (mut swarm, addr) =
            self.listening(raw::Behaviour::with_codec(RawCodec { got: got.clone() }, protocols, config));
        let (send, mut to_send) = mpsc::unbounded_channel::<(libp2p::PeerId, Vec<u8>)>();
        let (dial, mut to_dial) = mpsc::unbounded_channel::<Multiaddr>();
        let id = *swarm.local_peer_id();
        self.runtime.spawn(async move {
            loop {
                tokio::select! {
                    _ = swarm.select_next_some() => {}
                    Some((peer, bytes)) = to_send.recv() => { swarm.behaviour_mut().send_request(&peer, bytes); }
                    Some(addr) = to_dial.recv() => swarm.dial(dial_opts(addr)).unwrap(),
                }
            }
        });
        Raw { id, addr, send, dial, received }
    }
}

/// From a port of its own, as peers that dial each other at once must.
fn dial_opts(addr: Multiaddr) -> DialOpts {
    DialOpts::unknown_peer_id().address(addr).allocate_new_port().build()
}

/// A peer without a protocol: bytes out, messages in.
struct Raw {
    id: libp2p::PeerId,
    addr: Multiaddr,
    send: mpsc::UnboundedSender<(libp2p::PeerId, Vec<u8>)>,
    dial: mpsc::UnboundedSender<Multiaddr>,
    received: mpsc::UnboundedReceiver<Message>,
}

impl Raw {
    fn connect(&self, node: &Node) {
        self.dial.send(node.addr.clone()).unwrap();
        std::thread::sleep(Duration::from_millis(200));
    }

    fn send(&self, to: &Node, message: &Message) {
        let pieces = message.encode(Revision::V1_2).unwrap().pieces;
        self.send.send((to.id, pieces.iter().flatten().copied().collect())).unwrap();
    }

    /// All that arrives within `wait`.
    fn receive(&mut self, net: &Net, wait: Duration) -> Vec<Message> {
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
struct RawCodec {
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

fn leaves(count: usize, seed: u8) -> Vec<Block> {
    let leaf = |i: usize| {
        let mut data = vec![seed; LEAF];
        data[..8].copy_from_slice(&i.to_be_bytes());
        Block::raw(data)
    };
    (0..count).map(leaf).collect()
}

fn cids(blocks: &[Block]) -> Vec<Cid> {
    blocks.iter().map(|block| *block.cid()).collect()
}

fn patient(peers: &[&Node]) -> Session {
    Session::new().with_peers(peers.iter().map(|node| node.peer())).with_patience(Duration::from_secs(20))
}

/// Fetches on this thread and returns what came.
fn fetch(node: &Node, cids: &[Cid], session: &Session) -> (Vec<Block>, Result<(), FetchError>) {
    let mut got = Vec::new();
    let result = node.exchange.fetch(cids, session, &mut |block| {
        got.push(block);
        Ok(())
    });
    (got, result)
}

#[track_caller]
fn check_missing(result: Result<(), FetchError>, wanted: &[Cid], failures: &[(PeerId, PeerFailureKind)]) {
    match result {
        Err(FetchError::Missing { cids, peers }) => {
            assert_eq!(cids, wanted);
            let peers: Vec<_> = peers.into_iter().map(|failure| (failure.peer, failure.kind)).collect();
            assert_eq!(peers, failures);
        }
        other => panic!("expected missing blocks, got {other:?}"),
    }
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < end, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn want(cid: &Cid, kind: WantKind, send_dont_have: bool) -> Entry {
    Entry { cid: *cid, priority: 1, cancel: false, kind, send_dont_have }
}

/// Lets through what is in the set, for whoever asks.
#[derive(Default)]
struct Listed(Mutex<BTreeSet<Cid>>);

impl ServePolicy for Listed {
    fn allows(&self, _: &Requester, cid: &Cid) -> bool {
        self.0.lock().unwrap().contains(cid)
    }
}

#[test]
fn passes_the_shared_check() {
    let net = Net::new();
    let (server, client) = (net.node(), net.node());
    client.connect(&server.addr);
    let block = leaves(1, 9).remove(0);
    server.store.put(&block).unwrap();
    wait_until("a connection", || client.exchange.fetch_one(block.cid(), &patient(&[&server])).is_ok());
    check_exchange(&*server.store, &client.exchange, &patient(&[&server]));
}

#[test]
fn a_dag_crosses_from_peer_to_peer() {
    let net = Net::new();
    let (server, client) = (net.node(), net.node());
    let leaves = leaves(300, 1);
    let index: Vec<u8> = leaves.iter().flat_map(|leaf| leaf.cid().to_bytes()).collect();
    let root = Block::new(DAG_CBOR, index);
    server.store.put_many(&leaves).unwrap();
    server.store.put(&root).unwrap();
    client.connect(&server.addr);
    wait_until("the root", || {
        let Ok(block) = client.exchange.fetch_one(root.cid(), &Session::new()) else { return false };
        client.store.put(&block).unwrap();
        true
    });
    let index = client.store.get(root.cid()).unwrap().unwrap();
    let children: Vec<Cid> = index.data().chunks(36).map(|cid| Cid::try_from(cid).unwrap()).collect();
    let store = client.store.clone();
    client.exchange.fetch(&children, &patient(&[&server]), &mut |block| store.put(&block)).unwrap();
    assert!(leaves.iter().all(|leaf| client.store.get(leaf.cid()).unwrap().as_ref() == Some(leaf)));
}

#[test]
fn a_payload_is_read_from_a_peer_at_any_offset() {
    let net = Net::new();
    let (server, client) = (net.node(), net.node());
    let payload: Vec<u8> = (0..4_000_000u32).flat_map(|i| (i as u8 ^ (i >> 8) as u8).to_le_bytes()).collect();
    let size = payload.len() as u64 - 16 * (payload.len() as u64).div_ceil(65_552);
    let root = FileBuilder::new(EnvelopeChunker::default())
        .import(&mut &payload[..], &*server.store, &mut |_| ())
        .unwrap();
    client.connect(&server.addr);
    let session = patient(&[&server]);
    wait_until("a connection", || client.exchange.fetch_one(&root.cid, &session).is_ok());
    let source = FetchingSource::new(&*client.store, &client.exchange, &session, true);
    let reader = PayloadReader::open(source, &root.cid, PayloadShape::new(size, 4).unwrap()).unwrap();
    let mut part = vec![0; 100_000];
    for offset in [2_500_000, 0, payload.len() - part.len()] {
        reader.read_at(offset as u64, &mut part).unwrap();
        assert_eq!(part, payload[offset..offset + part.len()]);
    }
    assert!(client.store.len() <= 6, "only the root and the leaves that were read came");
}

#[test]
fn both_sides_ask_at_once() {
    let net = Net::new();
    let (left, right) = (net.node(), net.node());
    let (of_left, of_right) = (leaves(120, 1), leaves(120, 2));
    left.store.put_many(&of_left).unwrap();
    right.store.put_many(&of_right).unwrap();
    left.connect(&right.addr);
    right.connect(&left.addr);
    std::thread::scope(|scope| {
        for (node, other, blocks) in [(&left, &right, &of_right), (&right, &left, &of_left)] {
            scope.spawn(move || {
                wait_until("a connection", || {
                    let (got, _) = fetch(node, &cids(&blocks[..1]), &patient(&[other]));
                    !got.is_empty()
                });
                let (got, result) = fetch(node, &cids(blocks), &patient(&[other]));
                result.unwrap();
                assert_eq!(got.len(), blocks.len());
            });
        }
    });
}

#[test]
fn a_denied_block_and_an_absent_one_get_the_same_answer() {
    let net = Net::new();
    let policy = Arc::new(Listed::default());
    let server = net.node_with(policy.clone(), |_| None, BitswapConfig::default());
    let (small, large) = (Block::raw(&b"denied"[..]), leaves(1, 3).remove(0));
    server.store.put_many(&[small.clone(), large.clone()]).unwrap();
    let absent: Vec<Block> = (0..2u8).map(|i| Block::raw(vec![i; 9])).collect();
    // The policy may allow what is not here.
    policy.0.lock().unwrap().insert(*absent[1].cid());

    let mut peer = net.raw(Revision::V1_2.id());
    peer.connect(&server);
    for kind in [WantKind::Block, WantKind::Have] {
        let asked = [small.cid(), absent[0].cid(), large.cid(), absent[1].cid()];
        let entries = asked.map(|cid| want(cid, kind, true)).to_vec();
        let sent = Instant::now();
        peer.send(&server, &Message { entries, ..Message::default() });
        let answers = peer.receive(&net, Duration::from_millis(600));
        assert!(sent.elapsed() >= DENY);
        assert_eq!(answers.len(), 1, "one delay, one message");
        let expected: Vec<_> = asked.iter().map(|cid| (**cid, Presence::DontHave)).collect();
        assert_eq!(answers[0], Message { presences: expected, ..Message::default() });

        let entries = asked.map(|cid| want(cid, kind, false)).to_vec();
        peer.send(&server, &Message { entries, ..Message::default() });
        assert_eq!(peer.receive(&net, Duration::from_millis(300)), [], "who asks for no answer gets none");
    }
    // Neither kind is remembered: what is allowed or arrives later is not pushed.
    policy.0.lock().unwrap().extend([*small.cid(), *large.cid()]);
    server.store.put_many(&absent).unwrap();
    assert_eq!(peer.receive(&net, Duration::from_millis(300)), []);
    let entries = vec![want(small.cid(), WantKind::Have, true), want(large.cid(), WantKind::Have, true)];
    peer.send(&server, &Message { entries, ..Message::default() });
    let answers = peer.receive(&net, Duration::from_millis(300));
    assert_eq!(
        answers.iter().flat_map(|m| &m.payloads).map(|p| p.data.clone()).collect::<Vec<_>>(),
        [small.data()]
    );
    assert_eq!(
        answers.iter().flat_map(|m| &m.presences).collect::<Vec<_>>(),
        [&(*large.cid(), Presence::Have)]
    );
}

#[test]
fn the_policy_is_asked_with_the_proven_account() {
    struct Only(Account);
    impl ServePolicy for Only {
        fn allows(&self, requester: &Requester, _: &Cid) -> bool {
            requester.account() == Some(&self.0)
        }
    }
    let net = Net::new();
    let proven: Arc<Mutex<HashMap<libp2p::PeerId, Account>>> = Arc::default();
    let accounts = proven.clone();
    let server = net.node_with(
        Arc::new(Only([7; 20])),
        move |peer| accounts.lock().unwrap().get(peer).copied(),
        BitswapConfig::default(),
    );
    let client = net.node();
    let block = leaves(1, 1).remove(0);
    server.store.put(&block).unwrap();
    client.connect(&server.addr);
    let ask = || client.exchange.fetch_one(block.cid(), &patient(&[&server]));
    let absent = |result: Result<Block, FetchError>| {
        matches!(result, Err(FetchError::Missing { peers, .. })
            if peers.iter().any(|failure| failure.kind == PeerFailureKind::Absent))
    };
    wait_until("a refusal", || absent(ask()));
    proven.lock().unwrap().insert(client.id, [8; 20]);
    assert!(absent(ask()));
    proven.lock().unwrap().insert(client.id, [7; 20]);
    assert_eq!(ask().unwrap(), block);
    proven.lock().unwrap().clear();
    assert!(absent(ask()));
}

#[test]
fn a_revocation_ends_a_running_transfer() {
    struct Revocable(AtomicBool);
    impl ServePolicy for Revocable {
        fn allows(&self, _: &Requester, _: &Cid) -> bool {
            self.0.load(Ordering::SeqCst)
        }
    }
    let net = Net::new();
    let policy = Arc::new(Revocable(AtomicBool::new(true)));
    let server = net.node_with(policy.clone(), |_| None, BitswapConfig::default());
    let client = net.node();
    let blocks = leaves(1000, 1);
    server.store.put_many(&blocks).unwrap();
    client.connect(&server.addr);
    wait_until("a connection", || client.exchange.fetch_one(blocks[0].cid(), &patient(&[&server])).is_ok());
    let mut got = 0;
    let result = client.exchange.fetch(&cids(&blocks), &patient(&[&server]), &mut |_| {
        got += 1;
        if got == 100 {
            policy.0.store(false, Ordering::SeqCst);
        }
        Ok(())
    });
    let Err(FetchError::Missing { cids, peers }) = result else { panic!("all came although revoked") };
    assert_eq!(got + cids.len(), blocks.len());
    assert_eq!(peers[0].kind, PeerFailureKind::Absent);
    let on_the_way = BitswapConfig::default().session_window / LEAF;
    assert!(got <= 100 + on_the_way, "{got} blocks came after all");
}

/// Gives the bytes of another block for every second one.
struct Lying(MemoryStore);

impl BlockStore for Lying {
    fn get(&self, cid: &Cid) -> Result<Option<Block>, StoreError> {
        let lie = cid.hash().digest()[0] % 2 == 0;
        if lie { Ok(Some(Block::raw(vec![6; LEAF]))) } else { self.0.get(cid) }
    }
    fn size(&self, cid: &Cid) -> Result<Option<u64>, StoreError> {
        self.0.size(cid)
    }
    fn put_many(&self, blocks: &[Block]) -> Result<(), StoreError> {
        self.0.put_many(blocks)
    }
    fn remove_many(&self, cids: &[Cid]) -> Result<(), StoreError> {
        self.0.remove_many(cids)
    }
    fn cids(&self, after: Option<&Cid>, limit: usize) -> Result<Vec<Cid>, StoreError> {
        self.0.cids(after, limit)
    }
}

#[test]
fn wrong_bytes_are_never_delivered_and_their_sender_is_blamed() {
    let net = Net::new();
    let blocks = leaves(60, 1);
    let lying = Lying(MemoryStore::default());
    lying.put_many(&blocks).unwrap();
    let liar = net.node_over(
        Arc::default(),
        Arc::new(lying),
        Arc::new(AllowAll),
        |_| None,
        BitswapConfig::default(),
    );
    let (honest, client) = (net.node(), net.node());
    honest.store.put_many(&blocks).unwrap();
    client.connect(&liar.addr);
    client.connect(&honest.addr);
    wait_until("a connection", || fetch(&client, &cids(&blocks[..1]), &patient(&[&honest])).1.is_ok());
    wait_until("another", || {
        let (got, result) = fetch(&client, &cids(&blocks), &patient(&[&liar]));
        assert!(got.iter().all(|block| blocks.contains(block)));
        matches!(result, Err(FetchError::Missing { peers, .. })
            if peers.iter().any(|failure| failure.kind == PeerFailureKind::Misbehaved))
    });
    let (got, result) = fetch(&client, &cids(&blocks), &patient(&[&liar, &honest]));
    result.unwrap();
    assert_eq!(got.len(), blocks.len());
    assert!(client.blames(&liar.id) && !client.blames(&honest.id));
}

#[test]
fn a_transfer_survives_the_loss_of_one_of_its_peers() {
    let net = Net::new();
    let blocks = leaves(800, 1);
    let (first, second, client) = (net.node(), net.node(), net.node());
    for server in [&first, &second] {
        server.store.put_many(&blocks).unwrap();
        client.connect(&server.addr);
        wait_until("a connection", || fetch(&client, &cids(&blocks[..1]), &patient(&[server])).1.is_ok());
    }
    let mut got = 0;
    let result = client.exchange.fetch(&cids(&blocks), &patient(&[&first, &second]), &mut |_| {
        got += 1;
        if got == 50 {
            first.task.abort();
            client.tell.send(Tell::Disconnect(first.id)).unwrap();
        }
        Ok(())
    });
    result.unwrap();
    assert_eq!(got, blocks.len());
    // Alone, the lost peer is named.
    let (_, result) = fetch(&client, &cids(&blocks[..2]), &patient(&[&first]));
    check_missing(result, &cids(&blocks[..2]), &[(first.peer(), PeerFailureKind::Unreachable)]);
}

#[test]
fn a_peer_is_dialed_again_where_it_was_last_reached() {
    let net = Net::new();
    let blocks = leaves(300, 1);
    let (server, client) = (net.node(), net.node());
    server.store.put_many(&blocks).unwrap();
    client.connect(&server.addr);
    wait_until("a connection", || fetch(&client, &cids(&blocks[..1]), &patient(&[&server])).1.is_ok());
    let mut got = 0;
    let result = client.exchange.fetch(&cids(&blocks), &patient(&[&server]), &mut |_| {
        got += 1;
        if got == 50 {
            client.tell.send(Tell::Disconnect(server.id)).unwrap();
        }
        Ok(())
    });
    result.unwrap();
    assert_eq!(got, blocks.len());
}

#[test]
fn blocks_are_brought_together_from_peers_that_hold_parts() {
    let net = Net::new();
    let blocks = leaves(90, 1);
    let servers = [net.node(), net.node(), net.node()];
    let client = net.node();
    for (i, server) in servers.iter().enumerate() {
        let part: Vec<Block> = blocks.iter().skip(i).step_by(3).cloned().collect();
        server.store.put_many(&part).unwrap();
        client.connect(&server.addr);
        wait_until("a connection", || fetch(&client, &cids(&part[..1]), &patient(&[server])).1.is_ok());
    }
    let absent = *Block::raw(&b"nobody has this"[..]).cid();
    let mut wanted = cids(&blocks);
    wanted.push(absent);
    let all: Vec<&Node> = servers.iter().collect();
    let (got, result) = fetch(&client, &wanted, &patient(&all));
    assert_eq!(got.len(), blocks.len());
    let failures: Vec<_> = servers.iter().map(|server| (server.peer(), PeerFailureKind::Absent)).collect();
    check_missing(result, &[absent], &failures);
}

#[test]
fn a_silent_peer_is_passed_over_and_named() {
    let net = Net::new();
    let config = BitswapConfig { answer_timeout: Duration::from_millis(300), ..Default::default() };
    let client = net.node_with(Arc::new(AllowAll), |_| None, config);
    let (server, silent) = (net.node(), net.raw(Revision::V1_2.id()));
    let blocks = leaves(20, 1);
    server.store.put_many(&blocks).unwrap();
    client.connect(&server.addr);
    client.connect(&silent.addr);
    wait_until("a connection", || fetch(&client, &cids(&blocks[..1]), &patient(&[&server])).1.is_ok());
    let silent_id = PeerId::from_bytes(&silent.id.to_bytes()).unwrap();
    let session = Session::new().with_peers([silent_id.clone(), server.peer()]);
    let (got, result) = fetch(&client, &cids(&blocks), &session);
    result.unwrap();
    assert_eq!(got.len(), blocks.len());
    let session = Session::new().with_peers([silent_id.clone()]).with_patience(Duration::from_secs(2));
    let (_, result) = fetch(&client, &cids(&blocks), &session);
    check_missing(result, &cids(&blocks), &[(silent_id, PeerFailureKind::Silent)]);
}

#[test]
fn a_peer_that_sends_no_messages_is_blamed_and_the_node_goes_on() {
    let net = Net::new();
    let (server, client) = (net.node(), net.node());
    let blocks = leaves(20, 1);
    server.store.put_many(&blocks).unwrap();
    client.connect(&server.addr);
    let garbage: [&[u8]; 5] = [
        &[0xff; 64],                           // a length without end
        &[0x81, 0x80, 0x80, 0x02, 0],          // one byte more than 4 MiB
        &[0x03, 0x0a, 0x7f, 0x00],             // a field longer than its message
        &[0x01, 0x0b],                         // a group
        &[0x06, 0x1a, 0x04, 0x0a, 0x02, 9, 9], // a prefix that is none
    ];
    for bytes in garbage {
        let peer = net.raw(Revision::V1_2.id());
        peer.connect(&client);
        peer.send.send((client.id, bytes.to_vec())).unwrap();
        wait_until("blame", || client.blames(&peer.id));
    }
    let (got, result) = fetch(&client, &cids(&blocks), &patient(&[&server]));
    result.unwrap();
    assert_eq!(got.len(), blocks.len());
}

#[test]
fn blocks_that_nobody_asked_for_are_dropped() {
    let net = Net::new();
    let config = BitswapConfig { answer_timeout: Duration::from_secs(4), ..Default::default() };
    let client = net.node_with(Arc::new(AllowAll), |_| None, config);
    let peer = net.raw(Revision::V1_2.id());
    peer.connect(&client);
    let (wanted, pushed) = (leaves(1, 1).remove(0), leaves(1, 2).remove(0));
    let message = |block: &Block| Message {
        payloads: vec![Payload { prefix: Prefix::of(block.cid()), data: block.data().clone() }],
        ..Message::default()
    };
    let id = PeerId::from_bytes(&peer.id.to_bytes()).unwrap();
    std::thread::scope(|scope| {
        let asking =
            scope.spawn(|| fetch(&client, &[*wanted.cid()], &Session::new().with_peers([id.clone()])));
        std::thread::sleep(Duration::from_millis(500));
        peer.send(&client, &message(&pushed));
        let (got, result) = asking.join().unwrap();
        assert_eq!(got, []);
        check_missing(result, &[*wanted.cid()], &[(id.clone(), PeerFailureKind::Misbehaved)]);
    });
    assert!(client.store.is_empty());
}

#[test]
fn a_flood_of_wants_is_answered_only_within_the_bound() {
    let net = Net::new();
    let config = BitswapConfig { negative_delay: Duration::from_millis(500), ..Default::default() };
    let server = net.node_with(Arc::new(AllowAll), |_| None, config);
    let mut peer = net.raw(Revision::V1_2.id());
    peer.connect(&server);
    for round in 0..5u32 {
        let entries = (0..WANTS_MAX as u32).map(|i| {
            let cid = *Block::raw((round << 16 | i).to_be_bytes().to_vec()).cid();
            want(&cid, WantKind::Block, true)
        });
        peer.send(&server, &Message { entries: entries.collect(), ..Message::default() });
    }
    let answered: usize =
        peer.receive(&net, Duration::from_millis(2000)).iter().map(|message| message.presences.len()).sum();
    assert!((1..=2 * WANTS_MAX).contains(&answered), "{answered} answers");
    // The bound holds back nothing for good.
    let block = leaves(1, 1).remove(0);
    server.store.put(&block).unwrap();
    let entries = vec![want(block.cid(), WantKind::Block, true)];
    peer.send(&server, &Message { entries, ..Message::default() });
    let answers = peer.receive(&net, Duration::from_millis(500));
    assert_eq!(answers.iter().flat_map(|message| &message.payloads).count(), 1);
}

/// Counts what is read from it.
#[derive(Default)]
struct Counted {
    blocks: MemoryStore,
    reads: AtomicUsize,
}

impl BlockStore for Counted {
    fn get(&self, cid: &Cid) -> Result<Option<Block>, StoreError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.blocks.get(cid)
    }
    fn size(&self, cid: &Cid) -> Result<Option<u64>, StoreError> {
        self.blocks.size(cid)
    }
    fn put_many(&self, blocks: &[Block]) -> Result<(), StoreError> {
        self.blocks.put_many(blocks)
    }
    fn remove_many(&self, cids: &[Cid]) -> Result<(), StoreError> {
        self.blocks.remove_many(cids)
    }
    fn cids(&self, after: Option<&Cid>, limit: usize) -> Result<Vec<Cid>, StoreError> {
        self.blocks.cids(after, limit)
    }
}

#[test]
fn a_slow_consumer_slows_the_server_and_not_the_memory() {
    let net = Net::new();
    let counted = Arc::new(Counted::default());
    let blocks = leaves(1000, 1);
    counted.put_many(&blocks).unwrap();
    let server = net.node_over(
        Arc::default(),
        counted.clone(),
        Arc::new(AllowAll),
        |_| None,
        BitswapConfig::default(),
    );
    let client = net.node();
    client.connect(&server.addr);
    wait_until("a connection", || fetch(&client, &cids(&blocks[..1]), &patient(&[&server])).1.is_ok());
    counted.reads.store(0, Ordering::SeqCst);
    let (mut taken, mut ahead_max) = (0, 0);
    let session = patient(&[&server]);
    let result = client.exchange.fetch(&cids(&blocks), &session, &mut |_| {
        if taken < 20 {
            std::thread::sleep(Duration::from_millis(40));
        }
        ahead_max = ahead_max.max(counted.reads.load(Ordering::SeqCst) - taken);
        taken += 1;
        Ok(())
    });
    result.unwrap();
    let window = BitswapConfig::default().session_window / LEAF;
    assert!(ahead_max <= window, "{ahead_max} blocks were read ahead, more than {window}");
    assert!(ahead_max >= window / 4, "only {ahead_max} blocks were read ahead");
}

#[test]
fn a_peer_of_the_first_revision_is_served() {
    let net = Net::new();
    let server = net.node();
    let block = leaves(1, 1).remove(0);
    server.store.put(&block).unwrap();
    let mut peer = net.raw(Revision::V1_0.id());
    peer.connect(&server);
    let absent = *Block::raw(&b"absent"[..]).cid();
    let entries = vec![want(&absent, WantKind::Block, true), want(block.cid(), WantKind::Block, true)];
    peer.send(&server, &Message { entries, ..Message::default() });
    let answers = peer.receive(&net, Duration::from_millis(500));
    let payloads: Vec<&Payload> = answers.iter().flat_map(|message| &message.payloads).collect();
    assert_eq!(payloads.iter().map(|payload| &payload.data).collect::<Vec<_>>(), [block.data()]);
    assert!(answers.iter().all(|message| message.presences.is_empty()));
}

#[test]
fn a_cancelled_want_is_not_answered_and_a_full_list_replaces_the_one_before() {
    let net = Net::new();
    let policy = Arc::new(Slow);
    let config = BitswapConfig { lookup_threads: 1, ..Default::default() };
    let server = net.node_with(policy, |_| None, config);
    let blocks = leaves(4, 1);
    server.store.put_many(&blocks).unwrap();
    let mut peer = net.raw(Revision::V1_2.id());
    peer.connect(&server);
    let list = |range: std::ops::Range<usize>| -> Vec<Entry> {
        blocks[range].iter().map(|block| want(block.cid(), WantKind::Block, true)).collect()
    };
    let mut cancel = want(blocks[1].cid(), WantKind::Block, false);
    cancel.cancel = true;
    peer.send(&server, &Message { entries: [list(0..2), vec![cancel]].concat(), ..Message::default() });
    let answers = peer.receive(&net, Duration::from_millis(800));
    let data = |answers: &[Message]| {
        answers
            .iter()
            .flat_map(|message| &message.payloads)
            .map(|payload| payload.data.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(data(&answers), [blocks[0].data()]);
    let mut both = list(2..3);
    both.extend(list(3..4));
    peer.send(&server, &Message { entries: both, full: true, ..Message::default() });
    let answers = peer.receive(&net, Duration::from_millis(800));
    assert_eq!(data(&answers).len(), 2);
}

struct Slow;

impl ServePolicy for Slow {
    fn allows(&self, _: &Requester, _: &Cid) -> bool {
        std::thread::sleep(Duration::from_millis(50));
        true
    }
}

#[test]
fn a_policy_that_panics_denies_and_the_node_goes_on() {
    struct Panics(Cid);
    impl ServePolicy for Panics {
        fn allows(&self, _: &Requester, cid: &Cid) -> bool {
            assert!(*cid != self.0, "a fault in the embedder's code");
            true
        }
    }
    let net = Net::new();
    let blocks = leaves(2, 1);
    let config = BitswapConfig { lookup_threads: 1, ..Default::default() };
    let server = net.node_with(Arc::new(Panics(*blocks[0].cid())), |_| None, config);
    server.store.put_many(&blocks).unwrap();
    let client = net.node();
    client.connect(&server.addr);
    wait_until("a connection", || client.exchange.fetch_one(blocks[1].cid(), &patient(&[&server])).is_ok());
    for _ in 0..3 {
        let (_, result) = fetch(&client, &cids(&blocks[..1]), &patient(&[&server]));
        check_missing(result, &cids(&blocks[..1]), &[(server.peer(), PeerFailureKind::Absent)]);
    }
    client.exchange.fetch_one(blocks[1].cid(), &patient(&[&server])).unwrap();
}

#[test]
fn peers_that_cannot_be_asked_are_named_at_once() {
    let net = Net::new();
    let client = net.node();
    let wanted = [*Block::raw(&b"x"[..]).cid()];
    let (_, result) = fetch(&client, &wanted, &Session::new());
    check_missing(result, &wanted, &[]);
    let stranger = PeerId::from_bytes(&libp2p::PeerId::random().to_bytes()).unwrap();
    let (_, result) = fetch(&client, &wanted, &Session::new().with_peers([stranger.clone()]));
    check_missing(result, &wanted, &[(stranger, PeerFailureKind::Unreachable)]);
    let nonsense = PeerId::from_bytes(b"no multihash").unwrap();
    let (_, result) = fetch(&client, &wanted, &Session::new().with_peers([nonsense.clone()]));
    check_missing(result, &wanted, &[(nonsense, PeerFailureKind::Unreachable)]);
    // A peer that speaks other protocols only.
    let other = net.raw("/another/1");
    client.connect(&other.addr);
    std::thread::sleep(Duration::from_millis(300));
    let other = PeerId::from_bytes(&other.id.to_bytes()).unwrap();
    let (_, result) = fetch(&client, &wanted, &Session::new().with_peers([other.clone()]));
    check_missing(result, &wanted, &[(other, PeerFailureKind::Unreachable)]);
}

#[test]
fn a_fetch_ends_with_the_swarm_that_it_depends_on() {
    let net = Net::new();
    let client = net.node();
    let silent = net.raw(Revision::V1_2.id());
    client.connect(&silent.addr);
    std::thread::sleep(Duration::from_millis(300));
    let wanted = [*Block::raw(&b"x"[..]).cid()];
    let session = Session::new().with_peers([PeerId::from_bytes(&silent.id.to_bytes()).unwrap()]);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| fetch(&client, &wanted, &session).1);
        std::thread::sleep(Duration::from_millis(300));
        client.task.abort();
        assert!(matches!(asking.join().unwrap(), Err(FetchError::Unavailable(_))));
    });
    assert!(matches!(fetch(&client, &wanted, &session).1, Err(FetchError::Unavailable(_))));
}
