//! The question, answered by the registry contract.

use alloy_primitives::Address;

use crate::{AccessControl, AclError, At, ContentId, ContentRegistry, ContractBackend, Decision, Denial};

/// [`AccessControl`] of one registry over any [`ContractBackend`]: the rules are those of the deployed contract.
#[derive(Clone, Debug)]
pub struct ContractAcl<B> {
    backend: B,
    registry: ContentRegistry,
}

impl<B: ContractBackend> ContractAcl<B> {
    /// Asks `registry` through `backend`.
    pub fn new(backend: B, registry: ContentRegistry) -> Self {
        Self { backend, registry }
    }

    /// The registry that is asked.
    pub fn registry(&self) -> ContentRegistry {
        self.registry
    }

    /// The backend that asks.
    pub fn backend(&self) -> &B {
        &self.backend
    }
}

impl<B: ContractBackend> AccessControl for ContractAcl<B> {
    fn decide(&self, content: ContentId, account: Address, at: At) -> Result<Decision, AclError> {
        let epoch = at.epoch.unwrap_or(u32::MAX);
        let call =
            self.registry.access_of(content, account, epoch, at.starts.unwrap_or(0), at.ends.unwrap_or(0));
        let answer = call.run(&self.backend, at.block)?;
        let when = answer.when;
        Ok(match answer.verdict {
            0 => Decision::Allow { until: (when != 0).then_some(when) },
            1 => Decision::Deny(Denial::UnknownContent),
            3 => Decision::Deny(Denial::Revoked),
            4 => Decision::Deny(Denial::Expired { at: when }),
            5 => Decision::Deny(Denial::OtherEpoch { from: u32::try_from(when).unwrap_or(u32::MAX) }),
            6 => Decision::Deny(Denial::NotYetValid { at: when }),
            _ => Decision::Deny(Denial::NotGranted),
        })
    }
}
