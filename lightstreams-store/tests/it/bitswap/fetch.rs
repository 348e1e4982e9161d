//! Fetching: from one peer and from several, which come, go and are silent.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use lightstreams_store::{
    AllowAll, Block, BlockStore, Cid, DAG_CBOR, EnvelopeChunker, Exchange, FetchError, FetchingSource,
    FileBuilder, MemoryStore, PayloadReader, PayloadShape, PeerFailureKind, PeerId, Session, StoreError,
    p2p::{BitswapConfig, wire::Revision},
    testing::check_exchange,
};

use super::net::*;

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
    left.dial(&right.addr);
    right.dial(&left.addr);
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
    let config = BitswapConfig { answer_timeout: Duration::from_secs(1), ..Default::default() };
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
    let session = Session::new().with_peers([silent_id.clone()]).with_patience(Duration::from_secs(10));
    let (_, result) = fetch(&client, &cids(&blocks), &session);
    check_missing(result, &cids(&blocks), &[(silent_id, PeerFailureKind::Silent)]);
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
    let window = BitswapConfig::default().session_window / LEAF;
    let result = client.exchange.fetch(&cids(&blocks), &session, &mut |_| {
        if taken == 0 {
            wait_until("a part of the window", || counted.reads.load(Ordering::SeqCst) >= window / 4);
        }
        if taken < 20 {
            std::thread::sleep(Duration::from_millis(40));
        }
        ahead_max = ahead_max.max(counted.reads.load(Ordering::SeqCst) - taken);
        taken += 1;
        Ok(())
    });
    result.unwrap();
    assert!(ahead_max <= window, "{ahead_max} blocks were read ahead, more than {window}");
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
