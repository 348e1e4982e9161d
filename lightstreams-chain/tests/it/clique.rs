//! Clique follows EIP-225 to the bit, orders heads as EIP-3436 does, and says what is final.

use std::cmp::Ordering;

use alloy_primitives::{Address, B64, B256, Bytes, U256, b256};
use lightstreams_chain::{
    Clique, EngineError, ForkChoice, HeadInfo, Header, HeaderRules, Signer, Slot, Snapshot,
};

use crate::headers::{Headers, authority, clique, genesis_header};

const LATE: u64 = 4_000_000_000;

/// The child of `parent` that `name` seals, as its node would, with a vote; whether or not it may.
fn sealed(
    rules: &Clique,
    headers: &Headers,
    parent: &HeadInfo,
    name: &str,
    vote: Option<(Address, bool)>,
) -> Header {
    let author = authority(name);
    let number = parent.number() + 1;
    let mut header = Header {
        parent_hash: parent.hash,
        number,
        timestamp: parent.header.timestamp + 1,
        gas_limit: parent.header.gas_limit,
        difficulty: U256::from(1),
        ..Header::default()
    };
    let mut extra = vec![0; 32];
    if let Ok(snapshot) = rules.snapshot(parent, headers) {
        header.difficulty = U256::from(1 + u64::from(snapshot.in_turn(number, &author.address())));
        if rules.is_checkpoint(number) {
            snapshot.signers.iter().for_each(|signer| extra.extend_from_slice(signer.as_slice()));
        }
    }
    extra.extend_from_slice(&[0; 65]);
    header.extra_data = Bytes::from(extra);
    if let Some((address, authorize)) = vote {
        rules.write_vote(&mut header, address, authorize);
    }
    reseal(rules, &mut header, name);
    header
}

fn reseal(rules: &Clique, header: &mut Header, name: &str) {
    let slot = Slot::Clique { number: header.number, parent: header.parent_hash };
    let seal = authority(name).sign(&slot, rules.seal_hash(header)).unwrap();
    Clique::write_seal(header, &seal);
}

/// A chain of blocks sealed by `names` on a genesis of `signers`.
fn grow(rules: &Clique, signers: &[&str], names: &[&str]) -> (Headers, Vec<HeadInfo>) {
    let addresses: Vec<Address> = signers.iter().map(|name| authority(name).address()).collect();
    let mut headers = Headers::default();
    let mut blocks = vec![headers.insert(genesis_header(&addresses))];
    for name in names {
        let parent = blocks.last().unwrap();
        let header = sealed(rules, &headers, parent, name, None);
        rules.verify_header(&header, parent, &headers, LATE).unwrap();
        blocks.push(headers.insert(header));
    }
    (headers, blocks)
}

#[test]
fn the_seal_hash_of_an_empty_header_is_go_ethereums() {
    let header = Header {
        ommers_hash: B256::ZERO,
        state_root: B256::ZERO,
        transactions_root: B256::ZERO,
        receipts_root: B256::ZERO,
        extra_data: Bytes::from(vec![0; 97]),
        base_fee_per_gas: Some(0),
        ..Header::default()
    };
    let expected = b256!("bd3d1fa43fbc4c5bfcc91b179ec92e2861df3654de60468beb908ff805359e8f");
    assert_eq!(clique(0, 0).seal_hash(&header), expected);
}

#[test]
fn every_later_field_of_a_header_is_sealed() {
    let rules = clique(0, 0);
    let plain =
        Header { extra_data: Bytes::from(vec![0; 97]), base_fee_per_gas: Some(7), ..Header::default() };
    let mut fuller = vec![plain.clone()];
    type Change = fn(&mut Header);
    let changes: [Change; 5] = [
        |header| header.withdrawals_root = Some(B256::ZERO),
        |header| header.blob_gas_used = Some(0),
        |header| header.excess_blob_gas = Some(0),
        |header| header.parent_beacon_block_root = Some(B256::ZERO),
        |header| header.requests_hash = Some(B256::ZERO),
    ];
    for change in changes {
        let mut next = fuller.last().unwrap().clone();
        change(&mut next);
        fuller.push(next);
    }
    let mut hashes: Vec<B256> = fuller.iter().map(|header| rules.seal_hash(header)).collect();
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), 6);
}

