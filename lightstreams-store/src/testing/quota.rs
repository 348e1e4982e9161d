//! A store that is full.

use super::Seeded;
use crate::{Block, BlockStore, Quota, QuotaError};

/// Holds an empty `store` to staying whole when it is [full](Quota): what does not fit is refused with all of its batch, everything
/// else goes on, and the count is right whoever races.
pub fn check_full_block_store<S: BlockStore>(store: S) {
    let mut seeded = Seeded::new(40);
    let blocks: Vec<Block> = (0..20).map(|_| seeded.block(1000)).collect();
    let store = Quota::new(store, 10_500).unwrap();
    assert_eq!(store.used_bytes(), 0, "check_full_block_store needs an empty store");
    store.put_many(&blocks[..8]).unwrap();
    store.put_many(&blocks[..8]).unwrap();
    assert_eq!(store.used_bytes(), 8000, "a block counts once");
    let error = store.put_many(&blocks[6..12]).expect_err("four new ones do not fit");
    let expected = QuotaError { limit_bytes: 10_500, held: 8000, wanted: 4000 };
    assert_eq!(error.source.downcast_ref(), Some(&expected));
    for (i, block) in blocks.iter().enumerate() {
        assert_eq!(store.get(block.cid()).unwrap().is_some(), i < 8, "all of a batch or nothing");
    }
    store.put_many(&blocks[6..10]).unwrap();
    store.put_many(&blocks[..10]).unwrap();
    assert!(store.put(&blocks[10]).is_err());
    store.remove_many(&[*blocks[0].cid(), *blocks[0].cid(), *blocks[15].cid()]).unwrap();
    store.put(&blocks[10]).unwrap();
    assert_eq!(store.used_bytes(), 10_000);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (store, blocks) = (&store, &blocks);
            scope.spawn(move || {
                let mut seeded = Seeded::new(thread);
                for _ in 0..50 {
                    let from = seeded.below(17) as usize;
                    let _ = store.put_many(&blocks[from..from + 3]);
                    store.remove_many(&[*blocks[seeded.below(20) as usize].cid()]).unwrap();
                }
            });
        }
    });
    let held = blocks.iter().filter(|block| store.has(block.cid()).unwrap()).count() as u64;
    assert_eq!(store.used_bytes(), held * 1000);
    assert!(held <= 10);
    assert_eq!(Quota::new(store.store(), 1).unwrap().used_bytes(), held * 1000, "counted again");
    store.remove_many(&store.cids(None, 100).unwrap()).unwrap();
    assert_eq!(store.used_bytes(), 0);
}
