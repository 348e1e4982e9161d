//! CAR files of other implementations.

use std::{
    fs,
    io::{BufReader, Read},
};

use cid::multibase::Base;
use lightstreams_store::{
    Block, BlockError, BlockStore, CarError, CarReader, CarWriter, Cid, DAG_PB, FileReader, LayoutError,
    MemoryStore, ReadError,
};
use sha2::{Digest, Sha256};

use crate::support::{json, vectors};

#[test]
fn car_fixtures_read_and_write_back() {
    let Some(folder) = vectors("ipfs-car-fixtures") else { return };
    let index = json(folder.join("index.json"));
    let (mut read, mut same) = (0, 0);
    for (path, case) in index.as_object().unwrap() {
        let Some(version) = case["car_version"].as_u64() else { continue };
        let bytes = fs::read(folder.join(path)).unwrap();
        let mut reader = CarReader::new(&bytes[..]).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert_eq!(reader.version(), version, "{path}");
        let roots = reader.roots().to_vec();
        let blocks: Vec<Block> =
            reader.by_ref().map(|block| block.unwrap_or_else(|e| panic!("{path}: {e}"))).collect();
        assert_eq!(blocks.len() as u64, case["blocks"].as_u64().unwrap(), "{path}");
        read += 1;

        if version != 1 {
            continue;
        }
        let mut writer = CarWriter::new(Vec::new(), &roots).unwrap();
        blocks.iter().for_each(|block| writer.write(block).unwrap());
        assert!(writer.finish().unwrap() == bytes, "{path} is written as it was");
        same += 1;
    }
    println!("ipfs-car-fixtures: {read} read, {same} of version 1 written back to the same bytes");
    assert!(read > 0);
}

#[test]
fn files_in_car_fixtures_read_whole_and_in_part() {
    let Some(folder) = vectors("ipfs-car-fixtures") else { return };
    let index = json(folder.join("index.json"));
    let (mut files, mut others, mut incomplete) = (0, 0, 0);
    for (path, case) in index.as_object().unwrap() {
        if case["car_version"] != 1 {
            continue;
        }
        let reader = CarReader::new(BufReader::new(fs::File::open(folder.join(path)).unwrap())).unwrap();
        let store = MemoryStore::default();
        let nodes: Vec<Cid> = reader
            .map(Result::unwrap)
            .inspect(|block| store.put(block).unwrap())
            .map(|block| *block.cid())
            .filter(|cid| cid.codec() == DAG_PB)
            .collect();
        for cid in nodes {
            let file = match FileReader::open(&store, &cid) {
                Ok(file) => file,
                Err(ReadError::Layout { source: LayoutError::NotAFile, .. }) => {
                    others += 1;
                    continue;
                }
                // A node without a UnixFS message is valid dag-pb, and no file.
                Err(ReadError::Layout { source: LayoutError::Malformed { .. }, .. }) => {
                    others += 1;
                    continue;
                }
                Err(e) => panic!("{path} {cid}: {e}"),
            };
            let mut all = vec![0; usize::try_from(file.len()).unwrap()];
            match file.read_at(0, &mut all) {
                Ok(n) => assert_eq!(n, all.len()),
                Err(ReadError::Missing { .. }) => {
                    incomplete += 1;
                    continue;
                }
                Err(e) => panic!("{path} {cid}: {e}"),
            }
            let middle = all.len() / 2;
            let mut half = vec![0; all.len() - middle];
            assert_eq!(file.read_at(middle as u64, &mut half).unwrap(), half.len());
            assert_eq!(half, &all[middle..]);
            files += 1;
        }
    }
    println!("ipfs-car-fixtures: {files} files read, {incomplete} lack a block, {others} nodes are no files");
    assert!(files > 0);
}

#[test]
fn car_files_made_by_kubo_read_to_the_bytes_that_went_in() {
    let Some(folder) = vectors("kubo") else { return };
    let (mut cars, mut files, mut unknown) = (0, 0, 0);
    for row in json(folder.join("cases.json"))["rows"].as_array().unwrap() {
        let Some(base64) = row["car"]["base64"].as_str() else { continue };
        let name = &row["name"];
        let bytes = Base::Base64Pad.decode(base64).unwrap();
        let mut reader = CarReader::new(&bytes[..]).unwrap();
        let root: Cid = row["root_cid"].as_str().unwrap().parse().unwrap();
        assert_eq!(reader.roots(), [root], "{name}");
        let blocks: Vec<Block> = match reader.by_ref().collect() {
            Ok(blocks) => blocks,
            Err(CarError::Block { source: BlockError::UnknownHash { .. }, .. }) => {
                unknown += 1;
                continue;
            }
            Err(e) => panic!("{name}: {e}"),
        };
        let order: Vec<&str> =
            row["car"]["order"].as_array().unwrap().iter().map(|cid| cid.as_str().unwrap()).collect();
        assert_eq!(blocks.iter().map(|block| block.cid().to_string()).collect::<Vec<_>>(), order, "{name}");
        cars += 1;

        let store = MemoryStore::default();
        store.put_many(&blocks).unwrap();
        match FileReader::open(&store, &root) {
            Ok(mut file) => {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).unwrap();
                let digest = Base::Base16Lower.encode(Sha256::digest(&bytes));
                assert_eq!(digest, row["sha256_of_input"].as_str().unwrap(), "{name}");
                files += 1;
            }
            Err(e) => assert!(row["type"] == "directory" || row["type"] == "hamt-shard", "{name}: {e}"),
        }
    }
    println!("kubo: {cars} CARs read, {files} of them files; {unknown} have another hash function");
    assert!(files > 0);
}