#[test]
fn equal_weights_are_ordered_as_eip_3436_says() {
    let rules = clique(0, 0);
    let names = ordered(5);
    let (mut headers, blocks) = grow(&rules, &refs(&names), &[]);
    let genesis = &blocks[0];
    // Of the blocks out of turn at number 1 the one is preferred whose sealer was in turn longest ago: index 2, then 3 ..
    let mut heads: Vec<(usize, HeadInfo)> = [2, 3, 4, 0]
        .into_iter()
        .map(|index| (index, headers.insert(sealed(&rules, &headers, genesis, &names[index], None))))
        .collect();
    heads.sort_by(|(_, a), (_, b)| rules.compare(b, a, &headers).unwrap());
    assert_eq!(heads.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [2, 3, 4, 0]);
    // A shorter chain of equal weight is preferred.
    let short = headers.insert(sealed(&rules, &headers, genesis, &names[1], None));
    let long = headers.insert(sealed(&rules, &headers, &heads[0].1, &names[3], None));
    assert_eq!(short.total_difficulty, long.total_difficulty);
    assert_eq!(rules.compare(&short, &long, &headers).unwrap(), Ordering::Greater);
    // Two blocks of one sealer on one parent: the lower hash.
    let mut twin = short.header.clone();
    twin.gas_used = 1;
    reseal(&rules, &mut twin, &names[1]);
    let twin = headers.insert(twin);
    let expected = twin.hash.cmp(&short.hash);
    assert_eq!(rules.compare(&short, &twin, &headers).unwrap(), expected);
}

#[test]
fn a_block_that_nothing_can_follow_is_no_head() {
    let rules = clique(0, 0);
    let names = ordered(5);
    let (mut headers, blocks) = grow(&rules, &refs(&names), &[&names[1]]);
    // The sealer of block 1 seals block 2 as well: go-ethereum takes it (2 < L), and then nothing on it.
    let twice = sealed(&rules, &headers, &blocks[1], &names[1], None);
    rules.verify_header(&twice, &blocks[1], &headers, LATE).unwrap();
    let twice = headers.insert(twice);
    let child = sealed(&rules, &headers, &twice, &names[3], None);
    assert!(rules.verify_header(&child, &twice, &headers, LATE).is_err());
    assert_eq!(rules.compare(&twice, &blocks[1], &headers).unwrap(), Ordering::Less);
    assert_eq!(rules.final_number(&twice, 0, &headers).unwrap(), 0);
    let mut own = Header { number: 2, parent_hash: blocks[1].hash, ..Header::default() };
    let refused = rules.prepare(&mut own, &blocks[1], authority(&names[1]).address(), &headers, 0);
    assert!(matches!(refused, Err(EngineError::MayNotSeal { .. })));
}

#[test]
fn a_block_is_final_under_two_limits_less_one_blocks() {
    let all = ordered(5);
    let round =
        |n: usize, blocks: usize| -> Vec<String> { (1..=blocks).map(|i| all[..n][i % n].clone()).collect() };
    // (authorities, blocks, newest final block): 2 L - 1 is 1, 3, 3, 5, 5.
    for (n, blocks, expected) in [
        (1, 0, 0),
        (1, 4, 4),
        (2, 2, 0),
        (2, 3, 1),
        (2, 7, 5),
        (3, 3, 1),
        (4, 4, 0),
        (4, 9, 5),
        (5, 5, 1),
        (5, 9, 5),
    ] {
        let rules = clique(0, 0);
        let mut names = all[..n].to_vec();
        names.sort_by_key(|name| authority(name).address());
        let (headers, chain) = grow(&rules, &refs(&names), &refs(&round(n, blocks)));
        let number = rules.final_number(chain.last().unwrap(), 0, &headers).unwrap();
        assert_eq!(number, expected, "{n} authorities, {blocks} blocks");
    }
}

#[test]
fn finality_never_goes_back_and_reckons_with_the_largest_set() {
    let rules = clique(0, 0);
    let names = ordered(3);
    let (mut headers, mut chain) = grow(&rules, &[&names[0]], &[&names[0], &names[0]]);
    assert_eq!(rules.final_number(&chain[2], 1, &headers).unwrap(), 2);
    // The lone authority adds a second one: from here on one block is not enough.
    let added = authority(&names[1]).address();
    let vote = sealed(&rules, &headers, &chain[2], &names[0], Some((added, true)));
    chain.push(headers.insert(vote));
    assert_eq!(rules.final_number(&chain[3], 2, &headers).unwrap(), 2);
    for name in [&names[1], &names[0]] {
        let header = sealed(&rules, &headers, chain.last().unwrap(), name, None);
        rules.verify_header(&header, chain.last().unwrap(), &headers, LATE).unwrap();
        chain.push(headers.insert(header));
    }
    assert_eq!(rules.final_number(&chain[4], 2, &headers).unwrap(), 2);
    assert_eq!(rules.final_number(&chain[5], 2, &headers).unwrap(), 3);
    assert_eq!(rules.final_number(&chain[4], 3, &headers).unwrap(), 3);
}

