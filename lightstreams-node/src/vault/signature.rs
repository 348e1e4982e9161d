//! ECDSA signatures of accounts: 65 bytes, r ‖ s ‖ v, low s, v 27 or 28.

use alloy_primitives::{Address, B256, keccak256};
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{Message, PublicKey, SecretKey};

/// The account that signed `hash`, or `None` if `sig` is no signature in the one accepted form.
pub fn recover(hash: &B256, sig: &[u8]) -> Option<Address> {
    let (v, compact) = sig.split_last()?;
    let recovery = RecoveryId::try_from(i32::from(v.checked_sub(27)?)).ok()?;
    if compact.len() != 64 || !matches!(v, 27 | 28) {
        return None;
    }
    let recoverable = RecoverableSignature::from_compact(compact, recovery).ok()?;
    // EIP-2: of the two signatures with one meaning only the one with the low s counts.
    let standard = recoverable.to_standard();
    let mut low = standard;
    low.normalize_s();
    if low != standard {
        return None;
    }
    let key = recoverable.recover(Message::from_digest(hash.0)).ok()?;
    Some(address_of(&key))
}

/// Signs `hash`.
pub fn sign(secret: &SecretKey, hash: &B256) -> [u8; 65] {
    let (recovery, compact) =
        RecoverableSignature::sign_ecdsa_recoverable(Message::from_digest(hash.0), secret).serialize_compact();
    let mut sig = [0; 65];
    let (head, v) = sig.split_at_mut(64);
    head.copy_from_slice(&compact);
    v.fill(27 + u8::from(recovery));
    sig
}

/// The account of a public key.
pub fn address_of(key: &PublicKey) -> Address {
    Address::from_raw_public_key(key.serialize_uncompressed().split_at(1).1)
}
