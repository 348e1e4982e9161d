//! Blocks: what is read has one encoding, and a chain takes or refuses it, alone or in a chain file.

#![no_main]

use std::{
    ops::ControlFlow,
    sync::{Arc, LazyLock},
};

use libfuzzer_sys::fuzz_target;
use lightstreams_chain::{Chain, FileFault, Genesis, ImportError, MemoryKv, decode_block, testing::NoSeal};

static CHAIN: LazyLock<Chain> = LazyLock::new(|| {
    let genesis = Genesis::from_json(include_bytes!("../genesis.json")).unwrap();
    Chain::open(genesis, Arc::new(MemoryKv::default()), Arc::new(NoSeal::default())).unwrap()
});
const NOW: u64 = 4_000_000_000;

fuzz_target!(|data: &[u8]| {
    if let Ok(block) = decode_block(data) {
        assert_eq!(alloy_rlp::encode(&block), data);
        let hash = block.header.hash_slow();
        match CHAIN.import(block, NOW) {
            Ok(_) => assert!(CHAIN.block(hash.into()).unwrap().is_some()),
            Err(ImportError::Storage(error)) => panic!("{error}"),
            Err(_) => {}
        }
    }
    let mut last = 0;
    let read = CHAIN.import_from(data, NOW, |done| {
        assert!(done.bytes > last && done.bytes <= data.len() as u64);
        last = done.bytes;
        ControlFlow::Continue(())
    });
    match read {
        Ok(done) => assert_eq!(done.bytes, data.len() as u64),
        Err(error) => {
            assert_eq!(error.done.bytes, last);
            assert!(!matches!(*error.fault, FileFault::Import(ImportError::Storage(_)) | FileFault::Read(_)));
        }
    }
});
