//! Whole files, armored or not, against every kind of identity.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use lightstreams_crypto::{
    HybridIdentity, Identity, ScryptIdentity, SshIdentity, X25519Identity, decrypt, rand_core::CryptoRng,
};
use rand::{SeedableRng, rngs::StdRng};

/// The keys of seeds.rs.
static KEYS: LazyLock<(X25519Identity, HybridIdentity, SshIdentity, ScryptIdentity)> = LazyLock::new(|| {
    let rng: &mut dyn CryptoRng = &mut StdRng::seed_from_u64(1);
    (
        X25519Identity::generate(rng),
        HybridIdentity::generate(rng),
        SshIdentity::from_seed(&[3; 32]),
        ScryptIdentity::new("password").with_work_factor_max(4),
    )
});

fuzz_target!(|data: &[u8]| {
    let (x25519, hybrid, ssh, scrypt) = &*KEYS;
    let identities: [&dyn Identity; 4] = [x25519, hybrid, ssh, scrypt];
    let mut plaintext = Vec::new();
    match decrypt(&identities, data, &mut plaintext) {
        Ok(len) => assert_eq!(len, plaintext.len() as u64),
        Err(error) => drop(error.to_string()),
    }
    assert!(plaintext.len() <= data.len());
});
