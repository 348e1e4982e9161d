//! `POST /v1/fetch`: blocks from here, or from the providers named, as a CAR.
//!
//! ```text
//! shape (s, k) --> nodes, parents first --> CAR
//!                  leaves, in order, a window at a time:  fetcher thread --1 window--> store, CAR
//! ```
//!
//! What is held here is not asked for. The others come through the block exchange from the providers, which are
//! dialled at the first block that is missing, and shown this node's delegations before anything is wanted of them.
//! With no provider named, nothing leaves this node. The answer begins when the nodes and the first leaves are
//! there, so a refusal is an error with a reason; a failure after that breaks the stream off.

use super::Failure;
use super::api::{index_error, json_body, keep, place_of};
use super::stream::{PieceWriter, piece_writer};
use crate::daemon::{Node, is_manifest, storage_error};
use crate::error::{Exit, NodeError, Result};
use crate::vault::{Origin, Place};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use cid::Cid;
use futures::future::join_all;
use libp2p::{Multiaddr, PeerId};
use lightstreams_acl::ContentId;
use lightstreams_store::{
    Block, BlockSource, BlockStore, CarWriter, Exchange, FetchError, Hold, MAX_WANTS, PayloadReader,
    PayloadShape, ReadError, StoreError, StoreOp,
};
use serde::Deserialize;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Providers dialled for one request.
const PROVIDERS_MAX: usize = 16;
/// Bytes of leaves fetched together; three windows are in memory at a time.
const WINDOW_BYTES: u64 = 4 << 20;
/// Leaves whose nodes are listed together.
const NODE_PIECE: u64 = 1 << 16;
/// Nodes remembered within one request.
const NODES_MAX: usize = 256;
/// The root that a CAR names when it has none: the empty raw block.
const NO_ROOT: &str = "bafkqaaa";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    /// A content URI, or the id alone.
    content: String,
    #[serde(default)]
    providers: Vec<String>,
    #[serde(default)]
    cids: Vec<String>,
    payload: Option<AskPayload>,
    #[serde(default)]
    keep: bool,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct AskPayload {
    p: String,
    s: u64,
    k: u8,
    #[serde(default)]
    offset: u64,
    length: Option<u64>,
}

pub(super) async fn fetch(
    State(node): State<Arc<Node>>,
    body: Body,
) -> std::result::Result<Response, Failure> {
    let ask: Ask = json_body(body).await?;
    let wanted = Wanted::read(&ask)?;
    let place = match ask.content.parse::<ContentId>() {
        Ok(content) => node.place(content),
        Err(_) => place_of(&node, &ask.content)?.0,
    };
    let source = Source::new(node, place, &ask)?;
    let (writer, drain) = piece_writer();
    let (begun, begin) = oneshot::channel();
    tokio::task::spawn_blocking(move || {
        let mut begun = Some(begun);
        let mut out = Out::new(writer);
        let done = match wanted {
            Wanted::Blocks(cids) => source.blocks(&cids, &mut out, &mut begun),
            Wanted::Payload(p, shape, range) => source.payload(p, shape, range, &mut out, &mut begun),
        };
        match (done, begun) {
            (Ok(()), _) => out.finish(),
            (Err(error), Some(begun)) => drop(begun.send(Err(error))),
            (Err(error), None) => {
                tracing::warn!("a transfer broke off: {error}");
                out.fail(&error);
            }
        }
    });
    let begin = begin.await.map_err(|_| NodeError::new("internal", "the transfer ended in the middle"))?;
    begin?;
    let pieces =
        futures::stream::unfold(
            drain,
            |mut drain| async move { drain.recv().await.map(|piece| (piece, drain)) },
        );
    let mut response = Response::new(Body::from_stream(pieces));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/vnd.ipld.car; version=1"));
    Ok(response)
}

enum Wanted {
    Blocks(Vec<Cid>),
    /// The payload, its shape, and the leaves wanted of it.
    Payload(Cid, PayloadShape, Range<u64>),
}

