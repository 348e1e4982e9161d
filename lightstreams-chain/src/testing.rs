//! What a team needs to hold its own implementations to the promises of the seams, and this crate to what others say of
//! Ethereum.

mod ethash;
mod transition;

use std::{
    cmp::Ordering,
    sync::{
        Arc,
        atomic::{self, AtomicU64},
    },
};

use alloy_consensus::Header;
use alloy_primitives::{Address, B256, U256};

pub use self::{
    ethash::Ethash,
    transition::{After, Ran, TestError, TestState, trie_root},
};
use crate::{
    Ancestry, Batch, Block, Chain, EngineError, Entry, ForkChoice, HeadInfo, HeaderRules, ImportError, Kv,
    KvError, KvView, Table,
};

/// An engine without seals, for tests: a block is of whoever its beneficiary names, and the heavier chain wins.
///
/// Equal chains are told apart by the shorter one, then by the lower hash.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSeal {
    /// Seconds between a block and its parent at least.
    pub period: u64,
    /// Blocks that must stand on a block, itself counted, for it to be final; 0 as 1.
    pub finality_depth: u64,
    /// What the author of a block is paid.
    pub reward: U256,
}

impl HeaderRules for NoSeal {
    fn verify_genesis(&self, _: &Header) -> Result<(), EngineError> {
        Ok(())
    }

    fn verify_header(
        &self,
        header: &Header,
        parent: &HeadInfo,
        _: &dyn Ancestry,
        now: u64,
    ) -> Result<(), EngineError> {
        if header.timestamp < parent.header.timestamp.saturating_add(self.period) {
            return Err(EngineError::invalid("timestamp", "comes too early after the parent"));
        }
        if header.timestamp > now.saturating_add(1) {
            return Err(EngineError::Future { number: header.number, time: header.timestamp, now });
        }
        if header.difficulty.is_zero() {
            return Err(EngineError::invalid("difficulty", "is zero"));
        }
        Ok(())
    }

    fn author(&self, header: &Header) -> Result<Address, EngineError> {
        Ok(header.beneficiary)
    }

    fn seal_hash(&self, header: &Header) -> B256 {
        header.hash_slow()
    }

    fn prepare(
        &self,
        header: &mut Header,
        parent: &HeadInfo,
        author: Address,
        _: &dyn Ancestry,
        now: u64,
    ) -> Result<(), EngineError> {
        header.beneficiary = author;
        header.difficulty = U256::ONE;
        header.timestamp = parent.header.timestamp.saturating_add(self.period).max(now);
        Ok(())
    }

    fn rewards(&self, header: &Header, _: &[Header]) -> Vec<(Address, U256)> {
        if self.reward.is_zero() { Vec::new() } else { vec![(header.beneficiary, self.reward)] }
    }
}

impl ForkChoice for NoSeal {
    fn compare(&self, a: &HeadInfo, b: &HeadInfo, _: &dyn Ancestry) -> Result<Ordering, EngineError> {
        Ok(a.total_difficulty
            .cmp(&b.total_difficulty)
            .then_with(|| b.number().cmp(&a.number()))
            .then_with(|| b.hash.cmp(&a.hash)))
    }

    fn final_number(&self, head: &HeadInfo, _: u64, _: &dyn Ancestry) -> Result<u64, EngineError> {
        Ok(head.number().saturating_sub(self.finality_depth.saturating_sub(1)))
    }
}

/// Executes `blocks`, each with the senders of its transactions, on the head of `chain`, each on the one before, computes the roots of their states, and forgets it all: what
/// execution costs without the rest of an import.
pub fn execute(chain: &Chain, blocks: Vec<(Block, Vec<Address>)>) -> Result<(), ImportError> {
    chain.execute_only(blocks)
}

/// A database that dies at one of its writes, for crash tests.
///
/// From then on all calls fail, as after a power cut. What lies beneath is what the next process finds.
pub struct StopsAt {
    kv: Arc<dyn Kv>,
    /// Commits that still succeed.
    left: AtomicU64,
    /// Whether the last commit reaches the database before it fails.
    written: bool,
}

impl StopsAt {
    /// Over `kv`: `commits` of them succeed, and the next one fails; it is there nonetheless if `written`.
    pub fn new(kv: Arc<dyn Kv>, commits: u64, written: bool) -> Self {
        Self { kv, left: AtomicU64::new(commits), written }
    }

    fn dead(&self) -> bool {
        self.left.load(atomic::Ordering::SeqCst) == u64::MAX
    }

    fn check(&self) -> Result<(), KvError> {
        if self.dead() { Err(KvError::new("reach", None, "the database is gone")) } else { Ok(()) }
    }
}

impl Kv for StopsAt {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        self.check()?;
        self.kv.get(table, key)
    }

    fn scan(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Entry>, KvError> {
        self.check()?;
        self.kv.scan(table, from, limit)
    }

    fn commit(&self, batch: Batch) -> Result<(), KvError> {
        self.check()?;
        // Below zero lies the end: `u64::MAX`.
        if self.left.fetch_sub(1, atomic::Ordering::SeqCst) > 0 {
            return self.kv.commit(batch);
        }
        if self.written {
            self.kv.commit(batch)?;
        }
        self.check()
    }

    fn view(&self) -> Result<Box<dyn KvView + '_>, KvError> {
        self.check()?;
        self.kv.view()
    }
}

