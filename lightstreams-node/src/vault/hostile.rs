//! Hostile bytes, given to every decoder of the vault.

use alloy_primitives::{Address, B256};
use ipld_core::ipld::Ipld;
use lightstreams_acl::ContentId;
use lightstreams_crypto::ed25519::SigningKey;
use lightstreams_crypto::{FileKey, PayloadNonce};
use lightstreams_store::{Block, DAG_CBOR};
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use secp256k1::SecretKey;

use super::wire::{self, Fields};
use super::*;

/// A decoder, as a function from bytes to the bytes it would write for what it read.
type Decoder = fn(&[u8]) -> Option<Vec<u8>>;

fn domain() -> Domain {
    Domain { chain_id: 161, registry: Address::repeat_byte(1) }
}

fn holder() -> SigningKey {
    SigningKey::from_seed(&[3; 32])
}

fn secret() -> SecretKey {
    SecretKey::from_byte_array([5; 32]).unwrap()
}

fn key_request() -> Signed<KeyRequest> {
    let mut signed = Signed {
        domain: domain(),
        msg: KeyRequest {
            content: B256::repeat_byte(2),
            manifest: B256::repeat_byte(3),
            reader: signature::account_of(&secret()),
            recipient: [&[1][..], &[9; 32]].concat(),
            holder: B256::repeat_byte(4),
            not_after: 1_800_000_000,
            nonce: B256::repeat_byte(5),
        },
        sig: Vec::new(),
    };
    signed.sig = signature::sign(&secret(), &signed.digest()).to_vec();
    signed
}

fn delegation() -> Signed<PeerDelegation> {
    let msg = PeerDelegation {
        peer_id: vec![0x12; 38],
        account: signature::account_of(&secret()),
        not_before: 1_800_000_000,
        not_after: 1_800_003_600,
        nonce: B256::repeat_byte(5),
    };
    Signed { domain: domain(), msg, sig: vec![7; 65] }
}

fn receipt() -> Receipt {
    Receipt {
        request: B256::repeat_byte(1),
        content: B256::repeat_byte(2),
        version: 1,
        revision: 0,
        epoch: 0,
        reader: Address::repeat_byte(3),
        header_hash: super::records::sha256(b"header"),
        final_block: BlockPoint { number: 7, hash: B256::repeat_byte(4) },
        head: BlockPoint { number: 9, hash: B256::repeat_byte(5) },
        finality: Finality::Probabilistic,
        at_ms: 1_800_000_000_123,
        merge_delay_s: 86_400,
        salt: [6; 16],
        holder: B256::new(holder().public()),
    }
}

fn release() -> Release {
    let receipt = receipt();
    Release {
        sig: receipt.sign(&holder()),
        receipt,
        header: b"header".to_vec(),
        seeders: vec!["/ip4/127.0.0.1/tcp/4001".into()],
    }
}

fn refusal() -> SignedRefusal {
    Refusal {
        request: Some(B256::repeat_byte(1)),
        code: RefusalCode::NotGranted,
        head: Some(BlockPoint { number: 9, hash: B256::repeat_byte(5) }),
        at_ms: 1_800_000_000_123,
        retry_s: None,
        holder: B256::new(holder().public()),
    }
    .sign(&holder())
}

fn record() -> CustodianRecord {
    CustodianRecord {
        domain: domain(),
        account: Address::repeat_byte(8),
        holder: B256::new(holder().public()),
        recipients: vec![[&[1][..], &[9; 32]].concat()],
        endpoints: vec!["/ip4/127.0.0.1/tcp/4001".into()],
    }
}

fn manifest() -> Manifest {
    let author = signature::account_of(&secret());
    let mut manifest = Manifest {
        size: 5_000_000,
        nonce: [1; 16],
        commitment: [2; 32],
        payload: *Block::raw("p").cid(),
        header: *Block::raw("h").cid(),
        leaf_chunks: 4,
        version: VersionInfo { version: 1, epoch: 0, revision: 0 },
        previous: None,
        place: Place { domain: domain(), content: ContentId(B256::repeat_byte(2)) },
        metadata: vec![3; 296],
        card: Some(*Block::new(DAG_CBOR, "card").cid()),
        author,
        sig: Vec::new(),
    };
    manifest.sig = signature::sign(&secret(), &manifest.signing_hash()).to_vec();
    manifest
}

fn card() -> Card {
    Card {
        title: "A title".into(),
        description: Some("more".into()),
        cover: Some(*Block::raw("c").cid()),
        tags: Some(vec!["a".into(), "b".into()]),
        ..Card::default()
    }
}

