//! A chain of one process: building, calling, reading back.

use std::sync::Arc;

use alloy_consensus::TxEip1559;
use alloy_primitives::{Address, Bytes, TxKind, U256, address, bytes};
use lightstreams_chain::{
    BlockId, BuildAttributes, CallOutcome, CallRequest, Chain, DEV_ACCOUNTS, EngineKind, EngineSwitch,
    FeePolicy, Genesis, HeadInfo, Imported, LogFilter, MemoryKv, NetworkConfig, testing::NoSeal,
};

pub(crate) const AUTHOR: Address = address!("0x00000000000000000000000000000000000000aa");

pub(crate) fn network(fee_policy: FeePolicy) -> NetworkConfig {
    NetworkConfig {
        engines: vec![EngineSwitch { at: 0, engine: EngineKind::Dev }],
        block_period_ms: 0,
        empty_block_ms: None,
        fee_policy,
        fee_recipient: None,
        contracts: Default::default(),
    }
}

pub(crate) fn genesis(fee_policy: FeePolicy) -> Genesis {
    let mut genesis = Genesis::for_network(161, network(fee_policy), Bytes::new(), 1_700_000_000).unwrap();
    for account in DEV_ACCOUNTS.iter() {
        genesis.fund(account.address, U256::from(10).pow(U256::from(21)));
    }
    genesis
}

pub(crate) fn open(genesis: Genesis) -> Chain {
    Chain::open(genesis, Arc::new(MemoryKv::default()), Arc::new(NoSeal::default())).unwrap()
}

/// Builds a block of what waits, and imports it.
#[track_caller]
pub(crate) fn seal(chain: &Chain) -> HeadInfo {
    seal_as(chain, AUTHOR)
}

#[track_caller]
pub(crate) fn seal_as(chain: &Chain, author: Address) -> HeadInfo {
    let head = chain.head();
    let now = head.header.timestamp + 1;
    let attributes = BuildAttributes { parent: head.hash, author, now, with_transactions: true };
    let block = chain.build(&attributes).unwrap();
    match chain.import(block, now).unwrap() {
        Imported::Head(change) => change.head,
        other => panic!("a block built on the head is not the head: {other:?}"),
    }
}

pub(crate) fn transfer(chain: &Chain, from: usize, nonce: u64, to: Address, wei: u64) -> Bytes {
    send(chain, from, nonce, TxKind::Call(to), U256::from(wei), Bytes::new(), 21_000)
}

pub(crate) fn send(
    chain: &Chain,
    from: usize,
    nonce: u64,
    to: TxKind,
    value: U256,
    input: Bytes,
    gas_limit: u64,
) -> Bytes {
    let tx = TxEip1559 {
        chain_id: chain.chain_id(),
        nonce,
        gas_limit,
        max_fee_per_gas: 3_000_000_000,
        max_priority_fee_per_gas: 1_000_000_000,
        to,
        value,
        input,
        ..Default::default()
    };
    DEV_ACCOUNTS[from].signer().unwrap().sign_raw_transaction(tx).unwrap()
}

#[test]
fn a_transfer_moves_wei_and_pays_its_fee() {
    let chain = open(genesis(FeePolicy::Market));
    let to = address!("0x00000000000000000000000000000000000000b0");
    let before = chain.state(BlockId::Latest).unwrap().balance(DEV_ACCOUNTS[0].address).unwrap();
    let hash = chain.submit(&transfer(&chain, 0, 0, to, 7)).unwrap();
    assert_eq!(chain.pool_size(), (1, 0));
    let head = seal(&chain);
    assert_eq!(chain.pool_size(), (0, 0));
    let receipt = chain.receipt(&hash).unwrap().unwrap();
    assert_eq!(receipt.gas_used, 21_000);
    assert_eq!(receipt.transaction.block, head.block_ref());
    let state = chain.state(BlockId::Latest).unwrap();
    assert_eq!(state.balance(to).unwrap(), U256::from(7));
    let base = u128::from(head.header.base_fee_per_gas.unwrap());
    assert_eq!(receipt.effective_gas_price, base + 1_000_000_000);
    assert_eq!(
        state.balance(AUTHOR).unwrap(),
        U256::from(21_000u64 * 1_000_000_000),
        "the tip, not the base fee"
    );
    let paid = U256::from(7) + U256::from(21_000) * U256::from(receipt.effective_gas_price);
    assert_eq!(state.balance(DEV_ACCOUNTS[0].address).unwrap(), before - paid);
    assert_eq!(chain.state(0.into()).unwrap().balance(to).unwrap(), U256::ZERO, "the state before is kept");
}

/// Stores 42 in slot 1 when made; called, it logs the value of slot 1 under topic 7 and returns it.
pub(crate) fn logger() -> Bytes {
    // SLOAD(1), MSTORE at 0, LOG1 of 32 bytes, RETURN of 32 bytes
    let runtime = bytes!("6001545f52600760205fa160205ff3");
    let size = runtime.len() as u8;
    // SSTORE(1, 42), CODECOPY of what follows, RETURN of it
    let constructor =
        [&bytes!("602a600155")[..], &[0x60, size, 0x60, 15, 0x5f, 0x39, 0x60, size, 0x5f, 0xf3]];
    [constructor.concat().as_slice(), &runtime].concat().into()
}

#[test]
fn a_contract_is_made_called_and_its_logs_are_found() {
    let chain = open(genesis(FeePolicy::Zero));
    let raw = send(&chain, 0, 0, TxKind::Create, U256::ZERO, logger(), 200_000);
    let hash = chain.submit(&raw).unwrap();
    seal(&chain);
    let contract = chain.receipt(&hash).unwrap().unwrap().contract_address.unwrap();
    let outcome = chain.call(BlockId::Latest, &CallRequest::new(contract, Bytes::new())).unwrap();
    let CallOutcome::Success { output, logs, .. } = &outcome else { panic!("{outcome:?}") };
    assert_eq!(U256::from_be_slice(output), U256::from(42));
    assert_eq!(logs.len(), 1);
    assert_eq!(chain.state(BlockId::Latest).unwrap().storage(contract, U256::ONE).unwrap(), U256::from(42));

    let gas = chain.estimate_gas(BlockId::Latest, &CallRequest::new(contract, Bytes::new())).unwrap();
    assert!((21_000..30_000).contains(&gas), "{gas}");
    chain.submit(&send(&chain, 1, 0, TxKind::Call(contract), U256::ZERO, Bytes::new(), gas)).unwrap();
    let head = seal(&chain);
    assert!(chain.receipts(BlockId::Latest).unwrap().unwrap()[0].status(), "the estimate is enough");

    let mut filter = LogFilter { from: 0.into(), addresses: vec![contract], ..Default::default() };
    let found = chain.logs(&filter).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].block, head.block_ref());
    filter.topics[0] = vec![U256::from(7).into()];
    assert_eq!(chain.logs(&filter).unwrap(), found);
    filter.topics[0] = vec![U256::from(8).into()];
    assert_eq!(chain.logs(&filter).unwrap(), []);
}
