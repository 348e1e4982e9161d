//! A CAR brings only blocks that are what their CIDs say.

use std::io::{self, Read};

use lightstreams_store::{
    Block, BlockError, CarError, CarReader, CarWriter, Cid, DAG_CBOR, DAG_PB, MAX_BLOCK_LEN, testing::Seeded,
};

fn car(roots: &[Cid], blocks: &[Block]) -> Vec<u8> {
    let mut writer = CarWriter::new(Vec::new(), roots).unwrap();
    blocks.iter().for_each(|block| writer.write(block).unwrap());
    writer.finish().unwrap()
}

fn read(bytes: &[u8]) -> Result<(Vec<Cid>, Vec<Block>), CarError> {
    let mut reader = CarReader::new(bytes)?;
    let blocks = reader.by_ref().collect::<Result<_, _>>()?;
    Ok((reader.roots().to_vec(), blocks))
}

#[track_caller]
fn malformed(bytes: &[u8], at: u64, reason: &str) {
    match read(bytes) {
        Err(CarError::Malformed { at: found_at, reason: found }) => {
            assert_eq!((found_at, found), (at, reason))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_written_reads_back() {
    let mut seeded = Seeded::new(1);
    let blocks = vec![
        seeded.block(0),
        seeded.block(1),
        Block::new(DAG_PB, seeded.bytes(300)),
        Block::new(DAG_CBOR, seeded.bytes(70_000)),
        seeded.block(MAX_BLOCK_LEN),
        seeded.block(1),
    ];
    let placeholder: Cid = "bafkqaaa".parse().unwrap();
    for roots in [vec![], vec![placeholder], vec![*blocks[2].cid(), *blocks[3].cid()]] {
        assert_eq!(read(&car(&roots, &blocks)).unwrap(), (roots, blocks.clone()));
    }
    assert_eq!(read(&car(&[], &[])).unwrap(), (vec![], vec![]));
}

#[test]
fn the_bytes_are_those_of_the_specification() {
    let block = Block::raw(&b"hello world"[..]);
    let bytes = car(&[*block.cid()], std::slice::from_ref(&block));
    let name = block.cid().to_bytes();
    let header = [
        &[58, 0xa2, 0x65][..],
        b"roots",
        &[0x81, 0xd8, 0x2a, 0x58, 0x25, 0x00],
        &name,
        &[0x67],
        b"version",
        &[1],
    ]
    .concat();
    assert_eq!(bytes, [&header, &[47][..], &name, b"hello world"].concat());
}

#[test]
fn a_file_that_is_cut_off_anywhere_is_an_error() {
    let blocks = [Seeded::new(1).block(200), Seeded::new(2).block(10)];
    let bytes = car(&[*blocks[0].cid()], &blocks);
    let header = bytes.len() - (2 + 36 + 200) - (1 + 36 + 10);
    let whole = [header, header + 2 + 36 + 200, bytes.len()];
    for len in 0..=bytes.len() {
        assert_eq!(read(&bytes[..len]).is_ok(), whole.contains(&len), "{len} bytes");
    }
    malformed(&bytes[..0], 0, "the file is empty");
    malformed(&bytes[..header + 1], header as u64, "a length is cut off");
    malformed(&bytes[..bytes.len() - 1], whole[1] as u64, "the file is cut off");
}

#[test]
fn wrong_bytes_of_a_block_are_named() {
    let blocks = [Seeded::new(1).block(200), Seeded::new(2).block(10)];
    let bytes = car(&[], &blocks);
    let mut wrong = bytes.clone();
    *wrong.last_mut().unwrap() ^= 1;
    let mut reader = CarReader::new(&wrong[..]).unwrap();
    assert_eq!(reader.next_block().unwrap().as_ref(), Some(&blocks[0]));
    match reader.next_block() {
        Err(CarError::Block { at, cid, source: BlockError::Mismatch }) => {
            assert_eq!((at, &cid), ((bytes.len() - 47) as u64, blocks[1].cid()));
        }
        other => panic!("{other:?}"),
    }
    assert!(reader.next_block().unwrap().is_none(), "nothing is read after an error");
    assert_eq!(CarReader::new(&wrong[..]).unwrap().count(), 2);
}

#[test]
fn lengths_are_bounded_before_memory_is_taken() {
    let good = car(&[], &[]);
    let at = good.len() as u64;
    let with = |section: &[u8]| [&good, section].concat();
    malformed(&with(&[0]), at, "the section has no bytes");
    malformed(&with(&[0, 0]), at, "the section has no bytes");
    malformed(&with(&[0xa9, 0x81, 0x80, 0x01]), at, "the section is too long");
    malformed(&with(&[0xff, 0xff, 0xff, 0xff, 0x0f]), at, "the section is too long");
    malformed(&with(&[0xff, 0xff, 0xff, 0xff, 0xff, 0x01]), at, "a length is too long");
    malformed(&with(&[0xff; 12]), at, "a length is too long");
    malformed(&with(&[0x81, 0x00, 1]), at, "a length is not written in its shortest form");
    malformed(&with(&[1, 1]), at, "the section starts with no CID that can be read");
    malformed(&with(&[2, 0x12, 0x20]), at, "the section starts with no CID that can be read");
    malformed(&[0xff, 0xff, 0x7f], 0, "the header is too long");
    malformed(&[0x80], 0, "a length is cut off");
    // A block of 2 MiB is the longest.
    let long = Seeded::new(1).block(MAX_BLOCK_LEN + 1);
    match read(&car(&[], &[long])) {
        Err(CarError::Block { source: BlockError::TooLong { .. }, .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn other_headers_are_refused() {
    let header = |cbor: &[u8]| [&[cbor.len() as u8], cbor].concat();
    let reason = "the header is not a dag-cbor map of version and roots";
    for cbor in
        [&b"\xa0"[..], b"\x80", b"\x01", b"", b"\xff", b"\xa1\x67version\x61x", b"\xa1\x67version\x01\x00"]
    {
        malformed(&header(cbor), 0, reason);
    }
    malformed(&header(b"\xa2\x65roots\x81\x01\x67version\x01"), 0, reason);
    malformed(&header(b"\xa1\x67version\x01"), 0, "the header names no roots");
    malformed(&header(b"\xa2\x65roots\x80\x67version\x02"), 0, reason);
    malformed(&header(b"\xa1\x67version\x02"), 11, "the file is cut off");
    match read(&header(b"\xa2\x65roots\x80\x67version\x03")) {
        Err(CarError::Version { version: 3 }) => {}
        other => panic!("{other:?}"),
    }
    // Deep nesting neither overflows the stack nor passes.
    let deep = [&[0xd0, 0x0f][..], &[0x81; 2000]].concat();
    malformed(&deep, 0, reason);
}

#[test]
fn a_failing_input_is_not_blamed_on_the_file() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("gone"))
        }
    }
    let bytes = car(&[], &[Seeded::new(1).block(500)]);
    let input = bytes[..300].chain(Broken);
    let mut reader = CarReader::new(input).unwrap();
    match reader.next_block() {
        Err(CarError::Io { source, .. }) => assert_eq!(source.to_string(), "gone"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn damaged_files_never_panic() {
    let mut seeded = Seeded::new(5);
    let blocks: Vec<Block> = (0..5).map(|_| seeded.block(50)).collect();
    let good = car(&[*blocks[0].cid()], &blocks);
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        let at = seeded.below(bytes.len() as u64) as usize;
        bytes[at] = seeded.next_u64() as u8;
        if let Ok((_, read)) = read(&bytes) {
            let known = |block: &Block| blocks.iter().any(|good| good.data() == block.data());
            assert!(read.iter().all(known), "only bytes that were hashed come out");
        }
    }
}
