//! A range is the slice, and costs the chunks it touches.

use std::{
    cell::RefCell,
    io::{self, Read, Seek, SeekFrom},
};

use lightstreams_crypto::{
    CHUNK, Error, FileKey, PayloadEncryptor, PayloadKey, PayloadNonce, ReadAt, SeekableReader, TAG,
    payload_len,
};
use proptest::prelude::*;

use crate::text;

fn key() -> PayloadKey {
    PayloadKey::derive(&FileKey::from_bytes([1; 16]), &PayloadNonce::from_bytes([2; 16]))
}

fn sealed(plaintext: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    PayloadEncryptor::new(key(), plaintext).read_to_end(&mut payload).unwrap();
    payload
}

fn failure(reader: &mut SeekableReader<impl ReadAt>, at: u64) -> Error {
    reader.seek(SeekFrom::Start(at)).unwrap();
    Error::from(reader.read(&mut [0]).unwrap_err())
}

/// Remembers what was read.
struct Watched(Vec<u8>, RefCell<Vec<u64>>);

impl ReadAt for Watched {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.1.borrow_mut().push(offset / (CHUNK + TAG) as u64);
        self.0.read_at(offset, buf)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }
}

#[test]
fn only_the_chunks_asked_for_are_read() {
    let plaintext = text(10 * CHUNK);
    let watched = Watched(sealed(&plaintext), RefCell::default());
    let mut reader = SeekableReader::with_plaintext_len(key(), &watched, plaintext.len() as u64);
    reader.seek(SeekFrom::Start(4 * CHUNK as u64 - 10)).unwrap();
    let mut found = [0; 20];
    reader.read_exact(&mut found).unwrap();
    assert_eq!(found, plaintext[4 * CHUNK - 10..4 * CHUNK + 10]);
    assert_eq!(*watched.1.borrow(), [3, 4]);
    // The chunk at hand is not read again.
    reader.seek(SeekFrom::Current(100)).unwrap();
    reader.read_exact(&mut found).unwrap();
    assert_eq!(*watched.1.borrow(), [3, 4]);
}

