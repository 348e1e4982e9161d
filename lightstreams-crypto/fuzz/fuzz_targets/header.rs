//! Headers: what parses is canonical, what is written parses, and identities bear any stanza.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use lightstreams_crypto::{
    Error, FileKey, Header, HybridIdentity, Identity, Recipient, ScryptIdentity, SshIdentity, Stanza,
    X25519Identity, rand_core::CryptoRng,
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
    let parsed = Header::parse(data);
    // Reading a byte at a time finds the same.
    let read = Header::read(&mut std::io::BufReader::with_capacity(1, data));
    match (&parsed, &read) {
        (Ok((header, len)), Ok(read)) => {
            assert_eq!(header, read);
            assert_eq!(header.as_bytes(), &data[..*len]);
        }
        (Err(_), Err(_)) => {}
        _ => panic!("{parsed:?} and {read:?}"),
    }

    let (x25519, hybrid, ssh, scrypt) = &*KEYS;
    let identities: [&dyn Identity; 4] = [x25519, hybrid, ssh, scrypt];
    if let Ok((header, _)) = &parsed {
        let _ = header.unwrap(&identities);
        let (again, nonce) = (header.stanzas().to_vec(), [0; 16]);
        let block = [header.as_bytes(), &nonce].concat();
        let (header, _) = Header::parse_block(&block).expect("a header before a nonce");
        assert_eq!(header.stanzas(), again);

        // The same stanzas in a header of our own: whatever parsed can be written.
        let file_key = FileKey::from_bytes([7; 16]);
        let copies: Vec<Copy> = again.into_iter().map(Copy).collect();
        let recipients: Vec<&dyn Recipient> = copies.iter().map(|copy| copy as &dyn Recipient).collect();
        let written = Header::wrap(&file_key, &recipients, &mut StdRng::seed_from_u64(2))
            .expect("what parsed can be written");
        assert_eq!(written.stanzas(), header.stanzas());
        written.verify(&file_key).expect("its own MAC");
        assert_eq!(Header::parse(written.as_bytes()).expect("what is written parses").0, written);
    }
});

/// Somebody else's recipient, which wraps nothing and gives out the stanza it was told to.
struct Copy(Stanza);

impl Recipient for Copy {
    fn wrap(&self, _: &FileKey, _: &mut dyn CryptoRng) -> Result<Stanza, Error> {
        Ok(self.0.clone())
    }
}