impl Wanted {
    fn read(ask: &Ask) -> Result<Self> {
        let wrong = |what: String| NodeError::usage("bad_request", what);
        let cid = |text: &String| text.parse().map_err(|_| wrong(format!("{text:.100} is no CID")));
        let Some(payload) = &ask.payload else {
            if ask.cids.is_empty() || ask.cids.len() > MAX_WANTS {
                return Err(wrong(format!("`cids` names 1 to {MAX_WANTS} blocks, or `payload` one payload")));
            }
            return Ok(Self::Blocks(ask.cids.iter().map(cid).collect::<Result<_>>()?));
        };
        if !ask.cids.is_empty() {
            return Err(wrong("`cids` and `payload` exclude each other".into()));
        }
        let shape = PayloadShape::new(payload.s, payload.k)
            .map_err(|e| NodeError::usage("bad_request", "there is no such payload").because(e))?;
        let end = match payload.length {
            Some(length) => payload.offset.saturating_add(length).min(payload.s),
            None => payload.s,
        };
        // An empty file has one chunk, too: whoever wants all of it wants that.
        let leaves = match payload.s {
            0 => 0..shape.leaf_count(),
            _ if payload.offset >= end => return Err(wrong("the range is empty".into())),
            _ => shape.leaves(shape.payload_range(payload.offset..end)),
        };
        Ok(Self::Payload(cid(&payload.p)?, shape, leaves))
    }
}

type Begun = Option<oneshot::Sender<Result<()>>>;

/// Tells the waiting side that the answer can begin.
fn begin(begun: &mut Begun) {
    if let Some(begun) = begun.take() {
        let _ = begun.send(Ok(()));
    }
}

/// The CAR being written; its header is written with the first block.
struct Out {
    state: OutState,
}

enum OutState {
    New(PieceWriter),
    Open(CarWriter<PieceWriter>),
    Broken,
}

impl Out {
    fn new(writer: PieceWriter) -> Self {
        Self { state: OutState::New(writer) }
    }

