//! Who has a block: finding peers that say so, and saying so.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use cid::Cid;
use multihash::Multihash;

use crate::{Block, Exchange, FetchError, Gate, PeerId, Requester, Session, StoreError};

/// Blocks of which a [`LocalRouting`] knows providers.
const RECORDS_MAX: usize = 64 * 1024;
/// Providers of one block that a [`LocalRouting`] keeps.
const PROVIDERS_MAX: usize = 20;
/// Peers that a [`LocalRouting`] names for whatever is asked for.
const MEMBERS_MAX: usize = 64;
/// Providers asked for in one fetch, and blocks for which they are looked for.
const FOUND_MAX: usize = 20;
const LOOKUPS_MAX: usize = 4;

/// Knows who has which block, as far as peers said so.
///
/// Both ways tell others something: `provide` that this node has a block, `find_providers` that somebody here wants one. So neither
/// happens on its own: [`announce`] names the roots that an operator chose, [`RoutedExchange`] asks for what no known peer
/// gave. What a routing says is a hint; who really has a block is seen when it arrives.
pub trait Routing: Send + Sync {
    /// Peers that said that they have the block, at most `limit`; none is no error. May block its caller for as long as the
    /// routing is patient.
    fn find_providers(&self, cid: &Cid, limit: usize) -> Result<Vec<PeerId>, RoutingError>;

    /// Says that this node has the block, until [`withdraw`](Self::withdraw) or the end of the routing.
    ///
    /// Everyone may hear it: [`announce`] asks the policy before.
    fn provide(&self, cid: &Cid) -> Result<(), RoutingError>;

    /// Ends saying so; what others heard they may remember for a while.
    fn withdraw(&self, cid: &Cid) -> Result<(), RoutingError>;
}

// A node chooses its routing at run time.
const _: Option<&dyn Routing> = None;

/// Why a routing did not find or say something.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum RoutingError {
    /// Its table is full.
    #[error("the routing table holds {max} entries and no more")]
    Full {
        /// How many it may hold.
        max: usize,
    },
    /// The routing failed, which says nothing about the block.
    #[error("the routing failed")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Whether the block is here could not be found out.
    #[error("the store failed")]
    Store(#[source] StoreError),
}

/// Says of each of `roots` that it is here, if it is and `gate` lets everyone have it; returns those of which it was said.
///
/// Nothing else is said: no block below a root, and nothing that only some may have, since who may not have a block must not learn
/// that it is here. Everyone is a peer of whom nothing is known and that has proven no account.
///
/// ```
/// use std::sync::Arc;
/// use lightstreams_store::{
///     AllowAll, Block, BlockStore, DenyAll, Gate, LocalRouting, MemoryStore, PeerId, Routing, announce,
/// };
/// let me = PeerId::from_bytes(b"me").ok_or("no peer id")?;
/// let (routing, store) = (LocalRouting::new(me.clone(), []), Arc::new(MemoryStore::default()));
/// let root = Block::raw(&b"hello"[..]);
/// store.put(&root)?;
/// assert!(announce(&Gate::new(store.clone(), Arc::new(DenyAll)), &routing, &[*root.cid()])?.is_empty());
/// assert_eq!(announce(&Gate::new(store, Arc::new(AllowAll)), &routing, &[*root.cid()])?, [*root.cid()]);
/// assert_eq!(routing.find_providers(root.cid(), 10)?, [me]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn announce(gate: &Gate, routing: &dyn Routing, roots: &[Cid]) -> Result<Vec<Cid>, RoutingError> {
    let mut said = Vec::new();
    let Some(nobody) = PeerId::from_bytes(&NOBODY) else { return Ok(said) };
    let everyone = Requester::Peer { id: nobody, account: None };
    for root in roots.iter().filter(|root| Block::inline(root).is_none()) {
        if gate.size(&everyone, root).map_err(RoutingError::Store)?.is_some() {
            routing.provide(root)?;
            said.push(*root);
        }
    }
    Ok(said)
}

/// The identity multihash of no key.
const NOBODY: [u8; 2] = [0, 0];

/// A routing for small networks, in memory: all members are asked for everything, after those of whom it is known that they have it.
///
/// It tells nobody anything; what this node provides is known to those who share the value. Records go oldest first when there
/// are too many.
pub struct LocalRouting {
    own: PeerId,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    members: Vec<PeerId>,
    records: HashMap<Multihash<64>, VecDeque<PeerId>>,
    order: VecDeque<Multihash<64>>,
}

impl LocalRouting {
    /// The table of the node `own`, in a network of `members`, at most 64.
    pub fn new(own: PeerId, members: impl IntoIterator<Item = PeerId>) -> Self {
        let table = Table { members: members.into_iter().take(MEMBERS_MAX).collect(), ..Table::default() };
        Self { own, table: Mutex::new(table) }
    }

