//! The only holders of an authority's key, and the guard that keeps it from signing twice.

use std::{collections::HashMap, fmt, sync::Mutex, sync::PoisonError};

use alloy_consensus::{SignableTransaction, Signed};
use alloy_eips::Encodable2718;
use alloy_primitives::{Address, B256, Bytes, Signature, address, b256, keccak256};
use secp256k1::{
    Message, PublicKey, SECP256K1, SecretKey,
    ecdsa::{RecoverableSignature, RecoveryId},
};
use zeroize::Zeroizing;

use crate::Transaction;

/// Holds the key of one authority and signs seals with it.
///
/// An implementation that is not told otherwise signs whatever it is asked: wrap it in a [`GuardedSigner`] before it
/// may seal for a network with others in it.
pub trait Signer: Send + Sync {
    /// The account whose key this is.
    fn address(&self) -> Address;

    /// Signs `digest` as the seal of the block in `slot`: r, s, and the recovery id 0 or 1.
    ///
    /// What the signer must remember of this has been persisted when it returns.
    fn sign(&self, slot: &Slot, digest: B256) -> Result<[u8; 65], SignerError>;
}

// A machine is given whichever signer its node was configured with.
const _: Option<&dyn Signer> = None;

/// A place in the chain for which one authority signs at most one digest.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Slot {
    /// A Clique seal: one child of `parent`.
    Clique {
        /// Number of the block to be sealed.
        number: u64,
        /// Hash of its parent.
        parent: B256,
    },
}

/// Why a signer gave no signature.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// Another digest was signed in this slot before: a second one would be evidence against the authority.
    #[error("another seal was signed in this slot: {slot:?}")]
    AlreadySigned {
        /// The slot.
        slot: Slot,
        /// What was signed in it.
        signed: B256,
    },
    /// The guard's log failed, so nothing was signed. Stop sealing until it is repaired.
    #[error("the signer's guard could not record the slot")]
    Guard(#[source] GuardError),
    /// The 32 bytes are no secp256k1 secret key: zero, or not below the order of the group.
    #[error("not a secp256k1 secret key")]
    BadKey,
}

/// A [`GuardLog`] that failed, and why.
#[derive(Debug, thiserror::Error)]
#[error("guard log failed: {op}")]
pub struct GuardError {
    /// What the log was doing.
    pub op: &'static str,
    /// What went wrong beneath it.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// The memory of a [`GuardedSigner`].
pub trait GuardLog: Send + Sync {
    /// Takes `slot` for `digest` unless it is taken, and returns the digest that stands in it.
    ///
    /// What it returns survives a power cut: a slot, once taken, is taken for good. Two calls for one slot that overlap
    /// agree on the digest.
    fn claim(&self, slot: &Slot, digest: B256) -> Result<B256, GuardError>;
}

/// Refuses a second digest in one slot, whatever asks for it.
///
/// The slot is persisted before the signature is returned; the same digest may be signed again, so a node that crashed
/// between the two seals the same block or none.
#[derive(Debug)]
pub struct GuardedSigner<S, G> {
    signer: S,
    log: G,
}

impl<S: Signer, G: GuardLog> GuardedSigner<S, G> {
    /// Guards `signer` by what `log` remembers.
    pub fn new(signer: S, log: G) -> Self {
        Self { signer, log }
    }
}

impl<S: Signer, G: GuardLog> Signer for GuardedSigner<S, G> {
    fn address(&self) -> Address {
        self.signer.address()
    }

    fn sign(&self, slot: &Slot, digest: B256) -> Result<[u8; 65], SignerError> {
        let signed = self.log.claim(slot, digest).map_err(SignerError::Guard)?;
        if signed != digest {
            return Err(SignerError::AlreadySigned { slot: *slot, signed });
        }
        self.signer.sign(slot, digest)
    }
}

/// A guard that remembers while the process lives: for tests, and networks whose one authority has no disk.
#[derive(Debug, Default)]
pub struct MemoryGuard {
    slots: Mutex<HashMap<Slot, B256>>,
}

impl GuardLog for MemoryGuard {
    fn claim(&self, slot: &Slot, digest: B256) -> Result<B256, GuardError> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(*slots.entry(*slot).or_insert(digest))
    }
}

/// A secp256k1 key in this process, wiped when dropped.
pub struct LocalSigner {
    secret: Zeroizing<[u8; 32]>,
    address: Address,
}

impl LocalSigner {
    /// A signer from the 32 bytes of a secret key.
    pub fn from_bytes(secret: &[u8; 32]) -> Result<Self, SignerError> {
        let mut key = SecretKey::from_byte_array(*secret).map_err(|_| SignerError::BadKey)?;
        let address = address_of(&PublicKey::from_secret_key_global(&key));
        key.non_secure_erase();
        Ok(Self { secret: Zeroizing::new(*secret), address })
    }

    /// The account of this key.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Signs `digest` as it is (no prefix): deterministic nonce (RFC 6979), low s.
    pub fn sign_digest(&self, digest: B256) -> Result<Signature, SignerError> {
        let (rs, parity) = self.sign_raw(digest)?;
        Ok(Signature::from_bytes_and_parity(&rs, parity))
    }

