//! One reader and several seeders, of which some are slow, empty, silent or hostile.

use std::{sync::Arc, time::Duration};

use lightstreams_store::{
    AllowAll, Block, BlockStore, DagError, FileBuilder, FixedChunker, MemoryStore, PeerId, Requester,
    SegmentStore, ServePolicy, Session, StoreError, StoreOp, fetch_dag,
    p2p::{
        BitswapConfig,
        wire::{BLOCK_BYTES_MAX, MESSAGE_BYTES_MAX, Message, Payload, Prefix, Presence, Revision, WantKind},
    },
};

use super::{faults::Lying, net::*};

fn seeders(net: &Net, count: usize, blocks: &[Block]) -> Vec<Node> {
    let node = |_| {
        let node = net.node();
        node.store.put_many(blocks).unwrap();
        node
    };
    (0..count).map(node).collect()
}

fn impatient(net: &Net) -> Node {
    let config = BitswapConfig { answer_timeout: Duration::from_secs(1), ..Default::default() };
    net.node_with(Arc::new(AllowAll), |_| None, config)
}

fn id(peer: &libp2p::PeerId) -> PeerId {
    PeerId::from_bytes(&peer.to_bytes()).unwrap()
}

/// Blocks that came twice, of a thousand.
fn twice(node: &Node) -> u64 {
    let stats = node.exchange.stats();
    stats.duplicate_blocks * 1000 / stats.blocks.max(1)
}

/// Fetches from two honest seeders and `other`, which stands first in the session; returns the honest ones.
#[track_caller]
fn check_beside(net: &Net, client: &Node, other: PeerId) -> Vec<Node> {
    let blocks = leaves(300, 1);
    let honest = seeders(net, 2, &blocks);
    for seeder in &honest {
        client.connect(&seeder.addr);
        wait_until("a connection", || fetch(client, &cids(&blocks[..1]), &patient(&[seeder])).1.is_ok());
    }
    let peers = [other].into_iter().chain(honest.iter().map(Node::peer));
    let session = Session::new().with_peers(peers).with_patience(Duration::from_secs(20));
    let (got, result) = fetch(client, &cids(&blocks), &session);
    result.unwrap();
    assert_eq!(got.len(), blocks.len());
    assert!(got.iter().all(|block| blocks.contains(block)));
    assert!(honest.iter().all(|seeder| !client.blames(&seeder.id)));
    assert!(twice(client) < 10, "{:?}", client.exchange.stats());
    honest
}

#[test]
fn all_seeders_are_used_and_next_to_nothing_comes_twice() {
    let net = Net::new();
    let blocks = leaves(1000, 1);
    let seeders = seeders(&net, 3, &blocks);
    let client = net.node();
    for seeder in &seeders {
        client.connect(&seeder.addr);
        wait_until("a connection", || fetch(&client, &cids(&blocks[..1]), &patient(&[seeder])).1.is_ok());
    }
    let (got, result) = fetch(&client, &cids(&blocks), &patient(&seeders.iter().collect::<Vec<_>>()));
    result.unwrap();
    assert_eq!(got.len(), blocks.len());
    assert!(twice(&client) < 10, "{:?}", client.exchange.stats());
    assert_eq!(client.exchange.stats().dropped_blocks, 0);
    let sent: Vec<u64> = seeders.iter().map(|seeder| seeder.exchange.stats().sent_blocks).collect();
    assert!(sent.iter().all(|sent| *sent >= 100), "{sent:?}");
    let stats = client.exchange.stats();
    assert_eq!(stats.bytes, stats.blocks * LEAF as u64);
}

#[test]
fn a_slow_seeder_is_asked_for_less() {
    struct Slow;
    impl ServePolicy for Slow {
        fn allows(&self, _: &Requester, _: &lightstreams_store::Cid) -> bool {
            std::thread::sleep(Duration::from_millis(150));
            true
        }
    }
    let net = Net::new();
    let config = BitswapConfig { lookup_threads: 1, ..Default::default() };
    let slow = net.node_with(Arc::new(Slow), |_| None, config);
    slow.store.put_many(&leaves(300, 1)).unwrap();
    let client = net.node();
    client.connect(&slow.addr);
    let honest = check_beside(&net, &client, slow.peer());
    let sent = |node: &Node| node.exchange.stats().sent_blocks;
    assert!(honest.iter().all(|quick| sent(quick) > 2 * sent(&slow)), "{:?}", slow.exchange.stats());
}

#[test]
fn a_seeder_of_wrong_bytes_holds_nobody_up() {
    let net = Net::new();
    let lying = Arc::new(Lying(MemoryStore::default()));
    lying.put_many(&leaves(300, 1)).unwrap();
    let liar = net.node_over(Arc::default(), lying, Arc::new(AllowAll), |_| None, BitswapConfig::default());
    let client = net.node();
    client.connect(&liar.addr);
    check_beside(&net, &client, liar.peer());
    assert!(client.blames(&liar.id));
}

#[test]
fn a_seeder_without_the_blocks_holds_nobody_up() {
    let net = Net::new();
    let (empty, client) = (net.node(), net.node());
    client.connect(&empty.addr);
    check_beside(&net, &client, empty.peer());
    assert!(!client.blames(&empty.id));
}

#[test]
fn a_silent_seeder_holds_nobody_up() {
    let net = Net::new();
    let silent = net.raw(Revision::V1_2.id());
    let client = impatient(&net);
    client.connect(&silent.addr);
    check_beside(&net, &client, id(&silent.id));
}

