//! Contracts of native code: the same for every node that has them, no contract for one that has not, and from their block on.

use std::sync::Arc;

use alloy_primitives::{Address, Bytes, TxKind, U256, address, bytes};
use lightstreams_chain::{
    BlockId, CallOutcome, CallRequest, Chain, FeePolicy, ImportError, InvalidBlock, MemoryKv, NativeCall,
    NativeContract, NativeError, NativeOutput, OpenError, Options, testing::NoSeal,
};

use crate::dev::{genesis, seal, send};

const PLACE: Address = address!("0x0000000000000000000000000000000000010000");
const CALLER: Address = Address::repeat_byte(0xca);

/// Adds the bytes that it is sent, for 100 gas, from block `first` on; two of them are trouble.
#[derive(Debug)]
struct Sum {
    place: Address,
    first: u64,
}

impl NativeContract for Sum {
    fn address(&self) -> Address {
        self.place
    }

    fn first_block(&self) -> u64 {
        self.first
    }

    fn run(&self, call: &NativeCall<'_>) -> Result<NativeOutput, NativeError> {
        let sum = call.input.iter().map(|byte| u64::from(*byte)).sum::<u64>();
        let word = U256::from(sum + call.block_number).to_be_bytes::<32>();
        let output = |gas_used| NativeOutput { gas_used, output: word.into() };
        match sum {
            0xfe => Err(NativeError::Revert(output(50))),
            0xff => Err(NativeError::OutOfGas),
            _ => Ok(output(100)),
        }
    }
}

fn open(natives: Vec<Arc<dyn NativeContract>>) -> Result<Chain, OpenError> {
    let mut genesis = genesis(FeePolicy::Market);
    // Calls it with its own input, stores how that ended at slot 1, and at slot 0 the answer, or the input if there is none.
    let code = bytes!(
        "365f5f37" // CALLDATACOPY(0, 0, CALLDATASIZE)
        "60205f365f5f6201000061fffff1" // CALL(0xffff, PLACE, 0, 0, CALLDATASIZE, 0, 32)
        "6001555f515f5500" // SSTORE(1, success), SSTORE(0, MLOAD(0)), STOP
    );
    let init =
        [&[0x60, code.len() as u8, 0x60, 10, 0x5f, 0x39, 0x60, code.len() as u8, 0x5f, 0xf3], &code[..]];
    genesis.predeploy(CALLER, init.concat().into(), Address::ZERO).unwrap();
    let options = Options { natives, ..Options::default() };
    Chain::open_with(genesis, Arc::new(MemoryKv::default()), Arc::new(NoSeal::default()), options)
}

fn sum(first: u64) -> Arc<dyn NativeContract> {
    Arc::new(Sum { place: PLACE, first })
}

/// The answer, and whether the call succeeded.
fn stored(chain: &Chain) -> (U256, bool) {
    let state = chain.state(BlockId::Latest).unwrap();
    let [answer, success] = [0, 1].map(|slot| state.storage(CALLER, U256::from(slot)).unwrap());
    (answer, !success.is_zero())
}

#[test]
fn nodes_that_have_it_agree_and_one_that_has_not_does_not() {
    let [sealing, following] = [(); 2].map(|()| open(vec![sum(2)]).unwrap());
    let other = open(Vec::new()).unwrap();
    let mut nonce = 0;
    let mut call = |input: Bytes| {
        sealing.submit(&send(&sealing, 0, nonce, TxKind::Call(CALLER), U256::ZERO, input, 200_000)).unwrap();
        nonce += 1;
        seal(&sealing);
        let block = sealing.block(BlockId::Latest).unwrap().unwrap();
        following.import(block.clone(), block.header.timestamp).unwrap();
        assert_eq!(following.head(), sealing.head());
        block
    };
    let first = call(bytes!("0102"));
    assert_eq!(stored(&sealing), (U256::from(0x0102) << 240, true), "nobody is there yet");
    other.import(first.clone(), first.header.timestamp).unwrap();

    let second = call(bytes!("0102"));
    assert_eq!(stored(&sealing), (U256::from(3 + 2), true));
    match other.import(second.clone(), second.header.timestamp) {
        Err(ImportError::Invalid { reason: InvalidBlock::Mismatch { .. }, .. }) => {}
        outcome => panic!("{outcome:?}"),
    }
    call(bytes!("fe"));
    assert_eq!(stored(&sealing), (U256::from(0xfe + 3), false), "a revert has an answer");
    call(bytes!("ff"));
    assert_eq!(stored(&sealing), (U256::from(0xff) << 248, false));
}

#[test]
fn calls_pay_what_it_asks_and_get_what_it_says() {
    let chain = open(vec![sum(0)]).unwrap();
    let outcome = |input: Bytes, gas: u64| {
        let request = CallRequest { gas: Some(gas), ..CallRequest::new(PLACE, input) };
        chain.call(BlockId::Latest, &request).unwrap()
    };
    // 21,000, 16 for a byte that is not zero, and its own 100.
    let CallOutcome::Success { output, gas_used, .. } = outcome(bytes!("07"), 50_000) else { panic!() };
    assert_eq!((U256::from_be_slice(&output), gas_used), (U256::from(7), 21_116));
    let CallOutcome::Revert { output, gas_used } = outcome(bytes!("fe"), 50_000) else { panic!() };
    assert_eq!((U256::from_be_slice(&output), gas_used), (U256::from(0xfe), 21_066));
    let CallOutcome::Halt { gas_used, .. } = outcome(bytes!("ff"), 50_000) else { panic!() };
    assert_eq!(gas_used, 50_000);
    // What it says it used is more than it was given.
    let CallOutcome::Halt { gas_used, .. } = outcome(bytes!("07"), 21_115) else { panic!() };
    assert_eq!(gas_used, 21_115);
}

#[test]
fn two_at_one_address_and_one_where_ethereum_has_its_own_are_refused() {
    let precompile =
        Arc::new(Sum { place: address!("0x0000000000000000000000000000000000000100"), first: 0 });
    for natives in [vec![sum(0), sum(5)], vec![precompile as Arc<dyn NativeContract>]] {
        match open(natives).map(drop) {
            Err(OpenError::Native { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}
