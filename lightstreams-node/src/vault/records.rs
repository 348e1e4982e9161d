//! What is answered: by peers to delegations; by custodians to requests, and their own record on chain (FORMATS §4, §5).
//!
//! ```text
//! reader     <------  {receipt, sig, hdr, seeders}  or  [refusal, sig]  ------  custodian
//! custodian  [{chain, registry, account, holder, recipients, endpoints}, sig]  -->  chain
//! ```
//!
//! Custodians sign `"lightstreams/v1/<name>" ‖ 0x00 ‖ CBOR` with Ed25519, where the CBOR is the record's map. Every
//! decoder is bounded, accepts only the canonical form, and refuses fields that it does not know.

use std::fmt;

use alloy_primitives::{Address, B256};
use ipld_core::ipld::Ipld;
use lightstreams_crypto::ed25519;

use super::messages::{DELEGATION_MAX, Domain, RECIPIENT_MAX};
use super::wire::{self, Fields, IntoIpld as _, MapBuilder, WireError};

/// Bytes that an answer to a request for a key may have.
pub const ANSWER_MAX: usize = 256 * 1024;
/// Bytes that a custodian's record may have.
const RECORD_MAX: usize = 4 * 1024;
/// Seeders that a release names at most.
pub const SEEDERS_MAX: usize = 20;
/// Bytes that a released header may have; one X25519 stanza takes 168.
const RELEASED_HEADER_MAX: usize = 4 * 1024;
const ADDRESS_TEXT_MAX: usize = 512;

/// What a peer answers to a [`PeerDelegation`](super::PeerDelegation).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthAnswer {
    /// The account counts as proven on this connection until then (Unix seconds).
    Accepted {
        /// The end.
        until: u64,
    },
    /// It does not.
    Refused {
        /// Why.
        code: RefusalCode,
    },
}

impl AuthAnswer {
    /// The bytes that travel: `{until}` or `{refused}`.
    pub fn encode(&self) -> Vec<u8> {
        let map = MapBuilder::default();
        wire::encode(
            &match self {
                Self::Accepted { until } => map.with("until", *until),
                Self::Refused { code } => map.with("refused", code.as_str()),
            }
            .build(),
        )
    }

    /// Reads the bytes that travelled.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut fields = Fields::decode("auth answer", bytes, DELEGATION_MAX)?;
        let answer = match fields.text_optional("refused", 32)? {
            Some(code) => Self::Refused {
                code: RefusalCode::parse(&code)
                    .ok_or_else(|| fields.wrong("refused", "a known refusal code"))?,
            },
            None => Self::Accepted { until: fields.u64("until")? },
        };
        fields.finish()?;
        Ok(answer)
    }
}

/// A block, named by number and hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockPoint {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
}

impl BlockPoint {
    fn to_ipld(self) -> Ipld {
        (self.number, self.hash).into_ipld()
    }
}

impl From<(u64, B256)> for BlockPoint {
    fn from((number, hash): (u64, B256)) -> Self {
        Self { number, hash }
    }
}

/// How sure a final block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finality {
    /// It cannot reorganise.
    Final,
    /// It can, with enough late messages or dishonest authorities (Clique).
    Probabilistic,
}

impl Finality {
    /// The name, as it travels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Final => "final",
            Self::Probabilistic => "probabilistic",
        }
    }
}

/// A custodian's record that it released a key: who, which version, judged at which blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The EIP-712 digest of the request.
    pub request: B256,
    /// The content's id.
    pub content: B256,
    /// Version, revision and epoch that the chain names for the manifest.
    pub version: u32,
    /// See `version`.
    pub revision: u32,
    /// See `version`.
    pub epoch: u32,
    /// The account that may read.
    pub reader: Address,
    /// The sha2-256 of the released header.
    pub header_hash: B256,
    /// The final block at which, and from which on, permission was asked.
    pub final_block: BlockPoint,
    /// The head up to which permission was asked.
    pub head: BlockPoint,
    /// How sure the final block is.
    pub finality: Finality,
    /// The custodian's clock, in Unix milliseconds.
    pub at_ms: u64,
    /// Within how many seconds the receipt is covered by a published root.
    pub merge_delay_s: u64,
    /// Random, so that the leaf of a receipt does not tell who read.
    pub salt: [u8; 16],
    /// Who released.
    pub holder: B256,
}

impl Receipt {
    const NAME: &'static str = "receipt";

    /// The bytes that are signed and logged.
    pub fn encode(&self) -> Vec<u8> {
        wire::encode(&self.to_ipld())
    }

