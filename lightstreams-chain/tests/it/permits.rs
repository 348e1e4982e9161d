//! What blocks may hold is for the engine to say: nothing of proof of work and of stake under proof of authority, all of it
//! under the engine for tests, and no bytes are a block but a block's.

use std::sync::Arc;

use alloy_consensus::{Header, SignableTransaction, TxEip4844, proofs};
use alloy_eips::{
    eip4788::{BEACON_ROOTS_ADDRESS, BEACON_ROOTS_CODE},
    eip4895::Withdrawal,
    eip7002::{WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS, WITHDRAWAL_REQUEST_PREDEPLOY_CODE},
    eip7251::{CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS, CONSOLIDATION_REQUEST_PREDEPLOY_CODE},
    eip7685::{EMPTY_REQUESTS_HASH, Requests},
    eip7840::BlobParams,
};
use alloy_genesis::GenesisAccount;
use alloy_primitives::{Address, B256, Signature, TxKind, U256, address, bytes};
use lightstreams_chain::{
    Block, BlockId, BuildAttributes, BuildError, Chain, DEV_ACCOUNTS, FeePolicy, Genesis, ImportError,
    InvalidBlock, MemoryKv, testing::Ethash,
};

use crate::dev::{AUTHOR, genesis, open, seal, send, transfer};

const DEPOSITS: Address = address!("0x00000000219ab540356cbb839cbe05303d7705fa");

/// The block that `chain` would seal now, a second after its head.
fn next(chain: &Chain) -> Block {
    let head = chain.head();
    let now = head.header.timestamp + 1;
    chain.build(&BuildAttributes { parent: head.hash, author: AUTHOR, now, with_transactions: true }).unwrap()
}

#[track_caller]
fn refused(chain: &Chain, block: Block, names: &str) {
    let (head, now) = (chain.head(), block.header.timestamp);
    match chain.import(block, now) {
        Err(ImportError::Invalid { reason, .. }) => {
            assert!(reason.to_string().contains(names), "{reason} does not name {names}");
        }
        other => panic!("{names}: {other:?}"),
    }
    assert_eq!(chain.head(), head);
}

#[test]
fn proof_of_authority_permits_no_ommers_withdrawals_blobs_beacon_roots_and_requests() {
    let chain = open(genesis(FeePolicy::Market));
    seal(&chain);
    let block = next(&chain);
    type Change = fn(&mut Block);
    let withdrawal = || Withdrawal { index: 0, validator_index: 0, address: AUTHOR, amount: 1 };
    let changes: [(&str, Change); 7] = [
        ("sha3Uncles", |block| {
            block.body.ommers.push(Header::default());
            block.header.ommers_hash = block.body.calculate_ommers_root();
        }),
        ("ommers", |block| block.body.ommers.push(Header::default())),
        ("blobGasUsed", |block| block.header.blob_gas_used = Some(1 << 17)),
        ("excessBlobGas", |block| block.header.excess_blob_gas = Some(1 << 17)),
        ("parentBeaconBlockRoot", |block| {
            block.header.parent_beacon_block_root = Some(B256::repeat_byte(1));
        }),
        ("requestsHash", |block| block.header.requests_hash = Some(B256::repeat_byte(1))),
        ("withdrawalsRoot", |block| block.header.withdrawals_root = None),
    ];
    for (names, change) in changes {
        let mut block = block.clone();
        change(&mut block);
        refused(&chain, block, names);
    }
    let mut with_withdrawal = block.clone();
    with_withdrawal.body.withdrawals = Some(vec![withdrawal()].into());
    refused(&chain, with_withdrawal.clone(), "withdrawals");
    with_withdrawal.header.withdrawals_root = Some(proofs::calculate_withdrawals_root(&[withdrawal()]));
    refused(&chain, with_withdrawal, "withdrawalsRoot");

    let blob = TxEip4844 {
        chain_id: chain.chain_id(),
        gas_limit: 21_000,
        max_fee_per_gas: 3_000_000_000,
        max_fee_per_blob_gas: 1_000,
        blob_versioned_hashes: vec![B256::right_padding_from(&[1])],
        ..TxEip4844::default()
    };
    let signature = DEV_ACCOUNTS[0].signer().unwrap().sign_transaction(blob.clone()).unwrap();
    let signature: Signature = *signature.signature();
    let mut with_blob = block.clone();
    with_blob.body.transactions = vec![blob.into_signed(signature).into()];
    with_blob.header.transactions_root = proofs::calculate_transaction_root(&with_blob.body.transactions);
    refused(&chain, with_blob, "blob");

    chain.import(block.clone(), block.header.timestamp).unwrap();
}

