use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use rand_core::CryptoRng;
use x25519_dalek::{PublicKey, SharedSecret, StaticSecret};
use zeroize::Zeroizing;

use crate::{
    Error, FileKey, Identity, ParseKeyError, Recipient, Stanza, bech32,
    header::decode_fixed,
    key::derive,
    wrap::{WRAPPED_LEN, unwrap_file_key, wrap_file_key},
};

const TAG: &str = "X25519";
const INFO: &[u8] = b"age-encryption.org/v1/X25519";
const RECIPIENT_PREFIX: &str = "age";
const IDENTITY_PREFIX: &str = "AGE-SECRET-KEY-";

/// The public half of an [`X25519Identity`], written `age1…`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct X25519Recipient([u8; 32]);

impl X25519Recipient {
    /// Takes the 32 bytes of a public key, and refuses points of low order.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, ParseKeyError> {
        match is_low_order(&bytes) {
            false => Ok(Self(bytes)),
            true => Err(ParseKeyError::LowOrder),
        }
    }

    /// The 32 bytes of the public key.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Recipient for X25519Recipient {
    fn wrap(&self, file_key: &FileKey, rng: &mut dyn CryptoRng) -> Result<Stanza, Error> {
        let ephemeral = StaticSecret::random_from_rng(rng);
        let share = PublicKey::from(&ephemeral).to_bytes();
        let shared = ephemeral.diffie_hellman(&PublicKey::from(self.0));
        let key = wrapping_key(&shared, &share, self)
            .ok_or(Error::Unsupported("the recipient is a point of low order"))?;
        Ok(Stanza {
            tag: TAG.into(),
            args: vec![STANDARD_NO_PAD.encode(share)],
            body: wrap_file_key(&key, file_key)?,
        })
    }
}

impl fmt::Display for X25519Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bech32::encode_lower(f, RECIPIENT_PREFIX, &self.0)
    }
}

impl fmt::Debug for X25519Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "X25519Recipient({self})")
    }
}

impl FromStr for X25519Recipient {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        Self::from_bytes(*bech32::decode_lower(text, RECIPIENT_PREFIX)?)
    }
}

/// A secret X25519 key, written `AGE-SECRET-KEY-1…`. Wiped on drop, never printed.
#[derive(Clone)]
pub struct X25519Identity {
    secret: StaticSecret,
    recipient: X25519Recipient,
}

impl X25519Identity {
    /// Draws a fresh key.
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        Self::from_secret(StaticSecret::random_from_rng(rng))
    }

    /// Takes the 32 secret bytes from elsewhere; the caller wipes its own copy.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self::from_secret(StaticSecret::from(bytes))
    }

    fn from_secret(secret: StaticSecret) -> Self {
        // A multiple of the base point by a clamped scalar is never of low order.
        let recipient = X25519Recipient(PublicKey::from(&secret).to_bytes());
        Self { secret, recipient }
    }

    /// The public half.
    pub fn recipient(&self) -> X25519Recipient {
        self.recipient
    }

    /// The secret in the form that `age` keeps in its identity files.
    pub fn to_secret_string(&self) -> Zeroizing<String> {
        bech32::encode_secret(IDENTITY_PREFIX, self.secret.as_bytes())
    }
}

impl Identity for X25519Identity {
    fn unwrap(&self, stanza: &Stanza) -> Result<Option<FileKey>, Error> {
        if stanza.tag != TAG {
            return Ok(None);
        }
        let broken = |reason| Error::BrokenStanza { kind: TAG, reason };
        let [share] = stanza.args.as_slice() else {
            return Err(broken("it has not exactly one argument"));
        };
        let share: [u8; 32] =
            decode_fixed(share).ok_or(broken("its share is not 32 bytes of canonical base64"))?;
        // age: the length is checked first, so that no key can be made to open for several recipients.
        let body: &[u8; WRAPPED_LEN] =
            stanza.body.as_slice().try_into().map_err(|_| broken("its body has not 32 bytes"))?;
        let shared = self.secret.diffie_hellman(&PublicKey::from(share));
        let key = wrapping_key(&shared, &share, &self.recipient)
            .ok_or(broken("its share is a point of low order"))?;
        Ok(unwrap_file_key(&key, body))
    }
}

impl fmt::Debug for X25519Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "X25519Identity({}, ..)", self.recipient)
    }
}

impl FromStr for X25519Identity {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        Ok(Self::from_bytes(*bech32::decode_secret(text, IDENTITY_PREFIX)?))
    }
}

/// `None` if the shared secret is all zero, that is, known to everyone.
fn wrapping_key(
    shared: &SharedSecret,
    share: &[u8; 32],
    recipient: &X25519Recipient,
) -> Option<Zeroizing<[u8; 32]>> {
    let salt = [*share, recipient.0].concat();
    shared.was_contributory().then(|| derive(shared.as_bytes(), &salt, &[INFO]))
}

/// Whether every shared secret with this point is zero.
pub(crate) fn is_low_order(point: &[u8; 32]) -> bool {
    // Every clamped secret is a multiple of the cofactor, so that any of them finds a point of low order.
    let probe = StaticSecret::from([1; 32]);
    !probe.diffie_hellman(&PublicKey::from(*point)).was_contributory()
}
