//! One module for each promise of the crate's front page.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::{path::PathBuf, process::Command};

use lightstreams_crypto::{Error, Header, Identity, X25519Identity, encrypt};
use rand::{SeedableRng, rngs::StdRng};

mod age_command;
mod age_vectors;
mod armor;
mod commitment;
mod header;
#[cfg(feature = "hybrid")]
mod hybrid;
mod javascript;
mod keylist;
mod keystore;
mod payload;
mod rage;
mod recipients;
mod secrets;
mod seek;
mod signatures;
mod ssh;

fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

/// Text without a period that chunks could hide behind.
fn text(len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

fn sealed_for(identity: &X25519Identity, plaintext: &[u8], seed: u64) -> Vec<u8> {
    let mut file = Vec::new();
    encrypt(&[&identity.recipient()], plaintext, &mut file, &mut rng(seed)).unwrap();
    file
}

fn opened(identities: &[&dyn Identity], file: &[u8]) -> Result<Vec<u8>, Error> {
    let mut plaintext = Vec::new();
    lightstreams_crypto::decrypt(identities, file, &mut plaintext)?;
    Ok(plaintext)
}

/// Splits an age file: header, nonce and payload.
fn split(file: &[u8]) -> (Header, &[u8; 16], &[u8]) {
    let (header, len) = Header::parse(file).unwrap();
    let (nonce, payload) = file[len..].split_first_chunk().unwrap();
    (header, nonce, payload)
}

/// A folder of the conformance vectors, or `None` where there are no vectors at hand.
fn vectors(folder: &str) -> Option<PathBuf> {
    let root = std::env::var_os("LIGHTSTREAMS_VECTORS").map(PathBuf::from);
    let root =
        root.unwrap_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors")));
    if !root.is_dir() {
        println!("skipped: no vectors in {}", root.display());
        return None;
    }
    let path = root.join(folder);
    if !path.is_dir() {
        require(&format!("skipped: no {folder} in {}", root.display()));
        return None;
    }
    Some(path)
}

/// Whether a command is installed.
fn tool(name: &str) -> bool {
    let found = Command::new(name).arg("--version").output().is_ok();
    if !found {
        require(&format!("skipped: the command `{name}` is not installed"));
    }
    found
}

/// Says what is missing; fails where nothing may be missing.
fn require(what: &str) {
    assert!(std::env::var("LIGHTSTREAMS_REQUIRE_TOOLS").as_deref() != Ok("1"), "{what}");
    println!("{what}");
}