#[test]
fn times_are_a_period_apart_and_at_most_a_second_ahead() {
    for (period_ms, parent, time, now, good) in [
        (2_000, 100, 102, 102, true),
        (2_000, 100, 101, 102, false),
        (2_500, 100, 102, 102, true),
        (999, 100, 100, 100, true),
        (999, 100, 99, 100, false),
        (0, 100, 100, 100, true),
        (0, 100, 101, 100, true),
        (0, 100, 102, 100, false),
        (0, 100, u64::MAX, 100, false),
    ] {
        let rules = clique(0, period_ms);
        let mut genesis = genesis_header(&[authority("A").address()]);
        genesis.timestamp = parent;
        let mut headers = Headers::default();
        let genesis = headers.insert(genesis);
        let mut header = sealed(&rules, &headers, &genesis, "A", None);
        header.timestamp = time;
        reseal(&rules, &mut header, "A");
        let verdict = rules.verify_header(&header, &genesis, &headers, now);
        assert_eq!(verdict.is_ok(), good, "{period_ms} {parent} {time} {now}: {verdict:?}");
    }
}

#[test]
fn what_is_prepared_and_sealed_is_valid() {
    let rules = clique(3, 1_500);
    let names = ordered(3);
    let (mut headers, chain) = grow(&clique(3, 0), &refs(&names), &[]);
    let mut parent = chain[0].clone();
    for (now, number) in (1_000..).zip(1..=12) {
        let mut sealers = 0;
        let mut next = None;
        for name in &names {
            let mut header = Header {
                parent_hash: parent.hash,
                number,
                gas_limit: 8_000_000,
                nonce: B64::repeat_byte(7),
                ..Header::default()
            };
            match rules.prepare(&mut header, &parent, authority(name).address(), &headers, now) {
                Ok(()) => {
                    let size = header.extra_data.len();
                    reseal(&rules, &mut header, name);
                    assert_eq!(header.extra_data.len(), size);
                    rules.verify_header(&header, &parent, &headers, now + 1).unwrap();
                    sealers += 1;
                    next = Some(header);
                }
                Err(EngineError::MayNotSeal { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(sealers, if number == 1 { 3 } else { 2 }, "one of three has signed recently");
        parent = headers.insert(next.unwrap());
    }
}

#[test]
fn a_stranger_may_not_prepare_a_block() {
    let rules = clique(0, 0);
    let (headers, chain) = grow(&rules, &["A"], &[]);
    let mut header = Header { number: 1, parent_hash: chain[0].hash, ..Header::default() };
    let refused = rules.prepare(&mut header, &chain[0], authority("Z").address(), &headers, 0);
    assert!(matches!(refused, Err(EngineError::MayNotSeal { .. })));
}

#[test]
fn a_genesis_without_authorities_is_refused() {
    let rules = clique(0, 0);
    let with = |extra: Vec<u8>| Header { extra_data: Bytes::from(extra), ..Header::default() };
    for size in [0, 31, 32, 64, 96, 97, 98, 116] {
        assert!(rules.verify_genesis(&with(vec![0; size])).is_err(), "{size} bytes");
    }
    rules.verify_genesis(&with(vec![0; 117])).unwrap();
}

#[test]
fn a_kept_snapshot_stands_for_the_headers_before_it() {
    let rules = clique(0, 0);
    let names: Vec<&str> = vec!["A"; 1_030];
    let (mut headers, chain) = grow(&rules, &["A"], &names);
    let at = &chain[1_024];
    let records = rules.records(at, &headers).unwrap();
    assert_eq!(records.len(), 1);
    assert!(rules.records(&chain[1_023], &headers).unwrap().is_empty());
    headers.records.extend(records);
    // A fresh engine that has only the newest headers.
    let mut newest = Headers { records: headers.records.clone(), ..Headers::default() };
    chain[1_024..].iter().for_each(|block| {
        newest.insert(block.header.clone());
    });
    let head = chain.last().unwrap();
    let fresh = clique(0, 0);
    assert_eq!(*fresh.snapshot(head, &newest).unwrap(), *rules.snapshot(head, &headers).unwrap());
    // A record that does not read back is no snapshot.
    newest.records.values_mut().for_each(|record| record.truncate(9));
    assert!(matches!(clique(0, 0).snapshot(head, &newest), Err(EngineError::UnknownAncestor(_))));
}

#[test]
fn a_snapshot_takes_only_the_child_of_its_block() {
    let snapshot = Snapshot::new(0, B256::ZERO, [authority("A").address()]);
    let child = Header { number: 1, ..Header::default() };
    snapshot.apply(&child, B256::ZERO, authority("A").address(), 10).unwrap();
    for wrong in [
        Header { number: 2, ..Header::default() },
        Header { number: 1, parent_hash: B256::repeat_byte(1), ..Header::default() },
        Header { number: 1, nonce: B64::repeat_byte(1), ..Header::default() },
    ] {
        assert!(snapshot.apply(&wrong, B256::ZERO, authority("A").address(), 10).is_err());
    }
    assert!(snapshot.apply(&child, B256::ZERO, authority("B").address(), 10).is_err());
}

/// Names of `n` authorities, in the order of their addresses.
fn ordered(n: usize) -> Vec<String> {
    let mut names: Vec<String> = (0..n).map(|i| format!("authority {i}")).collect();
    names.sort_by_key(|name| authority(name).address());
    names
}

fn refs(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}
