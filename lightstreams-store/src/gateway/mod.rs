//! An HTTP gateway: content by path, for people, and by block or CAR, for those who verify it.
//!
//! ```text
//! request --> Ask: what is named, in which format, under which conditions
//!              |   /ipns/NAME --IpnsRecords, verified--> /ipfs/CID/...
//!              v
//!             DagPath --> file | listing | block | CAR | TAR | record --> Out --> response
//!              ^
//!             Gate: a block that the policy denies is not here
//! ```
//!
//! ```
//! use std::sync::Arc;
//! use lightstreams_store::{AllowAll, Gate, ImportOptions, Input, MemoryStore, gateway::{Gateway, GatewayConfig}};
//!
//! let store = Arc::new(MemoryStore::default());
//! let file = ("hello.txt".to_owned(), Input::reader(&b"hello world"[..]));
//! let root = ImportOptions::unixfs_v1_2025().import(Input::directory([file]), &*store, &mut |_| ())?;
//! println!("http://127.0.0.1:8080/ipfs/{}/", root.cid);
//!
//! let gateway = Gateway::new(Gate::new(store, Arc::new(AllowAll)), GatewayConfig::default());
//! let router = gateway.router(); // for axum::serve, or to be merged into a router of yours
//! # drop::<axum::Router>(router);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | Asked for | by `format=` or `Accept` | Answer |
//! |---|---|---|
//! | a file | | its bytes, in ranges too; type by name, else by content |
//! | a directory | | its `index.html`, else a listing |
//! | dag-json, dag-cbor, json, cbor | `dag-json`, `dag-cbor`, `json`, `cbor` | the block |
//! | any block | `raw`, `application/vnd.ipld.raw` | the block |
//! | any DAG | `car`, `application/vnd.ipld.car` | a CARv1: `dag-scope`, `entity-bytes`, `car-order`, `car-dups` |
//! | files and directories | `tar`, `application/x-tar` | an archive |
//! | a name | `ipns-record`, `application/vnd.ipfs.ipns-record` | its record |
//!
//! Only what is held is served: nothing is fetched from peers. Several ranges come as `multipart/byteranges`. An answer that
//! fails after it began is broken off, so that nobody takes a part for the whole. DNSLink, `_redirects` and subdomains are not here.
//!
//! (Rules: ipfs/specs `src/http-gateways/path-gateway.md`, `trustless-gateway.md`; IPIP-402, 412, 523, 524; RFC 9110 for conditions
//! and ranges.)

mod ask;
mod blocks;
mod files;
mod listing;
mod media;
pub(crate) mod names;
pub(crate) mod out;
mod ranges;
pub(crate) mod refusal;
mod reply;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    extract::{OriginalUri, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::any,
};
use cid::Cid;
use tokio::sync::Semaphore;

pub use self::names::IpnsRecords;
use self::{
    ask::{Ask, Format, Namespace},
    names::Named,
    out::Out,
    refusal::Refusal,
    reply::Stop,
};
use crate::{
    Block, BlockSource, DAG_CBOR, DAG_JSON, DAG_PB, DagPath, Gate, RAW, Requester, StoreError,
    codec::{CBOR, JSON},
};

/// Settings of a [`Gateway`].
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatewayConfig {
    /// Whether files and listings are served, and not only what a client can verify.
    pub deserialized: bool,
    /// Whether a block may be asked for in another codec than its own.
    pub codec_conversion: bool,
    /// Whether browsers are told to keep pages of files apart from one another and from whatever else this origin serves
    /// (`Content-Security-Policy: sandbox`).
    pub sandbox: bool,
    /// The most requests that are answered at a time; each has a thread while its answer is read. Others wait.
    pub requests_max: usize,
    /// How long a request waits for its turn, and an answer for its client to take the next part.
    pub patience: Duration,
    /// The most blocks of a CAR.
    pub car_blocks_max: u64,
    /// The most entries that a listing shows.
    pub listing_max: usize,
}

impl Default for GatewayConfig {
    /// Files and listings, no conversion, sandboxed; 64 requests, 30 seconds, 2^20 blocks, 10,000 entries.
    fn default() -> Self {
        Self {
            deserialized: true,
            codec_conversion: false,
            sandbox: true,
            requests_max: 64,
            patience: Duration::from_secs(30),
            car_blocks_max: 1 << 20,
            listing_max: 10_000,
        }
    }
}

/// Serves what a [`Gate`] lets through to anonymous clients; clones share their limits.
#[derive(Clone)]
pub struct Gateway {
    gate: Gate,
    names: Arc<dyn IpnsRecords>,
    config: GatewayConfig,
    turns: Arc<Semaphore>,
}

impl Gateway {
    /// A gateway that knows no IPNS names.
    pub fn new(gate: Gate, config: GatewayConfig) -> Self {
        let turns = Arc::new(Semaphore::new(config.requests_max.clamp(1, 512)));
        Self { gate, names: Arc::new(names::NoRecords), config, turns }
    }

    /// The same gateway, with records of names; each is verified whenever it is used.
    #[must_use]
    pub fn with_names(mut self, names: Arc<dyn IpnsRecords>) -> Self {
        self.names = names;
        self
    }

