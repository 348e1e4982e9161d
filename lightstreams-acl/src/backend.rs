//! The port to a chain: typed calls are values, a [`ContractBackend`] runs them.

use std::fmt;

use alloy_primitives::{Address, B256, Bytes, TxKind, U256};
use alloy_sol_types::{SolCall, SolError};

/// A block of the chain, as a question names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockRef {
    /// The newest block that this view believes.
    Head,
    /// The newest block that cannot be reorganised away, as far as the engine says.
    Final,
    /// The block with this number on the view's chain.
    Number(u64),
    /// The block with this hash.
    Hash(B256),
}

/// One contract call as a value: where to, what, and how to read the answer.
///
/// ```
/// use lightstreams_acl::{Address, ContentId, ContentRegistry, U256};
///
/// let registry = ContentRegistry::at(Address::repeat_byte(0x11));
/// let call = registry.owner_of(ContentId::from(U256::from(7)));
/// assert_eq!(call.to, registry.address());
/// assert_eq!(&call.data[..4], [0x63, 0x52, 0x21, 0x1e]); // ownerOf(uint256)
/// ```
pub struct Call<T> {
    /// The contract.
    pub to: Address,
    /// Native coin sent along.
    pub value: U256,
    /// Selector and arguments.
    pub data: Bytes,
    decode: fn(&[u8]) -> Result<T, alloy_sol_types::Error>,
}

impl<T> Call<T> {
    /// A call of `to` that carries no coin.
    pub fn new<C: SolCall<Return = T>>(to: Address, call: &C) -> Self {
        Self { to, value: U256::ZERO, data: call.abi_encode().into(), decode: C::abi_decode_returns_validate }
    }

    /// The same call with `value` of native coin.
    pub fn with_value(self, value: U256) -> Self {
        Self { value, ..self }
    }

    /// Reads what the contract returned.
    pub fn decode(&self, output: &[u8]) -> Result<T, AclError> {
        (self.decode)(output).map_err(AclError::Answer)
    }

    /// Runs the call at `block` without changing anything, and reads the answer.
    pub fn run<B: ContractBackend + ?Sized>(&self, backend: &B, block: BlockRef) -> Result<T, AclError> {
        self.decode(&backend.call(&self.request(None), block)?)
    }

    /// The call as a request for [`ContractBackend::call`] or [`ContractBackend::send`].
    pub fn request(&self, from: Option<Address>) -> Request {
        Request { from, to: TxKind::Call(self.to), value: self.value, data: self.data.clone() }
    }
}

impl Call<()> {
    /// A call of `to` whose answer says nothing.
    pub fn command<C: SolCall>(to: Address, call: &C) -> Self {
        Self { to, value: U256::ZERO, data: call.abi_encode().into(), decode: |_| Ok(()) }
    }
}

impl<T> Clone for Call<T> {
    fn clone(&self) -> Self {
        Self { to: self.to, value: self.value, data: self.data.clone(), decode: self.decode }
    }
}

impl<T> fmt::Debug for Call<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("to", &self.to)
            .field("value", &self.value)
            .field("data", &self.data)
            .finish_non_exhaustive()
    }
}

/// What a backend is asked to execute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The sender; `None` is the zero address, for questions that do not depend on it.
    pub from: Option<Address>,
    /// The contract, or a deployment.
    pub to: TxKind,
    /// Native coin sent along.
    pub value: U256,
    /// Input, or init code.
    pub data: Bytes,
}

/// Which logs to return: those of `addresses`, in blocks `from..=to`, whose topics match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter {
    /// Emitting contracts; empty: any.
    pub addresses: Vec<Address>,
    /// First block.
    pub from: BlockRef,
    /// Last block.
    pub to: BlockRef,
    /// For each of the four topics the values that match; empty: any.
    pub topics: [Vec<B256>; 4],
}

