//! Web3 Secret Storage, version 3: an Ethereum key in a JSON file under a password.
//!
//! ```text
//! scrypt(password) --> 32 bytes --[0..16]--> AES-128-CTR --> ciphertext
//!                               --[16..32] ‖ ciphertext --> Keccak-256 --> mac
//! ```
//!
//! Written with scrypt N = 2^18, r = 8, p = 1, as geth does: 256 MiB of memory for the better part of a
//! second. Nothing weaker is written; files with a cheaper derivation, PBKDF2 included, are read and
//! [told](Opened::weakness). Files that ask for more than four times that work, or more than 1 GiB of memory,
//! are refused before any of it is spent. The format is that of
//! [Web3 Secret Storage](https://ethereum.org/developers/docs/data-structures-and-encoding/web3-secret-storage/).

use std::fmt;

use aes::cipher::{KeyIvInit, StreamCipher};
use rand_core::CryptoRng;
use scrypt::Params;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use sha3::{Digest, Keccak256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Length above which a keystore file is refused unread.
pub const LEN_MAX: usize = 16 * 1024;

/// Binary logarithm of the work factor N that [`encrypt`] writes, and the least that anything writes.
pub const WORK_FACTOR: u8 = 18;
/// Binary logarithm of the highest work factor that is written; a file with a higher one would not be read.
pub const WORK_FACTOR_MAX: u8 = 20;

const R: u32 = 8;
const P: u32 = 1;
/// What a file may make us do, in units of 128 bytes: N r p mixed, N r held beside r p held.
const SCRYPT_WORK_MAX: u64 = 1 << 23;
const SCRYPT_MEMORY_MAX: u64 = 1 << 23;
/// r p blocks of 128 bytes come out of PBKDF2 before scrypt starts. Programs write 8 to 128 of them.
const SCRYPT_LANES_MAX: u64 = 1 << 12;
const PBKDF2_ROUNDS_MAX: u32 = 1 << 24;
const SECRET_LEN_MAX: usize = 32;
const SALT_LEN_MAX: usize = 256;

/// Why a keystore file was not opened or not written.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum KeystoreError {
    /// Not the JSON of a keystore.
    #[error("not a keystore file: {0}")]
    Malformed(#[source] serde_json::Error),
    /// A field is there and makes no sense.
    #[error("keystore field {field:?}: {reason}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The password is wrong, or the file was damaged: the format does not tell which.
    #[error("wrong password, or a damaged keystore file")]
    Mac,
}

/// Why a keystore file protects its key less than one that this crate writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weakness {
    /// scrypt with less memory, and so less work for those who guess, than N = 2^18, r = 8.
    Scrypt {
        /// The work parameter N.
        n: u64,
        /// The block size.
        r: u32,
        /// The parallelism.
        p: u32,
    },
    /// PBKDF2, which graphics cards compute fast.
    Pbkdf2 {
        /// Number of rounds.
        rounds: u32,
    },
}

impl fmt::Display for Weakness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scrypt { n, r, p } => {
                write!(f, "the password is protected by weak scrypt parameters (N={n}, r={r}, p={p})")
            }
            Self::Pbkdf2 { rounds } => {
                write!(f, "the password is protected by PBKDF2 ({rounds} rounds) only")
            }
        }
    }
}

/// What was in a keystore file.
pub struct Opened {
    secret: Zeroizing<Vec<u8>>,
    address: Option<[u8; 20]>,
    weakness: Option<Weakness>,
}

impl Opened {
    /// The secret as it was stored, 1 to 32 bytes.
    pub fn secret(&self) -> &[u8] {
        &self.secret
    }

    /// The secret as the 32-byte number that an Ethereum key is.
    pub fn key(&self) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        for (to, from) in key.iter_mut().rev().zip(self.secret.iter().rev()) {
            *to = *from;
        }
        key
    }

    /// The address written beside the secret. The password says nothing about it: compare it with the key's.
    pub fn address(&self) -> Option<[u8; 20]> {
        self.address
    }

    /// How the file falls short of what [`encrypt`] writes; re-encrypt it then.
    pub fn weakness(&self) -> Option<Weakness> {
        self.weakness
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened")
            .field("address", &self.address.map(hex::encode))
            .field("weakness", &self.weakness)
            .finish_non_exhaustive()
    }
}

/// Encrypts a secret key, and returns the text of the file.
///
/// `address` is written beside it for those who look for a key, and is not protected.
pub fn encrypt(
    secret: &[u8; 32],
    address: Option<&[u8; 20]>,
    password: &[u8],
    rng: &mut (impl CryptoRng + ?Sized),
) -> Result<String, KeystoreError> {
    encrypt_unchecked(WORK_FACTOR, secret, address, password, rng)
}