fn metadata() -> Metadata {
    Metadata { name: "a.pdf".into(), media_type: "application/pdf".into(), ext: Some(Ipld::Bool(true)) }
}

fn all() -> Vec<(&'static str, Vec<u8>, Decoder)> {
    vec![
        ("key request", ReleaseRequest::from(key_request()).encode(), |b| {
            ReleaseRequest::decode(b).ok().map(|r| r.encode())
        }),
        ("delegation", delegation().encode(), |b| {
            Signed::<PeerDelegation>::decode(b).ok().map(|r| r.encode())
        }),
        ("auth answer", AuthAnswer::Accepted { until: 5 }.encode(), |b| {
            AuthAnswer::decode(b).ok().map(|r| r.encode())
        }),
        ("receipt", receipt().encode(), |b| Receipt::decode(b).ok().map(|r| r.encode())),
        ("release", Answer::Release(release()).encode(), |b| Answer::decode(b).ok().map(|r| r.encode())),
        ("refusal", Answer::Refusal(refusal()).encode(), |b| Answer::decode(b).ok().map(|r| r.encode())),
        ("manifest", manifest().encode(), |b| Manifest::decode(b).ok().map(|r| r.encode())),
        ("card", card().to_block().data().to_vec(), |b| {
            Card::decode(b).ok().map(|r| r.to_block().data().to_vec())
        }),
        ("metadata", metadata().encode(), |b| Metadata::decode(b).ok().map(|r| r.encode())),
    ]
}

#[test]
fn what_is_written_is_read_back_byte_for_byte() {
    for (name, bytes, decode) in all() {
        assert_eq!(decode(&bytes).as_ref(), Some(&bytes), "{name}");
    }
}

#[test]
fn every_field_is_needed_and_no_other_is_known() {
    for (name, bytes, decode) in all() {
        if name == "card" || name == "metadata" || name == "auth answer" {
            continue;
        }
        let value: Ipld = serde_ipld_dagcbor::from_slice(&bytes).unwrap();
        let (map, rest) = match value {
            Ipld::Map(map) => (map, None),
            Ipld::List(items) => match <[Ipld; 2]>::try_from(items).unwrap() {
                [Ipld::Map(map), sig] => (map, Some(sig)),
                _ => panic!("{name} is neither map nor [map, sig]"),
            },
            _ => panic!("{name} is neither map nor [map, sig]"),
        };
        let whole = |map| match &rest {
            None => wire::encode(&Ipld::Map(map)),
            Some(sig) => wire::encode(&Ipld::List(vec![Ipld::Map(map), sig.clone()])),
        };
        for field in map.keys() {
            let mut short = map.clone();
            short.remove(field);
            assert_eq!(decode(&whole(short)), None, "{name} without {field}");
            let mut wrong = map.clone();
            wrong.insert(field.clone(), Ipld::Float(1.5));
            assert_eq!(decode(&whole(wrong)), None, "{name} with a float as {field}");
        }
        let mut long = map.clone();
        long.insert("zz".into(), Ipld::Null);
        assert_eq!(decode(&whole(long)), None, "{name} with a field more");
    }
}

#[test]
fn only_the_canonical_form_is_read() {
    // {"until": 5} with the integer in two bytes, with an indefinite map, with the key twice.
    let good = AuthAnswer::Accepted { until: 5 }.encode();
    assert_eq!(good, b"\xa1\x65until\x05");
    for bad in [
        &b"\xa1\x65until\x18\x05"[..],
        b"\xbf\x65until\x05\xff",
        b"\xa2\x65until\x05\x65until\x05",
        b"\xb8\x01\x65until\x05",
        b"\xa1\x65until\x05\x00",
        b"\xa1\x65until\x25",
        b"\xa1\x65until\x1b\xff\xff\xff\xff\xff\xff\xff",
    ] {
        assert!(AuthAnswer::decode(bad).is_err(), "{bad:02x?}");
    }
}

#[test]
fn lengths_that_lie_and_nests_that_go_deep_cost_nothing() {
    for bytes in [
        b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(),
        b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff".to_vec(),
        b"\xbb\x7f\xff\xff\xff\xff\xff\xff\xff".to_vec(),
        vec![0x81; 16 * 1024],
        [[0xa1, 0x61, b'a'].repeat(5000), vec![0]].concat(),
    ] {
        for (name, _, decode) in all() {
            assert_eq!(decode(&bytes), None, "{name}");
        }
    }
}

