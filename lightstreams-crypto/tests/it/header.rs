//! There is one way to write a header, and every other is refused.

use lightstreams_crypto::{Error, FileKey, Header, PayloadNonce, Recipient, X25519Identity, rewrap};
use proptest::prelude::*;

use crate::{opened, rng, sealed_for, split};

const GOOD: &str =
    "age-encryption.org/v1\n-> tag arg\nYm9keQ\n--- AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n";

#[track_caller]
fn refuses(header: &str, reason_part: &str) {
    match Header::parse(header.as_bytes()) {
        Err(Error::MalformedHeader { reason, offset }) => {
            assert!(reason.contains(reason_part), "{reason:?} for {header:?}");
            assert!(offset <= header.len());
        }
        other => panic!("{other:?} for {header:?}"),
    }
}

#[test]
fn a_header_is_read_up_to_its_end() {
    let (header, len) = Header::parse(format!("{GOOD}payload\n-> ").as_bytes()).unwrap();
    assert_eq!(len, GOOD.len());
    assert_eq!(header.as_bytes(), GOOD.as_bytes());
    assert_eq!(header.stanzas()[0].tag, "tag");
    assert_eq!(header.stanzas()[0].args, ["arg"]);
    assert_eq!(header.stanzas()[0].body, b"body");
}

#[test]
fn what_is_not_canonical_is_refused() {
    let with = |from: &str, to: &str| GOOD.replacen(from, to, 1);
    refuses("", "first line");
    refuses(&with("/v1", "/v2"), "first line");
    refuses(&with("age-enc", " age-enc"), "first line");
    refuses(&GOOD.replace('\n', "\r\n"), "first line");
    refuses(&with("tag arg\n", "tag arg\r\n"), "visible ASCII");
    refuses(&with("-> tag", "->tag"), "neither");
    refuses(&with("-> tag", "->  tag"), "visible ASCII");
    refuses(&with("tag arg", "tag arg "), "visible ASCII");
    refuses(&with("tag arg", "tag  arg"), "visible ASCII");
    refuses(&with("tag arg", "tag \u{e4}rg"), "visible ASCII");
    refuses(&with("tag arg", "tag\targ"), "visible ASCII");
    refuses(&with("tag arg", ""), "visible ASCII");
    refuses(&with("Ym9keQ", "Ym9keR"), "canonical base64");
    refuses(&with("Ym9keQ", "Ym9keQ=="), "canonical base64");
    refuses(&with("Ym9keQ", "Ym9ke"), "canonical base64");
    refuses(&with("Ym9keQ", "Ym9k-Q"), "canonical base64");
    refuses(&with("Ym9keQ", &"A".repeat(68)), "longer than 64");
    // A full line is not the last of a body.
    refuses(&with("Ym9keQ", &"A".repeat(64)), "canonical base64");
    refuses(&with("Ym9keQ\n", "Ym9keQ\nYm9keQ\n"), "neither");
    refuses(&with("Ym9keQ\n", ""), "canonical base64");
    refuses(&with("-> tag arg\nYm9keQ\n", ""), "no stanza");
    refuses(&with("--- ", "---"), "MAC");
    refuses(&with("--- ", "---  "), "MAC");
    refuses(&with("--- A", "--- "), "MAC");
    refuses(&with("AAA\n", "AAB\n"), "MAC");
    refuses(&with("AAA\n", "AAA \n"), "MAC");
    refuses(&with("AAA\n", "AAA=\n"), "MAC");
    refuses(&with("-> tag arg", "-> tag arg\n\n-> scrypt a b"), "not alone");
    for len in 0..GOOD.len() {
        assert!(Header::parse(&GOOD.as_bytes()[..len]).is_err(), "{len} bytes of a header");
    }
}

#[test]
fn a_header_that_never_ends_is_given_up_at_its_bound() {
    let endless = format!("age-encryption.org/v1\n-> {}", "a".repeat(Header::LEN_MAX));
    refuses(&endless, "128 KiB");
    let lines = format!("age-encryption.org/v1\n-> a\n{}", format!("{}\n", "A".repeat(64)).repeat(3000));
    refuses(&lines, "128 KiB");
    let stanzas = "-> a\n\n".repeat(Header::STANZAS_MAX + 1);
    refuses(&GOOD.replacen("-> tag arg\nYm9keQ\n", &stanzas, 1), "64 stanzas");
    let stanzas = "-> a\n\n".repeat(Header::STANZAS_MAX);
    Header::parse(GOOD.replacen("-> tag arg\nYm9keQ\n", &stanzas, 1).as_bytes()).unwrap();
}

#[test]
fn a_header_block_is_a_header_and_a_nonce_and_nothing_else() {
    let nonce = PayloadNonce::from_bytes([7; 16]);
    let (header, _) = Header::parse(GOOD.as_bytes()).unwrap();
    let block = header.to_block(&nonce);
    assert_eq!(Header::parse_block(&block).unwrap(), (header, nonce));
    assert!(Header::parse_block(&block[..block.len() - 1]).is_err());
    assert!(Header::parse_block(&[&block[..], b"x"].concat()).is_err());
}