#[test]
fn reading_on_takes_each_chunk_once() {
    let plaintext = text(5 * CHUNK + 9);
    let watched = Watched(sealed(&plaintext), RefCell::default());
    let mut reader = SeekableReader::with_plaintext_len(key(), &watched, plaintext.len() as u64);
    let mut found = Vec::new();
    let mut piece = [0; 1000];
    loop {
        match reader.read(&mut piece).unwrap() {
            0 => break,
            count => found.extend_from_slice(&piece[..count]),
        }
    }
    assert!(found == plaintext);
    assert_eq!(*watched.1.borrow(), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn opening_without_a_length_verifies_the_last_chunk() {
    for len in [0, 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
        let payload = sealed(&text(len));
        let mut reader = SeekableReader::open(key(), payload.clone()).unwrap();
        assert_eq!(reader.plaintext_len(), len as u64);
        let mut found = Vec::new();
        reader.read_to_end(&mut found).unwrap();
        assert_eq!(found, text(len));

        for cut in [1, TAG, CHUNK, CHUNK + TAG] {
            let rest = &payload[..payload.len().saturating_sub(cut)];
            let error = SeekableReader::open(key(), rest).unwrap_err();
            assert!(
                matches!(error, Error::TruncatedPayload { .. } | Error::DamagedPayload { .. }),
                "{len} less {cut}: {error:?}"
            );
        }
    }
}

#[test]
fn a_length_that_is_not_the_payloads_shows_at_its_last_chunk() {
    let payload = sealed(&text(2 * CHUNK + 50));
    let mut short = SeekableReader::with_plaintext_len(key(), &payload, 2 * CHUNK as u64);
    assert!(short.read(&mut [0]).is_ok());
    assert!(matches!(failure(&mut short, CHUNK as u64), Error::DamagedPayload { chunk: 1 }));
    let mut long = SeekableReader::with_plaintext_len(key(), &payload, 2 * CHUNK as u64 + 51);
    assert!(matches!(failure(&mut long, 2 * CHUNK as u64), Error::TruncatedPayload { chunk: 2 }));
    let mut huge = SeekableReader::with_plaintext_len(key(), &payload, u64::MAX);
    assert!(matches!(failure(&mut huge, u64::MAX - 1), Error::TruncatedPayload { .. }));
}

#[test]
fn a_damaged_chunk_does_not_spoil_the_others() {
    let plaintext = text(4 * CHUNK);
    let mut payload = sealed(&plaintext);
    payload[CHUNK + TAG + 5] ^= 1;
    let mut reader = SeekableReader::open(key(), payload).unwrap();
    assert!(matches!(failure(&mut reader, CHUNK as u64 + 9), Error::DamagedPayload { chunk: 1 }));
    assert!(matches!(failure(&mut reader, CHUNK as u64 + 9), Error::DamagedPayload { chunk: 1 }));
    let mut found = vec![0; CHUNK];
    reader.seek(SeekFrom::Start(2 * CHUNK as u64)).unwrap();
    reader.read_exact(&mut found).unwrap();
    assert_eq!(found, plaintext[2 * CHUNK..3 * CHUNK]);
}

#[test]
fn seeking_is_that_of_a_file() {
    let payload = sealed(&text(1000));
    assert_eq!(payload.len() as u64, payload_len(1000));
    let mut reader = SeekableReader::open(key(), payload).unwrap();
    assert_eq!(reader.seek(SeekFrom::End(-1)).unwrap(), 999);
    assert_eq!(reader.seek(SeekFrom::Current(-999)).unwrap(), 0);
    assert!(reader.seek(SeekFrom::Current(-1)).is_err());
    assert_eq!(reader.stream_position().unwrap(), 0);
    assert_eq!(reader.seek(SeekFrom::Start(5000)).unwrap(), 5000);
    assert_eq!(reader.read(&mut [0; 9]).unwrap(), 0);
    assert!(reader.seek(SeekFrom::End(i64::MIN)).is_err());
}

#[test]
fn a_file_on_disk_is_a_source() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("payload");
    let plaintext = text(CHUNK + 9);
    std::fs::write(&path, sealed(&plaintext)).unwrap();
    let mut reader = SeekableReader::open(key(), std::fs::File::open(&path).unwrap()).unwrap();
    let mut found = Vec::new();
    reader.read_to_end(&mut found).unwrap();
    assert_eq!(found, plaintext);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_flipped_bit_is_refused_where_it_lies_and_nowhere_else(
        len in prop_oneof![1..100usize, CHUNK - 2..CHUNK + 3, 0..4 * CHUNK],
        at in any::<prop::sample::Index>(),
        bit in 0..8u32,
    ) {
        let plaintext = text(len);
        let mut payload = sealed(&plaintext);
        let at = at.index(payload.len());
        payload[at] ^= 1u8 << bit;
        let damaged = at / (CHUNK + TAG);
        let mut reader = SeekableReader::with_plaintext_len(key(), payload, len as u64);
        for (index, chunk) in plaintext.chunks(CHUNK).enumerate() {
            let start = (index * CHUNK) as u64;
            if index == damaged {
                match failure(&mut reader, start) {
                    Error::DamagedPayload { chunk } => prop_assert_eq!(chunk, damaged as u64),
                    other => prop_assert!(false, "{:?}", other),
                }
            } else {
                reader.seek(SeekFrom::Start(start)).unwrap();
                let mut found = vec![0; chunk.len()];
                reader.read_exact(&mut found).unwrap();
                prop_assert!(found == chunk);
            }
        }
    }

    #[test]
    fn any_range_equals_the_slice(
        len in prop_oneof![0..100usize, CHUNK - 2..CHUNK + 3, 0..4 * CHUNK],
        ranges in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..6),
    ) {
        let plaintext = text(len);
        let payload = sealed(&plaintext);
        let mut reader = SeekableReader::with_plaintext_len(key(), payload, len as u64);
        for (a, b) in ranges {
            let (a, b) = (a.index(len + 1), b.index(len + 1));
            let (start, end) = (a.min(b), a.max(b));
            reader.seek(SeekFrom::Start(start as u64)).unwrap();
            let mut found = Vec::new();
            (&mut reader).take((end - start) as u64).read_to_end(&mut found).unwrap();
            prop_assert_eq!(&found[..], &plaintext[start..end]);
        }
    }
}
