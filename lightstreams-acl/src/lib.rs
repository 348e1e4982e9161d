//! Content permissions, custody and sales as contracts on any Ethereum-compatible chain, with typed calls.

pub mod abi;
mod access;
mod backend;
mod contract_acl;
mod contracts;
mod event;
mod id;
mod memory;
#[cfg(feature = "testing")]
pub mod testing;
pub mod typed_data;

pub use access::{AccessControl, At, Decision, Denial, Permission};
pub use alloy_primitives::{self, Address, B256, Bytes, TxKind, U256, hex};
pub use alloy_sol_types;
pub use backend::{AclError, BlockRef, Call, ContractBackend, Log, LogFilter, Request, Revert};
pub use contract_acl::ContractAcl;
pub use contracts::{
    ContentRegistry, Custodians, FLAG_PQ_ONLY, FLAG_SOULBOUND, FLAG_STRICT_AUDIT, Market, Term, error_name,
};
pub use event::Event;
pub use id::{ContentId, ContentUri, UriError, content_id, version_ctx};
pub use memory::{Gate, MemoryAcl, Order, Plan, Refused};
