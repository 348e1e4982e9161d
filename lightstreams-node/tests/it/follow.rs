//! A second node process follows the first's chain, and its transactions reach the authority.

use crate::support::{Home, Running, wait_for};
use alloy_consensus::TxEip1559;
use alloy_primitives::{Address, TxKind, U256};
use lightstreams_chain::DEV_ACCOUNTS;
use serde_json::{Value, json};

fn head(node: &Running) -> u64 {
    node.status()["head"]["number"].as_u64().unwrap()
}

fn block(node: &Running, number: u64) -> Option<Value> {
    let block = node.rpc("eth_getBlockByNumber", json!([format!("{number:#x}"), false]));
    (!block.is_null()).then(|| block["hash"].clone())
}

#[test]
fn two_nodes_follow_one_chain_and_survive_each_others_restart() {
    let first = Home::new().with_authority().found(200);
    let authority = first.start();
    let listen = authority.status()["listen"][0].as_str().unwrap().to_owned();
    wait_for("first blocks", || (head(&authority) >= 3).then_some(()));

    let second = Home::new().join(&first, &listen);
    let follower = second.start();
    wait_for("the follower to catch up", || (head(&follower) >= 3).then_some(()));
    assert_eq!(block(&follower, 3), block(&authority, 3));

    let to = Address::repeat_byte(0x77);
    let tx = TxEip1559 {
        chain_id: 162,
        nonce: 0,
        gas_limit: 21_000,
        max_fee_per_gas: 10_000_000_000,
        max_priority_fee_per_gas: 1,
        to: TxKind::Call(to),
        value: U256::from(12345),
        ..TxEip1559::default()
    };
    let raw = DEV_ACCOUNTS[1].signer().unwrap().sign_raw_transaction(tx).unwrap();
    let hash = follower.rpc("eth_sendRawTransaction", json!([raw]));
    for node in [&authority, &follower] {
        let receipt = wait_for("the receipt", || {
            let receipt = node.rpc("eth_getTransactionReceipt", json!([hash]));
            (!receipt.is_null()).then_some(receipt)
        });
        assert_eq!(receipt["status"], "0x1");
        assert_eq!(node.rpc("eth_getBalance", json!([to, "latest"])), "0x3039");
    }

    // The follower is killed, misses blocks, and comes back to them.
    follower.kill();
    let missed = head(&authority) + 5;
    wait_for("more blocks", || (head(&authority) >= missed).then_some(()));
    let follower = second.start();
    wait_for("the follower to come back", || (head(&follower) >= missed).then_some(()));
    assert_eq!(block(&follower, missed), block(&authority, missed));
    follower.stop();
    authority.stop();
}

#[test]
fn a_node_of_another_network_is_left_alone() {
    let (first, other) = (Home::new().with_authority().found(200), Home::new().with_authority().found(250));
    let authority = first.start();
    let listen = authority.status()["listen"][0].as_str().unwrap().to_owned();
    let stranger = other.start();
    let dialled = stranger.post("/v1/peers", &json!({ "addr": listen }));
    assert!([200, 502].contains(&dialled.status), "{}", dialled.status);
    wait_for("blocks of the stranger", || (head(&stranger) >= 3).then_some(()));
    let stranger_genesis = block(&stranger, 0);
    assert_ne!(stranger_genesis, block(&authority, 0));
    wait_for("blocks of the authority", || (head(&authority) >= 3).then_some(()));
    assert_ne!(block(&stranger, 3), block(&authority, 3));
    stranger.stop();
    authority.stop();
}
