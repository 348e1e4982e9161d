use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use hpke::{
    Deserializable, OpModeR, OpModeS, Serializable,
    aead::{AeadTag, ChaCha20Poly1305},
    kdf::HkdfSha256,
    kem::{Kem, XWing},
    single_shot_open_inout_detached, single_shot_seal_inout_detached_with_rng,
};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::{
    Error, FileKey, Identity, ParseKeyError, Recipient, Stanza, bech32, header::decode_fixed,
    wrap::WRAPPED_LEN, x25519::is_low_order,
};

const TAG: &str = "mlkem768x25519";
const INFO: &[u8] = b"age-encryption.org/mlkem768x25519";
const RECIPIENT_PREFIX: &str = "age1pq";
const IDENTITY_PREFIX: &str = "AGE-SECRET-KEY-PQ-";
/// An encapsulated key: the ML-KEM-768 ciphertext and the X25519 share.
const ENC_LEN: usize = 1088 + 32;

type PublicKey = <XWing as Kem>::PublicKey;
type PrivateKey = <XWing as Kem>::PrivateKey;
type EncappedKey = <XWing as Kem>::EncappedKey;

/// The public half of a [`HybridIdentity`], written `age1pq1…` in 1,959 characters.
///
/// Safe as long as one of ML-KEM-768 and X25519 is, and therefore against quantum computers. It shares a
/// header with others of its kind only (see [`Recipient::labels`]). A stanza takes 1,557 bytes of the header.
///
/// ```text
/// identity   32 bytes; SHAKE-256 of them = 64-byte seed of ML-KEM-768 | X25519 secret           X-Wing
/// recipient  ML-KEM-768 encapsulation key (1184) | X25519 point (32)
/// enc        ML-KEM-768 ciphertext (1088) | share (32), share = X25519(e, 9)
/// ss         SHA3-256(ML-KEM secret | X25519(e, point) | share | point | 5c 2e 2f 2f 5e 5c)
/// key, nonce RFC 9180 §5.1: KeySchedule(base, ss, "age-encryption.org/mlkem768x25519", "", ""),
///            KEM 647a (X-Wing), KDF 0001 (HKDF-SHA256), AEAD 0003 (ChaCha20-Poly1305)
///
/// -> mlkem768x25519 <enc>                                                                       in base64
/// <ChaCha20-Poly1305(key, nonce, file key)>                                                     32 bytes
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct HybridRecipient(Box<PublicKey>);

impl HybridRecipient {
    /// Length in bytes: an ML-KEM-768 encapsulation key and an X25519 point.
    pub const LEN: usize = 1184 + 32;

    /// Takes the bytes of a public key.
    ///
    /// Refuses an ML-KEM key whose coefficients are not reduced (FIPS 203 §7.2) and a point of low order.
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Result<Self, ParseKeyError> {
        if bytes.last_chunk().is_none_or(is_low_order) {
            return Err(ParseKeyError::LowOrder);
        }
        let key = PublicKey::from_bytes(bytes).map_err(|_| ParseKeyError::Invalid)?;
        Ok(Self(Box::new(key)))
    }

    /// The bytes of the public key.
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        self.0.to_bytes().into()
    }
}

impl Recipient for HybridRecipient {
    fn wrap(&self, file_key: &FileKey, mut rng: &mut dyn CryptoRng) -> Result<Stanza, Error> {
        let mut wrapped = Zeroizing::new(*file_key.expose());
        let (enc, tag) = single_shot_seal_inout_detached_with_rng::<ChaCha20Poly1305, HkdfSha256, XWing>(
            &OpModeS::Base,
            &self.0,
            INFO,
            wrapped.as_mut_slice().into(),
            b"",
            &mut rng,
        )
        .map_err(|_| Error::Unsupported("the hybrid recipient refused a file key"))?;
        Ok(Stanza {
            tag: TAG.into(),
            args: vec![STANDARD_NO_PAD.encode(enc.to_bytes())],
            body: [&wrapped[..], &tag.to_bytes()].concat(),
        })
    }

    fn labels(&self) -> &[&str] {
        &["postquantum"]
    }
}

