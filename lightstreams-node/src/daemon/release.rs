//! The release engine, bound to this node's chain, store and clock.

use crate::adapters::{NodeView, now_ms};
use crate::network::ReleaseService;
use crate::vault::{Answer, Refusal, RefusalCode, ReleaseEngine, ReleaseRequest};
use alloy_primitives::B256;
use lightstreams_crypto::ed25519::SigningKey;
use lightstreams_store::BlockStore;
use std::fmt;
use std::sync::Arc;

/// A reader that was turned away because many others ask may come back after this many seconds.
const BUSY_RETRY_S: u64 = 1;

/// Answers key requests, whoever relays them.
pub(crate) struct Releases {
    engine: ReleaseEngine,
    view: Arc<NodeView>,
    store: Arc<dyn BlockStore>,
    holder: SigningKey,
}

impl Releases {
    pub(super) fn new(
        engine: ReleaseEngine,
        view: Arc<NodeView>,
        store: Arc<dyn BlockStore>,
        holder: SigningKey,
    ) -> Self {
        Self { engine, view, store, holder }
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
        let answered =
            self.engine.answer(request, &*self.view, &self.store, &[], now_ms(), &mut crate::adapters::rng());
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
