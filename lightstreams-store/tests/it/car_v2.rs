//! A CAR with an index gives only what is in its data, whatever the index says.

use std::{
    fs,
    io::{Cursor, Seek, Write},
};

use lightstreams_store::{
    Block, BlockSource, BlockStore, CarError, CarFile, CarImportError, CarLimits, CarReader, CarWriter, Cid,
    DAG_PB, IndexedCarWriter, MemoryStore, ReadAt, import_car, parse_cid, testing::Seeded,
};

const DATA: usize = 51;

fn blocks() -> Vec<Block> {
    let mut seeded = Seeded::new(3);
    let mut blocks: Vec<Block> = (0..20).map(|_| seeded.block(30)).collect();
    blocks.push(Block::new(DAG_PB, seeded.bytes(3000)));
    blocks.push(Block::inline(&parse_cid("bafkqablimvwgy3y").unwrap()).unwrap());
    blocks.push(blocks[3].clone());
    blocks
}

fn v1(blocks: &[Block]) -> Vec<u8> {
    let mut writer = CarWriter::new(Vec::new(), &[*blocks[0].cid()]).unwrap();
    blocks.iter().for_each(|block| writer.write(block).unwrap());
    writer.finish().unwrap()
}

fn v2(blocks: &[Block]) -> Vec<u8> {
    let mut writer = IndexedCarWriter::new(Cursor::new(Vec::new()), &[*blocks[0].cid()]).unwrap();
    blocks.iter().for_each(|block| writer.write(block).unwrap());
    writer.finish().unwrap().into_inner()
}

fn open(bytes: &[u8]) -> Result<CarFile<&[u8]>, CarError> {
    CarFile::open(bytes, CarLimits::default())
}

/// A CARv2 around `data`, its index `index` behind it.
fn around(data: &[u8], index: &[u8]) -> Vec<u8> {
    let index_at = if index.is_empty() { 0 } else { (DATA + data.len()) as u64 };
    let pragma = b"\x0a\xa1\x67version\x02";
    let numbers = [DATA as u64, data.len() as u64, index_at].map(u64::to_le_bytes).concat();
    [&pragma[..], &[0; 16], &numbers, data, index].concat()
}

