//! Any valid file reads, by ranges; every other DAG is an error.

use std::io::{Read, Seek, SeekFrom};

use ipld_dagpb::{PbLink, PbNode};
use lightstreams_store::{
    Block, BlockStore, Cid, DAG_CBOR, DAG_PB, FileBuilder, FileReader, FixedChunker, LayoutError,
    MemoryStore, ReadError, testing::Seeded,
};

use crate::support::Counting;

/// A protobuf field: number and value.
enum Field<'a> {
    Int(u8, u64),
    Bytes(u8, &'a [u8]),
}
use Field::{Bytes, Int};

fn message(fields: &[Field<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    let varint = |out: &mut Vec<u8>, mut value: u64| {
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
    };
    for field in fields {
        match field {
            Int(number, value) => {
                out.push(number << 3);
                varint(&mut out, *value);
            }
            Bytes(number, bytes) => {
                out.push(number << 3 | 2);
                varint(&mut out, bytes.len() as u64);
                out.extend_from_slice(bytes);
            }
        }
    }
    out
}

fn node(children: &[Cid], data: Vec<u8>) -> Block {
    let links = children.iter().map(|cid| PbLink { cid: *cid, name: None, size: None }).collect();
    Block::new(DAG_PB, PbNode { links, data: Some(data.into()) }.into_bytes())
}

fn put(store: &MemoryStore, block: Block) -> Cid {
    store.put(&block).unwrap();
    *block.cid()
}

#[track_caller]
fn reads_as(store: &MemoryStore, root: &Cid, expected: &[u8]) {
    let mut reader = FileReader::open(store, root).unwrap();
    assert_eq!(reader.len(), expected.len() as u64);
    let mut all = Vec::new();
    reader.read_to_end(&mut all).unwrap();
    assert_eq!(all, expected);
    for start in 0..=expected.len() {
        reader.seek(SeekFrom::Start(start as u64)).unwrap();
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, &expected[start..]);
    }
}

