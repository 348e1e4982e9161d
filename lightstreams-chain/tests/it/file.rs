//! Chain files go in and out unchanged, and a bad one says where and why.

use std::{error::Error, io::Read, ops::ControlFlow};

use lightstreams_chain::{
    BlockId, BlockRlpError, Chain, ExportError, FeePolicy, FileFault, FileProgress, ImportError,
    ImportFileError,
};

use crate::{
    dev::{AUTHOR, genesis, open, seal, transfer},
    headers::{NOW, open_geth, unzstd, vectors},
};

fn on(_: &FileProgress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// A chain of `blocks` blocks with a transfer in each, and its file.
fn exported(blocks: u64) -> (Chain, Vec<u8>) {
    let chain = open(genesis(FeePolicy::Zero));
    for nonce in 0..blocks {
        chain.submit(&transfer(&chain, 0, nonce, AUTHOR, 1)).unwrap();
        seal(&chain);
    }
    let mut file = Vec::new();
    let done = chain.export_to(0..=blocks, &mut file, on).unwrap();
    assert_eq!((done.blocks, done.number, done.bytes), (blocks + 1, blocks, file.len() as u64));
    (chain, file)
}

#[test]
fn files_of_go_ethereum_are_imported_and_exported_to_the_byte() {
    let Some(suite) = vectors("clique-geth") else { return };
    for name in ["live", "forks", "frontier"] {
        let Some(file) = unzstd(suite.join("chains").join(name).join("chain.rlp.zst")) else { return };
        let (chain, _) = open_geth(&suite, name);
        let done = chain.import_from(&file[..], NOW, on).unwrap();
        assert_eq!(
            (done.bytes, done.known, done.number),
            (file.len() as u64, 1, chain.head().number()),
            "{name}"
        );
        let mut again = Vec::new();
        chain.export_to(0..=done.number, &mut again, on).unwrap();
        assert!(again == file, "{name}: exported otherwise than go-ethereum does");
    }
}

/// A reader that gives a byte at a time, as slow pipes may.
struct Dripping<'a>(&'a [u8]);

impl Read for Dripping<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = buffer.len().min(1);
        self.0.read(&mut buffer[..count])
    }
}

#[test]
fn an_interrupted_import_goes_on_where_it_was() {
    const BLOCKS: u64 = 300;
    let (chain, file) = exported(BLOCKS);
    let other = open(genesis(FeePolicy::Zero));
    let mut groups = Vec::new();
    let done = other.import_from(Dripping(&file), NOW, |done| {
        groups.push(*done);
        ControlFlow::Break(())
    });
    let done = done.unwrap();
    assert_eq!(groups, [done], "it ends after the group");
    assert!((2..BLOCKS).contains(&done.blocks), "{done:?}");
    assert_eq!((done.known, other.head().number()), (1, done.blocks - 1));
    let cut = other.import_from(&file[..file.len() - 1], NOW, on).unwrap_err();
    assert_eq!((cut.done.blocks, cut.done.known), (BLOCKS, done.blocks));
    let done = other.import_from(Dripping(&file), NOW, on).unwrap();
    assert_eq!((done.blocks, done.known, done.bytes), (BLOCKS + 1, BLOCKS, file.len() as u64));
    assert_eq!(other.head(), chain.head());
    let balance = |chain: &Chain| chain.state(BlockId::Latest).unwrap().balance(AUTHOR).unwrap();
    assert_eq!(balance(&other), balance(&chain));
}

