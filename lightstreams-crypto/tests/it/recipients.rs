//! Keys and passphrases: mine, mine but broken, not mine.

use lightstreams_crypto::{
    Error, FileKey, Header, Identity, ParseKeyError, Recipient, ScryptIdentity, ScryptRecipient,
    X25519Identity, X25519Recipient, encrypt,
};

use crate::{opened, rng, sealed_for};

/// Seven encodings of points of low order, from RFC 7748's group.
pub(crate) const LOW_ORDER: [&str; 7] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

#[cfg(feature = "testing")]
#[test]
fn both_kinds_of_recipients_keep_their_promises() {
    use lightstreams_crypto::testing::check_recipient;

    let (mine, other) = (X25519Identity::generate(&mut rng(1)), X25519Identity::generate(&mut rng(2)));
    check_recipient(&mine.recipient(), &mine, &other, &mut rng(3));
    let recipient = ScryptRecipient::new("passphrase").with_work_factor(2);
    let (mine, other) = (ScryptIdentity::new("passphrase"), ScryptIdentity::new("Passphrase"));
    check_recipient(&recipient, &mine, &other, &mut rng(4));
}

#[test]
fn points_of_low_order_are_no_recipients() {
    for point in LOW_ORDER {
        let bytes = hex::decode(point).unwrap().try_into().unwrap();
        assert_eq!(X25519Recipient::from_bytes(bytes), Err(ParseKeyError::LowOrder), "{point}");
    }
}

#[test]
fn keys_are_read_in_their_one_spelling_only() {
    let identity = X25519Identity::generate(&mut rng(5));
    let secret = identity.to_secret_string();
    let public = identity.recipient().to_string();
    assert_eq!(secret.parse::<X25519Identity>().unwrap().recipient(), identity.recipient());
    assert_eq!(public.parse::<X25519Recipient>().unwrap(), identity.recipient());
    assert_eq!(X25519Recipient::from_bytes(*identity.recipient().as_bytes()).unwrap(), identity.recipient());

    assert_eq!(public.to_uppercase().parse::<X25519Recipient>(), Err(ParseKeyError::Encoding));
    assert!(secret.to_lowercase().parse::<X25519Identity>().is_err());
    assert_eq!(
        public.parse::<X25519Identity>().unwrap_err(),
        ParseKeyError::Kind { expected: "AGE-SECRET-KEY-" }
    );
    assert_eq!(secret.parse::<X25519Recipient>(), Err(ParseKeyError::Kind { expected: "age" }));
    for at in 0..public.len() {
        let mut typo = public.clone().into_bytes();
        typo[at] = if typo[at] == b'q' { b'p' } else { b'q' };
        assert!(str::from_utf8(&typo).unwrap().parse::<X25519Recipient>().is_err(), "typo at {at}");
    }
    for text in ["", "age1", "age", " age1", &format!("{public} "), &public[..public.len() - 1]] {
        assert!(text.parse::<X25519Recipient>().is_err(), "{text:?}");
    }
}

#[test]
fn keys_of_another_length_are_refused_though_their_checksum_is_right() {
    let spell = |prefix, len| {
        let (prefix, key) = (bech32::Hrp::parse(prefix).unwrap(), vec![9; len]);
        bech32::encode::<bech32::Bech32>(prefix, &key).unwrap()
    };
    for (text, length) in [(spell("age", 32), true), (spell("age", 31), false), (spell("age", 33), false)] {
        let expected = if length { Ok(()) } else { Err(ParseKeyError::Length) };
        assert_eq!(text.parse::<X25519Recipient>().map(|_| ()), expected, "{text}");
    }
    for (len, length) in [(32, true), (0, false), (31, false), (33, false), (64, false)] {
        let expected = if length { Ok(()) } else { Err(ParseKeyError::Length) };
        let text = spell("age-secret-key-", len).to_uppercase();
        assert_eq!(text.parse::<X25519Identity>().map(|_| ()), expected, "{text}");
        #[cfg(feature = "hybrid")]
        {
            use lightstreams_crypto::{HybridIdentity, HybridRecipient};
            let text = spell("age-secret-key-pq-", len).to_uppercase();
            assert_eq!(text.parse::<HybridIdentity>().map(|_| ()), expected, "{text}");
            assert_eq!(spell("age1pq", len).parse::<HybridRecipient>(), Err(ParseKeyError::Length));
        }
    }
    // Bech32m is another checksum.
    let other = bech32::encode::<bech32::Bech32m>(bech32::Hrp::parse("age").unwrap(), &[9; 32]).unwrap();
    assert_eq!(other.parse::<X25519Recipient>(), Err(ParseKeyError::Encoding));
}

