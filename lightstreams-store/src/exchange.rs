//! Fetching blocks from elsewhere.

use std::{collections::HashSet, fmt, time::Duration};

use cid::Cid;

use crate::{Account, Block, BlockStore, Gate, PeerId, Requester, StoreError, StoreOp};

/// The most blocks that one [`Exchange::fetch`] may want.
pub const MAX_WANTS: usize = 1024;

/// How long a session waits for the next block before it gives up, unless told otherwise.
const DEFAULT_PATIENCE: Duration = Duration::from_secs(20);

/// From whom blocks are wanted, for whom, and how long to wait.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct Session {
    /// The peers to ask, in order of preference; with none, whoever is connected.
    pub peers: Vec<PeerId>,
    /// The account in whose name is asked, where an exchange acts for several.
    pub account: Option<Account>,
    /// How long to wait for the next block before the missing ones count as failed.
    pub patience: Duration,
}

impl Default for Session {
    fn default() -> Self {
        Self { peers: Vec::new(), account: None, patience: DEFAULT_PATIENCE }
    }
}

impl Session {
    /// A session that asks whoever is connected.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same session, asking `peers`.
    #[must_use]
    pub fn with_peers(mut self, peers: impl IntoIterator<Item = PeerId>) -> Self {
        self.peers = peers.into_iter().collect();
        self
    }

    /// The same session, in the name of `account`.
    #[must_use]
    pub fn with_account(mut self, account: Account) -> Self {
        self.account = Some(account);
        self
    }

    /// The same session, waiting `patience` for each next block.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }
}

/// Brings blocks from elsewhere: from peers, or from another store.
///
/// `fetch` hands every block to `sink` as it arrives, verified against a CID that was wanted, in any order, each
/// once however often it was named; it returns `Ok` only when all have been handed over. It keeps nothing itself: what should stay is put
/// into a store by the sink. It blocks its caller for as long as the session's patience lasts, so that an async face
/// calls it off the reactor. Implementations pass `testing::check_exchange`.
pub trait Exchange: Send + Sync {
    /// Fetches `cids`, at most [`MAX_WANTS`] at a time.
    ///
    /// An error of `sink` ends the fetch and is returned as [`FetchError::Sink`].
    fn fetch(
        &self,
        cids: &[Cid],
        session: &Session,
        sink: &mut dyn FnMut(Block) -> Result<(), StoreError>,
    ) -> Result<(), FetchError>;

    /// Fetches one block.
    fn fetch_one(&self, cid: &Cid, session: &Session) -> Result<Block, FetchError> {
        let mut found = None;
        self.fetch(std::slice::from_ref(cid), session, &mut |block| {
            found = Some(block);
            Ok(())
        })?;
        found.ok_or_else(|| FetchError::Missing { cids: vec![*cid], peers: Vec::new() })
    }
}

// A node chooses its exchange at run time.
const _: Option<&dyn Exchange> = None;

/// Why not all wanted blocks came.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody asked gave these blocks: they do not have them, will not give them, or were silent.
    #[error("{} block(s) were not found, the first is {}", .cids.len(), .cids.first().map(ToString::to_string).unwrap_or_default())]
    Missing {
        /// The blocks that did not come, in the order wanted.
        cids: Vec<Cid>,
        /// Which peer failed, and how.
        peers: Vec<PeerFailure>,
    },
    /// More than [`MAX_WANTS`] blocks were wanted at once.
    #[error("{wanted} blocks wanted at once, more than {MAX_WANTS}")]
    TooMany {
        /// How many.
        wanted: usize,
    },
    /// The caller's sink refused a block.
    #[error("a fetched block was not taken")]
    Sink(#[source] StoreError),
    /// The exchange itself failed, which says nothing about blocks and peers.
    #[error("the exchange failed")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// How a peer failed in a fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerFailure {
    /// The peer.
    pub peer: PeerId,
    /// What it did.
    pub kind: PeerFailureKind,
}

