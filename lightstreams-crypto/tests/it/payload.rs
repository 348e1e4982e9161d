//! Streams give out what verified for its place, in constant memory, however they are read.

use std::io::{self, BufRead, Read};

use lightstreams_crypto::{
    CHUNK, Error, FileKey, PayloadDecryptor, PayloadEncryptor, PayloadKey, PayloadNonce, TAG, X25519Identity,
    chunk_count, payload_len, plaintext_len,
};
use proptest::prelude::*;

use crate::{opened, rng, sealed_for, split, text};

const SIZES: [usize; 9] =
    [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 1, 5 * CHUNK + 77];

fn key() -> PayloadKey {
    let bytes = |from: u8| std::array::from_fn(|i| from + i as u8);
    PayloadKey::derive(&FileKey::from_bytes(bytes(0)), &PayloadNonce::from_bytes(bytes(16)))
}

fn sealed(plaintext: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    PayloadEncryptor::new(key(), plaintext).read_to_end(&mut payload).unwrap();
    payload
}

/// What is given out, and the error behind it.
fn read(mut decryptor: PayloadDecryptor<impl Read>) -> (Vec<u8>, Option<Error>) {
    let mut plaintext = Vec::new();
    let error = decryptor.read_to_end(&mut plaintext).err();
    if error.is_some() {
        assert!(decryptor.read(&mut [0]).is_err(), "an error stays");
    }
    (plaintext, error.map(Error::from))
}

/// Reads `source` in pieces of changing size, with interruptions between them.
struct Pieces<'a> {
    source: &'a [u8],
    sizes: Vec<usize>,
    turn: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.turn += 1;
        if self.turn.is_multiple_of(3) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let size = self.sizes[self.turn % self.sizes.len()].min(buf.len());
        self.source.read(&mut buf[..size])
    }
}

#[test]
fn a_known_payload_has_known_bytes() {
    // Computed with another implementation of HKDF and ChaCha20-Poly1305.
    assert_eq!(hex::encode(sealed(b"hello")), "eddc53b25daae51e8408d6c279e0e32f0bc26b8ceb");
}

#[test]
fn what_is_sealed_opens_and_has_the_length_of_the_formula() {
    for len in SIZES {
        let plaintext = text(len);
        let payload = sealed(&plaintext);
        assert_eq!(payload.len() as u64, payload_len(len as u64));
        assert_eq!(plaintext_len(payload.len() as u64), Some(len as u64));
        let (found, error) = read(PayloadDecryptor::new(key(), &payload[..]));
        assert!(found == plaintext && error.is_none(), "{len}: {error:?}");
        let known = PayloadDecryptor::new(key(), &payload[..]).with_plaintext_len(len as u64);
        let (found, error) = read(known);
        assert!(found == plaintext && error.is_none(), "{len}: {error:?}");
    }
}

#[test]
fn lengths_that_no_payload_has_are_refused() {
    let chunk = (CHUNK + TAG) as u64;
    for len in [0, 1, 15, chunk + 1, chunk + 16, 7 * chunk + 16] {
        assert_eq!(plaintext_len(len), None, "{len}");
    }
    // The longest plaintext whose payload has a length, and the one after it.
    assert_eq!(plaintext_len(u64::MAX), Some(18_442_241_573_325_438_959));
    assert_eq!(payload_len(18_442_241_573_325_438_959), u64::MAX);
    assert_eq!(payload_len(u64::MAX), u64::MAX);
    assert_eq!(chunk_count(0), 1);
}

#[test]
fn a_payload_cut_anywhere_is_truncated() {
    for len in [0, 1, 70, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 1] {
        let payload = sealed(&text(len));
        let cuts = (0..payload.len()).filter(|cut| {
            let inside = cut % (CHUNK + TAG);
            !(40..=CHUNK - 40).contains(&inside)
        });
        for cut in cuts.step_by(7).chain([0]) {
            let known = PayloadDecryptor::new(key(), &payload[..cut]).with_plaintext_len(len as u64);
            let (found, error) = read(known);
            assert!(matches!(error, Some(Error::TruncatedPayload { .. })), "{len} at {cut}: {error:?}");
            assert_eq!(found, text(len)[..found.len()]);

            // Without the length, only a cut between chunks is known to be one.
            let (_, error) = read(PayloadDecryptor::new(key(), &payload[..cut]));
            match cut % (CHUNK + TAG) {
                0 => assert!(matches!(error, Some(Error::TruncatedPayload { .. })), "{len} at {cut}"),
                _ => assert!(matches!(error, Some(Error::DamagedPayload { .. })), "{len} at {cut}"),
            }
        }
    }
}

