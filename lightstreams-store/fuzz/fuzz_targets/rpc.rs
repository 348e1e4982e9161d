//! Requests to the RPC: first line the command and its query, the rest a body with the boundary `b`. Each is answered, and the same however
//! its body comes.

#![no_main]

use std::{cell::LazyCell, convert::Infallible, sync::Arc};

use axum::{
    body::{Body, Bytes, to_bytes},
    http::{Request, StatusCode},
};
use libfuzzer_sys::fuzz_target;
use lightstreams_store::{
    BlockStore, MemoryStore, PinnedStore,
    rpc::{Rpc, RpcConfig},
    testing::FaultyDisk,
};
use tokio::runtime::Runtime;
use tower::ServiceExt;

thread_local! {
    static RUNTIME: LazyCell<Runtime> = LazyCell::new(|| {
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
    });
}

/// Asks a node that holds nothing; the body comes in pieces of `step` bytes.
async fn ask(path: &str, body: &[u8], step: usize) -> Option<(StatusCode, Bytes)> {
    let blocks: Arc<dyn BlockStore> = Arc::new(MemoryStore::default());
    let store = PinnedStore::open(blocks, Arc::new(FaultyDisk::new(1))).expect("a disk");
    let router = Rpc::new(Arc::new(store), RpcConfig::default()).router();
    let pieces: Vec<_> = body.chunks(step).map(|piece| Ok::<_, Infallible>(Bytes::copy_from_slice(piece))).collect();
    let body = Body::from_stream(futures::stream::iter(pieces));
    let request = Request::post(format!("/api/v0/{path}")).header("content-type", "multipart/form-data; boundary=b");
    let Ok(response) = router.oneshot(request.body(body).ok()?).await;
    let status = response.status();
    // An answer may break off, which is one of its ends.
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap_or_default();
    Some((status, body))
}

fuzz_target!(|data: &[u8]| {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (path, body) = (&data[..end], data.get(end + 1..).unwrap_or_default());
    let Ok(path) = std::str::from_utf8(path) else { return };
    // How long something took is no property of it.
    if path.contains("timeout") {
        return;
    }
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            assert_eq!(ask(path, body, 3).await, ask(path, body, 4096).await);
        });
    });
});
