//! The manifest M of one version of a content, its public card, and its encrypted metadata (FORMATS §2).
//!
//! ```text
//! chain: (content id, sha2-256 of M)
//!                        |
//!                        M --- h ---> H   age header of owner, recovery, custodians ‖ nonce
//!                        +---- p ---> P   payload root, encrypted leaves
//!                        +---- pub -> card
//!                        +---- prev > M of the version or revision before
//! ```

use std::fmt;

use alloy_primitives::{Address, B256};
use cid::Cid;
use ipld_core::ipld::Ipld;
use lightstreams_acl::{ContentId, typed_data};
use lightstreams_crypto::{self as crypto, FileKey, PayloadNonce};
use lightstreams_store::{Block, DAG_CBOR, DAG_PB, RAW};
use rand::CryptoRng;

use super::messages::{Domain, SIGNATURE_MAX};
use super::records::sha256;
use super::signature;
use super::wire::{self, Fields, IntoIpld as _, MapBuilder, WireError};

const SHA2_256: u64 = 0x12;

/// A content at its place: which chain, which registry, which id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Chain and registry.
    pub domain: Domain,
    /// The content's id there.
    pub content: ContentId,
}

/// What `versionOf` says of a manifest: which version, epoch and revision it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VersionInfo {
    /// Counts from 1.
    pub version: u32,
    /// Counts from 0; readers from a later epoch on may not read it.
    pub epoch: u32,
    /// Counts from 0 within the version.
    pub revision: u32,
}

impl Place {
    /// The bytes that the key commitment of a version binds: chain, registry, content, epoch, version.
    pub fn ctx(&self, epoch: u32, version: u32) -> [u8; 92] {
        lightstreams_acl::version_ctx(
            self.domain.chain_id,
            self.domain.registry,
            self.content,
            epoch,
            version,
        )
    }
}

/// The signed description of one revision of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Bytes of the plaintext (`s`).
    pub size: u64,
    /// The payload nonce (`n`).
    pub nonce: [u8; 16],
    /// The key commitment (`kc`).
    pub commitment: [u8; 32],
    /// The payload root (`p`).
    pub payload: Cid,
    /// The header block (`h`).
    pub header: Cid,
    /// Chunks in a leaf of the payload: 1, 4 or 15 (`k`).
    pub leaf_chunks: u8,
    /// Epoch, version and revision (`ep`, `ver`, `rev`).
    pub version: VersionInfo,
    /// The manifest before, if any (`prev`).
    pub previous: Option<Cid>,
    /// Where the content is registered (`acl`).
    pub place: Place,
    /// Name and type of the file, encrypted (`meta`).
    pub metadata: Vec<u8>,
    /// The public card, if any (`pub`).
    pub card: Option<Cid>,
    /// The author's account (`by`).
    pub author: Address,
    /// The author's signature over [`Manifest::signing_hash`] (`sig`).
    pub sig: Vec<u8>,
}

impl Manifest {
    /// Bytes that a manifest may have.
    pub const LEN_MAX: usize = 64 * 1024;
    const NAME: &'static str = "manifest";

    /// The manifest's block: its CID is what readers ask for, its digest what the chain stores.
    pub fn to_block(&self) -> Block {
        Block::new(DAG_CBOR, self.encode())
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        wire::encode(&self.map().with("sig", self.sig.as_slice()).build())
    }

