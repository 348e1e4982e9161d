//! A power cut that loses sectors of fjall's journal.

use std::{
    fs,
    path::{Path, PathBuf},
};

use lightstreams_store::{Block, BlockStore, FjallStore};

const LEN: usize = 3_000;

/// A copy of a store that is open, with the blocks of `bytes` in one batch each: what a power cut leaves.
fn interrupted(copy: &Path, bytes: &[u8]) -> Vec<Block> {
    let folder = tempfile::tempdir().unwrap();
    let store = FjallStore::open(folder.path()).unwrap();
    let blocks: Vec<_> = bytes.iter().map(|byte| Block::raw(vec![*byte; LEN])).collect();
    for block in &blocks {
        store.put_many(std::slice::from_ref(block)).unwrap();
    }
    copy_folder(folder.path(), copy);
    blocks
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// Zeros 512 bytes in the middle of the block that is all `byte`; returns the journal.
fn lose_a_sector(folder: &Path, byte: u8) -> PathBuf {
    let path = folder.join("db/0.jnl");
    let mut journal = fs::read(&path).unwrap();
    let block = journal.windows(LEN).position(|window| window.iter().all(|b| *b == byte)).unwrap();
    journal[block + 1_000..block + 1_512].fill(0);
    fs::write(&path, journal).unwrap();
    path
}

#[test]
fn a_torn_last_batch_is_one_that_was_never_written() {
    let folder = tempfile::tempdir().unwrap();
    let blocks = interrupted(folder.path(), b"abc");
    lose_a_sector(folder.path(), b'c');
    for _ in 0..2 {
        let store = FjallStore::open(folder.path()).unwrap();
        let held = blocks.iter().map(|block| store.get(block.cid()).unwrap().as_ref() == Some(block));
        assert_eq!(held.collect::<Vec<_>>(), [true, true, false]);
    }
    let store = FjallStore::open(folder.path()).unwrap();
    store.put_many(&blocks).unwrap();
    drop(store);
    assert!(FjallStore::open(folder.path()).unwrap().has(blocks[2].cid()).unwrap());
}

#[test]
fn damage_in_an_acknowledged_batch_is_an_error_and_costs_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let blocks = interrupted(folder.path(), b"abc");
    let journal = lose_a_sector(folder.path(), b'b');
    let before = fs::read(&journal).unwrap();
    for _ in 0..2 {
        let error = FjallStore::open(folder.path()).unwrap_err();
        assert!(error.source.to_string().contains("ChecksumMismatch"), "{error}");
        assert!(fs::read(&journal).unwrap() == before);
    }
    // Whoever has the sector can still put it back.
    let mut mended = before;
    let hole = mended.windows(512).position(|w| w.iter().all(|b| *b == 0)).unwrap();
    mended[hole..hole + 512].fill(b'b');
    fs::write(&journal, mended).unwrap();
    let store = FjallStore::open(folder.path()).unwrap();
    assert!(blocks.iter().all(|block| store.has(block.cid()).unwrap()));
}
