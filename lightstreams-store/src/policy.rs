//! Who may have a block, and the one gate that every door asks.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use cid::Cid;

use crate::{Block, BlockStore, StoreError};

/// A chain account: the 20 bytes of an Ethereum address.
pub type Account = [u8; 20];

/// Longest [`PeerId`]: an identity multihash of a 42-byte key.
const MAX_PEER_ID_LEN: usize = 64;

/// A peer, by the bytes of its libp2p peer id (a multihash).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(Box<[u8]>);

impl PeerId {
    /// Takes the binary multihash; `None` if it is empty or longer than 64 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        (!bytes.is_empty() && bytes.len() <= MAX_PEER_ID_LEN).then(|| Self(bytes.into()))
    }

    /// The binary multihash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({self})")
    }
}

impl fmt::Display for PeerId {
    /// Base 58, as libp2p writes peer ids.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&cid::multibase::Base::Base58Btc.encode(&self.0))
    }
}

/// Who asks for a block.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Requester {
    /// A peer, authenticated by its connection, and the account that it has proven, if any.
    Peer {
        /// The peer.
        id: PeerId,
        /// The account that it acts for.
        account: Option<Account>,
    },
    /// A client of an HTTP face, and the account that it has proven, if any.
    Http {
        /// The account that it acts for.
        account: Option<Account>,
    },
    /// This process itself, and the operator on the private listener.
    Local,
}

impl Requester {
    /// The account proven, if any.
    pub fn account(&self) -> Option<&Account> {
        match self {
            Self::Peer { account, .. } | Self::Http { account } => account.as_ref(),
            Self::Local => None,
        }
    }
}

/// Decides, before a block or the fact that it is here leaves, whether it may.
///
/// The policy answers for itself alone, whether or not the block is held; it must not block for long, and where it
/// cannot find out, it answers `false`. A caller treats a denied block exactly as one that is not here, and keeps
/// nothing of the request.
pub trait ServePolicy: Send + Sync {
    /// Whether `requester` may have the block named `cid`, and know that it is here.
    fn allows(&self, requester: &Requester, cid: &Cid) -> bool;
}

// A node puts its chain behind this trait at run time.
const _: Option<&dyn ServePolicy> = None;

impl<P: ServePolicy + ?Sized> ServePolicy for Arc<P> {
    fn allows(&self, requester: &Requester, cid: &Cid) -> bool {
        (**self).allows(requester, cid)
    }
}

/// Serves everything to everyone: for stores that hold public content only.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowAll;

impl ServePolicy for AllowAll {
    fn allows(&self, _: &Requester, _: &Cid) -> bool {
        true
    }
}

/// Serves nothing to anyone but this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct DenyAll;

impl ServePolicy for DenyAll {
    fn allows(&self, requester: &Requester, _: &Cid) -> bool {
        *requester == Requester::Local
    }
}

/// A store behind a policy: the one gate that every door of a node goes through.
///
/// Denied and absent are the same answer.
#[derive(Clone)]
pub struct Gate {
    store: Arc<dyn BlockStore>,
    policy: Arc<dyn ServePolicy>,
}

impl Gate {
    /// Puts `policy` before `store`.
    pub fn new(store: Arc<dyn BlockStore>, policy: Arc<dyn ServePolicy>) -> Self {
        Self { store, policy }
    }

    /// The block named `cid`, or `None` if it is not here or not for `requester`.
    pub fn get(&self, requester: &Requester, cid: &Cid) -> Result<Option<Block>, StoreError> {
        self.store_for(requester, cid).map_or(Ok(None), |store| store.get(cid))
    }

    /// Its bytes, [for somebody who hashes them](BlockStore::get_unhashed), or `None` if it is not here or not for `requester`.
    pub fn get_unhashed(&self, requester: &Requester, cid: &Cid) -> Result<Option<Bytes>, StoreError> {
        self.store_for(requester, cid).map_or(Ok(None), |store| store.get_unhashed(cid))
    }

    /// The length of the block named `cid`, or `None` if it is not here or not for `requester`.
    pub fn size(&self, requester: &Requester, cid: &Cid) -> Result<Option<u64>, StoreError> {
        self.store_for(requester, cid).map_or(Ok(None), |store| store.size(cid))
    }

    /// The store, if `requester` may have `cid` of it.
    fn store_for(&self, requester: &Requester, cid: &Cid) -> Option<&dyn BlockStore> {
        self.policy.allows(requester, cid).then_some(&*self.store)
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}
