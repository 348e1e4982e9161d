//! The pool takes what can run, says why not, and stays within its bounds.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use alloy_consensus::{SignableTransaction, TxEip1559, TxEip2930, TxLegacy};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, Bytes, TxKind, U256};
use lightstreams_chain::{
    Chain, DEV_ACCOUNTS, FeePolicy, LocalSigner, MemoryKv, Options, PoolLimits, PoolStatus, SubmitError,
    testing::NoSeal,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::dev::{AUTHOR, genesis, open, seal};

fn priced(nonce: u64, fee: u128, tip: u128) -> TxEip1559 {
    TxEip1559 {
        chain_id: 161,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: fee,
        max_priority_fee_per_gas: tip,
        to: TxKind::Call(AUTHOR),
        ..Default::default()
    }
}

fn signed(
    from: usize,
    tx: impl SignableTransaction<alloy_primitives::Signature> + Into<alloy_consensus::TypedTransaction> + Clone,
) -> Bytes {
    let signer = DEV_ACCOUNTS[from].signer().unwrap();
    let signature = signer.sign_digest(tx.signature_hash()).unwrap();
    let envelope: alloy_consensus::TxEnvelope = tx.into().into_signed(signature).into();
    envelope.encoded_2718().into()
}

const GWEI: u128 = 1_000_000_000;

fn with_limits(limits: PoolLimits) -> Chain {
    let options = Options { pool: limits, ..Options::default() };
    Chain::open_with(
        genesis(FeePolicy::Market),
        Arc::new(MemoryKv::default()),
        Arc::new(NoSeal::default()),
        options,
    )
    .unwrap()
}

#[test]
fn a_gap_queues_what_comes_after_it_until_it_is_closed() {
    let chain = open(genesis(FeePolicy::Market));
    let taken = Arc::new(AtomicUsize::new(0));
    let count = taken.clone();
    chain.observe_pool(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let late = chain.submit(&signed(0, priced(2, 3 * GWEI, GWEI))).unwrap();
    chain.submit(&signed(0, priced(0, 3 * GWEI, GWEI))).unwrap();
    assert_eq!(chain.pooled(&late).unwrap().status, PoolStatus::Queued { missing_nonce: 1 });
    assert_eq!(chain.pool_size(), (1, 1));
    assert_eq!(chain.next_nonce(DEV_ACCOUNTS[0].address).unwrap(), 1);
    seal(&chain);
    assert_eq!(chain.pool_size(), (0, 1), "what waits for a nonce is not in a block");
    chain.submit(&signed(0, priced(1, 3 * GWEI, GWEI))).unwrap();
    assert_eq!(chain.pooled(&late).unwrap().status, PoolStatus::Pending);
    assert_eq!(chain.pool_content().len(), 2);
    seal(&chain);
    assert_eq!(chain.pool_size(), (0, 0));
    assert_eq!(chain.next_nonce(DEV_ACCOUNTS[0].address).unwrap(), 3);
    assert_eq!(taken.load(Ordering::SeqCst), 3);
}

#[test]
fn what_can_never_run_is_refused_with_the_reason() {
    let chain = open(genesis(FeePolicy::Market));
    #[track_caller]
    fn refused(chain: &Chain, raw: &[u8], expected: fn(&SubmitError) -> bool) {
        let error = chain.submit(raw).unwrap_err();
        assert!(expected(&error), "{error:?}");
        assert_eq!(chain.pool_size(), (0, 0));
    }
    let base = priced(0, 3 * GWEI, GWEI);
    let good = signed(0, base.clone());
    for cut in 0..good.len() {
        refused(&chain, &good[..cut], |error| matches!(error, SubmitError::Decode(_)));
    }
    refused(&chain, &[&good[..], &[0]].concat(), |error| matches!(error, SubmitError::Decode(_)));
    refused(&chain, &vec![0; 200_000], |error| matches!(error, SubmitError::TooLarge { .. }));
    refused(&chain, &signed(0, TxEip1559 { chain_id: 1, ..base.clone() }), |error| {
        matches!(error, SubmitError::ChainId { expected: 161, .. })
    });
    let unprotected =
        TxLegacy { gas_price: GWEI, gas_limit: 21_000, to: TxKind::Call(AUTHOR), ..Default::default() };
    refused(&chain, &signed(0, unprotected), |error| matches!(error, SubmitError::ChainId { .. }));
    refused(&chain, &signed(0, TxEip1559 { gas_limit: 20_999, ..base.clone() }), |error| {
        matches!(error, SubmitError::IntrinsicGas { needed: 21_000, .. })
    });
    refused(&chain, &signed(0, TxEip1559 { gas_limit: 17_000_000, ..base.clone() }), |error| {
        matches!(error, SubmitError::GasLimit { limit: 16_777_216, .. })
    });
    refused(&chain, &signed(0, priced(0, GWEI, 2 * GWEI)), |error| matches!(error, SubmitError::TipAboveCap));
    refused(&chain, &signed(0, TxEip1559 { nonce: 64, ..base.clone() }), |error| {
        matches!(error, SubmitError::NonceTooHigh { next: 0, given: 64 })
    });
    refused(&chain, &signed(0, TxEip1559 { value: U256::MAX, ..base.clone() }), |error| {
        matches!(error, SubmitError::Funds { .. })
    });
    let init =
        TxEip1559 { to: TxKind::Create, input: vec![0; 49_153].into(), gas_limit: 5_000_000, ..base.clone() };
    refused(&chain, &signed(0, init), |error| matches!(error, SubmitError::InitCode { .. }));
    // A stranger's signature recovers to some account, which has nothing.
    let stranger = LocalSigner::from_bytes(&[7; 32]).unwrap().sign_raw_transaction(base.clone()).unwrap();
    refused(&chain, &stranger, |error| matches!(error, SubmitError::Funds { .. }));

    let hash = chain.submit(&good).unwrap();
    assert!(matches!(chain.submit(&good), Err(SubmitError::Known(known)) if known == hash));
    let fixed = open(genesis(FeePolicy::Fixed { base_fee: 5 }));
    refused(&fixed, &signed(0, priced(0, 4, 0)), |error| {
        matches!(error, SubmitError::Underpriced { needed: 5, .. })
    });
    fixed.submit(&signed(0, priced(0, 5, 0))).unwrap();
    let free = open(genesis(FeePolicy::Zero));
    let hash = free.submit(&signed(0, priced(0, 0, 0))).unwrap();
    seal(&free);
    assert!(free.receipt(&hash).unwrap().is_some(), "where gas is free a transaction may pay nothing");
}

#[test]
fn random_bytes_are_refused_without_a_panic() {
    let chain = open(genesis(FeePolicy::Market));
    let mut rng = StdRng::seed_from_u64(1);
    let good = signed(
        0,
        TxEip2930 {
            chain_id: 161,
            gas_price: GWEI,
            gas_limit: 30_000,
            to: TxKind::Call(AUTHOR),
            ..Default::default()
        },
    );
    for _ in 0..5_000 {
        let mut bytes = good.to_vec();
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(0..bytes.len());
            bytes[at] = rng.random();
        }
        let _ = chain.submit(&bytes);
        let noise: Vec<u8> = (0..rng.random_range(0..200)).map(|_| rng.random()).collect();
        assert!(chain.submit(&noise).is_err());
    }
}

#[test]
fn a_replacement_offers_a_tenth_more() {
    let chain = open(genesis(FeePolicy::Market));
    let old = chain.submit(&signed(0, priced(0, 100 * GWEI, 10 * GWEI))).unwrap();
    for (fee, tip) in [(100, 10), (109, 11), (110, 10), (200, 10)] {
        let raw = signed(0, TxEip1559 { value: U256::ONE, ..priced(0, fee * GWEI, tip * GWEI) });
        assert!(matches!(chain.submit(&raw), Err(SubmitError::Replacement)), "{fee} {tip}");
    }
    let new = chain.submit(&signed(0, priced(0, 110 * GWEI, 11 * GWEI))).unwrap();
    assert!(chain.pooled(&old).is_none());
    assert_eq!(chain.pool_size(), (1, 0));
    seal(&chain);
    assert!(chain.receipt(&new).unwrap().is_some());
}

#[test]
fn a_full_pool_makes_room_for_who_pays_better() {
    let chain = with_limits(PoolLimits {
        pending_max: 3,
        queued_max: 1,
        per_account_max: 2,
        ..PoolLimits::default()
    });
    chain.submit(&signed(0, priced(0, 3 * GWEI, GWEI))).unwrap();
    let cheap = chain.submit(&signed(0, priced(1, 2 * GWEI, GWEI))).unwrap();
    chain.submit(&signed(1, priced(0, 4 * GWEI, GWEI))).unwrap();
    assert!(matches!(chain.submit(&signed(2, priced(0, 2 * GWEI, GWEI))), Err(SubmitError::Full)));
    let better = chain.submit(&signed(2, priced(0, 5 * GWEI, GWEI))).unwrap();
    assert!(chain.pooled(&cheap).is_none() && chain.pooled(&better).is_some());
    assert_eq!(chain.pool_size(), (3, 0));
    assert!(matches!(
        chain.submit(&signed(0, priced(2, 9 * GWEI, GWEI))),
        Err(SubmitError::NonceTooHigh { .. })
    ));
    chain.submit(&signed(3, priced(1, 9 * GWEI, GWEI))).unwrap();
    assert!(
        matches!(chain.submit(&signed(4, priced(1, 9 * GWEI, GWEI))), Err(SubmitError::Full)),
        "the queue is full"
    );
    assert_eq!(chain.pool_size(), (3, 1));
}

#[test]
fn a_block_takes_the_best_paying_first_and_each_account_in_order() {
    let chain = open(genesis(FeePolicy::Market));
    for (from, nonce, tip) in [(0, 0, 1), (0, 1, 9), (1, 0, 5), (2, 0, 3)] {
        chain.submit(&signed(from, priced(nonce, 20 * GWEI, tip * GWEI))).unwrap();
    }
    // Below the base fee: it waits.
    let poor = chain.submit(&signed(3, priced(0, GWEI / 2, 1))).unwrap();
    let head = seal(&chain);
    let senders = chain.senders(head.hash.into()).unwrap().unwrap();
    let place = |n: usize| DEV_ACCOUNTS[n].address;
    assert_eq!(senders, [place(1), place(2), place(0), place(0)]);
    assert_eq!(chain.pooled(&poor).unwrap().status, PoolStatus::Pending);
}

#[test]
fn what_an_account_can_no_longer_pay_for_leaves_the_pool() {
    let chain = open(genesis(FeePolicy::Market));
    let balance = chain.state(Default::default()).unwrap().balance(DEV_ACCOUNTS[0].address).unwrap();
    let most = TxEip1559 { value: balance / U256::from(10) * U256::from(9), ..priced(0, 3 * GWEI, GWEI) };
    chain.submit(&signed(0, most.clone())).unwrap();
    let both = TxEip1559 { nonce: 1, ..most };
    assert!(
        matches!(chain.submit(&signed(0, both)), Err(SubmitError::Funds { .. })),
        "both together are too much"
    );
    let later = TxEip1559 { nonce: 1, value: balance / U256::from(20), ..priced(1, 3 * GWEI, GWEI) };
    chain.submit(&signed(0, later)).unwrap();
    seal(&chain);
    assert_eq!(chain.pool_size(), (0, 0));
    let left = chain.state(Default::default()).unwrap().balance(DEV_ACCOUNTS[0].address).unwrap();
    assert!(left < balance / U256::from(10) && left > U256::ZERO);
    let _ = Address::ZERO;
}
