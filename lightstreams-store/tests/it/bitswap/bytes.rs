//! Messages as bytes.

use lightstreams_store::{
    Block, Cid, DAG_CBOR, DAG_PB,
    p2p::wire::{
        BLOCK_BYTES_MAX, CID_BYTES_MAX, Entry, MESSAGE_BYTES_MAX, Message, MessageError, Payload, Prefix,
        Presence, Revision, WANTS_MAX, WantKind,
    },
};
use proptest::{collection::vec, prelude::*};

fn cid() -> impl Strategy<Value = Cid> {
    (vec(any::<u8>(), 0..40), prop_oneof![Just(0x55u64), Just(DAG_PB), Just(DAG_CBOR), any::<u64>()])
        .prop_map(|(data, codec)| *Block::new(codec, data).cid())
        .prop_flat_map(|v1| prop_oneof![Just(v1), Just(Cid::new_v0(*v1.hash()).unwrap())])
}

fn entry() -> impl Strategy<Value = Entry> {
    let kind = prop_oneof![Just(WantKind::Block), Just(WantKind::Have)];
    (cid(), any::<i32>(), any::<bool>(), kind, any::<bool>()).prop_map(
        |(cid, priority, cancel, kind, send_dont_have)| Entry { cid, priority, cancel, kind, send_dont_have },
    )
}

fn payload() -> impl Strategy<Value = Payload> {
    (cid(), vec(any::<u8>(), 0..3000))
        .prop_map(|(cid, data)| Payload { prefix: Prefix::of(&cid), data: data.into() })
}

fn message() -> impl Strategy<Value = Message> {
    let presence = prop_oneof![Just(Presence::Have), Just(Presence::DontHave)];
    (vec(entry(), 0..8), any::<bool>(), vec(payload(), 0..4), vec((cid(), presence), 0..8))
        .prop_map(|(entries, full, payloads, presences)| Message { entries, full, payloads, presences })
}

/// The message without its length prefix, which must be right.
fn body(message: &Message, revision: Revision) -> lightstreams_store::Bytes {
    let framed = message.encode(revision).unwrap();
    assert_eq!(framed.len(), framed.pieces.iter().map(|piece| piece.len()).sum::<usize>());
    let framed: Vec<u8> = framed.pieces.iter().flatten().copied().collect();
    let (len, rest) = (0..4)
        .scan(0, |len, i| {
            *len |= usize::from(framed[i] & 0x7f) << (7 * i);
            Some((*len, i, framed[i] < 0x80))
        })
        .find_map(|(len, i, last)| last.then(|| (len, &framed[i + 1..])))
        .unwrap();
    assert_eq!(len, rest.len());
    rest.to_vec().into()
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(message in message()) {
        prop_assert_eq!(Message::decode(&body(&message, Revision::V1_2)), Ok(message));
    }

    #[test]
    fn an_older_revision_leaves_out_what_it_cannot_say(message in message()) {
        let middle = Message::decode(&body(&message, Revision::V1_1)).unwrap();
        prop_assert_eq!(&middle.payloads, &message.payloads);
        prop_assert!(middle.presences.is_empty());
        prop_assert!(middle.entries.iter().all(|entry| entry.kind == WantKind::Block && !entry.send_dont_have));
        let old = Message::decode(&body(&message, Revision::V1_0)).unwrap();
        let data = |message: &Message| message.payloads.iter().map(|p| p.data.clone()).collect::<Vec<_>>();
        prop_assert_eq!(data(&old), data(&message));
        prop_assert_eq!(old.entries, middle.entries);
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in vec(any::<u8>(), 0..600)) {
        let _ = Message::decode(&bytes.into());
    }

    #[test]
    fn a_damaged_message_is_a_message_or_an_error(message in message(), hits in vec(any::<(usize, u8)>(), 1..6), cut in any::<usize>()) {
        let mut bytes = body(&message, Revision::V1_2).to_vec();
        bytes.truncate(cut % (bytes.len() + 1));
        for (at, with) in hits {
            let len = bytes.len().max(1);
            if let Some(byte) = bytes.get_mut(at % len) {
                *byte ^= with;
            }
        }
        let _ = Message::decode(&bytes.into());
    }

    #[test]
    fn unknown_fields_are_passed_over(message in message(), number in 6u64..1000, content in vec(any::<u8>(), 0..20)) {
        let mut bytes = body(&message, Revision::V1_2).to_vec();
        let tag = number << 3 | 2;
        bytes.extend(if tag < 0x80 { vec![tag as u8] } else { vec![tag as u8 | 0x80, (tag >> 7) as u8] });
        bytes.push(content.len() as u8);
        bytes.extend(content);
        prop_assert_eq!(Message::decode(&bytes.into()), Ok(message));
    }
}

