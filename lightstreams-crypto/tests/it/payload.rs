//! Streams give out what verified for its place, in constant memory, however they are read and on how many cores.

use std::{
    cell::Cell,
    io::{self, BufRead, Read},
    rc::Rc,
};

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

/// Every promise of a stream is checked in each of these ways to run one.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Mode {
    Serial,
    #[cfg(feature = "parallel")]
    Parallel(usize),
}

const MODES: &[Mode] = &[
    Mode::Serial,
    #[cfg(feature = "parallel")]
    Mode::Parallel(1),
    #[cfg(feature = "parallel")]
    Mode::Parallel(3),
];

impl Mode {
    fn encrypt<'a>(self, source: impl Read + 'a) -> Box<dyn BufRead + 'a> {
        let serial = PayloadEncryptor::new(key(), source);
        match self {
            Mode::Serial => Box::new(serial),
            #[cfg(feature = "parallel")]
            Mode::Parallel(threads) => Box::new(serial.parallel(threads.try_into().unwrap())),
        }
    }

    fn decrypt<'a>(self, source: impl Read + 'a) -> Box<dyn BufRead + 'a> {
        self.go_on(PayloadDecryptor::new(key(), source))
    }

    fn decrypt_known<'a>(self, source: impl Read + 'a, len: usize) -> Box<dyn BufRead + 'a> {
        self.go_on(PayloadDecryptor::new(key(), source).with_plaintext_len(len as u64))
    }

    fn go_on<'a>(self, serial: PayloadDecryptor<impl Read + 'a>) -> Box<dyn BufRead + 'a> {
        match self {
            Mode::Serial => Box::new(serial),
            #[cfg(feature = "parallel")]
            Mode::Parallel(threads) => Box::new(serial.parallel(threads.try_into().unwrap())),
        }
    }
}

fn sealed(plaintext: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (index, chunk) in plaintext.chunks(CHUNK).enumerate() {
        let mut chunk = chunk.to_vec();
        let last = (index + 1) * CHUNK >= plaintext.len();
        let tag = key().seal_chunk(index as u64, last, &mut chunk).unwrap();
        payload.extend_from_slice(&chunk);
        payload.extend_from_slice(&tag);
    }
    if plaintext.is_empty() {
        payload.extend_from_slice(&key().seal_chunk(0, true, &mut []).unwrap());
    }
    payload
}

/// What is given out, and the error behind it.
fn read(mut decryptor: impl Read) -> (Vec<u8>, Option<Error>) {
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
    for (len, mode) in sizes_and_modes() {
        let plaintext = text(len);
        let payload = sealed(&plaintext);
        assert_eq!(payload.len() as u64, payload_len(len as u64));
        assert_eq!(plaintext_len(payload.len() as u64), Some(len as u64));
        let mut found = Vec::new();
        mode.encrypt(&plaintext[..]).read_to_end(&mut found).unwrap();
        assert!(found == payload, "{len} {mode:?}");
        for decryptor in [mode.decrypt(&payload[..]), mode.decrypt_known(&payload[..], len)] {
            let (found, error) = read(decryptor);
            assert!(found == plaintext && error.is_none(), "{len} {mode:?}: {error:?}");
        }
    }
}

/// Sizes about the ends of chunks and of the runs that threads work on.
fn sizes_and_modes() -> impl Iterator<Item = (usize, Mode)> {
    let runs = [4 * CHUNK - 1, 4 * CHUNK, 4 * CHUNK + 1, 8 * CHUNK, 9 * CHUNK + 5, 50 * CHUNK];
    let sizes = SIZES.into_iter().chain(runs);
    sizes.flat_map(|len| MODES.iter().map(move |&mode| (len, mode)))
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
    for len in [0, 1, 70, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 1, 5 * CHUNK, 8 * CHUNK + 2] {
        let payload = sealed(&text(len));
        let cuts = (0..payload.len()).filter(|cut| {
            let inside = cut % (CHUNK + TAG);
            !(40..=CHUNK - 40).contains(&inside)
        });
        for (cut, mode) in
            cuts.step_by(17).chain([0]).flat_map(|cut| MODES.iter().map(move |mode| (cut, mode)))
        {
            let chunk = (cut / (CHUNK + TAG)) as u64;
            let (found, error) = read(mode.decrypt_known(&payload[..cut], len));
            assert!(
                matches!(error, Some(Error::TruncatedPayload { chunk: at }) if at == chunk),
                "{len} at {cut} {mode:?}: {error:?}"
            );
            assert!(found == text(len)[..chunk as usize * CHUNK], "whole chunks before the cut, and no more");

            // Without the length, only a cut between chunks is known to be one.
            let (found, error) = read(mode.decrypt(&payload[..cut]));
            match (cut % (CHUNK + TAG), error) {
                (0, Some(Error::TruncatedPayload { chunk: at })) => assert_eq!(at, chunk),
                (1.., Some(Error::DamagedPayload { chunk: at })) => assert_eq!(at, chunk),
                (_, error) => panic!("{len} at {cut} {mode:?}: {error:?}"),
            }
            assert!(found == text(len)[..chunk as usize * CHUNK]);
        }
    }
}

