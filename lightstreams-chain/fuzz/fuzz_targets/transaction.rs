//! Transactions: what is read has one encoding, and the pool takes or refuses it.

#![no_main]

use std::sync::{Arc, LazyLock};

use alloy_eips::eip2718::{Decodable2718, Encodable2718};
use libfuzzer_sys::fuzz_target;
use lightstreams_chain::{Chain, Genesis, MemoryKv, SubmitError, Transaction, testing::NoSeal};

static CHAIN: LazyLock<Chain> = LazyLock::new(|| {
    let genesis = Genesis::from_json(include_bytes!("../genesis.json")).unwrap();
    Chain::open(genesis, Arc::new(MemoryKv::default()), Arc::new(NoSeal::default())).unwrap()
});

fuzz_target!(|data: &[u8]| {
    let decoded = Transaction::decode_2718_exact(data);
    match CHAIN.submit(data) {
        Ok(hash) => {
            let decoded = decoded.expect("what was taken decodes");
            assert_eq!(decoded.encoded_2718(), data, "there is one encoding of what was taken");
            assert_eq!(*decoded.tx_hash(), hash);
            assert!(CHAIN.pooled(&hash).is_some());
        }
        Err(SubmitError::Storage(error)) => panic!("{error}"),
        Err(_) => {}
    }
});
