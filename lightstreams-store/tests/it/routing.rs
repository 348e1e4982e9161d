//! Finding who has a block, and saying so only where everyone may hear it.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use lightstreams_store::{
    AllowAll, Block, BlockStore, Cid, Exchange, FetchError, Gate, LocalExchange, LocalRouting, MemoryStore,
    PeerId, Requester, RoutedExchange, Routing, RoutingError, ServePolicy, Session, StoreError, announce,
};

fn peer(name: u8) -> PeerId {
    PeerId::from_bytes(&[0, 1, name]).unwrap()
}

fn block(content: u8) -> Block {
    Block::raw(vec![content; 100])
}

/// Lets everyone have the first block, and accounts the second.
struct Members;

impl ServePolicy for Members {
    fn allows(&self, requester: &Requester, cid: &Cid) -> bool {
        *cid == *block(1).cid() || *cid == *block(2).cid() && requester.account().is_some()
    }
}

#[test]
fn only_roots_that_everyone_may_have_are_announced() {
    let store = Arc::new(MemoryStore::default());
    store.put_many(&[block(1), block(2), block(3)]).unwrap();
    let gate = Gate::new(store.clone(), Arc::new(Members));
    let routing = LocalRouting::new(peer(0), []);
    let roots = [1, 2, 3, 4].map(|content| *block(content).cid());
    assert_eq!(announce(&gate, &routing, &roots).unwrap(), [roots[0]]);
    assert_eq!(routing.find_providers(&roots[0], 9).unwrap(), [peer(0)]);
    for root in &roots[1..] {
        assert_eq!(routing.find_providers(root, 9).unwrap(), []);
    }
    // What is allowed but not here is not announced either.
    let gate = Gate::new(store, Arc::new(AllowAll));
    assert_eq!(announce(&gate, &routing, &roots).unwrap(), roots[..3]);
    routing.withdraw(&roots[0]).unwrap();
    assert_eq!(routing.find_providers(&roots[0], 9).unwrap(), []);
}

#[test]
fn who_said_so_comes_before_the_members_and_each_once() {
    let routing = LocalRouting::new(peer(0), [peer(0), peer(1), peer(2)]);
    let cid = *block(1).cid();
    assert_eq!(routing.find_providers(&cid, 9).unwrap(), [peer(1), peer(2)]);
    routing.add_provider(&cid, peer(5));
    routing.add_provider(&cid, peer(2));
    let old = Cid::new_v1(0x70, *cid.hash());
    assert_eq!(routing.find_providers(&old, 9).unwrap(), [peer(2), peer(5), peer(1)]);
    assert_eq!(routing.find_providers(&cid, 2).unwrap(), [peer(2), peer(5)]);
    routing.remove_member(&peer(2));
    assert_eq!(routing.find_providers(&cid, 9).unwrap(), [peer(5), peer(1)]);
}

#[test]
fn a_table_holds_so_much_and_no_more() {
    let routing = LocalRouting::new(peer(0), []);
    for name in 1..=64 {
        routing.add_member(peer(name)).unwrap();
    }
    routing.add_member(peer(64)).unwrap();
    assert!(matches!(routing.add_member(peer(65)), Err(RoutingError::Full { max: 64 })));
    let cid = *block(1).cid();
    (100..150).for_each(|name| routing.add_provider(&cid, peer(name)));
    let found = routing.find_providers(&cid, 1000).unwrap();
    assert_eq!((found.len(), &found[0]), (20 + 64, &peer(149)));
}

/// Gives what a peer has to who names that peer, and remembers who was asked.
struct Peers {
    stores: Vec<(PeerId, LocalExchange)>,
    asked: Mutex<BTreeSet<PeerId>>,
}

impl Exchange for &Peers {
    fn fetch(
        &self,
        cids: &[Cid],
        session: &Session,
        sink: &mut dyn FnMut(Block) -> Result<(), StoreError>,
    ) -> Result<(), FetchError> {
        let mut missing = cids.to_vec();
        for (_, exchange) in self.stores.iter().filter(|(peer, _)| session.peers.contains(peer)) {
            match exchange.fetch(&std::mem::take(&mut missing), session, sink) {
                Err(FetchError::Missing { cids, .. }) => missing = cids,
                other => return other,
            }
        }
        self.asked.lock().unwrap().extend(session.peers.iter().cloned());
        Err(FetchError::Missing { cids: missing, peers: Vec::new() })
    }
}

#[test]
fn what_known_peers_do_not_give_comes_from_those_that_are_found() {
    let held = [block(1), block(2), block(3)];
    let stores = [peer(1), peer(2)].into_iter().zip([&held[..1], &held[..]]).map(|(id, blocks)| {
        let store = Arc::new(MemoryStore::default());
        store.put_many(blocks).unwrap();
        (id, LocalExchange::new(Gate::new(store, Arc::new(AllowAll)), peer(9)))
    });
    let peers = Peers { stores: stores.collect(), asked: Mutex::default() };
    let routing = Arc::new(LocalRouting::new(peer(9), []));
    let exchange = RoutedExchange::new(&peers, routing.clone(), peer(9));
    let cids: Vec<Cid> = held.iter().map(|block| *block.cid()).collect();
    let session = Session::new().with_peers([peer(1)]);

    let mut got = 0;
    let mut take = |_| {
        got += 1;
        Ok(())
    };
    let Err(FetchError::Missing { cids: missing, .. }) = exchange.fetch(&cids, &session, &mut take) else {
        panic!("nobody was known to have them")
    };
    assert_eq!(missing, cids[1..]);
    routing.add_provider(&cids[1], peer(2));
    routing.add_provider(&cids[1], peer(9));
    exchange.fetch(&cids, &session, &mut take).unwrap();
    assert_eq!(got, 1 + 3);
    assert!(!peers.asked.lock().unwrap().contains(&peer(9)), "this node asked itself");
}
