//! The reference model: the rules of registry and market rows in plain Rust, without a chain.

use alloy_primitives::Address;

use crate::{AccessControl, AclError, At, ContentId, Decision};

/// [`AccessControl`] in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryAcl {}

impl AccessControl for MemoryAcl {
    fn decide(&self, _content: ContentId, _account: Address, _at: At) -> Result<Decision, AclError> {
        todo!()
    }
}
