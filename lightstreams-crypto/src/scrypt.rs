use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use rand_core::CryptoRng;
use scrypt::{Params, scrypt};
use zeroize::Zeroizing;

use crate::{
    Error, FileKey, Identity, Recipient, Stanza,
    header::decode_fixed,
    wrap::{WRAPPED_LEN, unwrap_file_key, wrap_file_key},
};

pub(crate) const TAG: &str = "scrypt";
const SALT_LABEL: &[u8] = b"age-encryption.org/v1/scrypt";
const WORK_FACTOR: u8 = 18;
const WORK_FACTOR_MAX: u8 = 20;

/// Wraps a file key under a passphrase. It is the only recipient of its header.
///
/// Uses scrypt with N = 2^18, r = 8, p = 1: 256 MiB of memory for the better part of a second. The
/// passphrase is wiped on drop and never printed.
pub struct ScryptRecipient {
    passphrase: Zeroizing<Vec<u8>>,
    log_n: u8,
}

impl ScryptRecipient {
    /// Takes the passphrase; the caller wipes its own copy.
    pub fn new(passphrase: impl AsRef<[u8]>) -> Self {
        Self { passphrase: Zeroizing::new(passphrase.as_ref().to_vec()), log_n: WORK_FACTOR }
    }

    /// Sets the binary logarithm of the work factor, from 1 to 20. Below the default of 18 is for tests.
    pub fn with_work_factor(mut self, log_n: u8) -> Self {
        self.log_n = log_n.clamp(1, WORK_FACTOR_MAX);
        self
    }
}

impl Recipient for ScryptRecipient {
    fn wrap(&self, file_key: &FileKey, rng: &mut dyn CryptoRng) -> Result<Stanza, Error> {
        let mut salt = [0; 16];
        rng.fill_bytes(&mut salt);
        let key = wrapping_key(&self.passphrase, &salt, self.log_n)?;
        Ok(Stanza {
            tag: TAG.into(),
            args: vec![STANDARD_NO_PAD.encode(salt), self.log_n.to_string()],
            body: wrap_file_key(&key, file_key)?,
        })
    }
}

impl fmt::Debug for ScryptRecipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScryptRecipient(.., 2^{})", self.log_n)
    }
}

/// Unwraps a file key with a passphrase.
///
/// Whoever writes a header chooses how much work opening it costs, so work factors above 2^20 (1 GiB of
/// memory) are refused unless [`with_work_factor_max`](ScryptIdentity::with_work_factor_max) allows them.
pub struct ScryptIdentity {
    passphrase: Zeroizing<Vec<u8>>,
    log_n_max: u8,
}

impl ScryptIdentity {
    /// Takes the passphrase; the caller wipes its own copy.
    pub fn new(passphrase: impl AsRef<[u8]>) -> Self {
        Self { passphrase: Zeroizing::new(passphrase.as_ref().to_vec()), log_n_max: WORK_FACTOR_MAX }
    }

    /// Sets the binary logarithm of the highest work factor that is accepted.
    pub fn with_work_factor_max(mut self, log_n_max: u8) -> Self {
        self.log_n_max = log_n_max;
        self
    }
}

impl Identity for ScryptIdentity {
    fn unwrap(&self, stanza: &Stanza) -> Result<Option<FileKey>, Error> {
        if stanza.tag != TAG {
            return Ok(None);
        }
        let broken = |reason| Error::BrokenStanza { kind: TAG, reason };
        let [salt, log_n] = stanza.args.as_slice() else {
            return Err(broken("it has not exactly two arguments"));
        };
        let salt = decode_fixed(salt).ok_or(broken("its salt is not 16 bytes of canonical base64"))?;
        let log_n = parse_work_factor(log_n).ok_or(broken("its work factor is not a canonical number"))?;
        let body: &[u8; WRAPPED_LEN] =
            stanza.body.as_slice().try_into().map_err(|_| broken("its body has not 32 bytes"))?;
        if log_n > self.log_n_max {
            return Err(Error::ExcessiveWork { log_n, log_n_max: self.log_n_max });
        }
        let key = wrapping_key(&self.passphrase, &salt, log_n)?;
        Ok(unwrap_file_key(&key, body))
    }
}

impl fmt::Debug for ScryptIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScryptIdentity(.., at most 2^{})", self.log_n_max)
    }
}

/// Decimal digits without a sign or leading zeros, and not zero.
fn parse_work_factor(text: &str) -> Option<u8> {
    let canonical = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    canonical.then(|| text.parse().ok()).flatten()
}

fn wrapping_key(passphrase: &[u8], salt: &[u8; 16], log_n: u8) -> Result<Zeroizing<[u8; 32]>, Error> {
    let refused = Error::Unsupported("this machine cannot compute so high a work factor");
    let Ok(params) = Params::new(log_n, 8, 1) else { return Err(refused) };
    let mut key = Zeroizing::new([0; 32]);
    let salt = [SALT_LABEL, salt].concat();
    scrypt(passphrase, &salt, &params, key.as_mut_slice()).map_err(|_| refused)?;
    Ok(key)
}
