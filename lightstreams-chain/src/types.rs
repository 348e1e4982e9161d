//! The words in which the facade is asked and answers.

use std::fmt;

use alloy_consensus::{EthereumTxEnvelope, ReceiptEnvelope, TxEip4844};
use alloy_eips::eip2930::AccessList;
use alloy_primitives::{Address, B256, Bytes, Log, U256};
use alloy_rlp::Decodable;

use crate::{BlockRef, Difference, HeadInfo, InvalidHeader, KvError};

/// A signed transaction of any type that Ethereum knows; one with blobs comes without their sidecar.
pub type Transaction = EthereumTxEnvelope<TxEip4844>;
/// A block: header, transactions, ommers, and from Shanghai on withdrawals. An engine says whether there may be ommers or
/// withdrawals ([`crate::Permits`]).
pub type Block = alloy_consensus::Block<Transaction>;
/// Reads one block in RLP, and nothing but one: what is accepted has no other encoding.
pub fn decode_block(rlp: &[u8]) -> Result<Block, BlockRlpError> {
    if rlp.len() > BLOCK_RLP_MAX {
        return Err(BlockRlpError::TooLong(rlp.len()));
    }
    let mut rest = rlp;
    let block = Block::decode(&mut rest)?;
    // A decoder may be lenient, and two encodings of a block would be two things to name, store and compare.
    if !rest.is_empty() || alloy_rlp::encode(&block) != rlp {
        return Err(BlockRlpError::NotCanonical);
    }
    Ok(block)
}

/// Bytes of a block that are looked at.
pub(crate) const BLOCK_RLP_MAX: usize = 16 << 20;

/// Why bytes are no block.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockRlpError {
    /// They are not RLP of the right shape.
    #[error("not the RLP of a block")]
    Rlp(#[from] alloy_rlp::Error),
    /// They are a block in another form than the one that is hashed and sent, or followed by more.
    #[error("not the canonical RLP of a block")]
    NotCanonical,
    /// They are more than any block has.
    #[error("{0} bytes are more than a block may have")]
    TooLong(usize),
}

/// A receipt with its bloom, as the receipts root commits to it.
pub type Receipt = ReceiptEnvelope;

/// Names a block by what is known of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BlockId {
    /// The head.
    #[default]
    Latest,
    /// The newest final block.
    Final,
    /// The genesis.
    Earliest,
    /// The canonical block of this number.
    Number(u64),
    /// The block of this hash, canonical or on a side branch.
    Hash(B256),
}

impl From<u64> for BlockId {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<B256> for BlockId {
    fn from(hash: B256) -> Self {
        Self::Hash(hash)
    }
}

impl From<BlockRef> for BlockId {
    fn from(block: BlockRef) -> Self {
        Self::Hash(block.hash)
    }
}

/// A message to run without putting it into a block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallRequest {
    /// The caller; the zero address if absent.
    pub from: Option<Address>,
    /// The contract or account called; absent to run `data` as a constructor.
    pub to: Option<Address>,
    /// Value sent along.
    pub value: U256,
    /// Input.
    pub data: Bytes,
    /// Gas at most; absent for as much as the chain's options allow.
    pub gas: Option<u64>,
    /// Price per gas that the caller would pay; absent for a call that costs nothing, whatever the base fee.
    pub gas_price: Option<u128>,
    /// Nonce of the caller; absent for its nonce in the state.
    pub nonce: Option<u64>,
    /// Addresses and slots that are warm from the start.
    pub access_list: AccessList,
}

impl CallRequest {
    /// A call of `to` with `data`, by nobody in particular.
    pub fn new(to: Address, data: impl Into<Bytes>) -> Self {
        Self { to: Some(to), data: data.into(), ..Self::default() }
    }
}

/// What a call came to. That it reverted is an answer, not a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// It returned.
    Success {
        /// What it returned; of a constructor, the code.
        output: Bytes,
        /// Gas used, refunds taken off.
        gas_used: u64,
        /// Logs it would have written.
        logs: Vec<Log>,
    },
    /// It reverted, giving a reason in `output`.
    Revert {
        /// The data of the revert.
        output: Bytes,
        /// Gas used.
        gas_used: u64,
    },
    /// It stopped on an error of the machine: out of gas, a bad opcode.
    Halt {
        /// The error, in words.
        reason: String,
        /// Gas used: all of it.
        gas_used: u64,
    },
}

impl CallOutcome {
    /// What was returned, if the call succeeded.
    pub fn output(&self) -> Option<&Bytes> {
        match self {
            Self::Success { output, .. } => Some(output),
            _ => None,
        }
    }

    /// Gas used.
    pub fn gas_used(&self) -> u64 {
        match self {
            Self::Success { gas_used, .. } | Self::Revert { gas_used, .. } | Self::Halt { gas_used, .. } => {
                *gas_used
            }
        }
    }
}

