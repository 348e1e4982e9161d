//! A payload has one layout, and every other is refused.

use std::ops::Range;

use ipld_dagpb::{PbLink, PbNode};
use lightstreams_store::{
    Block, BlockStore, Cid, DAG_PB, EnvelopeChunker, FileBuilder, FileReader, FileRoot, LayoutError,
    MemoryStore, PayloadReader, PayloadShape, ReadError, readable_root, testing::Seeded,
};

use crate::support::Counting;

/// A child as a node states it: name, bytes of the file, bytes of blocks.
#[derive(Clone, Copy)]
struct Stated(Cid, u64, u64);

/// The message of a file node.
fn unixfs(sizes: &[u64]) -> Vec<u8> {
    let mut message = vec![0x08, 2, 0x18];
    varint(&mut message, sizes.iter().sum());
    for size in sizes {
        message.push(0x20);
        varint(&mut message, *size);
    }
    message
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A node by another encoder than ours.
fn node(children: &[Stated]) -> Block {
    let sizes: Vec<u64> = children.iter().map(|child| child.1).collect();
    node_with(children, unixfs(&sizes))
}

fn node_with(children: &[Stated], message: Vec<u8>) -> Block {
    let links = children
        .iter()
        .map(|child| PbLink { cid: child.0, name: Some(String::new()), size: Some(child.2) })
        .collect();
    Block::new(DAG_PB, PbNode { links, data: Some(message.into()) }.into_bytes())
}

fn stated(block: &Block, size: u64, below: u64) -> Stated {
    Stated(*block.cid(), size, below + block.len() as u64)
}

fn payload_len(s: u64) -> u64 {
    s + 16 * s.div_ceil(65_536).max(1)
}

/// A payload for `s` bytes of plaintext in `store`.
fn import(store: &MemoryStore, s: u64, k: u8) -> (FileRoot, Vec<u8>) {
    let bytes = Seeded::new(s).bytes(payload_len(s) as usize);
    let builder = FileBuilder::new(EnvelopeChunker::new(k).unwrap());
    (builder.import(&mut &bytes[..], store, &mut |_| ()).unwrap(), bytes)
}

#[test]
fn the_shape_is_what_an_importer_makes() {
    for k in [1u8, 4, 15] {
        let leaf = u64::from(k) * 65_536;
        let mut sizes = vec![0, 1, 65_535, 65_536, 65_537, 3 * leaf + 17];
        sizes.extend([leaf - 1, leaf, leaf + 1, 2 * leaf]);
        if k == 1 {
            sizes.extend([1024 * leaf - 1, 1024 * leaf, 1024 * leaf + 1]);
        }
        for s in sizes {
            let store = MemoryStore::default();
            let (root, bytes) = import(&store, s, k);
            let shape = PayloadShape::new(s, k).unwrap();
            assert_eq!(shape.plaintext_len(), s);
            assert_eq!(shape.payload_len(), bytes.len() as u64, "s={s} k={k}");
            assert_eq!(shape.tsize(), root.tsize, "s={s} k={k}");
            assert_eq!(shape.block_count(), root.blocks);
            assert_eq!(shape.depth() == 0, shape.leaf_count() == 1);
            let lengths: u64 = (0..shape.leaf_count()).map(|leaf| shape.leaf_len(leaf).unwrap()).sum();
            assert_eq!(lengths, shape.payload_len());
            assert_eq!(shape.leaf_len(shape.leaf_count()), None);

            let reader = PayloadReader::open(&store, &root.cid, shape).unwrap();
            for (at, len) in
                [(0, 100), (65_000, 2000), (bytes.len() - 10, 10), (bytes.len(), 5), (usize::MAX, 5)]
            {
                let mut buf = vec![0; len];
                let n = reader.read_at(at as u64, &mut buf).unwrap();
                let expected = bytes.get(at..).unwrap_or_default();
                assert_eq!(&buf[..n], &expected[..len.min(expected.len())], "s={s} k={k} at={at}");
            }
        }
    }
}

#[test]
fn sizes_and_leaves_that_cannot_be_are_refused() {
    for k in [0, 2, 3, 5, 14, 16, 255] {
        assert_eq!(PayloadShape::new(1, k), Err(LayoutError::ChunksPerLeaf { k }));
        assert!(EnvelopeChunker::new(k).is_none());
    }
    for s in [(1 << 56) + 1, u64::MAX] {
        assert_eq!(PayloadShape::new(s, 4), Err(LayoutError::TooLong { s }));
    }
    let largest = PayloadShape::new(1 << 56, 1).unwrap();
    assert_eq!((largest.depth(), largest.leaf_count()), (4, 1 << 40));
    assert_eq!(largest.node_count(), (1 << 30) + (1 << 20) + (1 << 10) + 1);
}

#[test]
fn ranges_say_which_leaves_they_need() {
    let shape = PayloadShape::new(1_000_000, 4).unwrap();
    let check = |plain: Range<u64>, payload: Range<u64>, leaves: Range<u64>| {
        assert_eq!(shape.payload_range(plain.clone()), payload, "{plain:?}");
        assert_eq!(shape.leaves(payload), leaves, "{plain:?}");
    };
    check(0..1, 0..65_552, 0..1);
    check(65_535..65_537, 0..131_104, 0..1);
    check(262_144..262_145, 262_208..327_760, 1..2);
    check(262_143..262_145, 196_656..327_760, 0..2);
    check(999_999..u64::MAX, 983_280..1_000_256, 3..4);
    check(0..1_000_000, 0..1_000_256, 0..4);
    check(5..5, 0..0, 0..0);
    check(1_000_000..1_000_001, 0..0, 0..0);
    assert_eq!(shape.leaves(u64::MAX..u64::MAX), 0..0);
}

/// A payload of three levels of nodes, made of a few blocks that occur many times.
fn deep(counting: &Counting) -> (Cid, PayloadShape) {
    let mut seeded = Seeded::new(9);
    let (full, last) = (seeded.block(65_552), seeded.block(100));
    let put = |block: Block, size, below| {
        counting.store.put(&block).unwrap();
        stated(&block, size, below)
    };
    let repeat =
        |child: Stated, times: usize| (vec![child; times], child.1 * times as u64, child.2 * times as u64);
    let leaf = put(full, 65_552, 0);
    let (children, size, below) = repeat(leaf, 1024);
    let low = put(node(&children), size, below);
    let (children, size, below) = repeat(low, 1024);
    let middle = put(node(&children), size, below);
    let end = put(last, 100, 0);
    let low_end = [leaf, leaf, end];
    let low_end = put(node(&low_end), 2 * 65_552 + 100, low_end.iter().map(|child| child.2).sum());
    let middle_end = put(node(&[low_end]), low_end.1, low_end.2);
    let root = node(&[middle, middle_end]);
    let shape = PayloadShape::new((1024 * 1024 + 2) * 65_536 + 84, 1).unwrap();
    assert_eq!(shape.tsize(), middle.2 + middle_end.2 + root.len() as u64);
    counting.store.put(&root).unwrap();
    (*root.cid(), shape)
}

#[test]
fn a_range_reads_only_its_way_down() {
    let counting = Counting::default();
    let (root, shape) = deep(&counting);
    assert_eq!((shape.depth(), shape.leaf_count()), (3, 1024 * 1024 + 3));
    let reader = PayloadReader::open(&counting, &root, shape.clone()).unwrap();
    assert_eq!(counting.reads(), 1, "opening reads the root");
    let mut buf = [0; 65_552];
    assert_eq!(reader.read_at(0, &mut buf).unwrap(), 65_552);
    assert_eq!(counting.reads(), 3, "two more nodes and a leaf");
    assert_eq!(reader.read_at(10, &mut buf[..100]).unwrap(), 100);
    assert_eq!(counting.reads(), 0, "the last leaf is at hand");
    assert_eq!(reader.read_at(shape.payload_len() - 150, &mut buf).unwrap(), 150);
    assert_eq!(counting.reads(), 4, "two nodes and two leaves");

    let end = shape.leaf_count();
    let leaves = reader.leaf_cids(end - 5..end + 10).unwrap();
    assert_eq!(leaves.len(), 5);
    assert_ne!(leaves[3], leaves[4]);
    let nodes = reader.nodes(end - 5..end).unwrap();
    assert_eq!(nodes.len(), 5, "the root, and two nodes of each level below");
    assert_eq!(nodes[0], root);
    assert_eq!(reader.nodes(0..1).unwrap().len(), 3);
    assert_eq!(reader.nodes(5..5).unwrap(), []);
    assert_eq!(reader.leaf_cids(end..end + 1).unwrap(), []);
    let past = reader.leaf(end);
    assert!(
        matches!(past, Err(ReadError::Layout { source: LayoutError::NoSuchLeaf { .. }, .. })),
        "{past:?}"
    );
}

#[test]
fn a_missing_block_is_named() {
    let store = MemoryStore::default();
    let (root, _) = import(&store, 1_000_000, 4);
    let shape = PayloadShape::new(1_000_000, 4).unwrap();
    let reader = PayloadReader::open(&store, &root.cid, shape.clone()).unwrap();
    let leaf = reader.leaf_cids(2..3).unwrap()[0];
    store.remove_many(&[leaf]).unwrap();
    let result = reader.read_at(2 * 262_208, &mut [0; 10]);
    assert!(matches!(result, Err(ReadError::Missing { cid }) if cid == leaf), "{result:?}");
    assert_eq!(reader.read_at(0, &mut [0; 10]).unwrap(), 10);
    store.remove_many(&[root.cid]).unwrap();
    let result = PayloadReader::open(&store, &root.cid, shape);
    assert!(matches!(result, Err(ReadError::Missing { cid }) if cid == root.cid), "{result:?}");
}

/// Three leaves of a payload with k = 1, as they must be.
fn three() -> (MemoryStore, [Stated; 3], PayloadShape) {
    let store = MemoryStore::default();
    let mut seeded = Seeded::new(4);
    let leaves = [65_552, 65_552, 500].map(|len| {
        let block = seeded.block(len);
        store.put(&block).unwrap();
        stated(&block, len as u64, 0)
    });
    (store, leaves, PayloadShape::new(2 * 65_536 + 484, 1).unwrap())
}

#[track_caller]
fn refused_at_open(store: &MemoryStore, root: &Block, shape: &PayloadShape) {
    store.put(root).unwrap();
    let result = PayloadReader::open(store, root.cid(), shape.clone());
    assert!(matches!(result, Err(ReadError::Layout { .. })), "{result:?}");
}

#[test]
fn every_other_root_is_refused_at_open() {
    let (store, good, shape) = three();
    let root = node(&good);
    store.put(&root).unwrap();
    PayloadReader::open(&store, root.cid(), shape.clone()).unwrap();

    let [a, b, c] = good;
    // Lying sizes that add up, too few and too many links, another order of lengths.
    refused_at_open(&store, &node(&[Stated(a.0, 65_551, a.2), Stated(b.0, 65_553, b.2), c]), &shape);
    refused_at_open(&store, &node(&[a, b]), &shape);
    refused_at_open(&store, &node(&[a, b, c, Stated(c.0, 0, c.2)]), &shape);
    refused_at_open(&store, &node(&[a, c, b]), &shape);
    refused_at_open(&store, &node(&[]), &shape);
    // Wrong Tsize, wrong filesize, wrong number of sizes, other types, fields that change nothing.
    refused_at_open(&store, &node(&[a, b, Stated(c.0, c.1, c.2 + 1)]), &shape);
    let sizes = [a.1, b.1, c.1];
    let mut wrong_filesize = unixfs(&sizes);
    wrong_filesize[3] ^= 1;
    refused_at_open(&store, &node_with(&good, wrong_filesize), &shape);
    refused_at_open(&store, &node_with(&good, unixfs(&[a.1 + b.1, c.1])), &shape);
    let mut raw_type = unixfs(&sizes);
    raw_type[1] = 0;
    refused_at_open(&store, &node_with(&good, raw_type), &shape);
    for more in [&[0x38, 0x41][..], &[0x12, 0], &[0x12, 1, 0]] {
        refused_at_open(&store, &node_with(&good, [unixfs(&sizes), more.to_vec()].concat()), &shape);
    }
    // The same numbers, written longer.
    let mut long = unixfs(&sizes);
    *long.last_mut().unwrap() |= 0x80;
    long.push(0);
    refused_at_open(&store, &node_with(&good, long), &shape);
    // No name, a name, no Tsize.
    for (name, size) in [(None, true), (Some("a"), true), (Some(""), false)] {
        let links = good.iter().map(|child| PbLink {
            cid: child.0,
            name: name.map(str::to_owned),
            size: size.then_some(child.2),
        });
        let data = Some(unixfs(&sizes).into());
        let root = Block::new(DAG_PB, PbNode { links: links.collect(), data }.into_bytes());
        refused_at_open(&store, &root, &shape);
    }
    // Data before links.
    let bytes = root.data();
    let data_len = unixfs(&sizes).len() + 2;
    let (links, data) = bytes.split_at(bytes.len() - data_len);
    refused_at_open(&store, &Block::new(DAG_PB, [data, links].concat()), &shape);
    // A leaf that is a node, by version 0, by another codec; a leaf that is carried inside the name.
    let v0 = Cid::new_v0(*c.0.hash()).unwrap();
    let as_node = Cid::new_v1(DAG_PB, *c.0.hash());
    let as_cbor = Cid::new_v1(0x71, *c.0.hash());
    for cid in [v0, as_node, as_cbor, "bafkqaaa".parse().unwrap()] {
        refused_at_open(&store, &node(&[a, b, Stated(cid, c.1, c.2)]), &shape);
    }
    // A node between, and a node above.
    let between = node(&[b, c]);
    refused_at_open(&store, &node(&[a, stated(&between, b.1 + c.1, b.2 + c.2)]), &shape);
    let below = a.2 + b.2 + c.2;
    refused_at_open(&store, &node(&[stated(&root, shape.payload_len(), below)]), &shape);
    // No node at all.
    refused_at_open(&store, &Block::raw(bytes.clone()), &shape);
    refused_at_open(&store, &Block::new(DAG_PB, Vec::new()), &shape);
    let v0_root = Cid::new_v0(*root.cid().hash()).unwrap();
    assert!(PayloadReader::open(&store, &v0_root, shape.clone()).is_err());
    // The right root for another size or other leaves.
    for other in [PayloadShape::new(2 * 65_536 + 483, 1), PayloadShape::new(2 * 65_536 + 484, 4)] {
        refused_at_open(&store, &root, &other.unwrap());
    }
}

#[test]
fn a_payload_of_one_leaf_is_that_leaf() {
    let store = MemoryStore::default();
    let leaf = Seeded::new(1).block(500);
    let shape = PayloadShape::new(484, 4).unwrap();
    store.put(&leaf).unwrap();
    let reader = PayloadReader::open(&store, leaf.cid(), shape.clone()).unwrap();
    assert_eq!(reader.leaf_cids(0..9).unwrap(), [*leaf.cid()]);
    assert_eq!(reader.nodes(0..9).unwrap(), []);
    refused_at_open(&store, &node(&[stated(&leaf, 500, 0)]), &shape);
    refused_at_open(&store, &Seeded::new(2).block(499), &shape);
    refused_at_open(&store, &Seeded::new(2).block(501), &shape);
    // The bytes of the leaf under the name of a node.
    let as_node = Cid::new_v1(DAG_PB, *leaf.cid().hash());
    assert!(PayloadReader::open(&store, &as_node, shape).is_err());
}

#[test]
fn a_leaf_of_another_length_is_refused_when_it_is_read() {
    let (store, [a, b, c], shape) = three();
    let mut seeded = Seeded::new(5);
    for len in [65_551, 65_553, 0] {
        let wrong = seeded.block(len);
        store.put(&wrong).unwrap();
        let root = node(&[a, Stated(*wrong.cid(), b.1, b.2), c]);
        store.put(&root).unwrap();
        let reader = PayloadReader::open(&store, root.cid(), shape.clone()).unwrap();
        reader.read_at(0, &mut [0; 10]).unwrap();
        let error = reader.read_at(65_552, &mut [0; 10]).unwrap_err();
        let expected = LayoutError::Length { expected: 65_552, found: len as u64 };
        assert!(
            matches!(error, ReadError::Layout { cid, source } if cid == *wrong.cid() && source == expected)
        );
    }
}

#[test]
fn a_wrong_node_below_the_root_is_refused_when_it_is_read() {
    let counting = Counting::default();
    let (root, shape) = deep(&counting);
    let reader = PayloadReader::open(&counting, &root, shape.clone()).unwrap();
    let end = shape.leaf_count();
    let [_, _, middle_end, _, low_end] = reader.nodes(end - 5..end).unwrap()[..] else { panic!() };
    // The last lowest node with two of its leaves swapped for one of their common length: sizes that lie.
    let low = counting.store.get(&low_end).unwrap().unwrap();
    let leaves = reader.leaf_cids(end - 3..end).unwrap();
    let lying = node(&[
        Stated(leaves[0], 100, 100),
        Stated(leaves[1], 65_552, 65_552),
        Stated(leaves[2], 65_552, 65_552),
    ]);
    assert_eq!(lying.len(), low.len());
    counting.store.put(&lying).unwrap();
    let size = 2 * 65_552 + 100;
    let lying_middle = node(&[stated(&lying, size, size)]);
    counting.store.put(&lying_middle).unwrap();
    let root_links = counting.store.get(&root).unwrap().unwrap();
    let bytes = root_links.data().to_vec();
    let (old, new) = (middle_end.to_bytes(), lying_middle.cid().to_bytes());
    let at = bytes.windows(old.len()).position(|window| window == old).unwrap();
    let mut changed = bytes;
    changed[at..at + new.len()].copy_from_slice(&new);
    let lying_root = Block::new(DAG_PB, changed);
    counting.store.put(&lying_root).unwrap();

    let reader = PayloadReader::open(&counting, lying_root.cid(), shape.clone()).unwrap();
    reader.read_at(0, &mut [0; 10]).unwrap();
    let error = reader.read_at(shape.payload_len() - 10, &mut [0; 10]).unwrap_err();
    assert!(
        matches!(error, ReadError::Layout { cid, source: LayoutError::Shape { level: 1, .. } } if cid == *lying.cid())
    );
    assert!(reader.nodes(end - 1..end).is_err(), "a list of nodes names only checked ones");
}

#[test]
fn a_payload_node_with_any_bit_changed_is_refused() {
    let (store, good, shape) = three();
    let root = node(&good);
    for at in 0..root.len() {
        for bit in 0..8 {
            let mut bytes = root.data().to_vec();
            bytes[at] ^= 1 << bit;
            let changed = Block::new(DAG_PB, bytes);
            store.put(&changed).unwrap();
            let result = PayloadReader::open(&store, changed.cid(), shape.clone());
            let digest_changed = (0..3).any(|link| {
                let start = at_of(&root, &good[link].0) + 4;
                (start..start + 32).contains(&at)
            });
            assert_eq!(result.is_ok(), digest_changed, "byte {at} bit {bit}");
        }
    }
}

fn at_of(block: &Block, cid: &Cid) -> usize {
    let name = cid.to_bytes();
    block.data().windows(name.len()).position(|window| window == name).unwrap()
}

#[test]
fn the_readable_root_is_header_then_payload() {
    let store = MemoryStore::default();
    let header = Block::raw(Seeded::new(3).bytes(345));
    store.put(&header).unwrap();
    for s in [0, 100, 3_000_000] {
        let (root, payload) = import(&store, s, 4);
        let r = readable_root(&header, &root.cid, root.size, root.tsize);
        store.put(&r).unwrap();
        let links = PbNode::from_bytes(r.data().clone()).unwrap().links;
        assert_eq!(links.len(), 2);
        assert_eq!((links[0].size, links[1].size), (Some(345), Some(root.tsize)));
        assert!(links.iter().all(|link| link.name.as_deref() == Some("")));
        let same = node(&[stated(&header, 345, 0), Stated(root.cid, root.size, root.tsize)]);
        assert_eq!(r, same);
        let mut read = Vec::new();
        std::io::Read::read_to_end(&mut FileReader::open(&store, r.cid()).unwrap(), &mut read).unwrap();
        assert!(read == [header.data().to_vec(), payload].concat());
    }
}
