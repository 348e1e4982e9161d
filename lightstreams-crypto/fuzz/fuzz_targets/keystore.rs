//! Keystore files: refused or opened, without more work or memory than promised.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lightstreams_crypto::keystore::decrypt;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    if is_slow(data) {
        return;
    }
    match decrypt(data, b"password") {
        Ok(opened) => {
            let (secret, key) = (opened.secret(), opened.key());
            assert!((1..=32).contains(&secret.len()));
            assert!(key.ends_with(secret) && key[..32 - secret.len()].iter().all(|&byte| byte == 0));
        }
        Err(error) => drop(error.to_string()),
    }
});

/// Whether the file asks for work that is allowed, and would keep the fuzzer from its own.
fn is_slow(data: &[u8]) -> bool {
    let Ok(file) = serde_json::from_slice::<Value>(data) else { return false };
    let crypto = file.get("crypto").or(file.get("Crypto")).unwrap_or(&Value::Null);
    let number = |field: &str| crypto["kdfparams"][field].as_u64().unwrap_or(1);
    let scrypt = number("n").saturating_mul(number("r")).saturating_mul(number("p"));
    (1 << 10..=1 << 23).contains(&scrypt) || (1 << 10..=1 << 24).contains(&number("c"))
}
