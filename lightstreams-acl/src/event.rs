//! What the contracts said, decoded for an audit.

use alloy_primitives::Address;
use alloy_sol_types::SolEventInterface;

use crate::{AclError, ContentId, Log, abi};

/// An event of one of the three contracts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Said by a registry.
    Registry(abi::ContentRegistry::ContentRegistryEvents),
    /// Said by a market.
    Market(abi::Market::MarketEvents),
    /// Said by the custodians' contract.
    Custodians(abi::Custodians::CustodiansEvents),
}

impl Event {
    /// Reads a log; `None` if no event of ours has that signature. Whoever asked knows which contract said it ([`Log::address`]).
    pub fn decode(log: &Log) -> Result<Option<Self>, AclError> {
        let Some(signature) = log.topics.first() else { return Ok(None) };
        use abi::{ContentRegistry, Custodians, Market};
        let (topics, data) = (&log.topics, &log.data);
        if ContentRegistry::ContentRegistryEvents::SELECTORS.contains(&signature.0) {
            let event = ContentRegistry::ContentRegistryEvents::decode_raw_log(topics, data);
            return event.map(|event| Some(Self::Registry(event))).map_err(AclError::Answer);
        }
        if Market::MarketEvents::SELECTORS.contains(&signature.0) {
            let event = Market::MarketEvents::decode_raw_log(topics, data);
            return event.map(|event| Some(Self::Market(event))).map_err(AclError::Answer);
        }
        if Custodians::CustodiansEvents::SELECTORS.contains(&signature.0) {
            let event = Custodians::CustodiansEvents::decode_raw_log(topics, data);
            return event.map(|event| Some(Self::Custodians(event))).map_err(AclError::Answer);
        }
        Ok(None)
    }
}

/// What all events have: name, content, subject, actor.
type Facts = (&'static str, Option<ContentId>, Option<Address>, Option<Address>);

impl Event {
    /// Its Solidity name.
    pub fn name(&self) -> &'static str {
        self.facts().0
    }

    /// The content that it is about.
    pub fn content(&self) -> Option<ContentId> {
        self.facts().1
    }

    /// The account that it is about: the reader of a grant, the receiver of a transfer, the one that is credited.
    pub fn subject(&self) -> Option<Address> {
        self.facts().2
    }

    /// The account that did it: for signed commands the signer, for rows of a module the module.
    pub fn actor(&self) -> Option<Address> {
        self.facts().3
    }

    fn facts(&self) -> Facts {
        match self {
            Self::Registry(event) => registry_facts(event),
            Self::Market(event) => market_facts(event),
            Self::Custodians(abi::Custodians::CustodiansEvents::RecordSet(e)) => {
                ("RecordSet", None, Some(e.account), Some(e.account))
            }
        }
    }
}

fn registry_facts(event: &abi::ContentRegistry::ContentRegistryEvents) -> Facts {
    use abi::ContentRegistry::ContentRegistryEvents as E;
    let (name, id, subject, actor) = match event {
        E::Registered(e) => ("Registered", e.id, Some(e.owner), e.owner),
        E::Published(e) => ("Published", e.id, None, e.by),
        E::Rewrapped(e) => ("Rewrapped", e.id, None, e.by),
        E::Granted(e) => ("Granted", e.id, Some(e.who), e.by),
        E::Revoked(e) => ("Revoked", e.id, Some(e.who), e.by),
        E::PermissionRequested(e) => ("PermissionRequested", e.id, Some(e.who), e.who),
        E::PermissionDeclined(e) => ("PermissionDeclined", e.id, Some(e.who), e.by),
        E::PublicSet(e) => ("PublicSet", e.id, None, e.by),
        E::Disclosed(e) => ("Disclosed", e.id, None, e.by),
        E::ModuleSet(e) => ("ModuleSet", e.id, Some(e.module), e.by),
        E::GateSet(e) => ("GateSet", e.id, Some(e.gate), e.by),
        E::ParentSet(e) => ("ParentSet", e.id, None, e.by),
        E::Rotated(e) => ("Rotated", e.id, None, e.by),
        E::CustodySet(e) => ("CustodySet", e.id, None, e.by),
        E::FlagsSet(e) => ("FlagsSet", e.id, None, e.by),
        E::RoyaltySet(e) => ("RoyaltySet", e.id, Some(e.receiver), e.by),
        E::Transfer(e) => ("Transfer", e.tokenId, Some(e.to), e.from),
        E::Approval(e) => ("Approval", e.tokenId, Some(e.approved), e.owner),
        E::ApprovalForAll(e) => return ("ApprovalForAll", None, Some(e.operator), Some(e.owner)),
        E::EIP712DomainChanged(_) => return ("EIP712DomainChanged", None, None, None),
    };
    (name, Some(id.into()), subject, Some(actor))
}

fn market_facts(event: &abi::Market::MarketEvents) -> Facts {
    use abi::Market::MarketEvents as E;
    match event {
        E::Listed(e) => ("Listed", Some(e.id.into()), None, Some(e.seller)),
        E::Closed(e) => ("Closed", Some(e.id.into()), None, Some(e.by)),
        E::Purchased(e) => ("Purchased", Some(e.id.into()), Some(e.to), Some(e.buyer)),
        E::Cut(e) => ("Cut", Some(e.id.into()), Some(e.reader), Some(e.by)),
        E::Credited(e) => ("Credited", None, Some(e.account), None),
        E::Withdrawn(e) => ("Withdrawn", None, Some(e.to), Some(e.account)),
    }
}
