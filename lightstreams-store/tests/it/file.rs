//! Files become the DAGs that other importers of IPFS make of them.

use std::io::{self, Read};

use chacha20::{
    ChaCha20,
    cipher::{KeyIvInit, StreamCipher},
};
use lightstreams_store::{
    Block, BlockStore, BuildError, Chunker, FileBuilder, FileRoot, FixedChunker, MAX_CHUNK_LEN, MemoryStore,
    StoreError, StoreOp, testing::Seeded,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::{json, vectors};

/// `K(seed, len)`: a ChaCha20 keystream under the sha2-256 of `seed`.
struct Keystream {
    cipher: ChaCha20,
    left: u64,
}

impl Keystream {
    fn new(seed: &str, len: u64) -> Self {
        let key: [u8; 32] = Sha256::digest(seed).into();
        Self { cipher: ChaCha20::new(&key.into(), &[0; 12].into()), left: len }
    }
}

impl Read for Keystream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = buf.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        buf[..n].fill(0);
        self.cipher.apply_keystream(&mut buf[..n]);
        self.left -= n as u64;
        Ok(n)
    }
}

fn build(reader: &mut dyn Read, chunk: usize) -> FileRoot {
    FileBuilder::new(FixedChunker::new(chunk).unwrap()).build(reader, &mut |_| Ok(())).unwrap()
}

#[track_caller]
fn check(seed: &str, len: u64, expected: &str) {
    let root = build(&mut Keystream::new(seed, len), 1 << 20);
    assert_eq!((root.cid.to_string().as_str(), root.size), (expected, len));
}

#[test]
fn the_known_answers_of_unixfs_v1_2025_are_met() {
    let hello = build(&mut &b"hello world"[..], 1 << 20);
    assert_eq!(hello.cid.to_string(), "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e");
    check("chunk-v1-seed", 1_048_576, "bafkreiacndfy443ter6qr2tmbbdhadvxxheowwf75s6zehscklu6ezxmta");
    check("chunk-v1-seed", 1_048_577, "bafybeigmix7t42i6jacydtquhet7srwvgpizfg7gjbq7627d35mjomtu64");
    check("lightstreams", 10 << 20, "bafybeidcqp3ejv7skfu7sv3kdkzpghk3bqcafbm7zdtzrjkhqtavl7zzuy");
}

#[test]
#[cfg_attr(debug_assertions, ignore = "two files of 1 GiB: seconds in release, minutes without")]
fn the_known_answers_at_the_width_of_a_node_are_met() {
    check("v1-2025-seed", 1 << 30, "bafybeihmf37wcuvtx4hpu7he5zl5qaf2ineo2lqlfrapokkm5zzw7zyhvm");
    check("v1-2025-seed", (1 << 30) + 1, "bafybeibdsi225ugbkmpbdohnxioyab6jsqrmkts3twhpvfnzp77xtzpyhe");
}

#[test]
fn the_vectors_of_this_profile_are_met() {
    for (suite, name) in [("unixfs-cids", "known-cids.json"), ("kubo", "cases.json")] {
        let Some(folder) = vectors(suite) else { continue };
        let mut checked = 0;
        for row in json(folder.join(name))["rows"].as_array().unwrap() {
            if !is_ours(row) {
                continue;
            }
            let bytes = generate(&row["file"]);
            let root = build(&mut &bytes[..], row["chunk"].as_u64().unwrap() as usize);
            assert_eq!(root.cid.to_string(), row["root_cid"].as_str().unwrap(), "{}", row["name"]);
            assert_eq!(root.size, bytes.len() as u64);
            if let Some(tsize) = row["files_stat"]["cumulative_size"].as_u64() {
                assert_eq!(root.tsize, tsize, "{}", row["name"]);
            }
            checked += 1;
        }
        println!("{suite}: {checked} rows of this profile");
        assert!(checked > 0);
    }
}

/// Whether the options of a row make the DAG that this profile makes; narrower nodes do where no node is full.
fn is_ours(row: &Value) -> bool {
    let chunker = row["chunker"].as_str().is_none_or(|chunker| chunker.starts_with("size-"));
    let (Some(chunk), Some(size), Some(width)) =
        (row["chunk"].as_u64(), row["size"].as_u64(), row["max_links"].as_u64())
    else {
        return false;
    };
    row["cid_version"] == 1
        && row["raw_leaves"] == true
        && row["layout"] == "balanced"
        && row["multihash"] == "sha2-256"
        && row["file"].is_object()
        && ["inline_limit", "wrap", "mode", "mtime"].iter().all(|option| row.get(option).is_none())
        && chunker
        && (width == 1024 || size.div_ceil(chunk) <= width.min(1024))
}

