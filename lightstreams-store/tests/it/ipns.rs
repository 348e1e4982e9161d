//! A name says what its key signed, while it is valid, and nothing else.

use std::time::Duration;

use lightstreams_store::{
    Codec, Ipld, IpnsEntry, IpnsError, IpnsName, IpnsRecord, MAX_IPNS_RECORD_LEN, testing::Seeded,
};

const SECRET: [u8; 32] = [7; 32];
const NOW: Duration = Duration::new(1_800_000_000, 5);

fn entry() -> IpnsEntry {
    IpnsEntry {
        value: (&b"/ipfs/bafkqaaa"[..]).into(),
        sequence: 3,
        validity: NOW,
        ttl: Duration::from_secs(300),
    }
}

fn record(compatible: bool) -> IpnsRecord {
    IpnsRecord::create(&SECRET, entry(), compatible).unwrap()
}

/// A protobuf field of bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    assert!(bytes.len() < 128);
    [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
}

#[track_caller]
fn refused(bytes: Vec<u8>, expected: &str) {
    let name = *record(false).name();
    let error = IpnsRecord::verify(&name, bytes, NOW).expect_err("it must be refused");
    assert_eq!(error.to_string(), expected);
}

#[test]
fn what_was_signed_verifies_until_it_expires() {
    for compatible in [false, true] {
        let record = record(compatible);
        let again = IpnsRecord::verify(record.name(), record.bytes().clone(), NOW).unwrap();
        assert_eq!((&again, again.entry()), (&record, &entry()));
        match IpnsRecord::verify(record.name(), record.bytes().clone(), NOW + Duration::from_nanos(1)) {
            Err(IpnsError::Expired { validity }) => assert_eq!(validity, "2027-01-15T08:00:00.000000005Z"),
            other => panic!("{other:?}"),
        }
        let other = IpnsName::from_ed25519(&[9; 32]);
        assert!(IpnsRecord::verify(&other, record.bytes().clone(), NOW).is_err());
    }
    let late = IpnsEntry { validity: Duration::from_secs(300_000_000_000), ..entry() };
    assert!(IpnsRecord::create(&SECRET, late, false).is_err());
    let long = IpnsEntry { value: vec![b'x'; MAX_IPNS_RECORD_LEN].into(), ..entry() };
    assert!(matches!(IpnsRecord::create(&SECRET, long, false), Err(IpnsError::TooLong { .. })));
    let leap = IpnsEntry { validity: Duration::from_secs(951_782_400), ..entry() };
    let leap = IpnsRecord::create(&SECRET, leap, true).unwrap();
    assert!(leap.bytes().windows(20).any(|window| window == b"2000-02-29T00:00:00."));
}

#[test]
fn no_bit_of_what_counts_can_be_turned() {
    let v2 = record(false);
    for bit in 0..8 * v2.bytes().len() {
        let mut bytes = v2.bytes().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(IpnsRecord::verify(v2.name(), bytes, NOW).is_err(), "bit {bit}");
    }
    for len in 0..v2.bytes().len() {
        assert!(IpnsRecord::verify(v2.name(), v2.bytes().slice(..len), NOW).is_err(), "{len} bytes");
    }
    // Of a record that old readers read too, only the signature of version 1 does not count.
    let v1 = record(true);
    let signature = 2 + entry().value.len() + 2..2 + entry().value.len() + 2 + 64;
    for at in 0..v1.bytes().len() {
        let mut bytes = v1.bytes().to_vec();
        bytes[at] ^= 0x10;
        let verified = IpnsRecord::verify(v1.name(), bytes, NOW);
        assert_eq!(verified.is_ok(), signature.contains(&at), "byte {at}: {verified:?}");
    }
}