#[test]
fn a_bad_file_says_at_which_block_and_byte_it_stopped_and_why() {
    let (chain, file) = exported(4);
    #[track_caller]
    fn check(file: &[u8], blocks: u64, why: impl FnOnce(&FileFault) -> bool) -> ImportFileError {
        let chain = open(genesis(FeePolicy::Zero));
        let error = chain.import_from(file, NOW, on).unwrap_err();
        assert!(why(&error.fault), "{error}: {:?}", error.fault);
        assert_eq!(error.done.blocks, blocks, "{error}");
        assert_eq!(chain.head().number(), blocks.saturating_sub(1), "what came before is here");
        error
    }
    let mut starts = vec![0];
    chain
        .export_to(0..=4, std::io::sink(), |done| {
            starts.push(done.bytes as usize);
            on(done)
        })
        .unwrap();
    let at = |index: usize| starts[index];
    for cut in [at(2) + 1, at(2) + 2, at(3) - 1, at(2) + 50] {
        let error = check(&file[..cut], 2, |fault| matches!(fault, FileFault::Cut));
        assert_eq!(error.done.bytes, at(2) as u64);
        assert!(
            error.to_string().contains(&format!("block 2 of the file, which begins at byte {}", at(2))),
            "{error}"
        );
    }
    check(&[&file[..at(1)], b"\x80"].concat(), 1, |fault| {
        matches!(fault, FileFault::Rlp(BlockRlpError::Rlp(_)))
    });
    check(&[&file[..at(1)], b"\xc0"].concat(), 1, |fault| matches!(fault, FileFault::Rlp(_)));
    // A length of a terabyte is refused before anything of it is read.
    let endless = [&file[..at(1)], b"\xfd\x01\0\0\0\0\0", b"rest"].concat();
    check(&endless, 1, |fault| matches!(fault, FileFault::Rlp(BlockRlpError::TooLong(_))));
    let overflow = [&file[..at(1)], &[0xff; 9][..]].concat();
    check(&overflow, 1, |fault| matches!(fault, FileFault::Rlp(BlockRlpError::TooLong(_))));
    // A gap.
    let gap = [&file[..at(2)], &file[at(3)..]].concat();
    let error = check(&gap, 2, |fault| matches!(fault, FileFault::Import(ImportError::UnknownParent(_))));
    assert_eq!(error.block.unwrap().number, 3);
    assert!(error.source().is_some() && error.to_string().contains("number 3"), "{error}");
    // A block whose body was changed.
    let mut wrong = file.clone();
    *wrong.get_mut(at(4) - 60).unwrap() ^= 1;
    check(&wrong, 3, |fault| {
        matches!(fault, FileFault::Import(ImportError::Invalid { .. }) | FileFault::Rlp(_))
    });
    // Another network.
    let (_, foreign) = {
        let mut other = genesis(FeePolicy::Zero);
        other.fund(AUTHOR, lightstreams_chain::alloy_primitives::U256::ONE);
        let chain = open(other);
        let mut file = Vec::new();
        chain.export_to(0..=0, &mut file, on).unwrap();
        (chain, file)
    };
    check(&foreign, 0, |fault| matches!(fault, FileFault::OtherChain { .. }));
    // An empty file is a file.
    assert_eq!(
        open(genesis(FeePolicy::Zero)).import_from(&[][..], NOW, on).unwrap(),
        FileProgress::default()
    );
}

#[test]
fn a_range_outside_the_chain_and_a_full_disk_are_said() {
    let (chain, file) = exported(3);
    for (first, last) in [(2, 1), (0, 4), (u64::MAX, u64::MAX)] {
        let refused = chain.export_to(first..=last, std::io::sink(), on);
        assert!(matches!(refused, Err(ExportError::Range { head: 3, .. })), "{refused:?}");
    }
    let mut short = vec![0; file.len() - 1];
    let refused = chain.export_to(0..=3, &mut short[..], on);
    assert!(matches!(refused, Err(ExportError::Write(_))), "{refused:?}");
    let mut part = Vec::new();
    let done = chain.export_to(1..=2, &mut part, on).unwrap();
    assert_eq!((done.blocks, done.number), (2, 2));
    let other = open(genesis(FeePolicy::Zero));
    other.import_from(&part[..], NOW, on).unwrap();
    assert_eq!(other.head().number(), 2);
}