    /// The routes `/ipfs/…` and `/ipns/…`, for GET, HEAD and OPTIONS from any origin. It runs on tokio.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/ipfs/{*path}", any(handle))
            .route("/ipns/{*path}", any(handle))
            .with_state(self.clone())
    }

    async fn answer(
        &self,
        method: Method,
        uri: OriginalUri,
        headers: HeaderMap,
    ) -> Result<Response, Refusal> {
        if method == Method::OPTIONS {
            return Ok(StatusCode::OK.into_response());
        }
        if method != Method::GET && method != Method::HEAD {
            let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "the gateway is read only");
            return Err(refusal.with(header::ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS")));
        }
        let ask = Ask::read(&uri.0, headers)?;
        let turn = tokio::time::timeout(self.config.patience, self.turns.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            let refusal =
                Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too many requests are being answered");
            return Err(refusal.with(header::RETRY_AFTER, HeaderValue::from_static("5")));
        };
        let (mut out, response) = Out::new(method == Method::HEAD, self.config.patience);
        let gateway = self.clone();
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let done = gateway.write(&ask, &mut out);
            out.end(done, |_| None);
        });
        let unanswered = |_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the gateway could not answer");
        response.await.map_err(unanswered)
    }

    /// Finds what is asked for and writes it.
    fn write(&self, ask: &Ask, out: &mut Out) -> Result<(), Stop> {
        let door = Door(&self.gate);
        self.check_trust(ask)?;
        let named = match &ask.namespace {
            Namespace::Ipfs(cid) => Named { root: *cid, names: ask.names.clone(), ttl: None },
            Namespace::Ipns(name) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                if ask.format == Some(Format::IpnsRecord) {
                    return names::serve_record(&*self.names, name, now, ask, out);
                }
                names::resolve(&*self.names, name, &ask.names, now)?
            }
        };
        if ask.format == Some(Format::IpnsRecord) {
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "only a name under /ipns/ has a record").into());
        }
        if ask.only_if_cached && door.block(&named.root).map_err(Refusal::from)?.is_none() {
            let text = format!("{} is not here", named.root);
            return Err(Refusal::new(StatusCode::PRECONDITION_FAILED, text).into());
        }
        let path = DagPath::resolve(&door, &named.root, &named.names).map_err(Refusal::from)?;
        let found = Found { path, named };
        out.state_roots(found.path.roots());
        match (ask.format, found.path.cid().codec()) {
            (Some(Format::Raw), _) => blocks::raw(&door, &found, ask, out),
            (Some(Format::Car), _) => blocks::car(&door, &found, ask, self.config.car_blocks_max, out),
            (Some(Format::Tar), _) => files::tar(&door, &found, ask, out),
            (Some(Format::Json | Format::Cbor) | None, DAG_PB | RAW) => {
                files::unixfs(&door, &found, ask, &self.config, out)
            }
            (Some(Format::DagJson | Format::DagCbor), _) | (_, DAG_JSON | DAG_CBOR | JSON | CBOR) => {
                blocks::value(&door, &found, ask, &self.config, out)
            }
            _ => {
                let text = "the gateway cannot show this codec; ask for format=raw or format=car";
                Err(Refusal::new(StatusCode::NOT_ACCEPTABLE, text).into())
            }
        }
    }

    /// Refuses what a client cannot verify, where only that is served.
    fn check_trust(&self, ask: &Ask) -> Result<(), Refusal> {
        let verifiable = match ask.format {
            Some(Format::Raw) => ask.names.is_empty(),
            Some(Format::Car | Format::IpnsRecord) => true,
            _ => false,
        };
        if verifiable || self.config.deserialized {
            return Ok(());
        }
        let text =
            "only what can be verified is served here: format=raw of a CID, format=car, format=ipns-record";
        Err(Refusal::new(StatusCode::NOT_ACCEPTABLE, text))
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("config", &self.config).finish_non_exhaustive()
    }
}

async fn handle(
    State(gateway): State<Gateway>,
    method: Method,
    uri: OriginalUri,
    headers: HeaderMap,
) -> Response {
    let path = ask::shown_path(&uri.0);
    let answer = gateway.answer(method, uri, headers).await;
    let mut response = answer.unwrap_or_else(IntoResponse::into_response);
    let headers = response.headers_mut();
    headers.extend(path.map(|path| (reply::X_IPFS_PATH, path)));
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, OPTIONS"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "Content-Type, Range, User-Agent, X-Requested-With"),
        (
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            "Content-Length, Content-Range, X-Chunked-Output, X-Ipfs-Path, X-Ipfs-Roots, X-Stream-Output",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// What a request leads to.
struct Found {
    path: DagPath,
    named: Named,
}

impl Found {
    fn cid(&self) -> &Cid {
        self.path.cid()
    }
}

/// The gate as a source of blocks, for a client that has proven nothing.
struct Door<'a>(&'a Gate);

impl BlockSource for Door<'_> {
    fn block(&self, cid: &Cid) -> Result<Option<Block>, StoreError> {
        if let Some(block) = Block::inline(cid) {
            return Ok(Some(block));
        }
        self.0.get(&Requester::Http { account: None }, cid)
    }
}