#[test]
fn manifests_of_another_form_name_the_field() {
    let check = |change: fn(&mut std::collections::BTreeMap<String, Ipld>), field: &str| {
        let Ipld::Map(mut map) = serde_ipld_dagcbor::from_slice(&manifest().encode()).unwrap() else {
            panic!("a manifest is a map")
        };
        change(&mut map);
        let error = Manifest::decode(&wire::encode(&Ipld::Map(map))).unwrap_err();
        assert!(error.to_string().contains(&format!("`{field}`")), "{error}");
    };
    check(|m| drop(m.insert("v".into(), Ipld::Integer(2))), "v");
    check(|m| drop(m.insert("cus".into(), Ipld::Integer(0))), "cus");
    check(|m| drop(m.insert("k".into(), Ipld::Integer(3))), "k");
    check(|m| drop(m.insert("ver".into(), Ipld::Integer(0))), "ver");
    check(|m| drop(m.insert("ver".into(), Ipld::Integer(1 << 32))), "ver");
    check(|m| drop(m.insert("n".into(), Ipld::Bytes(vec![0; 15]))), "n");
    check(|m| drop(m.insert("kc".into(), Ipld::Bytes(vec![0; 33]))), "kc");
    check(|m| drop(m.insert("h".into(), Ipld::Link(*Block::new(DAG_CBOR, "x").cid()))), "h");
    check(|m| drop(m.insert("p".into(), Ipld::Link(*Block::new(DAG_CBOR, "x").cid()))), "p");
    check(|m| drop(m.insert("prev".into(), Ipld::Link(*Block::raw("x").cid()))), "prev");
    check(|m| drop(m.insert("acl".into(), Ipld::List(vec![Ipld::Integer(161)]))), "acl");
    check(|m| drop(m.insert("by".into(), Ipld::Bytes(vec![0; 32]))), "by");
    check(|m| drop(m.remove("pub")), "pub");
    check(|m| drop(m.insert("extra".into(), Ipld::Null)), "extra");
}

#[test]
fn a_manifest_longer_than_64_kib_is_refused() {
    let long = Manifest { metadata: vec![0; 64 * 1024], ..manifest() };
    assert!(matches!(Manifest::decode(&long.encode()), Err(WireError::TooLong { .. })));
}

#[test]
fn a_manifest_is_believed_only_from_its_author_and_for_its_place() {
    let m = manifest();
    m.verify_author(m.author, false).unwrap();
    assert!(matches!(m.verify_author(Address::ZERO, true), Err(ManifestError::Author { .. })));
    let forged = Manifest { size: 6, ..m.clone() };
    assert!(matches!(forged.verify_author(m.author, false), Err(ManifestError::Signature { .. })));
    // A contract's key may have changed since; the record on chain stands.
    forged.verify_author(m.author, true).unwrap();

    m.verify_place(&m.place, &m.version).unwrap();
    let elsewhere = Place { content: ContentId(B256::ZERO), ..m.place };
    assert_eq!(m.verify_place(&elsewhere, &m.version), Err(ManifestError::Elsewhere));
    let later = VersionInfo { revision: 1, ..m.version };
    assert!(matches!(m.verify_place(&m.place, &later), Err(ManifestError::Version { .. })));
    assert_eq!(Manifest::cid_of(&m.digest()), *m.to_block().cid());
}

#[test]
fn the_commitment_context_is_the_place_of_the_version() {
    let place = Place { domain: domain(), content: ContentId(B256::repeat_byte(0xcc)) };
    let mut expected = [0u8; 92];
    expected[31] = 161;
    expected[32..52].fill(1);
    expected[52..84].fill(0xcc);
    expected[87] = 3;
    expected[91] = 2;
    assert_eq!(place.ctx(3, 2), expected);
}

#[test]
fn metadata_opens_only_for_its_version() {
    let mut rng = StdRng::seed_from_u64(3);
    let (key, mut m) = (FileKey::generate(&mut rng), manifest());
    let nonce = PayloadNonce::from_bytes(m.nonce);
    m.metadata = metadata().seal(&key, &nonce, &m.place.content, 1, &mut rng).unwrap();
    assert_eq!(Metadata::open(&m, &key), Ok(metadata()));
    m.version.version = 2;
    assert_eq!(Metadata::open(&m, &key), Err(MetadataError::Decrypt));
    let long = Metadata { name: "n".repeat(40_000), ..metadata() };
    assert!(matches!(
        long.seal(&key, &nonce, &m.place.content, 1, &mut rng),
        Err(MetadataError::TooLong { .. })
    ));
}

