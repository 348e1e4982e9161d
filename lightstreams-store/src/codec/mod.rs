//! Codecs: blocks as values of the IPLD data model, and the links in them.
//!
//! | codec | bytes that are refused, beside those that are cut off or go on behind the value |
//! |---|---|
//! | raw | none |
//! | dag-pb | unknown or repeated fields, links on both sides of the data, a link without a CID |
//! | dag-cbor | whatever is not the one canonical form: indefinite lengths, longer forms of an integer or length, keys that are no text, unsorted or repeated, tags other than 42, floats other than finite 64-bit ones, simple values other than null and bool |
//! | dag-json | repeated keys, integers beyond 64 bits, infinite floats, maps with the key `/` that are neither link nor bytes |
//!
//! Nesting deeper than [`MAX_NESTING`] is refused by all. (Rules: ipld/ipld `specs/codecs/`.)

mod cbor;
mod event;
mod json;
mod pb;

use std::fmt;

use cid::Cid;
pub use ipld_core::ipld::Ipld;

use crate::{DAG_CBOR, DAG_PB, RAW, fault::Fault};

/// Codecs of plain CBOR and JSON, in which nothing is a link.
pub(crate) const CBOR: u64 = 0x51;
pub(crate) const JSON: u64 = 0x0200;

/// Codec of JSON with links and bytes.
pub const DAG_JSON: u64 = 0x0129;

/// Lists and maps that may stand in one another.
pub const MAX_NESTING: usize = 256;

/// How a block writes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Bytes as they are.
    Raw,
    /// Protobuf nodes with named links, which UnixFS is made of.
    DagPb,
    /// The canonical CBOR of IPLD.
    DagCbor,
    /// The JSON of IPLD.
    DagJson,
}

impl Codec {
    /// The codec of this multicodec, or `None` for one that is not known here.
    pub fn from_code(code: u64) -> Option<Self> {
        match code {
            RAW => Some(Self::Raw),
            DAG_PB => Some(Self::DagPb),
            DAG_CBOR => Some(Self::DagCbor),
            DAG_JSON => Some(Self::DagJson),
            _ => None,
        }
    }

    /// Its multicodec.
    pub fn code(self) -> u64 {
        match self {
            Self::Raw => RAW,
            Self::DagPb => DAG_PB,
            Self::DagCbor => DAG_CBOR,
            Self::DagJson => DAG_JSON,
        }
    }

    /// Reads the value that `bytes` are, all of them.
    ///
    /// A dag-pb node becomes a map `{Data?: bytes, Links: [{Hash: link, Name?: text, Tsize?: integer}]}`.
    pub fn decode(self, bytes: &[u8]) -> Result<Ipld, DecodeError> {
        match self {
            Self::Raw => Ok(Ipld::Bytes(bytes.to_vec())),
            Self::DagPb => pb::decode(bytes),
            Self::DagCbor => event::build(|sink| cbor::scan(bytes, sink)),
            Self::DagJson => event::build(|sink| json::scan(bytes, sink)),
        }
        .map_err(|fault| self.refused(fault))
    }

    /// Writes `value` in the one canonical form.
    pub fn encode(self, value: &Ipld) -> Result<Vec<u8>, EncodeError> {
        match (self, value) {
            (Self::Raw, Ipld::Bytes(bytes)) => Ok(bytes.clone()),
            (Self::Raw, _) => Err("the value is not bytes"),
            (Self::DagPb, _) => pb::encode(value),
            (Self::DagCbor, _) => cbor::encode(value),
            (Self::DagJson, _) => json::encode(value),
        }
        .map_err(|reason| EncodeError { codec: self, reason })
    }

    /// Reads `bytes` as [`decode`](Self::decode) does, keeping only the links, in the order in which they stand.
    pub fn links(self, bytes: &[u8]) -> Result<Vec<Cid>, DecodeError> {
        let mut links = Vec::new();
        let mut keep = |event: event::Event<'_>| {
            if let event::Event::Link(cid) = event {
                links.push(cid);
            }
            Ok(())
        };
        match self {
            Self::Raw => Ok(()),
            Self::DagPb => pb::links(bytes, &mut links),
            Self::DagCbor => cbor::scan(bytes, &mut keep),
            Self::DagJson => json::scan(bytes, &mut keep),
        }
        .map_err(|fault| self.refused(fault))?;
        Ok(links)
    }

    fn refused(self, Fault { at, reason }: Fault) -> DecodeError {
        DecodeError { codec: self, at, reason }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "raw",
            Self::DagPb => "dag-pb",
            Self::DagCbor => "dag-cbor",
            Self::DagJson => "dag-json",
        })
    }
}

/// Why bytes are no block of a codec: they are wrong, equally for everyone who is as strict.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed {codec} at byte {at}: {reason}")]
pub struct DecodeError {
    /// The codec.
    pub codec: Codec,
    /// Where.
    pub at: usize,
    /// What is wrong.
    pub reason: &'static str,
}

/// Why a codec cannot write a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a value of {codec}: {reason}")]
pub struct EncodeError {
    /// The codec.
    pub codec: Codec,
    /// What is wrong.
    pub reason: &'static str,
}

/// The range of integers that 64 bits and a sign write in CBOR, and that both codecs accept.
fn in_range(value: i128) -> bool {
    (-(1i128 << 64)..1i128 << 64).contains(&value)
}
