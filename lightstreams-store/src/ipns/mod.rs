//! IPNS records: a name that is a key says, for a time, what it points to.
//!
//! ```text
//! record = protobuf {value 1, signatureV1 2, validityType 3, validity 4, sequence 5, ttl 6, pubKey 7, signatureV2 8, data 9}
//! data   = dag-cbor {TTL: nanoseconds, Value: bytes, Sequence: n, Validity: RFC 3339 text as bytes, ValidityType: 0}
//! signatureV2 is over "ipns-signature:" ‖ data
//! name   = CIDv1, libp2p-key, of the public key: itself where it has at most 42 bytes, else its sha2-256
//! ```
//!
//! Only `data` and `signatureV2` are believed; fields of version 1 that are present must say the same. (Rules: ipfs/specs
//! `src/ipns/ipns-record.md`; keys: libp2p/specs `peer-ids/peer-ids.md`.)

mod key;
mod name;
mod record;
pub(crate) mod time;

pub use self::{
    name::IpnsName,
    record::{IpnsEntry, IpnsRecord, MAX_IPNS_RECORD_LEN},
};

/// Why a text or bytes are no name, or a record not one of a name.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IpnsError {
    /// The record is longer than [`MAX_IPNS_RECORD_LEN`].
    #[error("the IPNS record has {len} bytes, more than {MAX_IPNS_RECORD_LEN}")]
    TooLong {
        /// Bytes found.
        len: usize,
    },
    /// The bytes are no record of version 2.
    #[error("malformed IPNS record: {reason}")]
    Malformed {
        /// What is wrong.
        reason: &'static str,
    },
    /// What the fields of version 1 say is not what is signed.
    #[error("field {field} of the IPNS record differs from what is signed")]
    Contradiction {
        /// Name of the field.
        field: &'static str,
    },
    /// The public key is missing, is not the one that the name names, or is of a kind that is not known.
    #[error("no public key of the name: {reason}")]
    Key {
        /// What is wrong.
        reason: &'static str,
    },
    /// The name's key did not sign this.
    #[error("the signature of the IPNS record is wrong")]
    Signature,
    /// The record was valid once.
    #[error("the IPNS record expired at {validity}")]
    Expired {
        /// End of its validity.
        validity: String,
    },
    /// The text or bytes are no name.
    #[error("no IPNS name: {reason}")]
    Name {
        /// What is wrong.
        reason: &'static str,
    },
}

fn malformed<T>(reason: &'static str) -> Result<T, IpnsError> {
    Err(IpnsError::Malformed { reason })
}
