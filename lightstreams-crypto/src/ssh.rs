use std::{fmt, str::FromStr};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use ed25519_dalek::{SigningKey, VerifyingKey};
use rand_core::CryptoRng;
use sha2::{Digest, Sha256};
use x25519_dalek::{PublicKey, SharedSecret, StaticSecret};
use zeroize::Zeroizing;

use crate::{
    Error, FileKey, Identity, ParseKeyError, Recipient, Stanza,
    header::decode_fixed,
    key::derive,
    openssh::{self, KIND, WIRE_LEN},
    wrap::{WRAPPED_LEN, unwrap_file_key, wrap_file_key},
    x25519::is_low_order,
};

const INFO: &[u8] = b"age-encryption.org/v1/ssh-ed25519";

/// The public half of an Ed25519 SSH key, written as in `authorized_keys`: `ssh-ed25519 AAAA… comment`.
///
/// ```text
/// wire    = u32 11 | "ssh-ed25519" | u32 32 | Ed25519 key                    51 bytes, RFC 8709
/// u       = the point of that key on the Montgomery curve (RFC 7748 §4.1)
/// tweak   = HKDF("", salt wire, "age-encryption.org/v1/ssh-ed25519")
/// share   = X25519(e, 9) of a one-time secret e
/// key     = HKDF(X25519(tweak, X25519(e, u)), salt share | u, "age-encryption.org/v1/ssh-ed25519")
///
/// -> ssh-ed25519 <first 4 bytes of SHA-256(wire)> <share>                    both in base64
/// <ChaCha20-Poly1305(key, nonce 0, file key)>                                32 bytes
/// ```
///
/// The stanza tells four bytes of whom it is for; those of X25519 and hybrid keys do not. As age says: for keys
/// that exist; new ones are better X25519 or hybrid.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SshRecipient {
    ed25519: [u8; 32],
    /// The same point on the Montgomery curve.
    u: [u8; 32],
}

impl SshRecipient {
    /// Takes an Ed25519 public key, such as that of a node.
    ///
    /// Refuses what is no point, what is a point in a second spelling, and points of low order.
    pub fn from_bytes(ed25519: &[u8; 32]) -> Result<Self, ParseKeyError> {
        let point = VerifyingKey::from_bytes(ed25519).map_err(|_| ParseKeyError::Invalid)?;
        if point.to_edwards().compress().as_bytes() != ed25519 {
            return Err(ParseKeyError::Invalid);
        }
        let u = point.to_montgomery().to_bytes();
        match is_low_order(&u) {
            false => Ok(Self { ed25519: *ed25519, u }),
            true => Err(ParseKeyError::LowOrder),
        }
    }

    /// The Ed25519 public key.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.ed25519
    }

    fn wire(&self) -> [u8; WIRE_LEN] {
        openssh::wire(&self.ed25519)
    }

    fn key_tag(&self) -> String {
        let hash = Sha256::digest(self.wire());
        STANDARD_NO_PAD.encode(hash.get(..4).unwrap_or_default())
    }

    /// `None` if the point that made `shared` is of low order, that is, the secret known to everyone.
    fn wrapping_key(&self, shared: &SharedSecret, share: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
        if !shared.was_contributory() {
            return None;
        }
        let tweak = StaticSecret::from(*derive(b"", &self.wire(), &[INFO]));
        let tweaked = tweak.diffie_hellman(&Zeroizing::new(PublicKey::from(*shared.as_bytes())));
        Some(derive(tweaked.as_bytes(), &[*share, self.u].concat(), &[INFO]))
    }
}

impl Recipient for SshRecipient {
    fn wrap(&self, file_key: &FileKey, rng: &mut dyn CryptoRng) -> Result<Stanza, Error> {
        let ephemeral = StaticSecret::random_from_rng(rng);
        let share = PublicKey::from(&ephemeral).to_bytes();
        let shared = ephemeral.diffie_hellman(&PublicKey::from(self.u));
        let key = self
            .wrapping_key(&shared, &share)
            .ok_or(Error::Unsupported("the recipient is a point of low order"))?;
        Ok(Stanza {
            tag: KIND.into(),
            args: vec![self.key_tag(), STANDARD_NO_PAD.encode(share)],
            body: wrap_file_key(&key, file_key)?,
        })
    }
}

/// Without a comment.
impl fmt::Display for SshRecipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{KIND} {}", STANDARD.encode(self.wire()))
    }
}