/// A network with all that Ethereum has, and its contracts for it.
fn ethereum() -> Genesis {
    // Writes all that it is called with into one log, under the topic of deposits.
    let deposits = bytes!(
        "365f5f37" // CALLDATASIZE PUSH0 PUSH0 CALLDATACOPY
        "7f649bbc62d0e31342afea4e5cd82d4049e7e1ee912fc0889aa790803be39038c5"
        "365fa100" // CALLDATASIZE PUSH0 LOG1 STOP
    );
    let mut file = genesis(FeePolicy::Market).file().clone();
    let contracts = [
        (BEACON_ROOTS_ADDRESS, BEACON_ROOTS_CODE.clone()),
        (WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS, WITHDRAWAL_REQUEST_PREDEPLOY_CODE.clone()),
        (CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS, CONSOLIDATION_REQUEST_PREDEPLOY_CODE.clone()),
        (DEPOSITS, deposits),
    ];
    for (address, code) in contracts {
        file.alloc.insert(address, GenesisAccount { nonce: Some(1), code: Some(code), ..Default::default() });
    }
    file.config.deposit_contract_address = Some(DEPOSITS);
    Genesis::new(file).unwrap()
}

fn open_ethereum(genesis: &Genesis) -> Chain {
    let engine = Arc::new(Ethash::for_genesis(genesis));
    Chain::open(genesis.clone(), Arc::new(MemoryKv::default()), engine).unwrap()
}

/// The data of a deposit's event, and the request that it makes.
fn deposit() -> (Vec<u8>, Vec<u8>) {
    let fields: [&[u8]; 5] = [&[1; 48], &[2; 32], &[3; 8], &[4; 96], &[5; 8]];
    let mut data = Vec::new();
    for place in [160u64, 256, 320, 384, 512] {
        data.extend_from_slice(&U256::from(place).to_be_bytes::<32>());
    }
    for field in fields {
        data.extend_from_slice(&U256::from(field.len()).to_be_bytes::<32>());
        data.extend_from_slice(field);
        data.resize(data.len().next_multiple_of(32), 0);
    }
    (data, fields.concat())
}

#[test]
fn what_the_engine_permits_is_built_and_imported_to_the_same_roots() {
    let genesis = ethereum();
    let (builder, importer) = (open_ethereum(&genesis), open_ethereum(&genesis));
    let (data, deposited) = deposit();
    let sender = DEV_ACCOUNTS[1].address;
    let withdrawn = [&[7; 48][..], &9u64.to_be_bytes()].concat();
    for transaction in [
        send(&builder, 0, 0, TxKind::Call(DEPOSITS), U256::ZERO, data.into(), 200_000),
        send(
            &builder,
            1,
            0,
            TxKind::Call(WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS),
            U256::ONE,
            withdrawn.into(),
            300_000,
        ),
    ] {
        builder.submit(&transaction).unwrap();
    }
    let block = next(&builder);
    assert_eq!(block.body.transactions.len(), 2);
    let mut requests = Requests::default();
    requests.push_request_with_type(0, deposited);
    requests.push_request_with_type(1, [&sender[..], &[7; 48], &9u64.to_le_bytes()].concat());
    assert_eq!(block.header.requests_hash, Some(requests.requests_hash()));

    let time = block.header.timestamp;
    importer.import(block.clone(), time).unwrap();
    builder.import(block.clone(), time).unwrap();
    for chain in [&builder, &importer] {
        assert_eq!(chain.head().header, block.header);
        // EIP-4788: the root stands in a ring of 8191, behind the times.
        let slot = U256::from(time % 8_191 + 8_191);
        let root = chain.state(BlockId::Latest).unwrap().storage(BEACON_ROOTS_ADDRESS, slot).unwrap();
        assert_eq!(B256::from(root), block.header.parent_beacon_block_root.unwrap());
        assert_eq!(root, U256::from_be_bytes(block.header.parent_hash.0), "the engine's root");
    }
    // Asked once, the beacon chain is not asked again.
    let quiet = next(&builder);
    assert_eq!(quiet.header.requests_hash, Some(EMPTY_REQUESTS_HASH));
    importer.import(quiet, time + 1).unwrap();
}