#[test]
fn what_is_around_the_signature_is_checked() {
    let good = record(false).bytes().to_vec();
    let with = |more: &[u8]| [&good, more].concat();
    refused(vec![], "malformed IPNS record: there is no data: version 1 only");
    refused(with(&[0x80]), "malformed IPNS record: a protobuf field is cut off or malformed");
    refused(with(&[0x03]), "malformed IPNS record: a protobuf field is cut off or malformed");
    refused(with(&[0x00, 0x00]), "malformed IPNS record: a protobuf field is cut off or malformed");
    refused(with(&field(9, b"x")), "malformed IPNS record: a field stands twice");
    refused(with(&[0x40, 0]), "malformed IPNS record: a field has the wrong type");
    refused(with(&field(1, b"/ipfs/x")), "field Value of the IPNS record differs from what is signed");
    refused(with(&field(1, &entry().value)), "field Validity of the IPNS record differs from what is signed");
    refused(with(&field(2, &[0; 64])), "field Value of the IPNS record differs from what is signed");
    refused(with(&[0x28, 4]), "field Sequence of the IPNS record differs from what is signed");
    refused(with(&[0x18, 1]), "field ValidityType of the IPNS record differs from what is signed");
    refused(with(&[0x30, 1]), "field TTL of the IPNS record differs from what is signed");
    refused(
        with(&field(7, &[8, 1, 18, 1, 0])),
        "no public key of the name: the one in the record is another",
    );
    refused(
        with(&field(12, &[0; 100]).repeat(100)),
        "the IPNS record has 10400 bytes, more than 10240"
            .replace("10400", &(good.len() + 10_200).to_string())
            .as_str(),
    );
    // Unknown fields, an empty key and fields that agree change nothing.
    let name = *record(false).name();
    for more in [&field(12, b"x")[..], &[0x38 | 2, 0], &[0x28, 3], &[0x65, 1, 2, 3, 4]] {
        assert!(IpnsRecord::verify(&name, with(more), NOW).is_ok(), "{more:?}");
    }
    // Signed nonsense is still nonsense: data under the same key, of other shapes.
    let data = |bytes: &[u8]| Codec::DagCbor.decode(bytes).unwrap();
    let at = good.windows(4).position(|window| window == b"\xa5cTT").unwrap();
    let Ipld::Map(map) = data(&good[at..]) else { panic!() };
    assert_eq!(map.len(), 5);
    assert_eq!(map.get("Value"), Some(&Ipld::Bytes(b"/ipfs/bafkqaaa".to_vec())));
}

#[test]
fn names_have_one_printed_form_and_several_that_are_read() {
    let name = *record(false).name();
    let text = name.to_string();
    assert!(text.starts_with("k51qzi5uqu5d"), "{text}");
    let peer = cid::multibase::Base::Base58Btc.encode(name.to_peer_id());
    assert!(peer.starts_with("12D3KooW"), "{peer}");
    let base32 = name.cid().to_string();
    for form in [&text, &peer, &base32, &text.to_uppercase()] {
        assert_eq!(form.parse(), Ok(name), "{form}");
    }
    assert_eq!(IpnsName::try_from(&name.cid()), Ok(name));
    assert_eq!(name.routing_key(), [b"/ipns/", &name.to_peer_id()[..]].concat());
    let rsa = IpnsName::from_key(&[1; 300]);
    assert_eq!(rsa.to_string().parse(), Ok(rsa));
    let path = format!("/ipns/{text}");
    for wrong in [
        "",
        "1",
        "Qm",
        "k",
        "example.com",
        &path,
        "bafkqaaa",
        "12D3KooW",
        &text[..60],
        &peer[..51],
        &"1".repeat(200),
        "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e",
    ] {
        assert!(wrong.parse::<IpnsName>().is_err(), "{wrong}");
    }
}

#[test]
fn of_two_records_all_choose_the_same() {
    let with = |sequence, seconds| {
        let validity = NOW + Duration::from_secs(seconds);
        IpnsRecord::create(&SECRET, IpnsEntry { sequence, validity, ..entry() }, false).unwrap()
    };
    let (old, long, new) = (with(1, 50), with(1, 60), with(2, 0));
    assert!(long.replaces(&old) && new.replaces(&long) && new.replaces(&old));
    assert!(!old.replaces(&new) && !old.replaces(&old));
    let other = IpnsEntry { value: (&b"/ipfs/x"[..]).into(), ..old.entry().clone() };
    let other = IpnsRecord::create(&SECRET, other, false).unwrap();
    assert_ne!(other.replaces(&old), old.replaces(&other));
    let foreign = IpnsRecord::create(&[8; 32], IpnsEntry { sequence: 9, ..entry() }, false).unwrap();
    assert!(!foreign.replaces(&old));
}

#[test]
fn damaged_records_never_panic() {
    let good = record(true);
    let mut seeded = Seeded::new(4);
    for _ in 0..2000 {
        let mut bytes = good.bytes().to_vec();
        for _ in 0..=seeded.below(4) {
            let at = seeded.below(bytes.len() as u64) as usize;
            bytes[at] = seeded.next_u64() as u8;
        }
        if let Ok(record) = IpnsRecord::verify(good.name(), bytes, NOW) {
            assert_eq!(record.entry(), good.entry());
        }
    }
}
