//! Hash functions that name blocks.

use std::{fmt, str::FromStr};

use multihash::Multihash;
use sha2::{Digest, Sha256, Sha512};

/// Multicodec of digests that are the bytes themselves.
pub(crate) const IDENTITY: u64 = 0x00;

/// A hash function that may name a block: one of those that IPFS holds for safe, with its full digest.
///
/// The codes and names are those of the multicodec table. Always known are sha2-256, sha2-512 and dbl-sha2-256; feature
/// `blake3` adds BLAKE3; feature `hashes` adds SHA-1, SHA-3, Keccak, SHAKE-256, and BLAKE2 of 160, 224, 256, 384 and 512
/// bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HashFunction(&'static Known);

struct Known {
    code: u64,
    name: &'static str,
    digest: fn(&[u8]) -> Multihash<64>,
}

impl PartialEq for Known {
    fn eq(&self, other: &Self) -> bool {
        self.code == other.code
    }
}

impl Eq for Known {}

impl std::hash::Hash for Known {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.code.hash(state);
    }
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

macro_rules! by_digest {
    ($code:literal, $name:literal, $function:ty) => {
        Known { code: $code, name: $name, digest: |data| wrap($code, &<$function>::digest(data)) }
    };
}

static SHA2_256: Known = by_digest!(0x12, "sha2-256", Sha256);

/// All but sha2-256, which is looked for first.
static OTHERS: &[Known] = &[
    by_digest!(0x13, "sha2-512", Sha512),
    Known {
        code: 0x56,
        name: "dbl-sha2-256",
        digest: |data| wrap(0x56, &Sha256::digest(Sha256::digest(data))),
    },
    #[cfg(feature = "blake3")]
    Known { code: 0x1e, name: "blake3", digest: |data| wrap(0x1e, blake3::hash(data).as_bytes()) },
    #[cfg(feature = "hashes")]
    by_digest!(0x11, "sha1", sha1::Sha1),
    #[cfg(feature = "hashes")]
    by_digest!(0x14, "sha3-512", sha3::Sha3_512),
    #[cfg(feature = "hashes")]
    by_digest!(0x15, "sha3-384", sha3::Sha3_384),
    #[cfg(feature = "hashes")]
    by_digest!(0x16, "sha3-256", sha3::Sha3_256),
    #[cfg(feature = "hashes")]
    by_digest!(0x17, "sha3-224", sha3::Sha3_224),
    #[cfg(feature = "hashes")]
    Known { code: 0x19, name: "shake-256", digest: shake_256 },
    #[cfg(feature = "hashes")]
    by_digest!(0x1a, "keccak-224", sha3::Keccak224),
    #[cfg(feature = "hashes")]
    by_digest!(0x1b, "keccak-256", sha3::Keccak256),
    #[cfg(feature = "hashes")]
    by_digest!(0x1c, "keccak-384", sha3::Keccak384),
    #[cfg(feature = "hashes")]
    by_digest!(0x1d, "keccak-512", sha3::Keccak512),
    #[cfg(feature = "hashes")]
    by_digest!(0xb214, "blake2b-160", blake2::Blake2b<blake2::digest::consts::U20>),
    #[cfg(feature = "hashes")]
    by_digest!(0xb21c, "blake2b-224", blake2::Blake2b<blake2::digest::consts::U28>),
    #[cfg(feature = "hashes")]
    by_digest!(0xb220, "blake2b-256", blake2::Blake2b<blake2::digest::consts::U32>),
    #[cfg(feature = "hashes")]
    by_digest!(0xb230, "blake2b-384", blake2::Blake2b<blake2::digest::consts::U48>),
    #[cfg(feature = "hashes")]
    by_digest!(0xb240, "blake2b-512", blake2::Blake2b<blake2::digest::consts::U64>),
    #[cfg(feature = "hashes")]
    by_digest!(0xb254, "blake2s-160", blake2::Blake2s<blake2::digest::consts::U20>),
    #[cfg(feature = "hashes")]
    by_digest!(0xb25c, "blake2s-224", blake2::Blake2s<blake2::digest::consts::U28>),
    #[cfg(feature = "hashes")]
    by_digest!(0xb260, "blake2s-256", blake2::Blake2s<blake2::digest::consts::U32>),
];

impl HashFunction {
    /// What IPFS uses unless told otherwise, and the only function of CIDv0.
    pub const SHA2_256: Self = Self(&SHA2_256);

    /// The function of this multicodec; `None` if it is not known here.
    pub fn from_code(code: u64) -> Option<Self> {
        known().find(|known| known.code == code).map(Self)
    }

    /// Its multicodec.
    pub fn code(self) -> u64 {
        self.0.code
    }

    /// Its name in the multicodec table.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Hashes `data`.
    pub fn digest(self, data: &[u8]) -> Multihash<64> {
        (self.0.digest)(data)
    }
}

fn known() -> impl Iterator<Item = &'static Known> {
    std::iter::once(&SHA2_256).chain(OTHERS)
}

fn wrap(code: u64, digest: &[u8]) -> Multihash<64> {
    // No digest above exceeds 64 bytes, the only way `wrap` can fail.
    Multihash::wrap(code, digest).unwrap_or_default()
}

/// SHAKE-256 with 64 bytes of output, as the multicodec table has it.
#[cfg(feature = "hashes")]
fn shake_256(data: &[u8]) -> Multihash<64> {
    use shake::digest::{ExtendableOutput, Update};
    let mut digest = [0; 64];
    let mut shake = shake::Shake256::default();
    shake.update(data);
    shake.finalize_xof_into(&mut digest);
    wrap(0x19, &digest)
}

impl Default for HashFunction {
    fn default() -> Self {
        Self::SHA2_256
    }
}

impl fmt::Display for HashFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for HashFunction {
    type Err = UnknownHashName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        known().find(|known| known.name == name).map(Self).ok_or(UnknownHashName)
    }
}

/// No hash function of this name may name blocks here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no safe hash function of this name is built in")]
pub struct UnknownHashName;