impl LogFilter {
    /// Everything that `addresses` said about `content` between the two blocks, the registry's ERC-721 `Transfer` aside,
    /// which has the id as its third topic.
    pub fn content(addresses: Vec<Address>, content: crate::ContentId, from: BlockRef, to: BlockRef) -> Self {
        Self { addresses, from, to, topics: [Vec::new(), vec![content.0], Vec::new(), Vec::new()] }
    }

    /// Whether a log of that address with those topics is asked for, wherever it stands.
    pub fn matches(&self, address: Address, topics: &[B256]) -> bool {
        let wanted = |(place, values): (usize, &Vec<B256>)| {
            values.is_empty() || topics.get(place).is_some_and(|topic| values.contains(topic))
        };
        (self.addresses.is_empty() || self.addresses.contains(&address))
            && self.topics.iter().enumerate().all(wanted)
    }
}

/// One log, with its place on chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The contract that said it.
    pub address: Address,
    /// Signature and indexed arguments.
    pub topics: Vec<B256>,
    /// The other arguments.
    pub data: Bytes,
    /// Number of its block.
    pub block_number: u64,
    /// Hash of its block.
    pub block_hash: B256,
    /// Hash of its transaction.
    pub transaction: B256,
    /// Position in its block.
    pub index: u64,
}

/// Runs calls on a chain: in process, or over a network.
///
/// Implementations answer from a state that they verified, or return an error: there is no "probably". A revert is
/// [`AclError::Reverted`], with the data that the contract gave.
pub trait ContractBackend: Send + Sync {
    /// Executes `request` on the state after `block`, without effect, and returns what the contract returned.
    fn call(&self, request: &Request, block: BlockRef) -> Result<Bytes, AclError>;
    /// The logs that match, in the order of the chain.
    fn logs(&self, filter: &LogFilter) -> Result<Vec<Log>, AclError>;
    /// Signs and submits `request` as its `from`, and returns the transaction's hash; a backend without that account's key refuses.
    fn send(&self, request: &Request) -> Result<B256, AclError>;
}

const _: Option<&dyn ContractBackend> = None;

impl<B: ContractBackend + ?Sized> ContractBackend for &B {
    fn call(&self, request: &Request, block: BlockRef) -> Result<Bytes, AclError> {
        (**self).call(request, block)
    }

    fn logs(&self, filter: &LogFilter) -> Result<Vec<Log>, AclError> {
        (**self).logs(filter)
    }

    fn send(&self, request: &Request) -> Result<B256, AclError> {
        (**self).send(request)
    }
}

impl<B: ContractBackend + ?Sized> ContractBackend for std::sync::Arc<B> {
    fn call(&self, request: &Request, block: BlockRef) -> Result<Bytes, AclError> {
        (**self).call(request, block)
    }

    fn logs(&self, filter: &LogFilter) -> Result<Vec<Log>, AclError> {
        (**self).logs(filter)
    }

    fn send(&self, request: &Request) -> Result<B256, AclError> {
        (**self).send(request)
    }
}

/// Why a question has no answer. Callers fail closed.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum AclError {
    /// The contract said no.
    #[error("the contract refused: {0}")]
    Reverted(Revert),
    /// The view does not have that block (or not its state).
    #[error("block {0:?} is not known here")]
    UnknownBlock(BlockRef),
    /// The contract's answer is not of its type: is it the right contract?
    #[error("the answer of the contract is malformed; is the address right?")]
    Answer(#[source] alloy_sol_types::Error),
    /// This backend cannot do it (send without a key, for instance).
    #[error("this backend cannot {0}")]
    Unsupported(&'static str),
    /// The chain could not be asked.
    #[error("the chain could not be asked")]
    Backend(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What a contract gave as the reason of a revert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revert(pub Bytes);

impl Revert {
    /// Whether the contract reverted with the custom error `E`.
    pub fn is<E: SolError>(&self) -> bool {
        E::abi_decode_validate(&self.0).is_ok()
    }
}

impl fmt::Display for Revert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match crate::error_name(&self.0) {
            Some(text) => f.write_str(&text),
            None => write!(f, "{}", self.0),
        }
    }
}