    /// Signs a transaction: `tx` is any unsigned type, for instance [`alloy_consensus::TxEip1559`].
    pub fn sign_transaction<T>(&self, tx: T) -> Result<Transaction, SignerError>
    where
        T: SignableTransaction<Signature>,
        Transaction: From<Signed<T>>,
    {
        let signature = self.sign_digest(tx.signature_hash())?;
        Ok(tx.into_signed(signature).into())
    }

    /// Signs a transaction and gives the bytes that `eth_sendRawTransaction` takes.
    pub fn sign_raw_transaction<T>(&self, tx: T) -> Result<Bytes, SignerError>
    where
        T: SignableTransaction<Signature>,
        Transaction: From<Signed<T>>,
    {
        Ok(self.sign_transaction(tx)?.encoded_2718().into())
    }

    fn sign_raw(&self, digest: B256) -> Result<([u8; 64], bool), SignerError> {
        let mut key = SecretKey::from_byte_array(*self.secret).map_err(|_| SignerError::BadKey)?;
        let signature = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(digest.0), &key);
        key.non_secure_erase();
        let (id, rs) = signature.serialize_compact();
        Ok((rs, i32::from(id) & 1 == 1))
    }
}

impl Signer for LocalSigner {
    fn address(&self) -> Address {
        self.address
    }

    fn sign(&self, _slot: &Slot, digest: B256) -> Result<[u8; 65], SignerError> {
        let (rs, parity) = self.sign_raw(digest)?;
        let mut seal = [0; 65];
        let (body, id) = seal.split_at_mut(64);
        body.copy_from_slice(&rs);
        id.fill(u8::from(parity));
        Ok(seal)
    }
}

impl fmt::Debug for LocalSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalSigner").field("address", &self.address).finish_non_exhaustive()
    }
}

/// The account that made `seal` (r, s, recovery id 0 or 1) over `digest`. A high s is accepted, as go-ethereum does.
pub(crate) fn recover(seal: &[u8; 65], digest: B256) -> Option<Address> {
    let (rs, id) = seal.split_at(64);
    let id = match id {
        [0] => RecoveryId::Zero,
        [1] => RecoveryId::One,
        _ => return None,
    };
    let signature = RecoverableSignature::from_compact(rs, id).ok()?;
    let key = SECP256K1.recover_ecdsa(Message::from_digest(digest.0), &signature).ok()?;
    Some(address_of(&key))
}

fn address_of(key: &PublicKey) -> Address {
    // The address is the tail of the hash of the point, without the byte that says how it is written.
    let point = key.serialize_uncompressed();
    let (_, xy) = point.split_at(1);
    Address::from_word(keccak256(xy))
}

/// A funded account of a development network.
#[derive(Clone, Copy, Debug)]
pub struct DevAccount {
    /// Its address.
    pub address: Address,
    /// Its secret key, known to the whole world.
    pub secret: B256,
}

impl DevAccount {
    /// A signer for this account.
    pub fn signer(&self) -> Result<LocalSigner, SignerError> {
        LocalSigner::from_bytes(&self.secret.0)
    }
}

/// The first ten accounts of the mnemonic `test test test test test test test test test test test junk`
/// (`m/44'/60'/0'/0/i`), which every Ethereum development tool knows. Never fund them on a network that matters.
pub const DEV_ACCOUNTS: [DevAccount; 10] = [
    DevAccount {
        address: address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266"),
        secret: b256!("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"),
    },
    DevAccount {
        address: address!("70997970C51812dc3A010C7d01b50e0d17dc79C8"),
        secret: b256!("59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"),
    },
    DevAccount {
        address: address!("3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"),
        secret: b256!("5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a"),
    },
    DevAccount {
        address: address!("90F79bf6EB2c4f870365E785982E1f101E93b906"),
        secret: b256!("7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6"),
    },
    DevAccount {
        address: address!("15d34AAf54267DB7D7c367839AAf71A00a2C6A65"),
        secret: b256!("47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a"),
    },
    DevAccount {
        address: address!("9965507D1a55bcC2695C58ba16FB37d819B0A4dc"),
        secret: b256!("8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba"),
    },
    DevAccount {
        address: address!("976EA74026E726554dB657fA54763abd0C3a0aa9"),
        secret: b256!("92db14e403b83dfe3df233f83dfa3a0d7096f21ca9b0d6d6b8d88b2b4ec1564e"),
    },
    DevAccount {
        address: address!("14dC79964da2C08b23698B3D3cc7Ca32193d9955"),
        secret: b256!("4bbbf85ce3377467afe5d46f804f221813b2bb87f24d81f60f1fcdbf7cbf4356"),
    },
    DevAccount {
        address: address!("23618e81E3f5cdF7f54C3d65f7FBc0aBf5B21E8f"),
        secret: b256!("dbda1821b80551c9d65939329250298aa3472ba22feea921c0cf5d620ea67b97"),
    },
    DevAccount {
        address: address!("a0Ee7A142d267C1f36714E4a8F75612F20a79720"),
        secret: b256!("2a871d0798f97d79848a013d4936a73bf4cc922c825d33c1cf7073dff6d409c6"),
    },
];
