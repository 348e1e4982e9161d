//! The two things that the libraries take as arguments: the time and randomness.

use std::time::{SystemTime, UNIX_EPOCH};

use rand::CryptoRng;

/// Unix milliseconds by the system's clock; 0 before 1970.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Unix seconds by the system's clock.
pub fn now_s() -> u64 {
    now_ms() / 1000
}

/// Randomness for keys, nonces and salts, seeded by the operating system.
pub fn rng() -> impl CryptoRng {
    rand::rng()
}
