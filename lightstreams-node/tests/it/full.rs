//! A full disk is an error with advice; what was acknowledged before stays readable.

use crate::support::{Home, blocks, car, wait_for};
use lightstreams_node::config::BlockStorage;

/// What the node leaves free, and as much again for blocks and what the store adds.
const DISK_MIB: u32 = 512;

#[test]
fn a_full_disk_is_told_and_loses_nothing_that_was_acknowledged() {
    check(BlockStorage::Segments);
    check(BlockStorage::Database);
}

#[track_caller]
fn check(kept_in: BlockStorage) {
    let home = Home::new().with_authority().found_with(200, kept_in);
    std::fs::create_dir(home.dir().blocks()).unwrap();
    let Some(node) = home.start_on_small_disk(&home.dir().blocks(), DISK_MIB) else { return };
    let mut acknowledged = Vec::new();
    let refusal = loop {
        let some = blocks(16, 1 << 20);
        let path = format!("/v1/blocks?content=0x{}&origin=published", "33".repeat(32));
        let reply = node.put(&path, "application/vnd.ipld.car", &car(&some)).unwrap();
        if reply.status != 200 {
            break reply.json();
        }
        acknowledged.extend(some.iter().map(|block| *block.cid()));
        assert!(acknowledged.len() < DISK_MIB as usize, "more was acknowledged than the disk can hold");
    };
    assert_eq!(refusal["error"]["code"], "disk_full", "{refusal}");
    assert!(refusal["error"]["hint"].as_str().is_some_and(|hint| hint.contains("free")), "{refusal}");
    assert!(!acknowledged.is_empty(), "nothing was acknowledged: the test shows nothing");
    for cids in acknowledged.chunks(8) {
        assert_eq!(node.held(cids).len(), cids.len(), "an acknowledged block is gone");
    }
    // The chain goes on.
    let head = node.status()["head"]["number"].as_u64().unwrap();
    wait_for("a new block", || (node.status()["head"]["number"].as_u64()? > head).then_some(()));
}