#[track_caller]
fn refused(store: &MemoryStore, root: &Cid, expected: &LayoutError) {
    let result = FileReader::open(store, root).and_then(|reader| reader.read_at(0, &mut [0; 1000]));
    match result {
        Err(ReadError::Layout { source, .. }) => assert_eq!(&source, expected),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_valid_layout_reads() {
    let store = MemoryStore::default();
    let raw = put(&store, Block::raw(&b"raw leaf,"[..]));
    let file = put(&store, node(&[], message(&[Int(1, 2), Bytes(2, b"file leaf,"), Int(3, 10)])));
    let file_v0 = Cid::new_v0(*file.hash()).unwrap();
    let bytes = put(&store, node(&[], message(&[Int(1, 0), Bytes(2, b"raw type")])));
    let empty = put(&store, node(&[], message(&[Int(1, 2)])));
    reads_as(&store, &raw, b"raw leaf,");
    reads_as(&store, &file_v0, b"file leaf,");
    reads_as(&store, &bytes, b"raw type");
    reads_as(&store, &empty, b"");

    // Bytes of its own and children; an empty child; mode and mtime; sizes packed; leaves at unlike depths.
    let own = message(&[
        Int(1, 2),
        Bytes(2, b"own,"),
        Int(3, 23),
        Int(4, 9),
        Int(4, 0),
        Int(4, 10),
        Int(7, 0o644),
        Bytes(8, &[8, 5]),
    ]);
    let mixed = put(&store, node(&[raw, empty, file_v0], own));
    reads_as(&store, &mixed, b"own,raw leaf,file leaf,");
    let packed = put(&store, node(&[raw, mixed], message(&[Int(1, 2), Bytes(4, &[9, 23])])));
    reads_as(&store, &packed, b"raw leaf,own,raw leaf,file leaf,");
    // Data before links, which other writers do.
    let links = node(&[raw], Vec::new());
    let link_bytes = &links.data()[..links.len() - 2];
    let data = message(&[Bytes(1, &message(&[Int(1, 2), Int(4, 9)]))]);
    let swapped = put(&store, Block::new(DAG_PB, [&data, link_bytes].concat()));
    reads_as(&store, &swapped, b"raw leaf,");
}

#[test]
fn an_inline_file_needs_no_store() {
    let hash = multihash::Multihash::wrap(0, b"inline").unwrap();
    reads_as(&MemoryStore::default(), &Cid::new_v1(0x55, hash), b"inline");
    let store = MemoryStore::default();
    let parent = put(&store, node(&[Cid::new_v1(0x55, hash)], message(&[Int(1, 2), Int(4, 6)])));
    reads_as(&store, &parent, b"inline");
}

#[test]
fn a_seek_reads_only_its_way_down() {
    let counting = Counting::default();
    let bytes = Seeded::new(1).bytes(1_500_000);
    let root = FileBuilder::new(FixedChunker::new(1000).unwrap())
        .import(&mut &bytes[..], &counting.store, &mut |_| ())
        .unwrap();
    let mut reader = FileReader::open(&counting, &root.cid).unwrap();
    assert_eq!((reader.len(), counting.reads()), (1_500_000, 1));
    let mut buf = [0; 500];
    reader.seek(SeekFrom::End(-1100)).unwrap();
    reader.read_exact(&mut buf).unwrap();
    assert_eq!(buf, bytes[1_498_900..1_499_400]);
    assert_eq!(counting.reads(), 3, "a node and two leaves");
    reader.seek(SeekFrom::Current(-500)).unwrap();
    assert_eq!(reader.stream_position().unwrap(), 1_498_900);
    assert!(reader.seek(SeekFrom::Current(-1_500_000)).is_err());
    assert_eq!(reader.stream_position().unwrap(), 1_498_900);
    reader.seek(SeekFrom::Start(u64::MAX)).unwrap();
    assert_eq!(reader.read(&mut buf).unwrap(), 0);
}

#[test]
fn malformed_nodes_are_refused() {
    let store = MemoryStore::default();
    let raw = put(&store, Block::raw(&b"123456789"[..]));
    let malformed = |data: Vec<u8>, links: &[Cid], reason| {
        refused(&store, &put(&store, node(links, data)), &LayoutError::Malformed { reason });
    };
    malformed(message(&[Int(1, 2), Int(4, 9), Int(4, 9)]), &[raw], "blocksizes and links differ in number");
    malformed(message(&[Int(1, 2)]), &[raw], "blocksizes and links differ in number");
    malformed(message(&[Int(1, 2), Int(4, 9)]), &[], "blocksizes and links differ in number");
    malformed(message(&[Int(1, 2), Int(3, 8), Int(4, 9)]), &[raw], "filesize is not the sum of its parts");
    malformed(message(&[Int(1, 2), Int(4, u64::MAX), Int(4, 9)]), &[raw, raw], "blocksizes exceed 64 bits");
    malformed(message(&[Int(3, 0)]), &[], "the UnixFS message has no type");
    malformed(message(&[Int(1, 2), Int(1, 2)]), &[], "a UnixFS field stands twice");
    malformed(message(&[Int(1, 2), Int(2, 5)]), &[], "a UnixFS field has the wrong type");
    malformed(message(&[Int(1, 2), Bytes(4, &[9, 0x80])]), &[raw], "blocksizes are cut off");
    malformed(vec![0x08, 2, 0x18], &[], "a protobuf field is cut off or malformed");
    malformed(vec![0x08, 2, 0x12, 5, 0], &[], "a protobuf field is cut off or malformed");
    malformed([&[0x08][..], &[0xff; 10]].concat(), &[], "a protobuf field is cut off or malformed");
    malformed(vec![0x0b], &[], "a protobuf field is cut off or malformed");

    let malformed = |block: Vec<u8>, reason| {
        refused(&store, &put(&store, Block::new(DAG_PB, block)), &LayoutError::Malformed { reason });
    };
    let file = message(&[Int(1, 2), Int(4, 9)]);
    let link = message(&[Bytes(1, &raw.to_bytes())]);
    malformed(
        message(&[Bytes(2, &link), Bytes(1, &file), Bytes(2, &link)]),
        "a node has links on both sides of its Data",
    );
    malformed(message(&[Bytes(1, &file), Bytes(1, &file)]), "a node has two Data fields");
    malformed(message(&[Bytes(3, &file)]), "a node has an unknown field");
    malformed(message(&[Int(1, 5)]), "a node has an unknown field");
    malformed(message(&[Bytes(2, &message(&[Bytes(2, b"a")]))]), "a link has no CID");
    malformed(
        message(&[Bytes(2, &message(&[Bytes(2, b"a"), Bytes(1, &raw.to_bytes())]))]),
        "the fields of a link are out of order",
    );
    malformed(
        message(&[Bytes(2, &message(&[Bytes(1, &raw.to_bytes()), Bytes(2, &[0xff])]))]),
        "the name of a link is not UTF-8",
    );
    let cut = &raw.to_bytes()[..30];
    let longer = [&raw.to_bytes()[..], &[0]].concat();
    for cid in [cut, &longer, &[], &[0; 10]] {
        malformed(message(&[Bytes(2, &message(&[Bytes(1, cid)]))]), "a link has a CID that cannot be read");
    }
}

#[test]
fn what_is_no_file_is_refused() {
    let store = MemoryStore::default();
    for kind in [1, 3, 4, 5, 6, u64::MAX] {
        refused(&store, &put(&store, node(&[], message(&[Int(1, kind)]))), &LayoutError::NotAFile);
    }
    refused(&store, &put(&store, Block::new(DAG_CBOR, &b"\xa0"[..])), &LayoutError::NotAFile);
}

#[test]
fn a_child_of_another_length_than_stated_is_refused() {
    let store = MemoryStore::default();
    let raw = put(&store, Block::raw(&b"123456789"[..]));
    for (stated, found) in [(8, 9), (10, 9)] {
        let root = put(&store, node(&[raw], message(&[Int(1, 2), Int(4, stated)])));
        refused(&store, &root, &LayoutError::Length { expected: stated, found });
    }
}

#[test]
fn a_bottomless_file_is_refused() {
    let store = MemoryStore::default();
    let mut root = put(&store, Block::raw(&b"x"[..]));
    let mut deepest = 0;
    for depth in 0..100 {
        root = put(&store, node(&[root], message(&[Int(1, 2), Int(4, 1)])));
        if FileReader::open(&store, &root).unwrap().read_at(0, &mut [0]).is_ok() {
            deepest = depth;
        }
    }
    assert_eq!(deepest, 30, "32 levels with the leaf");
    refused(&store, &root, &LayoutError::TooDeep);
}

#[test]
fn damaged_nodes_never_panic() {
    let store = MemoryStore::default();
    let mut seeded = Seeded::new(3);
    let bytes = seeded.bytes(5000);
    let root = FileBuilder::new(FixedChunker::new(500).unwrap())
        .import(&mut &bytes[..], &store, &mut |_| ())
        .unwrap();
    let good = store.get(&root.cid).unwrap().unwrap();
    for _ in 0..20_000 {
        let mut bytes = good.data().to_vec();
        for _ in 0..=seeded.below(3) {
            let at = seeded.below(bytes.len() as u64) as usize;
            match seeded.below(3) {
                0 => bytes[at] = seeded.next_u64() as u8,
                1 => bytes.truncate(at + 1),
                _ => bytes.insert(at, seeded.next_u64() as u8),
            }
        }
        let changed = put(&store, Block::new(DAG_PB, bytes));
        let mut buf = vec![0; 6000];
        // Whatever comes out, it is an answer; memory is bounded by the block and by the buffer.
        let _ = FileReader::open(&store, &changed).and_then(|reader| reader.read_at(0, &mut buf));
        store.remove_many(&[changed]).unwrap();
    }
}
