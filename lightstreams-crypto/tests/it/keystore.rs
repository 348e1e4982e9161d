//! Web3 v3 keystores: those of others are read, ours are strong, the work is bounded.

use std::fs;

use lightstreams_crypto::keystore::{
    KeystoreError, LEN_MAX, WORK_FACTOR, WORK_FACTOR_MAX, Weakness, decrypt, encrypt,
    encrypt_with_work_factor,
};
use serde_json::{Value, json};
use sha3::{Digest, Keccak256};

use crate::{rng, vectors};

#[test]
fn keystores_of_other_programs_open() {
    let mut opened = 0;
    for folder in ["ethereum-tests/keystore", "go-ethereum/keystore"] {
        let Some(folder) = vectors(folder) else { continue };
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let cases: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            for (name, case) in cases.as_object().unwrap() {
                opened += check(&format!("{} {name}", path.display()), case);
            }
        }
    }
    println!("keystore: {opened} opened");
}

/// Opens a case of version 3; anything else must be refused.
#[track_caller]
fn check(name: &str, case: &Value) -> usize {
    let password = case["password"].as_str().unwrap().as_bytes();
    let outcome = decrypt(case["json"].to_string().as_bytes(), password);
    if case["json"]["version"] != json!(3) {
        assert!(matches!(outcome, Err(KeystoreError::Malformed(_) | KeystoreError::Field { .. })), "{name}");
        return 0;
    }
    let found = outcome.unwrap();
    let secret = hex::decode(case["priv"].as_str().unwrap()).unwrap();
    assert_eq!(found.secret(), secret, "{name}");
    assert_eq!(found.key()[32 - secret.len()..], secret, "{name}");
    let crypto = case["json"].get("crypto").or(case["json"].get("Crypto")).unwrap();
    let (n, r) = (&crypto["kdfparams"]["n"], &crypto["kdfparams"]["r"]);
    let strong = crypto["kdf"] == "scrypt" && n.as_u64().unwrap() * r.as_u64().unwrap() >= 8 << 18;
    assert_eq!(found.weakness().is_none(), strong, "{name}: {:?}", found.weakness());
    let wrong = decrypt(case["json"].to_string().as_bytes(), b"wrong");
    assert!(matches!(wrong, Err(KeystoreError::Mac)), "{name}");
    1
}

#[test]
fn what_we_write_is_strong_and_opens_with_its_password_alone() {
    let json = encrypt(&[7; 32], Some(&[0xab; 20]), b"password", &mut rng(1)).unwrap();
    let fields: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(fields["version"], 3);
    assert_eq!(fields["address"], "ab".repeat(20));
    assert_eq!(fields["crypto"]["cipher"], "aes-128-ctr");
    assert_eq!(fields["crypto"]["kdf"], "scrypt");
    assert_eq!(fields["crypto"]["kdfparams"]["n"], 1 << 18);
    assert_eq!(fields["crypto"]["kdfparams"]["r"], 8);
    assert_eq!(fields["crypto"]["kdfparams"]["p"], 1);
    let id = fields["id"].as_str().unwrap();
    assert!(id.len() == 36 && id.as_bytes()[14] == b'4' && b"89ab".contains(&id.as_bytes()[19]), "{id}");

    let opened = decrypt(json.as_bytes(), b"password").unwrap();
    assert_eq!(
        (opened.secret(), opened.address(), opened.weakness()),
        (&[7; 32][..], Some([0xab; 20]), None)
    );
    assert!(matches!(decrypt(json.as_bytes(), b"Password"), Err(KeystoreError::Mac)));
}

#[test]
fn nothing_weaker_is_written_and_nothing_that_would_not_be_read() {
    for log_n in (0..WORK_FACTOR).chain([WORK_FACTOR_MAX + 1, 63, 64, u8::MAX]) {
        let outcome = encrypt_with_work_factor(log_n, &[7; 32], None, b"password", &mut rng(3));
        assert!(matches!(outcome, Err(KeystoreError::Field { field: "n", .. })), "2^{log_n}");
    }
    let json = encrypt_with_work_factor(WORK_FACTOR + 1, &[7; 32], None, b"password", &mut rng(4)).unwrap();
    let fields: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(fields["crypto"]["kdfparams"]["n"], 1 << 19);
    assert_eq!(fields.get("address"), None);
    let opened = decrypt(json.as_bytes(), b"password").unwrap();
    assert_eq!((opened.secret(), opened.weakness()), (&[7; 32][..], None));
}