#[test]
fn bytes_behind_the_last_chunk_are_refused() {
    for (len, mode) in sizes_and_modes() {
        let last = chunk_count(len as u64) - 1;
        for tail in [1, 16, 17, CHUNK + TAG, 5 * CHUNK] {
            let payload = [sealed(&text(len)), text(tail)].concat();
            let (found, error) = read(mode.decrypt_known(&payload[..], len));
            assert!(
                matches!(error, Some(Error::TrailingData { chunk }) if chunk == last),
                "{len} and {tail} {mode:?}: {error:?}"
            );
            assert!(found == text(len));
            // Without the length, what follows a last chunk that is not full makes it look damaged.
            let (found, error) = read(mode.decrypt(&payload[..]));
            match error {
                Some(Error::TrailingData { chunk }) if len > 0 && len % CHUNK == 0 => {
                    assert_eq!(chunk, last);
                    assert!(found == text(len));
                }
                Some(Error::DamagedPayload { chunk }) if len == 0 || len % CHUNK > 0 => {
                    assert_eq!(chunk, last);
                    assert!(found == text(last as usize * CHUNK));
                }
                error => panic!("{len} and {tail} {mode:?}: {error:?}"),
            }
        }
    }
}

#[test]
fn a_wrong_length_is_refused() {
    let wrong =
        [(5, 4), (5, 6), (CHUNK, CHUNK + 1), (CHUNK + 1, CHUNK), (0, 1), (1, 0), (9 * CHUNK, 8 * CHUNK)];
    for (len, told) in wrong {
        let payload = sealed(&text(len));
        for mode in MODES {
            let (found, error) = read(mode.decrypt_known(&payload[..], told));
            assert!(error.is_some(), "{len} {mode:?}");
            assert!(found == text(len)[..found.len()], "{len} {mode:?}");
        }
    }
}

#[test]
fn chunks_swapped_repeated_or_left_out_are_refused() {
    let plaintext = text(6 * CHUNK);
    let payload = sealed(&plaintext);
    let chunks: Vec<&[u8]> = payload.chunks(CHUNK + TAG).collect();
    let orders: [(&[usize], _); 7] = [
        (&[1, 0, 2, 3, 4, 5], 0),
        (&[0, 2, 1, 3, 4, 5], 1),
        (&[0, 1, 2, 4, 3, 5], 3),
        (&[0, 0, 1, 2, 3, 4, 5], 1),
        (&[0, 1, 2, 3, 5], 4),
        (&[5], 0),
        (&[0, 1, 2, 3, 4, 5, 5], 5),
    ];
    for ((order, fault), mode) in
        orders.into_iter().flat_map(|order| MODES.iter().map(move |mode| (order, mode)))
    {
        let changed: Vec<u8> = order.iter().flat_map(|&i| chunks[i].to_vec()).collect();
        let (found, error) = read(mode.decrypt(&changed[..]));
        match error {
            Some(Error::DamagedPayload { chunk }) => assert_eq!(chunk, fault, "{order:?} {mode:?}"),
            Some(Error::TrailingData { chunk: 5 }) if order.len() == 7 => {}
            error => panic!("{order:?} {mode:?}: {error:?}"),
        }
        let good = fault as usize + usize::from(order.len() == 7 && fault == 5);
        assert!(found == plaintext[..good * CHUNK], "{order:?} {mode:?}");
    }
}

