//! The routes of the private API.
//!
//! | route | body | answer |
//! |---|---|---|
//! | `POST /rpc` | JSON-RPC | JSON-RPC, always 200 |
//! | `GET /v1/status` | | who this node is and what it sees |
//! | `PUT /v1/blocks?content=&origin=` | CAR | `{blocks, bytes}`, once all are durable |
//! | `POST /v1/contents` | `{uri, manifest, origin}` | `{}`, once the content is in the index of the block gate |
//! | `POST /v1/custodian` | `{account}` | `{record}` |
//! | `POST /v1/delegation` | `{message}` | `{account, until}` |
//! | `POST /v1/release` | `{holder, endpoints, request}` | `{answer}` |
//! | `POST /v1/fetch` | `{content, providers, cids or payload, keep}` | CAR |
//! | `PUT`, `GET /v1/kept/{content}/{version}` | `{uri, manifest, header}` | the same |
//! | `GET /v1/kept` | | `{kept: [{uri, content, version, manifest}]}` |
//! | `GET /v1/receipts?content=` | | `{size, root, receipts: [{index, cbor, sig}]}` |
//! | `POST /v1/chain/snapshot` | `{dir}` | the manifest of the snapshot that was written into the new directory `dir` |
//! | `POST /v1/peers` | `{addr}` | `{peer_id}` |
//!
//! Errors are `{"error": {"code", "message", "hint", "exit"}}`. Wire records travel as 0x hex of their CBOR.

use super::stream::piece_reader;
use super::{Failure, fetch};
use crate::adapters::now_ms;
use crate::daemon::{Node, ensure_room, snapshot, storage_error};
use crate::error::{Exit, NodeError, Result};
use crate::network::{Held, ReleaseService, peer_of, unix_now};
use crate::vault::{
    AuthAnswer, ChainView, CustodianRecord, DELEGATION_MAX, IndexError, Kept, KeptError, Origin, Place,
    REQUEST_MAX, read_log,
};
use alloy_primitives::{Address, B256, Bytes as Hex};
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Query, State};
use axum::http::Request;
use axum::response::Response;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use cid::Cid;
use futures::StreamExt;
use libp2p::{Multiaddr, PeerId};
use lightstreams_acl::{ContentId, ContentUri};
use lightstreams_store::{Block, CarReader, FileDisk};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::io::Read;
use std::sync::{Arc, mpsc};

/// A JSON body has at most this many bytes.
const JSON_LEN_MAX: usize = 1 << 20;
/// Blocks of an upload are stored in batches of about so many bytes.
const BATCH_BYTES: usize = 8 << 20;
/// And at most so many blocks.
const BATCH_BLOCKS: usize = 1024;
/// Endpoints tried for one release.
const ENDPOINTS_MAX: usize = 16;
/// Receipts in one answer.
const RECEIPTS_MAX: usize = 10_000;

type Shared = State<Arc<Node>>;
type Answer = std::result::Result<Json<Value>, Failure>;

pub(super) fn router(node: Arc<Node>) -> Router {
    Router::new()
        .route("/rpc", post(rpc))
        .route("/v1/status", get(status))
        .route("/v1/blocks", put(put_blocks))
        .route("/v1/contents", post(add_content))
        .route("/v1/custodian", post(custodian))
        .route("/v1/delegation", post(delegation))
        .route("/v1/release", post(release))
        .route("/v1/fetch", post(fetch::fetch))
        .route("/v1/kept", get(list_kept))
        .route("/v1/kept/{content}/{version}", put(put_kept).get(get_kept))
        .route("/v1/receipts", get(receipts))
        .route("/v1/chain/snapshot", post(chain_snapshot))
        .route("/v1/peers", post(dial))
        .fallback(|| async { Failure(NodeError::not_found("no_route", "the private API has no such route")) })
        .with_state(node)
}

/// Reads a JSON body of bounded length.
pub(super) async fn json_body<T: DeserializeOwned>(body: Body) -> Result<T> {
    let bytes = to_bytes(body, JSON_LEN_MAX)
        .await
        .map_err(|_| NodeError::usage("bad_request", "the body is broken or longer than 1 MiB"))?;
    serde_json::from_slice(&bytes)
        .map_err(|e| NodeError::usage("bad_request", format!("the body is not as wanted: {e}")))
}

