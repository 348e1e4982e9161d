//! Genesis files: what is accepted is read back as it was written, and a chain starts from it.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use lightstreams_chain::{Chain, Genesis, MemoryKv, testing::NoSeal};

fuzz_target!(|data: &[u8]| {
    let Ok(genesis) = Genesis::from_json(data) else { return };
    let written = genesis.to_json();
    let again = Genesis::from_json(written.as_bytes()).expect("what was written is read");
    assert_eq!(again.header(), genesis.header(), "{written}");
    assert!(again.differences(&genesis).is_empty(), "{written}");
    let kv = Arc::new(MemoryKv::default());
    if let Ok(chain) = Chain::open(genesis, kv.clone(), Arc::new(NoSeal::default())) {
        let head = chain.head();
        drop(chain);
        let chain = Chain::open(again, kv, Arc::new(NoSeal::default())).expect("the same chain opens");
        assert_eq!(chain.head(), head);
    }
});
