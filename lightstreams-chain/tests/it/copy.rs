//! A copy is the chain as one moment saw it, and goes on from there.

use std::sync::Arc;

use lightstreams_chain::{
    BlockId, Chain, DEV_ACCOUNTS, FeePolicy, Kv, MemoryKv, Options, SnapshotError, SnapshotInfo, StateError,
    Table, check, testing::NoSeal,
};

use crate::dev::{AUTHOR, genesis, seal, transfer};

fn open(kv: &Arc<MemoryKv>, state_history: u64) -> Chain {
    let options = Options { state_history, ..Options::default() };
    Chain::open_with(genesis(FeePolicy::Zero), kv.clone(), Arc::new(NoSeal::default()), options).unwrap()
}

fn grow(chain: &Chain, blocks: u64) {
    for _ in 0..blocks {
        let nonce = chain.next_nonce(DEV_ACCOUNTS[0].address).unwrap();
        chain.submit(&transfer(chain, 0, nonce, AUTHOR, 1)).unwrap();
        seal(chain);
    }
}

fn copy(chain: &Chain, to: &dyn Kv, mut each: impl FnMut()) -> Result<SnapshotInfo, SnapshotError> {
    chain.copy_to(to, &mut |_, _| each())
}

#[test]
fn a_copy_made_while_blocks_come_is_sound_and_goes_on_by_itself() {
    let chain = open(&Arc::default(), 1_024);
    grow(&chain, 5);
    let head = chain.head();
    let other = Arc::new(MemoryKv::default());
    let mut grown = false;
    let info = copy(&chain, other.as_ref(), || {
        // In the middle of the copy.
        if !std::mem::replace(&mut grown, true) {
            grow(&chain, 3);
        }
    })
    .unwrap();
    assert_eq!(chain.head().number(), 8);
    assert_eq!((info.head, info.state_root), (head.block_ref(), head.header.state_root));
    assert_eq!((info.genesis, info.oldest_state), (chain.genesis_hash(), 0));
    let report = check(other.as_ref(), chain.genesis(), &NoSeal::default(), true, &mut |_| ());
    assert!(report.is_sound(), "{:?}", report.findings);
    let twin = open(&other, 1_024);
    assert_eq!(twin.head(), head);
    for number in 6..=8u64 {
        twin.import(chain.block(number.into()).unwrap().unwrap(), 4_000_000_000).unwrap();
    }
    assert_eq!(twin.head(), chain.head());
    assert_eq!(
        twin.state(BlockId::Latest).unwrap().balance(AUTHOR).unwrap(),
        chain.state(BlockId::Latest).unwrap().balance(AUTHOR).unwrap()
    );
}

#[test]
fn a_copy_into_a_database_that_holds_something_is_refused() {
    let chain = open(&Arc::default(), 1_024);
    let other = MemoryKv::default();
    copy(&chain, &other, || ()).unwrap();
    assert!(matches!(copy(&chain, &other, || ()), Err(SnapshotError::NotEmpty(Table::Meta))));
}

#[test]
fn states_are_kept_as_the_options_say_and_what_is_gone_is_said() {
    let kv = Arc::new(MemoryKv::default());
    let chain = open(&kv, Options::ALL_STATES);
    grow(&chain, 300);
    assert_eq!(chain.oldest_state(), 0);
    chain.state(0.into()).unwrap();
    drop(chain);
    // Fewer: they go bit by bit, and what is said to be there is there, after a restart too.
    let mut chain = open(&kv, 128);
    for (blocks, oldest) in [(1, 64), (1, 128), (1, 175), (1, 176)] {
        grow(&chain, blocks);
        assert_eq!(chain.oldest_state(), oldest);
        chain = open(&kv, 128);
        assert_eq!(chain.oldest_state(), oldest);
        assert!(matches!(chain.state((oldest - 1).into()), Err(StateError::NotKept(_))));
        let state = chain.state(oldest.into()).unwrap();
        assert_eq!(state.nonce(DEV_ACCOUNTS[0].address).unwrap(), oldest, "one transaction in each block");
        let root = chain.header(oldest.into()).unwrap().unwrap().header.state_root;
        state.proof(AUTHOR, &[]).unwrap().verify(root).unwrap();
    }
    drop(chain);
    // More again: what is gone stays gone, the rest is kept from now on.
    let chain = open(&kv, Options::ALL_STATES);
    grow(&chain, 3);
    assert_eq!(chain.oldest_state(), 176);
    let report = check(kv.as_ref(), chain.genesis(), &NoSeal::default(), true, &mut |_| ());
    assert!(report.is_sound(), "{:?}", report.findings);
    assert_eq!(report.states, chain.head().number() - 176);
}