    /// Reads a receipt.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        Self::from_ipld(wire::decode(Self::NAME, bytes, DELEGATION_MAX)?)
    }

    /// The holder's signature over the receipt.
    pub fn sign(&self, holder: &ed25519::SigningKey) -> [u8; 64] {
        sign(holder, Self::NAME, &self.encode())
    }

    /// Whether `sig` is the signature of the holder that the receipt names.
    pub fn verify(&self, sig: &[u8; 64]) -> bool {
        verify(&self.holder, Self::NAME, &self.encode(), sig)
    }

    fn to_ipld(&self) -> Ipld {
        MapBuilder::default()
            .with("req", &self.request)
            .with("id", &self.content)
            .with("ver", self.version)
            .with("rev", self.revision)
            .with("ep", self.epoch)
            .with("reader", &self.reader)
            .with("hh", &self.header_hash)
            .with("f", self.final_block.to_ipld())
            .with("b", self.head.to_ipld())
            .with("fin", self.finality.as_str())
            .with("at", self.at_ms)
            .with("mmd", self.merge_delay_s)
            .with("salt", self.salt.as_slice())
            .with("holder", &self.holder)
            .build()
    }

    fn from_ipld(value: Ipld) -> Result<Self, WireError> {
        let mut fields = Fields::of(Self::NAME, value)?;
        let receipt = Self {
            request: fields.b256("req")?,
            content: fields.b256("id")?,
            version: fields.u32("ver")?,
            revision: fields.u32("rev")?,
            epoch: fields.u32("ep")?,
            reader: fields.address("reader")?,
            header_hash: fields.b256("hh")?,
            final_block: fields.block("f")?.into(),
            head: fields.block("b")?.into(),
            finality: match fields.text("fin", 32)?.as_str() {
                "final" => Finality::Final,
                "probabilistic" => Finality::Probabilistic,
                _ => return Err(fields.wrong("fin", "\"final\" or \"probabilistic\"")),
            },
            at_ms: fields.u64("at")?,
            merge_delay_s: fields.u64("mmd")?,
            salt: fields.array("salt")?,
            holder: fields.b256("holder")?,
        };
        fields.finish()?;
        Ok(receipt)
    }
}

/// A released key: an age header with one stanza to the reader's one-time key, and the receipt of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// What the custodian wrote into its log before this left it.
    pub receipt: Receipt,
    /// The holder's signature over the receipt.
    pub sig: [u8; 64],
    /// The header; with the nonce of the manifest and the payload after it, an ordinary age file.
    pub header: Vec<u8>,
    /// Readers who offered to serve the ciphertext, as multiaddresses.
    pub seeders: Vec<String>,
}

impl Release {
    const NAME: &'static str = "release";

    /// The bytes that travel.
    pub fn encode(&self) -> Vec<u8> {
        wire::encode(&self.to_ipld())
    }

    /// Reads a release; [`Release::verify`] judges it.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        Self::from_ipld(wire::decode(Self::NAME, bytes, ANSWER_MAX)?)
    }

    /// Whether the receipt is signed by its holder and is about this header.
    pub fn verify(&self) -> bool {
        self.receipt.header_hash == sha256(&self.header) && self.receipt.verify(&self.sig)
    }

    pub(crate) fn to_ipld(&self) -> Ipld {
        MapBuilder::default()
            .with("receipt", self.receipt.to_ipld())
            .with("sig", self.sig.as_slice())
            .with("hdr", self.header.as_slice())
            .with("seeders", self.seeders.iter().map(String::as_str).collect::<Vec<_>>())
            .build()
    }

    pub(crate) fn from_ipld(value: Ipld) -> Result<Self, WireError> {
        let mut fields = Fields::of(Self::NAME, value)?;
        let release = Self {
            receipt: Receipt::from_ipld(fields.take("receipt")?)?,
            sig: fields.array("sig")?,
            header: fields.bytes("hdr", RELEASED_HEADER_MAX)?,
            seeders: fields.texts("seeders", SEEDERS_MAX, ADDRESS_TEXT_MAX)?,
        };
        fields.finish()?;
        Ok(release)
    }
}