/// The bytes that a recipe of the vectors describes.
fn generate(file: &Value) -> Vec<u8> {
    let size = file["size"].as_u64().unwrap_or(0);
    match file["gen"].as_str().unwrap() {
        "lin" => (0..size).map(|i| (i * 7 + 3) as u8).collect(),
        "lcg" => {
            let mut x = file["seed"].as_u64().unwrap() as u32;
            (0..size)
                .map(|_| {
                    x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (x >> 24) as u8
                })
                .collect()
        }
        "text" => file["text"].as_str().unwrap().as_bytes().to_vec(),
        other => panic!("unknown generator {other}"),
    }
}

#[test]
fn an_empty_file_is_the_empty_raw_block() {
    let root = build(&mut io::empty(), 1 << 20);
    assert_eq!(root.cid, *Block::raw(Vec::new()).cid());
    assert_eq!((root.size, root.tsize, root.blocks), (0, 0, 1));
}

#[test]
fn children_come_before_parents_and_the_root_last() {
    let mut names = Vec::new();
    let root = FileBuilder::new(FixedChunker::new(1).unwrap())
        .build(&mut Keystream::new("a", 2100), &mut |block| {
            names.push(*block.cid());
            Ok(())
        })
        .unwrap();
    assert_eq!(names.len() as u64, root.blocks);
    assert_eq!(root.blocks, 2100 + 3 + 1);
    assert_eq!(names.last(), Some(&root.cid));
}

#[test]
fn an_import_is_in_the_store_and_tells_its_progress() {
    let store = MemoryStore::default();
    let mut told = Vec::new();
    let len = 20_000_001;
    let root = FileBuilder::new(FixedChunker::V1_2025)
        .import(&mut Keystream::new("b", len), &store, &mut |bytes| told.push(bytes))
        .unwrap();
    assert_eq!((root.size, told.last()), (len, Some(&len)));
    assert!(told.len() > 2 && told.is_sorted(), "{told:?}");
    assert_eq!(store.len() as u64, root.blocks);
    assert!(store.has(&root.cid).unwrap());
    let sum: u64 = store.cids(None, 1000).unwrap().iter().map(|cid| store.size(cid).unwrap().unwrap()).sum();
    assert_eq!(sum, root.tsize);
}

/// Gives a few bytes at a time, as a network does.
struct Dribble(Vec<u8>);

impl Read for Dribble {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = buf.len().min(self.0.len()).min(7);
        buf[..n].copy_from_slice(&self.0[..n]);
        self.0.drain(..n);
        Ok(n)
    }
}

#[test]
fn how_the_input_arrives_does_not_matter() {
    let bytes = Seeded::new(1).bytes(10_000);
    assert_eq!(build(&mut Dribble(bytes.clone()), 1000), build(&mut &bytes[..], 1000));
}

/// Cuts where a byte is below 4: an example of a chunker that looks at content.
struct AtSmallBytes;

impl Chunker for AtSmallBytes {
    fn max_len(&self) -> usize {
        1000
    }
    fn cut(&mut self, bytes: &[u8]) -> usize {
        bytes.iter().position(|byte| *byte < 4).map_or(bytes.len(), |at| at + 1)
    }
}

#[test]
fn a_chunker_may_look_at_the_content() {
    let bytes = Seeded::new(2).bytes(50_000);
    let mut leaves = Vec::new();
    FileBuilder::new(AtSmallBytes)
        .build(&mut Dribble(bytes.clone()), &mut |block| {
            if block.cid().codec() == lightstreams_store::RAW {
                leaves.push(block.into_parts().1);
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(leaves.concat(), bytes);
    let (last, whole) = leaves.split_last().unwrap();
    assert!(!last.is_empty() && leaves.len() > 300);
    assert!(whole.iter().all(|leaf| leaf.last().unwrap() < &4 || leaf.len() == 1000));
}

struct Lies(usize);

impl Chunker for Lies {
    fn max_len(&self) -> usize {
        100
    }
    fn cut(&mut self, _: &[u8]) -> usize {
        self.0
    }
}

#[test]
fn a_chunker_that_breaks_its_contract_is_an_error() {
    for cut in [0, 101] {
        let result = FileBuilder::new(Lies(cut)).build(&mut Keystream::new("c", 1000), &mut |_| Ok(()));
        assert!(matches!(result, Err(BuildError::Chunker { len: 100, .. })), "{result:?}");
    }
    assert!(FixedChunker::new(0).is_none());
    assert!(FixedChunker::new(MAX_CHUNK_LEN).is_some());
    assert!(FixedChunker::new(MAX_CHUNK_LEN + 1).is_none());
}

#[test]
fn failures_of_input_and_store_are_told_apart() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("gone"))
        }
    }
    let builder = || FileBuilder::new(FixedChunker::V1_2025);
    assert!(matches!(builder().build(&mut Broken, &mut |_| Ok(())), Err(BuildError::Read(_))));
    let full = |_| Err(StoreError::new(StoreOp::Put, "full"));
    assert!(matches!(builder().build(&mut &b"x"[..], &mut { full }), Err(BuildError::Store(_))));
}
