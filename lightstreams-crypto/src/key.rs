use std::fmt;

use hkdf::Hkdf;
use rand_core::CryptoRng;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::Error;

const COMMITMENT_INFO: &[u8] = b"lightstreams/v1/key-commitment";
const ITEM_INFO: &[u8] = b"lightstreams/v1/item";

/// The key of one file: all other keys of its envelope are derived from it.
///
/// Fresh for every version of a file. Compared in constant time, wiped on drop, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct FileKey([u8; FileKey::LEN]);

impl FileKey {
    /// Length in bytes.
    pub const LEN: usize = 16;

    /// Draws a fresh key.
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        let mut key = Self([0; Self::LEN]);
        rng.fill_bytes(&mut key.0);
        key
    }

    /// Takes key bytes from elsewhere; the caller wipes its own copy.
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// Shows the secret bytes.
    pub fn expose(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    pub(crate) fn derive(&self, salt: &[u8], info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
        derive(&self.0, salt, info)
    }
}

impl PartialEq for FileKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for FileKey {}

impl fmt::Debug for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileKey(..)")
    }
}

/// The 16 public bytes between header and payload, fresh for every version of a file.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PayloadNonce([u8; PayloadNonce::LEN]);

impl PayloadNonce {
    /// Length in bytes.
    pub const LEN: usize = 16;

    /// Draws a fresh nonce.
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        let mut nonce = Self([0; Self::LEN]);
        rng.fill_bytes(&mut nonce.0);
        nonce
    }

    /// Takes a nonce that was read somewhere.
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes as they stand in a file.
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Debug for PayloadNonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PayloadNonce({})", hex::encode(self.0))
    }
}

/// The secret of a collection, from which the file keys of its items follow. Kept by the owner alone.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct CollectionKey([u8; 32]);

impl CollectionKey {
    /// Draws a fresh key.
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        let mut key = Self([0; 32]);
        rng.fill_bytes(&mut key.0);
        key
    }

    /// Takes key bytes from elsewhere; the caller wipes its own copy.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Shows the secret bytes.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for CollectionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CollectionKey(..)")
    }
}

/// The public value that binds a file key to its payload nonce and to `ctx`, the place the file is meant
/// for.
///
/// ChaCha20-Poly1305 does not commit to a key: one payload can be made that opens to two texts under two
/// keys. Whoever unwraps a key from a header compares it with the commitment that was published (see
/// [`verify_commitment`]) and so knows that everybody else reads the same text. `ctx` keeps a stranger from
/// passing off a copied header as a file of another place.
pub fn commitment(file_key: &FileKey, nonce: &PayloadNonce, ctx: &[u8]) -> [u8; 32] {
    *file_key.derive(nonce.as_bytes(), &[COMMITMENT_INFO, ctx])
}

/// Refuses a file key that is not the one `expected` commits to, in constant time.
pub fn verify_commitment(
    file_key: &FileKey,
    nonce: &PayloadNonce,
    ctx: &[u8],
    expected: &[u8; 32],
) -> Result<(), Error> {
    match commitment(file_key, nonce, ctx).ct_eq(expected).into() {
        true => Ok(()),
        false => Err(Error::CommitmentMismatch),
    }
}

/// The file key of one version of one item of a collection.
///
/// `epoch` and `version` are the item's own.
pub fn item_key(
    collection: &CollectionKey,
    item: &[u8; 32],
    epoch: u32,
    version: u32,
    nonce: &PayloadNonce,
) -> FileKey {
    let salt = [&item[..], &epoch.to_be_bytes(), &version.to_be_bytes(), nonce.as_bytes()].concat();
    let long = derive(collection.expose(), &salt, &[ITEM_INFO]);
    let mut key = FileKey([0; FileKey::LEN]);
    for (to, from) in key.0.iter_mut().zip(long.iter()) {
        *to = *from;
    }
    key
}

/// HKDF-SHA-256 with 32 bytes of output; the parts of `info` are joined.
pub(crate) fn derive(secret: &[u8], salt: &[u8], info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut out = Zeroizing::new([0; 32]);
    // Expanding fails above 255 blocks of output only, and this is one.
    if Hkdf::<Sha256>::new(Some(salt), secret).expand_multi_info(info, out.as_mut_slice()).is_err() {
        unreachable!("one block of HKDF output");
    }
    out
}
