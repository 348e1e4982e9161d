//! Peers that send what they should not.

use std::{sync::Arc, time::Duration};

use lightstreams_store::{
    AllowAll, Block, BlockStore, Cid, FetchError, MemoryStore, PeerFailureKind, PeerId, Session, StoreError,
    p2p::{
        BitswapConfig,
        wire::{Message, Payload, Prefix, Revision},
    },
};

use super::net::*;

/// Gives the bytes of another block for every second one.
pub(super) struct Lying(pub(super) MemoryStore);

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
    let mut peer = net.raw(Revision::V1_2.id());
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
        peer.receive_until(&net, |asked| !asked.is_empty());
        peer.send(&client, &message(&pushed));
        let (got, result) = asking.join().unwrap();
        assert_eq!(got, []);
        check_missing(result, &[*wanted.cid()], &[(id.clone(), PeerFailureKind::Misbehaved)]);
    });
    assert!(client.store.is_empty());
}