#[test]
fn a_header_that_hides_a_request_is_refused() {
    let chain = open_ethereum(&ethereum());
    chain
        .submit(&send(&chain, 0, 0, TxKind::Call(DEPOSITS), U256::ZERO, deposit().0.into(), 200_000))
        .unwrap();
    let mut block = next(&chain);
    block.header.requests_hash = Some(EMPTY_REQUESTS_HASH);
    refused(&chain, block, "requestsHash");
}

#[test]
fn a_deposit_of_another_layout_makes_its_block_invalid() {
    let chain = open_ethereum(&ethereum());
    let mut data = deposit().0;
    data[31] = 1;
    chain.submit(&send(&chain, 0, 0, TxKind::Call(DEPOSITS), U256::ZERO, data.into(), 200_000)).unwrap();
    let head = chain.head();
    let now = head.header.timestamp + 1;
    let attributes = BuildAttributes { parent: head.hash, author: AUTHOR, now, with_transactions: true };
    let error = chain.build(&attributes).unwrap_err();
    assert!(
        matches!(error, BuildError::Invalid(InvalidBlock::SystemCall { contract: DEPOSITS, .. })),
        "{error:?}"
    );
}

#[test]
fn where_requests_are_permitted_their_contracts_must_stand() {
    let mut file = ethereum().file().clone();
    file.alloc.remove(&CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS);
    let chain = open_ethereum(&Genesis::new(file).unwrap());
    let head = chain.head();
    let now = head.header.timestamp + 1;
    let attributes = BuildAttributes { parent: head.hash, author: AUTHOR, now, with_transactions: false };
    match chain.build(&attributes) {
        Err(BuildError::Invalid(InvalidBlock::SystemCall { contract, .. })) => {
            assert_eq!(contract, CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn blob_parameters_follow_the_schedule_of_the_genesis() {
    let mut file = ethereum().file().clone();
    let blob = 1 << 17;
    file.excess_blob_gas = Some(100 * blob);
    // No base fee, and so no reserve price (EIP-7918).
    file.config.extra_fields.remove("lightstreams");
    file.base_fee_per_gas = Some(0);
    file.config.bpo1_time = Some(file.timestamp + 2);
    file.config.bpo2_time = Some(file.timestamp + 3);
    file.config.blob_schedule.insert(
        "bpo2".into(),
        BlobParams { target_blob_count: 21, max_blob_count: 32, ..BlobParams::bpo2() },
    );
    let chain = open_ethereum(&Genesis::new(file).unwrap());
    // Osaka aims at 6, the first change by default at 10, the second as the genesis says.
    for (number, blobs) in [(1, 94), (2, 84), (3, 63)] {
        let block = next(&chain);
        let time = block.header.timestamp;
        assert_eq!(block.header.excess_blob_gas, Some(blobs * blob), "block {number}");
        chain.import(block, time).unwrap();
    }
}

#[test]
fn bytes_that_are_no_block_are_refused_without_a_panic() {
    let chain = open_ethereum(&ethereum());
    chain.submit(&transfer(&chain, 0, 0, Address::repeat_byte(0xfe), 7)).unwrap();
    let block = next(&chain);
    let time = block.header.timestamp;
    let rlp = alloy_rlp::encode(&block);
    for cut in 0..rlp.len() {
        assert!(lightstreams_chain::decode_block(&rlp[..cut]).is_err(), "cut at {cut}");
    }
    // No one seals here, so that a block has the randomness and words, and within bounds the gas limit, that anybody says.
    let free = |other: &Block| {
        let mut other = other.clone();
        other.header.mix_hash = block.header.mix_hash;
        other.header.extra_data = block.header.extra_data.clone();
        other.header.gas_limit = block.header.gas_limit;
        other == block
    };
    for at in 0..rlp.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = rlp.clone();
            bytes[at] ^= flip;
            let Ok(other) = lightstreams_chain::decode_block(&bytes) else { continue };
            if !free(&other) {
                assert!(chain.import(other, time).is_err(), "byte {at} ^ {flip:#x} is taken");
            }
        }
    }
    assert_eq!(chain.head().number(), 0);
    chain.import(block, time).unwrap();
}
