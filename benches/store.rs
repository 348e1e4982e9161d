//! Hashing of chunks, building of file DAGs, the backends, and ranges of a file through the gateway.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::sync::Arc;

use axum::{
    body::{Body, to_bytes},
    http::{Request, StatusCode},
};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use lightstreams_store::{
    AllowAll, Block, BlockStore, Chunker, EnvelopeChunker, FileBuilder, FixedChunker, FjallStore, Gate,
    ImportOptions, Input, MemoryStore, SegmentStore,
    gateway::{Gateway, GatewayConfig},
};
use tower::ServiceExt;

const LEAF: usize = 4 * 65_552;
const FILE: usize = 64 << 20;

fn hashing(c: &mut Criterion) {
    let mut group = c.benchmark_group("store::hash_chunk");
    for len in [65_552, LEAF, 1 << 20] {
        let chunk = vec![0x5a; len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(format!("len={len}"), |b| {
            b.iter_batched(|| chunk.clone(), Block::raw, BatchSize::LargeInput);
        });
    }
    group.finish();
}

fn dag(c: &mut Criterion) {
    fn build<C: Chunker + Clone>(
        group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>,
        name: &str,
        chunker: C,
        file: &[u8],
    ) {
        group.bench_function(format!("chunker={name} len={FILE}"), |b| {
            b.iter(|| FileBuilder::new(chunker.clone()).build(&mut &file[..], &mut |_| Ok(())).unwrap());
        });
    }
    let file = vec![0x5a; FILE];
    let mut group = c.benchmark_group("store::build_dag");
    group.sample_size(10).throughput(Throughput::Bytes(FILE as u64));
    build(&mut group, "envelope4", EnvelopeChunker::default(), &file);
    build(&mut group, "fixed1m", FixedChunker::V1_2025, &file);
    group.finish();
}

fn backends(c: &mut Criterion) {
    let blocks: Vec<Block> = (0..64u32)
        .map(|i| Block::raw((0..LEAF as u32).map(|j| (i.wrapping_mul(j) >> 3) as u8).collect::<Vec<_>>()))
        .collect();
    let bytes = (blocks.len() * LEAF) as u64;
    let dir = tempfile::tempdir().unwrap();
    let fjall = FjallStore::open(dir.path()).unwrap();
    let memory = MemoryStore::default();
    let stores: [(&str, &dyn BlockStore); 2] = [("memory", &memory), ("fjall", &fjall)];
    let cids: Vec<_> = blocks.iter().map(|block| *block.cid()).collect();
    for (name, store) in stores {
        let mut group = c.benchmark_group("store::put_many");
        group.sample_size(10).throughput(Throughput::Bytes(bytes));
        group.bench_function(format!("backend={name} blocks=64 len={LEAF}"), |b| {
            b.iter_batched(
                || store.remove_many(&cids).unwrap(),
                |()| store.put_many(&blocks).unwrap(),
                BatchSize::PerIteration,
            );
        });
        group.finish();
        store.put_many(&blocks).unwrap();
        let mut group = c.benchmark_group("store::get");
        group.sample_size(10).throughput(Throughput::Bytes(bytes));
        group.bench_function(format!("backend={name} blocks=64 len={LEAF}"), |b| {
            b.iter(|| cids.iter().map(|cid| store.get(cid).unwrap().unwrap().data().len()).sum::<usize>());
        });
        group.finish();
    }
}

/// Ranges at changing places of a file in segments, each request and its whole answer, without a socket.
fn gateway(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(SegmentStore::open(dir.path().join("blocks")).unwrap());
    let file: Vec<u8> =
        (0..FILE as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    let options = ImportOptions::unixfs_v1_2025();
    let root = options.import(Input::reader(&file[..]), &*store, &mut |_| ()).unwrap().cid;
    let router = Gateway::new(Gate::new(store, Arc::new(AllowAll)), GatewayConfig::default()).router();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut group = c.benchmark_group("store::gateway_range");
    for len in [4 << 10, 1 << 20, 16 << 20] {
        group.throughput(Throughput::Bytes(len as u64));
        let mut from = 0;
        group.bench_function(format!("file={FILE} len={len}"), |b| {
            b.iter(|| {
                from = (from + 7 * len + 12_345) % (FILE - len);
                let request = Request::get(format!("/ipfs/{root}"))
                    .header("range", format!("bytes={from}-{}", from + len - 1))
                    .body(Body::empty())
                    .unwrap();
                runtime.block_on(async {
                    let answer = router.clone().oneshot(request).await.unwrap();
                    assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT);
                    let body = to_bytes(answer.into_body(), len).await.unwrap();
                    assert!(body == file[from..from + len]);
                });
            });
        });
    }
    group.finish();
}

criterion_group!(benches, hashing, dag, backends, gateway);
criterion_main!(benches);
