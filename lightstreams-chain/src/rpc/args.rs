//! Reading parameters.

use alloy_eips::eip2930::AccessList;
use alloy_primitives::{Address, B256, Bytes, U64, U256};
use jsonrpsee::types::{ErrorObjectOwned, Params};
use serde::{
    Deserialize,
    de::{DeserializeOwned, Error as _},
};
use serde_json::Value;

use super::error;
use crate::{BlockId, CallRequest, Chain, LogFilter};

/// Addresses, or alternatives of one topic, in a filter.
const ALTERNATIVES_MAX: usize = 1_024;

/// The positional parameters of one call.
pub(super) struct Args(Vec<Value>);

impl Args {
    pub(super) fn new(params: &Params<'_>) -> Result<Self, ErrorObjectOwned> {
        if params.len_bytes() == 0 {
            return Ok(Self(Vec::new()));
        }
        match params.parse() {
            Ok(values) => Ok(Self(values)),
            Err(_) => Err(error::invalid("non-array args")),
        }
    }

    /// Parameter `index`, or `None` if it is absent or null.
    pub(super) fn optional<T: DeserializeOwned>(&self, index: usize) -> Result<Option<T>, ErrorObjectOwned> {
        match self.0.get(index) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => T::deserialize(value)
                .map(Some)
                .map_err(|reason| error::invalid(format!("invalid argument {index}: {reason}"))),
        }
    }

    pub(super) fn required<T: DeserializeOwned>(&self, index: usize) -> Result<T, ErrorObjectOwned> {
        self.optional(index)?
            .ok_or_else(|| error::invalid(format!("missing value for required argument {index}")))
    }

    /// The block that parameter `index` names; the head if it is absent.
    pub(super) fn block(&self, index: usize) -> Result<BlockArg, ErrorObjectOwned> {
        Ok(self.optional(index)?.unwrap_or(BlockArg {
            id: BlockId::Latest,
            pending: false,
            canonical: false,
        }))
    }
}

/// A block as callers name it.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockArg {
    pub(super) id: BlockId,
    /// `pending`: the head with what waits in the pool, as far as the method knows a difference.
    pub(super) pending: bool,
    /// Only if the hash is canonical.
    pub(super) canonical: bool,
}

impl<'de> Deserialize<'de> for BlockArg {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Named {
            block_hash: Option<B256>,
            block_number: Option<U64>,
            #[serde(default)]
            require_canonical: bool,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Text(String),
            Named(Named),
        }
        let plain = |id| Self { id, pending: false, canonical: false };
        match Form::deserialize(deserializer)? {
            Form::Text(text) => Ok(match text.as_str() {
                "latest" | "" => plain(BlockId::Latest),
                "pending" => Self { id: BlockId::Latest, pending: true, canonical: false },
                "earliest" => plain(BlockId::Earliest),
                "safe" | "finalized" => plain(BlockId::Final),
                hash if hash.len() == 66 => plain(BlockId::Hash(hash.parse().map_err(D::Error::custom)?)),
                number => plain(BlockId::Number(
                    quantity(number).ok_or_else(|| D::Error::custom("invalid block number"))?,
                )),
            }),
            Form::Named(Named { block_hash: Some(hash), block_number: None, require_canonical }) => {
                Ok(Self { id: BlockId::Hash(hash), pending: false, canonical: require_canonical })
            }
            Form::Named(Named { block_hash: None, block_number: Some(number), .. }) => {
                Ok(plain(BlockId::Number(number.to())))
            }
            Form::Named(_) => {
                Err(D::Error::custom("cannot specify both or none of blockHash and blockNumber"))
            }
        }
    }
}

fn quantity(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x")?;
    // `from_str_radix` takes a sign, a quantity has none.
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}

/// A transaction as `eth_call`, `eth_estimateGas` and `eth_sendTransaction` take it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct TransactionArgs {
    pub(super) from: Option<Address>,
    pub(super) to: Option<Address>,
    pub(super) gas: Option<U64>,
    pub(super) gas_price: Option<U256>,
    pub(super) max_fee_per_gas: Option<U256>,
    pub(super) max_priority_fee_per_gas: Option<U256>,
    pub(super) value: Option<U256>,
    pub(super) nonce: Option<U64>,
    pub(super) data: Option<Bytes>,
    pub(super) input: Option<Bytes>,
    pub(super) access_list: Option<AccessList>,
    pub(super) chain_id: Option<U64>,
}