/// Runs work that blocks, off the reactor.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(NodeError::new("internal", "the request ended in the middle")),
    }
}

async fn rpc(State(node): Shared, request: Request<Body>) -> Response {
    node.rpc.answer_body(request.into_body()).await
}

async fn status(State(node): Shared) -> Answer {
    let peers = node.network.peers().await?;
    let peers: Vec<Value> = peers
        .into_iter()
        .map(|peer| {
            let accounts: Vec<Value> = peer
                .shown
                .iter()
                .map(|(account, answer)| match answer {
                    Some(AuthAnswer::Accepted { until }) => json!({ "account": account, "until": until }),
                    Some(AuthAnswer::Refused { code }) => {
                        json!({ "account": account, "refused": code.as_str() })
                    }
                    None => json!({ "account": account }),
                })
                .collect();
            json!({
                "peer_id": peer.id.to_string(),
                "address": peer.address.to_string(),
                "outgoing": peer.outgoing,
                "accounts": accounts,
            })
        })
        .collect();
    let listen: Vec<String> = node.network.listen_addresses().iter().map(ToString::to_string).collect();
    let status = blocking(move || {
        let (head, settled) = (node.chain.head(), node.chain.final_block());
        let view = node.view.head().map_err(|e| storage_error("cannot read the chain's head", e))?;
        let network = node.chain.genesis().network();
        let contract = |name: &str| network.and_then(|network| network.contracts.get(name)).copied();
        let (receipts, root) = node.releases.engine().log_root();
        Ok(json!({
            "version": env!("CARGO_PKG_VERSION"),
            "chain_id": node.chain.chain_id(),
            "genesis": node.chain.genesis_hash(),
            "head": { "number": head.number(), "hash": head.hash, "time": head.header.timestamp },
            "final": { "number": settled.number, "hash": settled.hash },
            "stale": view.is_stale(now_ms()),
            "highest_seen": node.network.highest_block(),
            "peers": peers,
            "peer_id": node.identity.peer_id.to_string(),
            "holder": B256::new(node.identity.holder),
            "recipient": node.identity.recipient.to_string(),
            "listen": listen,
            "rpc": node.listeners.rpc,
            "gateway": node.listeners.gateway,
            "private": node.listeners.private,
            "kubo": node.listeners.kubo,
            "contracts": {
                "registry": contract("registry"),
                "custodians": contract("custodians"),
                "market": contract("market"),
            },
            "period_ms": network.map(|network| network.block_period_ms),
            "empty_block_ms": network.and_then(|network| network.empty_block_ms),
            "operator": node.config.account,
            "authority": node.config.authority,
            "admit": node.config.admit,
            "database": node.config.storage.name(),
            "oldest_state": node.chain.oldest_state(),
            "store": node.blocks.status(node.index.contents().len()),
            "receipts": { "size": receipts, "root": root },
        }))
    });
    Ok(Json(status.await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SnapshotInto {
    dir: std::path::PathBuf,
}

async fn chain_snapshot(State(node): Shared, body: Body) -> Answer {
    let SnapshotInto { dir } = json_body(body).await?;
    if !dir.is_absolute() {
        return Err(NodeError::usage("bad_request", "`dir` is a path from the root").into());
    }
    let manifest = blocking(move || {
        ensure_room(dir.parent().unwrap_or(&dir), 0)?;
        snapshot::write(&node.chain, node.config.storage, &dir, &mut |_, _| ())
    });
    Ok(Json(json!(manifest.await?)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PutBlocks {
    content: Option<B256>,
    origin: Option<String>,
}

async fn put_blocks(State(node): Shared, Query(query): Query<PutBlocks>, body: Body) -> Answer {
    query.origin.as_deref().map(origin).transpose()?;
    let place = query.content.map(|content| node.place(ContentId(content)));
    let (feed, reader) = piece_reader();
    let stored = tokio::task::spawn_blocking(move || store_car(&node, place.as_ref(), reader));
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let broken = piece.is_err();
        // The other side has ended early: it knows why.
        if feed.send(piece.map_err(std::io::Error::other)).await.is_err() || broken {
            break;
        }
    }
    drop(feed);
    let stored = stored.await.map_err(|_| NodeError::new("internal", "the upload ended in the middle"))?;
    let (blocks, bytes) = stored?;
    Ok(Json(json!({ "blocks": blocks, "bytes": bytes })))
}

/// Verifies and stores the blocks of a CAR; returns their number and bytes once all of them are durable.
///
/// One thread verifies the next batch while this one makes the last one durable.
fn store_car(node: &Node, place: Option<&Place>, input: impl Read + Send) -> Result<(u64, u64)> {
    let (to, batches) = mpsc::sync_channel(1);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let sent = read_batches(input, |batch| to.send(Ok(batch)).is_ok());
            // Whoever takes the batches is gone if it failed itself, and says so.
            let _ = sent.map_err(|error| to.send(Err(error)));
        });
        let (mut blocks, mut bytes) = (0u64, 0u64);
        for batch in batches {
            let batch: Vec<Block> = batch?;
            keep(node, place, &batch)?;
            blocks += batch.len() as u64;
            bytes += batch.iter().map(|block| block.len() as u64).sum::<u64>();
        }
        Ok((blocks, bytes))
    })
}

/// Reads a CAR in batches until its end, or until `take` wants no more.
fn read_batches(input: impl Read, take: impl Fn(Vec<Block>) -> bool) -> Result<()> {
    let wrong = |e| NodeError::usage("bad_car", "the CAR stream cannot be read").because(e);
    let mut car = CarReader::new(input).map_err(wrong)?;
    let (mut batch, mut batch_bytes) = (Vec::new(), 0);
    while let Some(block) = car.next_block().map_err(wrong)? {
        batch_bytes += block.len();
        batch.push(block);
        if batch_bytes >= BATCH_BYTES || batch.len() >= BATCH_BLOCKS {
            batch_bytes = 0;
            if !take(std::mem::take(&mut batch)) {
                return Ok(());
            }
        }
    }
    take(batch);
    Ok(())
}

/// Stores blocks, which belong to `place` from before they can be served.
pub(super) fn keep(node: &Node, place: Option<&Place>, blocks: &[Block]) -> Result<()> {
    if blocks.is_empty() {
        return Ok(());
    }
    ensure_room(&node.dir.blocks(), blocks.iter().map(|block| block.data().len() as u64).sum())?;
    if let Some(place) = place {
        node.index.claim(place, blocks.iter().map(Block::cid)).map_err(index_error)?;
    }
    node.store.put_many(blocks).map_err(|e| storage_error("cannot store blocks", e))
}

fn origin(text: &str) -> Result<Origin> {
    Origin::parse(text)
        .filter(|origin| *origin != Origin::Custody)
        .ok_or_else(|| NodeError::usage("bad_request", "origin is `published` or `fetched`"))
}

pub(super) fn index_error(error: IndexError) -> NodeError {
    match error {
        error @ IndexError::NoManifest { .. } => {
            NodeError::not_found("no_manifest", "the content cannot be indexed").because(error)
        }
        error @ (IndexError::Manifest { .. } | IndexError::Elsewhere { .. } | IndexError::Layout { .. }) => {
            NodeError::usage("bad_content", "the content cannot be indexed").because(error)
        }
        error => storage_error("the content cannot be indexed", error),
    }
}

/// The place that a URI of this node's registry names, and the version in it.
pub(super) fn place_of(node: &Node, uri: &str) -> Result<(Place, Option<u32>)> {
    let uri: ContentUri = uri
        .parse()
        .map_err(|e| NodeError::usage("bad_uri", format!("{uri:.100} is no content URI")).because(e))?;
    let place = node.place(uri.content);
    if uri.chain != place.domain.chain_id || uri.registry != place.domain.registry {
        return Err(NodeError::usage("other_network", format!("{uri} is of another chain or registry"))
            .hint("use a node of that network"));
    }
    Ok((place, uri.version))
}

fn cid_of(text: &str) -> Result<Cid> {
    text.parse().map_err(|e| NodeError::usage("bad_cid", format!("{text:.100} is no CID")).because(e))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddContent {
    uri: String,
    manifest: String,
    origin: String,
}

async fn add_content(State(node): Shared, body: Body) -> Answer {
    let content: AddContent = json_body(body).await?;
    let (place, _) = place_of(&node, &content.uri)?;
    let (manifest, origin) = (cid_of(&content.manifest)?, origin(&content.origin)?);
    blocking(move || node.index.add(&place, &manifest, origin, &node.store).map_err(index_error)).await?;
    Ok(Json(json!({})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskCustodian {
    account: Address,
}

async fn custodian(State(node): Shared, body: Body) -> Answer {
    let ask: AskCustodian = json_body(body).await?;
    if node.config.account != Some(ask.account) {
        return Err(NodeError::new("not_operator", format!("{} is not this node's operator", ask.account))
            .exit(Exit::Refused)
            .hint("set `account` in lightstreams.toml of the node that should be custodian")
            .into());
    }
    let mut recipient = vec![1];
    recipient.extend_from_slice(node.identity.recipient.as_bytes());
    let endpoints = node.network.listen_addresses();
    if endpoints.is_empty() {
        return Err(NodeError::usage(
            "no_endpoint",
            "this node accepts no peers, so no reader could reach it",
        )
        .hint("set `p2p` in lightstreams.toml")
        .into());
    }
    let record = CustodianRecord {
        domain: node.domain(),
        account: ask.account,
        holder: node.releases.holder(),
        recipients: vec![recipient],
        endpoints: endpoints.iter().take(ENDPOINTS_MAX).map(ToString::to_string).collect(),
    };
    Ok(Json(json!({ "record": Hex::from(record.sign(&node.holder)) })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Delegate {
    message: Hex,
}

async fn delegation(State(node): Shared, body: Body) -> Answer {
    let delegate: Delegate = json_body(body).await?;
    if delegate.message.len() > DELEGATION_MAX {
        return Err(NodeError::usage("bad_request", "a delegation has at most 4 KiB").into());
    }
    let held = Held::accept(&node.network.own(), &delegate.message, &node.domain(), unix_now());
    let held = held.map_err(|code| {
        NodeError::new(code.as_str(), "the delegation does not hold for this node")
            .exit(Exit::Refused)
            .hint("sign one for the peer id, chain and registry in `lightstreams status`, for at most 24 h")
    })?;
    let answer = json!({ "account": held.account, "until": held.not_after });
    node.network.hold(held).await?;
    Ok(Json(answer))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Relay {
    holder: B256,
    endpoints: Vec<String>,
    request: Hex,
}

async fn release(State(node): Shared, body: Body) -> Answer {
    let relay: Relay = json_body(body).await?;
    if relay.request.len() > REQUEST_MAX {
        return Err(NodeError::usage("bad_request", "a key request has at most 16 KiB").into());
    }
    if relay.holder == node.releases.holder() {
        let releases = node.releases.clone();
        let answer = blocking(move || Ok(releases.answer(&relay.request))).await?;
        return Ok(Json(json!({ "answer": Hex::from(answer) })));
    }
    let peer = peer_of_holder(&relay.holder)?;
    let mut last = NodeError::new("no_endpoint", format!("the custodian {peer} has no endpoint to dial"))
        .exit(Exit::Peer)
        .hint("its record on chain names none over libp2p; ask another custodian");
    for endpoint in relay.endpoints.iter().take(ENDPOINTS_MAX) {
        let Some(address) = address_of(endpoint, peer) else { continue };
        let answered = match node.network.connect(address).await {
            Ok(peer) => node.network.release(peer, relay.request.to_vec()).await,
            Err(error) => Err(error),
        };
        match answered {
            Ok(answer) => return Ok(Json(json!({ "answer": Hex::from(answer) }))),
            Err(error) => last = error,
        }
    }
    Err(last.into())
}

/// The peer whose libp2p key is the holder key.
fn peer_of_holder(holder: &B256) -> Result<PeerId> {
    let key = libp2p::identity::ed25519::PublicKey::try_from_bytes(holder.as_slice())
        .map_err(|e| NodeError::usage("bad_holder", format!("{holder} is no Ed25519 key")).because(e))?;
    Ok(libp2p::identity::PublicKey::from(key).to_peer_id())
}

/// The endpoint as an address of `peer`; `None` if it is none, or names another peer.
fn address_of(endpoint: &str, peer: PeerId) -> Option<Multiaddr> {
    let address: Multiaddr = endpoint.parse().ok()?;
    match peer_of(&address) {
        Some(named) => (named == peer).then_some(address),
        None => address.with_p2p(peer).ok(),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PutKept {
    uri: String,
    manifest: String,
    header: Hex,
}

async fn put_kept(State(node): Shared, Path((content, version)): Path<(B256, u32)>, body: Body) -> Answer {
    let kept: PutKept = json_body(body).await?;
    let (place, named) = place_of(&node, &kept.uri)?;
    if place.content.0 != content || named.is_some_and(|named| named != version) {
        return Err(NodeError::usage(
            "bad_request",
            "the URI names another content or version than the path",
        )
        .into());
    }
    let kept = Kept { place, version, manifest: cid_of(&kept.manifest)?, header: kept.header.to_vec() };
    blocking(move || {
        node.kept.put(kept).map_err(|error| match error {
            error @ KeptError::TooLong { .. } => {
                NodeError::usage("bad_header", "the header cannot be kept").because(error)
            }
            error => storage_error("the header cannot be kept", error),
        })
    })
    .await?;
    Ok(Json(json!({})))
}

async fn get_kept(State(node): Shared, Path((content, version)): Path<(B256, u32)>) -> Answer {
    let kept = node.kept.get(&node.place(ContentId(content)), version).ok_or_else(|| {
        NodeError::not_found("not_kept", format!("no header of version {version} of {content} is kept here"))
            .hint("`lightstreams get` asks for the key, and keeps it")
    })?;
    let mut row = kept_row(&kept);
    if let Some(row) = row.as_object_mut() {
        row.insert("header".into(), json!(Hex::from(kept.header)));
    }
    Ok(Json(row))
}

async fn list_kept(State(node): Shared) -> Answer {
    let kept: Vec<Value> = node.kept.list().iter().map(kept_row).collect();
    Ok(Json(json!({ "kept": kept })))
}

fn kept_row(kept: &Kept) -> Value {
    let uri = ContentUri {
        chain: kept.place.domain.chain_id,
        registry: kept.place.domain.registry,
        content: kept.place.content,
        version: Some(kept.version),
    };
    json!({
        "uri": uri.to_string(),
        "content": kept.place.content.0,
        "version": kept.version,
        "manifest": kept.manifest.to_string(),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskReceipts {
    content: Option<B256>,
}

async fn receipts(State(node): Shared, Query(ask): Query<AskReceipts>) -> Answer {
    let answer = blocking(move || {
        let failed = |e| storage_error("cannot read the log of releases", e);
        let disk =
            FileDisk::open(node.dir.log()).map_err(|e| crate::error::io_error("open", &node.dir.log(), e))?;
        let mut found = std::collections::VecDeque::new();
        read_log(Arc::new(disk), &mut |index, logged| {
            let receipt = &logged.release.receipt;
            if ask.content.is_none_or(|content| content == receipt.content) {
                let (cbor, sig) = (Hex::from(receipt.encode()), Hex::from(logged.release.sig.to_vec()));
                found.push_back(json!({ "index": index, "cbor": cbor, "sig": sig }));
                // The newest are what an operator looks at; the whole log is in the directory `log`.
                if found.len() > RECEIPTS_MAX {
                    found.pop_front();
                }
            }
        })
        .map_err(failed)?;
        let (size, root) = node.releases.engine().log_root();
        Ok(json!({ "size": size, "root": root, "receipts": found }))
    });
    Ok(Json(answer.await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Dial {
    addr: String,
}

async fn dial(State(node): Shared, body: Body) -> Answer {
    let dial: Dial = json_body(body).await?;
    let address: Multiaddr = dial.addr.parse().map_err(|e| {
        NodeError::usage("bad_address", format!("{:.200} is no multiaddr", dial.addr)).because(e)
    })?;
    let peer = node.network.connect(address).await?;
    Ok(Json(json!({ "peer_id": peer.to_string() })))
}
