//! Bitswap messages: what is read is written, in every revision, to what reads the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lightstreams_store::{
    Bytes,
    p2p::wire::{Message, Revision},
};

fuzz_target!(|data: &[u8]| {
    let Ok(message) = Message::decode(&Bytes::copy_from_slice(data)) else { return };
    for revision in Revision::ALL {
        let Ok(encoded) = message.encode(revision) else { continue };
        let framed: Vec<u8> = encoded.pieces.iter().flatten().copied().collect();
        let prefix = framed.iter().position(|byte| *byte < 0x80).expect("a length") + 1;
        let again = Message::decode(&framed[prefix..].to_vec().into()).expect("what is written is read");
        if revision == Revision::V1_2 {
            assert_eq!(again, message);
        }
    }
});