#[test]
fn bytes_behind_the_last_chunk_are_refused() {
    for len in SIZES {
        for tail in [1, 16, 17, CHUNK + TAG] {
            let payload = [sealed(&text(len)), text(tail)].concat();
            let known = PayloadDecryptor::new(key(), &payload[..]).with_plaintext_len(len as u64);
            assert!(matches!(read(known).1, Some(Error::TrailingData { .. })), "{len} and {tail}");
            assert!(read(PayloadDecryptor::new(key(), &payload[..])).1.is_some(), "{len} and {tail}");
        }
    }
}

#[test]
fn a_wrong_length_is_refused() {
    for (len, told) in [(5, 4), (5, 6), (CHUNK, CHUNK + 1), (CHUNK + 1, CHUNK), (0, 1), (1, 0)] {
        let payload = sealed(&text(len));
        let told = PayloadDecryptor::new(key(), &payload[..]).with_plaintext_len(told as u64);
        assert!(read(told).1.is_some(), "{len}");
    }
}

#[test]
fn chunks_swapped_repeated_or_left_out_are_refused() {
    let plaintext = text(4 * CHUNK);
    let payload = sealed(&plaintext);
    let chunks: Vec<&[u8]> = payload.chunks(CHUNK + TAG).collect();
    for order in [&[1, 0, 2, 3][..], &[0, 2, 1, 3], &[0, 0, 1, 2, 3], &[0, 1, 3], &[3], &[0, 1, 2, 3, 3]] {
        let changed: Vec<u8> = order.iter().flat_map(|&i| chunks[i].to_vec()).collect();
        let (found, error) = read(PayloadDecryptor::new(key(), &changed[..]));
        assert!(error.is_some(), "{order:?}");
        assert_eq!(found, plaintext[..found.len()], "{order:?}");
    }
}

#[test]
fn an_empty_last_chunk_after_others_is_refused() {
    let mut full = text(CHUNK);
    let tag = key().seal_chunk(0, false, &mut full).unwrap();
    let empty = key().seal_chunk(1, true, &mut []).unwrap();
    let payload = [&full[..], &tag, &empty].concat();
    assert!(matches!(
        read(PayloadDecryptor::new(key(), &payload[..])).1,
        Some(Error::DamagedPayload { chunk: 1 })
    ));
}

#[test]
fn another_key_or_nonce_opens_nothing() {
    let payload = sealed(b"text");
    let (file_key, nonce) = (FileKey::from_bytes([9; 16]), PayloadNonce::from_bytes([9; 16]));
    let (found, error) = read(PayloadDecryptor::new(PayloadKey::derive(&file_key, &nonce), &payload[..]));
    assert!(found.is_empty() && matches!(error, Some(Error::DamagedPayload { chunk: 0 })));
}

#[test]
fn every_flipped_bit_of_a_small_file_is_found() {
    let identity = X25519Identity::generate(&mut rng(1));
    let file = sealed_for(&identity, b"a small text", 2);
    let (header, ..) = split(&file);
    for bit in header.as_bytes().len() * 8..file.len() * 8 {
        let mut damaged = file.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let outcome = opened(&[&identity], &damaged);
        assert!(matches!(outcome, Err(Error::DamagedPayload { chunk: 0 })), "bit {bit}: {outcome:?}");
    }
}

#[test]
fn a_chunk_that_does_not_verify_is_left_as_it_was() {
    let mut chunk = b"text".to_vec();
    let tag = key().seal_chunk(3, false, &mut chunk).unwrap();
    chunk.extend_from_slice(&tag);
    let before = chunk.clone();
    assert!(key().open_chunk(4, false, &mut chunk).is_err());
    assert!(key().open_chunk(3, true, &mut chunk).is_err());
    assert_eq!(chunk, before);
    assert_eq!(key().open_chunk(3, false, &mut chunk).unwrap(), b"text");
    assert!(key().open_chunk(0, true, &mut [0; 15]).is_err());
    assert!(key().open_chunk(0, true, &mut vec![0; CHUNK + TAG + 1]).is_err());
    assert!(key().seal_chunk(0, true, &mut vec![0; CHUNK + 1]).is_err());
}

