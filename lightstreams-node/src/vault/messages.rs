//! What accounts say: requests for keys, and delegations to peers (FORMATS §3, §5). What is answered: [`records`](super::records).
//!
//! ```text
//! reader     {chain, registry, msg: KeyRequest, sig}  ------>  custodian
//! peer       {chain, registry, msg: PeerDelegation, sig}  -->  peer        once per connection
//! ```
//!
//! Accounts sign EIP-712 typed data. Every decoder is bounded, accepts only the canonical form, and refuses fields that
//! it does not know.

use alloy_primitives::{Address, B256, U256};
use ipld_core::ipld::Ipld;
use lightstreams_acl::typed_data;

use super::wire::{self, Fields, MapBuilder, WireError};

/// Bytes that a request for a key may have.
pub const REQUEST_MAX: usize = 16 * 1024;
/// Bytes that a delegation, and the answer to it, may have.
pub const DELEGATION_MAX: usize = 4 * 1024;
/// Bytes that a signature of an account may have: 65 by ECDSA, more where a contract judges it.
pub(crate) const SIGNATURE_MAX: usize = 8 * 1024;
pub(super) const RECIPIENT_MAX: usize = 1 + 1216;

/// The registry that a signature is for: the EIP-712 domain, and the scope of every message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain {
    /// The chain's id.
    pub chain_id: u64,
    /// The registry's address.
    pub registry: Address,
}

impl Domain {
    /// The EIP-712 domain.
    pub(crate) fn typed(&self) -> typed_data::Domain {
        typed_data::domain(self.chain_id, self.registry)
    }
}

/// Typed data that an account signs and that travels as `{chain, registry, msg, sig}`.
pub trait Message: Sized {
    /// The name in errors.
    const NAME: &'static str;
    /// Bytes that the whole signed message may have.
    const MAX: usize;

    /// The EIP-712 digest that the account signs.
    fn signing_hash(&self, domain: &Domain) -> B256;
    /// The account that signs.
    fn signer(&self) -> Address;
    #[doc(hidden)]
    fn to_ipld(&self) -> Ipld;
    #[doc(hidden)]
    fn from_ipld(value: Ipld) -> Result<Self, WireError>;
}

/// A message with its domain and its account's signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed<T> {
    /// The registry it is for.
    pub domain: Domain,
    /// What is said.
    pub msg: T,
    /// The signature over [`Signed::digest`]: 65 bytes by ECDSA, or whatever the account's contract wants.
    pub sig: Vec<u8>,
}

impl<T: Message> Signed<T> {
    /// The EIP-712 digest that `sig` is over.
    pub fn digest(&self) -> B256 {
        self.msg.signing_hash(&self.domain)
    }

    /// The bytes that travel.
    pub fn encode(&self) -> Vec<u8> {
        wire::encode(&self.map().build())
    }

    /// Reads the bytes that travelled; the signature is not judged here.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut fields = Fields::decode(T::NAME, bytes, T::MAX)?;
        let message = Self::take(&mut fields)?;
        fields.finish()?;
        Ok(message)
    }

    fn map(&self) -> MapBuilder {
        MapBuilder::default()
            .with("chain", self.domain.chain_id)
            .with("registry", &self.domain.registry)
            .with("msg", self.msg.to_ipld())
            .with("sig", self.sig.as_slice())
    }

    fn take(fields: &mut Fields) -> Result<Self, WireError> {
        Ok(Self {
            domain: Domain { chain_id: fields.u64("chain")?, registry: fields.address("registry")? },
            msg: T::from_ipld(fields.take("msg")?)?,
            sig: fields.bytes("sig", SIGNATURE_MAX)?,
        })
    }
}

/// A reader's request for the key of one version of a content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRequest {
    /// The content's id.
    pub content: B256,
    /// The sha2-256 digest of the manifest of the version wanted.
    pub manifest: B256,
    /// The account that wants to read.
    pub reader: Address,
    /// The age recipient to answer to: 0x01 and 32 bytes of X25519, or 0x02 and 1,216 hybrid bytes.
    pub recipient: Vec<u8>,
    /// Who may answer.
    pub holder: B256,
    /// Unix seconds after which nobody answers any more.
    pub not_after: u64,
    /// Chosen at random by the reader, once.
    pub nonce: B256,
}

impl Message for KeyRequest {
    const NAME: &'static str = "key request";
    const MAX: usize = REQUEST_MAX;

    fn signing_hash(&self, domain: &Domain) -> B256 {
        let message = typed_data::KeyRequest {
            contentId: U256::from_be_bytes(self.content.0),
            manifest: self.manifest,
            reader: self.reader,
            recipient: self.recipient.clone().into(),
            holder: self.holder,
            notAfter: self.not_after,
            nonce: self.nonce,
        };
        typed_data::signing_hash(&message, &domain.typed())
    }

    fn signer(&self) -> Address {
        self.reader
    }

