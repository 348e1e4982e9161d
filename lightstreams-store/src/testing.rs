//! The checks that we hold our own implementations of the seams to, and a disk that fails.
//!
//! ```
//! use lightstreams_store::{MemoryStore, testing::check_block_store};
//! check_block_store(&MemoryStore::default());
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    collections::BTreeMap,
    io,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cid::Cid;

use crate::{
    Block, BlockError, BlockStore, DAG_CBOR, DAG_PB, Disk, DiskFile, Exchange, FetchError, MAX_BLOCK_LEN,
    MAX_WANTS, Session, StoreError, StoreOp, disk::check_name,
};

/// A deterministic source of bytes for fixtures (SplitMix64): no cryptography.
#[derive(Debug, Clone)]
pub struct Seeded(u64);

impl Seeded {
    /// Starts from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }

    /// `len` bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next_u64().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }

    /// A raw block of `len` bytes.
    pub fn block(&mut self, len: usize) -> Block {
        Block::raw(self.bytes(len))
    }
}

/// Holds an empty `store` to the contract of [`BlockStore`]; panics where it breaks it.
///
/// A store that keeps blocks on disk passes [`check_reopened_block_store`] as well.
pub fn check_block_store(store: &dyn BlockStore) {
    assert_eq!(store.cids(None, 1).unwrap(), [], "check_block_store needs an empty store");
    blocks_come_back(store);
    versions_and_codecs_meet(store);
    long_blocks_are_refused(store);
    putting_and_removing_is_idempotent(store);
    listing_is_ordered_and_complete(store);
    calls_may_race(store);
}

fn blocks_come_back(store: &dyn BlockStore) {
    let mut seeded = Seeded::new(1);
    let absent = seeded.block(10);
    assert_eq!(store.get(absent.cid()).unwrap(), None);
    assert_eq!(store.size(absent.cid()).unwrap(), None);
    assert!(!store.has(absent.cid()).unwrap());

    store.put_many(&[]).unwrap();
    let lengths = [0, 1, 100, 4095, 4096, 4097, 65_552, 262_208, 983_280, MAX_BLOCK_LEN];
    let blocks: Vec<Block> = lengths.iter().map(|len| seeded.block(*len)).collect();
    store.put_many(&blocks).unwrap();
    for block in &blocks {
        assert_eq!(store.get(block.cid()).unwrap().as_ref(), Some(block), "{} bytes", block.len());
        assert_eq!(store.size(block.cid()).unwrap(), Some(block.len() as u64));
        assert!(store.has(block.cid()).unwrap());
    }
    remove_all(store);
}

fn versions_and_codecs_meet(store: &dyn BlockStore) {
    let v1 = Block::new(DAG_PB, Seeded::new(2).bytes(5000));
    store.put(&v1).unwrap();
    let v0 = Cid::new_v0(*v1.cid().hash()).unwrap();
    let cbor = Cid::new_v1(DAG_CBOR, *v1.cid().hash());
    for name in [v0, cbor, *v1.cid()] {
        let found = store.get(&name).unwrap().expect("one multihash, one block");
        assert_eq!(found.cid(), &name, "a block carries the CID that was asked for");
        assert_eq!(found.data(), v1.data());
        assert_eq!(store.size(&name).unwrap(), Some(5000));
    }
    assert_eq!(store.cids(None, 10).unwrap().len(), 1);
    store.remove_many(&[v0]).unwrap();
    assert_eq!(store.get(v1.cid()).unwrap(), None);
}

fn long_blocks_are_refused(store: &dyn BlockStore) {
    let mut seeded = Seeded::new(3);
    let long = seeded.block(MAX_BLOCK_LEN + 1);
    let good = seeded.block(100);
    let error = store.put_many(&[good.clone(), long.clone()]).expect_err("one byte above the limit");
    assert_eq!((error.op, error.cid.as_deref()), (StoreOp::Put, Some(long.cid())));
    let source = error.source.downcast_ref::<BlockError>();
    assert_eq!(source, Some(&BlockError::TooLong { len: MAX_BLOCK_LEN + 1 }));
    assert_eq!(store.get(long.cid()).unwrap(), None);
    assert_eq!(store.get(good.cid()).unwrap(), None, "all of a batch or nothing");
}

