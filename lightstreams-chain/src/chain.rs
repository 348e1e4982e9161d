//! The facade: one chain in one database.

mod file;
mod group;
mod import;
mod ommers;
mod open;
pub(crate) mod prove;
mod query;
mod snapshot;

use std::{
    collections::{BTreeSet, VecDeque},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use alloy_primitives::{Address, B256};

use self::import::Built;
pub(crate) use self::open::SCHEMA;
#[cfg(feature = "testing")]
pub(crate) use self::open::write_state;
pub use self::{
    file::{ExportError, FileFault, FileProgress, ImportFileError},
    snapshot::{SnapshotError, SnapshotInfo},
};
use crate::{
    Ancestry, Block, BlockId, BlockRef, Engine, Genesis, HeadChange, HeadInfo, Kv, KvError, MinedReceipt,
    MinedTransaction, NativeContract, OpenError, PoolLimits, PooledTransaction, Receipt, StateError,
    StateView, SubmitError, blocks::Blocks, pool::Pool, rules::Rules, state::Hot,
};

/// How much is kept, how much one query may cost, and what a team adds.
#[derive(Clone, Debug)]
pub struct Options {
    /// For how many blocks below the head states can be read and reorgs unwound; at least 128, [`Options::ALL_STATES`] for an
    /// archive. It may change from one opening to the next: fewer states are forgotten bit by bit, those forgotten stay so
    /// ([`Chain::oldest_state`]).
    pub state_history: u64,
    /// Gas of one call at most.
    pub call_gas_max: u64,
    /// Blocks of one log query that names neither address nor topic.
    pub log_blocks_max: u64,
    /// Logs of one answer.
    pub logs_max: usize,
    /// Bounds of the transaction pool.
    pub pool: PoolLimits,
    /// Gas limit towards which blocks built here move; absent to keep the parent's.
    pub gas_limit_target: Option<u64>,
    /// Contracts of native code; every node of the chain has the same.
    pub natives: Vec<Arc<dyn NativeContract>>,
}

impl Options {
    /// As [`Options::state_history`]: nothing is forgotten.
    pub const ALL_STATES: u64 = u64::MAX;
}

impl Default for Options {
    fn default() -> Self {
        Self {
            state_history: 1_024,
            call_gas_max: 50_000_000,
            log_blocks_max: 10_000,
            logs_max: 20_000,
            pool: PoolLimits::default(),
            gas_limit_target: None,
            natives: Vec::new(),
        }
    }
}

/// A chain: its blocks, its states, and the transactions that wait for it. Share it as `Arc<Chain>`.
///
/// Readers never wait for a block in execution. Importing and building take turns.
pub struct Chain {
    genesis: Genesis,
    genesis_hash: B256,
    rules: Rules,
    engine: Arc<dyn Engine>,
    kv: Arc<dyn Kv>,
    options: Options,
    tip: RwLock<Tip>,
    writer: Mutex<Writer>,
    /// Counts reorgs; held for writing while one is committed.
    reorgs: RwLock<u64>,
    oldest_state: AtomicU64,
    pool: Mutex<Pool>,
    heads: Observers<HeadChange>,
    taken: Observers<PooledTransaction>,
}

#[derive(Clone)]
struct Tip {
    head: HeadInfo,
    final_block: BlockRef,
}

/// What only the one who imports or builds touches.
#[derive(Default)]
struct Writer {
    /// The block built last, so that it need not be executed again once it is sealed.
    built: Option<Built>,
    /// What is known of the state of the head.
    hot: Hot,
    /// Hashes of blocks found invalid, the oldest first.
    invalid: VecDeque<B256>,
    invalid_set: BTreeSet<B256>,
}

impl Chain {
    /// Opens the chain of `genesis` in `kv`, and writes the genesis there if the database is empty.
    pub fn open(genesis: Genesis, kv: Arc<dyn Kv>, engine: Arc<dyn Engine>) -> Result<Self, OpenError> {
        Self::open_with(genesis, kv, engine, Options::default())
    }

    /// As [`Chain::open`], with `options`.
    pub fn open_with(
        genesis: Genesis,
        kv: Arc<dyn Kv>,
        engine: Arc<dyn Engine>,
        options: Options,
    ) -> Result<Self, OpenError> {
        open::open(genesis, kv, engine, options)
    }

    /// The genesis it was opened with.
    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The engine it was opened with.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// The chain id.
    pub fn chain_id(&self) -> u64 {
        self.rules.chain_id()
    }

    /// Hash of the genesis block.
    pub fn genesis_hash(&self) -> B256 {
        self.genesis_hash
    }

    /// The head.
    pub fn head(&self) -> HeadInfo {
        self.tip.read().unwrap_or_else(PoisonError::into_inner).head.clone()
    }

    /// The newest final block. Its number never goes back; see [`Chain::final_is_canonical`].
    pub fn final_block(&self) -> BlockRef {
        self.tip.read().unwrap_or_else(PoisonError::into_inner).final_block
    }

    /// Whether the final block still stands in the chain. A reorg below it is an alarm for people.
    pub fn final_is_canonical(&self) -> Result<bool, KvError> {
        let block = self.final_block();
        Ok(self.canonical_at(block.number)? == Some(block.hash))
    }

    /// Number and hash of `id`, or `None` if no such block is known.
    pub fn resolve(&self, id: BlockId) -> Result<Option<BlockRef>, KvError> {
        let number = match id {
            BlockId::Latest => return Ok(Some(self.head().block_ref())),
            BlockId::Final => return Ok(Some(self.final_block())),
            BlockId::Earliest => 0,
            BlockId::Number(number) => number,
            BlockId::Hash(hash) => {
                return Ok(self.blocks().number(&hash)?.map(|number| BlockRef { number, hash }));
            }
        };
        Ok(self.canonical_at(number)?.map(|hash| BlockRef { number, hash }))
    }

    /// The header of `id`, with hash and total difficulty.
    pub fn header(&self, id: BlockId) -> Result<Option<HeadInfo>, KvError> {
        if id == BlockId::Latest {
            return Ok(Some(self.head()));
        }
        match self.resolve(id)? {
            Some(block) => self.blocks().info(block),
            None => Ok(None),
        }
    }

    /// The block `id`.
    pub fn block(&self, id: BlockId) -> Result<Option<Block>, KvError> {
        match self.resolve(id)? {
            Some(block) => self.blocks().body(block),
            None => Ok(None),
        }
    }

    /// Who signed the transactions of block `id`, in their order.
    pub fn senders(&self, id: BlockId) -> Result<Option<Vec<Address>>, KvError> {
        match self.resolve(id)? {
            Some(block) => self.blocks().senders(block),
            None => Ok(None),
        }
    }

    /// The receipts of block `id`; `None` too for a side block.
    pub fn receipts(&self, id: BlockId) -> Result<Option<Vec<Receipt>>, KvError> {
        match self.resolve(id)? {
            Some(block) => self.blocks().receipts(block),
            None => Ok(None),
        }
    }

    /// A transaction of the canonical chain.
    pub fn transaction(&self, hash: &B256) -> Result<Option<MinedTransaction>, KvError> {
        query::transaction(self, hash)
    }

    /// The receipt of a transaction of the canonical chain.
    pub fn receipt(&self, hash: &B256) -> Result<Option<MinedReceipt>, KvError> {
        query::receipt(self, hash)
    }

    /// The receipts of all transactions of block `id`, in their order.
    pub fn block_receipts(&self, id: BlockId) -> Result<Option<Vec<MinedReceipt>>, KvError> {
        query::block_receipts(self, id)
    }

    /// The state after block `id`.
    pub fn state(&self, id: BlockId) -> Result<StateView<'_>, StateError> {
        let block = self.resolve(id)?.ok_or(StateError::UnknownBlock)?;
        if block.number < self.oldest_state() || self.canonical_at(block.number)? != Some(block.hash) {
            return Err(StateError::NotKept(block.number));
        }
        Ok(StateView::new(self, block))
    }

    /// The number of the oldest block whose state is kept.
    pub fn oldest_state(&self) -> u64 {
        self.oldest_state.load(Ordering::SeqCst)
    }

    /// The base fee of the next block; `None` before London.
    pub fn next_base_fee(&self) -> Option<u64> {
        let head = self.head().header;
        self.rules.base_fee(head.number.saturating_add(1), &head)
    }

    /// Takes a signed transaction (EIP-2718 bytes, or a legacy one in RLP) into the pool.
    pub fn submit(&self, raw: &[u8]) -> Result<B256, SubmitError> {
        let taken = self.lock_pool().submit(self, raw)?;
        let hash = *taken.transaction.tx_hash();
        self.taken.queue(taken);
        self.taken.call();
        Ok(hash)
    }

    /// A transaction of the pool.
    pub fn pooled(&self, hash: &B256) -> Option<PooledTransaction> {
        self.lock_pool().get(hash)
    }

    /// All transactions of the pool, by account and nonce.
    pub fn pool_content(&self) -> Vec<PooledTransaction> {
        self.lock_pool().content()
    }

    /// How many transactions of the pool are (pending, queued).
    pub fn pool_size(&self) -> (usize, usize) {
        self.lock_pool().size()
    }

    /// The next nonce of `account`, counting its pending transactions in the pool.
    pub fn next_nonce(&self, account: Address) -> Result<u64, KvError> {
        match self.lock_pool().next_nonce(account) {
            Some(nonce) => Ok(nonce),
            None => Ok(self.tip_account(account)?.map_or(0, |account| account.nonce)),
        }
    }

    /// Calls `observer` after every change of head, in order, with no lock held. It must not block.
    pub fn observe_head(&self, observer: impl Fn(&HeadChange) + Send + Sync + 'static) {
        self.heads.add(observer);
    }

    /// Calls `observer` with every transaction newly taken into the pool, with no lock held. It must not block.
    pub fn observe_pool(&self, observer: impl Fn(&PooledTransaction) + Send + Sync + 'static) {
        self.taken.add(observer);
    }

    pub(crate) fn kv(&self) -> &dyn Kv {
        self.kv.as_ref()
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) fn blocks(&self) -> Blocks<&dyn Kv> {
        Blocks(self.kv())
    }

    pub(crate) fn canonical_at(&self, number: u64) -> Result<Option<B256>, KvError> {
        self.blocks().canonical_hash(number)
    }

    /// Keeps reorgs from being committed while the guard lives; it holds their count.
    pub(crate) fn hold_reorgs(&self) -> RwLockReadGuard<'_, u64> {
        self.reorgs.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The account at `address` at the head.
    pub(crate) fn tip_account(&self, address: Address) -> Result<Option<crate::Account>, KvError> {
        query::tip_account(self, address)
    }

    fn lock_pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ancestry for Chain {
    fn header(&self, hash: &B256) -> Result<Option<HeadInfo>, KvError> {
        Ancestry::header(&self.blocks(), hash)
    }

    fn canonical_hash(&self, number: u64) -> Result<Option<B256>, KvError> {
        self.canonical_at(number)
    }

    fn record(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        self.blocks().record(key)
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain")
            .field("chain_id", &self.chain_id())
            .field("genesis", &self.genesis_hash)
            .field("head", &self.head().block_ref())
            .finish_non_exhaustive()
    }
}

type Observer<T> = Arc<dyn Fn(&T) + Send + Sync>;

/// Those who are told of events, and the events they were not told of yet.
struct Observers<T> {
    observers: RwLock<Vec<Observer<T>>>,
    queue: Mutex<VecDeque<T>>,
    calling: Mutex<()>,
}

impl<T> Observers<T> {
    fn new() -> Self {
        Self { observers: RwLock::default(), queue: Mutex::default(), calling: Mutex::default() }
    }

    fn add(&self, observer: impl Fn(&T) + Send + Sync + 'static) {
        self.observers.write().unwrap_or_else(PoisonError::into_inner).push(Arc::new(observer));
    }

    fn queue(&self, event: T) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(event);
    }

    /// Tells all queued events. Where another is at it, also an observer further up this stack, that one tells them.
    fn call(&self) {
        let next = || self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let idle = || self.queue.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        while !idle() {
            let Ok(_calling) = self.calling.try_lock() else { return };
            while let Some(event) = next() {
                let observers = self.observers.read().unwrap_or_else(PoisonError::into_inner).clone();
                for observer in observers {
                    observer(&event);
                }
            }
        }
    }
}