/// [`encrypt`] with a work factor of 2^`log_n`, from [`WORK_FACTOR`] to [`WORK_FACTOR_MAX`].
///
/// Each step doubles the time and the memory that opening the file takes. Anything weaker is refused.
pub fn encrypt_with_work_factor(
    log_n: u8,
    secret: &[u8; 32],
    address: Option<&[u8; 20]>,
    password: &[u8],
    rng: &mut (impl CryptoRng + ?Sized),
) -> Result<String, KeystoreError> {
    match log_n {
        WORK_FACTOR..=WORK_FACTOR_MAX => encrypt_unchecked(log_n, secret, address, password, rng),
        _ => Err(field("n", "not from 2^18 to 2^20, as files are written")),
    }
}

pub(crate) fn encrypt_unchecked(
    log_n: u8,
    secret: &[u8; 32],
    address: Option<&[u8; 20]>,
    password: &[u8],
    rng: &mut (impl CryptoRng + ?Sized),
) -> Result<String, KeystoreError> {
    let (mut salt, mut iv, mut id) = ([0; 32], [0; 16], [0; 16]);
    rng.fill_bytes(&mut salt);
    rng.fill_bytes(&mut iv);
    rng.fill_bytes(&mut id);

    let key = scrypt_key(password, &salt, log_n, R, P)?;
    let mut ciphertext = *secret;
    apply_cipher(&key, &iv, &mut ciphertext);
    let file = File {
        address: address.map(hex::encode),
        crypto: Crypto {
            cipher: "aes-128-ctr".into(),
            cipherparams: CipherParams { iv: hex::encode(iv) },
            ciphertext: hex::encode(ciphertext),
            kdf: Kdf::Scrypt(ScryptParams { dklen: 32, n: 1 << log_n, p: P, r: R, salt: hex::encode(salt) }),
            mac: hex::encode(mac(&key, &ciphertext)),
        },
        id: Some(uuid(id)),
        version: 3,
    };
    serde_json::to_string(&file).map_err(KeystoreError::Malformed)
}

/// Opens a keystore file.
pub fn decrypt(json: &[u8], password: &[u8]) -> Result<Opened, KeystoreError> {
    if json.len() > LEN_MAX {
        return Err(field("the file", "longer than 16 KiB"));
    }
    let file: File = serde_json::from_slice(json).map_err(KeystoreError::Malformed)?;
    if file.version != 3 {
        return Err(field("version", "not 3, the only one that is read"));
    }
    if file.crypto.cipher != "aes-128-ctr" {
        return Err(field("cipher", "not aes-128-ctr"));
    }
    let iv: [u8; 16] =
        unhex("iv", &file.crypto.cipherparams.iv)?.try_into().map_err(|_| field("iv", "not 16 bytes"))?;
    let mut secret = Zeroizing::new(unhex("ciphertext", &file.crypto.ciphertext)?);
    if secret.is_empty() || secret.len() > SECRET_LEN_MAX {
        return Err(field("ciphertext", "not 1 to 32 bytes"));
    }
    let expected = unhex("mac", &file.crypto.mac)?;
    let address = match file.address.as_deref() {
        None | Some("") => None,
        Some(text) => Some(unhex("address", text)?.try_into().map_err(|_| field("address", "not 20 bytes"))?),
    };

    let (key, weakness) = match &file.crypto.kdf {
        Kdf::Scrypt(params) => params.derive(password)?,
        Kdf::Pbkdf2(params) => params.derive(password)?,
    };
    if !bool::from(mac(&key, &secret).as_slice().ct_eq(&expected)) {
        return Err(KeystoreError::Mac);
    }
    apply_cipher(&key, &iv, &mut secret);
    Ok(Opened { secret, address, weakness })
}

type Key = Zeroizing<[u8; 32]>;

#[derive(Serialize, Deserialize)]
struct File {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(alias = "Crypto")]
    crypto: Crypto,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Crypto {
    cipher: String,
    cipherparams: CipherParams,
    ciphertext: String,
    #[serde(flatten)]
    kdf: Kdf,
    mac: String,
}

