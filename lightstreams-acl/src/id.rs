//! Names of contents: the content id, the content URI that people share, and the `ctx` of a version.

use std::fmt;
use std::str::FromStr;

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_sol_types::SolValue;

/// Names one content on one registry of one chain, for good: see [`content_id`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentId(pub B256);

impl ContentId {
    /// The id as the integer that contracts know (an ERC-721 token id).
    pub fn as_u256(&self) -> U256 {
        U256::from_be_bytes(self.0.0)
    }

    /// The 32 bytes that records and manifests carry.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0.0
    }
}

impl From<U256> for ContentId {
    fn from(id: U256) -> Self {
        Self(B256::from(id.to_be_bytes::<32>()))
    }
}

impl From<B256> for ContentId {
    fn from(id: B256) -> Self {
        Self(id)
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `B256` shortens its plain form; the whole id is what people compare.
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentId({self})")
    }
}

impl FromStr for ContentId {
    type Err = UriError;

    /// Reads `0x` and 64 hex digits, nothing else.
    fn from_str(text: &str) -> Result<Self, UriError> {
        fixed_hex::<32>(text).map(|bytes| Self(B256::from(bytes))).ok_or(UriError::ContentId)
    }
}

/// The id that `registry` on chain `chain` gives to what `owner` registers under `salt`: known before registration.
pub fn content_id(chain: u64, registry: Address, owner: Address, salt: B256) -> ContentId {
    ContentId(keccak256((U256::from(chain), registry, owner, salt).abi_encode()))
}

/// The place of one version on chain: u256 chain id, registry, content id, u32 epoch, u32 version.
///
/// A key commitment binds these 92 bytes, so that nobody can register another's payload as their own.
pub fn version_ctx(chain: u64, registry: Address, content: ContentId, ep: u32, ver: u32) -> [u8; 92] {
    let mut ctx = [0; 92];
    let chain = U256::from(chain).to_be_bytes::<32>();
    let (ep, ver) = (ep.to_be_bytes(), ver.to_be_bytes());
    let parts = [&chain[..], registry.as_slice(), content.as_bytes(), &ep, &ver];
    for (to, from) in ctx.iter_mut().zip(parts.into_iter().flatten()) {
        *to = *from;
    }
    ctx
}

/// What a person shares: `lightstreams:<chainId>/<registry>/<contentId>[@ver]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContentUri {
    /// Chain id of the registry's chain.
    pub chain: u64,
    /// The registry contract.
    pub registry: Address,
    /// The content in it.
    pub content: ContentId,
    /// One version, counted from 1, or the head.
    pub version: Option<u32>,
}

impl ContentUri {
    /// Scheme of a content URI.
    pub const SCHEME: &'static str = "lightstreams";
}

impl fmt::Display for ContentUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{:#x}/{}", Self::SCHEME, self.chain, B160(self.registry), self.content)?;
        match self.version {
            Some(version) => write!(f, "@{version}"),
            None => Ok(()),
        }
    }
}

/// An address in lower case, whatever its checksum form is.
struct B160(Address);

impl fmt::LowerHex for B160 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0.0, f)
    }
}

impl FromStr for ContentUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let rest = text
            .strip_prefix(Self::SCHEME)
            .and_then(|rest| rest.strip_prefix(':'))
            .ok_or(UriError::Scheme)?;
        let (chain, rest) = rest.split_once('/').ok_or(UriError::Parts)?;
        let (registry, rest) = rest.split_once('/').ok_or(UriError::Parts)?;
        let (content, version) = match rest.split_once('@') {
            Some((content, version)) => (content, Some(version)),
            None => (rest, None),
        };
        let version = match version {
            None => None,
            Some(version) => match decimal(version).and_then(|version| u32::try_from(version).ok()) {
                None | Some(0) => return Err(UriError::Version),
                some => some,
            },
        };
        Ok(Self {
            chain: decimal(chain).ok_or(UriError::Chain)?,
            registry: fixed_hex::<20>(registry).map(Address::from).ok_or(UriError::Registry)?,
            content: lower_case(content).then(|| content.parse()).ok_or(UriError::ContentId)??,
            version,
        })
    }
}

/// Which part of a content URI is wrong.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// It does not start with `lightstreams:`.
    #[error("a content URI starts with \"lightstreams:\"")]
    Scheme,
    /// It lacks one of its three parts.
    #[error("a content URI is lightstreams:<chainId>/<registry>/<contentId>[@ver]")]
    Parts,
    /// The chain id is not a decimal number.
    #[error("the chain id is a decimal number without leading zeros")]
    Chain,
    /// The registry is not an address.
    #[error("the registry is 0x and 40 hex digits")]
    Registry,
    /// The content id is not 32 bytes of hex.
    #[error("the content id is 0x and 64 lower-case hex digits")]
    ContentId,
    /// The version is not a positive number.
    #[error("the version is a decimal number from 1 on, without leading zeros")]
    Version,
}

/// A number as we write it: digits only, no sign, no leading zero.
fn decimal(text: &str) -> Option<u64> {
    let canonical = text == "0"
        || (!text.starts_with('0') && !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()));
    canonical.then(|| text.parse().ok()).flatten()
}

fn lower_case(text: &str) -> bool {
    !text.bytes().any(|b| b.is_ascii_uppercase())
}

fn fixed_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.strip_prefix("0x")?;
    if digits.len() != N.checked_mul(2)? {
        return None;
    }
    alloy_primitives::hex::decode_to_array(digits).ok()
}