#[test]
fn an_empty_last_chunk_after_others_is_refused() {
    for count in [1, 3, 4, 5] {
        let mut payload = Vec::new();
        for index in 0..count {
            let mut full = text(CHUNK);
            let tag = key().seal_chunk(index, false, &mut full).unwrap();
            payload.extend([&full[..], &tag].concat());
        }
        payload.extend(key().seal_chunk(count, true, &mut []).unwrap());
        for mode in MODES {
            let (found, error) = read(mode.decrypt(&payload[..]));
            assert!(
                matches!(error, Some(Error::DamagedPayload { chunk }) if chunk == count),
                "{count} {mode:?}: {error:?}"
            );
            assert_eq!(found.len() as u64, count * CHUNK as u64);
        }
    }
}

#[test]
fn another_key_or_nonce_opens_nothing() {
    let payload = sealed(&text(6 * CHUNK));
    let (file_key, nonce) = (FileKey::from_bytes([9; 16]), PayloadNonce::from_bytes([9; 16]));
    for mode in MODES {
        let other = PayloadDecryptor::new(PayloadKey::derive(&file_key, &nonce), &payload[..]);
        let (found, error) = read(mode.go_on(other));
        assert!(found.is_empty() && matches!(error, Some(Error::DamagedPayload { chunk: 0 })), "{mode:?}");
    }
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
fn of_a_chunk_that_does_not_verify_nothing_is_left_to_read() {
    let mut chunk = text(1000);
    let tag = key().seal_chunk(3, false, &mut chunk).unwrap();
    chunk.extend_from_slice(&tag);
    for (index, last) in [(4, false), (3, true)] {
        let mut tried = chunk.clone();
        assert!(key().open_chunk(index, last, &mut tried).is_err());
        // The pure implementation checks first. The others check and decrypt together, and then wipe.
        let wiped = tried[..1000] == [0; 1000] && cfg!(any(feature = "openssl", feature = "ring"));
        assert!(wiped || tried == chunk, "{index} {last}");
    }
    assert_eq!(key().open_chunk(3, false, &mut chunk).unwrap(), text(1000));
    assert!(key().open_chunk(0, true, &mut [0; 15]).is_err());
    assert!(key().open_chunk(0, true, &mut vec![0; CHUNK + TAG + 1]).is_err());
    assert!(key().seal_chunk(0, true, &mut vec![0; CHUNK + 1]).is_err());
}

/// Fails, or panics, once in the middle.
struct Once<'a> {
    source: &'a [u8],
    rest: usize,
    panics: bool,
    failed: bool,
}

impl Read for Once<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.source.len() < self.rest && !std::mem::replace(&mut self.failed, true) {
            assert!(!self.panics, "the source panics");
            return Err(io::ErrorKind::TimedOut.into());
        }
        let size = buf.len().min(1000);
        self.source.read(&mut buf[..size])
    }
}

#[test]
fn a_failing_source_is_told_apart_and_can_be_read_on() {
    let plaintext = text(21 * CHUNK);
    let payload = sealed(&plaintext);
    for (mode, rest) in
        MODES.iter().flat_map(|mode| [0, 1, 9, 18, 21].map(|chunks| (mode, chunks * CHUNK + 100)))
    {
        let once = |source| Once { source, rest, panics: false, failed: false };
        for (mut stream, expected) in
            [(mode.encrypt(once(&plaintext)), &payload), (mode.decrypt(once(&payload)), &plaintext)]
        {
            let mut found = Vec::new();
            let error = stream.read_to_end(&mut found).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert!(matches!(Error::from(error), Error::Io(_)));
            // What was read before the error came out before it.
            assert!(found.len() + rest + 6 * (CHUNK + TAG) > expected.len(), "{rest} {mode:?}");
            stream.read_to_end(&mut found).unwrap();
            assert!(found == *expected, "{rest} {mode:?}");
        }
    }
}