#[test]
fn two_files_of_one_key_have_nothing_in_common() {
    let file = |seed| -> Value {
        let json = encrypt(&[7; 32], None, b"password", &mut rng(seed)).unwrap();
        serde_json::from_str(&json).unwrap()
    };
    let (a, b) = (file(5), file(6));
    for pointer in
        ["/id", "/crypto/ciphertext", "/crypto/mac", "/crypto/cipherparams/iv", "/crypto/kdfparams/salt"]
    {
        assert_ne!(a.pointer(pointer), b.pointer(pointer), "{pointer}");
    }
}

#[test]
fn many_cheap_lanes_are_weak_too() {
    let mut file = weak();
    file["crypto"]["kdfparams"] = json!({"dklen": 32, "n": 1024, "r": 8, "p": 256, "salt": "00"});
    // As much work as N = 2^18, in a 256th of the memory. The MAC fails after the derivation.
    assert!(matches!(decrypt(file.to_string().as_bytes(), b"foo"), Err(KeystoreError::Mac)));
    let key = {
        let mut key = [0; 32];
        let params = scrypt::Params::new(10, 8, 256).unwrap();
        scrypt::scrypt(b"foo", &[0], &params, &mut key).unwrap();
        key
    };
    let ciphertext = hex::decode(file["crypto"]["ciphertext"].as_str().unwrap()).unwrap();
    let mac = Keccak256::new().chain_update(&key[16..]).chain_update(&ciphertext).finalize();
    file["crypto"]["mac"] = json!(hex::encode(mac));
    let opened = decrypt(file.to_string().as_bytes(), b"foo").unwrap();
    assert_eq!(opened.weakness(), Some(Weakness::Scrypt { n: 1024, r: 8, p: 256 }));
}

fn weak() -> Value {
    // go-ethereum's "31_byte_key", which takes no time to open.
    json!({
        "crypto": {
            "cipher": "aes-128-ctr",
            "cipherparams": {"iv": "e0c41130a323adc1446fc82f724bca2f"},
            "ciphertext": "9517cd5bdbe69076f9bf5057248c6c050141e970efa36ce53692d5d59a3984",
            "kdf": "scrypt",
            "kdfparams": {
                "dklen": 32, "n": 2, "r": 8, "p": 1,
                "salt": "711f816911c92d649fb4c84b047915679933555030b3552c1212609b38208c63"
            },
            "mac": "d5e116151c6aa71470e67a7d42c9620c75c4d23229847dcc127794f0732b0db5"
        },
        "id": "fecfc4ce-e956-48fd-953b-30f8b52ed66c",
        "version": 3
    })
}

#[test]
fn a_weak_file_is_read_with_a_warning() {
    let opened = decrypt(weak().to_string().as_bytes(), b"foo").unwrap();
    assert_eq!(opened.weakness(), Some(Weakness::Scrypt { n: 2, r: 8, p: 1 }));
    assert_eq!(opened.weakness().unwrap().to_string().matches("N=2").count(), 1);
    assert_eq!(opened.address(), None);
}

