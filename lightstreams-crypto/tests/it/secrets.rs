//! No secret shows where things are printed.

use std::{fmt::Debug, io::Write};

use lightstreams_crypto::{
    AnyIdentity, ArmorWriter, CollectionKey, FileKey, PayloadDecryptor, PayloadEncryptor, PayloadKey,
    PayloadNonce, ScryptIdentity, ScryptRecipient, SshIdentity, X25519Identity, ed25519::SigningKey,
};

use crate::{opened, rng, sealed_for, split};

#[track_caller]
fn hides(value: &dyn Debug, secret: &[u8]) {
    let text = format!("{value:?} {value:#?}");
    assert!(!text.contains(&hex::encode(secret)), "{text}");
    assert!(!text.contains(&format!("{secret:?}")), "{text}");
    assert!(!text.contains(&*String::from_utf8_lossy(secret)), "{text}");
}

#[test]
fn debug_output_shows_no_secret() {
    let secret = [b'S'; 32];
    let short = [b'S'; 16];
    hides(&FileKey::from_bytes(short), &short);
    hides(&CollectionKey::from_bytes(secret), &secret);
    hides(&SigningKey::from_seed(&secret), &secret);
    hides(&ScryptRecipient::new(secret), &secret);
    hides(&ScryptIdentity::new(secret), &secret);
    let identity = X25519Identity::from_bytes(secret);
    hides(&identity, &secret);
    hides(&identity, identity.to_secret_string().as_bytes());
    hides(&SshIdentity::from_seed(&secret), &secret);
    hides(&AnyIdentity::Ssh(SshIdentity::from_seed(&secret)), &secret);
    #[cfg(feature = "hybrid")]
    {
        let identity = lightstreams_crypto::HybridIdentity::from_bytes(secret);
        hides(&identity, &secret);
        hides(&identity, identity.to_secret_string().as_bytes());
    }
    let key = PayloadKey::derive(&FileKey::from_bytes(short), &PayloadNonce::from_bytes([0; 16]));
    hides(&key, &short);
    hides(&PayloadEncryptor::new(key.clone(), &secret[..]), &secret);
    hides(&PayloadDecryptor::new(key, &secret[..]), &secret);
}

#[test]
fn outcomes_that_a_key_had_a_part_in_are_marked() {
    let (alice, bob) = (X25519Identity::generate(&mut rng(1)), X25519Identity::generate(&mut rng(2)));
    let file = sealed_for(&alice, b"text", 3);
    let (header, ..) = split(&file);
    let header_len = header.as_bytes().len();
    let changed = |at: usize| {
        let mut file = file.clone();
        file[at] ^= 1;
        file
    };
    let asked = |file: &[u8]| opened(&[&alice], file).unwrap_err().depends_on_key();
    // Whoever sends changed files and sees these apart learns about the key.
    assert!(opened(&[&bob], &file).unwrap_err().depends_on_key());
    assert!(asked(&changed(header_len - 10)), "header MAC");
    assert!(asked(&changed(header_len + 1)), "payload nonce");
    assert!(asked(&changed(file.len() - 1)), "payload");
    assert!(asked(&file[..file.len() - 1]), "cut");
    assert!(asked(&[&file[..], &[0]].concat()), "longer");
    let mut armor = ArmorWriter::new(Vec::new());
    armor.write_all(&file).unwrap();
    let armored = armor.finish().unwrap();
    assert!(asked(&armored[..armored.len() - 5]), "armor behind a header that opened");
    // And these everybody sees.
    assert!(!opened(&[&bob], &file[..header_len]).unwrap_err().depends_on_key(), "no nonce, no key");
    assert!(!asked(&changed(0)), "not a header");
    assert!(!asked(&file[..header_len]), "no nonce");
    assert!(!asked(b""), "nothing");
}
