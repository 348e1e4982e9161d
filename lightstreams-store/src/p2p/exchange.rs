//! The handle: waits on its caller's thread for what the behaviour brings.

use std::{
    collections::{HashSet, VecDeque},
    fmt,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use cid::Cid;
use futures::task::AtomicWaker;
use libp2p::PeerId;

use super::{
    BitswapStats,
    client::SessionId,
    server::{Answer, Lookup},
};
use crate::{Block, Exchange, FetchError, MAX_WANTS, PeerFailure, PeerFailureKind, Session, StoreError};

/// Beyond twice its patience, a session waits so long for a swarm that nobody polls.
const GRACE: Duration = Duration::from_secs(5);

/// Fetches blocks through the [`Bitswap`](super::Bitswap) behaviour that it came from. Clones are cheap and share it.
///
/// `fetch` blocks its thread while the swarm works, so it is called off the reactor, as from
/// `tokio::task::spawn_blocking`. A session that names peers asks these, and has the swarm dial those not connected,
/// where they were last reached and at addresses that other behaviours know; the account of a session is not used, since a peer knows
/// us by what we proved on the connection.
#[derive(Clone)]
pub struct BitswapExchange {
    shared: Arc<Shared>,
}

impl BitswapExchange {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// What came and left through the behaviour, by all its handles.
    pub fn stats(&self) -> BitswapStats {
        *self.shared.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for BitswapExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BitswapExchange").finish_non_exhaustive()
    }
}

impl Exchange for BitswapExchange {
    fn fetch(
        &self,
        cids: &[Cid],
        session: &Session,
        sink: &mut dyn FnMut(Block) -> Result<(), StoreError>,
    ) -> Result<(), FetchError> {
        if cids.len() > MAX_WANTS {
            return Err(FetchError::TooMany { wanted: cids.len() });
        }
        let mut seen = HashSet::new();
        let mut wanted = Vec::with_capacity(cids.len());
        for cid in cids.iter().filter(|cid| seen.insert(**cid)) {
            match Block::inline(cid) {
                Some(block) => sink(block).map_err(FetchError::Sink)?,
                None => wanted.push(*cid),
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let peers: Vec<PeerId> =
            session.peers.iter().filter_map(|peer| PeerId::from_bytes(peer.as_bytes()).ok()).collect();
        if peers.is_empty() && !session.peers.is_empty() {
            let failed =
                |peer: &crate::PeerId| PeerFailure { peer: peer.clone(), kind: PeerFailureKind::Unreachable };
            return Err(FetchError::Missing {
                cids: wanted,
                peers: session.peers.iter().map(failed).collect(),
            });
        }
        let open = self.shared.open(wanted, peers, session.patience);
        loop {
            let (blocks, outcome) = open.next(session.patience.saturating_mul(2) + GRACE)?;
            for block in blocks {
                let bytes = block.len();
                sink(block).map_err(FetchError::Sink)?;
                open.consumed(bytes);
            }
            match outcome {
                None => {}
                Some(Outcome::Complete) => return Ok(()),
                Some(Outcome::Missing { cids, peers }) => return Err(FetchError::Missing { cids, peers }),
                Some(Outcome::Stopped) => return Err(FetchError::Unavailable(Box::new(Stopped))),
            }
        }
    }
}

/// Why [`BitswapExchange`] itself fails.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the swarm with the bitswap behaviour is gone, or nobody polls it")]
struct Stopped;

/// A session that is closed on drop.
struct Open<'a> {
    shared: &'a Shared,
    id: SessionId,
    news: Arc<News>,
}

impl Open<'_> {
    fn next(&self, wait: Duration) -> Result<(VecDeque<Block>, Option<Outcome>), FetchError> {
        let state = self.news.lock();
        let nothing_new = |state: &mut NewsState| state.blocks.is_empty() && state.outcome.is_none();
        let (mut state, _) = self
            .news
            .ready
            .wait_timeout_while(state, wait, nothing_new)
            .unwrap_or_else(PoisonError::into_inner);
        if nothing_new(&mut state) {
            return Err(FetchError::Unavailable(Box::new(Stopped)));
        }
        Ok((std::mem::take(&mut state.blocks), state.outcome.take()))
    }

    fn consumed(&self, bytes: usize) {
        self.news.consumed.fetch_add(bytes, Ordering::AcqRel);
        self.shared.waker.wake();
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.shared.tell(ToBitswap::Close { id: self.id });
    }
}

/// What behaviour, handles and workers tell each other.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) waker: AtomicWaker,
    inbox: Mutex<Inbox>,
    ids: AtomicU64,
    stats: Mutex<BitswapStats>,
}

#[derive(Default)]
struct Inbox {
    messages: Vec<ToBitswap>,
    closed: bool,
}

pub(super) enum ToBitswap {
    Open { id: SessionId, cids: Vec<Cid>, peers: Vec<PeerId>, patience: Duration, news: Arc<News> },
    Close { id: SessionId },
    Answered { lookup: Lookup, answers: Vec<Answer> },
}

impl Shared {
    fn open(&self, cids: Vec<Cid>, peers: Vec<PeerId>, patience: Duration) -> Open<'_> {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let news = Arc::new(News::default());
        self.tell(ToBitswap::Open { id, cids, peers, patience, news: news.clone() });
        Open { shared: self, id, news }
    }

    pub(super) fn tell(&self, message: ToBitswap) {
        let mut inbox = self.inbox();
        if inbox.closed {
            if let ToBitswap::Open { news, .. } = message {
                news.end(Outcome::Stopped);
            }
            return;
        }
        inbox.messages.push(message);
        drop(inbox);
        self.waker.wake();
    }

    pub(super) fn count(&self, stats: BitswapStats) {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner) = stats;
    }

    pub(super) fn take(&self) -> Vec<ToBitswap> {
        std::mem::take(&mut self.inbox().messages)
    }

    /// Ends all that was told and not taken, and all that comes.
    pub(super) fn close(&self) {
        let mut inbox = self.inbox();
        inbox.closed = true;
        for message in inbox.messages.drain(..) {
            if let ToBitswap::Open { news, .. } = message {
                news.end(Outcome::Stopped);
            }
        }
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a session brought and its caller has not yet taken.
#[derive(Default)]
pub(super) struct News {
    state: Mutex<NewsState>,
    ready: Condvar,
    /// Bytes taken, and not yet told to the behaviour.
    consumed: AtomicUsize,
}

#[derive(Default)]
struct NewsState {
    blocks: VecDeque<Block>,
    outcome: Option<Outcome>,
}

pub(super) enum Outcome {
    Complete,
    Missing { cids: Vec<Cid>, peers: Vec<PeerFailure> },
    Stopped,
}

impl News {
    pub(super) fn deliver(&self, block: Block) {
        self.lock().blocks.push_back(block);
        self.ready.notify_one();
    }

    pub(super) fn end(&self, outcome: Outcome) {
        self.lock().outcome.get_or_insert(outcome);
        self.ready.notify_one();
    }

    pub(super) fn take_consumed(&self) -> usize {
        self.consumed.swap(0, Ordering::AcqRel)
    }

    fn lock(&self) -> MutexGuard<'_, NewsState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
