//! Content permissions, custody and sales as contracts on any Ethereum-compatible chain, with typed calls.
//!
//! ```text
//!  publisher ── register, publish, grant, setCustody ──┐                  ┌── Custodians: records of key keepers
//!  buyer ─── buy ──> Market ── rows of its own source ─┼─> ContentRegistry
//!  payees <─ withdraw ─┘                               │    versions · rows · custody · events
//!                                                      │
//!  custodian, block gate ── may A read C at block B? ──┴── AccessControl ──> Allow { until } | Deny(why)
//!                                                           ContractAcl over a ContractBackend; MemoryAcl, the model
//! ```
//!
//! A content belongs to an owner (ERC-721). Whoever else may do something with it has a row: a level for a term from an epoch on,
//! written by people (source 0) or by a module such as the market. Typed calls are values that an in-process chain runs or a
//! client sends; the question "may this account read?" is a trait, answered by the contract or by a model in memory.
//!
//! ```
//! use lightstreams_acl::{
//!     AccessControl, Address, At, B256, BlockRef, ContentRegistry, Decision, Denial, MemoryAcl, Permission, Term, content_id,
//! };
//!
//! let [registry, market, owner, reader] = [1, 2, 3, 4].map(Address::repeat_byte);
//! let (salt, manifest) = (B256::repeat_byte(7), B256::repeat_byte(8));
//!
//! // The id is known before anything is sent, so one transaction can register a content and set it up.
//! let id = content_id(161, registry, owner, salt);
//! let contract = ContentRegistry::at(registry);
//! let week = Term { expires: 1_800_604_800, ..Term::default() };
//! let setup = contract.multicall([
//!     contract.register(salt, manifest, 0).data,
//!     contract.set_module(id, market, true).data,
//!     contract.set_custody(id, vec![owner]).data,
//!     contract.grant(id, reader, Permission::Read, week).data,
//! ]);
//! assert_eq!(setup.to, registry); // Sign and send `setup.data`, or give `setup.request(..)` to a backend.
//!
//! // The same story in the reference model, and the question that custodians ask.
//! let mut acl = MemoryAcl::new(161, registry, market);
//! acl.set_time(1_800_000_000);
//! acl.register(owner, salt, manifest, 0)?;
//! acl.grant(owner, id, reader, Permission::Read, week)?;
//! let head = At::block(BlockRef::Head);
//! assert_eq!(acl.decide(id, reader, head)?, Decision::Allow { until: Some(1_800_604_800) });
//! acl.revoke(owner, id, reader)?;
//! assert_eq!(acl.decide(id, reader, head)?, Decision::Deny(Denial::Revoked));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Promises.** Deny by default, and an answer that is not understood is an error. The owner cannot be locked out; only the owner
//! gives or takes ADMIN; a grant never lowers what a row gives now. A signed command counts once, in time, on one contract of one
//! chain, and a grant signed before a transfer or a revocation is dead after it. What was paid for is cut only with the full
//! price, credited to who paid; the market never owes more than it holds. The model and the deployed bytecode agree on random
//! histories, in every outcome. Each contract fits Ethereum's size limit.
//!
//! **Not here.** Keys, files, manifests' contents, and the release of keys: the contracts see digests. Signing and recovering
//! signatures: this crate makes the hashes. A chain, or a client of one: that is a [`ContractBackend`].

mod access;
mod backend;
mod contract_acl;
mod contracts;
mod event;
mod id;
mod memory;

pub mod abi;
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
