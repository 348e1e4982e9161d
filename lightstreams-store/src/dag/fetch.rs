//! A whole DAG from peers into a store.

use std::collections::HashSet;

use cid::Cid;

use super::DagError;
use crate::{Block, BlockStore, Codec, Exchange, MAX_WANTS, RAW, Session, StoreError, StoreOp};

/// The most links that wait, some 25 MiB.
const MAX_WAITING: usize = 1 << 18;
/// With more links than this waiting, few blocks with links of their own are fetched at once.
const MANY_WAITING: usize = MAX_WAITING / 4;
/// Blocks are put together up to so many bytes, so that many of them share a sync.
const PUT_BYTES: usize = 8 * 1024 * 1024;

/// What [`fetch_dag`] did.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FetchedDag {
    /// Blocks that came.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blocks that the store had before.
    pub held: u64,
}

/// Brings all that is reachable from `root` into `store`, at most `blocks_max` blocks.
///
/// What the store holds is read there and not fetched: a fetch that was cut off, by an error or by the end of the process,
/// goes on where it was, but for the last few MiB. Nothing protects the blocks from a sweep except a [`Hold`](crate::Hold) that is
/// given as `store`. Many blocks are wanted at once; `progress` hears of each batch that is stored. Blocks of unknown codecs
/// count as without links. Memory holds a batch, the links that wait, and some 100 bytes for each block.
///
/// ```
/// use std::sync::Arc;
/// use lightstreams_store::{
///     AllowAll, Block, BlockStore, DAG_CBOR, Gate, LocalExchange, MemoryStore, PeerId, Session, fetch_dag,
/// };
/// let theirs = Arc::new(MemoryStore::default());
/// let root = Block::raw(&b"hello"[..]);
/// theirs.put(&root)?;
/// let me = PeerId::from_bytes(b"me").ok_or("no peer id")?;
/// let exchange = LocalExchange::new(Gate::new(theirs, Arc::new(AllowAll)), me);
/// let mine = MemoryStore::default();
/// let fetched = fetch_dag(root.cid(), &mine, &exchange, &Session::new(), 1000, &mut |_| ())?;
/// assert_eq!((fetched.blocks, mine.get(root.cid())?), (1, Some(root)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn fetch_dag(
    root: &Cid,
    store: &dyn BlockStore,
    exchange: &dyn Exchange,
    session: &Session,
    blocks_max: u64,
    progress: &mut dyn FnMut(FetchedDag),
) -> Result<FetchedDag, DagError> {
    let mut fetch = Fetch {
        store,
        waiting: vec![*root],
        seen: HashSet::new(),
        blocks_max,
        fetched: FetchedDag::default(),
    };
    loop {
        let wanted = fetch.missing()?;
        if wanted.is_empty() {
            return Ok(fetch.fetched);
        }
        let mut batch = Batch::default();
        let mut fault = None;
        let result = exchange.fetch(&wanted, session, &mut |block| {
            if let Err(error) = fetch.links_of(block.cid(), block.data()) {
                fault = Some(error);
                return Err(StoreError::new(StoreOp::Fetch, "the DAG cannot be walked"));
            }
            batch.push(block);
            if batch.bytes >= PUT_BYTES {
                batch.put(store, &mut fetch.fetched)?;
                progress(fetch.fetched);
            }
            Ok(())
        });
        // What came is kept, whatever happened to the rest.
        batch.put(store, &mut fetch.fetched).map_err(DagError::Store)?;
        progress(fetch.fetched);
        match fault {
            Some(error) => return Err(error),
            None => result?,
        }
    }
}

struct Fetch<'a> {
    store: &'a dyn BlockStore,
    /// The next one last.
    waiting: Vec<Cid>,
    seen: HashSet<Cid>,
    blocks_max: u64,
    fetched: FetchedDag,
}

impl Fetch<'_> {
    /// The next blocks that the store lacks; it walks on through those that it has.
    fn missing(&mut self) -> Result<Vec<Cid>, DagError> {
        let mut wanted = Vec::new();
        let mut inner = 0;
        while wanted.len() < MAX_WANTS
            && let Some(cid) = self.waiting.pop()
        {
            if !self.seen.insert(cid) {
                continue;
            }
            if self.seen.len() as u64 > self.blocks_max {
                return Err(DagError::Limit { what: "blocks" });
            }
            if let Some(inline) = Block::inline(&cid) {
                self.links_of(&cid, inline.data())?;
            } else if cid.codec() == RAW {
                if self.store.has(&cid).map_err(DagError::Store)? {
                    self.fetched.held += 1;
                } else {
                    wanted.push(cid);
                }
            } else if let Some(block) = self.store.get(&cid).map_err(DagError::Store)? {
                self.fetched.held += 1;
                self.links_of(&cid, block.data())?;
            } else {
                wanted.push(cid);
                inner += 1;
                if inner >= 16 && self.waiting.len() > MANY_WAITING {
                    break;
                }
            }
        }
        Ok(wanted)
    }

    fn links_of(&mut self, cid: &Cid, data: &[u8]) -> Result<(), DagError> {
        let Some(codec) = Codec::from_code(cid.codec()) else { return Ok(()) };
        let links = codec.links(data).map_err(|source| DagError::Decode { cid: Box::new(*cid), source })?;
        if self.waiting.len() + links.len() > MAX_WAITING {
            return Err(DagError::Limit { what: "links on the way to a block" });
        }
        self.waiting.extend(links.into_iter().rev().filter(|link| !self.seen.contains(link)));
        Ok(())
    }
}

/// Blocks to be put together.
#[derive(Default)]
struct Batch {
    blocks: Vec<Block>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, block: Block) {
        self.bytes += block.len();
        self.blocks.push(block);
    }

    fn put(&mut self, store: &dyn BlockStore, fetched: &mut FetchedDag) -> Result<(), StoreError> {
        if !self.blocks.is_empty() {
            store.put_many(&self.blocks)?;
        }
        fetched.blocks += self.blocks.len() as u64;
        fetched.bytes += self.bytes as u64;
        self.blocks.clear();
        self.bytes = 0;
        Ok(())
    }
}
