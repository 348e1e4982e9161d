//! The texts of keys, and files of them: a key has one spelling.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lightstreams_crypto::{
    HybridIdentity, HybridRecipient, X25519Identity, X25519Recipient, parse_identities, parse_recipients,
};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(key) = text.parse::<X25519Recipient>() {
        assert_eq!(key.to_string(), text);
        assert_eq!(X25519Recipient::from_bytes(*key.as_bytes()), Ok(key));
    }
    if let Ok(key) = text.parse::<X25519Identity>() {
        assert_eq!(*key.to_secret_string(), text);
    }
    if let Ok(key) = text.parse::<HybridRecipient>() {
        assert_eq!(key.to_string(), text);
    }
    if let Ok(key) = text.parse::<HybridIdentity>() {
        assert_eq!(*key.to_secret_string(), text);
    }
    match parse_recipients(text) {
        Ok(list) => {
            let written: Vec<String> = list.iter().map(ToString::to_string).collect();
            if !written.is_empty() {
                assert_eq!(parse_recipients(&written.join("\n")).expect("what is written is read"), list);
            }
        }
        Err(error) => drop(error.to_string()),
    }
    if let Err(error) = parse_identities(text) {
        drop(error.to_string());
    }
});