impl std::fmt::Debug for StopsAt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StopsAt")
            .field("left", &self.left)
            .field("written", &self.written)
            .finish_non_exhaustive()
    }
}

/// Holds `kv`, which must be empty, to the contract of [`Kv`].
///
/// # Panics
///
/// Where it breaks it.
#[track_caller]
#[expect(clippy::expect_used, reason = "a check says by panicking what is broken")]
pub fn check_kv(kv: &dyn Kv) {
    let get = |table, key: &[u8]| kv.get(table, key).expect("get works");
    let scan = |table, from: &[u8], limit| kv.scan(table, from, limit).expect("scan works");

    for table in Table::ALL {
        assert_eq!(get(table, b"absent"), None, "{}: an absent key is None", table.name());
        assert!(scan(table, b"", 10).is_empty(), "{}: an empty table scans to nothing", table.name());
    }
    kv.commit(Batch::default()).expect("an empty batch commits");

    // One key in every table: tables do not mix.
    let mut batch = Batch::default();
    for table in Table::ALL {
        batch.put(table, b"key", table.name().as_bytes());
    }
    kv.commit(batch).expect("a batch over all tables commits");
    for table in Table::ALL {
        assert_eq!(
            get(table, b"key"),
            Some(table.name().as_bytes().to_vec()),
            "each table has its own value"
        );
        let all = scan(table, b"", 10);
        assert_eq!(all, [(b"key".to_vec(), table.name().as_bytes().to_vec())], "and nothing else");
    }

    // Bytes order keys, short and long ones; values may be empty.
    let keys: [&[u8]; 6] = [b"\0", b"\0\0", b"a", b"a\xff", b"b", &[0xff; 255]];
    let mut batch = Batch::default();
    for key in keys.iter().rev() {
        batch.put(Table::Slots, *key, []);
    }
    batch.remove(Table::Slots, b"key");
    batch.remove(Table::Slots, b"never there");
    kv.commit(batch).expect("puts and removals commit");
    let found: Vec<_> = scan(Table::Slots, b"", 100).into_iter().map(|(key, _)| key).collect();
    assert_eq!(found, keys.iter().map(|key| key.to_vec()).collect::<Vec<_>>(), "keys ascend as bytes");
    assert_eq!(get(Table::Slots, b"a"), Some(Vec::new()), "an empty value is a value");
    let from_a: Vec<_> = scan(Table::Slots, b"a", 2).into_iter().map(|(key, _)| key).collect();
    assert_eq!(
        from_a,
        [b"a".to_vec(), b"a\xff".to_vec()],
        "a scan begins with the key itself and keeps its limit"
    );
    assert!(scan(Table::Slots, &[0xff; 256], 5).is_empty(), "behind the last key there is nothing");
    assert!(scan(Table::Slots, b"", 0).is_empty(), "a limit of none gives none");

    // Within a batch the last write to a key counts.
    let mut batch = Batch::default();
    batch.put(Table::Meta, b"x", b"1");
    batch.put(Table::Meta, b"x", b"2");
    batch.put(Table::Meta, b"y", b"1");
    batch.remove(Table::Meta, b"y");
    kv.commit(batch).expect("a batch with two writes to a key commits");
    assert_eq!(get(Table::Meta, b"x"), Some(b"2".to_vec()), "the later put counts");
    assert_eq!(get(Table::Meta, b"y"), None, "a removal after a put counts");

    // Readers see a batch whole or not at all.
    let ends: [&[u8]; 2] = [b"one end", b"other end"];
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..50u32 {
                let mut batch = Batch::default();
                batch.put(Table::Meta, ends[0], round.to_be_bytes());
                batch.put(Table::Meta, ends[1], round.to_be_bytes());
                kv.commit(batch).expect("a batch commits while others read");
            }
        });
        while !writer.is_finished() {
            let seen: Vec<_> = scan(Table::Meta, b"o", 2).into_iter().map(|(_, value)| value).collect();
            assert!(
                seen.windows(2).all(|pair| pair.first() == pair.last()),
                "a scan sees half a batch: {seen:?}"
            );
        }
    });

    // A view keeps what it saw.
    let view = kv.view().expect("a view is given");
    let before = view.scan(Table::Meta, b"", 100).expect("a view scans");
    assert_eq!(before, scan(Table::Meta, b"", 100), "a view sees what is there");
    let mut batch = Batch::default();
    batch.put(Table::Meta, b"x", b"3");
    batch.put(Table::Slots, b"later", b"1");
    batch.remove(Table::Meta, ends[0]);
    kv.commit(batch).expect("a batch commits while a view is held");
    assert_eq!(
        view.get(Table::Meta, b"x").expect("a view reads"),
        Some(b"2".to_vec()),
        "a view reads the past"
    );
    assert_eq!(view.scan(Table::Meta, b"", 100).expect("a view scans"), before, "a view scans the past");
    assert_eq!(
        view.get(Table::Slots, b"later").expect("a view reads"),
        None,
        "a view does not see later keys"
    );
    assert_eq!(get(Table::Meta, b"x"), Some(b"3".to_vec()), "readers beside a view see the present");
    drop(view);

    // Values as large as bodies are.
    let large = vec![0xa5; 3 << 20];
    let mut batch = Batch::default();
    batch.put(Table::Bodies, b"large", large.clone());
    kv.commit(batch).expect("a large value commits");
    assert_eq!(get(Table::Bodies, b"large"), Some(large), "a large value comes back");
}
