//! The part of [Kubo's RPC](https://docs.ipfs.tech/reference/kubo/rpc/) that works on blocks and pins, under `/api/v0`: its clients
//! (`kubo-rpc-client`, `curl`) add, read, pin and collect here as they do there, and get the same CIDs.
//!
//! ```text
//! POST --Door: no page of a foreign origin, secret shown--> command --turn, deadline--> thread
//!                                                                                        |
//!  multipart body, as it comes --Upload--> parts --ImportOptions--> Hold --pin--> PinnedStore
//!  JSON lines, bytes, TAR, CAR <--Out------------------------------------- Room --get--^
//! ```
//!
//! ```
//! use std::sync::Arc;
//! use lightstreams_store::{BlockStore, FileDisk, MemoryStore, PinnedStore, rpc::{Rpc, RpcConfig}};
//!
//! # let folder = tempfile::tempdir()?;
//! let blocks: Arc<dyn BlockStore> = Arc::new(MemoryStore::default());
//! let store = PinnedStore::open(blocks, Arc::new(FileDisk::open(folder.path())?))?;
//! let router = Rpc::new(Arc::new(store), RpcConfig::default()).router(); // for axum::serve, on a loopback address
//! # drop::<axum::Router>(router);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | Command | What is not as in Kubo |
//! |---|---|
//! | `add` | `nocopy`, `fscache`, `to-files` are refused |
//! | `cat`, `ls`, `refs`, `refs/local`, `resolve` | |
//! | `get` | always a TAR; `compress` is refused |
//! | `block/get`, `block/put`, `block/stat`, `block/rm` | blocks above 2 MiB are refused; `block/rm` spares what a pin or a running command holds |
//! | `dag/get`, `dag/put`, `dag/resolve`, `dag/stat` | codecs raw, dag-pb, dag-cbor, dag-json; `dag/stat` tells its result only |
//! | `dag/import`, `dag/export` | |
//! | `pin/add`, `pin/ls`, `pin/rm`, `pin/update`, `pin/verify` | pins whose names begin with [`reserved_pins`](RpcConfig::reserved_pins) stay |
//! | `repo/gc`, `repo/stat`, `repo/verify` | `drop` and `heal` are refused |
//! | `files/stat`, `files/ls`, `files/read`, `files/flush` | `with-local` is refused |
//! | `files/mkdir`, `files/cp`, `files/mv`, `files/rm`, `files/write` | what `cp` takes must be here; a file that is written gets the CID that `add` would give it; each change is durable, whatever `flush` says, and looks once through all that is in the tree; an offset at most 1 GiB behind the end; `mode` and `mtime` are refused |
//! | `id`, `version`, `swarm/peers` | what [`NodeInfo`] says |
//!
//! The mutable file system is one directory, under a pin named `/files NUMBER` that its clients do not see; one [`Rpc`] and its clones
//! keep it for a store.
//!
//! **Not here**: `files/chcid`, `files/chmod`, `files/touch`, names and keys, the network (`bitswap`, `dht`, `routing`, `swarm`,
//! `pubsub`, `ping`), configuration, `object/*`, remote pins, arguments in the body, answers as text (`enc=text`). Nothing is fetched from peers.
//!
//! **Errors.** A command that fails answers 500, a wrong request 400, too many at a time 429, each as `{"Message", "Code", "Type": "error"}`;
//! an unknown command 404, a foreign origin or no authorization 403, another method than POST 405, in text. An answer that fails after it
//! began ends with the trailer `X-Stream-Error` for a client that says `TE: trailers`, and is broken off for all others, so that nobody takes a part
//! for the whole.
//!
//! Whoever reaches it may do all of it: it belongs on a loopback address. (Rules: ipfs/kubo `core/commands`, ipfs/go-ipfs-cmds `http`,
//! ipfs/boxo `files`.)

mod add;
mod ask;
mod blocks;
mod body;
mod dag;
mod door;
mod files;
mod links;
mod multipart;
mod mutable;
mod node;
mod pin;
mod refusal;
mod repo;
mod room;
mod work;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderValue, Method, Request, StatusCode, header},
    response::{IntoResponse, Response},
    routing::any,
};
use axum::{body::Body, http::HeaderName};
use tokio::sync::Semaphore;

use self::{ask::Ask, body::Upload, door::Door, mutable::Mutable, refusal::RpcError, work::Work};
pub use self::{
    door::Authorization,
    node::{NodeIdentity, NodeInfo, NodePeer},
};
use crate::{
    BlockStore, PinnedStore,
    gateway::{IpnsRecords, names::NoRecords, out::Out},
};

const X_STREAM_ERROR: HeaderName = HeaderName::from_static("x-stream-error");