#[test]
fn a_field_that_makes_no_sense_is_named() {
    let cases: [(&str, Value, &str); 21] = [
        ("/version", json!(1), "version"),
        ("/crypto/cipher", json!("aes-128-cbc"), "cipher"),
        ("/crypto/cipherparams/iv", json!("00"), "iv"),
        ("/crypto/cipherparams/iv", json!("zz"), "iv"),
        ("/crypto/ciphertext", json!(""), "ciphertext"),
        ("/crypto/ciphertext", json!("00".repeat(33)), "ciphertext"),
        ("/crypto/mac", json!("0"), "mac"),
        ("/crypto/kdfparams/dklen", json!(31), "dklen"),
        ("/crypto/kdfparams/dklen", json!(u32::MAX), "dklen"),
        ("/crypto/kdfparams/n", json!(0), "n"),
        ("/crypto/kdfparams/n", json!(1), "n"),
        ("/crypto/kdfparams/n", json!(3), "n"),
        ("/crypto/kdfparams/n", json!(1u64 << 63), "kdfparams"),
        ("/crypto/kdfparams/n", json!(1u64 << 21), "kdfparams"),
        ("/crypto/kdfparams/r", json!(0), "kdfparams"),
        ("/crypto/kdfparams/r", json!(u32::MAX), "kdfparams"),
        ("/crypto/kdfparams/p", json!(0), "kdfparams"),
        ("/crypto/kdfparams/p", json!(u32::MAX), "kdfparams"),
        // With n = 2 the work is small, and half a gigabyte has to be filled before it.
        ("/crypto/kdfparams/r", json!(1 << 13), "kdfparams"),
        ("/crypto/kdfparams/p", json!(1 << 13), "kdfparams"),
        ("/crypto/kdfparams/salt", json!("00".repeat(257)), "salt"),
    ];
    for (pointer, value, expected) in cases {
        let mut file = weak();
        *file.pointer_mut(pointer).unwrap() = value.clone();
        match decrypt(file.to_string().as_bytes(), b"foo") {
            Err(KeystoreError::Field { field, .. }) => assert_eq!(field, expected, "{pointer} = {value}"),
            other => panic!("{pointer} = {value}: {other:?}"),
        }
    }
    let mut file = weak();
    file["crypto"]["kdf"] = json!("pbkdf2");
    file["crypto"]["kdfparams"] = json!({"dklen": 32, "c": u32::MAX, "prf": "hmac-sha256", "salt": "00"});
    assert!(matches!(
        decrypt(file.to_string().as_bytes(), b"foo"),
        Err(KeystoreError::Field { field: "c", .. })
    ));
    file["crypto"]["kdfparams"] = json!({"dklen": 32, "c": 1, "prf": "hmac-sha1", "salt": "00"});
    assert!(matches!(
        decrypt(file.to_string().as_bytes(), b"foo"),
        Err(KeystoreError::Field { field: "prf", .. })
    ));
}

#[test]
fn what_is_no_keystore_is_refused() {
    let good = weak().to_string();
    for len in 0..good.len() {
        assert!(
            matches!(decrypt(&good.as_bytes()[..len], b"foo"), Err(KeystoreError::Malformed(_))),
            "{len}"
        );
    }
    for text in ["{}", "[]", "null", "3", "\u{0}", &"[".repeat(10_000)] {
        assert!(matches!(decrypt(text.as_bytes(), b"foo"), Err(KeystoreError::Malformed(_))), "{text:.20}");
    }
    let long = format!("{good}{}", " ".repeat(LEN_MAX));
    assert!(matches!(decrypt(long.as_bytes(), b"foo"), Err(KeystoreError::Field { .. })));
}

#[test]
fn damage_to_secret_or_mac_is_found() {
    for pointer in ["/crypto/ciphertext", "/crypto/mac", "/crypto/kdfparams/salt"] {
        let mut file = weak();
        let field = file.pointer_mut(pointer).unwrap();
        let text = field.as_str().unwrap().to_owned();
        let first = if text.starts_with('0') { "1" } else { "0" };
        *field = json!(format!("{first}{}", &text[1..]));
        assert!(matches!(decrypt(file.to_string().as_bytes(), b"foo"), Err(KeystoreError::Mac)), "{pointer}");
    }
}

#[cfg(feature = "testing")]
#[test]
fn the_cheap_keystore_for_tests_opens_and_says_that_it_is_weak() {
    let json = lightstreams_crypto::testing::weak_keystore(&[1; 32], None, b"password", &mut rng(2)).unwrap();
    let opened = decrypt(json.as_bytes(), b"password").unwrap();
    assert_eq!(*opened.key(), [1; 32]);
    assert!(opened.weakness().is_some());
}