/// Which logs to find.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFilter {
    /// First block.
    pub from: BlockId,
    /// Last block.
    pub to: BlockId,
    /// Contracts that may have written the log; empty for any.
    pub addresses: Vec<Address>,
    /// For each of the four positions the topics that may stand there; empty for any.
    pub topics: [Vec<B256>; 4],
}

/// A log with its place in the canonical chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// The log.
    pub log: Log,
    /// Its block.
    pub block: BlockRef,
    /// Timestamp of the block.
    pub timestamp: u64,
    /// Hash of its transaction.
    pub transaction_hash: B256,
    /// Index of the transaction in the block.
    pub transaction_index: u64,
    /// Index of the log in the block.
    pub log_index: u64,
}

/// A transaction with its place in the canonical chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MinedTransaction {
    /// The transaction.
    pub transaction: Transaction,
    /// Who signed it.
    pub sender: Address,
    /// Its block.
    pub block: BlockRef,
    /// Its index in the block.
    pub index: u64,
    /// Base fee of the block.
    pub base_fee: Option<u64>,
    /// Timestamp of the block.
    pub timestamp: u64,
}

/// A receipt with what a client wants to know beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MinedReceipt {
    /// The transaction it belongs to.
    pub transaction: MinedTransaction,
    /// The receipt.
    pub receipt: Receipt,
    /// Gas used by this transaction alone.
    pub gas_used: u64,
    /// Price paid per gas.
    pub effective_gas_price: u128,
    /// The contract it created, if it was a creation.
    pub contract_address: Option<Address>,
    /// Index in the block of its first log.
    pub first_log_index: u64,
}

/// What `Chain::import` did with a block that is valid as far as it was looked at.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and most are heads")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Imported {
    /// It was executed and is the head now, as the last of `HeadChange::added`.
    Head(HeadChange),
    /// Its header and seal are right; it stands on a branch that is not preferred, and is executed once it is.
    Side(BlockRef),
    /// It was known already.
    Known(BlockRef),
}

/// A change of head, as head observers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadChange {
    /// The new head.
    pub head: HeadInfo,
    /// The newest final block.
    pub final_block: BlockRef,
    /// Blocks that are no longer canonical, the former head first. Empty but in a reorg.
    pub removed: Vec<BlockRef>,
    /// Blocks that became canonical, the head last.
    pub added: Vec<BlockRef>,
}

/// What a block is to be built from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuildAttributes {
    /// The block to build on, which must be the head.
    pub parent: B256,
    /// The authority that will seal the block.
    pub author: Address,
    /// The time, in Unix seconds.
    pub now: u64,
    /// Whether to put transactions of the pool into the block.
    pub with_transactions: bool,
}

