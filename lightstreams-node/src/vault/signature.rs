//! ECDSA signatures of accounts: 65 bytes, r ‖ s ‖ v, low s, v 27 or 28.

use std::sync::LazyLock;

use alloy_primitives::{Address, B256};
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{All, Message, PublicKey, Secp256k1, SecretKey};

static SECP256K1: LazyLock<Secp256k1<All>> = LazyLock::new(Secp256k1::new);

/// The account that signed `hash`, or `None` if `sig` is no signature in the one accepted form.
pub fn recover(hash: &B256, sig: &[u8]) -> Option<Address> {
    let (v, compact) = sig.split_last()?;
    let recovery = match v {
        27 => RecoveryId::Zero,
        28 => RecoveryId::One,
        _ => return None,
    };
    let recoverable = RecoverableSignature::from_compact(compact, recovery).ok()?;
    // EIP-2: of the two signatures with one meaning only the one with the low s counts.
    let standard = recoverable.to_standard();
    let mut low = standard;
    low.normalize_s();
    if low != standard {
        return None;
    }
    let key = SECP256K1.recover_ecdsa(Message::from_digest(hash.0), &recoverable).ok()?;
    Some(address_of(&key))
}

/// Signs `hash`.
pub fn sign(secret: &SecretKey, hash: &B256) -> [u8; 65] {
    let message = Message::from_digest(hash.0);
    let (recovery, compact) = SECP256K1.sign_ecdsa_recoverable(message, secret).serialize_compact();
    let mut sig = [0; 65];
    let (head, v) = sig.split_at_mut(64);
    head.copy_from_slice(&compact);
    v.fill(if recovery == RecoveryId::Zero { 27 } else { 28 });
    sig
}

/// The account of a public key.
pub fn address_of(key: &PublicKey) -> Address {
    Address::from_raw_public_key(key.serialize_uncompressed().split_at(1).1)
}

/// The account of a secret key.
pub fn account_of(secret: &SecretKey) -> Address {
    address_of(&secret.public_key(&SECP256K1))
}