    fn to_ipld(&self) -> Ipld {
        MapBuilder::default()
            .with("contentId", &self.content)
            .with("manifest", &self.manifest)
            .with("reader", &self.reader)
            .with("recipient", self.recipient.as_slice())
            .with("holder", &self.holder)
            .with("notAfter", self.not_after)
            .with("nonce", &self.nonce)
            .build()
    }

    fn from_ipld(value: Ipld) -> Result<Self, WireError> {
        let mut fields = Fields::of(Self::NAME, value)?;
        let message = Self {
            content: fields.b256("contentId")?,
            manifest: fields.b256("manifest")?,
            reader: fields.address("reader")?,
            recipient: fields.bytes("recipient", RECIPIENT_MAX)?,
            holder: fields.b256("holder")?,
            not_after: fields.u64("notAfter")?,
            nonce: fields.b256("nonce")?,
        };
        let wanted = match message.recipient.first() {
            Some(1) => 33,
            Some(2) => RECIPIENT_MAX,
            _ => return Err(fields.wrong("recipient", "an age recipient of a known kind")),
        };
        if message.recipient.len() != wanted {
            return Err(fields.wrong("recipient", "as long as recipients of its kind are"));
        }
        fields.finish()?;
        Ok(message)
    }
}

/// A request for a key as it travels: signed, and for the later pages of a collection with `after` beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseRequest {
    /// The signed request.
    pub signed: Signed<KeyRequest>,
    /// The item after which the page of a collection begins.
    pub after: Option<B256>,
}

impl ReleaseRequest {
    /// The bytes that travel.
    pub fn encode(&self) -> Vec<u8> {
        wire::encode(&self.signed.map().with_some("after", self.after.as_ref()).build())
    }

    /// Reads the bytes that travelled; the signature is not judged here.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut fields = Fields::decode(KeyRequest::NAME, bytes, REQUEST_MAX)?;
        let signed = Signed::take(&mut fields)?;
        let after = match fields.take_optional("after") {
            None => None,
            Some(Ipld::Bytes(bytes)) => Some(
                <[u8; 32]>::try_from(bytes)
                    .map(B256::new)
                    .map_err(|_| fields.wrong("after", "an id of 32 bytes"))?,
            ),
            Some(_) => return Err(fields.wrong("after", "an id of 32 bytes")),
        };
        fields.finish()?;
        Ok(Self { signed, after })
    }
}

impl From<Signed<KeyRequest>> for ReleaseRequest {
    fn from(signed: Signed<KeyRequest>) -> Self {
        Self { signed, after: None }
    }
}

/// An account's word that a peer speaks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerDelegation {
    /// The peer's id, as the binary multihash.
    pub peer_id: Vec<u8>,
    /// The account it speaks for.
    pub account: Address,
    /// Unix seconds from which on it holds.
    pub not_before: u64,
    /// Unix seconds until which it holds, at most 24 h after `not_before`.
    pub not_after: u64,
    /// Chosen at random.
    pub nonce: B256,
}

impl Message for PeerDelegation {
    const NAME: &'static str = "peer delegation";
    const MAX: usize = DELEGATION_MAX;

    fn signing_hash(&self, domain: &Domain) -> B256 {
        let message = typed_data::PeerDelegation {
            peerId: self.peer_id.clone().into(),
            account: self.account,
            notBefore: self.not_before,
            notAfter: self.not_after,
            nonce: self.nonce,
        };
        typed_data::signing_hash(&message, &domain.typed())
    }

    fn signer(&self) -> Address {
        self.account
    }

    fn to_ipld(&self) -> Ipld {
        MapBuilder::default()
            .with("peerId", self.peer_id.as_slice())
            .with("account", &self.account)
            .with("notBefore", self.not_before)
            .with("notAfter", self.not_after)
            .with("nonce", &self.nonce)
            .build()
    }

    fn from_ipld(value: Ipld) -> Result<Self, WireError> {
        let mut fields = Fields::of(Self::NAME, value)?;
        let message = Self {
            peer_id: fields.bytes("peerId", 64)?,
            account: fields.address("account")?,
            not_before: fields.u64("notBefore")?,
            not_after: fields.u64("notAfter")?,
            nonce: fields.b256("nonce")?,
        };
        fields.finish()?;
        Ok(message)
    }
}

/// Longest time for which a delegation may speak.
pub const DELEGATION_SECONDS_MAX: u64 = 24 * 60 * 60;
/// How far two honest clocks may stand apart.
pub const CLOCK_SKEW_SECONDS: u64 = 60;

impl PeerDelegation {
    /// Whether the delegation's times are in order and hold at `now` (Unix seconds), give or take the skew of clocks.
    pub fn holds_at(&self, now: u64) -> bool {
        let span = self.not_after.checked_sub(self.not_before);
        span.is_some_and(|span| span <= DELEGATION_SECONDS_MAX)
            && self.not_before <= now.saturating_add(CLOCK_SKEW_SECONDS)
            && now < self.not_after
    }
}