    /// Reads a manifest, and refuses every other form than the one of this version.
    ///
    /// Signature and place are judged by [`Manifest::verify_author`] and [`Manifest::verify_place`].
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut fields = Fields::decode(Self::NAME, bytes, Self::LEN_MAX)?;
        if fields.u64("v")? != 1 {
            return Err(fields.wrong("v", "1, the version known here"));
        }
        if fields.take("cus")? != Ipld::Null {
            return Err(fields.wrong("cus", "null, which is all that this version knows"));
        }
        let manifest = Self {
            size: fields.u64("s")?,
            nonce: fields.array("n")?,
            commitment: fields.array("kc")?,
            payload: fields.link("p")?,
            header: fields.link("h")?,
            leaf_chunks: match fields.u32("k")? {
                1 => 1,
                4 => 4,
                15 => 15,
                _ => return Err(fields.wrong("k", "1, 4 or 15")),
            },
            version: VersionInfo {
                version: fields.u32("ver")?,
                epoch: fields.u32("ep")?,
                revision: fields.u32("rev")?,
            },
            previous: fields.link_or_null("prev")?,
            place: take_place(&mut fields)?,
            metadata: fields.bytes("meta", Self::LEN_MAX)?,
            card: fields.link_or_null("pub")?,
            author: fields.address("by")?,
            sig: fields.bytes("sig", SIGNATURE_MAX)?,
        };
        if !is_sha256_v1(&manifest.payload, &[RAW, DAG_PB]) {
            return Err(fields.wrong("p", "a CIDv1 of a UnixFS file by sha2-256"));
        }
        if !is_sha256_v1(&manifest.header, &[RAW]) {
            return Err(fields.wrong("h", "a CIDv1 of a raw block by sha2-256"));
        }
        if manifest.version.version == 0 {
            return Err(fields.wrong("ver", "at least 1"));
        }
        if manifest.previous.is_some_and(|previous| !is_sha256_v1(&previous, &[DAG_CBOR])) {
            return Err(fields.wrong("prev", "a CIDv1 of a manifest by sha2-256"));
        }
        fields.finish()?;
        Ok(manifest)
    }

    /// The digest that the chain stores: sha2-256 of the whole manifest.
    pub fn digest(&self) -> B256 {
        sha256(&self.encode())
    }

    /// The CID of the manifest with this digest.
    pub fn cid_of(digest: &B256) -> Cid {
        // 32 bytes fit into a multihash of 64, the only way `wrap` can fail.
        Cid::new_v1(DAG_CBOR, multihash_of(digest))
    }

    /// What the author signs: `Manifest(bytes32 digest)` over the manifest without its signature.
    pub fn signing_hash(&self) -> B256 {
        let digest = sha256(&wire::encode(&self.map().build()));
        typed_data::signing_hash(&typed_data::Manifest { digest }, &self.place.domain.typed())
    }

    /// The place's context of this version, which the commitment binds.
    pub fn ctx(&self) -> [u8; 92] {
        self.place.ctx(self.version.epoch, self.version.version)
    }

    /// Whether `file_key` is the key that the manifest commits to.
    pub fn commits_to(&self, file_key: &FileKey) -> bool {
        crypto::verify_commitment(file_key, &self.payload_nonce(), &self.ctx(), &self.commitment).is_ok()
    }

    /// The payload nonce, as the crypto crate names it.
    pub fn payload_nonce(&self) -> PayloadNonce {
        PayloadNonce::from_bytes(self.nonce)
    }

    /// Refuses a manifest that speaks of another place or version than the chain does.
    pub fn verify_place(&self, place: &Place, version: &VersionInfo) -> Result<(), ManifestError> {
        if self.place != *place {
            return Err(ManifestError::Elsewhere);
        }
        if self.version != *version {
            return Err(ManifestError::Version { claimed: self.version, recorded: *version });
        }
        Ok(())
    }

    /// Refuses a manifest whose author is not the account that the chain's event names, or did not sign it.
    ///
    /// A signature of 65 bytes is recovered. One that does not lead to the author stands only where `has_code` says
    /// that the account is a contract: it may change its keys, and then the record on chain speaks for it.
    pub fn verify_author(&self, recorded: Address, has_code: bool) -> Result<(), ManifestError> {
        if self.author != recorded {
            return Err(ManifestError::Author { claimed: self.author, recorded });
        }
        if signature::recover(&self.signing_hash(), &self.sig) == Some(self.author) || has_code {
            return Ok(());
        }
        Err(ManifestError::Signature { author: self.author })
    }

    fn map(&self) -> MapBuilder {
        let Place { domain, content } = &self.place;
        MapBuilder::default()
            .with("v", 1u64)
            .with("s", self.size)
            .with("n", self.nonce.as_slice())
            .with("kc", self.commitment.as_slice())
            .with("p", &self.payload)
            .with("h", &self.header)
            .with("k", u32::from(self.leaf_chunks))
            .with("ep", self.version.epoch)
            .with("ver", self.version.version)
            .with("rev", self.version.revision)
            .with("prev", self.previous.as_ref())
            .with(
                "acl",
                vec![domain.chain_id.into_ipld(), (&domain.registry).into_ipld(), (&content.0).into_ipld()],
            )
            .with("cus", Ipld::Null)
            .with("meta", self.metadata.as_slice())
            .with("pub", self.card.as_ref())
            .with("by", &self.author)
    }
}