    /// Adds a member; [`RoutingError::Full`] beyond 64.
    pub fn add_member(&self, peer: PeerId) -> Result<(), RoutingError> {
        let mut table = self.table();
        if table.members.contains(&peer) {
            return Ok(());
        }
        if table.members.len() >= MEMBERS_MAX {
            return Err(RoutingError::Full { max: MEMBERS_MAX });
        }
        table.members.push(peer);
        Ok(())
    }

    /// Takes a member away, with all that was said of it.
    pub fn remove_member(&self, peer: &PeerId) {
        let mut table = self.table();
        table.members.retain(|other| other != peer);
        table.records.values_mut().for_each(|peers| peers.retain(|other| other != peer));
    }

    /// Notes that `peer` has the block.
    pub fn add_provider(&self, cid: &Cid, peer: PeerId) {
        let mut table = self.table();
        let hash = *cid.hash();
        if !table.records.contains_key(&hash) {
            if table.records.len() >= RECORDS_MAX
                && let Some(oldest) = table.order.pop_front()
            {
                table.records.remove(&oldest);
            }
            table.order.push_back(hash);
        }
        let peers = table.records.entry(hash).or_default();
        peers.retain(|other| *other != peer);
        peers.push_front(peer);
        peers.truncate(PROVIDERS_MAX);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Routing for LocalRouting {
    fn find_providers(&self, cid: &Cid, limit: usize) -> Result<Vec<PeerId>, RoutingError> {
        let table = self.table();
        let said = table.records.get(cid.hash()).into_iter().flatten();
        let mut found: Vec<PeerId> = said.cloned().collect();
        found.extend(table.members.iter().filter(|member| **member != self.own).cloned());
        let mut seen = HashSet::new();
        found.retain(|peer| seen.insert(peer.clone()));
        found.truncate(limit);
        Ok(found)
    }

    fn provide(&self, cid: &Cid) -> Result<(), RoutingError> {
        self.add_provider(cid, self.own.clone());
        Ok(())
    }

    fn withdraw(&self, cid: &Cid) -> Result<(), RoutingError> {
        if let Some(peers) = self.table().records.get_mut(cid.hash()) {
            peers.retain(|peer| *peer != self.own);
        }
        Ok(())
    }
}

impl fmt::Debug for LocalRouting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalRouting").field("own", &self.own).finish_non_exhaustive()
    }
}

/// An exchange that finds peers for what those of the session do not give.
///
/// Providers are looked for once in a fetch, for its first blocks that are missing: a file's root and its leaves have the same. The
/// peers that were found are asked for all that is missing.
#[derive(Debug, Clone)]
pub struct RoutedExchange<E, R> {
    exchange: E,
    routing: R,
    own: PeerId,
}

impl<E: Exchange, R: std::ops::Deref<Target: Routing> + Send + Sync> RoutedExchange<E, R> {
    /// Fetches through `exchange`, finds through `routing`; `own` is this node, which is never asked.
    pub fn new(exchange: E, routing: R, own: PeerId) -> Self {
        Self { exchange, routing, own }
    }

    fn providers(&self, cids: &[Cid], but: &[PeerId]) -> Result<Vec<PeerId>, RoutingError> {
        let mut found = Vec::new();
        for cid in cids.iter().take(LOOKUPS_MAX) {
            for peer in self.routing.find_providers(cid, FOUND_MAX)? {
                if peer != self.own && !but.contains(&peer) && !found.contains(&peer) {
                    found.push(peer);
                }
            }
            if found.len() >= FOUND_MAX {
                break;
            }
        }
        found.truncate(FOUND_MAX);
        Ok(found)
    }
}

impl<E: Exchange, R: std::ops::Deref<Target: Routing> + Send + Sync> Exchange for RoutedExchange<E, R> {
    fn fetch(
        &self,
        cids: &[Cid],
        session: &Session,
        sink: &mut dyn FnMut(Block) -> Result<(), StoreError>,
    ) -> Result<(), FetchError> {
        let (missing, mut failures) = match self.exchange.fetch(cids, session, sink) {
            Err(FetchError::Missing { cids, peers }) => (cids, peers),
            other => return other,
        };
        let asked: Vec<PeerId> = failures.iter().map(|failure| failure.peer.clone()).collect();
        let found =
            self.providers(&missing, &asked).map_err(|error| FetchError::Unavailable(error.into()))?;
        if found.is_empty() {
            return Err(FetchError::Missing { cids: missing, peers: failures });
        }
        let session = session.clone().with_peers(found);
        match self.exchange.fetch(&missing, &session, sink) {
            Err(FetchError::Missing { cids, peers }) => {
                failures.extend(peers);
                Err(FetchError::Missing { cids, peers: failures })
            }
            other => other,
        }
    }
}
