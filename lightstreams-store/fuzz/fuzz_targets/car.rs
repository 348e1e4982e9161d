//! CARs: in a stream and by index the same blocks are found, and each hashes to its name.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lightstreams_store::{Block, CarFile, CarLimits, CarReader, CarWriter};

fuzz_target!(|data: &[u8]| {
    let Ok(mut reader) = CarReader::new(data) else {
        assert!(CarFile::open(data, CarLimits::default()).is_err(), "no header, no file");
        return;
    };
    let roots = reader.roots().to_vec();
    let (mut blocks, mut whole) = (Vec::new(), true);
    while let Some(block) = reader.next_block().transpose() {
        match block {
            Ok(block) => blocks.push(block),
            Err(_) => whole = false,
        }
    }
    for block in &blocks {
        assert!(Block::from_cid(*block.cid(), block.data().clone()).is_ok());
    }
    if let Ok(file) = CarFile::open(data, CarLimits::default()) {
        assert_eq!(file.roots(), roots);
        for block in &blocks {
            // An index may leave a block out, but not show another one.
            if let Ok(Some(found)) = file.get(block.cid()) {
                assert_eq!(&found, block);
            }
        }
        if let Ok(count) = file.verify() {
            assert!(whole && count == blocks.len() as u64);
        }
    }
    let mut writer = CarWriter::new(Vec::new(), &roots).unwrap();
    blocks.iter().for_each(|block| writer.write(block).unwrap());
    let written = writer.finish().unwrap();
    let again: Result<Vec<Block>, _> = CarReader::new(&written[..]).unwrap().collect();
    assert_eq!(again.unwrap(), blocks);
});