#[test]
fn a_panic_of_the_source_comes_up_and_nothing_is_lost() {
    let plaintext = text(11 * CHUNK);
    let payload = sealed(&plaintext);
    let copies: [fn(&mut dyn BufRead, &mut Vec<u8>); 2] =
        [copy, |mut stream, to| read_to(&mut stream, 2 * CHUNK, to)];
    for (mode, copy) in MODES.iter().flat_map(|mode| copies.map(|copy| (mode, copy))) {
        let once = |source| Once { source, rest: 6 * CHUNK, panics: true, failed: false };
        for (mut stream, expected) in
            [(mode.encrypt(once(&plaintext)), &payload), (mode.decrypt(once(&payload)), &plaintext)]
        {
            let mut found = Vec::new();
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                copy(&mut *stream, &mut found);
            }));
            let message = outcome.unwrap_err();
            assert_eq!(message.downcast_ref::<&str>(), Some(&"the source panics"));
            copy(&mut *stream, &mut found);
            assert!(found == *expected, "{mode:?}");
        }
    }
}

#[test]
fn of_a_chunk_that_was_not_sealed_nothing_is_left_where_it_was_to_go() {
    let plaintext = text(3 * CHUNK);
    let once = Once { source: &plaintext, rest: CHUNK, panics: false, failed: false };
    let (mut stream, mut buf) = (PayloadEncryptor::new(key(), once), vec![0; 2 * CHUNK]);
    let mut found = Vec::new();
    let error = loop {
        match stream.read(&mut buf) {
            Ok(count) => found.extend_from_slice(&buf[..count]),
            Err(error) => break error,
        }
        buf.fill(0);
    };
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(buf.iter().all(|&byte| byte == 0));
    stream.read_to_end(&mut found).unwrap();
    assert!(found == sealed(&plaintext));
}

fn copy(stream: &mut dyn BufRead, to: &mut Vec<u8>) {
    loop {
        let ready = stream.fill_buf().unwrap();
        if ready.is_empty() {
            return;
        }
        let count = ready.len();
        to.extend_from_slice(ready);
        stream.consume(count);
    }
}

#[test]
fn chunks_are_handed_out_whole() {
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

struct Counting<R>(R, Rc<Cell<usize>>);

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(buf)?;
        self.1.set(self.1.get() + count);
        Ok(count)
    }
}

