//! Names.

use std::{fmt, str::FromStr};

use cid::{
    Cid,
    multibase::{self, Base},
};
use multihash::Multihash;

use super::{IpnsError, key};
use crate::{HashFunction, hash::IDENTITY, parse_cid};

/// Codec of a public key.
const LIBP2P_KEY: u64 = 0x72;
/// The longest key that a name carries in itself.
const MAX_INLINE_KEY: usize = 42;

/// A name: the public key that signs its records, or the hash of it.
///
/// It is printed as a CIDv1 in base36, `k51…`, and read also in the other forms in use: a CIDv1 in any multibase, and a peer id in
/// base58btc, `12D3…` or `Qm…`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IpnsName(Multihash<64>);

impl IpnsName {
    /// The name of an Ed25519 public key.
    pub fn from_ed25519(key: &[u8; 32]) -> Self {
        Self::from_key(&key::encode_ed25519(key))
    }

    /// The name of a public key in libp2p's protobuf form.
    pub fn from_key(key: &[u8]) -> Self {
        if key.len() <= MAX_INLINE_KEY {
            Self(Multihash::wrap(IDENTITY, key).unwrap_or_default())
        } else {
            Self(HashFunction::SHA2_256.digest(key))
        }
    }

    /// The name as a CID.
    pub fn cid(&self) -> Cid {
        Cid::new_v1(LIBP2P_KEY, self.0)
    }

    /// The name as a peer id: its multihash in bytes.
    pub fn to_peer_id(&self) -> Vec<u8> {
        self.0.to_bytes()
    }

    /// What its records are kept under in the routing of IPFS: `/ipns/` and the multihash in bytes.
    pub fn routing_key(&self) -> Vec<u8> {
        [b"/ipns/", &self.to_peer_id()[..]].concat()
    }

    /// The public key, if the name carries it.
    pub(super) fn key(&self) -> Option<&[u8]> {
        (self.0.code() == IDENTITY).then(|| self.0.digest())
    }

    fn from_hash(hash: Multihash<64>) -> Result<Self, IpnsError> {
        let known = match hash.code() {
            IDENTITY => (1..=MAX_INLINE_KEY).contains(&hash.digest().len()),
            code => code == HashFunction::SHA2_256.code() && hash.digest().len() == 32,
        };
        if known { Ok(Self(hash)) } else { Err(IpnsError::Name { reason: "it is the hash of no key" }) }
    }
}

impl TryFrom<&Cid> for IpnsName {
    type Error = IpnsError;

    fn try_from(cid: &Cid) -> Result<Self, IpnsError> {
        if cid.codec() != LIBP2P_KEY {
            return Err(IpnsError::Name { reason: "the CID is not of a key" });
        }
        Self::from_hash(*cid.hash())
    }
}

impl FromStr for IpnsName {
    type Err = IpnsError;

    fn from_str(text: &str) -> Result<Self, IpnsError> {
        let malformed = IpnsError::Name { reason: "the text cannot be read" };
        if text.len() > 128 {
            return Err(malformed);
        }
        // No multibase begins with 1, and a CIDv0 is no name, so that peer ids cannot be taken for CIDs.
        if text.starts_with('1') || text.starts_with("Qm") {
            let bytes = Base::Base58Btc.decode(text).map_err(|_| malformed.clone())?;
            return Self::from_hash(Multihash::from_bytes(&bytes).map_err(|_| malformed)?);
        }
        Self::try_from(&parse_cid(text).map_err(|_| malformed)?)
    }
}

impl fmt::Display for IpnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&multibase::encode(Base::Base36Lower, self.cid().to_bytes()))
    }
}

impl fmt::Debug for IpnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IpnsName({self})")
    }
}
