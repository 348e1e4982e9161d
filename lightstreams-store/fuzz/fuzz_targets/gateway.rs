//! Requests to a gateway: first line the path, the others headers. Any of them is answered, and none by a failure of ours.

#![no_main]

use std::{
    cell::LazyCell,
    sync::{Arc, LazyLock},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::Request,
};
use libfuzzer_sys::fuzz_target;
use lightstreams_store::{
    AllowAll, Block, BlockStore, Codec, DAG_CBOR, Gate, ImportOptions, Input, Ipld, MemoryStore,
    gateway::{Gateway, GatewayConfig},
};
use tokio::runtime::Runtime;
use tower::ServiceExt;

/// The content of seeds.rs.
static ROUTER: LazyLock<Router> = LazyLock::new(|| {
    let store = Arc::new(MemoryStore::default());
    let entries = [("index.html", "<p>"), ("a b", "words"), ("d", "{}")];
    let inputs = entries.map(|(name, text)| (name.to_owned(), Input::reader(text.as_bytes())));
    let tree = Input::directory([("site".to_owned(), Input::directory(inputs))]);
    let root = ImportOptions::unixfs_v1_2025().import(tree, &*store, &mut |_| ()).expect("an import").cid;
    let value = Ipld::Map([("site".to_owned(), Ipld::List(vec![Ipld::Link(root), Ipld::Null]))].into());
    let block = Block::new(DAG_CBOR, Codec::DagCbor.encode(&value).expect("a value"));
    store.put(&block).expect("memory");
    Gateway::new(Gate::new(store, Arc::new(AllowAll)), GatewayConfig::default()).router()
});

thread_local! {
    static RUNTIME: LazyCell<Runtime> = LazyCell::new(|| {
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
    });
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.lines();
    let mut request = Request::get(lines.next().unwrap_or_default());
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        request = request.header(name, value);
    }
    let Ok(request) = request.body(Body::empty()) else { return };
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let Ok(response) = ROUTER.clone().oneshot(request).await;
            assert_ne!(response.status().as_u16(), 500);
            let stated = response.headers().get("content-length").cloned();
            let body = to_bytes(response.into_body(), 1 << 20).await.expect("a whole answer");
            if let Some(stated) = stated {
                assert_eq!(stated.to_str().expect("a number"), body.len().to_string());
            }
        });
    });
});
