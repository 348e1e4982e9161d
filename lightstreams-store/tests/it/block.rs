//! A block cannot exist whose bytes do not hash to its CID.

use lightstreams_store::{Block, BlockError, Cid, DAG_CBOR, MAX_BLOCK_LEN, RAW, testing::Seeded};

fn cid(text: &str) -> Cid {
    text.parse().unwrap()
}

#[track_caller]
fn refused(name: &str, data: &[u8], expected: BlockError) {
    assert_eq!(Block::from_cid(cid(name), data.to_vec()), Err(expected));
}

#[test]
fn known_names_are_made() {
    let hello = Block::raw(&b"hello world"[..]);
    assert_eq!(hello.cid(), &cid("bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"));
    let empty = Block::raw(Vec::new());
    assert_eq!(empty.cid(), &cid("bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"));
    assert!(empty.is_empty());
    assert_eq!(Block::new(DAG_CBOR, &b"\xa0"[..]).cid().codec(), DAG_CBOR);
    assert_eq!(hello.cid().codec(), RAW);
}

#[test]
fn bytes_that_hash_to_something_else_are_refused() {
    let name = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";
    assert!(Block::from_cid(cid(name), &b"hello world"[..]).is_ok());
    refused(name, b"hello worle", BlockError::Mismatch);
    refused(name, b"hello worl", BlockError::Mismatch);
    refused(name, b"", BlockError::Mismatch);
}

#[test]
fn sha2_512_is_known_and_others_are_refused_by_name() {
    // The sha2-512 of "hello world".
    let digest = hex(
        "309ecc489c12d6eb4cc40f50c902f2b4d0ed77ee511a7c7a9bcd3ca86d4cd86f989dd35bc5ff499670da34255b45b0cfd830e81f605dcf7dc5542e93ae9cd76f",
    );
    let hash = multihash::Multihash::wrap(0x13, &digest).unwrap();
    assert!(Block::from_cid(Cid::new_v1(RAW, hash), &b"hello world"[..]).is_ok());
    assert_eq!(Block::from_cid(Cid::new_v1(RAW, hash), &b"hello"[..]), Err(BlockError::Mismatch));
    let md5 = multihash::Multihash::wrap(0xd5, &[0; 16]).unwrap();
    assert_eq!(
        Block::from_cid(Cid::new_v1(RAW, md5), &b"hello"[..]),
        Err(BlockError::UnknownHash { code: 0xd5 })
    );
    // A sha2-256 digest that was cut short proves nothing.
    let short = multihash::Multihash::wrap(0x12, &[0; 20]).unwrap();
    assert_eq!(Block::from_cid(Cid::new_v1(RAW, short), &b"hello"[..]), Err(BlockError::Mismatch));
    let none = multihash::Multihash::wrap(0x12, &[]).unwrap();
    assert_eq!(Block::from_cid(Cid::new_v1(RAW, none), &b""[..]), Err(BlockError::Mismatch));
}

#[test]
fn an_identity_cid_carries_its_block() {
    let inline = cid("bafkqaaa");
    assert_eq!(Block::inline(&inline).unwrap().len(), 0);
    assert!(Block::from_cid(inline, &b""[..]).is_ok());
    refused("bafkqaaa", b"x", BlockError::Mismatch);
    assert_eq!(Block::inline(Block::raw(&b"x"[..]).cid()), None);
}

#[test]
fn two_mebibytes_are_a_block_and_one_byte_more_is_not() {
    let bytes = Seeded::new(1).bytes(MAX_BLOCK_LEN + 1);
    let most = Block::raw(bytes[..MAX_BLOCK_LEN].to_vec());
    assert!(Block::from_cid(*most.cid(), most.data().clone()).is_ok());
    let long = Block::raw(bytes);
    let expected = BlockError::TooLong { len: MAX_BLOCK_LEN + 1 };
    assert_eq!(Block::from_cid(*long.cid(), long.data().clone()), Err(expected));
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}
