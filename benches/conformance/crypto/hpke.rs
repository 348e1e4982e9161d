//! RFC 9180 set-ups, both sides: the sender with the ephemeral key of the vector, then the receiver.

use std::{convert::Infallible, path::Path};

use hpke::{
    Deserializable, Kem, OpModeR, OpModeS, PskBundle, Serializable,
    aead::{Aead, ChaCha20Poly1305, ExportOnlyAead},
    kdf::HkdfSha256,
    kem::X25519HkdfSha256,
    setup_receiver, setup_sender_with_rng,
};
use lightstreams_crypto::rand_core::{TryCryptoRng, TryRng};
use serde_json::Value;

use crate::report::{Outcome, Report, Stop, bytes, ensure, failed, list, number};

type X25519 = X25519HkdfSha256;

pub(crate) fn run(root: &Path, report: &mut Report) {
    for path in report.files(root, "hpke-rfc9180", ".json") {
        for (index, case) in list(&report.json(&path)).iter().enumerate() {
            let name = format!("{index} ({}, mode {})", case["suite"].as_str().unwrap_or("?"), case["mode"]);
            report.case(name, || {
                match (number(case, "kem_id")?, number(case, "kdf_id")?, number(case, "aead_id")?) {
                    (0x20, 1, 3) => check::<ChaCha20Poly1305>(case),
                    (0x20, 1, 0xffff) => check::<ExportOnlyAead>(case),
                    _ => Err(Stop::Skipped("only X25519, HKDF-SHA256 and ChaCha20-Poly1305 are built")),
                }
            });
        }
    }
}

fn check<A: Aead>(case: &Value) -> Outcome {
    let info = bytes(case, "info")?;
    let (psk, psk_id) = match case.get("psk") {
        Some(_) => (bytes(case, "psk")?, bytes(case, "psk_id")?),
        None => Default::default(),
    };
    let bundle = PskBundle::new(&psk, &psk_id).or_else(failed)?;
    let (to_sender, to_receiver) = match number(case, "mode")? {
        0 => (OpModeS::Base, OpModeR::Base),
        1 => (OpModeS::Psk(bundle), OpModeR::Psk(bundle)),
        2 => (OpModeS::Auth(key_pair(case, "S")?), OpModeR::Auth(key_pair(case, "S")?.1)),
        3 => {
            (OpModeS::AuthPsk(key_pair(case, "S")?, bundle), OpModeR::AuthPsk(key_pair(case, "S")?.1, bundle))
        }
        mode => return failed(format_args!("mode {mode}")),
    };
    let (secret, public) = key_pair(case, "R")?;
    key_pair(case, "E")?;

    let mut ephemeral = Fixed(bytes(case, "ikmE")?);
    let (enc, mut sender) =
        setup_sender_with_rng::<A, HkdfSha256, X25519>(&to_sender, &public, &info, &mut ephemeral)
            .or_else(failed)?;
    ensure(enc.to_bytes()[..] == bytes(case, "enc")?[..], "another encapsulated key")?;
    let mut receiver =
        setup_receiver::<A, HkdfSha256, X25519>(&to_receiver, &secret, &enc, &info).or_else(failed)?;

    let mut sequence = 0;
    for message in list(&case["encryptions"]) {
        let at = number(message, "seq").or_else(|_| number(message, "sequence_number"))?;
        // The vectors leave sequence numbers out; the contexts count all of them.
        while sequence < at {
            let between = sender.seal(b"", b"").or_else(failed)?;
            receiver.open(&between, b"").or_else(failed)?;
            sequence += 1;
        }
        let (pt, aad, ct) = (bytes(message, "pt")?, bytes(message, "aad")?, bytes(message, "ct")?);
        ensure(sender.seal(&pt, &aad).or_else(failed)? == ct, format_args!("seals otherwise at {at}"))?;
        let mut damaged = ct.clone();
        damaged[0] ^= 1;
        ensure(receiver.open(&damaged, &aad).is_err(), format_args!("opens damaged text at {at}"))?;
        ensure(receiver.open(&ct, &aad).or_else(failed)? == pt, format_args!("opens otherwise at {at}"))?;
        sequence += 1;
    }
    for export in list(&case["exports"]) {
        let context = bytes(export, "exporter_context")?;
        let mut value = vec![0; usize::try_from(number(export, "L")?).or_else(failed)?];
        let expected = bytes(export, "exported_value")?;
        sender.export(&context, &mut value).or_else(failed)?;
        ensure(value == expected, "the sender exports another value")?;
        receiver.export(&context, &mut value).or_else(failed)?;
        ensure(value == expected, "the receiver exports another value")?;
    }
    Ok(())
}

type KeyPair = (<X25519 as Kem>::PrivateKey, <X25519 as Kem>::PublicKey);

/// The key pair of party E, R or S, which its keying material has to make too.
fn key_pair(case: &Value, party: &str) -> Result<KeyPair, Stop> {
    let (derived, public) = X25519::derive_keypair(&bytes(case, &format!("ikm{party}"))?);
    ensure(public.to_bytes()[..] == bytes(case, &format!("pk{party}m"))?[..], "derives another public key")?;
    let secret = Deserializable::from_bytes(&bytes(case, &format!("sk{party}m"))?).or_else(failed)?;
    // Secret keys are scalars with bits that do not count: the public keys are compared.
    ensure(X25519::sk_to_pk(&secret) == public, "another public key")?;
    ensure(X25519::sk_to_pk(&derived) == public, "derives another secret key")?;
    Ok((secret, public))
}

/// Gives out the bytes of a vector where the protocol draws random ones.
struct Fixed(Vec<u8>);

impl TryRng for Fixed {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        unreachable!("keys are drawn as bytes")
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        unreachable!("keys are drawn as bytes")
    }

    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), Infallible> {
        to.copy_from_slice(&self.0);
        Ok(())
    }
}

impl TryCryptoRng for Fixed {}
