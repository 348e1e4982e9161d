//! Private key files of OpenSSH (its `PROTOCOL.key`), as far as they hold one Ed25519 key.
//!
//! ```text
//! "openssh-key-v1" 00
//! string cipher, string kdf, string kdf options      "none" "none" "", or
//!                                                    "aes256-ctr" "bcrypt" (string salt, u32 rounds)
//! u32 1, string public key                           RFC 8709
//! string secret part, encrypted:
//!     u32 check, u32 check                           the same number twice: the passphrase is right
//!     string "ssh-ed25519", string public, string seed | public, string comment
//!     01 02 03 ..                                    up to the block length: 8, or 16 of AES
//! ```
//!
//! A string is its u32 length and its bytes.

use aes::cipher::{KeyIvInit, StreamCipher};
use base64::{Engine, engine::general_purpose::STANDARD};
use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

use crate::{ParseKeyError, ssh::is_another_kind};

pub(crate) const KIND: &str = "ssh-ed25519";
/// Length of a public key on the wire: two strings, the kind and 32 bytes.
pub(crate) const WIRE_LEN: usize = 4 + 11 + 4 + 32;
/// age: length above which a private key file is refused unread.
const LEN_MAX: usize = 16 * 1024;
/// What a file may make us do: about 10 seconds. `ssh-keygen` sets 16 or 24 rounds.
const ROUNDS_MAX: u32 = 1024;

pub(crate) const FIRST_LINE: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const LAST_LINE: &str = "-----END OPENSSH PRIVATE KEY-----";
const MAGIC: &[u8] = b"openssh-key-v1\0";

/// An Ed25519 public key on the wire of SSH.
pub(crate) fn wire(ed25519: &[u8; 32]) -> [u8; WIRE_LEN] {
    let start = [0, 0, 0, 11].into_iter().chain(KIND.bytes()).chain([0, 0, 0, 32]);
    let mut wire = [0; WIRE_LEN];
    for (to, from) in wire.iter_mut().zip(start.chain(*ed25519)) {
        *to = from;
    }
    wire
}

/// Takes the seed out of a private key file.
pub(crate) fn read_seed(file: &str, passphrase: Option<&[u8]>) -> Result<Zeroizing<[u8; 32]>, ParseKeyError> {
    let bytes = dearmor(file)?;
    let mut wire = Wire(bytes.strip_prefix(MAGIC).ok_or(damaged("not version 1"))?);
    let (cipher, kdf, options) = (wire.string()?, wire.string()?, wire.string()?);
    if wire.u32()? != 1 {
        return Err(ParseKeyError::Unsupported("an OpenSSH private key file holds one key"));
    }
    let public = wire.string()?;
    let mut secret = Zeroizing::new(wire.string()?.to_vec());
    if !wire.0.is_empty() {
        return Err(damaged("something follows the key"));
    }
    if let Ok(kind) = str::from_utf8(Wire(public).string()?)
        && is_another_kind(kind)
    {
        return Err(ParseKeyError::Unsupported("of SSH keys, only those of Ed25519 are read"));
    }

    let block = match (cipher, kdf) {
        (b"none", b"none") if options.is_empty() => 8,
        (b"aes256-ctr", b"bcrypt") => {
            decrypt(&mut secret, options, passphrase.ok_or(ParseKeyError::PassphraseNeeded)?)?;
            16
        }
        _ => {
            return Err(ParseKeyError::Unsupported(
                "the cipher of this OpenSSH key is not read: `ssh-keygen -p -Z aes256-ctr -f FILE` changes it",
            ));
        }
    };
    let seed = read_secret(&secret, block, public);
    match (seed, block) {
        // The check number fails on a wrong passphrase, before anything else is looked at.
        (Err(Fault::Check), 16) => Err(ParseKeyError::WrongPassphrase),
        (Err(Fault::Check), _) => Err(damaged("its check numbers differ")),
        (Err(Fault::Other(error)), _) => Err(error),
        (Ok(seed), _) => Ok(seed),
    }
}

enum Fault {
    Check,
    Other(ParseKeyError),
}

impl From<ParseKeyError> for Fault {
    fn from(error: ParseKeyError) -> Self {
        Self::Other(error)
    }
}

