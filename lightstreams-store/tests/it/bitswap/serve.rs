//! Serving: who gets what, and how much at once.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use lightstreams_store::{
    Account, AllowAll, Block, BlockStore, Cid, Exchange, FetchError, PeerFailureKind, Requester, ServePolicy,
    p2p::{
        BitswapConfig,
        wire::{Entry, Message, Payload, Presence, Revision, WANTS_MAX, WantKind},
    },
};

use super::net::*;

const DENY: Duration = Duration::from_millis(25);

fn payloads(messages: &[Message]) -> usize {
    messages.iter().map(|message| message.payloads.len()).sum()
}

fn presences(messages: &[Message]) -> usize {
    messages.iter().map(|message| message.presences.len()).sum()
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
        let answers = peer.receive_until(&net, |got| !got.is_empty());
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
    let answers = peer.receive_until(&net, |got| payloads(got) > 0 && presences(got) > 0);
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
    let mut answers = peer.receive_until(&net, |got| presences(got) > 0);
    answers.extend(peer.receive(&net, Duration::from_millis(1500)));
    let answered = presences(&answers);
    assert!((1..=2 * WANTS_MAX).contains(&answered), "{answered} answers");
    // The bound holds back nothing for good.
    let block = leaves(1, 1).remove(0);
    server.store.put(&block).unwrap();
    let entries = vec![want(block.cid(), WantKind::Block, true)];
    peer.send(&server, &Message { entries, ..Message::default() });
    let answers = peer.receive_until(&net, |got| payloads(got) > 0);
    assert_eq!(payloads(&answers), 1);
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
    let answers = peer.receive_until(&net, |got| payloads(got) > 0);
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
    let answers = peer.receive_until(&net, |got| payloads(got) > 0);
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
    let answers = peer.receive_until(&net, |got| payloads(got) > 1);
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