#[test]
fn a_stream_reads_no_further_ahead_than_it_says() {
    for mode in MODES {
        let (plain, sealed) = (Rc::default(), Rc::default());
        let source = Counting(io::repeat(7).take(100 * CHUNK as u64), Rc::clone(&plain));
        let mut decryptor = mode.decrypt(Counting(mode.encrypt(source), Rc::clone(&sealed)));
        // One that is being given out, and those that the threads may have: 2 * threads + 2 in all, of 4 chunks.
        let ahead = match mode {
            Mode::Serial => 0,
            #[cfg(feature = "parallel")]
            Mode::Parallel(threads) => (2 * threads + 2) * 4 * CHUNK,
        };
        let mut given = 0;
        loop {
            let ready = decryptor.fill_buf().unwrap().len();
            if ready == 0 {
                break;
            }
            given += ready;
            let most = given + ahead;
            assert!(
                sealed.get() <= most + most.div_ceil(CHUNK) * TAG,
                "the decryptor reads further {mode:?}"
            );
            assert!(plain.get() <= most + ahead + 1, "the encryptor reads further {mode:?}");
            decryptor.consume(ready);
        }
        assert_eq!(given, 100 * CHUNK);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_split_of_input_gives_the_same_bytes(
        len in prop_oneof![0..300usize, CHUNK - 2..CHUNK + 3, 2 * CHUNK - 2..3 * CHUNK, 4 * CHUNK - 2..9 * CHUNK],
        sizes in prop::collection::vec(1..=2 * CHUNK, 1..6),
        out in 1..=2 * CHUNK,
    ) {
        let plaintext = text(len);
        let expected = sealed(&plaintext);
        for mode in MODES {
            let pieces = |source| Pieces { source, sizes: sizes.clone(), turn: 0 };
            prop_assert!(read_in(&mut mode.encrypt(pieces(&plaintext)), out) == expected, "{:?}", mode);
            prop_assert!(read_in(&mut mode.decrypt(pieces(&expected)), out) == plaintext, "{:?}", mode);
            prop_assert!(read_in(&mut mode.decrypt_known(pieces(&expected), len), out) == plaintext, "{:?}", mode);
        }
    }

    #[test]
    fn any_flipped_bit_is_refused_and_nothing_wrong_is_given_out(
        len in prop_oneof![0..300usize, CHUNK - 2..CHUNK + 3, 2 * CHUNK - 2..3 * CHUNK, 4 * CHUNK - 2..9 * CHUNK],
        at in any::<prop::sample::Index>(),
        bit in 0..8u32,
    ) {
        let plaintext = text(len);
        let mut payload = sealed(&plaintext);
        let at = at.index(payload.len());
        payload[at] ^= 1u8 << bit;
        let chunk = (at / (CHUNK + TAG)) as u64;
        for mode in MODES {
            for decryptor in [mode.decrypt(&payload[..]), mode.decrypt_known(&payload[..], len)] {
                let (found, error) = read(decryptor);
                match error {
                    Some(Error::DamagedPayload { chunk: found }) => prop_assert_eq!(found, chunk),
                    other => prop_assert!(false, "{mode:?} {other:?}"),
                }
                prop_assert!(found == plaintext[..(chunk as usize * CHUNK).min(len)], "{:?}", mode);
            }
        }
    }
}

fn read_in(reader: &mut impl Read, size: usize) -> Vec<u8> {
    let mut all = Vec::new();
    read_to(reader, size, &mut all);
    all
}

/// Reads `size` bytes at once, and now and then fewer.
fn read_to(reader: &mut impl Read, size: usize, all: &mut Vec<u8>) {
    let mut buf = vec![0; size];
    for size in [size, size, size, 1 + size / 7].into_iter().cycle() {
        match reader.read(&mut buf[..size]).unwrap() {
            0 => break,
            count => all.extend_from_slice(&buf[..count]),
        }
    }
}

#[cfg(feature = "parallel")]
mod parallel {
    use super::*;

    /// The threads of payload streams that this process has, those of other tests included.
    #[cfg(target_os = "linux")]
    fn threads() -> Vec<std::path::PathBuf> {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let paths = tasks.filter_map(|task| Some(task.ok()?.path()));
        paths.filter(|path| is_payload_thread(path)).collect()
    }

    #[cfg(target_os = "linux")]
    fn eventually<T>(mut outcome: impl FnMut() -> Option<T>) -> Option<T> {
        (0..3000).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            outcome()
        })
    }

    #[cfg(target_os = "linux")]
    fn is_payload_thread(path: &std::path::Path) -> bool {
        std::fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim_end() == "payload")
    }

    #[test]
    fn a_stream_can_be_dropped_anywhere_and_goes_on_from_anywhere() {
        let plaintext = text(40 * CHUNK + 9);
        let payload = sealed(&plaintext);
        for consumed in [0, 1, CHUNK, 2 * CHUNK + 7, 30 * CHUNK] {
            // The serial stream was read for a while, then the parallel one goes on.
            let mut serial = PayloadDecryptor::new(key(), &payload[..]);
            let mut found = vec![0; consumed];
            serial.read_exact(&mut found).unwrap();
            let mut parallel = serial.parallel(2.try_into().unwrap());
            parallel.read_to_end(&mut found).unwrap();
            assert!(found == plaintext, "{consumed}");

            let mut dropped = PayloadEncryptor::new(key(), &plaintext[..]).parallel(2.try_into().unwrap());
            dropped.read_exact(&mut vec![0; consumed]).unwrap();
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_threads_end_with_the_stream() {
        let source = io::repeat(1).take(100 * CHUNK as u64);
        let mut stream = PayloadEncryptor::new(key(), source).parallel(3.try_into().unwrap());
        stream.fill_buf().unwrap();
        // A thread names itself when it first runs.
        let seen = eventually(|| Some(threads()).filter(|running| running.len() >= 3));
        let mut running = seen.expect("three threads run");
        drop(stream);
        // Some of them may be those of other tests, which end in their time.
        let gone = eventually(|| {
            running.retain(|path| is_payload_thread(path));
            running.is_empty().then_some(())
        });
        assert!(gone.is_some(), "{} threads are left", running.len());
    }

    #[test]
    fn more_threads_than_there_is_use_for_are_not_started() {
        let plaintext = text(100 * CHUNK);
        let mut found = Vec::new();
        let many = usize::MAX.try_into().unwrap();
        PayloadEncryptor::new(key(), &plaintext[..]).parallel(many).read_to_end(&mut found).unwrap();
        assert!(found == sealed(&plaintext));
    }
}
