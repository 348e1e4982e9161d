//! Payload streams on one core and on all, single reads, and what a header costs.
//!
//! With `--features ring` or `openssl` on that cipher. Against the `age` crate and command: `compare/age.sh`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::{
    hint::black_box,
    io::{BufRead, Read, Seek, SeekFrom},
    thread,
};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lightstreams_crypto::{
    CHUNK, FileKey, Header, PayloadDecryptor, PayloadEncryptor, PayloadKey, PayloadNonce, Recipient,
    SeekableReader, TAG, X25519Identity, commitment, payload_len, rewrap,
};
use sha2::{Digest, Sha256};

const LENS: [u64; 3] = [65_536, 1 << 20, 64 << 20];
/// Chunks in a leaf of a payload's DAG.
const LEAF_CHUNKS: [usize; 3] = [1, 4, 15];

fn key() -> PayloadKey {
    PayloadKey::derive(&FileKey::from_bytes([1; 16]), &PayloadNonce::from_bytes([2; 16]))
}

fn sealed(plain: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::new();
    PayloadEncryptor::new(key(), plain).read_to_end(&mut sealed).unwrap();
    sealed
}

/// Takes everything a stream gives out, without a copy.
fn drain(mut stream: impl BufRead) -> usize {
    let mut total = 0;
    loop {
        let len = black_box(stream.fill_buf().unwrap()).len();
        if len == 0 {
            return total;
        }
        stream.consume(len);
        total += len;
    }
}

fn streams(c: &mut Criterion) {
    let cores = thread::available_parallelism().unwrap();
    for len in LENS {
        let plain = vec![0x5a; len as usize];
        let sealed = sealed(&plain);
        let mut bench = |operation: &str, parameters: String, run: &dyn Fn() -> usize| {
            let mut group = c.benchmark_group(format!("crypto::{operation}"));
            group.sample_size(20).throughput(Throughput::Bytes(len));
            group.bench_function(parameters, |b| b.iter(run));
            group.finish();
        };
        let encryptor = || PayloadEncryptor::new(key(), plain.as_slice());
        let decryptor = || PayloadDecryptor::new(key(), sealed.as_slice());
        bench("encrypt", format!("len={len}"), &|| drain(encryptor()));
        bench("decrypt", format!("len={len}"), &|| drain(decryptor()));
        let parameters = format!("len={len} threads={cores}");
        bench("encrypt_parallel", parameters.clone(), &|| drain(encryptor().parallel(cores)));
        bench("decrypt_parallel", parameters, &|| drain(decryptor().parallel(cores)));
    }
}

/// 4 KiB at places that are never in the chunk at hand.
fn random_read(c: &mut Criterion) {
    const LEN: usize = 64 << 20;
    const READ: usize = 4096;
    let payload = sealed(&vec![0x5a; LEN]);
    let mut places = (0u64..).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (LEN - READ) as u64);
    let mut reader = SeekableReader::with_plaintext_len(key(), payload.as_slice(), LEN as u64);
    let mut found = [0; READ];
    let mut group = c.benchmark_group("crypto::random_read");
    group.throughput(Throughput::Elements(1));
    group.bench_function(format!("len={LEN} read={READ}"), |b| {
        b.iter(|| {
            reader.seek(SeekFrom::Start(places.next().unwrap())).unwrap();
            reader.read_exact(&mut found).unwrap();
        });
    });
    // As a node reads: the leaf in which the chunk lies is hashed first.
    for chunks in LEAF_CHUNKS {
        let leaf = chunks * (CHUNK + TAG);
        group.bench_function(format!("len={LEN} read={READ} hashed_leaf={leaf}"), |b| {
            b.iter(|| {
                let place = places.next().unwrap();
                let start = place as usize / CHUNK / chunks * leaf;
                black_box(Sha256::digest(&payload[start..payload.len().min(start + leaf)]));
                reader.seek(SeekFrom::Start(place)).unwrap();
                reader.read_exact(&mut found).unwrap();
            });
        });
    }
    group.finish();
}

fn headers(c: &mut Criterion) {
    let rng = &mut rand::rng();
    let (key, nonce) = (FileKey::generate(rng), PayloadNonce::generate(rng));
    let identity = X25519Identity::generate(rng);
    let recipient = identity.recipient();
    let header = Header::wrap(&key, &[&recipient as &dyn Recipient], rng).unwrap();
    let mut bench = |id: &str, run: &mut dyn FnMut()| {
        let (operation, parameters) = id.split_once('/').unwrap();
        let mut group = c.benchmark_group(format!("crypto::{operation}"));
        group.throughput(Throughput::Elements(1));
        group.bench_function(parameters, |b| b.iter(&mut *run));
        group.finish();
    };
    bench("header_wrap/stanzas=1", &mut || {
        black_box(Header::wrap(&key, &[&recipient], &mut rand::rng()).unwrap());
    });
    bench("header_unwrap/stanzas=1", &mut || {
        black_box(header.unwrap(&[&identity]).unwrap());
    });
    bench("commitment/ctx=92", &mut || {
        black_box(commitment(black_box(&key), &nonce, &[0; 92]));
    });
}

/// New recipients for a file in place: only the header is read, and only it is written.
fn rewraps(c: &mut Criterion) {
    let rng = &mut rand::rng();
    let identity = X25519Identity::generate(rng);
    let readers: Vec<_> = (0..32).map(|_| X25519Identity::generate(rng).recipient()).collect();
    let readers: Vec<&dyn Recipient> = readers.iter().map(|reader| reader as &dyn Recipient).collect();
    let mut group = c.benchmark_group("crypto::rewrap");
    group.throughput(Throughput::Elements(1));
    // The size of the payload has no part in it.
    for (len, count) in [(1u64 << 20, 1), (100 << 30, 1), (100 << 30, 32)] {
        let (key, nonce) = (FileKey::generate(rng), PayloadNonce::generate(rng));
        let header = Header::wrap(&key, &[&identity.recipient()], rng).unwrap();
        let readers = &readers[..count];
        let written = rewrap(&header, &[&identity], readers, rng).unwrap().to_block(&nonce).len();
        assert!(written <= 4096, "{written} bytes are written for {count} recipients");
        let parameters = format!("payload={} recipients={count} written={written}", payload_len(len));
        group.bench_function(BenchmarkId::from_parameter(parameters), |b| {
            b.iter_batched(
                rand::rng,
                |mut rng| rewrap(&header, &[&identity], readers, &mut rng).unwrap().to_block(&nonce),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, streams, random_read, headers, rewraps);
criterion_main!(benches);