fn read_secret(secret: &[u8], block: usize, public: &[u8]) -> Result<Zeroizing<[u8; 32]>, Fault> {
    if !secret.len().is_multiple_of(block) {
        return Err(damaged("its secret part is not whole blocks").into());
    }
    let mut wire = Wire(secret);
    if wire.u32()? != wire.u32()? {
        return Err(Fault::Check);
    }
    let (kind, own_public, pair) = (wire.string()?, wire.string()?, wire.string()?);
    let _comment = wire.string()?;
    if wire.0.len() >= block || wire.0.iter().zip(1u8..).any(|(byte, count)| *byte != count) {
        return Err(damaged("its padding is wrong").into());
    }
    if kind != KIND.as_bytes() {
        return Err(damaged("its secret part is of another kind").into());
    }
    let (seed, pair_public) = pair.split_first_chunk::<32>().ok_or(damaged("its seed is short"))?;
    let seed = Zeroizing::new(*seed);
    // A pair whose halves do not belong together would sign and open for different keys.
    let ed25519 = SigningKey::from_bytes(&seed).verifying_key().to_bytes();
    if own_public != ed25519 || pair_public != ed25519 || public != self::wire(&ed25519) {
        return Err(damaged("its secret and public parts do not belong together").into());
    }
    Ok(seed)
}

fn decrypt(secret: &mut [u8], options: &[u8], passphrase: &[u8]) -> Result<(), ParseKeyError> {
    let mut options = Wire(options);
    let (salt, rounds) = (options.string()?, options.u32()?);
    if salt.is_empty() || rounds == 0 || !options.0.is_empty() {
        return Err(damaged("its key derivation makes no sense"));
    }
    if rounds > ROUNDS_MAX {
        return Err(ParseKeyError::Unsupported(
            "this OpenSSH key asks for more than 1024 rounds: `ssh-keygen -p -a 24 -f FILE` changes it",
        ));
    }
    let mut key_iv = Zeroizing::new([0; 32 + 16]);
    bcrypt_pbkdf::bcrypt_pbkdf(passphrase, salt, rounds, key_iv.as_mut_slice())
        .map_err(|_| ParseKeyError::WrongPassphrase)?;
    if let Some((key, iv)) = key_iv.split_first_chunk::<32>()
        && let Some(iv) = iv.first_chunk::<16>()
    {
        ctr::Ctr128BE::<aes::Aes256>::new(key.into(), iv.into()).apply_keystream(secret);
    }
    Ok(())
}

fn dearmor(file: &str) -> Result<Zeroizing<Vec<u8>>, ParseKeyError> {
    if file.len() > LEN_MAX {
        return Err(damaged("longer than 16 KiB"));
    }
    let mut lines = file.trim_ascii().lines();
    match lines.next().unwrap_or_default() {
        FIRST_LINE => {}
        first if first.starts_with("-----BEGIN ") && first.contains("PRIVATE KEY") => {
            return Err(ParseKeyError::Unsupported(
                "this file format of keys is not read: `ssh-keygen -p -f FILE` makes it one of OpenSSH",
            ));
        }
        _ => return Err(damaged("its first line is missing")),
    }
    let mut text = Zeroizing::new(String::with_capacity(file.len()));
    let mut ended = false;
    for line in lines {
        match (ended, line) {
            (true, _) => return Err(damaged("something follows its last line")),
            (_, LAST_LINE) => ended = true,
            (_, line) => text.push_str(line),
        }
    }
    if !ended {
        return Err(damaged("its last line is missing"));
    }
    // Long enough for the whole, so that no part of the secret is left behind by a move.
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    STANDARD.decode_vec(text.as_bytes(), &mut bytes).map_err(|_| damaged("not canonical base64"))?;
    Ok(bytes)
}

/// What is left to read of a structure of RFC 4251 §5.
struct Wire<'a>(&'a [u8]);

impl<'a> Wire<'a> {
    fn u32(&mut self) -> Result<u32, ParseKeyError> {
        let (number, rest) = self.0.split_first_chunk().ok_or(damaged("truncated"))?;
        self.0 = rest;
        Ok(u32::from_be_bytes(*number))
    }

    fn string(&mut self) -> Result<&'a [u8], ParseKeyError> {
        let len = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        let (string, rest) = self.0.split_at_checked(len).ok_or(damaged("truncated"))?;
        self.0 = rest;
        Ok(string)
    }
}

fn damaged(reason: &'static str) -> ParseKeyError {
    ParseKeyError::OpenSsh(reason)
}
