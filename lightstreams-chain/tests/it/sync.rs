//! Nodes follow each other's chains over libp2p, and believe nothing that they have not checked.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use alloy_consensus::TxEip1559;
use alloy_primitives::{B256, TxKind, U256, address};
use futures::{StreamExt, future::poll_fn};
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder, noise,
    swarm::{SwarmEvent, dial_opts::DialOpts},
    tcp, yamux,
};
use lightstreams_chain::{
    Block, BlockId, DEV_ACCOUNTS, Header,
    p2p::{ChainSync, Event},
};

use crate::network::{Driver, Node, genesis};

/// A node with its swarm, listening on loopback.
struct Peer {
    node: Node,
    swarm: Swarm<ChainSync>,
    address: Multiaddr,
}

impl Peer {
    async fn start(node: Node) -> Self {
        let behaviour = ChainSync::new(node.chain.clone());
        let mut swarm = SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_behaviour(|_| behaviour)
            .unwrap()
            .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(600)))
            .build();
        swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        Self { node, swarm, address }
    }

    fn id(&self) -> PeerId {
        *self.swarm.local_peer_id()
    }

    fn dial(&mut self, other: &Self) {
        self.swarm
            .dial(DialOpts::peer_id(other.id()).addresses(vec![other.address.clone()]).build())
            .unwrap();
    }
}

/// Runs `peers` until `done`; gives the events of each on the way.
async fn run_until(
    peers: &mut [&mut Peer],
    mut done: impl FnMut(&[&mut Peer], &[(usize, Event)]) -> bool,
) -> Vec<(usize, Event)> {
    let mut events = Vec::new();
    let work = poll_fn(|cx: &mut Context<'_>| {
        loop {
            let mut idle = true;
            for (index, peer) in peers.iter_mut().enumerate() {
                while let Poll::Ready(Some(event)) = peer.swarm.poll_next_unpin(cx) {
                    idle = false;
                    if let SwarmEvent::Behaviour(event) = event {
                        events.push((index, event));
                    }
                }
            }
            if done(peers, &events) {
                return Poll::Ready(());
            }
            if idle {
                return Poll::Pending;
            }
        }
    });
    let finished = tokio::time::timeout(Duration::from_secs(60), async {
        // The chain may change without a word of the swarm.
        let mut work = std::pin::pin!(work);
        while tokio::time::timeout(Duration::from_millis(20), work.as_mut()).await.is_err() {}
    })
    .await;
    assert!(finished.is_ok(), "not done in a minute; events {events:?}");
    events
}

fn same_head(peers: &[&mut Peer]) -> bool {
    peers.windows(2).all(|pair| pair[0].node.chain.head().hash == pair[1].node.chain.head().hash)
}

fn transfer(chain_id: u64, from: usize, nonce: u64) -> alloy_primitives::Bytes {
    let tx = TxEip1559 {
        chain_id,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: 5_000_000_000,
        max_priority_fee_per_gas: 1_000_000_000,
        to: TxKind::Call(address!("0x00000000000000000000000000000000000000b0")),
        value: U256::from(1),
        ..TxEip1559::default()
    };
    DEV_ACCOUNTS[from].signer().unwrap().sign_raw_transaction(tx).unwrap()
}

