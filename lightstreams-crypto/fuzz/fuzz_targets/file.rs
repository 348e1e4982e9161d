//! Whole files, armored or not, against every kind of identity.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lightstreams_crypto::{
    HybridIdentity, Identity, ScryptIdentity, X25519Identity, decrypt, rand_core::CryptoRng,
};
use rand::{SeedableRng, rngs::StdRng};

fuzz_target!(|data: &[u8]| {
    // The keys of seeds.rs.
    let rng: &mut dyn CryptoRng = &mut StdRng::seed_from_u64(1);
    let (x25519, hybrid) = (X25519Identity::generate(rng), HybridIdentity::generate(rng));
    let scrypt = ScryptIdentity::new("password").with_work_factor_max(4);
    let identities: [&dyn Identity; 3] = [&x25519, &hybrid, &scrypt];
    let mut plaintext = Vec::new();
    match decrypt(&identities, data, &mut plaintext) {
        Ok(len) => assert_eq!(len, plaintext.len() as u64),
        Err(error) => drop(error.to_string()),
    }
    assert!(plaintext.len() <= data.len());
});
