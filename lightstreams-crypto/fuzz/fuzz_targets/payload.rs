//! Payloads: the three readers agree, and nothing that was changed is given out.
//!
//! The input is a list of changes to a payload of a few chunks: five bytes each, what to do, where (three
//! bytes), and with what.

#![no_main]

use std::{
    io::{Read, Seek, SeekFrom},
    num::NonZeroUsize,
};

use libfuzzer_sys::fuzz_target;
use lightstreams_crypto::{
    CHUNK, FileKey, PayloadDecryptor, PayloadEncryptor, PayloadKey, PayloadNonce, SeekableReader, TAG,
    plaintext_len,
};

fuzz_target!(|data: &[u8]| {
    let Some((&[len, more], data)) = data.split_first_chunk::<2>() else { return };
    // 0 to 4 chunks, and lengths around their borders.
    let len = (usize::from(len % 5) * CHUNK + usize::from(more)).saturating_sub(usize::from(len / 5));
    let plaintext: Vec<u8> = (0..len).map(|at| (at * 31 >> 3) as u8).collect();
    let key = PayloadKey::derive(&FileKey::from_bytes([1; 16]), &PayloadNonce::from_bytes([2; 16]));
    let mut payload = Vec::new();
    PayloadEncryptor::new(key.clone(), &plaintext[..]).read_to_end(&mut payload).expect("memory");
    let sound = payload.clone();

    for change in data.chunks_exact(5).take(8) {
        let at = usize::from(change[1]) << 16 | usize::from(change[2]) << 8 | usize::from(change[3]);
        let at = at % (payload.len() + 1);
        let chunk = at / (CHUNK + TAG) * (CHUNK + TAG);
        let end = (chunk + CHUNK + TAG).min(payload.len());
        match change[0] % 6 {
            0 if at < payload.len() => payload[at] ^= change[4],
            1 => payload.truncate(at),
            2 => payload.insert(at, change[4]),
            3 => payload.extend_from_within(at..),
            4 => drop(payload.drain(chunk..end)),
            5 => payload[chunk..end].rotate_left(usize::from(change[4]) % (end - chunk).max(1)),
            _ => {}
        }
    }

    let (streamed, whole) = read(PayloadDecryptor::new(key.clone(), &payload[..]));
    assert!(plaintext.starts_with(&streamed), "something else was given out");
    assert_eq!(whole, payload == sound);
    if whole {
        assert_eq!(streamed, plaintext);
    }
    let two = NonZeroUsize::new(2).expect("two");
    assert_eq!(read(PayloadDecryptor::new(key.clone(), &payload[..]).parallel(two)), (streamed, whole));
    let told = PayloadDecryptor::new(key.clone(), &payload[..]).with_plaintext_len(len as u64);
    let (streamed, whole) = read(told);
    assert!(plaintext.starts_with(&streamed) && whole == (payload == sound));

    let opened = SeekableReader::open(key, payload.clone());
    if plaintext_len(payload.len() as u64).is_none() {
        assert!(opened.is_err());
    }
    let Ok(mut seekable) = opened else { return };
    // Chunks that still stand where they stood may be read; nothing else may.
    for at in [0, len / 2, len.saturating_sub(1)] {
        let mut part = vec![0; 100];
        seekable.seek(SeekFrom::Start(at as u64)).expect("within or behind the end");
        match seekable.read(&mut part) {
            Ok(count) => assert_eq!(part[..count], plaintext[at..at + count]),
            Err(error) => assert!(payload != sound, "{error}"),
        }
    }
});

/// What a reader gives out, and whether it ends soundly.
fn read(mut reader: impl Read) -> (Vec<u8>, bool) {
    let mut plaintext = Vec::new();
    let whole = reader.read_to_end(&mut plaintext).is_ok();
    (plaintext, whole)
}
