//! The testkit of the age authors: each file behaves as its `expect` line says.

use std::{fs, io::BufRead};

use lightstreams_crypto::{AnyIdentity, ArmorReader, Error, Identity, ScryptIdentity, decrypt};
use sha2::{Digest, Sha256};

use crate::vectors;

#[test]
fn every_age_vector_behaves_as_its_expect_line_says() {
    let Some(folder) = vectors("age-testkit/testdata") else { return };
    let (mut passed, mut skipped, mut failed) = (0, 0, Vec::new());
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match run(&fs::read(&path).unwrap()) {
            Ok(true) => passed += 1,
            Ok(false) => skipped += 1,
            Err(why) => failed.push(format!("{}: {why}", path.display())),
        }
    }
    println!("age: {passed} passed, {} failed, {skipped} skipped", failed.len());
    assert!(skipped == 0 || cfg!(not(feature = "hybrid")), "only hybrid keys may be missing");
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(passed > 0, "an empty suite");
}

/// `false` if the vector needs what is not compiled in.
fn run(vector: &[u8]) -> Result<bool, String> {
    let end = vector.windows(2).position(|w| w == b"\n\n").expect("an empty line ends the properties");
    let (properties, mut file) = (str::from_utf8(&vector[..end]).unwrap(), vector[end + 2..].to_vec());
    let (mut expect, mut payload, mut armored) = ("", None, false);
    let mut identities: Vec<Box<dyn Identity>> = Vec::new();
    for property in properties.lines() {
        match property.split_once(": ").expect("key: value") {
            ("expect", value) => expect = value,
            ("payload", value) => payload = Some(hex::decode(value).unwrap()),
            ("identity", value) => match value.parse::<AnyIdentity>() {
                Ok(identity) => identities.push(Box::new(identity)),
                Err(_) if cfg!(not(feature = "hybrid")) => return Ok(false),
                Err(error) => return Err(format!("{error:?}")),
            },
            ("passphrase", value) => identities.push(Box::new(ScryptIdentity::new(value))),
            ("armored", value) => armored = value == "yes",
            ("compressed", "zlib") => {
                file = miniz_oxide::inflate::decompress_to_vec_zlib(&file).expect("sound zlib")
            }
            ("file key" | "comment", _) => {}
            (key, _) => panic!("unknown property {key}"),
        }
    }

    let identities: Vec<&dyn Identity> = identities.iter().map(|identity| &**identity).collect();
    if armored {
        // Told that it is armor, and left to find out.
        check(expect, payload.as_deref(), &identities, ArmorReader::new(&file[..]))?;
        let expect =
            if expect == "armor failure" && !looks_armored(&file) { "header failure" } else { expect };
        check(expect, payload.as_deref(), &identities, &file[..])?;
    } else {
        check(expect, payload.as_deref(), &identities, &file[..])?;
    }
    Ok(true)
}

fn looks_armored(file: &[u8]) -> bool {
    file.first().is_some_and(|byte| byte.is_ascii_whitespace() || *byte == b'-')
}

fn check(
    expect: &str,
    payload: Option<&[u8]>,
    identities: &[&dyn Identity],
    file: impl BufRead,
) -> Result<(), String> {
    let mut plaintext = Vec::new();
    let found = match decrypt(identities, file, &mut plaintext) {
        Ok(_) => "success",
        Err(Error::NoMatchingIdentity) => "no match",
        Err(Error::HeaderMac) => "HMAC failure",
        Err(Error::MalformedArmor { .. }) => "armor failure",
        Err(Error::MalformedHeader { .. } | Error::BrokenStanza { .. } | Error::ExcessiveWork { .. }) => {
            "header failure"
        }
        Err(Error::DamagedPayload { .. } | Error::TruncatedPayload { .. } | Error::TrailingData { .. }) => {
            "payload failure"
        }
        Err(error) => return Err(format!("{error:?}")),
    };
    if found != expect {
        return Err(format!("expected {expect}, found {found}"));
    }
    match payload {
        Some(hash) if Sha256::digest(&plaintext)[..] != *hash => {
            Err(format!("{expect}, but other plaintext was given out"))
        }
        _ => Ok(()),
    }
}