    fn open(&mut self) -> std::io::Result<&mut CarWriter<PieceWriter>> {
        self.state = match std::mem::replace(&mut self.state, OutState::Broken) {
            OutState::New(writer) => {
                let root: Vec<Cid> = NO_ROOT.parse().into_iter().collect();
                OutState::Open(CarWriter::new(writer, &root)?)
            }
            other => other,
        };
        match &mut self.state {
            OutState::Open(car) => Ok(car),
            _ => Err(std::io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn write(&mut self, block: &Block) -> Result<()> {
        let written = self.open().and_then(|car| car.write(block));
        written.map_err(|e| NodeError::new("gone", "the other side no longer reads").because(e))
    }

    fn finish(mut self) {
        if self.open().is_ok()
            && let OutState::Open(car) = self.state
        {
            let _ = car.finish();
        }
    }

    /// Breaks the stream off, so that nobody takes what came for the whole.
    fn fail(self, error: &NodeError) {
        let writer = match self.state {
            OutState::New(writer) => Some(writer),
            OutState::Open(car) => car.finish().ok(),
            OutState::Broken => None,
        };
        if let Some(writer) = writer {
            writer.fail(std::io::Error::other(error.to_string()));
        }
    }
}

/// What could be had of the blocks asked for.
struct Gathered {
    found: HashMap<Cid, Block>,
    /// Those that a provider gave.
    came: Vec<Block>,
    failed: Option<NodeError>,
}

/// Leaves that stand next to each other, and those of them that a provider gave.
struct Window {
    leaves: Vec<Block>,
    came: Vec<Block>,
}

/// Blocks from here or from the providers.
struct Source {
    node: Arc<Node>,
    place: Place,
    providers: Vec<Multiaddr>,
    keep: bool,
    /// What is found here stays until the index has it.
    hold: Hold<Arc<dyn BlockStore>>,
    runtime: Handle,
    peers: OnceLock<(Vec<PeerId>, Vec<String>)>,
    nodes: Mutex<HashMap<Cid, Block>>,
}

impl Source {
    fn new(node: Arc<Node>, place: Place, ask: &Ask) -> Result<Self> {
        if ask.providers.len() > PROVIDERS_MAX {
            return Err(NodeError::usage(
                "bad_request",
                format!("at most {PROVIDERS_MAX} providers are asked"),
            ));
        }
        let address = |text: &String| {
            text.parse().map_err(|_| NodeError::usage("bad_address", format!("{text:.200} is no multiaddr")))
        };
        let hold = node.blocks.pinned.hold_owned();
        Ok(Self {
            node,
            hold,
            place,
            providers: ask.providers.iter().map(address).collect::<Result<_>>()?,
            keep: ask.keep,
            runtime: Handle::current(),
            peers: OnceLock::new(),
            nodes: Mutex::default(),
        })
    }

    /// The providers that could be reached, and why the others could not. Dials them at the first call.
    fn peers(&self) -> &(Vec<PeerId>, Vec<String>) {
        self.peers.get_or_init(|| {
            let network = &self.node.network;
            let reach = self.providers.iter().map(|address| async move {
                let peer = network.connect(address.clone()).await?;
                // A want that comes before the delegation is refused, and not asked again.
                network.shown(peer).await?;
                Ok::<_, NodeError>(peer)
            });
            let (mut peers, mut failed) = (Vec::new(), Vec::new());
            for reached in self.runtime.block_on(join_all(reach)) {
                match reached {
                    Ok(peer) if !peers.contains(&peer) => peers.push(peer),
                    Ok(_) => {}
                    Err(error) => failed.push(error.message()),
                }
            }
            (peers, failed)
        })
    }

    /// The blocks `cids` as far as they can be had, those that came kept, and why the others cannot be had.
    fn get_many(&self, cids: &[Cid]) -> Result<(HashMap<Cid, Block>, Option<NodeError>)> {
        let got = self.gather(cids);
        self.keep(&got.came)?;
        Ok((got.found, got.failed))
    }

    /// Keeps blocks that came, if they are to be kept.
    fn keep(&self, came: &[Block]) -> Result<()> {
        if self.keep { keep(&self.node, Some(&self.place), came) } else { Ok(()) }
    }

    fn gather(&self, cids: &[Cid]) -> Gathered {
        let (mut found, mut missing) = (HashMap::with_capacity(cids.len()), Vec::new());
        for cid in cids {
            match self.hold.get(cid) {
                Ok(Some(block)) => drop(found.insert(*cid, block)),
                Ok(None) => missing.push(*cid),
                Err(error) => {
                    tracing::warn!(%cid, "a block here cannot be read, asking the providers: {error}");
                    missing.push(*cid);
                }
            }
        }
        let failed = if missing.is_empty() { None } else { self.fetch(&missing, &mut found).err() };
        let came = missing.iter().filter_map(|cid| found.get(cid).cloned()).collect();
        Gathered { found, came, failed }
    }

    fn fetch(&self, cids: &[Cid], found: &mut HashMap<Cid, Block>) -> Result<()> {
        let first = cids.first().map(Cid::to_string).unwrap_or_default();
        if self.providers.is_empty() {
            return Err(NodeError::not_found(
                "blocks_missing",
                format!("{} blocks are not here, first {first}", cids.len()),
            )
            .hint("`lightstreams get` fetches them from a provider"));
        }
        let (peers, unreachable) = self.peers();
        if peers.is_empty() {
            let why = unreachable.join("; ");
            return Err(NodeError::new(
                "providers_unreachable",
                format!("no provider can be reached: {why}"),
            )
            .exit(Exit::Peer)
            .hint("try again later, or name another provider"));
        }
        let session = self.node.session(peers);
        let mut sink = |block: Block| {
            found.insert(*block.cid(), block);
            Ok(())
        };
        self.node.exchange.fetch(cids, &session, &mut sink).map_err(|error| match error {
            FetchError::Missing { cids, peers } => {
                let mut why: Vec<String> = peers.iter().map(ToString::to_string).collect();
                why.extend(unreachable.iter().cloned());
                let first = cids.first().map(Cid::to_string).unwrap_or_default();
                NodeError::new(
                    "blocks_missing",
                    format!("{} blocks did not come, first {first}: {}", cids.len(), why.join("; ")),
                )
                .exit(Exit::Peer)
                .hint("the provider does not have them, or not for this account")
            }
            error => NodeError::new("exchange", "the block exchange failed").because(error),
        })
    }

    fn blocks(&self, cids: &[Cid], out: &mut Out, begun: &mut Begun) -> Result<()> {
        // A few at a time, since each may have 2 MiB. What does not come is missing in the CAR.
        for cids in cids.chunks(8) {
            let (found, failed) = self.get_many(cids)?;
            if let Some(error) = failed {
                tracing::info!("{error}");
            }
            begin(begun);
            for block in cids.iter().filter_map(|cid| found.get(cid)) {
                out.write(block)?;
                if self.keep && is_manifest(block, &self.place) {
                    self.index(block.cid())?;
                }
            }
        }
        Ok(())
    }

    fn payload(
        &self,
        p: Cid,
        shape: PayloadShape,
        leaves: Range<u64>,
        out: &mut Out,
        begun: &mut Begun,
    ) -> Result<()> {
        let reader = PayloadReader::open(self, &p, shape.clone()).map_err(read_error)?;
        let window = (WINDOW_BYTES / shape.leaf_len(0).unwrap_or(1).max(1)).clamp(1, MAX_WANTS as u64);
        let mut head = self.window(&reader, &leaves, leaves.start, window)?;
        // A disk that takes no block is a reason to refuse, not to break off.
        self.keep(&std::mem::take(&mut head.came))?;
        let mut first = Some(head);
        begin(begun);
        for piece in pieces(leaves.clone(), NODE_PIECE) {
            let again = piece.start > leaves.start;
            for node in reader.nodes(piece).map_err(read_error)?.iter().skip(usize::from(again)) {
                let node = self.block(node).map_err(|e| read_error(ReadError::Source(e)))?;
                node.map_or(Ok(()), |node| out.write(&node))?;
            }
        }
        let (to, from) = mpsc::sync_channel::<Result<Window>>(1);
        let fetched = std::thread::scope(|scope| {
            let (reader, leaves) = (&reader, &leaves);
            scope.spawn(move || {
                for piece in pieces(leaves.clone(), window) {
                    let blocks = match first.take() {
                        Some(blocks) => Ok(blocks),
                        None => self.window(reader, leaves, piece.start, window),
                    };
                    let failed = blocks.is_err();
                    if to.send(blocks).is_err() || failed {
                        return;
                    }
                }
            });
            let mut taken = from.into_iter();
            // The next window is on its way while this one is made durable.
            taken.try_for_each(|window| {
                let window = window?;
                self.keep(&window.came)?;
                window.leaves.iter().try_for_each(|block| out.write(block))
            })
        });
        fetched?;
        if self.keep {
            // The nodes that came name leaves that the index did not know.
            let known = self.node.index.contents().into_iter().find(|content| content.place == self.place);
            for manifest in known.iter().flat_map(|content| &content.manifests) {
                self.index(manifest)?;
            }
        }
        Ok(())
    }

    /// The leaves of one window, in order, all of them; those that came are not kept yet.
    fn window(
        &self,
        reader: &PayloadReader<&Self>,
        leaves: &Range<u64>,
        start: u64,
        window: u64,
    ) -> Result<Window> {
        let cids =
            reader.leaf_cids(start..leaves.end.min(start.saturating_add(window))).map_err(read_error)?;
        let Gathered { found, came, failed } = self.gather(&cids);
        if let Some(error) = failed {
            // What did come need not come again.
            self.keep(&came)?;
            return Err(error);
        }
        let leaves: Option<Vec<Block>> = cids.iter().map(|cid| found.get(cid).cloned()).collect();
        let leaves =
            leaves.ok_or_else(|| NodeError::new("blocks_missing", "a leaf did not come").exit(Exit::Peer))?;
        Ok(Window { leaves, came })
    }

    fn index(&self, manifest: &Cid) -> Result<()> {
        let origin = self.node.index.origin(&self.place).unwrap_or(Origin::Fetched);
        self.node.index.add(&self.place, manifest, origin, &self.node.store).map_err(index_error)
    }
}

/// Nodes of a payload, one at a time; each is read several times and kept meanwhile.
impl BlockSource for &Source {
    fn block(&self, cid: &Cid) -> std::result::Result<Option<Block>, StoreError> {
        let nodes = || self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(block) = nodes().get(cid) {
            return Ok(Some(block.clone()));
        }
        let failed = |error: NodeError| StoreError::new(StoreOp::Fetch, error).on(cid);
        let (mut found, why) = self.get_many(std::slice::from_ref(cid)).map_err(failed)?;
        let Some(block) = found.remove(cid) else { return why.map_or(Ok(None), |error| Err(failed(error))) };
        let mut nodes = nodes();
        if nodes.len() >= NODES_MAX {
            nodes.clear();
        }
        nodes.insert(*cid, block.clone());
        Ok(Some(block))
    }
}

fn pieces(range: Range<u64>, step: u64) -> impl Iterator<Item = Range<u64>> {
    let end = range.end;
    let mut start = range.start;
    std::iter::from_fn(move || {
        let piece = start..end.min(start.saturating_add(step));
        start = piece.end;
        (!piece.is_empty()).then_some(piece)
    })
}

fn read_error(error: ReadError) -> NodeError {
    match error {
        ReadError::Missing { cid } => {
            NodeError::not_found("blocks_missing", format!("the block {cid} is not here"))
        }
        error @ ReadError::Layout { .. } => {
            NodeError::new("bad_layout", "the payload is not laid out as it must be")
                .because(error)
                .exit(Exit::Peer)
        }
        ReadError::Source(error) => match error.source.downcast::<NodeError>() {
            Ok(why) => *why,
            Err(source) => storage_error("blocks cannot be read", StoreError { source, ..error }),
        },
        error => NodeError::new("payload", "the payload cannot be read").because(error),
    }
}
