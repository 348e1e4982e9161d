//! The contracts of the node's own chain, behind acl's port.

use std::fmt;
use std::sync::Arc;

use alloy_primitives::{B256, Bytes};
use lightstreams_acl::{AclError, BlockRef, ContractBackend, Log, LogFilter, Request, Revert};
use lightstreams_chain::{BlockId, CallError, CallOutcome, CallRequest, Chain, LogsError, StateError};

/// Answers of one query for logs, in pieces, at most.
const LOG_PAGES_MAX: usize = 256;

/// Runs contract calls in process, on states that this node computed itself.
///
/// It signs nothing: verbs sign in their own process and submit what they signed.
#[derive(Clone)]
pub struct ChainBackend(Arc<Chain>);

impl ChainBackend {
    /// The contracts of `chain`.
    pub fn new(chain: Arc<Chain>) -> Self {
        Self(chain)
    }

    /// The chain.
    pub fn chain(&self) -> &Arc<Chain> {
        &self.0
    }
}

impl fmt::Debug for ChainBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChainBackend").finish_non_exhaustive()
    }
}

impl ContractBackend for ChainBackend {
    fn call(&self, request: &Request, block: BlockRef) -> Result<Bytes, AclError> {
        let call = CallRequest {
            from: request.from,
            to: request.to.into_to(),
            value: request.value,
            data: request.data.clone(),
            ..CallRequest::default()
        };
        match self.0.call(block_id(block), &call) {
            Ok(CallOutcome::Success { output, .. }) => Ok(output),
            Ok(CallOutcome::Revert { output, .. }) => Err(AclError::Reverted(Revert(output))),
            Ok(CallOutcome::Halt { reason, .. }) => Err(AclError::Backend(reason.into())),
            Err(CallError::State(StateError::UnknownBlock | StateError::NotKept(_))) => {
                Err(AclError::UnknownBlock(block))
            }
            Err(error) => Err(AclError::Backend(error.into())),
        }
    }

    fn logs(&self, filter: &LogFilter) -> Result<Vec<Log>, AclError> {
        let mut found = Vec::new();
        // A range with more logs than one answer has is asked in pieces that the chain names.
        let mut from = block_id(filter.from);
        for _ in 0..LOG_PAGES_MAX {
            let query = |from, to| {
                self.0.logs(&lightstreams_chain::LogFilter {
                    from,
                    to,
                    addresses: filter.addresses.clone(),
                    topics: filter.topics.clone(),
                })
            };
            let (page, next) = match query(from, block_id(filter.to)) {
                Ok(page) => (page, None),
                Err(LogsError::TooManyLogs { next, .. }) if next > 0 => (
                    query(from, BlockId::Number(next - 1)).map_err(|e| AclError::Backend(e.into()))?,
                    Some(next),
                ),
                Err(LogsError::UnknownBlock) => return Err(AclError::UnknownBlock(filter.to)),
                Err(error) => return Err(AclError::Backend(error.into())),
            };
            found.extend(page.into_iter().map(|entry| Log {
                address: entry.log.address,
                topics: entry.log.topics().to_vec(),
                data: entry.log.data.data.clone(),
                block_number: entry.block.number,
                block_hash: entry.block.hash,
                transaction: entry.transaction_hash,
                index: entry.log_index,
            }));
            match next {
                Some(next) => from = BlockId::Number(next),
                None => return Ok(found),
            }
        }
        Err(AclError::Unsupported("answer a query with so many logs"))
    }

    fn send(&self, _: &Request) -> Result<B256, AclError> {
        Err(AclError::Unsupported("send: the node holds no account's key"))
    }
}

/// The chain's name of a block that acl names.
pub(crate) fn block_id(block: BlockRef) -> BlockId {
    match block {
        BlockRef::Head => BlockId::Latest,
        BlockRef::Final => BlockId::Final,
        BlockRef::Number(number) => BlockId::Number(number),
        BlockRef::Hash(hash) => BlockId::Hash(hash),
    }
}
