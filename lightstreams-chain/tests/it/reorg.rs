//! Branches: which one is the head, what a change of head takes back, and what the past says afterwards.

use std::sync::{Arc, Mutex};

use alloy_primitives::{Address, B256, Bytes, TxKind, U256, address};
use lightstreams_chain::{
    Ancestry, Block, BlockId, BlockRef, BuildAttributes, Chain, DEV_ACCOUNTS, FeePolicy, HeadChange,
    ImportError, Imported, InvalidBlock, LogFilter, MemoryKv, Options, PoolStatus, StateError, SubmitError,
    testing::NoSeal,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::dev::{AUTHOR, genesis, logger, open, seal, seal_as, send, transfer};

const OTHER: Address = address!("0x00000000000000000000000000000000000000bb");
const NOW: u64 = 4_000_000_000;

fn block(chain: &Chain, number: u64) -> Block {
    chain.block(number.into()).unwrap().unwrap()
}

/// Everything a client can ask of canonical blocks, states and look-ups, account by account.
fn answers(chain: &Chain, accounts: &[Address]) -> Vec<String> {
    let mut answers = Vec::new();
    for number in 0..=chain.head().number() {
        let state = chain.state(number.into()).unwrap();
        let accounts: Vec<_> = accounts.iter().map(|address| state.account(*address).unwrap()).collect();
        let slots: Vec<_> = accounts.iter().flatten().map(|account| account.storage_root).collect();
        let receipts = chain.block_receipts(number.into()).unwrap();
        answers
            .push(format!("{number} {:?} {accounts:?} {slots:?} {receipts:?}", chain.resolve(number.into())));
    }
    let filter = LogFilter {
        from: 0.into(),
        topics: [vec![U256::from(7).into()], vec![], vec![], vec![]],
        ..Default::default()
    };
    answers.push(format!("{:?}", chain.logs(&filter).unwrap()));
    answers
}

#[test]
fn after_any_reorg_a_chain_answers_as_one_that_never_saw_the_other_branch() {
    for seed in 0..6 {
        let mut rng = StdRng::seed_from_u64(seed);
        let chains = [open(genesis(FeePolicy::Market)), open(genesis(FeePolicy::Market))];
        let contract = DEV_ACCOUNTS[9].address.create(0);
        let mut nonces = [[0u64; 10]; 2];
        for (chain, nonces) in chains.iter().zip(&mut nonces) {
            chain.submit(&send(chain, 9, 0, TxKind::Create, U256::ZERO, logger(), 300_000)).unwrap();
            nonces[9] = 1;
            seal(chain);
        }
        let common = rng.random_range(1..4);
        let lengths = [rng.random_range(1..8), rng.random_range(8..12)];
        for height in 0..12 {
            for (side, chain) in chains.iter().enumerate() {
                if height >= common + lengths[side] {
                    continue;
                }
                // Up to the fork both do the same, after it each its own.
                let mut rng = if height < common {
                    StdRng::seed_from_u64(seed * 100 + height)
                } else {
                    StdRng::seed_from_u64(rng.random())
                };
                for _ in 0..rng.random_range(0..4) {
                    let from = rng.random_range(0..9);
                    let nonce = nonces[side][from];
                    nonces[side][from] += 1;
                    let raw = if rng.random_bool(0.5) {
                        send(chain, from, nonce, TxKind::Call(contract), U256::ZERO, Bytes::new(), 60_000)
                    } else {
                        let to = Address::with_last_byte(rng.random_range(0x50..0x58));
                        transfer(chain, from, nonce, to, rng.random_range(0..1000))
                    };
                    chain.submit(&raw).unwrap();
                }
                seal_as(
                    chain,
                    if height < common { AUTHOR } else { Address::with_last_byte(side as u8 + 1) },
                );
            }
        }
        let [short, long] = &chains;
        let mut accounts: Vec<_> = DEV_ACCOUNTS.iter().map(|account| account.address).collect();
        accounts.extend((0x50..0x58).map(Address::with_last_byte));
        accounts.extend([contract, AUTHOR, Address::with_last_byte(1), Address::with_last_byte(2)]);
        let changes = Arc::new(Mutex::new(Vec::<HeadChange>::new()));
        let seen = changes.clone();
        short.observe_head(move |change| seen.lock().unwrap().push(change.clone()));
        let before = short.head();
        for number in 1..=long.head().number() {
            short.import(block(long, number), NOW).unwrap();
        }
        assert_eq!(short.head(), long.head(), "seed {seed}");
        assert_eq!(answers(short, &accounts), answers(long, &accounts), "seed {seed}");
        let changes = changes.lock().unwrap();
        let reorg = changes.iter().find(|change| !change.removed.is_empty()).unwrap();
        assert_eq!(reorg.removed[0], before.block_ref());
        assert_eq!(reorg.removed.len() as u64, before.number() - (reorg.added[0].number - 1));
        assert_eq!(*reorg.added.last().unwrap(), reorg.head.block_ref());
        // Nothing of the short branch is found by number or as a state; by hash it is still known.
        assert!(short.header(before.hash.into()).unwrap().is_some());
        assert!(matches!(short.state(before.hash.into()), Err(StateError::NotKept(_))));
    }
}

#[test]
fn transactions_of_an_abandoned_branch_wait_again() {
    let (a, b) = (open(genesis(FeePolicy::Market)), open(genesis(FeePolicy::Market)));
    let mine = a.submit(&transfer(&a, 0, 0, AUTHOR, 1)).unwrap();
    let both = a.submit(&transfer(&a, 1, 0, AUTHOR, 2)).unwrap();
    seal(&a);
    b.submit(&transfer(&b, 1, 0, AUTHOR, 2)).unwrap();
    seal_as(&b, OTHER);
    seal_as(&b, OTHER);
    a.import(block(&b, 1), NOW).unwrap();
    a.import(block(&b, 2), NOW).unwrap();
    assert_eq!(a.head(), b.head());
    assert_eq!(a.pooled(&mine).unwrap().status, PoolStatus::Pending);
    assert!(a.receipt(&mine).unwrap().is_none());
    assert!(a.pooled(&both).is_none());
    assert_eq!(a.receipt(&both).unwrap().unwrap().transaction.block.number, 1);
    seal(&a);
    assert!(a.receipt(&mine).unwrap().is_some());
}

#[test]
fn a_branch_with_an_invalid_block_leaves_everything_as_it_was() {
    let (a, b) = (open(genesis(FeePolicy::Market)), open(genesis(FeePolicy::Market)));
    seal(&a);
    seal(&a);
    let head = a.head();
    seal_as(&b, OTHER);
    let mut bad = block(&b, 1);
    bad.header.state_root = B256::repeat_byte(1);
    let mut above = Vec::new();
    let mut parent = bad.header.hash_slow();
    seal_as(&b, OTHER);
    seal_as(&b, OTHER);
    for number in 2..=3 {
        let mut next = block(&b, number);
        next.header.parent_hash = parent;
        parent = next.header.hash_slow();
        above.push(next);
    }
    assert!(matches!(a.import(bad.clone(), NOW), Ok(Imported::Side(_))), "not executed yet");
    let first = a.import(above[0].clone(), NOW);
    assert!(matches!(first, Ok(Imported::Side(_)) | Err(ImportError::Invalid { .. })), "{first:?}");
    let error = a.import(above[1].clone(), NOW).unwrap_err();
    let ImportError::Invalid { reason: InvalidBlock::Ancestor(culprit), .. } = error else {
        panic!("{error:?}")
    };
    assert!([bad.header.hash_slow(), above[0].header.hash_slow()].contains(&culprit));
    assert_eq!(a.head(), head);
    assert!(a.header(bad.header.hash_slow().into()).unwrap().is_none(), "an invalid block is forgotten");
    assert!(matches!(a.import(bad, NOW), Err(ImportError::Invalid { .. })), "and remembered as invalid");
    seal(&a);
}

#[test]
fn a_block_with_the_wrong_body_does_not_bar_the_right_one() {
    let (a, b) = (open(genesis(FeePolicy::Market)), open(genesis(FeePolicy::Market)));
    a.submit(&transfer(&a, 0, 0, AUTHOR, 1)).unwrap();
    seal(&a);
    let right = block(&a, 1);
    let mut wrong = right.clone();
    wrong.body.transactions.clear();
    assert!(matches!(
        b.import(wrong, NOW),
        Err(ImportError::Invalid { reason: InvalidBlock::Body { .. }, .. })
    ));
    assert!(matches!(b.import(right.clone(), NOW), Ok(Imported::Head(_))));
    assert!(matches!(b.import(right, NOW), Ok(Imported::Known(_))));
}

#[test]
fn a_final_block_stays_final_and_a_reorg_below_it_is_seen() {
    let engine = NoSeal { finality_depth: 3, ..NoSeal::default() };
    let open =
        || Chain::open(genesis(FeePolicy::Market), Arc::new(MemoryKv::default()), Arc::new(engine)).unwrap();
    let (a, b) = (open(), open());
    for _ in 0..5 {
        seal(&a);
    }
    assert_eq!(a.final_block().number, 3);
    assert_eq!(a.resolve(BlockId::Final).unwrap(), Some(a.final_block()));
    assert!(a.final_is_canonical().unwrap());
    for _ in 0..6 {
        seal_as(&b, OTHER);
    }
    let was = a.final_block();
    for number in 1..=5 {
        let _ = a.import(block(&b, number), NOW).unwrap();
        assert_eq!(a.final_block().number, 3, "it does not go back");
    }
    a.import(block(&b, 6), NOW).unwrap();
    assert_eq!(a.head(), b.head());
    assert_eq!(a.final_block(), BlockRef { number: 4, ..b.final_block() });
    assert_ne!(a.canonical_hash(3).unwrap(), Some(was.hash));
}

#[test]
fn states_are_kept_as_long_as_the_options_say_and_no_reorg_goes_deeper() {
    let options = Options { state_history: 1, ..Options::default() };
    let chain = Chain::open_with(
        genesis(FeePolicy::Market),
        Arc::new(MemoryKv::default()),
        Arc::new(NoSeal::default()),
        options,
    )
    .unwrap();
    let long = open(genesis(FeePolicy::Market));
    for nonce in 0..140 {
        chain.submit(&transfer(&chain, 0, nonce, AUTHOR, 1)).unwrap();
        seal(&chain);
        seal_as(&long, OTHER);
    }
    assert_eq!(chain.oldest_state(), 12, "at least 128, whatever was asked");
    assert_eq!(chain.state(12.into()).unwrap().nonce(DEV_ACCOUNTS[0].address).unwrap(), 12);
    assert!(matches!(chain.state(11.into()), Err(StateError::NotKept(11))));
    let head = chain.head();
    for _ in 0..10 {
        seal_as(&long, OTHER);
    }
    let mut result = Ok(());
    for number in 1..=long.head().number() {
        result = chain.import(block(&long, number), NOW).map(|_| ());
        if result.is_err() {
            break;
        }
    }
    assert!(matches!(result, Err(ImportError::TooDeep { fork: 0, .. })), "{result:?}");
    assert_eq!(chain.head(), head);
}

#[test]
fn side_blocks_go_when_no_branch_can_start_from_them_any_more() {
    let options = Options { state_history: 128, ..Options::default() };
    let kv = Arc::new(MemoryKv::default());
    let chain =
        Chain::open_with(genesis(FeePolicy::Market), kv, Arc::new(NoSeal::default()), options).unwrap();
    let other = open(genesis(FeePolicy::Market));
    let side = seal_as(&other, OTHER);
    seal(&chain);
    seal(&chain);
    assert!(matches!(chain.import(block(&other, 1), NOW), Ok(Imported::Side(_))));
    for _ in 0..126 {
        seal(&chain);
    }
    assert!(chain.block(side.hash.into()).unwrap().is_some(), "128 blocks back it could still win");
    seal(&chain);
    assert!(chain.block(side.hash.into()).unwrap().is_none());
    assert!(chain.resolve(side.hash.into()).unwrap().is_none());
    assert!(matches!(chain.import(block(&other, 1), NOW), Err(ImportError::TooDeep { .. })));
}

#[test]
fn a_block_that_is_not_ready_is_told_from_one_that_is_wrong() {
    let (a, b) = (open(genesis(FeePolicy::Market)), open(genesis(FeePolicy::Market)));
    seal(&a);
    seal(&a);
    assert!(matches!(b.import(block(&a, 2), NOW), Err(ImportError::UnknownParent(_))));
    let early = block(&a, 1).header.timestamp - 2;
    assert!(matches!(b.import(block(&a, 1), early), Err(ImportError::Future { .. })));
    b.import(block(&a, 1), NOW).unwrap();
    b.import(block(&a, 2), NOW).unwrap();
    assert_eq!(a.head(), b.head());
}

#[test]
fn a_block_is_built_on_the_head_only_and_executes_as_it_was_built() {
    let (a, b) = (open(genesis(FeePolicy::Market)), open(genesis(FeePolicy::Market)));
    a.submit(&transfer(&a, 0, 0, AUTHOR, 1)).unwrap();
    let attributes =
        BuildAttributes { parent: a.head().hash, author: AUTHOR, now: NOW, with_transactions: true };
    let built = a.build(&attributes).unwrap();
    assert_eq!(built.body.transactions.len(), 1);
    // The builder takes what it executed; another executes it anew.
    for chain in [&a, &b] {
        assert!(matches!(chain.import(built.clone(), NOW), Ok(Imported::Head(_))));
    }
    assert_eq!(answers(&a, &[AUTHOR]), answers(&b, &[AUTHOR]));
    assert!(a.build(&attributes).is_err(), "the head moved on");
    // A block that says it was built here but is another is executed for itself.
    let attributes = BuildAttributes { parent: a.head().hash, ..attributes };
    let mut changed = a.build(&attributes).unwrap();
    changed.header.beneficiary = OTHER;
    changed.header.gas_used += 1;
    assert!(matches!(a.import(changed, NOW), Err(ImportError::Invalid { .. })));
    assert!(matches!(
        a.submit(&transfer(&a, 0, 0, AUTHOR, 1)),
        Err(SubmitError::NonceTooLow { next: 1, given: 0 })
    ));
}
