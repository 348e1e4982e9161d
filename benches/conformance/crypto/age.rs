//! The testkit of the age authors: each file behaves as its `expect` line says.

use std::{
    fs,
    io::{self, BufRead},
    path::Path,
};

use lightstreams_crypto::{
    ArmorReader, Error, HybridIdentity, Identity, ScryptIdentity, X25519Identity, decrypt,
};
use sha2::{Digest, Sha256};

use crate::report::{Outcome, Report, Stop, ensure, failed};

pub(crate) fn run(root: &Path, report: &mut Report) {
    for path in report.files(root, "age-testkit/testdata", "") {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        report.case(name, || check(&fs::read(&path).or_else(failed)?));
    }
}

fn check(vector: &[u8]) -> Outcome {
    let Some(end) = vector.windows(2).position(|w| w == b"\n\n") else {
        return failed("no empty line after the properties");
    };
    let (properties, file) = (String::from_utf8_lossy(&vector[..end]), &vector[end + 2..]);
    let mut file = file.to_vec();
    let (mut expect, mut payload, mut armored) = ("", None, false);
    let mut identities: Vec<Box<dyn Identity>> = Vec::new();
    for property in properties.lines() {
        match property.split_once(": ").unwrap_or((property, "")) {
            ("expect", value) => expect = value,
            ("payload", value) => payload = Some(value.to_owned()),
            ("identity", value) if value.starts_with("AGE-SECRET-KEY-PQ-") => {
                identities.push(Box::new(value.parse::<HybridIdentity>().or_else(failed)?))
            }
            ("identity", value) => {
                identities.push(Box::new(value.parse::<X25519Identity>().or_else(failed)?))
            }
            ("passphrase", value) => identities.push(Box::new(ScryptIdentity::new(value))),
            ("armored", value) => armored = value == "yes",
            ("compressed", "zlib") => {
                file = miniz_oxide::inflate::decompress_to_vec_zlib(&file).or_else(failed)?;
            }
            ("file key" | "comment", _) => {}
            // The testkit asks readers to pass over what they do not know.
            _ => return Err(Stop::Skipped("a property that this runner does not know")),
        }
    }

    let identities: Vec<&dyn Identity> = identities.iter().map(|identity| &**identity).collect();
    match armored {
        true => open(expect, payload, &identities, ArmorReader::new(&file[..])),
        false => open(expect, payload, &identities, &file[..]),
    }
}

fn open(expect: &str, payload: Option<String>, identities: &[&dyn Identity], file: impl BufRead) -> Outcome {
    let mut released = Released { hash: Sha256::new(), bytes: 0 };
    let found = match decrypt(identities, file, &mut released) {
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
        Err(error) => return failed(format!("{error:?}")),
    };
    ensure(found == expect, format_args!("expected {expect}, found {found}"))?;
    match payload {
        Some(hash) => ensure(hex::encode(released.hash.finalize()) == hash, "other plaintext was released"),
        None => ensure(released.bytes == 0, "plaintext was released"),
    }
}

/// Hashes the plaintext that is given out, also before a failure.
struct Released {
    hash: Sha256,
    bytes: usize,
}

impl io::Write for Released {
    fn write(&mut self, plaintext: &[u8]) -> io::Result<usize> {
        self.hash.update(plaintext);
        self.bytes += plaintext.len();
        Ok(plaintext.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