#[test]
fn a_custodian_record_is_believed_only_by_its_holder_for_its_account() {
    let (record, account) = (record(), Address::repeat_byte(8));
    let bytes = record.sign(&holder());
    assert_eq!(CustodianRecord::verified(&bytes, &domain(), account), Ok(record.clone()));
    assert_eq!(
        CustodianRecord::verified(&record.sign(&SigningKey::from_seed(&[4; 32])), &domain(), account),
        Err(RecordError::Signature)
    );
    // Copied by another account, or from another chain.
    assert!(matches!(
        CustodianRecord::verified(&bytes, &domain(), Address::ZERO),
        Err(RecordError::Foreign { .. })
    ));
    let other = Domain { chain_id: 1, ..domain() };
    assert!(matches!(CustodianRecord::verified(&bytes, &other, account), Err(RecordError::Foreign { .. })));
    for cut in 0..bytes.len() {
        assert!(CustodianRecord::verified(&bytes[..cut], &domain(), account).is_err());
    }
}

#[test]
fn records_are_signed_under_their_own_names() {
    // A signature over a receipt's bytes under another name is no signature of the receipt.
    let receipt = receipt();
    let foreign = holder().sign(&[&b"lightstreams/v1/refusal\0"[..], &receipt.encode()].concat());
    assert!(!receipt.verify(&foreign));
    let plain = holder().sign(&receipt.encode());
    assert!(!receipt.verify(&plain));
    let right = holder().sign(&[&b"lightstreams/v1/receipt\0"[..], &receipt.encode()].concat());
    assert!(receipt.verify(&right));
}

#[test]
fn an_answer_counts_only_for_its_request_and_holder() {
    let (holder, request) = (receipt().holder, receipt().request);
    for answer in [Answer::Release(release()), Answer::Refusal(refusal())] {
        assert!(answer.verify(&holder, &request));
        assert!(!answer.verify(&B256::ZERO, &request));
        assert!(!answer.verify(&holder, &B256::ZERO));
    }
    let mut swapped = release();
    swapped.header = b"other".to_vec();
    assert!(!Answer::Release(swapped).verify(&holder, &request));
}

#[test]
fn delegations_hold_for_a_day_at_most() {
    let at = |not_before, not_after, now| {
        PeerDelegation { not_before, not_after, ..delegation().msg }.holds_at(now)
    };
    assert!(at(1000, 1000 + 86_400, 1000));
    assert!(at(1000, 1001, 940), "a minute of skew");
    assert!(!at(1000, 1001, 939));
    assert!(!at(1000, 1000 + 86_401, 1000));
    assert!(!at(1000, 1100, 1100));
    assert!(!at(1000, 999, 1000));
    assert!(!at(0, u64::MAX, 1000));
}

#[test]
fn every_refusal_code_has_its_own_name() {
    for code in RefusalCode::ALL {
        assert_eq!(RefusalCode::parse(code.as_str()), Some(*code));
    }
    assert_eq!(RefusalCode::ALL.len(), 19);
    assert_eq!(RefusalCode::parse("granted"), None);
}

#[test]
fn signatures_have_one_form() {
    let hash = B256::repeat_byte(7);
    let sig = signature::sign(&secret(), &hash);
    let account = signature::account_of(&secret());
    assert_eq!(signature::recover(&hash, &sig), Some(account));
    assert_ne!(signature::recover(&B256::ZERO, &sig), Some(account));
    for v in [0, 1, 26, 29, 255] {
        let mut other = sig;
        other[64] = v;
        assert_eq!(signature::recover(&hash, &other), None, "v = {v}");
    }
    for len in [0, 1, 64, 66] {
        assert_eq!(signature::recover(&hash, &sig.repeat(2)[..len]), None, "{len} bytes");
    }
    assert_eq!(signature::recover(&hash, &[[0; 64].as_slice(), &[27]].concat()), None);
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        for (name, _, decode) in all() {
            // Random bytes are next to never a record; what is read is written back the same.
            if let Some(again) = decode(&bytes) {
                prop_assert_eq!(&again, &bytes, "{}", name);
            }
        }
        let _ = CustodianRecord::verified(&bytes, &domain(), Address::ZERO);
        let _ = Fields::decode("bytes", &bytes, 1024);
    }

    #[test]
    fn a_changed_record_is_refused_or_reads_as_what_it_says(at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<bool>()) {
        for (name, bytes, decode) in all() {
            let at = at.index(bytes.len());
            let mut changed = bytes.clone();
            if cut { changed.truncate(at) } else { changed[at] ^= 1 << bit }
            if let Some(again) = decode(&changed) {
                prop_assert_eq!(&again, &changed, "{}", name);
            }
        }
        let bytes = record().sign(&holder());
        let mut changed = bytes.clone();
        let at = at.index(bytes.len());
        changed[at] ^= 1 << bit;
        prop_assert!(CustodianRecord::verified(&changed, &domain(), Address::repeat_byte(8)).is_err());
    }
}