#[derive(Serialize, Deserialize)]
struct CipherParams {
    iv: String,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kdf", content = "kdfparams", rename_all = "lowercase")]
enum Kdf {
    Scrypt(ScryptParams),
    Pbkdf2(Pbkdf2Params),
}

#[derive(Serialize, Deserialize)]
struct ScryptParams {
    dklen: u32,
    n: u64,
    p: u32,
    r: u32,
    salt: String,
}

#[derive(Serialize, Deserialize)]
struct Pbkdf2Params {
    c: u32,
    dklen: u32,
    prf: String,
    salt: String,
}

impl ScryptParams {
    fn derive(&self, password: &[u8]) -> Result<(Key, Option<Weakness>), KeystoreError> {
        let Self { n, r, p, .. } = *self;
        let salt = check_common(self.dklen, &self.salt)?;
        if !n.is_power_of_two() || n < 2 {
            return Err(field("n", "not a power of two above 1"));
        }
        if r == 0 || p == 0 {
            return Err(field("kdfparams", "r and p are at least 1"));
        }
        let (memory, lanes) = (n.saturating_mul(r.into()), u64::from(r).saturating_mul(p.into()));
        let work = memory.saturating_mul(p.into());
        if memory > SCRYPT_MEMORY_MAX || lanes > SCRYPT_LANES_MAX || work > SCRYPT_WORK_MAX {
            return Err(field("kdfparams", "asks for more work than is allowed"));
        }
        let log_n = u8::try_from(n.trailing_zeros()).map_err(|_| field("n", "too large"))?;
        let key = scrypt_key(password, &salt, log_n, r, p)?;
        // Many cheap lanes cost those who guess little: their machines are wide and short of memory.
        let weak = memory < u64::from(R) << WORK_FACTOR;
        Ok((key, weak.then_some(Weakness::Scrypt { n, r, p })))
    }
}

impl Pbkdf2Params {
    fn derive(&self, password: &[u8]) -> Result<(Key, Option<Weakness>), KeystoreError> {
        let salt = check_common(self.dklen, &self.salt)?;
        if self.prf != "hmac-sha256" {
            return Err(field("prf", "not hmac-sha256"));
        }
        if self.c == 0 || self.c > PBKDF2_ROUNDS_MAX {
            return Err(field("c", "not from 1 to 2^24"));
        }
        let mut key = Zeroizing::new([0; 32]);
        pbkdf2::pbkdf2_hmac::<Sha256>(password, &salt, self.c, key.as_mut_slice());
        Ok((key, Some(Weakness::Pbkdf2 { rounds: self.c })))
    }
}

fn check_common(dklen: u32, salt: &str) -> Result<Vec<u8>, KeystoreError> {
    if dklen != 32 {
        return Err(field("dklen", "not 32"));
    }
    let salt = unhex("salt", salt)?;
    match salt.len() {
        0..=SALT_LEN_MAX => Ok(salt),
        _ => Err(field("salt", "longer than 256 bytes")),
    }
}

fn scrypt_key(password: &[u8], salt: &[u8], log_n: u8, r: u32, p: u32) -> Result<Key, KeystoreError> {
    let refused = || field("kdfparams", "refused by scrypt");
    let params = Params::new(log_n, r, p).map_err(|_| refused())?;
    let mut key = Zeroizing::new([0; 32]);
    scrypt::scrypt(password, salt, &params, key.as_mut_slice()).map_err(|_| refused())?;
    Ok(key)
}

fn apply_cipher(key: &Key, iv: &[u8; 16], data: &mut [u8]) {
    let (cipher_key, _) = halves(key);
    ctr::Ctr128BE::<aes::Aes128>::new(cipher_key.into(), iv.into()).apply_keystream(data);
}

fn mac(key: &Key, ciphertext: &[u8]) -> [u8; 32] {
    let (_, mac_key) = halves(key);
    Keccak256::new().chain_update(mac_key).chain_update(ciphertext).finalize().into()
}

fn halves(key: &[u8; 32]) -> (&[u8; 16], &[u8; 16]) {
    match (key.first_chunk(), key.last_chunk()) {
        (Some(first), Some(last)) => (first, last),
        _ => unreachable!("32 bytes have two halves of 16"),
    }
}

/// The text of a random UUID (RFC 9562, version 4).
fn uuid(bytes: [u8; 16]) -> String {
    let bits = u128::from_be_bytes(bytes);
    let bits = bits & !(0xf << 76) & !(0b11 << 62) | 0x4 << 76 | 0b10 << 62;
    let text = format!("{bits:032x}");
    let part = |from, to| text.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

fn unhex(name: &'static str, text: &str) -> Result<Vec<u8>, KeystoreError> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    hex::decode(digits).map_err(|_| field(name, "not hex"))
}

fn field(field: &'static str, reason: &'static str) -> KeystoreError {
    KeystoreError::Field { field, reason }
}