/// Indices of the first `n` dev accounts in the order of their turns: the second one is in turn for block 1.
fn turns<const N: usize>() -> [usize; N] {
    let mut order = std::array::from_fn(|index| index);
    order.sort_by_key(|index: &usize| DEV_ACCOUNTS[*index].address);
    order
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_catches_up_with_a_long_chain_and_then_keeps_up() {
    let genesis = genesis(161, 1);
    let (sealer, follower) = (Node::new(&genesis), Node::new(&genesis));
    for nonce in 0..300 {
        sealer.chain.submit(&transfer(161, 0, nonce)).unwrap();
        sealer.seal();
    }
    let mut sealer = Peer::start(sealer).await;
    let mut follower = Peer::start(follower).await;
    follower.dial(&sealer);
    let started = std::time::Instant::now();
    run_until(&mut [&mut sealer, &mut follower], |peers, _| same_head(peers)).await;
    println!("300 blocks followed in {:?}", started.elapsed());
    assert_eq!(follower.node.chain.head().number(), 300);
    assert_eq!(follower.swarm.behaviour().progress().peer_count(), 1);
    assert_eq!(follower.swarm.behaviour().progress().highest_block(), Some(300));
    for number in 301..=303 {
        sealer.node.seal();
        run_until(&mut [&mut sealer, &mut follower], |peers, _| {
            peers[1].node.chain.head().number() == number && same_head(peers)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_reaches_the_sealer_through_a_node_between() {
    let genesis = genesis(161, 1);
    let mut peers = Vec::new();
    for _ in 0..3 {
        peers.push(Peer::start(Node::new(&genesis)).await);
    }
    let [a, b, c] = &mut peers[..] else { unreachable!() };
    a.dial(b);
    b.dial(c);
    run_until(&mut [a, b, c], |_, events| {
        (0..3).all(|index| {
            events.iter().any(|(at, event)| *at == index && matches!(event, Event::Status { .. }))
        })
    })
    .await;
    // Only the last node seals; the transaction is given to the first.
    let driver = Driver::start(&c.node);
    let hash = a.node.chain.submit(&transfer(161, 3, 0)).unwrap();
    run_until(&mut [a, b, c], |peers, _| {
        peers.iter().all(|peer| matches!(peer.node.chain.transaction(&hash), Ok(Some(_))))
    })
    .await;
    assert_eq!(a.node.chain.pool_size(), (0, 0));
    drop(driver);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_on_the_lighter_branch_follows_the_heavier_one() {
    let genesis = genesis(161, 3);
    let [first, second, third] = turns();
    let (left, right) = (Node::new(&genesis), Node::new(&genesis));
    // A common start, then each side goes its way.
    for number in 1..40 {
        right.import(left.seal_as([first, second, third][number % 3])).unwrap();
    }
    left.seal_as(third);
    right.seal_as(second);
    right.seal_as(third);
    let mut left = Peer::start(left).await;
    let mut right = Peer::start(right).await;
    left.dial(&right);
    run_until(&mut [&mut left, &mut right], |peers, _| same_head(peers)).await;
    assert_eq!(left.node.chain.head().number(), 41);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_common_block_is_found_however_far_down() {
    let genesis = genesis(161, 2);
    let [first, second] = turns();
    let (left, right) = (Node::new(&genesis), Node::new(&genesis));
    // Both start at the genesis, the left out of turn all along as long as it may.
    for number in 0..100 {
        left.seal_as(if number % 2 == 0 { first } else { second });
        right.seal_as(if number % 2 == 0 { second } else { first });
    }
    let mut left = Peer::start(left).await;
    let mut right = Peer::start(right).await;
    left.dial(&right);
    run_until(&mut [&mut left, &mut right], |peers, _| same_head(peers)).await;
    let in_turn = right.node.chain.header(BlockId::Number(1)).unwrap().unwrap();
    assert_eq!(left.node.chain.header(BlockId::Number(1)).unwrap().unwrap(), in_turn);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_of_another_network_gives_nothing_and_is_dropped_by_its_protocols() {
    let (ours, theirs) = (Node::new(&genesis(161, 1)), Node::new(&genesis(161, 2)));
    let [_, second] = turns();
    theirs.seal_as(second);
    let other = theirs.chain.genesis_hash().to_string();
    let mut ours = Peer::start(ours).await;
    let mut theirs = Peer::start(theirs).await;
    let id = theirs.id();
    ours.dial(&theirs);
    run_until(&mut [&mut ours, &mut theirs], |peers, _| peers[0].swarm.is_connected(&id)).await;
    let protocol = format!("/lightstreams/{}/sync/1", &other[2..10]);
    let protocols = [libp2p::StreamProtocol::try_from_owned(protocol).unwrap()];
    ours.swarm.behaviour_mut().note_protocols(id, &[libp2p::StreamProtocol::new("/ipfs/bitswap/1.2.0")]);
    assert!(ours.swarm.is_connected(&id), "a peer without any chain is left alone");
    ours.swarm.behaviour_mut().note_protocols(id, &protocols);
    let events = run_until(&mut [&mut ours, &mut theirs], |peers, _| !peers[0].swarm.is_connected(&id)).await;
    let expected = Event::OtherNetwork { peer: id, genesis: other[2..10].to_owned() };
    assert!(events.iter().any(|(_, event)| *event == expected), "{events:?}");
    assert_eq!(ours.node.chain.head().number(), 0);
    assert_eq!(ours.swarm.behaviour().progress().peer_count(), 0);
    assert_eq!(ours.swarm.behaviour().progress().highest_block(), None);
}

/// Speaks any bytes over the three protocols.
mod hostile {
    use std::io;

    use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
    use libp2p::{
        StreamProtocol,
        request_response::{self, ProtocolSupport},
        swarm::NetworkBehaviour,
    };

    #[derive(Clone, Default)]
    pub(super) struct Raw;

    impl request_response::Codec for Raw {
        type Protocol = StreamProtocol;
        type Request = Vec<u8>;
        type Response = Vec<u8>;

        async fn read_request<T: AsyncRead + Unpin + Send>(
            &mut self,
            _: &StreamProtocol,
            io: &mut T,
        ) -> io::Result<Vec<u8>> {
            read(io).await
        }
        async fn read_response<T: AsyncRead + Unpin + Send>(
            &mut self,
            _: &StreamProtocol,
            io: &mut T,
        ) -> io::Result<Vec<u8>> {
            read(io).await
        }
        async fn write_request<T: AsyncWrite + Unpin + Send>(
            &mut self,
            _: &StreamProtocol,
            io: &mut T,
            bytes: Vec<u8>,
        ) -> io::Result<()> {
            io.write_all(&bytes).await?;
            io.close().await
        }
        async fn write_response<T: AsyncWrite + Unpin + Send>(
            &mut self,
            _: &StreamProtocol,
            io: &mut T,
            bytes: Vec<u8>,
        ) -> io::Result<()> {
            io.write_all(&bytes).await?;
            io.close().await
        }
    }

    async fn read<T: AsyncRead + Unpin + Send>(io: &mut T) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        io.take(1 << 20).read_to_end(&mut bytes).await?;
        Ok(bytes)
    }

    /// A frame around `body`, by the book.
    pub(super) fn frame(body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut rest = body.len();
        while rest >= 0x80 {
            out.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
            rest >>= 7;
        }
        out.push(u8::try_from(rest).unwrap());
        [out.as_slice(), body].concat()
    }

    #[derive(NetworkBehaviour)]
    pub(super) struct Hostile {
        pub(super) sync: request_response::Behaviour<Raw>,
        pub(super) blocks: request_response::Behaviour<Raw>,
        pub(super) transactions: request_response::Behaviour<Raw>,
    }

    impl Hostile {
        pub(super) fn new(genesis8: &str) -> Self {
            let behaviour = |name| {
                let protocol =
                    StreamProtocol::try_from_owned(format!("/lightstreams/{genesis8}/{name}/1")).unwrap();
                request_response::Behaviour::new([(protocol, ProtocolSupport::Full)], Default::default())
            };
            Self { sync: behaviour("sync"), blocks: behaviour("block"), transactions: behaviour("tx") }
        }
    }
}

/// What a hostile peer does once it is connected, and how it answers questions.
struct Attack {
    /// Announced over `block/1`, framed.
    block: Option<Vec<u8>>,
    /// Announced over `tx/1`, framed.
    transactions: Option<Vec<u8>>,
    /// Asked over `sync/1`, framed.
    question: Option<Vec<u8>>,
    /// Answers by the number of the question.
    answers: [Vec<u8>; 3],
}

/// Runs `attack` on `victim` until `done`; gives what the victim said, and the answers that the attacker got.
async fn attacked(
    victim: &mut Peer,
    attack: Attack,
    mut done: impl FnMut(&Peer, &[Event], &[Vec<u8>]) -> bool,
) -> (Vec<Event>, Vec<Vec<u8>>, PeerId) {
    use hostile::{Hostile, HostileEvent, frame};
    use libp2p::request_response::{Event as Exchange, Message};
    let genesis = victim.node.chain.genesis_hash().to_string();
    let behaviour = Hostile::new(&genesis[2..10]);
    let mut attacker = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| behaviour)
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(600)))
        .build();
    let id = *attacker.local_peer_id();
    let peer = victim.id();
    attacker.dial(DialOpts::peer_id(peer).addresses(vec![victim.address.clone()]).build()).unwrap();
    let (mut events, mut replies) = (Vec::new(), Vec::new());
    let work = async {
        loop {
            tokio::select! {
                event = attacker.select_next_some() => match event {
                    SwarmEvent::ConnectionEstablished { .. } => {
                        let behaviour = attacker.behaviour_mut();
                        if let Some(block) = &attack.block {
                            behaviour.blocks.send_request(&peer, block.clone());
                        }
                        if let Some(transactions) = &attack.transactions {
                            behaviour.transactions.send_request(&peer, transactions.clone());
                        }
                        if let Some(question) = &attack.question {
                            behaviour.sync.send_request(&peer, question.clone());
                        }
                    }
                    SwarmEvent::Behaviour(HostileEvent::Sync(Exchange::Message { message, .. })) => match message {
                        Message::Request { request, channel, .. } => {
                            // Frame of one byte, list of one byte, then the number of the question.
                            let asked = request.iter().find(|byte| **byte < 3 || **byte == 0x80).copied().unwrap();
                            let answer = &attack.answers[usize::from(asked % 0x80)];
                            let _ = attacker.behaviour_mut().sync.send_response(channel, frame(answer));
                        }
                        Message::Response { response, .. } => replies.push(response),
                    },
                    _ => {}
                },
                event = victim.swarm.select_next_some() => {
                    if let SwarmEvent::Behaviour(event) = event {
                        events.push(event);
                    }
                },
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
            if done(victim, &events, &replies) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), work).await.expect("the attack came to nothing");
    (events, replies, id)
}

/// `[tag, body]` in RLP.
fn tagged(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut payload = Vec::new();
    alloy_rlp::Encodable::encode(&tag, &mut payload);
    payload.extend_from_slice(body);
    alloy_rlp::Header { list: true, payload_length: payload.len() }.encode(&mut out);
    out.extend_from_slice(&payload);
    out
}

fn status_of(genesis: B256, number: u64, hash: B256, total_difficulty: u64) -> Vec<u8> {
    let mut payload = Vec::new();
    for field in [&1_u64 as &dyn alloy_rlp::Encodable, &genesis, &number, &hash, &total_difficulty] {
        field.encode(&mut payload);
    }
    let mut out = Vec::new();
    alloy_rlp::Header { list: true, payload_length: payload.len() }.encode(&mut out);
    out.extend_from_slice(&payload);
    out
}

fn announcement(total_difficulty: u64, block: &Block) -> Vec<u8> {
    let mut payload = Vec::new();
    alloy_rlp::Encodable::encode(&total_difficulty, &mut payload);
    alloy_rlp::Encodable::encode(block, &mut payload);
    let mut out = Vec::new();
    alloy_rlp::Header { list: true, payload_length: payload.len() }.encode(&mut out);
    out.extend_from_slice(&payload);
    hostile::frame(&out)
}

/// An attack that answers the first question honestly enough to be listened to.
fn quiet(victim: &Peer) -> Attack {
    let chain = &victim.node.chain;
    let status = tagged(0, &status_of(chain.genesis_hash(), 0, chain.genesis_hash(), 1));
    Attack {
        block: None,
        transactions: None,
        question: None,
        answers: [status, tagged(1, &[0xc0]), tagged(2, &[0xc0])],
    }
}

fn is_blamed(events: &[Event]) -> bool {
    events.iter().any(|event| matches!(event, Event::Misbehaved { .. }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_seal_is_refused_and_its_sender_not_let_in_again() {
    let genesis = genesis(161, 1);
    let forger = Node::new(&genesis);
    let mut block = forger.build(0, forger.chain.head().header.timestamp + 1);
    forger.sign(&mut block, &DEV_ACCOUNTS[5].signer().unwrap());
    let mut victim = Peer::start(Node::new(&genesis)).await;
    let attack = Attack { block: Some(announcement(9, &block)), ..quiet(&victim) };
    let (events, _, id) = attacked(&mut victim, attack, |victim, events, _| {
        is_blamed(events) && victim.swarm.connected_peers().count() == 0
    })
    .await;
    assert!(
        events.iter().any(|event| matches!(event, Event::Misbehaved { peer, reason }
            if *peer == id && reason.contains("not an authority"))),
        "{events:?}"
    );
    assert_eq!(victim.node.chain.head().number(), 0);
    // The same block from another is known to be bad, and not looked at again.
    let attack = Attack { block: Some(announcement(9, &block)), ..quiet(&victim) };
    let (events, _, _) = attacked(&mut victim, attack, |_, events, _| is_blamed(events)).await;
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::Misbehaved { reason, .. } if reason.contains("known to be"))),
        "{events:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_with_another_genesis_is_told_ours_and_dropped() {
    let mut victim = Peer::start(Node::new(&genesis(161, 1))).await;
    let other = tagged(0, &status_of(B256::repeat_byte(7), 5, B256::repeat_byte(8), 99));
    let attack = Attack {
        question: Some(hostile::frame(&other)),
        // Ours is asked too; that answer never comes in time.
        answers: [tagged(0, &[0xc0]), Vec::new(), Vec::new()],
        ..quiet(&victim)
    };
    let ours = victim.node.chain.genesis_hash();
    let (events, replies, id) = attacked(&mut victim, attack, |victim, _, replies| {
        !replies.is_empty() && victim.swarm.connected_peers().count() == 0
    })
    .await;
    let expected = Event::OtherNetwork { peer: id, genesis: B256::repeat_byte(7).to_string() };
    assert!(events.contains(&expected), "{events:?}");
    assert!(replies[0].windows(32).any(|part| part == ours.as_slice()), "it was not told our genesis");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_is_only_claimed_moves_nothing() {
    let genesis = genesis(161, 1);
    let mut victim = Peer::start(Node::new(&genesis)).await;
    let hash = victim.node.chain.genesis_hash();
    let claim = tagged(0, &status_of(hash, 1_000_000, B256::repeat_byte(9), 2_000_000));
    let lie = |headers: Vec<u8>, blocks: Vec<u8>| [claim.clone(), headers, blocks];
    let (headers, blocks) = {
        let forger = Node::new(&genesis);
        let good = forger.seal();
        let genesis_header = forger.chain.header(BlockId::Number(0)).unwrap().unwrap().header;
        let headers = alloy_rlp::encode(vec![genesis_header]);
        let mut bad = good.clone();
        bad.header.state_root = B256::repeat_byte(1);
        forger.sign(&mut bad, &DEV_ACCOUNTS[0].signer().unwrap());
        (headers, [alloy_rlp::encode(vec![good.clone(), good]), alloy_rlp::encode(vec![bad])])
    };
    let [twice, bad] = blocks;
    for (name, answers) in [
        (
            "headers that are no range",
            lie(tagged(1, &alloy_rlp::encode(vec![Header::default(); 3])), Vec::new()),
        ),
        ("blocks that are no range", lie(tagged(1, &headers), tagged(2, &twice))),
        ("a block with a wrong state root", lie(tagged(1, &headers), tagged(2, &bad))),
        ("no genesis of ours", lie(tagged(1, &[0xc0]), Vec::new())),
    ] {
        let attack = Attack { answers, ..quiet(&victim) };
        let (events, _, _) = attacked(&mut victim, attack, |_, events, _| is_blamed(events)).await;
        assert!(is_blamed(&events), "{name}");
        assert_eq!(victim.node.chain.head().number(), 0, "{name}");
    }
    // Blocks that never come are waited for elsewhere.
    let attack = Attack { answers: lie(tagged(1, &headers), tagged(2, &[0xc0])), ..quiet(&victim) };
    let mut asked = 0;
    attacked(&mut victim, attack, |_, events, _| {
        asked = events.iter().filter(|event| matches!(event, Event::Status { .. })).count();
        asked >= 1
    })
    .await;
    assert_eq!(victim.node.chain.head().number(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_of_any_kind_leaves_the_chain_alone() {
    let genesis = genesis(161, 1);
    let mut victim = Peer::start(Node::new(&genesis)).await;
    let honest = hostile::frame(&tagged(2, &alloy_rlp::encode(vec![0_u64, 1])));
    for noise in [
        vec![],
        vec![0xff; 100],
        vec![0x80, 0x00],
        hostile::frame(&[0xc0]),
        hostile::frame(&[0xff; 64]),
        hostile::frame(&vec![0xc1; 2_000]),
        hostile::frame(&[tagged(2, &alloy_rlp::encode(vec![0_u64, 1])), vec![0]].concat()),
        hostile::frame(&tagged(9, &alloy_rlp::encode(vec![0_u64, 1]))),
        hostile::frame(&tagged(2, &alloy_rlp::encode(vec![u64::MAX, u64::MAX]))),
    ] {
        let attack = Attack {
            block: Some(noise.clone()),
            transactions: Some(noise.clone()),
            question: Some(noise),
            ..quiet(&victim)
        };
        attacked(&mut victim, attack, |victim, _, _| victim.swarm.connected_peers().count() == 1).await;
    }
    // It still answers who asks as it should.
    let attack = Attack { question: Some(honest), ..quiet(&victim) };
    let (_, replies, _) = attacked(&mut victim, attack, |_, _, replies| !replies.is_empty()).await;
    let genesis_block = victim.node.chain.block(BlockId::Number(0)).unwrap().unwrap();
    assert_eq!(replies[0], hostile::frame(&tagged(2, &alloy_rlp::encode(vec![genesis_block]))));
}