#[test]
fn a_seeder_of_what_is_too_large_or_endless_holds_nobody_up() {
    let length = |len: usize| -> Vec<u8> {
        (0..4).map(|i| (len >> (7 * i)) as u8 & 0x7f | if i < 3 { 0x80 } else { 0 }).collect()
    };
    let block = [&[0x12][..], &length(BLOCK_BYTES_MAX + 1), &vec![0; BLOCK_BYTES_MAX + 1]].concat();
    let presence = Message {
        presences: vec![(*Block::raw(&b"never asked about"[..]).cid(), Presence::Have)],
        ..Message::default()
    };
    let word: Vec<u8> = presence.encode(Revision::V1_2).unwrap().pieces.iter().flatten().copied().collect();
    let hostile: [(Vec<u8>, bool); 4] = [
        ([length(block.len()), block].concat(), true),
        (length(MESSAGE_BYTES_MAX + 1), true),
        // The beginning of a message that never ends, and words without end, are no offence, and help nobody.
        ([length(MESSAGE_BYTES_MAX), vec![0x12]].concat(), false),
        (word.repeat(20_000), false),
    ];
    for (bytes, blamed) in hostile {
        let net = Net::new();
        let peer = net.raw(Revision::V1_2.id());
        let client = impatient(&net);
        peer.connect(&client);
        for _ in 0..4 {
            peer.send.send((client.id, bytes.clone())).unwrap();
        }
        check_beside(&net, &client, id(&peer.id));
        assert_eq!(client.blames(&peer.id), blamed);
    }
}

#[test]
fn a_seeder_of_an_older_revision_is_asked_although_it_cannot_be_probed() {
    let net = Net::new();
    let (empty, client) = (net.node(), net.node());
    let mut old = net.raw(Revision::V1_1.id());
    client.connect(&empty.addr);
    client.connect(&old.addr);
    let blocks = leaves(6, 1);
    let session = Session::new().with_peers([empty.peer(), id(&old.id)]);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| fetch(&client, &cids(&blocks), &session));
        while !asking.is_finished() {
            for message in old.receive(&net, Duration::from_millis(100)) {
                assert!(message.entries.iter().all(|entry| entry.kind == WantKind::Block));
                let wanted = |block: &&Block| {
                    message.entries.iter().any(|entry| entry.cid == *block.cid() && !entry.cancel)
                };
                for block in blocks.iter().filter(wanted) {
                    let payload = Payload { prefix: Prefix::of(block.cid()), data: block.data().clone() };
                    old.send(&client, &Message { payloads: vec![payload], ..Message::default() });
                }
            }
        }
        let (got, result) = asking.join().unwrap();
        result.unwrap();
        assert_eq!(got.len(), blocks.len());
    });
}

/// A store whose process ends after so many puts.
struct Dying<'a> {
    store: &'a SegmentStore,
    left: std::sync::atomic::AtomicUsize,
}

impl BlockStore for Dying<'_> {
    fn get(&self, cid: &lightstreams_store::Cid) -> Result<Option<Block>, StoreError> {
        self.store.get(cid)
    }
    fn size(&self, cid: &lightstreams_store::Cid) -> Result<Option<u64>, StoreError> {
        self.store.size(cid)
    }
    fn put_many(&self, blocks: &[Block]) -> Result<(), StoreError> {
        use std::sync::atomic::Ordering;
        if self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            return Err(StoreError::new(StoreOp::Put, "the end"));
        }
        self.store.put_many(blocks)
    }
    fn remove_many(&self, cids: &[lightstreams_store::Cid]) -> Result<(), StoreError> {
        self.store.remove_many(cids)
    }
    fn cids(
        &self,
        after: Option<&lightstreams_store::Cid>,
        limit: usize,
    ) -> Result<Vec<lightstreams_store::Cid>, StoreError> {
        self.store.cids(after, limit)
    }
}

#[test]
fn a_fetch_that_was_cut_off_goes_on_where_it_was() {
    let net = Net::new();
    let seeder = net.node();
    let bytes: Vec<u8> = (0..8_000_000u32).flat_map(|i| i.to_le_bytes()).collect();
    let root = FileBuilder::new(FixedChunker::new(LEAF).unwrap())
        .import(&mut &bytes[..], &*seeder.store, &mut |_| ())
        .unwrap();
    let total = seeder.store.len() as u64;
    let folder = tempfile::tempdir().unwrap();
    let session = patient(&[&seeder]);

    let first = {
        let store = SegmentStore::open(folder.path()).unwrap();
        let client = net.node();
        client.connect(&seeder.addr);
        wait_until("a connection", || fetch(&client, &[root.cid], &session).1.is_ok());
        let dying = Dying { store: &store, left: 2.into() };
        let result = fetch_dag(&root.cid, &dying, &client.exchange, &session, 10_000, &mut |_| ());
        assert!(matches!(result, Err(DagError::Fetch(_) | DagError::Store(_))), "{result:?}");
        client.task.abort();
        store.cids(None, 10_000).unwrap().len() as u64
    };
    assert!((100..total).contains(&first), "{first} of {total} blocks came before the end");

    let store = SegmentStore::open(folder.path()).unwrap();
    let client = net.node();
    client.connect(&seeder.addr);
    wait_until("a connection", || fetch(&client, &[root.cid], &session).1.is_ok());
    let fetched = fetch_dag(&root.cid, &store, &client.exchange, &session, 10_000, &mut |_| ()).unwrap();
    assert_eq!((fetched.held, fetched.blocks), (first, total - first));
    let held = fetch_dag(&root.cid, &store, &client.exchange, &session, 10_000, &mut |_| ()).unwrap();
    assert_eq!((held.held, held.blocks), (total, 0));
}
