//! Ed25519 signatures for receipts, records and identities: strict, so that two verifiers never differ.

use std::fmt;

use ed25519_dalek::{Signature, Signer, VerifyingKey};
use rand_core::CryptoRng;

/// Length of a public key.
pub const PUBLIC_LEN: usize = 32;
/// Length of a signature.
pub const SIGNATURE_LEN: usize = 64;

/// The signature is not one of this key over this message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the Ed25519 signature does not verify")]
pub struct SignatureError;

/// A secret signing key. Wiped on drop, never printed.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// Draws a fresh key.
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        Self(ed25519_dalek::SigningKey::generate(rng))
    }

    /// Makes the key of RFC 8032 from its 32-byte seed; the caller wipes its own copy.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// Shows the secret seed.
    pub fn expose_seed(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The public key.
    pub fn public(&self) -> [u8; PUBLIC_LEN] {
        self.0.verifying_key().to_bytes()
    }

    /// Signs `message`; the same message always gets the same signature.
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({}, ..)", hex::encode(self.public()))
    }
}

/// Verifies a signature and refuses what verifiers are known to disagree about: keys and commitments of
/// small order, scalars and points that are not reduced.
pub fn verify_strict(
    public: &[u8; PUBLIC_LEN],
    message: &[u8],
    signature: &[u8; SIGNATURE_LEN],
) -> Result<(), SignatureError> {
    let key = VerifyingKey::from_bytes(public).map_err(|_| SignatureError)?;
    // A key with a coordinate that is not reduced has a second spelling.
    if key.to_edwards().compress().as_bytes() != public {
        return Err(SignatureError);
    }
    key.verify_strict(message, &Signature::from_bytes(signature)).map_err(|_| SignatureError)
}