#[test]
fn a_wrong_key_is_no_damage() {
    let (mine, other) = (X25519Identity::generate(&mut rng(6)), X25519Identity::generate(&mut rng(7)));
    let file = sealed_for(&mine, b"text", 8);
    assert!(matches!(opened(&[&other], &file), Err(Error::NoMatchingIdentity)));
    assert!(matches!(opened(&[&ScryptIdentity::new("")], &file), Err(Error::NoMatchingIdentity)));
    assert!(matches!(opened(&[], &file), Err(Error::NoMatchingIdentity)));
    assert_eq!(opened(&[&other, &mine], &file).unwrap(), b"text");
}

#[test]
fn a_stanza_of_my_kind_that_breaks_its_rules_condemns_the_header() {
    let mine = X25519Identity::generate(&mut rng(9));
    let file_key = FileKey::generate(&mut rng(10));
    let good = mine.recipient().wrap(&file_key, &mut rng(11)).unwrap();
    let mut broken = vec![good.clone(); 6];
    broken[0].args.clear();
    broken[1].args.push("more".into());
    broken[2].args[0].pop();
    broken[3].args[0].push('A');
    broken[4].body.pop();
    broken[5].body.push(0);
    for stanza in broken {
        let outcome = mine.unwrap(&stanza);
        assert!(matches!(outcome, Err(Error::BrokenStanza { kind: "X25519", .. })), "{stanza:?}");
    }
    for point in LOW_ORDER {
        let mut stanza = good.clone();
        stanza.args[0] = base64(&hex::decode(point).unwrap());
        assert!(matches!(mine.unwrap(&stanza), Err(Error::BrokenStanza { .. })), "{point}");
    }
    assert_eq!(mine.unwrap(&good).unwrap().unwrap(), file_key);
}

#[test]
fn a_passphrase_opens_and_only_the_right_one() {
    let mut file = Vec::new();
    encrypt(&[&ScryptRecipient::new("secret").with_work_factor(4)], &b"text"[..], &mut file, &mut rng(12))
        .unwrap();
    assert_eq!(opened(&[&ScryptIdentity::new("secret")], &file).unwrap(), b"text");
    for wrong in ["", "Secret", "secret "] {
        let outcome = opened(&[&ScryptIdentity::new(wrong)], &file);
        assert!(matches!(outcome, Err(Error::NoMatchingIdentity)));
    }
}

#[test]
fn work_above_the_bound_is_refused_before_it_is_done() {
    let file_key = FileKey::generate(&mut rng(13));
    let recipient = ScryptRecipient::new("secret").with_work_factor(3);
    let mut stanza = recipient.wrap(&file_key, &mut rng(14)).unwrap();
    let strict = ScryptIdentity::new("secret").with_work_factor_max(2);
    assert!(matches!(strict.unwrap(&stanza), Err(Error::ExcessiveWork { log_n: 3, log_n_max: 2 })));
    for log_n in ["21", "63", "64", "255"] {
        stanza.args[1] = log_n.into();
        let outcome = ScryptIdentity::new("secret").unwrap(&stanza);
        assert!(matches!(outcome, Err(Error::ExcessiveWork { log_n_max: 20, .. })), "{log_n}");
    }
    for log_n in ["0", "03", "+3", "-3", "3.", "", "256", "99999999999999999999"] {
        stanza.args[1] = log_n.into();
        let outcome = ScryptIdentity::new("secret").unwrap(&stanza);
        assert!(matches!(outcome, Err(Error::BrokenStanza { kind: "scrypt", .. })), "{log_n}");
    }
}

#[test]
fn a_passphrase_is_the_only_recipient() {
    let key = X25519Identity::generate(&mut rng(15)).recipient();
    let passphrase = ScryptRecipient::new("secret").with_work_factor(1);
    let both: [&dyn Recipient; 2] = [&key, &passphrase];
    let outcome = Header::wrap(&FileKey::generate(&mut rng(16)), &both, &mut rng(17));
    assert!(matches!(outcome, Err(Error::Unsupported(_))));
}

#[test]
fn the_default_work_factor_is_18() {
    let stanza = ScryptRecipient::new("x").wrap(&FileKey::generate(&mut rng(18)), &mut rng(19)).unwrap();
    assert_eq!(stanza.args[1], "18");
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: String = bytes.iter().map(|byte| format!("{byte:08b}")).collect();
    let groups = bits.as_bytes().chunks(6).map(|group| {
        let group = format!("{:0<6}", str::from_utf8(group).unwrap());
        char::from(ALPHABET[usize::from_str_radix(&group, 2).unwrap()])
    });
    groups.collect()
}