#[test]
fn a_header_changed_in_any_bit_does_not_open() {
    let identity = X25519Identity::generate(&mut rng(1));
    let file = sealed_for(&identity, b"text", 2);
    let (_, len) = Header::parse(&file).unwrap();
    for bit in 0..len * 8 {
        let mut damaged = file.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let outcome = opened(&[&identity], &damaged);
        assert!(
            matches!(
                outcome,
                Err(Error::MalformedHeader { .. }
                    | Error::BrokenStanza { .. }
                    | Error::NoMatchingIdentity
                    | Error::HeaderMac)
            ),
            "bit {bit}: {outcome:?}"
        );
    }
}

#[test]
fn a_stanza_added_or_taken_away_breaks_the_mac() {
    let (alice, bob) = (X25519Identity::generate(&mut rng(3)), X25519Identity::generate(&mut rng(4)));
    let file_key = FileKey::generate(&mut rng(5));
    let both: [&dyn Recipient; 2] = [&alice.recipient(), &bob.recipient()];
    let header = Header::wrap(&file_key, &both, &mut rng(6)).unwrap();
    let text = str::from_utf8(header.as_bytes()).unwrap();
    let second = text.rfind("-> ").unwrap();
    let mac = text.rfind("--- ").unwrap();
    let without = [&text[..second], &text[mac..]].concat();
    let with = [&text[..mac], "-> grease\n\n", &text[mac..]].concat();
    for changed in [without, with] {
        let (changed, _) = Header::parse(changed.as_bytes()).unwrap();
        assert!(matches!(changed.unwrap(&[&alice]), Err(Error::HeaderMac)));
    }
    assert!(header.verify(&file_key).is_ok());
    assert!(matches!(header.verify(&FileKey::generate(&mut rng(7))), Err(Error::HeaderMac)));
}

#[test]
fn rewrap_changes_the_readers_and_not_the_key() {
    let [owner, old, new] = [8, 9, 10].map(|seed| X25519Identity::generate(&mut rng(seed)));
    let file_key = FileKey::generate(&mut rng(11));
    let first: [&dyn Recipient; 2] = [&owner.recipient(), &old.recipient()];
    let header = Header::wrap(&file_key, &first, &mut rng(12)).unwrap();
    let second: [&dyn Recipient; 2] = [&owner.recipient(), &new.recipient()];
    let header = rewrap(&header, &[&owner], &second, &mut rng(13)).unwrap();
    assert_eq!(header.unwrap(&[&new]).unwrap(), file_key);
    assert_eq!(header.unwrap(&[&owner]).unwrap(), file_key);
    assert!(matches!(header.unwrap(&[&old]), Err(Error::NoMatchingIdentity)));
    assert!(matches!(rewrap(&header, &[&old], &second, &mut rng(14)), Err(Error::NoMatchingIdentity)));
}

#[test]
fn a_released_header_has_168_bytes() {
    let reader = X25519Identity::generate(&mut rng(15));
    let header =
        Header::wrap(&FileKey::generate(&mut rng(16)), &[&reader.recipient()], &mut rng(17)).unwrap();
    assert_eq!(header.as_bytes().len(), 168);
}

#[test]
fn a_header_needs_a_recipient_and_has_at_most_64() {
    let file_key = FileKey::generate(&mut rng(18));
    let recipient = X25519Identity::generate(&mut rng(19)).recipient();
    let many = |count| vec![&recipient as &dyn Recipient; count];
    assert!(matches!(Header::wrap(&file_key, &many(0), &mut rng(20)), Err(Error::Unsupported(_))));
    assert!(matches!(Header::wrap(&file_key, &many(65), &mut rng(20)), Err(Error::Unsupported(_))));
    assert_eq!(Header::wrap(&file_key, &many(64), &mut rng(20)).unwrap().stanzas().len(), 64);
}

#[test]
fn reading_a_header_leaves_the_stream_behind_it() {
    let identity = X25519Identity::generate(&mut rng(21));
    let file = sealed_for(&identity, b"text", 22);
    let (header, _, _) = split(&file);
    let mut stream = &file[..];
    assert_eq!(Header::read(&mut stream).unwrap(), header);
    assert_eq!(stream, &file[header.as_bytes().len()..]);
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_read_canonically(
        lines in prop::collection::vec("(-> [!-~]{0,5}( [!-~]{1,3}){0,2}|[A-Za-z0-9+/]{0,66}|--- ?A{41,44}|.{0,9})", 0..8),
        tail in any::<Vec<u8>>(),
    ) {
        let mut bytes = format!("age-encryption.org/v1\n{}\n", lines.join("\n")).into_bytes();
        bytes.extend(tail);
        if let Ok((header, len)) = Header::parse(&bytes) {
            prop_assert_eq!(header.as_bytes(), &bytes[..len]);
        }
    }
}
