//! Project Wycheproof: every list of a primitive that is used here, through the library that is used here.

use std::path::Path;

use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit, XChaCha20Poly1305, aead::Tag};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use lightstreams_crypto::ed25519::verify_strict;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use secp256k1::{Message, PublicKey, Secp256k1, SecretKey, ecdh, ecdsa};
use serde_json::Value;
use sha2::{Digest, Sha256, Sha512};

use crate::report::{Outcome, Report, Stop, bytes, ensure, failed, list, number, text};

/// Runs a case of a group, and tells whether what the case holds was taken for valid.
type Check = fn(group: &Value, case: &Value) -> Result<bool, Stop>;

pub(crate) fn run(root: &Path, report: &mut Report) {
    for path in report.files(root, "wycheproof", ".json") {
        let file = report.json(&path);
        let algorithm = file["algorithm"].as_str().unwrap_or_default();
        let schema = file["schema"].as_str().unwrap_or_default();
        let check = match check_of(algorithm, schema) {
            Some(check) => check,
            None => |_: &Value, _: &Value| Err(Stop::Skipped("no primitive of this list is used")),
        };
        for group in list(&file["testGroups"]) {
            for case in list(&group["tests"]) {
                let name = format!("{algorithm} {}", case["tcId"]);
                report.case(name, || verdict(text(case, "result")?, check(group, case)?));
            }
        }
    }
}

fn verdict(result: &str, valid: bool) -> Outcome {
    match result {
        "valid" => ensure(valid, "valid, and refused"),
        "invalid" => ensure(!valid, "invalid, and accepted"),
        "acceptable" => Ok(()),
        other => failed(format_args!("result {other:?}")),
    }
}

fn check_of(algorithm: &str, schema: &str) -> Option<Check> {
    Some(match algorithm {
        "CHACHA20-POLY1305" => chacha20_poly1305,
        "XCHACHA20-POLY1305" => aead::<XChaCha20Poly1305>,
        "XDH" => x25519,
        "EDDSA" => ed25519,
        "HKDF-SHA-256" => |_, case| {
            hkdf(case, |salt, ikm, info, okm| Hkdf::<Sha256>::new(Some(salt), ikm).expand(info, okm).is_ok())
        },
        "HKDF-SHA-512" => |_, case| {
            hkdf(case, |salt, ikm, info, okm| Hkdf::<Sha512>::new(Some(salt), ikm).expand(info, okm).is_ok())
        },
        "HMACSHA256" => hmac::<Hmac<Sha256>>,
        "HMACSHA512" => hmac::<Hmac<Sha512>>,
        "PBKDF2-HMACSHA256" => pbkdf2,
        "ECDH" => ecdh_secp256k1,
        "ECDSA" if schema.contains("p1363") => {
            |group, case| ecdsa(group, case, ecdsa::Signature::from_compact, true)
        }
        "ECDSA" if schema.contains("bitcoin") => {
            |group, case| ecdsa(group, case, ecdsa::Signature::from_der, false)
        }
        "ECDSA" => |group, case| ecdsa(group, case, ecdsa::Signature::from_der, true),
        _ => return None,
    })
}

/// Payloads go through the one library or, with the feature `ring`, the other: they have to agree.
fn chacha20_poly1305(group: &Value, case: &Value) -> Result<bool, Stop> {
    let opened = aead::<ChaCha20Poly1305>(group, case)?;
    let key = UnboundKey::new(&CHACHA20_POLY1305, &bytes(case, "key")?).or_else(failed)?;
    let mut sealed = [bytes(case, "ct")?, bytes(case, "tag")?].concat();
    let (aad, msg) = (Aad::from(bytes(case, "aad")?), bytes(case, "msg")?);
    let by_ring = Nonce::try_assume_unique_for_key(&bytes(case, "iv")?).is_ok_and(|nonce| {
        LessSafeKey::new(key).open_in_place(nonce, aad, &mut sealed).is_ok_and(|text| *text == *msg)
    });
    ensure(by_ring == opened, format_args!("ring accepts: {by_ring}"))?;
    Ok(opened)
}

fn aead<A: AeadInOut + KeyInit>(_: &Value, case: &Value) -> Result<bool, Stop> {
    let (iv, aad, msg) = (bytes(case, "iv")?, bytes(case, "aad")?, bytes(case, "msg")?);
    let (ct, tag) = (bytes(case, "ct")?, bytes(case, "tag")?);
    let cipher = A::new_from_slice(&bytes(case, "key")?).or_else(failed)?;
    let (Ok(nonce), Ok(tag)) = (iv.as_slice().try_into(), Tag::<A>::try_from(tag.as_slice())) else {
        return Ok(false);
    };
    let mut text = ct.clone();
    let opened = cipher.decrypt_inout_detached(nonce, &aad, text.as_mut_slice().into(), &tag).is_ok();
    if opened {
        ensure(text == msg, "decrypts to another text")?;
        let made = cipher.encrypt_inout_detached(nonce, &aad, text.as_mut_slice().into()).or_else(failed)?;
        ensure(made == tag && text == ct, "encrypts to another text")?;
    }
    Ok(opened)
}

