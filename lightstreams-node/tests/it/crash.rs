//! kill -9 at any moment loses nothing that was acknowledged.

use crate::support::{Home, Running, blocks, car, wait_for};
use cid::Cid;
use lightstreams_node::config::BlockStorage;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Kills in one run.
const KILLS: usize = 8;

/// What the node acknowledged.
#[derive(Default)]
struct Acknowledged {
    cids: Vec<Cid>,
    chain: BTreeMap<u64, Value>,
}

#[test]
fn a_killed_node_keeps_every_block_it_acknowledged() {
    kill_over_and_over(BlockStorage::Segments);
}

#[test]
fn a_killed_node_with_a_database_of_blocks_does_so_too() {
    kill_over_and_over(BlockStorage::Database);
}

#[track_caller]
fn kill_over_and_over(kept_in: BlockStorage) {
    let home = Home::new().with_authority().found_with(50, kept_in);
    let mut acknowledged = Acknowledged::default();
    for kill in 0..KILLS {
        let node = home.start();
        check(&node, &acknowledged);
        let killed = AtomicBool::new(false);
        // Not a multiple of anything the node does: each round dies in another place.
        let until_kill = Duration::from_millis(40 + 137 * kill as u64);
        std::thread::scope(|scope| {
            let uploads = scope.spawn(|| upload(&node, &killed));
            let chain = scope.spawn(|| follow(&node, &killed));
            std::thread::sleep(until_kill);
            killed.store(true, Ordering::SeqCst);
            node.kill_now();
            acknowledged.cids.extend(uploads.join().unwrap());
            acknowledged.chain.extend(chain.join().unwrap());
        });
        node.kill();
    }
    assert!(!acknowledged.cids.is_empty(), "nothing was acknowledged: the test shows nothing");
    assert!(acknowledged.chain.len() > 1, "no block was seen: the test shows nothing");
    let node = home.start();
    check(&node, &acknowledged);
    // And it goes on.
    let head = node.status()["head"]["number"].as_u64().unwrap();
    wait_for("a new block", || (node.status()["head"]["number"].as_u64()? > head).then_some(()));
    node.stop();
}

/// Uploads until the node is gone; returns what it acknowledged.
fn upload(node: &Running, killed: &AtomicBool) -> Vec<Cid> {
    let mut acknowledged = Vec::new();
    while !killed.load(Ordering::SeqCst) {
        let some = blocks(12, 70_000);
        let content = format!("0x{}", "33".repeat(32));
        let path = format!("/v1/blocks?content={content}&origin=published");
        match node.put(&path, "application/vnd.ipld.car", &car(&some)) {
            Ok(reply) if reply.status == 200 => acknowledged.extend(some.iter().map(|block| *block.cid())),
            _ => break,
        }
    }
    acknowledged
}

/// Looks at the head until the node is gone; returns the blocks that it called its head.
fn follow(node: &Running, killed: &AtomicBool) -> BTreeMap<u64, Value> {
    let mut seen = BTreeMap::new();
    while !killed.load(Ordering::SeqCst) {
        let Ok(reply) = node.try_get("/v1/status") else { break };
        let status = reply.json();
        seen.insert(status["head"]["number"].as_u64().unwrap(), status["head"]["hash"].clone());
        std::thread::sleep(Duration::from_millis(5));
    }
    seen
}

fn check(node: &Running, acknowledged: &Acknowledged) {
    for cids in acknowledged.cids.chunks(500) {
        assert_eq!(node.held(cids).len(), cids.len(), "acknowledged blocks are gone");
    }
    for (number, hash) in &acknowledged.chain {
        let block = node.rpc("eth_getBlockByNumber", json!([format!("{number:#x}"), false]));
        assert_eq!(block["hash"], *hash, "block {number} was the head, and is not there");
    }
}
