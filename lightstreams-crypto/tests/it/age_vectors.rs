//! The testkit of the age authors: each file behaves as its `expect` line says.

use std::fs;

use lightstreams_crypto::{Error, Identity, ScryptIdentity, X25519Identity, decrypt};
use sha2::{Digest, Sha256};

use crate::vectors;

#[test]
fn every_age_vector_behaves_as_its_expect_line_says() {
    let Some(folder) = vectors("age-testkit/testdata") else { return };
    let (mut passed, mut skipped, mut failed) = (0, 0, Vec::new());
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match run(&fs::read(&path).unwrap()) {
            Outcome::Passed => passed += 1,
            Outcome::Skipped => skipped += 1,
            Outcome::Failed(why) => failed.push(format!("{}: {why}", path.display())),
        }
    }
    println!("age: {passed} passed, {} failed, {skipped} skipped (armor, hybrid)", failed.len());
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(passed > 0, "an empty suite");
}

enum Outcome {
    Passed,
    Skipped,
    Failed(String),
}

fn run(vector: &[u8]) -> Outcome {
    let end = vector.windows(2).position(|w| w == b"\n\n").expect("an empty line ends the properties");
    let (properties, mut file) = (str::from_utf8(&vector[..end]).unwrap(), vector[end + 2..].to_vec());
    let (mut expect, mut payload) = ("", None);
    let mut identities: Vec<Box<dyn Identity>> = Vec::new();
    for property in properties.lines() {
        match property.split_once(": ").expect("key: value") {
            ("expect", value) => expect = value,
            ("payload", value) => payload = Some(hex::decode(value).unwrap()),
            ("identity", value) if value.starts_with("AGE-SECRET-KEY-PQ-") => return Outcome::Skipped,
            ("identity", value) => identities.push(Box::new(value.parse::<X25519Identity>().unwrap())),
            ("passphrase", value) => identities.push(Box::new(ScryptIdentity::new(value))),
            ("armored", _) => return Outcome::Skipped,
            ("compressed", "zlib") => {
                file = miniz_oxide::inflate::decompress_to_vec_zlib(&file).expect("sound zlib")
            }
            ("file key" | "comment", _) => {}
            (key, _) => panic!("unknown property {key}"),
        }
    }

    let identities: Vec<&dyn Identity> = identities.iter().map(|identity| &**identity).collect();
    let mut plaintext = Vec::new();
    let found = match decrypt(&identities, &file[..], &mut plaintext) {
        Ok(_) => "success",
        Err(Error::NoMatchingIdentity) => "no match",
        Err(Error::HeaderMac) => "HMAC failure",
        Err(Error::MalformedHeader { .. } | Error::BrokenStanza { .. } | Error::ExcessiveWork { .. }) => {
            "header failure"
        }
        Err(Error::DamagedPayload { .. } | Error::TruncatedPayload { .. } | Error::TrailingData { .. }) => {
            "payload failure"
        }
        Err(error) => return Outcome::Failed(format!("{error:?}")),
    };
    if found != expect {
        return Outcome::Failed(format!("expected {expect}, found {found}"));
    }
    match payload {
        Some(hash) if Sha256::digest(&plaintext)[..] != hash => {
            Outcome::Failed(format!("{expect}, but other plaintext was given out"))
        }
        _ => Outcome::Passed,
    }
}
