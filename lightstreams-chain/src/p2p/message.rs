//! What peers say to each other about the chain, in RLP.

use alloy_primitives::{B256, Bytes, U256};
use alloy_rlp::{Decodable, Encodable, Error, Header as Rlp, RlpDecodable, RlpEncodable};

use crate::{Block, Header};

/// Version of these messages.
pub(super) const VERSION: u64 = 1;
/// Bytes of one answer.
pub(super) const ANSWER_MAX: usize = 8 << 20;
/// Bytes of one question.
pub(super) const QUESTION_MAX: usize = 1 << 10;
/// Bytes of one block announcement.
pub(super) const BLOCK_MAX: usize = 16 << 20;
/// Bytes of one announcement of transactions.
pub(super) const TRANSACTIONS_MAX: usize = 512 << 10;
/// Headers or blocks of one answer.
pub(super) const ITEMS_MAX: u64 = 1_024;

/// Where a node stands.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct Status {
    pub(super) version: u64,
    pub(super) genesis: B256,
    pub(super) number: u64,
    pub(super) hash: B256,
    pub(super) total_difficulty: U256,
}

/// A question over `sync/1`: `[0, status]`, `[1, first, count]` or `[2, first, count]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    Status(Status),
    Headers(Range),
    Blocks(Range),
}

/// Canonical blocks from `first` on, ascending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct Range {
    pub(super) first: u64,
    pub(super) count: u64,
}

/// The answer to a [`Question`], under the same number. A range ends early where the chain does, or the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Status(Status),
    Headers(Vec<Header>),
    Blocks(Vec<Block>),
}

/// A new block, over `block/1`.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct NewBlock {
    /// Of the chain up to and including it, as the sender reckons.
    pub(super) total_difficulty: U256,
    pub(super) block: Block,
}

/// Transactions newly in a pool, over `tx/1`: EIP-2718 bytes, or RLP of legacy ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct NewTransactions {
    pub(super) raw: Vec<Bytes>,
}

/// That an announcement came; it says nothing of what was thought of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ack;

/// A message of one of the protocols.
pub trait Message: Sized + Send + 'static {
    fn to_bytes(&self) -> Vec<u8>;
    fn from_bytes(bytes: &[u8]) -> Result<Self, Error>;
}

impl Message for Question {
    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Status(status) => tagged(0, status),
            Self::Headers(range) => tagged(1, range),
            Self::Blocks(range) => tagged(2, range),
        }
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let (tag, mut body) = untag(bytes)?;
        let question = match tag {
            0 => Self::Status(Status::decode(&mut body)?),
            1 => Self::Headers(Range::decode(&mut body)?),
            2 => Self::Blocks(Range::decode(&mut body)?),
            _ => return Err(Error::Custom("unknown question")),
        };
        whole(question, body)
    }
}

impl Message for Reply {
    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Status(status) => tagged(0, status),
            Self::Headers(headers) => tagged(1, headers),
            Self::Blocks(blocks) => tagged(2, blocks),
        }
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let (tag, mut body) = untag(bytes)?;
        let reply = match tag {
            0 => Self::Status(Status::decode(&mut body)?),
            1 => Self::Headers(Vec::decode(&mut body)?),
            2 => Self::Blocks(Vec::decode(&mut body)?),
            _ => return Err(Error::Custom("unknown reply")),
        };
        whole(reply, body)
    }
}

impl Message for NewBlock {
    fn to_bytes(&self) -> Vec<u8> {
        alloy_rlp::encode(self)
    }

    fn from_bytes(mut bytes: &[u8]) -> Result<Self, Error> {
        whole(Self::decode(&mut bytes)?, bytes)
    }
}

impl Message for NewTransactions {
    fn to_bytes(&self) -> Vec<u8> {
        alloy_rlp::encode(self)
    }

    fn from_bytes(mut bytes: &[u8]) -> Result<Self, Error> {
        whole(Self::decode(&mut bytes)?, bytes)
    }
}

impl Message for Ack {
    fn to_bytes(&self) -> Vec<u8> {
        Vec::new()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        whole(Self, bytes)
    }
}

fn tagged<T: Encodable>(tag: u8, body: &T) -> Vec<u8> {
    let payload_length = tag.length().saturating_add(body.length());
    let mut out = Vec::with_capacity(payload_length.saturating_add(9));
    Rlp { list: true, payload_length }.encode(&mut out);
    tag.encode(&mut out);
    body.encode(&mut out);
    out
}

fn untag(mut bytes: &[u8]) -> Result<(u8, &[u8]), Error> {
    let mut body = Rlp::decode_bytes(&mut bytes, true)?;
    whole((), bytes)?;
    Ok((u8::decode(&mut body)?, body))
}

fn whole<T>(value: T, rest: &[u8]) -> Result<T, Error> {
    if rest.is_empty() { Ok(value) } else { Err(Error::Custom("bytes after the message")) }
}