#[track_caller]
fn malformed(bytes: &[u8], at: u64, reason: &str) {
    match open(bytes) {
        Err(CarError::Malformed { at: found_at, reason: found }) => {
            assert_eq!((found_at, found), (at, reason))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_block_is_found_with_and_without_an_index() {
    let blocks = blocks();
    let (one, two) = (v1(&blocks), v2(&blocks));
    assert!(two[DATA..].starts_with(&one), "the data of version 2 is a CARv1");
    for (bytes, indexed) in [(&one, false), (&two, true), (&around(&one, b""), false)] {
        let file = open(bytes).unwrap();
        assert_eq!((file.has_index(), file.roots()), (indexed, &[*blocks[0].cid()][..]));
        for block in &blocks {
            assert_eq!(file.get(block.cid()).unwrap().as_ref(), Some(block));
            // The codec is no part of what is looked up.
            let raw = Cid::new_v1(0x55, *block.cid().hash());
            assert_eq!(file.block(&raw).unwrap().unwrap().cid(), &raw);
        }
        assert_eq!(file.get(Seeded::new(9).block(5).cid()).unwrap(), None);
        assert_eq!(file.verify().unwrap(), blocks.len() as u64);
        let mut reader = CarReader::new(&bytes[..]).unwrap();
        assert_eq!(reader.is_fully_indexed(), indexed);
        assert_eq!(reader.by_ref().collect::<Result<Vec<_>, _>>().unwrap(), blocks);
    }
}

#[test]
fn a_file_on_disk_reads_like_a_buffer() {
    let blocks = blocks();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.car");
    // The file begins where the output stands.
    let mut out = fs::File::create(&path).unwrap();
    out.write_all(b"before").unwrap();
    let mut writer = IndexedCarWriter::new(out, &[]).unwrap();
    blocks.iter().for_each(|block| writer.write(block).unwrap());
    assert_eq!(writer.finish().unwrap().stream_position().unwrap(), fs::metadata(&path).unwrap().len());
    fs::write(&path, &fs::read(&path).unwrap()[6..]).unwrap();
    let file = CarFile::open(fs::File::open(&path).unwrap(), CarLimits::default()).unwrap();
    assert_eq!(file.verify().unwrap(), blocks.len() as u64);
    assert_eq!(file.get(blocks[5].cid()).unwrap().as_ref(), Some(&blocks[5]));
}

#[test]
fn a_header_that_contradicts_itself_is_refused() {
    let one = v1(&blocks());
    let good = around(&one, b"");
    let number = |at: usize, value: u64| {
        let mut bytes = good.clone();
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        bytes
    };
    let outside = "the data lies outside of the file";
    malformed(&number(27, 50), 11, outside);
    malformed(&number(27, 0), 11, outside);
    malformed(&number(27, u64::MAX), 11, outside);
    malformed(&number(35, 0), 11, outside);
    malformed(&number(35, u64::MAX), 11, outside);
    malformed(&number(43, 60), 11, "the index lies in front of the end of the data");
    malformed(&number(27, 1 << 60), 11, "the file is cut off");
    malformed(&number(43, 1 << 60), 1 << 60, "the index is cut off");
    let first = DATA as u64 + 1 + u64::from(one[0]);
    malformed(&number(35, one.len() as u64 + 1), first, "the file is cut off");
    // The data must be of version 1, and end where the header says, between two sections.
    malformed(&around(&good, b""), DATA as u64, "the header is not a dag-cbor map of version and roots");
    assert!(open(&number(35, one.len() as u64 - 1)).is_err());
    assert!(CarReader::new(&number(35, one.len() as u64 - 1)[..]).unwrap().any(|block| block.is_err()));
    for len in 0..good.len() {
        assert!(open(&good[..len]).is_err(), "{len} bytes");
        let read = CarReader::new(&good[..len]).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        assert!(read.is_err(), "{len} bytes");
    }
    // Padding before the data, bytes behind it.
    let mut padded = number(27, DATA as u64 + 100);
    padded.splice(DATA..DATA, [0; 100]);
    padded.extend([7; 50]);
    assert_eq!(open(&padded).unwrap().verify().unwrap(), 23);
}

#[test]
fn an_index_that_lies_is_found_out_and_never_believed() {
    let blocks = blocks();
    let one = v1(&blocks[..2]);
    let (a, b) = (blocks[0].cid(), blocks[1].cid());
    let first = 1 + u64::from(one[0]);
    let second = first + 1 + 36 + 30;
    let index = |entries: &[(&Cid, u64)]| {
        let mut entries: Vec<Vec<u8>> =
            entries.iter().map(|(cid, at)| [cid.hash().digest(), &at.to_le_bytes()].concat()).collect();
        entries.sort();
        let len = 40 * entries.len() as u64;
        let head =
            [&[0x81, 0x08, 1, 0, 0, 0][..], &0x12u64.to_le_bytes(), &[1, 0, 0, 0, 40, 0, 0, 0]].concat();
        around(&one, &[&head, &len.to_le_bytes()[..], &entries.concat()].concat())
    };
    let honest = index(&[(a, first), (b, second)]);
    assert_eq!(open(&honest).unwrap().verify().unwrap(), 2);
    assert_eq!(&v2(&blocks[..2])[DATA..], &honest[DATA..], "as the writer makes it");

    for (entries, reason) in [
        (&[(a, first)][..], "it does not name this section"),
        (&[(a, first), (b, first)], "it names what is no section, or one twice"),
        (&[(a, first), (b, second), (b, first)], "it names what is no section, or one twice"),
        (&[(a, first), (b, second), (b, second)], "it names what is no section, or one twice"),
        (&[(a, first), (b, second), (blocks[2].cid(), 5)], "it names what is no section, or one twice"),
    ] {
        match open(&index(entries)).unwrap().verify() {
            Err(CarError::Index { reason: found, .. }) => assert_eq!(found, reason),
            other => panic!("{other:?}"),
        }
    }
    // Into another block, into the middle of one, to the end, and far away.
    for at in [first, second + 1, second + 20, one.len() as u64, u64::MAX, u64::MAX - 50] {
        let bytes = index(&[(a, first), (b, at)]);
        let file = open(&bytes).unwrap();
        assert!(file.get(b).is_err(), "{at}");
        assert!(file.block(b).is_err());
        assert_eq!(file.get(a).unwrap().as_ref(), Some(&blocks[0]));
    }
    // Counts and widths that would take memory or time.
    let head = honest.len() - 80 - 16 - 8 - 6;
    for (at, bytes) in [
        (head + 2, &u32::MAX.to_le_bytes()[..]),
        (head + 14, &u32::MAX.to_le_bytes()),
        (head + 18, &0u32.to_le_bytes()),
        (head + 18, &7u32.to_le_bytes()),
        (head + 18, &u32::MAX.to_le_bytes()),
        (head + 22, &79u64.to_le_bytes()),
        (head + 22, &40u64.to_le_bytes()),
        (head + 22, &u64::MAX.to_le_bytes()),
        (head + 22, &(u64::MAX / 40 * 40).to_le_bytes()),
    ] {
        let mut wrong = honest.clone();
        wrong[at..at + bytes.len()].copy_from_slice(bytes);
        assert!(open(&wrong).is_err(), "{at} {bytes:?}");
    }
    // A form that is not known is passed over.
    let mut other = honest.clone();
    other[head] = 0x82;
    let file = open(&other).unwrap();
    assert!(!file.has_index());
    assert_eq!(file.get(b).unwrap().as_ref(), Some(&blocks[1]));
    // The older form has no hash functions.
    let mut older = [&honest[..head], &[0x80, 0x08], &honest[head + 14..]].concat();
    older[43..51].copy_from_slice(&(head as u64).to_le_bytes());
    let file = open(&older).unwrap();
    assert_eq!((file.has_index(), file.verify().unwrap()), (true, 2));
}

#[test]
fn a_damaged_file_never_panics_nor_gives_a_wrong_block() {
    let blocks = blocks();
    let good = v2(&blocks);
    let mut seeded = Seeded::new(8);
    for _ in 0..3000 {
        let mut bytes = good.clone();
        for _ in 0..=seeded.below(3) {
            let at = seeded.below(bytes.len() as u64) as usize;
            bytes[at] = seeded.next_u64() as u8;
        }
        let Ok(file) = open(&bytes) else { continue };
        for block in &blocks {
            if let Ok(Some(found)) = file.get(block.cid()) {
                assert_eq!(&found, block);
            }
        }
        let _ = file.verify();
    }
}

#[test]
fn limits_and_padding_are_what_the_caller_says() {
    let blocks = blocks();
    let one = v1(&blocks);
    let padded = [&one[..], &[0; 10]].concat();
    malformed(&padded, one.len() as u64, "the section has no bytes");
    let lenient = CarLimits { empty_section_ends: true, ..CarLimits::default() };
    assert_eq!(CarReader::with_limits(&padded[..], lenient).unwrap().count(), blocks.len());
    assert_eq!(CarFile::open(&padded[..], lenient).unwrap().verify().unwrap(), blocks.len() as u64);
    let small = CarLimits { block: 2999, ..CarLimits::default() };
    assert!(CarReader::with_limits(&one[..], small).unwrap().any(|block| block.is_err()));
    let header = CarLimits { header: 10, ..CarLimits::default() };
    assert!(CarReader::with_limits(&one[..], header).is_err());
    let huge = CarLimits { block: u64::MAX, header: u64::MAX, ..CarLimits::default() };
    assert!(
        CarReader::with_limits(&b"\xff\xff\xff\xff\x7f\xa0"[..], huge).is_err(),
        "memory follows the input"
    );
}

#[test]
fn an_import_brings_verified_blocks_only() {
    let blocks = blocks();
    for bytes in [v1(&blocks), v2(&blocks)] {
        let store = MemoryStore::default();
        let mut told = 0;
        let done = import_car(&bytes[..], CarLimits::default(), &store, &mut |n| told = n).unwrap();
        assert_eq!((done.blocks, told, &done.roots[..]), (23, 23, &[*blocks[0].cid()][..]));
        assert!(blocks.iter().all(|block| store.has(block.cid()).unwrap()));
        let mut wrong = bytes.clone();
        let at = bytes.windows(30).position(|window| window == &blocks[7].data()[..]).unwrap();
        wrong[at] ^= 1;
        let store = MemoryStore::default();
        match import_car(&wrong[..], CarLimits::default(), &store, &mut |_| ()) {
            Err(CarImportError::Car(CarError::Block { cid, .. })) => assert_eq!(&cid, blocks[7].cid()),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_input_that_fails_is_not_blamed_on_the_file() {
    struct Broken(Vec<u8>);
    impl ReadAt for Broken {
        fn size(&self) -> std::io::Result<u64> {
            Ok(self.0.len() as u64)
        }
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<usize> {
            if offset > 300 { Err(std::io::Error::other("gone")) } else { self.0.read_at(offset, buf) }
        }
    }
    let broken = Broken(v1(&blocks()));
    assert!(matches!(CarFile::open(broken, CarLimits::default()), Err(CarError::Io { .. })));
}
