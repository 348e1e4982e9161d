//! What is proven is what the state holds, and nothing else can be proven.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, TxKind, U256, bytes, keccak256};
use alloy_trie::{
    EMPTY_ROOT_HASH, HashBuilder, Nibbles,
    proof::{ProofRetainer, verify_proof},
};
use lightstreams_chain::{
    BlockId, Chain, DEV_ACCOUNTS, FeePolicy, Header, StateError,
    proof::{self, AccountProof, ProofError},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{
    dev::{genesis, open, seal, send, transfer},
    headers::{json, vectors},
};

/// A chain on which slots of one contract and balances change from block to block, some back to nothing.
fn lively() -> (Chain, Address) {
    let chain = open(genesis(FeePolicy::Zero));
    // Stores the second word of its input in the slot that the first names.
    let runtime = &bytes!("6020355f355500")[..];
    let size = u8::try_from(runtime.len()).unwrap();
    let init = [&[0x60, size, 0x60, 10, 0x5f, 0x39, 0x60, size, 0x5f, 0xf3], runtime].concat();
    chain.submit(&send(&chain, 0, 0, TxKind::Create, U256::ZERO, init.into(), 200_000)).unwrap();
    seal(&chain);
    let keeper = DEV_ACCOUNTS[0].address.create(0);
    let mut rng = StdRng::seed_from_u64(11);
    let mut nonces = [1, 0, 0];
    for _ in 0..12 {
        for (from, next) in nonces.iter_mut().enumerate() {
            for _ in 0..rng.random_range(0..3) {
                let (slot, value) = (rng.random_range(0..24u64), rng.random_range(0..3u64));
                let input = [U256::from(slot).to_be_bytes::<32>(), U256::from(value).to_be_bytes()].concat();
                let raw = if rng.random_bool(0.7) {
                    send(&chain, from, *next, TxKind::Call(keeper), U256::ZERO, input.into(), 60_000)
                } else {
                    let to = Address::with_last_byte(rng.random_range(0x40..0x80));
                    transfer(&chain, from, *next, to, value)
                };
                *next += 1;
                chain.submit(&raw).unwrap();
            }
        }
        seal(&chain);
    }
    (chain, keeper)
}

/// The header of block `number`, as a light reader gets it that knows the hash.
fn header(chain: &Chain, number: u64) -> Header {
    let head = chain.header(number.into()).unwrap().unwrap();
    proof::header(&alloy_rlp::encode(&head.header), head.hash).unwrap()
}

#[test]
fn accounts_and_slots_are_proven_at_every_block() {
    let (chain, keeper) = lively();
    let slots: Vec<U256> = (0..26).map(U256::from).collect();
    let (mut absent, mut values) = (0, 0);
    for number in 0..=chain.head().number() {
        let root = header(&chain, number).state_root;
        let state = chain.state(number.into()).unwrap();
        for address in (0x40..0x44).map(Address::with_last_byte).chain([keeper, DEV_ACCOUNTS[0].address]) {
            let proof = state.proof(address, &slots).unwrap();
            let proven = proof.verify(root).unwrap();
            let account = state.account(address).unwrap();
            assert_eq!(proven.map(|a| a.balance), account.map(|a| a.balance), "{number} {address}");
            assert_eq!(proven.map(|a| a.storage_root), account.map(|a| a.storage_root), "{number}");
            absent += usize::from(proven.is_none());
            for slot in &proof.storage_proof {
                assert_eq!(slot.value, state.storage(address, slot.key).unwrap(), "{number} {}", slot.key);
                values += usize::from(!slot.value.is_zero());
            }
            // Another implementation believes the same nodes.
            let key = Nibbles::unpack(keccak256(address));
            let record = proven.map(alloy_rlp::encode);
            verify_proof(root, key, record, &proof.account_proof).unwrap();
            let storage_root = proven.map_or(EMPTY_ROOT_HASH, |account| account.storage_root);
            for slot in &proof.storage_proof {
                let key = Nibbles::unpack(keccak256(B256::from(slot.key)));
                let record = (!slot.value.is_zero()).then(|| alloy_rlp::encode(slot.value));
                verify_proof(storage_root, key, record, &slot.proof).unwrap();
            }
        }
    }
    assert!(absent > 5 && values > 50, "{absent} absent accounts and {values} values were proven");
}

#[test]
fn a_state_that_is_gone_and_a_proof_that_is_too_large_are_refused() {
    let (chain, keeper) = lively();
    let state = chain.state(BlockId::Latest).unwrap();
    let many = vec![U256::ZERO; 1_025];
    assert!(matches!(state.proof(keeper, &many), Err(StateError::TooManySlots { asked: 1_025, .. })));
    state.proof(keeper, &many[1..]).unwrap();
}

#[test]
fn what_was_changed_on_the_way_does_not_verify() {
    let (chain, keeper) = lively();
    let root = chain.head().header.state_root;
    let state = chain.state(BlockId::Latest).unwrap();
    let held = (0..24).map(U256::from).find(|slot| !state.storage(keeper, *slot).unwrap().is_zero()).unwrap();
    let good = state.proof(keeper, &[held]).unwrap();
    good.verify(root).unwrap();
    let differs = |field| Err(ProofError::Differs { field });
    #[track_caller]
    fn check(
        good: &AccountProof,
        root: B256,
        change: impl FnOnce(&mut AccountProof),
        why: Result<(), ProofError>,
    ) {
        let mut bad = good.clone();
        change(&mut bad);
        assert_eq!(bad.verify(root).map(drop), why);
    }
    check(&good, root, |p| p.nonce += 1, differs("nonce"));
    check(&good, root, |p| p.balance += U256::ONE, differs("balance"));
    check(&good, root, |p| p.code_hash.0[3] ^= 1, differs("codeHash"));
    check(&good, root, |p| p.code_hash = B256::ZERO, differs("codeHash"));
    check(&good, root, |p| p.storage_hash = EMPTY_ROOT_HASH, differs("storageHash"));
    check(&good, root, |p| p.storage_proof[0].value += U256::ONE, differs("value"));
    let nodes = good.account_proof.len();
    check(&good, root, |p| drop(p.account_proof.pop()), Err(ProofError::Truncated { used: nodes - 1 }));
    check(&good, root, |p| p.account_proof.clear(), Err(ProofError::Truncated { used: 0 }));
    check(&good, root, |p| p.account_proof.swap(0, 1), Err(ProofError::OtherNode { index: 0 }));
    check(
        &good,
        root,
        |p| p.account_proof.push(p.account_proof[0].clone()),
        Err(ProofError::Extra { used: nodes }),
    );
    check(&good, root, |p| p.account_proof.insert(0, Bytes::new()), Err(ProofError::OtherNode { index: 0 }));
    let other = state.proof(DEV_ACCOUNTS[3].address, &[]).unwrap();
    assert_ne!(other.account_proof, good.account_proof);
    let wrong = check_error(&good, root, |p| p.account_proof = other.account_proof.clone());
    assert!(wrong.is_some(), "the path of another account does not prove this one");
    // Absence cannot be claimed with the path of a neighbour, nor a slot of another account.
    let stranger = Address::with_last_byte(0xee);
    let absence = state.proof(stranger, &[]).unwrap();
    assert_eq!(absence.verify(root), Ok(None));
    assert!(proof::account(root, keeper, &absence.account_proof).is_err());
    check(&absence, root, |p| p.balance = U256::ONE, differs("balance"));
    check(&absence, root, |p| p.storage_hash = EMPTY_ROOT_HASH, Ok(()));
    check(&absence, root, |p| p.storage_hash = good.storage_hash, differs("storageHash"));
    assert_eq!(
        proof::slot(EMPTY_ROOT_HASH, held, &good.storage_proof[0].proof),
        Err(ProofError::Extra { used: 0 })
    );
    assert_eq!(proof::slot(EMPTY_ROOT_HASH, held, &[bytes!("80")]), Ok(U256::ZERO));
    assert_eq!(proof::slot(root, held, &[bytes!("80")]), Err(ProofError::OtherNode { index: 0 }));
    // A header is its bytes.
    let head = chain.head();
    let mut rlp = alloy_rlp::encode(&head.header);
    rlp.push(0);
    assert_eq!(proof::header(&rlp, head.hash), Err(ProofError::OtherHeader));
    assert_eq!(proof::header(&rlp, keccak256(&rlp)), Err(ProofError::Malformed));
}

fn check_error(
    good: &AccountProof,
    root: B256,
    change: impl FnOnce(&mut AccountProof),
) -> Option<ProofError> {
    let mut bad = good.clone();
    change(&mut bad);
    bad.verify(root).err()
}

/// A trie, with what proves each of some keys.
struct Made {
    root: B256,
    entries: BTreeMap<B256, Vec<u8>>,
    proofs: BTreeMap<B256, Vec<Bytes>>,
}

/// A trie of random entries: under hashes, as states have them, or under keys so alike that nodes lie inside their parents.
fn random_trie(rng: &mut StdRng, size: usize, alike: bool) -> Made {
    let mut key = || {
        if !alike {
            return keccak256(rng.random::<[u8; 8]>());
        }
        let mut key = [0u8; 32];
        key[0] = rng.random_range(0..3);
        key[31] = rng.random();
        if rng.random_bool(0.3) {
            key[16] = rng.random();
        }
        B256::from(key)
    };
    let value = |i: usize| if alike { vec![i as u8 + 1] } else { vec![i as u8; 1 + i % 80] };
    let entries: BTreeMap<B256, Vec<u8>> = (0..size).map(|i| (key(), value(i))).collect();
    let mut keys: Vec<B256> = entries.keys().copied().collect();
    keys.extend((0..20).map(|_| key()));
    let mut made = Made { root: EMPTY_ROOT_HASH, entries, proofs: BTreeMap::new() };
    for key in keys {
        let path = Nibbles::unpack(key);
        let mut builder = HashBuilder::default().with_proof_retainer(ProofRetainer::from_iter([path]));
        for (key, value) in &made.entries {
            builder.add_leaf(Nibbles::unpack(key), value);
        }
        made.root = builder.root();
        let nodes = builder.take_proof_nodes().matching_nodes_sorted(&path).into_iter().map(|(_, node)| node);
        // EIP-1186 leaves nodes inside their parents out, and so does go-ethereum; this builder does not.
        let nodes = nodes.enumerate().filter(|(index, node)| *index == 0 || node.len() >= 32);
        made.proofs.insert(key, nodes.map(|(_, node)| node).collect());
    }
    made
}

#[test]
fn damaged_proofs_prove_nothing_false_and_another_verifier_agrees_on_whole_ones() {
    let mut rng = StdRng::seed_from_u64(5);
    let (mut whole, mut refused) = (0, 0);
    for round in 0..60 {
        let alike = round % 2 == 0;
        let Made { root, entries, proofs } = random_trie(&mut rng, 1 + round, alike);
        let all: Vec<Bytes> = proofs.values().flatten().cloned().collect();
        for (key, nodes) in &proofs {
            let truth = entries.get(key).cloned();
            assert_eq!(proof::value(root, *key, nodes), Ok(truth.clone()), "round {round}");
            if !alike {
                // It does not look into nodes inside nodes, which states do not have.
                verify_proof(root, Nibbles::unpack(key), truth.clone(), nodes).unwrap();
            }
            whole += 1;
            for _ in 0..6 {
                let mut bad = nodes.clone();
                let at = rng.random_range(0..bad.len());
                match rng.random_range(0..6) {
                    0 => drop(bad.remove(at)),
                    1 => bad.insert(at, all[rng.random_range(0..all.len())].clone()),
                    2 => bad[at] = all[rng.random_range(0..all.len())].clone(),
                    3 => bad.truncate(at),
                    4 => bad.push(all[rng.random_range(0..all.len())].clone()),
                    _ => {
                        let mut node = bad[at].to_vec();
                        let byte = rng.random_range(0..node.len());
                        node[byte] ^= 1 << rng.random_range(0..8);
                        bad[at] = node.into();
                    }
                }
                match proof::value(root, *key, &bad) {
                    Ok(found) => assert_eq!((found, &bad), (truth.clone(), nodes), "only the proof proves"),
                    Err(_) => refused += 1,
                }
            }
        }
    }
    assert!(whole > 1_000 && refused > 5_000, "{whole} whole and {refused} refused");
}

#[test]
fn answers_of_go_ethereum_verify() {
    let Some(suite) = vectors("execution-apis") else { return };
    let chain = std::fs::read(suite.join("tests/chain.rlp")).unwrap();
    let mut rest = chain.as_slice();
    let mut head = None;
    while !rest.is_empty() {
        let block: lightstreams_chain::Block = alloy_rlp::Decodable::decode(&mut rest).unwrap();
        head = Some(block.header);
    }
    let root = head.unwrap().state_root;
    let mut seen = 0;
    for entry in std::fs::read_dir(suite.join("tests/eth_getProof")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let Some(answer) = text.lines().find_map(|line| line.strip_prefix("<< ")) else { continue };
        let answer: serde_json::Value = serde_json::from_str(answer).unwrap();
        let Ok(proof) = serde_json::from_value::<AccountProof>(answer["result"].clone()) else { continue };
        assert!(proof.verify(root).unwrap().is_some());
        seen += 1;
    }
    assert!(seen > 0);
    let Some(suite) = vectors("besu") else { return };
    // Besu's answer comes without a header: its root is the hash of the first node.
    let answer = json(suite.join("jsonrpc/eth/eth_getProof_blockHash.json"));
    let proof: AccountProof = serde_json::from_value(answer["response"]["result"].clone()).unwrap();
    assert!(proof.verify(keccak256(&proof.account_proof[0])).unwrap().is_some());
}
