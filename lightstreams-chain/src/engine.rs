//! What an engine of consensus must answer about headers and heads.
//!
//! An engine is pure: it reads ancestors through [`Ancestry`], is told the time, and keeps at most a cache. Sealing,
//! timers and messages belong to a consensus machine, which uses the same rules.

use std::{borrow::Cow, cmp::Ordering};

use alloy_consensus::Header;
use alloy_primitives::{Address, B256, U256};

use crate::{Entry, KvError};

/// A header, its hash, and the difficulty of the chain up to and including it (the genesis counts).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadInfo {
    /// The header.
    pub header: Header,
    /// Its hash, as the engine's [`HeaderRules::block_hash`] gives it.
    pub hash: B256,
    /// Sum of all difficulties from the genesis to this header.
    pub total_difficulty: U256,
}

impl HeadInfo {
    /// The number of the block.
    pub fn number(&self) -> u64 {
        self.header.number
    }

    /// Number and hash.
    pub fn block_ref(&self) -> BlockRef {
        BlockRef { number: self.header.number, hash: self.hash }
    }
}

/// Names one block: its number and its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct BlockRef {
    /// Number of the block.
    pub number: u64,
    /// Hash of the block.
    pub hash: B256,
}

/// The headers known here and the records an engine keeps beside them.
///
/// Side branches are included: a header is found by its hash, whether or not it is canonical.
pub trait Ancestry {
    /// The header `hash`, or `None` if it is unknown here.
    fn header(&self, hash: &B256) -> Result<Option<HeadInfo>, KvError>;
    /// The hash of the canonical block `number`, or `None` above the head.
    fn canonical_hash(&self, number: u64) -> Result<Option<B256>, KvError>;
    /// A record that [`HeaderRules::records`] asked to keep.
    fn record(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError>;
}

/// What blocks may hold of that which only proof of work and proof of stake have a use for.
///
/// What is not permitted has one value from its fork on (no list, an empty list, zero), and another makes a block
/// invalid; what is permitted follows the rules of its EIP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permits {
    /// Headers of blocks that did not become canonical, until Paris. Without: the list is empty.
    pub ommers: bool,
    /// EIP-4895, from Shanghai. Without: the list is empty.
    pub withdrawals: bool,
    /// EIP-4844, from Cancun. Without: no transaction carries blobs, and both fields of blob gas are zero.
    pub blobs: bool,
    /// EIP-4788, from Cancun: a root of the beacon chain, told to its contract. Without: zero, told to no one.
    pub beacon_root: bool,
    /// EIP-7685, from Prague: deposits (EIP-6110), withdrawals (EIP-7002) and consolidations (EIP-7251), by contracts that
    /// must stand in the state. Without: there are none, whatever contracts there are.
    pub requests: bool,
}

impl Permits {
    /// All that Ethereum has.
    pub const ALL: Self =
        Self { ommers: true, withdrawals: true, blobs: true, beacon_root: true, requests: true };
}

/// The rules by which headers follow each other, and who sealed them.
///
/// The chain itself checks what holds under every engine: number, parent hash, gas limits, base fee, the fields that a
/// fork brings, the lists of the body, kinship of ommers, and everything that follows from executing. An engine checks the rest:
/// `extra_data` with its seal, `beneficiary`, `nonce`, `mix_hash`, `difficulty`, `timestamp`.
/// Answers depend on arguments alone; an implementation may cache, never decide by what it saw before.
pub trait HeaderRules: Send + Sync {
    /// Checks that `genesis` is one this engine can start from.
    fn verify_genesis(&self, genesis: &Header) -> Result<(), EngineError>;

    /// Checks `header`, the child of `parent`, at `now` (Unix seconds).
    fn verify_header(
        &self,
        header: &Header,
        parent: &HeadInfo,
        ancestry: &dyn Ancestry,
        now: u64,
    ) -> Result<(), EngineError>;

    /// Who sealed `header`: the account that the EVM sees as COINBASE and that earns the fees.
    fn author(&self, header: &Header) -> Result<Address, EngineError>;