fn take_place(fields: &mut Fields) -> Result<Place, WireError> {
    let mut items = fields.list("acl", 3)?.into_iter();
    match (items.next(), items.next(), items.next()) {
        (Some(Ipld::Integer(chain)), Some(Ipld::Bytes(registry)), Some(Ipld::Bytes(content))) => {
            u64::try_from(chain)
                .ok()
                .zip(<[u8; 20]>::try_from(registry).ok())
                .zip(<[u8; 32]>::try_from(content).ok())
                .map(|((chain_id, registry), content)| Place {
                    domain: Domain { chain_id, registry: Address::new(registry) },
                    content: ContentId(B256::new(content)),
                })
        }
        _ => None,
    }
    .ok_or_else(|| fields.wrong("acl", "[chain id, registry, content id]"))
}

fn is_sha256_v1(cid: &Cid, codecs: &[u64]) -> bool {
    cid.version() == cid::Version::V1
        && codecs.contains(&cid.codec())
        && cid.hash().code() == SHA2_256
        && cid.hash().size() == 32
}

fn multihash_of(digest: &B256) -> cid::multihash::Multihash<64> {
    cid::multihash::Multihash::wrap(SHA2_256, digest.as_slice()).unwrap_or_default()
}

/// Why a manifest is not believed. Each says that somebody lies: drop it.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It was made for another content, registry or chain.
    #[error("the manifest belongs to another content")]
    Elsewhere,
    /// It claims to be another version than the chain has recorded it as.
    #[error("the manifest says {claimed}, the chain says {recorded}")]
    Version {
        /// What it says.
        claimed: VersionInfo,
        /// What `versionOf` says.
        recorded: VersionInfo,
    },
    /// Another account than its author put it on chain.
    #[error("the manifest names {claimed} as its author, the chain {recorded}")]
    Author {
        /// Whom it names.
        claimed: Address,
        /// Whom the chain's event names.
        recorded: Address,
    },
    /// The author did not sign it.
    #[error("the manifest is not signed by its author {author}")]
    Signature {
        /// The author.
        author: Address,
    },
}

impl fmt::Display for VersionInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version {} revision {} of epoch {}", self.version, self.revision, self.epoch)
    }
}

/// What a shop window shows of a content. Public: made for everyone to see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Card {
    /// The title.
    pub title: String,
    /// A longer text.
    pub description: Option<String>,
    /// A public picture.
    pub cover: Option<Cid>,
    /// A public sample.
    pub preview: Option<Cid>,
    /// The licence, by name.
    pub licence: Option<String>,
    /// The language, as BCP 47 names it.
    pub language: Option<String>,
    /// Words to find it by.
    pub tags: Option<Vec<String>>,
}

impl Card {
    /// Bytes that a card may have.
    pub const LEN_MAX: usize = 64 * 1024;
    const NAME: &'static str = "public card";
    const TAGS_MAX: usize = 64;

    /// The card's block.
    pub fn to_block(&self) -> Block {
        let text = |text: &Option<String>| text.as_deref().map(|text| Ipld::String(text.to_owned()));
        let map = MapBuilder::default()
            .with("title", self.title.as_str())
            .with_some("description", text(&self.description))
            .with_some("cover", self.cover.as_ref())
            .with_some("preview", self.preview.as_ref())
            .with_some("licence", text(&self.licence))
            .with_some("language", text(&self.language))
            .with_some(
                "tags",
                self.tags.as_ref().map(|tags| tags.iter().map(String::as_str).collect::<Vec<_>>()),
            );
        Block::new(DAG_CBOR, wire::encode(&map.build()))
    }