impl fmt::Display for PeerFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.peer, self.kind)
    }
}

/// What a peer did instead of answering.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerFailureKind {
    /// It could not be reached, or the connection broke.
    Unreachable,
    /// It said that it does not have the blocks, or gives them not to us: the two look the same.
    Absent,
    /// It did not answer in time.
    Silent,
    /// It sent something wrong: other bytes, too many, or no message at all.
    Misbehaved,
}

impl fmt::Display for PeerFailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "could not be reached",
            Self::Absent => "does not have it, or not for us",
            Self::Silent => "did not answer in time",
            Self::Misbehaved => "sent something wrong",
        })
    }
}

/// An exchange with another store in this process, through that store's gate.
#[derive(Debug, Clone)]
pub struct LocalExchange {
    gate: Gate,
    as_peer: PeerId,
}

impl LocalExchange {
    /// Asks `gate` as the peer `as_peer`, in the name of the session's account.
    pub fn new(gate: Gate, as_peer: PeerId) -> Self {
        Self { gate, as_peer }
    }
}

impl Exchange for LocalExchange {
    fn fetch(
        &self,
        cids: &[Cid],
        session: &Session,
        sink: &mut dyn FnMut(Block) -> Result<(), StoreError>,
    ) -> Result<(), FetchError> {
        if cids.len() > MAX_WANTS {
            return Err(FetchError::TooMany { wanted: cids.len() });
        }
        let requester = Requester::Peer { id: self.as_peer.clone(), account: session.account };
        let mut seen = HashSet::new();
        let mut missing = Vec::new();
        for cid in cids.iter().filter(|cid| seen.insert(**cid)) {
            match self.gate.get(&requester, cid).map_err(|e| FetchError::Unavailable(e.into()))? {
                Some(block) => sink(block).map_err(FetchError::Sink)?,
                None => missing.push(*cid),
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        Err(FetchError::Missing { cids: missing, peers: Vec::new() })
    }
}

/// Where a reader takes blocks from: a store, or a store that fetches what it does not hold.
pub trait BlockSource {
    /// Returns the block named `cid`, verified, or `None` if it cannot be had.
    fn block(&self, cid: &Cid) -> Result<Option<Block>, StoreError>;
}

impl<S: BlockStore + ?Sized> BlockSource for S {
    fn block(&self, cid: &Cid) -> Result<Option<Block>, StoreError> {
        self.get(cid)
    }
}

/// A store before an exchange: what is not held is fetched, one block at a time, and kept if so wished.
///
/// Who knows the blocks of a range beforehand fetches them together, with [`Exchange::fetch`].
pub struct FetchingSource<'a> {
    store: &'a dyn BlockStore,
    exchange: &'a dyn Exchange,
    session: &'a Session,
    keep: bool,
}

impl<'a> FetchingSource<'a> {
    /// Looks into `store` first, then asks `exchange`; `keep` puts what came into `store`.
    pub fn new(
        store: &'a dyn BlockStore,
        exchange: &'a dyn Exchange,
        session: &'a Session,
        keep: bool,
    ) -> Self {
        Self { store, exchange, session, keep }
    }
}

impl fmt::Debug for FetchingSource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchingSource")
            .field("session", self.session)
            .field("keep", &self.keep)
            .finish_non_exhaustive()
    }
}

impl BlockSource for FetchingSource<'_> {
    fn block(&self, cid: &Cid) -> Result<Option<Block>, StoreError> {
        if let Some(block) = self.store.get(cid)? {
            return Ok(Some(block));
        }
        let fetched = self.exchange.fetch_one(cid, self.session);
        // A block that did not come is an error here and not `None`: the error says which peer failed, and how.
        let block = fetched.map_err(|e| StoreError::new(StoreOp::Fetch, e).on(cid))?;
        if self.keep {
            self.store.put(&block)?;
        }
        Ok(Some(block))
    }
}