impl fmt::Display for HybridRecipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bech32::encode_lower(f, RECIPIENT_PREFIX, &self.to_bytes())
    }
}

/// Shows the start of the key, which is too long for a line.
impl fmt::Debug for HybridRecipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.to_string();
        write!(f, "HybridRecipient({}..)", text.get(..32).unwrap_or_default())
    }
}

impl FromStr for HybridRecipient {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        Self::from_bytes(&*bech32::decode_lower(text, RECIPIENT_PREFIX)?)
    }
}

/// A secret hybrid key, written `AGE-SECRET-KEY-PQ-1…`. Wiped on drop, never printed.
#[derive(Clone)]
pub struct HybridIdentity {
    secret: Box<PrivateKey>,
    recipient: HybridRecipient,
}

impl HybridIdentity {
    /// Draws a fresh key.
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(seed.as_mut_slice());
        Self::from_seed(&seed)
    }

    /// Takes the 32 secret bytes, from which both keys are expanded (X-Wing), from elsewhere; the caller wipes
    /// its own copy.
    pub fn from_bytes(seed: [u8; 32]) -> Self {
        Self::from_seed(&seed)
    }

    fn from_seed(seed: &[u8; 32]) -> Self {
        let Ok(secret) = PrivateKey::from_bytes(seed) else {
            unreachable!("every 32 bytes are a secret key");
        };
        // A public key that was made from a secret one is sound, and its point is not of low order.
        let recipient = HybridRecipient(Box::new(XWing::sk_to_pk(&secret)));
        Self { secret: Box::new(secret), recipient }
    }

    /// The public half.
    pub fn recipient(&self) -> HybridRecipient {
        self.recipient.clone()
    }

    /// The secret in the form that `age` keeps in its identity files.
    pub fn to_secret_string(&self) -> Zeroizing<String> {
        let mut seed = Zeroizing::new([0; 32]);
        self.secret.write_exact(seed.as_mut_slice());
        bech32::encode_secret(IDENTITY_PREFIX, &seed)
    }
}

impl Identity for HybridIdentity {
    fn unwrap(&self, stanza: &Stanza) -> Result<Option<FileKey>, Error> {
        if stanza.tag != TAG {
            return Ok(None);
        }
        let broken = |reason| Error::BrokenStanza { kind: TAG, reason };
        let [enc] = stanza.args.as_slice() else {
            return Err(broken("it has not exactly one argument"));
        };
        let enc: [u8; ENC_LEN] =
            decode_fixed(enc).ok_or(broken("its share is not 1120 bytes of canonical base64"))?;
        // age: the length is checked first, so that no key can be made to open for several recipients.
        let body: &[u8; WRAPPED_LEN] =
            stanza.body.as_slice().try_into().map_err(|_| broken("its body has not 32 bytes"))?;
        if enc.last_chunk().is_none_or(is_low_order) {
            return Err(broken("its share is a point of low order"));
        }
        let enc = EncappedKey::from_bytes(&enc).map_err(|_| broken("its share is no encapsulated key"))?;

        let Some((wrapped, tag)) = body.split_first_chunk::<{ FileKey::LEN }>() else { return Ok(None) };
        let Ok(tag) = AeadTag::<ChaCha20Poly1305>::from_bytes(tag) else { return Ok(None) };
        let mut plain = Zeroizing::new(*wrapped);
        // A share for somebody else, or a changed one, decapsulates to another secret: not mine.
        let opened = single_shot_open_inout_detached::<ChaCha20Poly1305, HkdfSha256, XWing>(
            &OpModeR::Base,
            &self.secret,
            &enc,
            INFO,
            plain.as_mut_slice().into(),
            b"",
            &tag,
        );
        Ok(opened.is_ok().then(|| FileKey::from_bytes(*plain)))
    }
}

impl fmt::Debug for HybridIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HybridIdentity({:?}, ..)", self.recipient)
    }
}

impl FromStr for HybridIdentity {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        Ok(Self::from_seed(&*bech32::decode_secret(text, IDENTITY_PREFIX)?))
    }
}
