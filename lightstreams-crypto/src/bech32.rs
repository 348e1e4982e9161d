//! Keys as text: Bech32 (BIP 173) without its bound on the length, in one spelling each.

use std::fmt;

use bech32::{
    Checksum, Hrp, encode_lower_to_fmt, encode_upper_to_fmt,
    primitives::{Bech32, decode::CheckedHrpstring},
};
use zeroize::Zeroizing;

use crate::ParseKeyError;

/// age: as BIP 173, but longer, since a hybrid recipient has 1,959 characters.
enum AgeBech32 {}

impl Checksum for AgeBech32 {
    type MidstateRepr = <Bech32 as Checksum>::MidstateRepr;
    const CODE_LENGTH: usize = 4096;
    const CHECKSUM_LENGTH: usize = Bech32::CHECKSUM_LENGTH;
    const GENERATOR_SH: [u32; 5] = Bech32::GENERATOR_SH;
    const TARGET_RESIDUE: u32 = Bech32::TARGET_RESIDUE;
}

pub(crate) fn encode_lower(f: &mut fmt::Formatter<'_>, prefix: &str, key: &[u8]) -> fmt::Result {
    encode_lower_to_fmt::<AgeBech32, _>(f, Hrp::parse_unchecked(prefix), key).map_err(|_| fmt::Error)
}

pub(crate) fn encode_secret(prefix: &str, key: &[u8; 32]) -> Zeroizing<String> {
    // Long enough for the whole, so that no part of the secret is left behind by a move.
    let mut text = Zeroizing::new(String::with_capacity(96));
    if encode_upper_to_fmt::<AgeBech32, _>(&mut *text, Hrp::parse_unchecked(prefix), key).is_err() {
        unreachable!("32 bytes fit into a Bech32 string");
    }
    text
}

/// Reads a public key, in lower case: upper case is the same key to Bech32, and not to age.
pub(crate) fn decode_lower<const N: usize>(
    text: &str,
    prefix: &'static str,
) -> Result<Zeroizing<[u8; N]>, ParseKeyError> {
    let key = decode(text, prefix)?;
    match text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        false => Ok(key),
        true => Err(ParseKeyError::Encoding),
    }
}

/// Reads a secret key, in upper case.
pub(crate) fn decode_secret(text: &str, prefix: &'static str) -> Result<Zeroizing<[u8; 32]>, ParseKeyError> {
    let key = decode(text, prefix)?;
    match *encode_secret(prefix, &key) == text {
        true => Ok(key),
        false => Err(ParseKeyError::Encoding),
    }
}

fn decode<const N: usize>(text: &str, prefix: &'static str) -> Result<Zeroizing<[u8; N]>, ParseKeyError> {
    let checked = CheckedHrpstring::new::<AgeBech32>(text).map_err(|_| ParseKeyError::Encoding)?;
    if checked.hrp() != Hrp::parse_unchecked(prefix) {
        return Err(ParseKeyError::Kind { expected: prefix });
    }
    let mut key = Zeroizing::new([0; N]);
    let mut bytes = checked.byte_iter();
    for to in key.iter_mut() {
        *to = bytes.next().ok_or(ParseKeyError::Length)?;
    }
    match bytes.next() {
        None => Ok(key),
        Some(_) => Err(ParseKeyError::Length),
    }
}
