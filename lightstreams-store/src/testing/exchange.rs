//! What every exchange must do.

use super::Seeded;
use crate::{
    Block, BlockStore, Cid, DAG_PB, Exchange, FetchError, MAX_BLOCK_LEN, MAX_WANTS, Session, StoreError,
    StoreOp,
};

/// Holds `exchange` to the contract of [`Exchange`]: it must bring what `remote` holds, asked with `session`. Puts blocks into
/// `remote`, which need not be empty; panics where the contract is broken.
pub fn check_exchange(remote: &dyn BlockStore, exchange: &dyn Exchange, session: &Session) {
    let mut seeded = Seeded::new(8);
    let lengths = [0, 1, 1000, 262_208, 983_280, MAX_BLOCK_LEN];
    let blocks: Vec<Block> = lengths.iter().map(|len| seeded.block(*len)).collect();
    let many: Vec<Block> = (0..300).map(|_| seeded.block(500)).collect();
    let node = Block::new(DAG_PB, seeded.bytes(900));
    remote.put_many(&blocks).unwrap();
    remote.put_many(&many).unwrap();
    remote.put(&node).unwrap();

    let fetch = |cids: &[Cid]| {
        let mut got = Vec::new();
        let result = exchange.fetch(cids, session, &mut |block| {
            got.push(block);
            Ok(())
        });
        got.sort_by_key(|block| block.cid().to_bytes());
        (got, result)
    };
    let sorted = |blocks: &[Block]| {
        let mut blocks = blocks.to_vec();
        blocks.sort_by_key(|block| block.cid().to_bytes());
        blocks
    };
    let cids = |blocks: &[Block]| blocks.iter().map(|block| *block.cid()).collect::<Vec<_>>();

    let (got, result) = fetch(&[]);
    assert!(result.is_ok() && got.is_empty(), "nothing wanted, nothing brought");
    let (got, result) = fetch(&cids(&blocks));
    result.unwrap();
    assert!(got == sorted(&blocks), "blocks of every length come");
    let (got, result) = fetch(&cids(&many));
    result.unwrap();
    assert!(got == sorted(&many), "many at once come");
    assert_eq!(exchange.fetch_one(node.cid(), session).unwrap(), node, "the CID wanted is the CID brought");

    let twice = [*many[0].cid(), *many[1].cid(), *many[0].cid()];
    let (got, result) = fetch(&twice);
    result.unwrap();
    assert!(got == sorted(&many[..2]), "a block named twice comes once");

    let (absent_a, absent_b) = (seeded.block(77), seeded.block(78));
    let (got, result) = fetch(&[*absent_b.cid(), *many[5].cid(), *absent_a.cid()]);
    match result {
        Err(FetchError::Missing { cids, .. }) => assert_eq!(cids, [*absent_b.cid(), *absent_a.cid()]),
        other => panic!("expected two missing blocks, got {other:?}"),
    }
    assert!(got == many[5..6], "what can be had comes although others are missing");

    let too_many: Vec<Cid> = (0..=MAX_WANTS).map(|i| *Block::raw(i.to_be_bytes().to_vec()).cid()).collect();
    assert!(matches!(fetch(&too_many).1, Err(FetchError::TooMany { wanted }) if wanted == MAX_WANTS + 1));

    let mut taken = 0;
    let result = exchange.fetch(&cids(&many), session, &mut |_| {
        taken += 1;
        if taken == 3 { Err(StoreError::new(StoreOp::Put, "full")) } else { Ok(()) }
    });
    assert!(matches!(result, Err(FetchError::Sink(_))), "the sink's error comes back");
    assert_eq!(taken, 3, "nothing is handed over after the sink's error");
    let (got, result) = fetch(&cids(&many[..1]));
    result.unwrap();
    assert!(got == many[..1], "an aborted fetch leaves the exchange usable");
}