    /// Reads a card.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut fields = Fields::decode(Self::NAME, bytes, Self::LEN_MAX)?;
        let card = Self {
            title: fields.text("title", Self::LEN_MAX)?,
            description: fields.text_optional("description", Self::LEN_MAX)?,
            cover: fields.optional("cover", Fields::link)?,
            preview: fields.optional("preview", Fields::link)?,
            licence: fields.text_optional("licence", Self::LEN_MAX)?,
            language: fields.text_optional("language", 64)?,
            tags: fields.optional("tags", |f, field| f.texts(field, Self::TAGS_MAX, 256))?,
        };
        fields.finish()?;
        Ok(card)
    }
}

/// What only a reader sees beside the file: its name and type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// The file's name.
    pub name: String,
    /// Its media type.
    pub media_type: String,
    /// What an application adds.
    pub ext: Option<Ipld>,
}

impl Metadata {
    const NAME: &'static str = "metadata";
    const TEXT_MAX: usize = 4 * 1024;
    /// Bytes of plaintext that a manifest has room for.
    const PLAIN_MAX: usize = 32 * 1024;

    /// The plaintext: a map of name, type, and what an application adds.
    pub fn encode(&self) -> Vec<u8> {
        wire::encode(
            &MapBuilder::default()
                .with("name", self.name.as_str())
                .with("type", self.media_type.as_str())
                .with_some("ext", self.ext.clone())
                .build(),
        )
    }

    /// Reads a plaintext.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut fields = Fields::decode(Self::NAME, bytes, Self::PLAIN_MAX)?;
        let metadata = Self {
            name: fields.text("name", Self::TEXT_MAX)?,
            media_type: fields.text("type", Self::TEXT_MAX)?,
            ext: fields.take_optional("ext"),
        };
        fields.finish()?;
        Ok(metadata)
    }

    /// The associated data of a version: its content id and its number.
    pub fn associated_data(content: &ContentId, version: u32) -> [u8; 36] {
        let mut data = [0; 36];
        let (id, ver) = data.split_at_mut(32);
        id.copy_from_slice(content.as_bytes());
        ver.copy_from_slice(&version.to_be_bytes());
        data
    }

    /// Encrypts for the version `version` of `content`.
    pub fn seal(
        &self,
        file_key: &FileKey,
        nonce: &PayloadNonce,
        content: &ContentId,
        version: u32,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<Vec<u8>, MetadataError> {
        let plain = self.encode();
        if plain.len() > Self::PLAIN_MAX {
            return Err(MetadataError::TooLong { len: plain.len() });
        }
        let data = Self::associated_data(content, version);
        crypto::seal_metadata(file_key, nonce, &data, &plain, rng).map_err(|_| MetadataError::Encrypt)
    }

    /// Decrypts what `manifest` carries.
    pub fn open(manifest: &Manifest, file_key: &FileKey) -> Result<Self, MetadataError> {
        let data = Self::associated_data(&manifest.place.content, manifest.version.version);
        let plain = crypto::open_metadata(file_key, &manifest.payload_nonce(), &data, &manifest.metadata)
            .map_err(|_| MetadataError::Decrypt)?;
        Ok(Self::decode(&plain)?)
    }
}

/// Why a file's name and type cannot be written or read.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// Name, type and additions together are too long.
    #[error("metadata of {len} bytes does not fit into a manifest")]
    TooLong {
        /// Their length.
        len: usize,
    },
    /// The cipher refused.
    #[error("metadata cannot be encrypted")]
    Encrypt,
    /// The key does not open it, or it was changed.
    #[error("metadata cannot be decrypted")]
    Decrypt,
    /// Decrypted, it is not what the format asks for.
    #[error("metadata cannot be read")]
    Wire(#[from] WireError),
}
