//! A database that dies at any of its writes has lost nothing that was acknowledged, and the chain goes on from there.

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes, TxKind, U256};
use lightstreams_chain::{
    Ancestry, Batch, Block, Chain, DEV_ACCOUNTS, FeePolicy, Kv, MemoryKv, Table,
    testing::{NoSeal, StopsAt},
};

use crate::{
    dev::{genesis, logger, seal_as, send, transfer},
    history::assert_root_of_tables,
};

const NOW: u64 = 4_000_000_000;
/// More than states are kept, so that every later block forgets one.
const BEFORE: u64 = 130;

fn open(kv: Arc<dyn Kv>) -> Result<Chain, Box<dyn std::error::Error>> {
    Ok(Chain::open(genesis(FeePolicy::Market), kv, Arc::new(NoSeal::default()))?)
}

fn copy_of(kv: &MemoryKv) -> Arc<MemoryKv> {
    let mut batch = Batch::default();
    for table in Table::ALL {
        for (key, value) in kv.scan(table, &[], usize::MAX).unwrap() {
            batch.put(table, key, value);
        }
    }
    let copy = MemoryKv::default();
    copy.commit(batch).unwrap();
    Arc::new(copy)
}

/// Blocks of two branches above a common one, the second of which is longer.
struct Script {
    base: MemoryKv,
    short: Vec<Block>,
    long: Vec<Block>,
}

impl Script {
    fn new() -> Self {
        let base = Arc::new(MemoryKv::default());
        let chain = open(base.clone()).unwrap();
        let contract = DEV_ACCOUNTS[9].address.create(0);
        chain.submit(&send(&chain, 9, 0, TxKind::Create, U256::ZERO, logger(), 300_000)).unwrap();
        for _ in 0..BEFORE {
            seal_as(&chain, Address::with_last_byte(0xaa));
        }
        drop(chain);
        let branch = |author: u8, length: u64| {
            let chain = open(copy_of(&base)).unwrap();
            let blocks = (0..length).map(|nonce| {
                let to = Address::with_last_byte(author.wrapping_add(nonce as u8));
                chain.submit(&transfer(&chain, 0, nonce, to, 5)).unwrap();
                let call = TxKind::Call(contract);
                chain.submit(&send(&chain, 1, nonce, call, U256::ZERO, Bytes::new(), 60_000)).unwrap();
                let head = seal_as(&chain, Address::with_last_byte(author));
                chain.block(head.hash.into()).unwrap().unwrap()
            });
            blocks.collect()
        };
        let (short, long) = (branch(1, 4), branch(0x30, 9));
        Self { base: Arc::into_inner(base).unwrap(), short, long }
    }

    /// Runs what was not acknowledged yet, and notes in `acknowledged` the heads that were.
    fn run(&self, kv: Arc<dyn Kv>, acknowledged: &mut Vec<B256>) -> Result<(), Box<dyn std::error::Error>> {
        let chain = open(kv)?;
        for block in &self.short {
            chain.import(block.clone(), NOW)?;
            acknowledged.push(chain.head().hash);
        }
        // Side blocks, a reorg, and more on the new branch.
        for block in &self.long[..6] {
            chain.import(block.clone(), NOW)?;
            acknowledged.push(chain.head().hash);
        }
        chain.import_many(self.long[6..].to_vec(), NOW)?;
        acknowledged.push(chain.head().hash);
        Ok(())
    }
}

#[test]
fn a_database_that_stops_at_any_write_loses_nothing_acknowledged() {
    let script = Script::new();
    let end = script.long.last().unwrap().header.hash_slow();
    let mut stops = 0;
    for written in [false, true] {
        for commits in 0.. {
            let kv = copy_of(&script.base);
            let mut acknowledged = Vec::new();
            let run = script.run(Arc::new(StopsAt::new(kv.clone(), commits, written)), &mut acknowledged);

            let chain = open(kv.clone()).unwrap();
            let head = chain.head();
            assert_root_of_tables(kv.as_ref(), head.header.state_root);
            if let Some(last) = acknowledged.last() {
                let last = chain.header((*last).into()).unwrap().unwrap();
                assert!(head.number() >= last.number(), "{commits} commits");
                // The write that nobody was told of may be the reorg.
                let kept = chain.canonical_hash(last.number()).unwrap() == Some(last.hash);
                assert!(kept || written, "{commits} commits");
            }
            drop(chain);
            script.run(kv.clone(), &mut Vec::new()).unwrap();
            let chain = open(kv.clone()).unwrap();
            assert_eq!(chain.head().hash, end, "{commits} commits");
            assert_root_of_tables(kv.as_ref(), chain.head().header.state_root);
            if run.is_ok() {
                break;
            }
            stops += 1;
        }
    }
    assert!(stops > 20, "{stops} stops");
}
