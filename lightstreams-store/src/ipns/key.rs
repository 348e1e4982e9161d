//! Public keys as libp2p writes them, and their signatures.
//!
//! ```text
//! public key = protobuf {type 1: 0 RSA, 1 Ed25519, 2 secp256k1; data 2}
//! data       = RSA: SubjectPublicKeyInfo in DER; Ed25519: 32 bytes; secp256k1: 33 bytes, compressed
//! ```

use ed25519_dalek::{Signature, Verifier, VerifyingKey};

use super::IpnsError;
use crate::protobuf::{Fields, Value, put_bytes, put_int};

const RSA: u64 = 0;
const ED25519: u64 = 1;
const SECP256K1: u64 = 2;

/// Writes an Ed25519 key.
pub(super) fn encode_ed25519(key: &[u8; 32]) -> Vec<u8> {
    let mut out = Vec::with_capacity(36);
    put_int(&mut out, 0x08, ED25519);
    put_bytes(&mut out, 0x12, key);
    out
}

/// Checks that the owner of `key`, in its protobuf form, signed `message`.
pub(super) fn verify(key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), IpnsError> {
    let (kind, data) = decode(key).ok_or(IpnsError::Key { reason: "it cannot be read" })?;
    let unreadable = IpnsError::Key { reason: "its bytes are no key of its kind" };
    let valid = match kind {
        ED25519 => {
            let key = data.try_into().ok().and_then(|key| VerifyingKey::from_bytes(key).ok());
            let signature = Signature::from_slice(signature).map_err(|_| IpnsError::Signature)?;
            key.ok_or(unreadable)?.verify(message, &signature).is_ok()
        }
        SECP256K1 => {
            use k256::ecdsa::{Signature, VerifyingKey, signature::Verifier};
            let key = VerifyingKey::from_sec1_bytes(data).map_err(|_| unreadable)?;
            // Other implementations sign with either of the two values of s.
            let signature = Signature::from_der(signature).map_err(|_| IpnsError::Signature)?.normalize_s();
            key.verify(message, &signature).is_ok()
        }
        RSA => {
            use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
            let key = rsa_key(data).ok_or(unreadable)?;
            UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key).verify(message, signature).is_ok()
        }
        _ => return Err(IpnsError::Key { reason: "it is of a kind that is not known" }),
    };
    if valid { Ok(()) } else { Err(IpnsError::Signature) }
}

/// Kind and data of a key.
fn decode(key: &[u8]) -> Option<(u64, &[u8])> {
    let mut fields = Fields::new(key);
    let (_, 1, Value::Int(kind)) = fields.next().ok()?? else { return None };
    let (_, 2, Value::Bytes(data)) = fields.next().ok()?? else { return None };
    (fields.at() == key.len()).then_some((kind, data))
}

/// The `RSAPublicKey` in a `SubjectPublicKeyInfo` (RFC 5280, section 4.1; RFC 3279, section 2.3.1).
fn rsa_key(der: &[u8]) -> Option<&[u8]> {
    const SEQUENCE: u8 = 0x30;
    const BIT_STRING: u8 = 0x03;
    // rsaEncryption, and NULL as its parameters.
    const ALGORITHM: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
    let mut outer = der;
    let mut info = element(&mut outer, SEQUENCE)?;
    let algorithm = element(&mut info, SEQUENCE)?;
    let (unused, key) = element(&mut info, BIT_STRING)?.split_first()?;
    (outer.is_empty() && info.is_empty() && algorithm == ALGORITHM && *unused == 0).then_some(key)
}

/// Takes an element of DER off the front of `rest`, and returns its content.
fn element<'a>(rest: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (&found, after) = rest.split_first()?;
    let (&first, after) = after.split_first()?;
    let (len, after) = match first {
        ..=0x7f => (usize::from(first), after),
        0x81 | 0x82 => {
            let (bytes, after) = after.split_at_checked(usize::from(first - 0x80))?;
            (bytes.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)), after)
        }
        _ => return None,
    };
    let (content, after) = after.split_at_checked(len)?;
    *rest = after;
    (found == tag).then_some(content)
}