#[test]
fn a_want_is_written_as_the_specification_says() {
    let cid = *Block::raw(&b"hello"[..]).cid();
    let entry = Entry { cid, priority: 1, cancel: false, kind: WantKind::Have, send_dont_have: true };
    let message = Message { entries: vec![entry], full: true, ..Message::default() };
    // wantlist { entries { block, priority 1, wantType 1, sendDontHave 1 } full 1 }
    let mut expected = vec![0x0a, 0x30, 0x0a, 0x2c, 0x0a, 0x24];
    expected.extend(cid.to_bytes());
    expected.extend([0x10, 0x01, 0x20, 0x01, 0x28, 0x01, 0x10, 0x01]);
    assert_eq!(body(&message, Revision::V1_2), expected);
}

#[test]
fn answers_are_written_as_the_specification_says() {
    let block = Block::raw(&b"hello"[..]);
    let payload = Payload { prefix: Prefix::of(block.cid()), data: block.data().clone() };
    let presences = vec![(*block.cid(), Presence::DontHave)];
    let message = Message { payloads: vec![payload], presences, ..Message::default() };
    // payload { prefix { 1, raw, sha2-256, 32 } data }, presence { cid, type DONT_HAVE }
    let mut expected = vec![0x1a, 0x0d, 0x0a, 0x04, 0x01, 0x55, 0x12, 0x20, 0x12, 0x05];
    expected.extend(b"hello");
    expected.extend([0x22, 0x28, 0x0a, 0x24]);
    expected.extend(block.cid().to_bytes());
    expected.extend([0x10, 0x01]);
    assert_eq!(body(&message, Revision::V1_2), expected);
}

#[track_caller]
fn check_refused(bytes: Vec<u8>, place: &str) {
    let error = Message::decode(&bytes.into()).unwrap_err();
    assert!(error.to_string().contains(place), "{error} does not name {place}");
}

fn nested(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let mut len = content.len();
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend(content);
    out
}

#[test]
fn what_is_over_a_bound_or_broken_is_refused_by_name() {
    let cid = Block::raw(&b"x"[..]).cid().to_bytes();
    check_refused(vec![0; MESSAGE_BYTES_MAX + 1], "message exceeds");
    check_refused(nested(0x12, &vec![0; BLOCK_BYTES_MAX + 1]), "block exceeds");
    check_refused(nested(0x22, &nested(0x0a, &[1; CID_BYTES_MAX + 1])), "CID exceeds");
    check_refused(nested(0x12, b"").repeat(3000), "blocks exceeds");
    check_refused(nested(0x22, &nested(0x0a, &cid)).repeat(3000), "presences exceeds");
    check_refused(nested(0x32, b"").repeat(40_000), "message items exceeds");
    check_refused(nested(0x0a, &nested(0x0a, b"")), "entry.cid");
    check_refused(nested(0x22, b""), "presence.cid");
    check_refused(nested(0x1a, &nested(0x12, b"data")), "payload.prefix");
    check_refused(nested(0x1a, &nested(0x0a, &[9, 0x55, 0x12, 0x20])), "payload.prefix");
    check_refused(nested(0x1a, &nested(0x0a, &[1, 0x55, 0x12])), "payload.prefix");
    check_refused(nested(0x22, &nested(0x0a, &[cid.as_slice(), b"more"].concat())), "CID");
    check_refused(nested(0x22, &nested(0x0a, &cid[..20])), "CID");
    check_refused(nested(0x0a, &nested(0x0a, &[nested(0x0a, &cid), vec![0x20, 2]].concat())), "entry");
    check_refused(vec![0x0a, 0x05, 0x0a], "message");
    check_refused(vec![0x0b], "message");
    check_refused(vec![0x08, 0x01], "message");
    check_refused(vec![0x02], "message");
    check_refused(vec![0xff; 11], "message");
}

#[test]
fn no_more_wants_are_kept_of_a_message_than_a_peer_may_have() {
    let entries = (0..5000u32).map(|i| Entry {
        cid: *Block::raw(i.to_be_bytes().to_vec()).cid(),
        priority: 0,
        cancel: false,
        kind: WantKind::Block,
        send_dont_have: false,
    });
    let message = Message { entries: entries.collect(), ..Message::default() };
    let read = Message::decode(&body(&message, Revision::V1_2)).unwrap();
    assert_eq!(read.entries, message.entries[..2 * WANTS_MAX]);
}

#[test]
fn what_is_too_large_is_not_written() {
    let prefix = Prefix::of(Block::raw(&b"x"[..]).cid());
    let payload = |len| Payload { prefix, data: vec![0; len].into() };
    let message = |lens: &[usize]| Message {
        payloads: lens.iter().map(|len| payload(*len)).collect(),
        ..Message::default()
    };
    assert!(message(&[BLOCK_BYTES_MAX]).encode(Revision::V1_2).is_ok());
    for lens in [&[BLOCK_BYTES_MAX + 1][..], &[BLOCK_BYTES_MAX, BLOCK_BYTES_MAX]] {
        let refused = message(lens).encode(Revision::V1_2).unwrap_err();
        assert!(matches!(refused, MessageError::TooLarge { .. }));
    }
}