fn putting_and_removing_is_idempotent(store: &dyn BlockStore) {
    let mut seeded = Seeded::new(4);
    let (a, b) = (seeded.block(20_000), seeded.block(30));
    store.put_many(&[a.clone(), b.clone(), a.clone()]).unwrap();
    store.put(&a).unwrap();
    assert_eq!(store.cids(None, 10).unwrap().len(), 2);
    assert_eq!(store.get(a.cid()).unwrap().as_ref(), Some(&a));
    store.remove_many(&[*a.cid(), *a.cid()]).unwrap();
    store.remove_many(&[*a.cid()]).unwrap();
    store.remove_many(&[]).unwrap();
    assert_eq!(store.get(a.cid()).unwrap(), None);
    assert_eq!(store.size(a.cid()).unwrap(), None);
    assert_eq!(store.get(b.cid()).unwrap().as_ref(), Some(&b));
    store.put(&a).unwrap();
    assert_eq!(store.get(a.cid()).unwrap().as_ref(), Some(&a), "what was removed may come back");
    remove_all(store);
}

fn listing_is_ordered_and_complete(store: &dyn BlockStore) {
    let mut seeded = Seeded::new(5);
    let blocks: Vec<Block> = (0..100).map(|_| seeded.block(40)).collect();
    store.put_many(&blocks).unwrap();
    let mut expected: Vec<Vec<u8>> = blocks.iter().map(|block| block.cid().hash().to_bytes()).collect();
    expected.sort();
    for page in [1, 7, 100, 1000] {
        let (mut listed, mut after) = (Vec::new(), None);
        loop {
            let cids = store.cids(after.as_ref(), page).unwrap();
            assert!(cids.len() <= page);
            let Some(last) = cids.last() else { break };
            after = Some(*last);
            listed.extend(cids.iter().map(|cid| cid.hash().to_bytes()));
        }
        assert_eq!(listed, expected, "pages of {page}");
    }
    assert_eq!(store.cids(None, 0).unwrap(), []);
    // A block that is gone still marks its place.
    let all = store.cids(None, 100).unwrap();
    store.remove_many(&[all[50]]).unwrap();
    assert_eq!(store.cids(Some(&all[50]), 1).unwrap(), [all[51]]);
    // So does the same block under another CID.
    let other = Cid::new_v1(DAG_CBOR, *all[70].hash());
    assert_eq!(store.cids(Some(&other), 1).unwrap(), [all[71]]);
    remove_all(store);
}

fn calls_may_race(store: &dyn BlockStore) {
    let mut seeded = Seeded::new(6);
    let blocks: Vec<Block> = (0..24).map(|_| seeded.block(50_000)).collect();
    std::thread::scope(|scope| {
        for writer in 0..2 {
            let blocks = &blocks;
            scope.spawn(move || {
                for round in 0..4 {
                    for part in blocks.chunks(6) {
                        store.put_many(part).unwrap();
                        if (round + writer) % 2 == 0 {
                            store.remove_many(&[*part[0].cid()]).unwrap();
                        }
                    }
                }
                store.put_many(blocks).unwrap();
            });
        }
        for _ in 0..2 {
            let blocks = &blocks;
            scope.spawn(move || {
                for block in blocks.iter().cycle().take(400) {
                    if let Some(found) = store.get(block.cid()).unwrap() {
                        assert_eq!(&found, block, "all of a block or none");
                    }
                }
            });
        }
    });
    // Each writer ends with all blocks in place, and the other may have removed some after that; once more settles it.
    store.put_many(&blocks).unwrap();
    for block in &blocks {
        assert_eq!(store.get(block.cid()).unwrap().as_ref(), Some(block));
    }
    remove_all(store);
}

fn remove_all(store: &dyn BlockStore) {
    loop {
        let cids = store.cids(None, 64).unwrap();
        if cids.is_empty() {
            break;
        }
        store.remove_many(&cids).unwrap();
    }
}

/// Holds a store that `open` opens, each time the same one, to keeping over a reopening what it accepted; the store is
/// empty at first.
pub fn check_reopened_block_store<S: BlockStore>(mut open: impl FnMut() -> S) {
    let mut seeded = Seeded::new(7);
    let mut held: BTreeMap<Vec<u8>, Block> = BTreeMap::new();
    for round in 0..6 {
        let store = open();
        assert_eq!(store.cids(None, 1000).unwrap().len(), held.len(), "opened for the {round}th time");
        for block in held.values() {
            assert_eq!(store.get(block.cid()).unwrap().as_ref(), Some(block));
        }
        if let Some((key, block)) = held.pop_first() {
            store.remove_many(&[*block.cid()]).unwrap();
            assert!(!held.contains_key(&key));
        }
        let new: Vec<Block> = [10, 4096, 262_208, 1 << 20].map(|len| seeded.block(len)).into();
        store.put_many(&new).unwrap();
        held.extend(new.into_iter().map(|block| (block.cid().hash().to_bytes(), block)));
    }
}

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

/// Bytes that a disk writes in one go or not at all.
const SECTOR: usize = 512;