impl fmt::Debug for SshRecipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SshRecipient({self})")
    }
}

/// Reads a line of a `.pub` file or of `authorized_keys`, without options in front. The comment may be anything
/// that stays in the line.
impl FromStr for SshRecipient {
    type Err = ParseKeyError;

    fn from_str(line: &str) -> Result<Self, ParseKeyError> {
        let line = line.trim_ascii_end();
        if line.contains(['\n', '\r']) {
            return Err(ParseKeyError::Encoding);
        }
        let mut words = line.split([' ', '\t']);
        match words.next() {
            Some(KIND) => {}
            Some(kind) if is_another_kind(kind) => {
                return Err(ParseKeyError::Unsupported("of SSH keys, only those of Ed25519 are read"));
            }
            _ => return Err(ParseKeyError::Kind { expected: KIND }),
        }
        let wire = words.find(|word| !word.is_empty()).ok_or(ParseKeyError::Length)?;
        let wire = STANDARD.decode(wire).map_err(|_| ParseKeyError::Encoding)?;
        let ed25519 = wire.last_chunk().ok_or(ParseKeyError::Length)?;
        match openssh::wire(ed25519) == *wire {
            true => Self::from_bytes(ed25519),
            false => Err(ParseKeyError::Length),
        }
    }
}

/// The names of the other kinds of keys in OpenSSH, those in hardware and certificates included.
pub(crate) fn is_another_kind(kind: &str) -> bool {
    kind != KIND
        && ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"].iter().any(|start| kind.starts_with(start))
}

/// A secret Ed25519 key, of SSH or of a node. Wiped on drop, never printed.
#[derive(Clone)]
pub struct SshIdentity {
    secret: StaticSecret,
    recipient: SshRecipient,
}

impl SshIdentity {
    /// Makes the identity of the Ed25519 key with this 32-byte seed (RFC 8032), such as a node's; the caller
    /// wipes its own copy.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let key = SigningKey::from_bytes(seed);
        let public = key.verifying_key();
        // A multiple of the base point by a clamped scalar is never of low order.
        let recipient = SshRecipient { ed25519: public.to_bytes(), u: public.to_montgomery().to_bytes() };
        // RFC 8032 §5.1.5: the first half of SHA-512(seed), which X25519 clamps in the same way.
        Self { secret: StaticSecret::from(key.to_scalar_bytes()), recipient }
    }

    /// Reads a private key file of OpenSSH, `-----BEGIN OPENSSH PRIVATE KEY-----`.
    ///
    /// If the file is protected, `passphrase` opens it; else it is not looked at. Without it the answer is
    /// [`ParseKeyError::PassphraseNeeded`]. Keys that are not Ed25519, other ciphers than `aes256-ctr` (what
    /// `ssh-keygen` uses unless told otherwise), and other file formats are
    /// [`Unsupported`](ParseKeyError::Unsupported), with what to do about it.
    pub fn from_openssh(file: &str, passphrase: Option<&[u8]>) -> Result<Self, ParseKeyError> {
        Ok(Self::from_seed(&*openssh::read_seed(file, passphrase)?))
    }

    /// The public half.
    pub fn recipient(&self) -> SshRecipient {
        self.recipient
    }
}

impl Identity for SshIdentity {
    fn unwrap(&self, stanza: &Stanza) -> Result<Option<FileKey>, Error> {
        if stanza.tag != KIND {
            return Ok(None);
        }
        let broken = |reason| Error::BrokenStanza { kind: KIND, reason };
        let [key_tag, share] = stanza.args.as_slice() else {
            return Err(broken("it has not exactly two arguments"));
        };
        let _: [u8; 4] = decode_fixed(key_tag).ok_or(broken("its tag is not 4 bytes of canonical base64"))?;
        let share: [u8; 32] =
            decode_fixed(share).ok_or(broken("its share is not 32 bytes of canonical base64"))?;
        if *key_tag != self.recipient.key_tag() {
            return Ok(None);
        }
        let body: &[u8; WRAPPED_LEN] =
            stanza.body.as_slice().try_into().map_err(|_| broken("its body has not 32 bytes"))?;
        let shared = self.secret.diffie_hellman(&PublicKey::from(share));
        let key = self
            .recipient
            .wrapping_key(&shared, &share)
            .ok_or(broken("its share is a point of low order"))?;
        Ok(unwrap_file_key(&key, body))
    }
}

impl fmt::Debug for SshIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SshIdentity({}, ..)", self.recipient)
    }
}
