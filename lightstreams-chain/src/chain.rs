//! The facade: one chain in one database.

use std::sync::Arc;

use alloy_primitives::{Address, B256};

use crate::*;

/// How much is kept, and how much one query may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// For how many blocks below the head states can be read and reorgs unwound; at least 128.
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
        }
    }
}

/// A chain: its blocks, its states, and the transactions that wait for it. Share it as `Arc<Chain>`.
pub struct Chain {}

impl Chain {
    /// Opens the chain of `genesis` in `kv`, and writes the genesis there if the database is empty.
    pub fn open(genesis: Genesis, kv: Arc<dyn Kv>, engine: Arc<dyn Engine>) -> Result<Self, OpenError> {
        Self::open_with(genesis, kv, engine, Options::default())
    }
    /// As [`Chain::open`], with `options`.
    pub fn open_with(_: Genesis, _: Arc<dyn Kv>, _: Arc<dyn Engine>, _: Options) -> Result<Self, OpenError> {
        todo!()
    }
    /// The genesis it was opened with.
    pub fn genesis(&self) -> &Genesis {
        todo!()
    }
    /// The engine it was opened with.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        todo!()
    }
    /// The chain id.
    pub fn chain_id(&self) -> u64 {
        todo!()
    }
    /// Hash of the genesis block.
    pub fn genesis_hash(&self) -> B256 {
        todo!()
    }
    /// The head.
    pub fn head(&self) -> HeadInfo {
        todo!()
    }
    /// The newest final block. Its number never goes back; see [`Chain::final_is_canonical`].
    pub fn final_block(&self) -> BlockRef {
        todo!()
    }
    /// Whether the final block still stands in the chain. A reorg below it is an alarm for people.
    pub fn final_is_canonical(&self) -> Result<bool, KvError> {
        todo!()
    }
    /// Number and hash of `id`, or `None` if no such block is known.
    pub fn resolve(&self, _: BlockId) -> Result<Option<BlockRef>, KvError> {
        todo!()
    }
    /// The header of `id`, with hash and total difficulty.
    pub fn header(&self, _: BlockId) -> Result<Option<HeadInfo>, KvError> {
        todo!()
    }
    /// The block `id`.
    pub fn block(&self, _: BlockId) -> Result<Option<Block>, KvError> {
        todo!()
    }
    /// Who signed the transactions of block `id`, in their order.
    pub fn senders(&self, _: BlockId) -> Result<Option<Vec<Address>>, KvError> {
        todo!()
    }
    /// The receipts of block `id`; `None` too for a side block that was never executed.
    pub fn receipts(&self, _: BlockId) -> Result<Option<Vec<Receipt>>, KvError> {
        todo!()
    }
    /// A transaction of the canonical chain.
    pub fn transaction(&self, _: &B256) -> Result<Option<MinedTransaction>, KvError> {
        todo!()
    }
    /// The receipt of a transaction of the canonical chain.
    pub fn receipt(&self, _: &B256) -> Result<Option<MinedReceipt>, KvError> {
        todo!()
    }
    /// The state after block `id`.
    pub fn state(&self, _: BlockId) -> Result<StateView<'_>, StateError> {
        todo!()
    }
    /// Runs `request` on the state after block `at`, in a block like it.
    pub fn call(&self, _at: BlockId, _request: &CallRequest) -> Result<CallOutcome, CallError> {
        todo!()
    }
    /// The least gas with which `request` succeeds on the state after block `at`.
    pub fn estimate_gas(&self, _at: BlockId, _request: &CallRequest) -> Result<u64, CallError> {
        todo!()
    }
    /// The logs that `filter` describes, ascending.
    pub fn logs(&self, _: &LogFilter) -> Result<Vec<LogEntry>, LogsError> {
        todo!()
    }
    /// Takes a signed transaction (EIP-2718 bytes, or a legacy one in RLP) into the pool.
    pub fn submit(&self, _raw: &[u8]) -> Result<B256, SubmitError> {
        todo!()
    }
    /// A transaction of the pool.
    pub fn pooled(&self, _: &B256) -> Option<PooledTransaction> {
        todo!()
    }
    /// All transactions of the pool, by account and nonce.
    pub fn pool_content(&self) -> Vec<PooledTransaction> {
        todo!()
    }
    /// How many transactions of the pool are (pending, queued).
    pub fn pool_size(&self) -> (usize, usize) {
        todo!()
    }
    /// The next nonce of `account`, counting its pending transactions in the pool.
    pub fn next_nonce(&self, _account: Address) -> Result<u64, KvError> {
        todo!()
    }
    /// The base fee of the next block; `None` before London.
    pub fn next_base_fee(&self) -> Option<u64> {
        todo!()
    }
    /// Checks `block`, executes it if its branch is preferred, and returns once what it says it did is durable.
    /// `now` in Unix seconds.
    pub fn import(&self, _block: Block, _now: u64) -> Result<Imported, ImportError> {
        todo!()
    }
    /// Builds a block on the head from the pool: complete but for its seal. Seal it, then import it.
    pub fn build(&self, _: &BuildAttributes) -> Result<Block, BuildError> {
        todo!()
    }
    /// Calls `observer` after every change of head, in order, with no lock held. It must not block.
    pub fn observe_head(&self, _observer: impl Fn(&HeadChange) + Send + Sync + 'static) {
        todo!()
    }
    /// Calls `observer` with every transaction newly taken into the pool. It must not block.
    pub fn observe_pool(&self, _observer: impl Fn(&PooledTransaction) + Send + Sync + 'static) {
        todo!()
    }
}

impl Ancestry for Chain {
    fn header(&self, _: &B256) -> Result<Option<HeadInfo>, KvError> {
        todo!()
    }
    fn canonical_hash(&self, _: u64) -> Result<Option<B256>, KvError> {
        todo!()
    }
    fn record(&self, _: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        todo!()
    }
}
