//! Post-quantum recipients: their own kind only, and one spelling of everything.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use lightstreams_crypto::{
    Error, FileKey, Header, HybridIdentity, HybridRecipient, Identity, ParseKeyError, Recipient,
    ScryptRecipient, X25519Identity, encrypt, rewrap,
};

use crate::{opened, recipients::LOW_ORDER, rng};

/// The key pair that the specification prints, shortened to what tells keys apart.
const SPEC_SECRET: &str = "AGE-SECRET-KEY-PQ-1XX76JRALNLXDMEW0CRK45QMCCH4X06SE84UN3VPM33W6HWDX0H3SK3ZQFR";
const SPEC_PUBLIC_START: &str =
    "age1pq1x34nzsvr0rxjsgdn8zgyhfe8j7ceq5r9rdelkjuh3y235jzxshfg87pzf5zrqtzdxz95paef6caq5aapdm";
const SPEC_PUBLIC_END: &str = "55zfnegrm9efhxpfqdkmhh6gjtqmwze9pyyzk3tlhl53k2ykx3qheyty7saeq0d3fzv49zc0k";

fn pair(seed: u64) -> (HybridIdentity, HybridRecipient) {
    let identity = HybridIdentity::generate(&mut rng(seed));
    let recipient = identity.recipient();
    (identity, recipient)
}

#[test]
fn the_key_pair_of_the_specification_is_ours() {
    let identity: HybridIdentity = SPEC_SECRET.parse().unwrap();
    let public = identity.recipient().to_string();
    assert!(public.starts_with(SPEC_PUBLIC_START) && public.ends_with(SPEC_PUBLIC_END), "{public}");
    assert_eq!(public.len(), 1959);
    assert_eq!(*identity.to_secret_string(), SPEC_SECRET);
    assert_eq!(public.parse::<HybridRecipient>().unwrap(), identity.recipient());
}

#[cfg(feature = "testing")]
#[test]
fn hybrid_recipients_keep_their_promises() {
    let (mine, recipient) = pair(1);
    lightstreams_crypto::testing::check_recipient(&recipient, &mine, &pair(2).0, &mut rng(3));
}

#[test]
fn keys_are_read_in_their_one_spelling_only() {
    let (identity, recipient) = pair(4);
    let (secret, public) = (identity.to_secret_string(), recipient.to_string());
    let x25519 = X25519Identity::generate(&mut rng(5));
    let kind = |expected| ParseKeyError::Kind { expected };

    assert_eq!(public.to_uppercase().parse::<HybridRecipient>(), Err(ParseKeyError::Encoding));
    assert_eq!(secret.to_lowercase().parse::<HybridIdentity>().unwrap_err(), ParseKeyError::Encoding);
    assert_eq!(x25519.recipient().to_string().parse::<HybridRecipient>(), Err(kind("age1pq")));
    assert_eq!(x25519.to_secret_string().parse::<HybridIdentity>().unwrap_err(), kind("AGE-SECRET-KEY-PQ-"));
    assert_eq!(public.parse::<lightstreams_crypto::X25519Recipient>(), Err(kind("age")));
    assert_eq!(secret.parse::<X25519Identity>().unwrap_err(), kind("AGE-SECRET-KEY-"));
    assert_eq!(secret.parse::<HybridRecipient>(), Err(kind("age1pq")));
    for at in (0..public.len()).step_by(61) {
        let mut typo = public.clone().into_bytes();
        typo[at] = if typo[at] == b'q' { b'p' } else { b'q' };
        assert!(str::from_utf8(&typo).unwrap().parse::<HybridRecipient>().is_err(), "typo at {at}");
    }
    for text in ["", "age1pq1", "age1pq", &format!("{public} "), &public[..public.len() - 1]] {
        assert!(text.parse::<HybridRecipient>().is_err(), "{text:?}");
    }
}

#[test]
fn bytes_that_are_no_public_key_are_refused() {
    let good = pair(6).1.to_bytes();
    assert_eq!(HybridRecipient::from_bytes(&good).unwrap().to_bytes(), good);

    let mut low_order = good;
    low_order[1184..].fill(0);
    assert_eq!(HybridRecipient::from_bytes(&low_order), Err(ParseKeyError::LowOrder));
    // A coefficient is 12 bits and below 3329: 0xfff is not, anywhere among the first 1152 bytes.
    for at in [0, 3, 600, 1149] {
        let mut not_reduced = good;
        not_reduced[at..at + 3].fill(0xff);
        assert_eq!(HybridRecipient::from_bytes(&not_reduced), Err(ParseKeyError::Invalid), "at {at}");
    }
    let mut reduced = good;
    reduced[..2].copy_from_slice(&(3328u16).to_le_bytes());
    assert!(HybridRecipient::from_bytes(&reduced).is_ok());
    reduced[..2].copy_from_slice(&(3329u16).to_le_bytes());
    assert_eq!(HybridRecipient::from_bytes(&reduced), Err(ParseKeyError::Invalid));
}