/// Declares the refusal codes with their names on the wire.
macro_rules! refusal_codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Why a key is not released.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum RefusalCode {
            $($(#[$doc])* $variant,)*
        }

        impl RefusalCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code as it travels.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The code that travels as `text`.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($name => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

refusal_codes! {
    /// The request is not one.
    Malformed = "malformed",
    /// Its time is over.
    RequestExpired = "request_expired",
    /// It asks somebody who does not hold this key.
    WrongHolder = "wrong_holder",
    /// The reader's signature does not verify.
    BadSignature = "bad_signature",
    /// Its nonce was used by another request.
    Replayed = "replayed",
    /// The reader has as many open answers as a reader may have.
    RateLimited = "rate_limited",
    /// The registry knows no such content, or the registry itself is unknown here.
    UnknownContent = "unknown_content",
    /// The content has no such version.
    WrongVersion = "wrong_version",
    /// The custodian cannot see the chain as it is now.
    StaleView = "stale_view",
    /// The account may not read.
    NotGranted = "not_granted",
    /// The account may read at the head, but that is not final yet.
    NotFinal = "not_final",
    /// The account may read later.
    NotYetValid = "not_yet_valid",
    /// The account might read until its grant expired.
    Expired = "expired",
    /// The account might read until its grant was revoked.
    Revoked = "revoked",
    /// The content wants each access on chain first.
    AuditRequired = "audit_required",
    /// The content wants a recipient that withstands quantum computers.
    PqRequired = "pq_required",
    /// The key behind the header is not the one that the manifest commits to at this place on chain.
    CommitmentMismatch = "commitment_mismatch",
    /// The custodian cannot answer now: a block is missing here, or its storage failed.
    Unavailable = "unavailable",
    /// The operator, or the law, decided against it.
    Withheld = "withheld",
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A typed refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The digest of the request, where it could be read.
    pub request: Option<B256>,
    /// Why.
    pub code: RefusalCode,
    /// The head at which it was judged, where the chain was asked.
    pub head: Option<BlockPoint>,
    /// The custodian's clock, in Unix milliseconds.
    pub at_ms: u64,
    /// After how many seconds asking again may help.
    pub retry_s: Option<u64>,
    /// Who refuses.
    pub holder: B256,
}

impl Refusal {
    const NAME: &'static str = "refusal";

    /// Signs the refusal.
    pub fn sign(self, holder: &ed25519::SigningKey) -> SignedRefusal {
        let sig = sign(holder, Self::NAME, &wire::encode(&self.to_ipld()));
        SignedRefusal { refusal: self, sig }
    }

    fn to_ipld(&self) -> Ipld {
        MapBuilder::default()
            .with("req", self.request.as_ref())
            .with("code", self.code.as_str())
            .with("b", self.head.map(BlockPoint::to_ipld))
            .with("at", self.at_ms)
            .with("retry", self.retry_s)
            .with("holder", &self.holder)
            .build()
    }

    fn from_ipld(value: Ipld) -> Result<Self, WireError> {
        let mut fields = Fields::of(Self::NAME, value)?;
        let refusal = Self {
            request: fields.or_null("req", Fields::b256)?,
            code: RefusalCode::parse(&fields.text("code", 32)?)
                .ok_or_else(|| fields.wrong("code", "a known refusal code"))?,
            head: fields.or_null("b", Fields::block)?.map(BlockPoint::from),
            at_ms: fields.u64("at")?,
            retry_s: fields.or_null("retry", Fields::u64)?,
            holder: fields.b256("holder")?,
        };
        fields.finish()?;
        Ok(refusal)
    }
}

/// A refusal with the holder's signature; it travels as `[map, sig]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRefusal {
    /// What is refused, and why.
    pub refusal: Refusal,
    /// The holder's signature.
    pub sig: [u8; 64],
}

impl SignedRefusal {
    /// Whether the holder that the refusal names signed it.
    pub fn verify(&self) -> bool {
        verify(&self.refusal.holder, Refusal::NAME, &wire::encode(&self.refusal.to_ipld()), &self.sig)
    }

    fn to_ipld(&self) -> Ipld {
        Ipld::List(vec![self.refusal.to_ipld(), self.sig.as_slice().into_ipld()])
    }
}

/// What a custodian answers to a request for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The key.
    Release(Release),
    /// Why not.
    Refusal(SignedRefusal),
}

impl Answer {
    /// The bytes that travel: a map for a release, `[map, sig]` for a refusal.
    pub fn encode(&self) -> Vec<u8> {
        wire::encode(&match self {
            Self::Release(release) => release.to_ipld(),
            Self::Refusal(refusal) => refusal.to_ipld(),
        })
    }

    /// Reads an answer; no signature is judged here.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        match wire::decode("answer", bytes, ANSWER_MAX)? {
            Ipld::List(items) => {
                let (map, sig) = map_and_sig(Refusal::NAME, items)?;
                Ok(Self::Refusal(SignedRefusal { refusal: Refusal::from_ipld(map)?, sig }))
            }
            value => Release::from_ipld(value).map(Self::Release),
        }
    }

    /// Whether the answer is signed by `holder`, whole in itself, and about the request with this digest.
    pub fn verify(&self, holder: &B256, request: &B256) -> bool {
        match self {
            Self::Release(release) => {
                release.receipt.holder == *holder && release.receipt.request == *request && release.verify()
            }
            Self::Refusal(signed) => {
                // A request that could not be read has no digest; its refusal names none.
                signed.refusal.holder == *holder
                    && signed.refusal.request.is_none_or(|named| named == *request)
                    && signed.verify()
            }
        }
    }
}

