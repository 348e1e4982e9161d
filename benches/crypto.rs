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
    for len in LENS {
        let plain = vec![0x5a; len as usize];
        let mut sealed = Vec::new();
        io::copy(&mut PayloadEncryptor::new(PayloadKey::derive(&key, &nonce), plain.as_slice()), &mut sealed)
            .unwrap();
        let mut group = c.benchmark_group("crypto::encrypt");
        group.sample_size(20).throughput(Throughput::Bytes(len));
        group.bench_function(format!("len={len}"), |b| {
            b.iter(|| {
                io::copy(
                    &mut PayloadEncryptor::new(PayloadKey::derive(&key, &nonce), plain.as_slice()),
                    &mut io::sink(),
                )
            });
        });
        group.finish();
        let mut group = c.benchmark_group("crypto::decrypt");
        group.sample_size(20).throughput(Throughput::Bytes(len));
        group.bench_function(format!("len={len}"), |b| {
            b.iter(|| {
                io::copy(
                    &mut PayloadDecryptor::new(PayloadKey::derive(&key, &nonce), sealed.as_slice()),
                    &mut io::sink(),
                )
            });
        });
        group.finish();
    }
}

fn header(c: &mut Criterion) {
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

criterion_group!(benches, payload, header);
criterion_main!(benches);
