//! The RPC as its own client has it: `kubo-rpc-client` from npm.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use lightstreams_store::rpc::{NodeIdentity, NodeInfo, NodePeer, Rpc, RpcConfig};

use crate::rpc::pinned;

/// A copy of the story with its packages; without node 22 and npm, why not.
fn installed() -> Result<PathBuf, String> {
    let version = Command::new("node").arg("--version").output().map_err(|error| format!("node: {error}"))?;
    let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    let major = version.strip_prefix('v').and_then(|version| version.split('.').next()?.parse().ok());
    if major.is_none_or(|major: u32| major < 22) {
        return Err(format!("node is {version}, and 22 is needed"));
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kubo-rpc-client");
    fs::create_dir_all(&target).unwrap();
    for file in ["package.json", "package-lock.json", "story.mjs"] {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kubo-rpc-client").join(file);
        fs::copy(from, target.join(file)).unwrap();
    }
    if !target.join("node_modules").is_dir() {
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&target);
        let output = npm.output().map_err(|error| format!("npm: {error}"))?;
        if !output.status.success() {
            return Err(format!("npm ci: {}", String::from_utf8_lossy(&output.stderr).trim_end()));
        }
    }
    Ok(target)
}

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
    let folder = match installed() {
        Ok(folder) => folder,
        Err(missing) => {
            let required = env::var("LIGHTSTREAMS_REQUIRE_TOOLS").as_deref() == Ok("1");
            assert!(!required, "what kubo-rpc-client needs is not here: {missing}");
            return eprintln!("skipped: what kubo-rpc-client needs is not here: {missing}");
        }
    };
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