fn x25519(_: &Value, case: &Value) -> Result<bool, Stop> {
    let (Ok(public), Ok(private)) =
        (<[u8; 32]>::try_from(bytes(case, "public")?), <[u8; 32]>::try_from(bytes(case, "private")?))
    else {
        return Ok(false);
    };
    let shared = x25519_dalek::StaticSecret::from(private).diffie_hellman(&public.into());
    ensure(shared.as_bytes()[..] == bytes(case, "shared")?[..], "another shared secret")?;
    Ok(shared.was_contributory())
}

fn ed25519(group: &Value, case: &Value) -> Result<bool, Stop> {
    let (key, signature) = (bytes(&group["publicKey"], "pk")?, bytes(case, "sig")?);
    let (Ok(key), Ok(signature)) = (key.try_into(), signature.try_into()) else { return Ok(false) };
    Ok(verify_strict(&key, &bytes(case, "msg")?, &signature).is_ok())
}

/// `expand` tells whether it fills the whole output.
fn hkdf(case: &Value, expand: impl Fn(&[u8], &[u8], &[u8], &mut [u8]) -> bool) -> Result<bool, Stop> {
    let mut okm = vec![0; usize::try_from(number(case, "size")?).or_else(failed)?];
    let filled = expand(&bytes(case, "salt")?, &bytes(case, "ikm")?, &bytes(case, "info")?, &mut okm);
    Ok(filled && okm == bytes(case, "okm")?)
}

fn hmac<M: Mac + KeyInit>(_: &Value, case: &Value) -> Result<bool, Stop> {
    let mut mac = <M as KeyInit>::new_from_slice(&bytes(case, "key")?).or_else(failed)?;
    mac.update(&bytes(case, "msg")?);
    // Half of the list is about tags that were cut to 128 bits.
    Ok(mac.verify_truncated_left(&bytes(case, "tag")?).is_ok())
}

fn pbkdf2(_: &Value, case: &Value) -> Result<bool, Stop> {
    let rounds = number(case, "iterationCount")?.try_into().or_else(failed)?;
    let mut key = vec![0; usize::try_from(number(case, "dkLen")?).or_else(failed)?];
    pbkdf2::pbkdf2_hmac::<Sha256>(&bytes(case, "password")?, &bytes(case, "salt")?, rounds, &mut key);
    Ok(key == bytes(case, "dk")?)
}

/// libsecp256k1 takes the lower of the two values of s only, as Ethereum does; two of the lists allow both.
fn ecdsa(
    group: &Value,
    case: &Value,
    parse: fn(&[u8]) -> Result<ecdsa::Signature, secp256k1::Error>,
    high_s: bool,
) -> Result<bool, Stop> {
    let key = PublicKey::from_slice(&bytes(&group["publicKey"], "uncompressed")?).or_else(failed)?;
    let Ok(mut signature) = parse(&bytes(case, "sig")?) else { return Ok(false) };
    if high_s {
        signature.normalize_s();
    }
    let message = Message::from_digest(Sha256::digest(bytes(case, "msg")?).into());
    Ok(Secp256k1::verification_only().verify_ecdsa(message, &signature, &key).is_ok())
}

/// The public key stands in the DER of a SubjectPublicKeyInfo; none but the usual forms are read.
fn ecdh_secp256k1(_: &Value, case: &Value) -> Result<bool, Stop> {
    const UNCOMPRESSED: &str = "3056301006072a8648ce3d020106052b8104000a034200";
    const COMPRESSED: &str = "3036301006072a8648ce3d020106052b8104000a032200";
    let der = text(case, "public")?;
    let point =
        der.strip_prefix(UNCOMPRESSED).or(der.strip_prefix(COMPRESSED)).and_then(|hex| hex::decode(hex).ok());
    let Some(Ok(public)) = point.map(|point| PublicKey::from_slice(&point)) else { return Ok(false) };
    // An ASN.1 integer: leading zeros come and go.
    let mut private = [0; 32];
    for (to, from) in private.iter_mut().rev().zip(bytes(case, "private")?.iter().rev()) {
        *to = *from;
    }
    let private = SecretKey::from_byte_array(private).or_else(failed)?;
    Ok(ecdh::shared_secret_point(&public, &private)[..32] == bytes(case, "shared")?[..])
}
