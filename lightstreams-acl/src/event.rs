//! What the contracts said, decoded for an audit.

use alloy_sol_types::SolEventInterface;

use crate::{AclError, Log, abi};

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