impl TransactionArgs {
    /// Refuses fields that contradict each other, or the chain.
    pub(super) fn check(&self, chain_id: u64) -> Result<(), ErrorObjectOwned> {
        if let (Some(data), Some(input)) = (&self.data, &self.input)
            && data != input
        {
            let message = r#"both "data" and "input" are set and not equal. Please use "input" to pass transaction call data"#;
            return Err(error::server(message));
        }
        if self.gas_price.is_some()
            && (self.max_fee_per_gas.is_some() || self.max_priority_fee_per_gas.is_some())
        {
            return Err(error::server("both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified"));
        }
        if let (Some(cap), Some(tip)) = (self.max_fee_per_gas, self.max_priority_fee_per_gas)
            && cap < tip
        {
            return Err(error::server(format!("maxFeePerGas ({cap}) < maxPriorityFeePerGas ({tip})")));
        }
        if let Some(given) = self.chain_id
            && given.to::<u64>() != chain_id
        {
            return Err(error::server(format!(
                "chainId does not match node's (have={given}, want={chain_id})"
            )));
        }
        Ok(())
    }

    pub(super) fn data(&self) -> Bytes {
        self.input.clone().or_else(|| self.data.clone()).unwrap_or_default()
    }

    /// The message to run in a block with this base fee.
    pub(super) fn request(&self, base_fee: Option<u64>) -> Result<CallRequest, ErrorObjectOwned> {
        let narrow = |value: U256| u128::try_from(value).map_err(|_| error::invalid("fee higher than 2^128"));
        let base_fee = u128::from(base_fee.unwrap_or_default());
        let price = match (self.gas_price, self.max_fee_per_gas) {
            (Some(price), _) => Some(narrow(price)?),
            (None, Some(cap)) => {
                let tip = narrow(self.max_priority_fee_per_gas.unwrap_or_default())?;
                Some(narrow(cap)?.min(base_fee.saturating_add(tip)))
            }
            (None, None) => None,
        };
        Ok(CallRequest {
            from: self.from,
            to: self.to,
            value: self.value.unwrap_or_default(),
            data: self.data(),
            gas: self.gas.map(|gas| gas.to()),
            gas_price: price.filter(|price| *price > 0),
            nonce: self.nonce.map(|nonce| nonce.to()),
            access_list: self.access_list.clone().unwrap_or_default(),
        })
    }
}

/// What `eth_getLogs` and `eth_newFilter` take.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FilterArgs {
    pub(super) from_block: Option<BlockArg>,
    pub(super) to_block: Option<BlockArg>,
    pub(super) block_hash: Option<B256>,
    pub(super) address: Option<OneOrMany<Address>>,
    pub(super) topics: Option<Vec<Option<OneOrMany<Option<B256>>>>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    fn into_vec(self) -> Result<Vec<T>, ErrorObjectOwned> {
        match self {
            Self::One(one) => Ok(vec![one]),
            Self::Many(many) if many.len() > ALTERNATIVES_MAX => {
                Err(error::invalid("exceed max addresses or topics"))
            }
            Self::Many(many) => Ok(many),
        }
    }
}

impl FilterArgs {
    /// The filter, or `None` if its range holds no block yet.
    pub(super) fn filter(self, chain: &Chain) -> Result<Option<LogFilter>, ErrorObjectOwned> {
        let head = chain.head().number();
        let (from, to) = match (self.block_hash, self.from_block, self.to_block) {
            (Some(hash), None, None) => (BlockId::Hash(hash), BlockId::Hash(hash)),
            (Some(_), _, _) => {
                return Err(error::invalid(
                    "cannot specify both BlockHash and FromBlock/ToBlock, choose one or the other",
                ));
            }
            (None, from, to) => {
                let id = |arg: Option<BlockArg>| arg.map_or(BlockId::Latest, |arg| arg.id);
                match (id(from), id(to)) {
                    (BlockId::Number(from), BlockId::Number(to)) if from > to => {
                        return Err(error::invalid("invalid block range params"));
                    }
                    (BlockId::Number(from), _) if from > head => return Ok(None),
                    (from, BlockId::Number(to)) if to > head => (from, BlockId::Latest),
                    range => range,
                }
            }
        };
        let addresses = self.address.map_or(Ok(Vec::new()), OneOrMany::into_vec)?;
        let mut topics: [Vec<B256>; 4] = Default::default();
        let given = self.topics.unwrap_or_default();
        if given.len() > topics.len() {
            return Err(error::invalid("exceed max topics"));
        }
        for (place, alternatives) in topics.iter_mut().zip(given) {
            let alternatives = alternatives.map_or(Ok(Vec::new()), OneOrMany::into_vec)?;
            // A null among the alternatives stands for any topic.
            *place = alternatives.into_iter().collect::<Option<Vec<B256>>>().unwrap_or_default();
        }
        Ok(Some(LogFilter { from, to, addresses, topics }))
    }
}