/// A disk in memory that loses power at a chosen operation, and then holds what a real one might: of all that was not
/// synced, any part, in any order, in sectors that may be torn.
#[derive(Debug, Clone)]
pub struct FaultyDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    seeded: Seeded,
    ops: u64,
    cut_at: Option<u64>,
    off: bool,
    files: Vec<Contents>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    unsynced_names: Vec<NameOp>,
}

#[derive(Debug, Clone, Default)]
struct Contents {
    live: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Append { offset: usize, bytes: Vec<u8> },
    Truncate(usize),
}

#[derive(Debug, Clone)]
enum NameOp {
    Create(String, usize),
    Rename(String, String),
    Remove(String),
}

impl FaultyDisk {
    /// An empty disk; `seed` decides what survives a power cut.
    pub fn new(seed: u64) -> Self {
        Self::with(Seeded::new(seed), Vec::new(), BTreeMap::new())
    }

    fn with(seeded: Seeded, files: Vec<Contents>, names: BTreeMap<String, usize>) -> Self {
        let state = State {
            seeded,
            ops: 0,
            cut_at: None,
            off: false,
            files,
            durable_names: names.clone(),
            names,
            unsynced_names: Vec::new(),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Cuts the power in the middle of the `n`th operation from now on (1 is the next one). Every write, truncation, sync,
    /// creation, renaming and removal is an operation.
    pub fn cut_power_at(&self, n: u64) {
        let mut state = self.lock();
        state.cut_at = Some(state.ops + n);
    }

    /// Operations so far.
    pub fn operations(&self) -> u64 {
        self.lock().ops
    }

    /// Whether the power is off.
    pub fn is_off(&self) -> bool {
        self.lock().off
    }

    /// The disk after the power came back: all that was synced, and a random part of the rest. The disk before the cut
    /// answers nothing any more.
    #[must_use]
    pub fn after_power_cut(&self) -> Self {
        let mut state = self.lock();
        state.off = true;
        let mut seeded = Seeded::new(state.seeded.next_u64());
        // One time in four nothing unsynced survives, one time in four all of it, else each part by chance.
        let chance = match seeded.below(4) {
            0 => 0,
            1 => 100,
            _ => 50,
        };
        let survives = |seeded: &mut Seeded| seeded.below(100) < chance;
        let mut files = state.files.clone();
        for file in &mut files {
            let mut kept = std::mem::take(&mut file.durable);
            for change in std::mem::take(&mut file.unsynced) {
                match change {
                    Change::Truncate(len) if survives(&mut seeded) => kept.truncate(len),
                    Change::Truncate(_) => {}
                    Change::Append { offset, bytes } => {
                        for sector in sectors(offset, bytes.len()) {
                            if survives(&mut seeded) {
                                write_sector(&mut kept, offset, &bytes, sector, &mut seeded);
                            }
                        }
                    }
                }
            }
            *file = Contents { live: kept.clone(), durable: kept, unsynced: Vec::new() };
        }
        let mut names = state.durable_names.clone();
        for op in &state.unsynced_names {
            if survives(&mut seeded) {
                op.apply(&mut names);
            }
        }
        Self::with(seeded, files, names)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The ranges of `0..len` that lie in one sector each, if byte 0 stands at `offset` in the file.
fn sectors(offset: usize, len: usize) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut start = 0;
    while start < len {
        let end = (start + SECTOR - (offset + start) % SECTOR).min(len);
        ranges.push(start..end);
        start = end;
    }
    ranges
}

fn write_sector(file: &mut Vec<u8>, offset: usize, bytes: &[u8], sector: Range<usize>, seeded: &mut Seeded) {
    let mut end = sector.end;
    // A sector in eight is torn.
    if seeded.below(8) == 0 {
        end = sector.start + seeded.below(sector.len() as u64) as usize;
    }
    let (from, to) = (offset + sector.start, offset + end);
    if file.len() < to {
        // What was never written shows as zeros or as what lay there before.
        let old = if seeded.below(2) == 0 { 0 } else { seeded.next_u64() as u8 };
        file.resize(to, old);
    }
    file[from..to].copy_from_slice(&bytes[sector.start..end]);
}

impl NameOp {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Create(name, file) => {
                names.insert(name.clone(), *file);
            }
            Self::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            Self::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}

impl State {
    /// Counts an operation; `true` if the power goes in the middle of it.
    fn operation(&mut self) -> io::Result<bool> {
        self.check_power()?;
        self.ops += 1;
        self.off = self.cut_at == Some(self.ops);
        Ok(self.off)
    }

    fn check_power(&self) -> io::Result<()> {
        if self.off { Err(power_is_off()) } else { Ok(()) }
    }

    fn name_op(&mut self, op: NameOp) -> io::Result<()> {
        let cut = self.operation()?;
        op.apply(&mut self.names);
        self.unsynced_names.push(op);
        if cut { Err(power_is_off()) } else { Ok(()) }
    }
}

fn not_found() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "no such file")
}

impl Disk for FaultyDisk {
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        check_name(name)?;
        let mut state = self.lock();
        state.check_power()?;
        let file = match state.names.get(name) {
            Some(file) => *file,
            None => {
                let file = state.files.len();
                state.files.push(Contents::default());
                state.name_op(NameOp::Create(name.to_owned(), file))?;
                file
            }
        };
        Ok(Box::new(FaultyFile { disk: self.clone(), file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        check_name(from)?;
        check_name(to)?;
        let mut state = self.lock();
        state.check_power()?;
        if !state.names.contains_key(from) {
            return Err(not_found());
        }
        state.name_op(NameOp::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        check_name(name)?;
        let mut state = self.lock();
        state.check_power()?;
        if !state.names.contains_key(name) {
            return Err(not_found());
        }
        state.name_op(NameOp::Remove(name.to_owned()))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let state = self.lock();
        state.check_power()?;
        Ok(state.names.keys().cloned().collect())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.lock();
        if state.operation()? {
            return Err(power_is_off());
        }
        state.durable_names = state.names.clone();
        state.unsynced_names.clear();
        Ok(())
    }
}

struct FaultyFile {
    disk: FaultyDisk,
    file: usize,
}

impl FaultyFile {
    fn change(&self, change: Change) -> io::Result<()> {
        let mut state = self.disk.lock();
        let cut = state.operation()?;
        let file = &mut state.files[self.file];
        match &change {
            Change::Append { bytes, .. } => file.live.extend_from_slice(bytes),
            Change::Truncate(len) => file.live.truncate(*len),
        }
        file.unsynced.push(change);
        if cut { Err(power_is_off()) } else { Ok(()) }
    }
}

impl DiskFile for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        let state = self.disk.lock();
        state.check_power()?;
        Ok(state.files[self.file].live.len() as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let state = self.disk.lock();
        state.check_power()?;
        let live = &state.files[self.file].live;
        let from = live.get(offset as usize..).unwrap_or_default();
        let n = from.len().min(buf.len());
        buf[..n].copy_from_slice(&from[..n]);
        Ok(n)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let offset = self.disk.lock().files[self.file].live.len();
        self.change(Change::Append { offset, bytes: bytes.to_vec() })
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.change(Change::Truncate(len as usize))
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.lock();
        if state.operation()? {
            return Err(power_is_off());
        }
        let file = &mut state.files[self.file];
        file.durable = file.live.clone();
        file.unsynced.clear();
        Ok(())
    }
}

/// Holds a [`Disk`] that `open` opens, each time the same empty folder at first, to its contract without power cuts.
pub fn check_disk<D: Disk>(mut open: impl FnMut() -> D) {
    let disk = open();
    assert_eq!(disk.list().unwrap(), [""; 0], "check_disk needs an empty folder");
    for name in ["", ".", "..", "a/b", "/a", "a/", "../a"] {
        assert!(disk.open(name).is_err(), "{name:?} is no plain file name");
    }
    let mut file = disk.open("a").unwrap();
    assert!(file.is_empty().unwrap());
    file.append(b"hello ").unwrap();
    file.append(b"world").unwrap();
    let mut buf = [0; 20];
    assert_eq!(file.read_at(6, &mut buf).unwrap(), 5);
    assert_eq!(&buf[..5], b"world");
    assert_eq!(file.read_at(11, &mut buf).unwrap(), 0);
    assert_eq!(file.read_at(100, &mut buf).unwrap(), 0);
    file.truncate(7).unwrap();
    file.append(b"e").unwrap();
    assert_eq!(file.len().unwrap(), 8);
    file.sync().unwrap();
    disk.open("b").unwrap().append(b"old").unwrap();
    disk.open("c").unwrap().append(b"new").unwrap();
    disk.rename("c", "b").unwrap();
    disk.open("d").unwrap();
    disk.remove("d").unwrap();
    assert!(disk.remove("d").is_err());
    assert!(disk.rename("d", "e").is_err());
    disk.sync().unwrap();
    drop(file);
    drop(disk);

    let disk = open();
    assert_eq!(disk.list().unwrap(), ["a", "b"]);
    let contents = |name: &str| {
        let file = disk.open(name).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_at(0, &mut bytes).unwrap();
        bytes
    };
    assert_eq!(contents("a"), b"hello we");
    assert_eq!(contents("b"), b"new");
}