    /// What a sealer signs: a digest of the header without its seal.
    fn seal_hash(&self, header: &Header) -> B256;

    /// The name of the block.
    fn block_hash(&self, header: &Header) -> B256 {
        header.hash_slow()
    }

    /// Fills the fields of a header under construction that the engine owns, all but the seal, for the authority
    /// `author` at `now` (Unix seconds). `header` comes with `parent_hash`, `number` and gas limit set; the extra data
    /// keeps room for the seal (zeros), so that the size of the header does not change when it is sealed.
    fn prepare(
        &self,
        header: &mut Header,
        parent: &HeadInfo,
        author: Address,
        ancestry: &dyn Ancestry,
        now: u64,
    ) -> Result<(), EngineError>;

    /// Records to keep with a verified header, written in the same batch as the block.
    fn records(&self, header: &HeadInfo, ancestry: &dyn Ancestry) -> Result<Vec<Entry>, EngineError> {
        let _ = (header, ancestry);
        Ok(Vec::new())
    }

    /// What blocks may hold. A proof-of-authority network has none of it, which is the default.
    fn permits(&self) -> Permits {
        Permits::default()
    }

    /// What is paid for the block of `header` with `ommers` beside its fees, credited after its transactions. Proof of authority
    /// pays nothing, which is the default.
    fn rewards(&self, header: &Header, ommers: &[Header]) -> Vec<(Address, U256)> {
        let _ = (header, ommers);
        Vec::new()
    }
}

/// The rules by which one head is preferred to another, and from when on a block is final.
pub trait ForkChoice: Send + Sync {
    /// `Greater` if `a` is to be preferred to `b`. The order is total over the blocks of one network: only a block
    /// itself is `Equal` to it.
    fn compare(&self, a: &HeadInfo, b: &HeadInfo, ancestry: &dyn Ancestry) -> Result<Ordering, EngineError>;

    /// The newest final block when `head` is the head, given the block that was final before. The chain keeps the
    /// higher of the two.
    fn final_number(
        &self,
        head: &HeadInfo,
        last_final: u64,
        ancestry: &dyn Ancestry,
    ) -> Result<u64, EngineError>;
}

/// An engine: rules for headers and heads together.
pub trait Engine: HeaderRules + ForkChoice {}
impl<T: HeaderRules + ForkChoice> Engine for T {}

// A node picks the engine that its genesis names.
const _: Option<&dyn Engine> = None;

/// Why an engine gave no answer.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The header is wrong, and equally so on every honest node.
    #[error(transparent)]
    Invalid(#[from] InvalidHeader),
    /// The block stands too far in the future; it may be right later.
    #[error("block {number} has time {time}, which is ahead of the clock ({now})")]
    Future {
        /// Number of the block.
        number: u64,
        /// Its timestamp.
        time: u64,
        /// The time it was compared with.
        now: u64,
    },
    /// An ancestor that the answer needs is not known here.
    #[error("ancestor {0} is not known here")]
    UnknownAncestor(B256),
    /// The account asked to seal is not one that may, now.
    #[error("{author} may not seal block {number}: {reason}")]
    MayNotSeal {
        /// The account.
        author: Address,
        /// The number of the block it would have sealed.
        number: u64,
        /// Why not.
        reason: &'static str,
    },
    /// Our storage failed, which says nothing about the header.
    #[error("reading chain records failed")]
    Storage(#[from] KvError),
}

impl EngineError {
    /// An [`InvalidHeader`] that names `field` and the rule it breaks.
    pub fn invalid(field: &'static str, rule: impl Into<Cow<'static, str>>) -> Self {
        Self::Invalid(InvalidHeader { field, rule: rule.into() })
    }
}

/// A header that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {rule}")]
pub struct InvalidHeader {
    /// The field of the header, in the words of the Ethereum JSON-RPC (`extraData`, `gasLimit`).
    pub field: &'static str,
    /// What is wrong with it.
    pub rule: Cow<'static, str>,
}