/// Settings of an [`Rpc`].
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct RpcConfig {
    /// Origins whose pages may ask, as `http://localhost:3000`, beside clients that are no browsers; `*` lets any in.
    pub origins: Vec<String>,
    /// What clients must show, any of these; with none, nothing.
    pub authorizations: Vec<Authorization>,
    /// The most requests that are answered at a time; each has a thread. Others wait.
    pub requests_max: usize,
    /// How long a request waits for its turn, for the next part of its body, and for its client to take the next part of the answer.
    pub patience: Duration,
    /// How long an answer may take; a request may ask for less with `timeout`.
    pub time_max: Duration,
    /// The most bytes of a request's body.
    pub body_bytes_max: u64,
    /// The most files and directories that one request adds, lists or writes out; some 250 bytes of memory go to each.
    pub entries_max: u64,
    /// The most blocks that one request walks; some 200 bytes of memory go to each.
    pub blocks_max: u64,
    /// Pins whose names begin so are somebody else's: they are listed, and neither set, changed nor removed.
    pub reserved_pins: Option<String>,
    /// What `version` says.
    pub version: String,
}

impl Default for RpcConfig {
    /// No origins, nothing to show, 16 requests, 60 seconds of patience, a day; 1 TiB, 2^20 entries, 2^22 blocks, no reserved pins, this
    /// crate's version.
    fn default() -> Self {
        Self {
            origins: Vec::new(),
            authorizations: Vec::new(),
            requests_max: 16,
            patience: Duration::from_secs(60),
            time_max: Duration::from_secs(86_400),
            body_bytes_max: 1 << 40,
            entries_max: 1 << 20,
            blocks_max: 1 << 22,
            reserved_pins: None,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// Answers commands over a store; clones share their limits.
#[derive(Clone)]
pub struct Rpc {
    inner: Arc<Inner>,
}

#[derive(Clone)]
struct Inner {
    store: Arc<PinnedStore<Arc<dyn BlockStore>>>,
    node: Arc<dyn NodeInfo>,
    names: Arc<dyn IpnsRecords>,
    door: Door,
    config: RpcConfig,
    turns: Arc<Semaphore>,
    mutable: Arc<Mutable>,
}

impl Rpc {
    /// The commands over `store`, of a node that is alone and knows no names.
    pub fn new(store: Arc<PinnedStore<Arc<dyn BlockStore>>>, config: RpcConfig) -> Self {
        let (node, names) = (Arc::new(node::Alone), Arc::new(NoRecords));
        let turns = Arc::new(Semaphore::new(config.requests_max.clamp(1, 512)));
        let door = Door::new(&config.origins, &config.authorizations);
        let mutable = Arc::default();
        Self { inner: Arc::new(Inner { store, node, names, door, config, turns, mutable }) }
    }

    /// The same commands, of the node that `node` tells of.
    #[must_use]
    pub fn with_node(mut self, node: Arc<dyn NodeInfo>) -> Self {
        Arc::make_mut(&mut self.inner).node = node;
        self
    }

    /// The same commands, with records of names for paths `/ipns/…`; each is verified whenever it is used.
    #[must_use]
    pub fn with_names(mut self, names: Arc<dyn IpnsRecords>) -> Self {
        Arc::make_mut(&mut self.inner).names = names;
        self
    }

    /// The routes `/api/v0/…`. It runs on tokio.
    pub fn router(&self) -> Router {
        Router::new().route("/api/v0/{*command}", any(handle)).with_state(self.clone())
    }

    async fn answer(&self, command: &str, request: Request<Body>) -> Result<Response, RpcError> {
        let inner = &self.inner;
        let (head, body) = request.into_parts();
        if head.method == Method::OPTIONS {
            return Ok((StatusCode::NO_CONTENT, [(header::ALLOW, "OPTIONS, POST")]).into_response());
        }
        if head.method != Method::POST {
            return Err(RpcError::method());
        }
        inner.door.check_origin(&head.headers)?;
        inner.door.check_secret(&head.headers)?;
        let command = work::find(command).ok_or_else(RpcError::no_command)?;
        let ask = Ask::read(head.uri.query().unwrap_or_default());
        command.check(&ask)?;
        let content_type = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let boundary = multipart::boundary(content_type.unwrap_or_default());
        if command.takes_files && boundary.is_none() {
            return Err(RpcError::client("file argument is required, as multipart/form-data"));
        }
        let time = ask.timeout()?.unwrap_or(inner.config.time_max).min(inner.config.time_max);
        let until = Instant::now() + time;

        let patience = inner.config.patience;
        let turn = tokio::time::timeout(patience.min(time), inner.turns.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(RpcError::busy()) };
        let trailers = head.headers.get_all(header::TE).iter().any(|value| value.as_bytes() == b"trailers");
        let (mut out, response) = Out::new(false, patience);
        let upload = Upload::new(body, inner.config.body_bytes_max, patience, until);
        let rpc = self.clone();
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let mut work = Work { rpc: &rpc.inner, ask: &ask, upload, boundary, until, out: &mut out };
            let done = (command.run)(&mut work);
            drop(work);
            out.end(done, |error: &RpcError| trailers.then(|| error.trailers()));
        });
        response.await.map_err(|_| RpcError::failed("the command ended in the middle"))
    }
}

impl fmt::Debug for Rpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rpc").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

async fn handle(State(rpc): State<Rpc>, Path(command): Path<String>, request: Request<Body>) -> Response {
    let asked = request.headers().clone();
    let answer = rpc.answer(&command, request).await;
    let mut response = answer.unwrap_or_else(|error| {
        tracing::debug!(command, error = error.message(), "a command was refused");
        error.into_response()
    });
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    rpc.inner.door.allow(&asked, headers);
    response
}
