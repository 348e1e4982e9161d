//! Proofs: nothing panics, and no two verifiers believe different values.
//!
//! An input is a key and nodes, each after its length in two bytes. A fuzzer finds no hashes, so a run of 32 bytes 0xaa in a node stands
//! for the hash of the next.

#![no_main]

use alloy_trie::{Nibbles, proof::verify_proof};
use libfuzzer_sys::fuzz_target;
use lightstreams_chain::{
    alloy_primitives::{B256, Bytes, keccak256},
    proof::{self, AccountProof},
};

fuzz_target!(|data: &[u8]| {
    let _ = proof::header(data, keccak256(data));
    if let Ok(answer) = serde_json::from_slice::<AccountProof>(data) {
        let root = answer.account_proof.first().map_or_else(B256::default, keccak256);
        let _ = answer.verify(root);
        let again: AccountProof = serde_json::from_value(serde_json::json!(answer)).expect("what was written is read");
        assert_eq!(again, answer);
    }

    let Some((key, mut rest)) = data.split_first_chunk::<32>() else { return };
    let key = B256::from(*key);
    let mut nodes: Vec<Vec<u8>> = Vec::new();
    while let Some((length, tail)) = rest.split_first_chunk::<2>() {
        let (node, tail) = tail.split_at(usize::from(u16::from_be_bytes(*length)).min(tail.len()));
        nodes.push(node.to_vec());
        rest = tail;
    }
    for index in (1..nodes.len()).rev() {
        let hash = keccak256(&nodes[index]);
        let parent = &mut nodes[index - 1];
        if let Some(at) = parent.windows(32).position(|window| window == [0xaa; 32]) {
            parent[at..at + 32].copy_from_slice(hash.as_slice());
        }
    }
    let nodes: Vec<Bytes> = nodes.into_iter().map(Bytes::from).collect();
    let Some(root) = nodes.first().map(keccak256) else { return };
    // The other verifier (alloy-trie 0.9.9) panics on paths longer than a key, where this one answers that there is nothing.
    let Ok(Some(value)) = proof::value(root, key, &nodes) else { return };
    let key = Nibbles::unpack(key);
    let other = [&value[..], &[0]].concat();
    assert!(verify_proof(root, key, Some(other), &nodes).is_err(), "the other verifier believes another value");
    assert!(verify_proof(root, key, None, &nodes).is_err(), "the other verifier believes that there is nothing");
});
