//! The RPC as its own client has it: `kubo-rpc-client` from npm.

use std::process::Command;

use lightstreams_store::rpc::{NodeIdentity, NodeInfo, NodePeer, Rpc, RpcConfig};

use crate::{npm::npm, rpc::pinned};

struct Node;

impl NodeInfo for Node {
    fn identity(&self) -> Option<NodeIdentity> {
        let id = "12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5";
        let mut identity = NodeIdentity::new(id);
        identity.addresses.push(format!("/ip4/127.0.0.1/tcp/4001/p2p/{id}"));
        Some(identity)
    }

    fn peers(&self) -> Vec<NodePeer> {
        Vec::new()
    }
}

#[test]
fn kubo_rpc_client_adds_reads_pins_and_collects() {
    let Some(folder) = npm("kubo-rpc-client") else { return };
    let pins = tempfile::tempdir().unwrap();
    let rpc = Rpc::new(pinned(&pins), RpcConfig::default()).with_node(std::sync::Arc::new(Node));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    runtime.spawn(axum::serve(listener, rpc.router()).into_future());
    let told = Command::new("node").arg(folder.join("story.mjs")).arg(url).output().unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    assert!(told.stdout.ends_with(b"done\n"), "{}", String::from_utf8_lossy(&told.stdout));
}
