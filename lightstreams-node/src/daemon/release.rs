//! The release engine, bound to this node's chain, store and clock.

use crate::adapters::{NodeView, now_ms};
use crate::network::ReleaseService;
use crate::vault::{
    Answer, Answered, ContentIndex, Fault, Manifest, Origin, Place, Refusal, RefusalCode, ReleaseEngine,
    ReleaseRequest, VersionInfo,
};
use alloy_primitives::B256;
use cid::Cid;
use lightstreams_crypto::ed25519::SigningKey;
use lightstreams_crypto::{Header, X25519Identity};
use lightstreams_store::p2p::BitswapExchange;
use lightstreams_store::{Block, BlockStore, Exchange, PinnedStore, Session};
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// A reader that was turned away because many others ask may come back after this many seconds.
const BUSY_RETRY_S: u64 = 1;

/// How long the peers that are connected may take to give a block of a content in custody.
const PATIENCE: Duration = Duration::from_secs(4);
/// Blocks fetched for one request: its manifest, its header.
const FETCHES_MAX: usize = 2;

/// Why a content in custody cannot be served.
type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Answers key requests, whoever relays them.
pub(crate) struct Releases {
    engine: ReleaseEngine,
    view: Arc<NodeView>,
    store: Arc<PinnedStore<Arc<dyn BlockStore>>>,
    index: Arc<ContentIndex>,
    holder: SigningKey,
    identity: X25519Identity,
    exchange: OnceLock<BitswapExchange>,
}

impl Releases {
    pub(super) fn new(
        engine: ReleaseEngine,
        view: Arc<NodeView>,
        store: Arc<PinnedStore<Arc<dyn BlockStore>>>,
        index: Arc<ContentIndex>,
        holder: SigningKey,
        identity: X25519Identity,
    ) -> Self {
        Self { engine, view, store, index, holder, identity, exchange: OnceLock::new() }
    }

    /// From now on blocks of contents in custody that are not here are asked of the peers.
    pub(super) fn fetch_through(&self, exchange: BitswapExchange) {
        let _ = self.exchange.set(exchange);
    }

    fn judge(&self, request: &[u8]) -> Answered {
        let rng = &mut crate::adapters::rng();
        self.engine.answer(request, &*self.view, &self.store, &[], now_ms(), rng)
    }

    /// The block `cid` of a content in custody: from here, or from whoever is connected, and then kept.
    ///
    /// It belongs to no content by that, and is served to nobody, until [`Self::take_custody`] has seen the key.
    fn block(&self, cid: &Cid, hold: &dyn BlockStore) -> Result<Block, Failed> {
        if let Some(block) = hold.get(cid)? {
            return Ok(block);
        }
        let Some(exchange) = self.exchange.get() else { return Err("the network is not up yet".into()) };
        let block = exchange.fetch_one(cid, &Session::new().with_patience(PATIENCE))?;
        hold.put(&block)?;
        Ok(block)
    }

    /// Counts a version of a content for the block gate, if its header unwraps here to the committed key.
    ///
    /// Without that anyone whose contents are admitted could name the blocks of another content in a manifest, and so
    /// keep that content's readers from them.
    pub(super) fn take_custody(
        &self,
        place: &Place,
        manifest: &Cid,
        version: &VersionInfo,
    ) -> Result<(), Failed> {
        // No sweep takes the blocks before the index has them.
        let hold = self.store.hold();
        let read = Manifest::decode(self.block(manifest, &hold)?.data())?;
        read.verify_place(place, version)?;
        let header = self.block(&read.header, &hold)?;
        let (header, nonce) = Header::parse_block(header.data())?;
        let file_key = header.unwrap(&[&self.identity])?;
        if nonce != read.payload_nonce() || !read.commits_to(&file_key) {
            return Err("its header does not hold the committed key".into());
        }
        Ok(self.index.add(place, manifest, Origin::Custody, &hold)?)
    }

    /// The key that signs answers.
    pub(crate) fn holder(&self) -> B256 {
        self.engine.holder()
    }

    /// The engine.
    pub(crate) fn engine(&self) -> &ReleaseEngine {
        &self.engine
    }
}

impl fmt::Debug for Releases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Releases").finish_non_exhaustive()
    }
}

impl ReleaseService for Releases {
    fn answer(&self, request: &[u8]) -> Vec<u8> {
        let mut answered = self.judge(request);
        // Only a request that passed the checks before asks for blocks: its content is in custody here and admitted.
        for _ in 0..FETCHES_MAX {
            let Some(Fault::BlockMissing { cid }) = &answered.fault else { break };
            if let Err(error) = self.block(cid, &*self.store) {
                tracing::warn!(%cid, "a block of a content in custody is not here, and no peer gives it: {error}");
                break;
            }
            answered = self.judge(request);
        }
        if let Some(fault) = &answered.fault {
            let mut why: &dyn std::error::Error = fault;
            let mut line = why.to_string();
            while let Some(below) = why.source() {
                line = format!("{line}: {below}");
                why = below;
            }
            tracing::warn!("a key request could not be answered: {line}");
        }
        match &answered.answer {
            Answer::Release(release) => tracing::info!(
                content = %release.receipt.content,
                reader = %release.receipt.reader,
                version = release.receipt.version,
                "released a key"
            ),
            Answer::Refusal(signed) => {
                tracing::info!(code = signed.refusal.code.as_str(), "refused a key request")
            }
        }
        answered.answer.encode()
    }

    fn busy(&self, request: &[u8]) -> Vec<u8> {
        let refusal = Refusal {
            request: ReleaseRequest::decode(request).ok().map(|request| request.signed.digest()),
            code: RefusalCode::RateLimited,
            head: None,
            at_ms: now_ms(),
            retry_s: Some(BUSY_RETRY_S),
            holder: self.holder(),
        };
        Answer::Refusal(refusal.sign(&self.holder)).encode()
    }
}
