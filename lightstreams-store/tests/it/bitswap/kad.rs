//! Peers that are found by Kademlia.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use lightstreams_store::{
    AllowAll, Block, BlockStore, DenyAll, Exchange, Gate, MemoryStore, PeerId, RoutedExchange, Routing,
    ServePolicy, Session, announce,
    p2p::{Bitswap, BitswapConfig, BitswapExchange, KadRouting, Kademlia, KademliaConfig},
};
use tokio::sync::mpsc;

use super::net::*;

#[derive(NetworkBehaviour)]
struct Finder {
    bitswap: Bitswap,
    kademlia: Kademlia,
}

struct FinderNode {
    id: PeerId,
    addr: libp2p::Multiaddr,
    gate: Gate,
    store: Arc<MemoryStore>,
    exchange: BitswapExchange,
    routing: KadRouting,
    dial: mpsc::UnboundedSender<libp2p::Multiaddr>,
}

fn finder(net: &Net, policy: Arc<dyn ServePolicy>) -> FinderNode {
    let _guard = net.runtime.enter();
    let store = Arc::new(MemoryStore::default());
    let gate = Gate::new(store.clone(), policy);
    let bitswap = Bitswap::new(gate.clone(), |_| None, BitswapConfig::default()).unwrap();
    let exchange = bitswap.exchange();
    let (mut swarm, addr) = net.listening(|key| {
        let config = KademliaConfig { server: true, patience: Duration::from_secs(5), ..Default::default() };
        Finder { bitswap, kademlia: Kademlia::new(key.public().to_peer_id(), config) }
    });
    let routing = swarm.behaviour().kademlia.routing();
    let id = PeerId::from_bytes(&swarm.local_peer_id().to_bytes()).unwrap();
    let (dial, mut to_dial) = mpsc::unbounded_channel();
    net.runtime.spawn(async move {
        loop {
            tokio::select! {
                event = swarm.select_next_some() => {
                    // What a real node learns from identify.
                    if let SwarmEvent::ConnectionEstablished { peer_id, endpoint, .. } = event
                        && endpoint.is_dialer()
                    {
                        let address = endpoint.get_remote_address().clone();
                        swarm.behaviour_mut().kademlia.add_address(&peer_id, address);
                    }
                }
                Some(addr) = to_dial.recv() => swarm.dial(dial_opts(addr)).unwrap(),
            }
        }
    });
    FinderNode { id, addr, gate, store, exchange, routing, dial }
}

#[test]
fn a_block_is_found_at_a_peer_that_nobody_named() {
    let net = Net::new();
    let middle = finder(&net, Arc::new(AllowAll));
    let (giver, reader) = (finder(&net, Arc::new(AllowAll)), finder(&net, Arc::new(AllowAll)));
    let hidden = finder(&net, Arc::new(DenyAll));
    for node in [&giver, &reader, &hidden] {
        node.dial.send(middle.addr.clone()).unwrap();
        // The middle learns where the others are.
        middle.dial.send(node.addr.clone()).unwrap();
    }
    std::thread::sleep(Duration::from_secs(1));
    let (public, secret) = (Block::raw(vec![1; 5000]), Block::raw(vec![2; 5000]));
    giver.store.put(&public).unwrap();
    hidden.store.put(&secret).unwrap();
    assert_eq!(announce(&giver.gate, &giver.routing, &[*public.cid()]).unwrap(), [*public.cid()]);
    assert_eq!(announce(&hidden.gate, &hidden.routing, &[*secret.cid()]).unwrap(), []);

    assert_eq!(reader.routing.find_providers(public.cid(), 5).unwrap(), std::slice::from_ref(&giver.id));
    assert_eq!(reader.routing.find_providers(secret.cid(), 5).unwrap(), []);
    let middle_only = Session::new().with_peers([middle.id.clone()]);
    assert!(reader.exchange.fetch_one(public.cid(), &middle_only).is_err());
    let routing: Arc<dyn Routing> = Arc::new(reader.routing.clone());
    let exchange = RoutedExchange::new(reader.exchange.clone(), routing, reader.id.clone());
    assert_eq!(exchange.fetch_one(public.cid(), &middle_only).unwrap(), public);
}

#[test]
fn a_question_ends_with_the_swarm_that_it_depends_on() {
    let kademlia = Kademlia::new(libp2p::PeerId::random(), KademliaConfig::default());
    let routing = kademlia.routing();
    drop(kademlia);
    assert!(routing.find_providers(Block::raw(vec![1]).cid(), 1).is_err());
}