/// What a custodian says of itself on chain: its keys and where it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustodianRecord {
    /// The registry the record is for.
    pub domain: Domain,
    /// The account that stores it.
    pub account: Address,
    /// The Ed25519 key that signs, and the peer's key.
    pub holder: B256,
    /// Age recipients to put into headers, as in [`KeyRequest::recipient`](super::KeyRequest::recipient).
    pub recipients: Vec<Vec<u8>>,
    /// Multiaddresses, or https URLs.
    pub endpoints: Vec<String>,
}

impl CustodianRecord {
    const NAME: &'static str = "custodian";
    const RECIPIENTS_MAX: usize = 8;
    const ENDPOINTS_MAX: usize = 16;

    /// The bytes that the account stores: `[map, sig]`.
    pub fn sign(&self, holder: &ed25519::SigningKey) -> Vec<u8> {
        let map = self.to_ipld();
        let sig = sign(holder, Self::NAME, &wire::encode(&map));
        wire::encode(&Ipld::List(vec![map, sig.as_slice().into_ipld()]))
    }

    /// Reads the record that `account` stores at `domain`, and believes it only with its holder's signature over
    /// this very account and domain.
    pub fn verified(bytes: &[u8], domain: &Domain, account: Address) -> Result<Self, RecordError> {
        let Ipld::List(items) = wire::decode(Self::NAME, bytes, RECORD_MAX)? else {
            return Err(WireError::Shape { record: Self::NAME, expected: "[map, sig]" }.into());
        };
        let (map, sig) = map_and_sig(Self::NAME, items)?;
        let signed = wire::encode(&map);
        let record = Self::from_ipld(map)?;
        if !verify(&record.holder, Self::NAME, &signed, &sig) {
            return Err(RecordError::Signature);
        }
        if record.account != account || record.domain != *domain {
            return Err(RecordError::Foreign { account: record.account });
        }
        Ok(record)
    }

    fn to_ipld(&self) -> Ipld {
        MapBuilder::default()
            .with("chain", self.domain.chain_id)
            .with("registry", &self.domain.registry)
            .with("account", &self.account)
            .with("holder", &self.holder)
            .with("recipients", self.recipients.iter().map(Vec::as_slice).collect::<Vec<_>>())
            .with("endpoints", self.endpoints.iter().map(String::as_str).collect::<Vec<_>>())
            .build()
    }

    fn from_ipld(value: Ipld) -> Result<Self, WireError> {
        let mut fields = Fields::of(Self::NAME, value)?;
        let record = Self {
            domain: Domain { chain_id: fields.u64("chain")?, registry: fields.address("registry")? },
            account: fields.address("account")?,
            holder: fields.b256("holder")?,
            recipients: fields
                .list("recipients", Self::RECIPIENTS_MAX)?
                .into_iter()
                .map(|item| match item {
                    Ipld::Bytes(bytes) if bytes.len() <= RECIPIENT_MAX => Ok(bytes),
                    _ => Err(fields.wrong("recipients", "a list of age recipients")),
                })
                .collect::<Result<_, _>>()?,
            endpoints: fields.texts("endpoints", Self::ENDPOINTS_MAX, ADDRESS_TEXT_MAX)?,
        };
        fields.finish()?;
        Ok(record)
    }
}

/// Why a custodian's record on chain is not believed.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes are not a record.
    #[error("custodian record cannot be read")]
    Wire(#[from] WireError),
    /// The holder that it names did not sign it.
    #[error("custodian record is not signed by its holder")]
    Signature,
    /// It was made for another account, chain or registry.
    #[error("custodian record was made for another account or registry ({account})")]
    Foreign {
        /// The account that it names.
        account: Address,
    },
}

/// Signs `"lightstreams/v1/<name>" ‖ 0x00 ‖ cbor`.
fn sign(holder: &ed25519::SigningKey, name: &str, cbor: &[u8]) -> [u8; 64] {
    holder.sign(&preimage(name, cbor))
}

fn verify(holder: &B256, name: &str, cbor: &[u8], sig: &[u8; 64]) -> bool {
    ed25519::verify_strict(&holder.0, &preimage(name, cbor), sig).is_ok()
}

fn preimage(name: &str, cbor: &[u8]) -> Vec<u8> {
    [b"lightstreams/v1/", name.as_bytes(), &[0], cbor].concat()
}

fn map_and_sig(record: &'static str, items: Vec<Ipld>) -> Result<(Ipld, [u8; 64]), WireError> {
    let mut items = items.into_iter();
    match (items.next(), items.next(), items.next()) {
        (Some(map), Some(Ipld::Bytes(sig)), None) => <[u8; 64]>::try_from(sig).ok().map(|sig| (map, sig)),
        _ => None,
    }
    .ok_or(WireError::Shape { record, expected: "[map, sig]" })
}

pub(crate) fn sha256(bytes: &[u8]) -> B256 {
    use sha2::{Digest as _, Sha256};
    B256::new(Sha256::digest(bytes).into())
}
