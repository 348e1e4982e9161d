//! Payload encryption and decryption, and what a header costs.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{hint::black_box, io};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lightstreams_crypto::{
    FileKey, Header, PayloadDecryptor, PayloadEncryptor, PayloadKey, PayloadNonce, Recipient, X25519Identity,
    commitment,
};

const LENS: [u64; 3] = [65_536, 1 << 20, 64 << 20];

fn payload(c: &mut Criterion) {
    let rng = &mut rand::rng();
    let (key, nonce) = (FileKey::generate(rng), PayloadNonce::generate(rng));
    let mut group = c.benchmark_group("crypto");
    group.sample_size(20);
    for len in LENS {
        let plain = vec![0x5a; len as usize];
        let mut sealed = Vec::new();
        io::copy(&mut PayloadEncryptor::new(PayloadKey::derive(&key, &nonce), plain.as_slice()), &mut sealed)
            .unwrap();
        group.throughput(Throughput::Bytes(len));
        group.bench_function(format!("encrypt/len={len}"), |b| {
            b.iter(|| {
                io::copy(
                    &mut PayloadEncryptor::new(PayloadKey::derive(&key, &nonce), plain.as_slice()),
                    &mut io::sink(),
                )
            });
        });
        group.bench_function(format!("decrypt/len={len}"), |b| {
            b.iter(|| {
                io::copy(
                    &mut PayloadDecryptor::new(PayloadKey::derive(&key, &nonce), sealed.as_slice()),
                    &mut io::sink(),
                )
            });
        });
    }
    group.finish();
}

fn header(c: &mut Criterion) {
    let rng = &mut rand::rng();
    let (key, nonce) = (FileKey::generate(rng), PayloadNonce::generate(rng));
    let identity = X25519Identity::generate(rng);
    let recipient = identity.recipient();
    let header = Header::wrap(&key, &[&recipient as &dyn Recipient], rng).unwrap();
    let mut group = c.benchmark_group("crypto");
    group.throughput(Throughput::Elements(1));
    group.bench_function("header_wrap/stanzas=1", |b| {
        b.iter(|| Header::wrap(&key, &[&recipient], &mut rand::rng()))
    });
    group.bench_function("header_unwrap/stanzas=1", |b| b.iter(|| header.unwrap(&[&identity])));
    group.bench_function("commitment/ctx=92", |b| b.iter(|| commitment(black_box(&key), &nonce, &[0; 92])));
    group.finish();
}

criterion_group!(benches, payload, header);
criterion_main!(benches);