#[test]
fn a_stanza_has_the_sizes_of_the_specification_and_no_others() {
    let (mine, recipient) = pair(7);
    let file_key = FileKey::generate(&mut rng(8));
    let good = recipient.wrap(&file_key, &mut rng(9)).unwrap();
    assert_eq!((good.tag.as_str(), good.args.len(), good.body.len()), ("mlkem768x25519", 1, 32));
    assert_eq!(good.args[0].len(), (1120usize * 4).div_ceil(3));

    let mut broken = vec![good.clone(); 7];
    broken[0].args.clear();
    broken[1].args.push("more".into());
    broken[2].args[0].pop();
    broken[3].args[0].push_str("AAAA");
    broken[4].body.pop();
    broken[5].body.push(0);
    // The last character of 1120 bytes carries four bits: another one is not canonical.
    let last = broken[6].args[0].pop().unwrap();
    broken[6].args[0].push(if last == 'B' { 'C' } else { 'B' });
    for stanza in broken {
        let outcome = mine.unwrap(&stanza);
        assert!(matches!(outcome, Err(Error::BrokenStanza { kind: "mlkem768x25519", .. })), "{outcome:?}");
    }

    for point in LOW_ORDER {
        let mut enc = STANDARD_NO_PAD.decode(&good.args[0]).unwrap();
        enc[1088..].copy_from_slice(&hex::decode(point).unwrap());
        let mut stanza = good.clone();
        stanza.args[0] = STANDARD_NO_PAD.encode(enc);
        assert!(matches!(mine.unwrap(&stanza), Err(Error::BrokenStanza { .. })), "{point}");
    }
    // A changed ML-KEM ciphertext decapsulates to another secret (FIPS 203 §6.3).
    let mut other = good.clone();
    other.args[0].replace_range(..4, "AAAA");
    assert!(matches!(mine.unwrap(&other), Ok(None)));
    assert_eq!(mine.unwrap(&good).unwrap().unwrap(), file_key);
}

#[test]
fn hybrid_recipients_do_not_share_a_header_with_others() {
    let (mine, hybrid) = pair(10);
    let classical = X25519Identity::generate(&mut rng(11));
    let file_key = FileKey::generate(&mut rng(12));
    let passphrase = ScryptRecipient::new("x").with_work_factor(1);
    let mixtures: [&[&dyn Recipient]; 4] = [
        &[&hybrid, &classical.recipient()],
        &[&classical.recipient(), &hybrid],
        &[&hybrid, &hybrid, &classical.recipient()],
        &[&hybrid, &passphrase],
    ];
    for recipients in mixtures {
        let outcome = Header::wrap(&file_key, recipients, &mut rng(13));
        assert!(matches!(outcome, Err(Error::Unsupported(_))), "{outcome:?}");
    }
    let one = Header::wrap(&file_key, &[&hybrid], &mut rng(14)).unwrap().as_bytes().len();
    let header = Header::wrap(&file_key, &[&hybrid, &pair(14).1], &mut rng(15)).unwrap();
    assert_eq!(header.as_bytes().len() - one, 1557);
    assert!(rewrap(&header, &[&mine], &[&hybrid, &classical.recipient()], &mut rng(16)).is_err());
    // A rewrap to classical recipients alone is a decision, not a mixture.
    let header = rewrap(&header, &[&mine], &[&classical.recipient()], &mut rng(17)).unwrap();
    assert_eq!(header.unwrap(&[&classical]).unwrap(), file_key);
}

#[test]
fn sixty_four_hybrid_recipients_fit_into_a_header() {
    let (mine, recipient) = pair(18);
    let others = pair(19).1;
    let mut recipients = vec![&others as &dyn Recipient; 63];
    recipients.push(&recipient);
    let mut file = Vec::new();
    encrypt(&recipients, &b"text"[..], &mut file, &mut rng(20)).unwrap();
    assert!(Header::parse(&file).unwrap().1 < Header::LEN_MAX);
    assert_eq!(opened(&[&mine], &file).unwrap(), b"text");
    assert!(matches!(opened(&[&pair(21).0], &file), Err(Error::NoMatchingIdentity)));
}