#[test]
fn a_failing_source_is_told_apart_and_can_be_read_on() {
    struct Once<'a>(&'a [u8], bool);
    impl Read for Once<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            if self.0.len() < 100_000 && !std::mem::replace(&mut self.1, true) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let size = buf.len().min(1000);
            self.0.read(&mut buf[..size])
        }
    }
    let plaintext = text(3 * CHUNK);
    let mut encryptor = PayloadEncryptor::new(key(), Once(&plaintext, false));
    let mut payload = Vec::new();
    assert_eq!(encryptor.read_to_end(&mut payload).unwrap_err().kind(), io::ErrorKind::TimedOut);
    encryptor.read_to_end(&mut payload).unwrap();
    assert_eq!(payload, sealed(&plaintext));

    let mut decryptor = PayloadDecryptor::new(key(), Once(&payload, false));
    let mut found = Vec::new();
    let error = Error::from(decryptor.read_to_end(&mut found).unwrap_err());
    assert!(matches!(error, Error::Io(_)));
    decryptor.read_to_end(&mut found).unwrap();
    assert_eq!(found, plaintext);
}

#[test]
fn a_buffered_reader_gives_out_whole_chunks() {
    let plaintext = text(2 * CHUNK + 5);
    let mut encryptor = PayloadEncryptor::new(key(), &plaintext[..]);
    let mut lens = Vec::new();
    loop {
        let len = encryptor.fill_buf().unwrap().len();
        if len == 0 {
            break;
        }
        lens.push(len);
        encryptor.consume(len);
    }
    assert_eq!(lens, [CHUNK + TAG, CHUNK + TAG, 5 + TAG]);
}

#[test]
fn a_stream_holds_one_chunk_however_long_it_is() {
    struct Counting<R>(R, std::rc::Rc<std::cell::Cell<usize>>);
    impl<R: Read> Read for Counting<R> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let count = self.0.read(buf)?;
            self.1.set(self.1.get() + count);
            Ok(count)
        }
    }
    let (plain, sealed) = (std::rc::Rc::default(), std::rc::Rc::default());
    let source = Counting(io::repeat(7).take(50 * CHUNK as u64), std::rc::Rc::clone(&plain));
    let encryptor = PayloadEncryptor::new(key(), source);
    let mut decryptor = PayloadDecryptor::new(key(), Counting(encryptor, std::rc::Rc::clone(&sealed)));
    let mut given = 0;
    loop {
        let ready = decryptor.fill_buf().unwrap().len();
        if ready == 0 {
            break;
        }
        given += ready;
        decryptor.consume(ready);
        assert!(sealed.get() <= given + given.div_ceil(CHUNK) * TAG, "the decryptor reads ahead");
        assert!(plain.get() <= given + 1, "the encryptor reads more than a byte ahead");
    }
    assert_eq!(given, 50 * CHUNK);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_split_of_input_gives_the_same_bytes(
        len in prop_oneof![0..300usize, CHUNK - 2..CHUNK + 3, 2 * CHUNK - 2..3 * CHUNK],
        sizes in prop::collection::vec(1..=2 * CHUNK, 1..6),
        out in 1..=2 * CHUNK,
    ) {
        let plaintext = text(len);
        let expected = sealed(&plaintext);
        let pieces = Pieces { source: &plaintext, sizes: sizes.clone(), turn: 0 };
        let mut encryptor = PayloadEncryptor::new(key(), pieces);
        prop_assert_eq!(&read_in(&mut encryptor, out), &expected);
        let pieces = Pieces { source: &expected, sizes, turn: 0 };
        let mut decryptor = PayloadDecryptor::new(key(), pieces);
        prop_assert_eq!(&read_in(&mut decryptor, out), &plaintext);
    }

    #[test]
    fn any_flipped_bit_is_refused_and_nothing_wrong_is_given_out(
        len in prop_oneof![0..300usize, CHUNK - 2..CHUNK + 3, 2 * CHUNK - 2..3 * CHUNK],
        at in any::<prop::sample::Index>(),
        bit in 0..8u32,
    ) {
        let plaintext = text(len);
        let mut payload = sealed(&plaintext);
        let at = at.index(payload.len());
        payload[at] ^= 1u8 << bit;
        let (found, error) = read(PayloadDecryptor::new(key(), &payload[..]));
        let chunk = (at / (CHUNK + TAG)) as u64;
        match error {
            Some(Error::DamagedPayload { chunk: found }) => prop_assert_eq!(found, chunk),
            other => prop_assert!(false, "{other:?}"),
        }
        prop_assert_eq!(&found[..], &plaintext[..(chunk as usize * CHUNK).min(len)]);
    }
}

fn read_in(reader: &mut impl Read, size: usize) -> Vec<u8> {
    let (mut all, mut buf) = (Vec::new(), vec![0; size]);
    loop {
        match reader.read(&mut buf).unwrap() {
            0 => return all,
            count => all.extend_from_slice(&buf[..count]),
        }
    }
}