/// Why a chain could not be opened.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The database holds another chain: open it with that chain's genesis, or choose another directory.
    #[error("the database belongs to the chain of genesis {stored}, not to {given}{}", first(.differences))]
    OtherGenesis {
        /// Hash of the genesis in the database.
        stored: B256,
        /// Hash of the genesis given.
        given: B256,
        /// In which fields they differ, at most a hundred.
        differences: Vec<Difference>,
    },
    /// The database holds this chain, but under another configuration of forks, fees or engines, which would change what
    /// happened already.
    #[error("{field} is {given}, but the database was made with {stored}")]
    OtherConfig {
        /// Path of the field in the genesis, as `config.londonBlock`.
        field: String,
        /// Value in the database.
        stored: String,
        /// Value given.
        given: String,
    },
    /// The database was written by another version of this software.
    #[error("the database has schema version {found}, this software reads version {expected}")]
    Schema {
        /// Version in the database.
        found: String,
        /// Version written here.
        expected: u32,
    },
    /// The engine cannot start from this genesis.
    #[error("the engine refuses the genesis")]
    Engine(#[from] crate::EngineError),
    /// The genesis is not usable.
    #[error("unusable genesis")]
    Genesis(#[from] crate::GenesisError),
    /// A native contract cannot stand where it says.
    #[error("the native contract at {address} cannot be there: {reason}")]
    Native {
        /// Its address.
        address: Address,
        /// What is in the way.
        reason: &'static str,
    },
    /// Our storage failed.
    #[error("chain storage failed")]
    Storage(#[from] KvError),
}

fn first(differences: &[Difference]) -> String {
    differences.first().map(|difference| format!(": {difference}")).unwrap_or_default()
}

/// Why a block was not imported.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The block is wrong, and equally so on every honest node: drop it, blame the sender.
    #[error("invalid block {block}")]
    Invalid {
        /// Hash of the block.
        block: B256,
        /// What is wrong.
        #[source]
        reason: InvalidBlock,
    },
    /// Its parent is not known here: ask for that first.
    #[error("the parent {0} is not known here")]
    UnknownParent(B256),
    /// The block stands too far in the future: try again later.
    #[error("the block's time {time} is ahead of the clock ({now})")]
    Future {
        /// Timestamp of the block.
        time: u64,
        /// The time it was compared with.
        now: u64,
    },
    /// The block leads away from the canonical chain further down than states are kept.
    #[error("the branch leaves the chain at block {fork}, and states are kept from block {oldest} on")]
    TooDeep {
        /// Number of the last common block.
        fork: u64,
        /// Number of the oldest block with a state.
        oldest: u64,
    },
    /// Our storage failed, which says nothing about the block: stop, do not blame.
    #[error("chain storage failed")]
    Storage(#[from] KvError),
}

/// What is wrong with a block.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBlock {
    /// A field of the header breaks a rule, alone or beside its parent.
    #[error("header: {0}")]
    Header(#[from] InvalidHeader),
    /// The body is not the one that the header speaks of; another may be.
    #[error("body: {rule}")]
    Body {
        /// What is wrong.
        rule: &'static str,
    },
    /// A field of the header is not what executing the body gives.
    #[error("header: {field} is {found}, but execution gives {computed}")]
    Mismatch {
        /// The field.
        field: &'static str,
        /// Its value in the header.
        found: String,
        /// The value computed.
        computed: String,
    },
    /// A transaction cannot stand where it stands.
    #[error("transaction {index}: {reason}")]
    Transaction {
        /// Its index.
        index: usize,
        /// Why not.
        reason: String,
    },
    /// The ommers cannot stand here.
    #[error("ommers: {rule}")]
    Ommers {
        /// What is wrong with one of them.
        rule: &'static str,
    },
    /// What the block would ask of the beacon chain (EIP-7685) cannot be told.
    #[error("system contract {contract}: {reason}")]
    SystemCall {
        /// The contract.
        contract: Address,
        /// Why not.
        reason: &'static str,
    },
    /// The block descends from one that is invalid.
    #[error("its ancestor {0} is invalid")]
    Ancestor(B256),
}

impl InvalidBlock {
    /// Whether only the body is to blame: then the block of this hash may be valid with the right one.
    pub(crate) fn is_of_body(&self) -> bool {
        matches!(self, Self::Body { .. })
    }
}

/// Why no block was built.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The head is another by now.
    #[error("the head is {head}, not {parent}")]
    NotOnHead {
        /// The head.
        head: B256,
        /// The parent asked for.
        parent: B256,
    },
    /// The engine does not let this authority build here.
    #[error(transparent)]
    Engine(#[from] crate::EngineError),
    /// No block can follow the head under the rules of the genesis: a contract is missing that they want.
    #[error("no block can follow the head")]
    Invalid(#[source] InvalidBlock),
    /// Our storage failed.
    #[error("chain storage failed")]
    Storage(#[from] KvError),
}

/// Why a state could not be read.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// No such block is known here.
    #[error("block not found")]
    UnknownBlock,
    /// The block is not canonical, or older than states are kept.
    #[error("the state of block {0} is not kept here")]
    NotKept(u64),
    /// Too much has changed since the block for a proof of its state: ask for a newer one.
    #[error("more than {limit} records changed since block {block}, too many for a proof")]
    TooManyChanges {
        /// Number of the block.
        block: u64,
        /// The limit.
        limit: usize,
    },
    /// One proof has fewer slots: ask several times.
    #[error("{asked} slots are more than the {limit} of one proof")]
    TooManySlots {
        /// Slots asked for.
        asked: usize,
        /// The limit.
        limit: usize,
    },
    /// Our storage failed.
    #[error("chain storage failed")]
    Storage(#[from] KvError),
}

/// Why a call could not be run.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The state asked for is not to be had.
    #[error(transparent)]
    State(#[from] StateError),
    /// The message could not start: not enough balance, too little gas for its data.
    #[error("{0}")]
    Refused(String),
    /// It fails whatever gas it is given (only `estimate_gas` answers so).
    #[error("execution failed")]
    Fails(CallOutcome),
}

/// Why logs were not listed.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// A bound of the range names no canonical block.
    #[error("block not found")]
    UnknownBlock,
    /// The range is upside down.
    #[error("the first block {from} comes after the last {to}")]
    Range {
        /// First block.
        from: u64,
        /// Last block.
        to: u64,
    },
    /// The range is longer than a query without an address or topic may be.
    #[error("{blocks} blocks are more than the {limit} of one query")]
    TooManyBlocks {
        /// Blocks in the range.
        blocks: u64,
        /// The limit.
        limit: u64,
    },
    /// There are more logs than one answer may have: ask again from `next` for the rest, up to before it for these.
    #[error("more than {limit} logs; the blocks before {next} have fewer")]
    TooManyLogs {
        /// The limit.
        limit: usize,
        /// The first block whose logs did not fit.
        next: u64,
    },
    /// Our storage failed.
    #[error("chain storage failed")]
    Storage(#[from] KvError),
}

impl fmt::Display for BlockRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.number, self.hash)
    }
}
