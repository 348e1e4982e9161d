//! Ed25519, strictly.

use std::fs;

use lightstreams_crypto::ed25519::{SignatureError, SigningKey, verify_strict};
use serde_json::Value;

use crate::{rng, vectors};

#[test]
fn the_first_vectors_of_rfc_8032_are_met() {
    for (seed, public, message, signature) in [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
    ] {
        let key = SigningKey::from_seed(&hex::decode(seed).unwrap().try_into().unwrap());
        let message = hex::decode(message).unwrap();
        assert_eq!(hex::encode(key.public()), public);
        assert_eq!(hex::encode(key.sign(&message)), signature);
        verify_strict(&key.public(), &message, &key.sign(&message)).unwrap();
    }
}

#[test]
fn any_flipped_bit_is_refused() {
    let key = SigningKey::generate(&mut rng(1));
    let (public, message, signature) = (key.public(), *b"message", key.sign(b"message"));
    let check = |public: [u8; 32], message: [u8; 7], signature: [u8; 64]| {
        assert_eq!(verify_strict(&public, &message, &signature), Err(SignatureError));
    };
    for bit in 0..256 {
        let mut public = public;
        public[bit / 8] ^= 1 << (bit % 8);
        check(public, message, signature);
    }
    for bit in 0..56 {
        let mut message = message;
        message[bit / 8] ^= 1 << (bit % 8);
        check(public, message, signature);
    }
    for bit in 0..512 {
        let mut signature = signature;
        signature[bit / 8] ^= 1 << (bit % 8);
        check(public, message, signature);
    }
}

#[test]
fn a_key_of_small_order_signs_nothing() {
    // With the neutral element for key and commitment, and s = 0, the equation holds for every message. Its
    // second spelling has y = p + 1, its third the sign of an x that is 0.
    let neutral: [u8; 32] = [1].into_iter().chain([0; 31]).collect::<Vec<_>>().try_into().unwrap();
    let mut unreduced = [0xff; 32];
    (unreduced[0], unreduced[31]) = (0xee, 0x7f);
    let mut signed = neutral;
    signed[31] = 0x80;
    for public in [neutral, unreduced, signed] {
        for commitment in [neutral, unreduced, signed] {
            let signature: [u8; 64] = [commitment, [0; 32]].concat().try_into().unwrap();
            assert_eq!(verify_strict(&public, b"any message", &signature), Err(SignatureError));
        }
    }
    // The same commitment under an honest key.
    let honest = SigningKey::generate(&mut rng(2)).public();
    let signature: [u8; 64] = [neutral, [0; 32]].concat().try_into().unwrap();
    assert_eq!(verify_strict(&honest, b"any message", &signature), Err(SignatureError));
}

#[test]
fn a_scalar_that_is_not_reduced_is_refused() {
    // The order of the group, little-endian: s + order satisfies the equation as s does.
    const ORDER: &str = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";
    let key = SigningKey::generate(&mut rng(3));
    let mut signature = key.sign(b"message");
    verify_strict(&key.public(), b"message", &signature).unwrap();
    let mut carry = 0;
    for (digit, order) in signature[32..].iter_mut().zip(hex::decode(ORDER).unwrap()) {
        let sum = u16::from(*digit) + u16::from(order) + carry;
        (*digit, carry) = (sum as u8, sum >> 8);
    }
    assert_eq!(carry, 0);
    assert_eq!(verify_strict(&key.public(), b"message", &signature), Err(SignatureError));
}

#[test]
fn every_edge_that_verifiers_disagree_about_is_refused() {
    let Some(folder) = vectors("cctv-ed25519") else { return };
    let cases: Value =
        serde_json::from_slice(&fs::read(folder.join("ed25519vectors.json")).unwrap()).unwrap();
    let (mut accepted, mut refused) = (0, 0);
    for case in cases.as_array().unwrap() {
        let bytes = |name: &str| hex::decode(case[name].as_str().unwrap()).unwrap();
        let disputed = case["flags"].as_array().into_iter().flatten().any(|flag| {
            let disputed =
                ["low_order_A", "low_order_R", "non_canonical_A", "non_canonical_R", "low_order_residue"];
            disputed.contains(&flag.as_str().unwrap())
        });
        let outcome = verify_strict(
            &bytes("key").try_into().unwrap(),
            case["msg"].as_str().unwrap().as_bytes(),
            &bytes("sig").try_into().unwrap(),
        );
        assert_eq!(outcome.is_err(), disputed, "{case}");
        if disputed { refused += 1 } else { accepted += 1 }
    }
    println!("ed25519: {accepted} accepted, {refused} refused");
    assert!(accepted > 0 && refused > 0, "an empty suite");
}

#[test]
fn the_wycheproof_list_behaves_as_it_says() {
    let Some(folder) = vectors("wycheproof") else { return };
    let list: Value = serde_json::from_slice(&fs::read(folder.join("ed25519_test.json")).unwrap()).unwrap();
    let mut count = 0;
    for group in list["testGroups"].as_array().unwrap() {
        let public = hex::decode(group["publicKey"]["pk"].as_str().unwrap()).unwrap().try_into().unwrap();
        for case in group["tests"].as_array().unwrap() {
            let bytes = |name: &str| hex::decode(case[name].as_str().unwrap()).unwrap();
            let valid = <[u8; 64]>::try_from(bytes("sig"))
                .is_ok_and(|signature| verify_strict(&public, &bytes("msg"), &signature).is_ok());
            assert_eq!(valid, case["result"] == "valid", "{case}");
            count += 1;
        }
    }
    println!("wycheproof ed25519: {count} passed");
    assert!(count > 0, "an empty suite");
}
