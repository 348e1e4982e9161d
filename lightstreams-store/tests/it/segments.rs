//! The store of segments: what it acknowledged survives, damage is named, space comes back.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use lightstreams_store::{
    Block, BlockError, BlockStore, Disk, DiskFile, FileDisk, SegmentError, SegmentOptions, SegmentStore,
    StoreError, StoreOp,
    testing::{
        FaultyDisk, Seeded, check_block_store, check_cut_block_store, check_full_block_store,
        check_killed_block_store, check_racing_block_store, check_reopened_block_store,
    },
};

fn small() -> SegmentOptions {
    SegmentOptions::default().with_segment_bytes(16 << 10)
}

fn on(disk: &FaultyDisk) -> Result<SegmentStore, StoreError> {
    SegmentStore::open_on(Arc::new(disk.clone()), small())
}

fn segments(disk: &dyn Disk) -> Vec<String> {
    disk.list().unwrap().into_iter().filter(|name| name.ends_with(".seg")).collect()
}

#[test]
fn the_contract() {
    check_block_store(&on(&FaultyDisk::new(1)).unwrap());
    check_full_block_store(on(&FaultyDisk::new(2)).unwrap());
    let folder = tempfile::tempdir().unwrap();
    check_block_store(&SegmentStore::open(folder.path().join("a")).unwrap());
    check_reopened_block_store(|| SegmentStore::open_with(folder.path().join("c"), small()).unwrap());
    check_reopened_block_store(|| SegmentStore::open(folder.path().join("d")).unwrap());
}

#[test]
fn many_at_one_store_beside_compaction() {
    check_racing_block_store(&on(&FaultyDisk::new(1)).unwrap(), |store| {
        store.compact().unwrap();
    });
    let folder = tempfile::tempdir().unwrap();
    let store = SegmentStore::open_with(folder.path(), small()).unwrap();
    check_racing_block_store(&store, |store| {
        store.compact().unwrap();
    });
    // A tombstone that was copied while the segment was there that it names goes with the next compaction.
    while store.compact().unwrap().segments > 0 {}
    assert!(store.disk_bytes() < 1000, "all space came back: {}", store.disk_bytes());
}

#[test]
fn nothing_acknowledged_is_lost_wherever_the_power_goes() {
    let tiny = |disk: &FaultyDisk| {
        let options = SegmentOptions::default().with_segment_bytes(6000);
        SegmentStore::open_on(Arc::new(disk.clone()), options)
    };
    let cuts = check_cut_block_store(10, tiny, |_| ());
    let compacting = check_cut_block_store(10, tiny, |store| drop(store.compact()));
    println!("{cuts} power cuts, and {compacting} beside compaction");
    assert!(cuts > 500 && compacting > cuts);
}

#[test]
fn nothing_acknowledged_is_lost_by_a_kill_during_put_and_compaction() {
    let folder = tempfile::tempdir().unwrap();
    let open = |path: &Path| {
        SegmentStore::open_with(path, SegmentOptions::default().with_segment_bytes(100_000)).unwrap()
    };
    let test = "segments::nothing_acknowledged_is_lost_by_a_kill_during_put_and_compaction";
    check_killed_block_store(test, folder.path(), open, |store| {
        store.compact().unwrap();
    });
}

#[test]
fn a_store_that_is_open_is_not_opened_twice() {
    let folder = tempfile::tempdir().unwrap();
    let first = SegmentStore::open(folder.path()).unwrap();
    let error = SegmentStore::open(folder.path()).unwrap_err();
    assert_eq!(error.op, StoreOp::Open);
    assert!(matches!(error.source.downcast_ref(), Some(SegmentError::Locked)));
    drop(first);
    SegmentStore::open(folder.path()).unwrap();
}

#[test]
fn damage_is_named_and_hides_nothing_else() {
    // Blocks long enough for footers, and short ones that make segments without.
    for len in [6000, 300] {
        let disk = FaultyDisk::new(1);
        let mut seeded = Seeded::new(2);
        let blocks: Vec<Block> = (0..60_000 / len).map(|_| seeded.block(len)).collect();
        let store = on(&disk).unwrap();
        blocks.iter().for_each(|block| store.put(block).unwrap());
        drop(store);
        let names = segments(&disk);
        assert!(names.len() > 2);
        let mut named = 0;
        for name in &names[..2] {
            let number = u32::from_str_radix(&name[..8], 16).unwrap();
            let size = disk.read(name).unwrap().len().unwrap() as usize;
            for offset in (0..size).step_by(197) {
                disk.damage(name, offset);
                let store = on(&disk).unwrap();
                let found = store.damage().first().map(|e| match e {
                    SegmentError::Damaged { segment, offset } => (*segment, *offset),
                    other => panic!("{other}"),
                });
                let mut missing = 0;
                let mut error = None;
                for block in &blocks {
                    let found = store.get(block.cid());
                    match (&found, store.get_unhashed(block.cid())) {
                        (Ok(block), Ok(same)) => assert!(block.as_ref().map(Block::data) == same.as_ref()),
                        (found, same) => assert!(found.is_err() && same.is_err(), "{name} at {offset}"),
                    }
                    match found {
                        Ok(Some(same)) => assert_eq!(&same, block),
                        Ok(None) => missing += 1,
                        Err(e) => match e.source.downcast_ref() {
                            Some(BlockError::DamagedAt { segment, offset }) => {
                                missing += 1;
                                error = Some((*segment, *offset));
                            }
                            other => panic!("{other:?}"),
                        },
                    }
                }
                let what = format!("{name} at {offset}: {found:?}, {error:?}");
                assert!(missing <= 1, "{what}: {missing} missing");
                if missing == 1 {
                    named += 1;
                    let (segment, at) = found.or(error).expect(&what);
                    assert_eq!(segment, number, "{what}");
                    assert!((at as usize).abs_diff(offset) <= len + 50, "{what}");
                }
                drop(store);
                disk.damage(name, offset);
            }
        }
        // What is damaged can be fetched again.
        disk.damage(&names[0], 200);
        let store = on(&disk).unwrap();
        let lost = blocks.iter().find(|block| !matches!(store.get(block.cid()), Ok(Some(_)))).unwrap();
        store.remove_many(&[*lost.cid()]).unwrap();
        store.put(lost).unwrap();
        assert_eq!(store.get(lost.cid()).unwrap().as_ref(), Some(lost));
        println!("blocks of {len}: {named} damaged bytes named");
        assert!(named > 50);
    }
}

#[test]
fn a_block_that_looks_like_records_is_not_taken_for_any() {
    let disk = FaultyDisk::new(1);
    let victim = Seeded::new(1).block(200);
    let first = on(&disk).unwrap();
    first.put(&victim).unwrap();
    first.remove_many(&[*victim.cid()]).unwrap();
    first.put(&victim).unwrap();
    let name = segments(&disk).remove(0);
    let mut records = vec![0; disk.read(&name).unwrap().len().unwrap() as usize];
    disk.read(&name).unwrap().read_at(0, &mut records).unwrap();
    drop(first);
    // In another store the same records are bytes of a block, at the same place.
    let disk = FaultyDisk::new(2);
    let store = on(&disk).unwrap();
    store.put(&Block::raw(records)).unwrap();
    store.put(&Seeded::new(3).block(10)).unwrap();
    let name = segments(&disk).remove(0);
    drop(store);
    disk.damage(&name, 10);
    let store = on(&disk).unwrap();
    assert_eq!(store.damage().len(), 1);
    assert_eq!(store.cids(None, 10).unwrap().len(), 1);
    assert_eq!(store.get(victim.cid()).unwrap(), None);
}

#[test]
fn a_full_disk_is_an_error_and_nothing_more() {
    let disk = FaultyDisk::new(1);
    let store = on(&disk).unwrap();
    let mut seeded = Seeded::new(1);
    let mut held = Vec::new();
    disk.set_capacity(100_000);
    let error = loop {
        let block = seeded.block(3000);
        match store.put(&block) {
            Ok(()) => held.push(block),
            Err(e) => break e,
        }
    };
    let Some(SegmentError::Disk(source)) = error.source.downcast_ref() else { panic!("{error:?}") };
    assert_eq!(source.kind(), io::ErrorKind::StorageFull);
    assert!(held.len() > 25);
    for block in &held {
        assert_eq!(store.get(block.cid()).unwrap().as_ref(), Some(block));
    }
    // Tombstones need a little room.
    disk.set_capacity(104_000);
    store.remove_many(&held.drain(..20).map(|block| *block.cid()).collect::<Vec<_>>()).unwrap();
    store.compact().unwrap();
    let block = seeded.block(3000);
    store.put(&block).unwrap();
    held.push(block);
    drop(store);
    let store = on(&disk.after_power_cut()).unwrap();
    assert_eq!(store.cids(None, 100).unwrap().len(), held.len());
    for block in &held {
        assert_eq!(store.get(block.cid()).unwrap().as_ref(), Some(block));
    }
}

#[test]
fn space_comes_back_by_removal_where_little_is_live_and_else_by_reclaim() {
    for (kept_of, by_removal) in [(40, true), (4, false)] {
        let disk = FaultyDisk::new(1);
        let store = on(&disk).unwrap();
        let mut seeded = Seeded::new(1);
        let blocks: Vec<Block> = (0..200).map(|_| seeded.block(1000)).collect();
        store.put_many(&blocks).unwrap();
        let full = store.disk_bytes();
        for (i, block) in blocks.iter().enumerate() {
            if i % kept_of != 0 {
                store.remove_many(&[*block.cid()]).unwrap();
            }
        }
        assert_eq!(store.disk_bytes() < full / 2, by_removal, "{} of {full} bytes", store.disk_bytes());
        store.reclaim().unwrap();
        assert!(store.disk_bytes() < full / 2, "{} of {full} bytes", store.disk_bytes());
        drop(store);
        let store = on(&disk.after_power_cut()).unwrap();
        for (i, block) in blocks.iter().enumerate() {
            assert_eq!(store.has(block.cid()).unwrap(), i % kept_of == 0, "block {i}");
        }
    }
}

#[test]
fn a_tombstone_outlives_its_segment_while_it_is_needed() {
    let disk = FaultyDisk::new(1);
    let store = on(&disk).unwrap();
    let mut seeded = Seeded::new(1);
    let mut some = |n| (0..n).map(|_| seeded.block(1000)).collect::<Vec<Block>>();
    // The first segment stays; the second has a tombstone for a block in it, and dies.
    let (first, second, third) = (some(15), some(14), some(14));
    store.put_many(&first).unwrap();
    store.put(&seeded.block(580)).unwrap(); // it is full
    store.remove_many(&[*first[0].cid()]).unwrap();
    assert_eq!(segments(&disk).len(), 2);
    store.put_many(&second).unwrap();
    store.put_many(&third).unwrap();
    let names = segments(&disk);
    store.remove_many(&second.iter().map(|block| *block.cid()).collect::<Vec<_>>()).unwrap();
    store.compact().unwrap();
    drop(store);
    let left = segments(&disk);
    assert!(left.contains(&names[0]) && !left.contains(&names[1]), "{names:?}, {left:?}");
    let store = on(&disk.after_power_cut()).unwrap();
    for block in first.iter().chain(&second).chain(&third) {
        let expected = block != &first[0] && !second.contains(block);
        assert_eq!(store.has(block.cid()).unwrap(), expected, "what was removed stays so");
    }
}

/// A disk that is slow to sync, and counts.
struct Slow {
    disk: FileDisk,
    syncs: Arc<AtomicU64>,
    opened: Arc<AtomicU64>,
}

struct SlowFile {
    file: Box<dyn DiskFile>,
    syncs: Arc<AtomicU64>,
    opened: Arc<AtomicU64>,
}

impl Slow {
    fn file(&self, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        Box::new(SlowFile { file, syncs: self.syncs.clone(), opened: self.opened.clone() })
    }
}

impl Disk for Slow {
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.file(self.disk.open(name)?))
    }
    fn read(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.file(self.disk.read(name)?))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }
    fn sync(&self) -> io::Result<()> {
        self.disk.sync()
    }
}

impl DiskFile for SlowFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, buf)
    }
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.append(bytes)
    }
    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(10));
        self.file.sync()
    }
}

impl Drop for SlowFile {
    fn drop(&mut self) {
        self.opened.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn writers_who_come_together_share_a_sync_and_few_files_are_open() {
    let folder = tempfile::tempdir().unwrap();
    let (syncs, opened) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let disk =
        Slow { disk: FileDisk::open(folder.path()).unwrap(), syncs: syncs.clone(), opened: opened.clone() };
    let store = SegmentStore::open_on(Arc::new(disk), SegmentOptions::default()).unwrap();
    let before = syncs.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let store = &store;
            scope.spawn(move || {
                let mut seeded = Seeded::new(writer);
                (0..20).for_each(|_| store.put(&seeded.block(100)).unwrap());
            });
        }
    });
    let after = syncs.load(Ordering::Relaxed) - before;
    assert!(after <= 80, "160 puts of eight writers took {after} syncs");
    drop(store);

    let folder = tempfile::tempdir().unwrap();
    let mut seeded = Seeded::new(9);
    let blocks: Vec<Block> = (0..300).map(|_| seeded.block(3000)).collect();
    let disk = FileDisk::open(folder.path()).unwrap();
    let options = SegmentOptions::default().with_segment_bytes(4096);
    SegmentStore::open_on(Arc::new(disk.clone()), options).unwrap().put_many(&blocks).unwrap();
    let store =
        SegmentStore::open_on(Arc::new(Slow { disk, syncs, opened: opened.clone() }), options).unwrap();
    for block in blocks.iter().chain(&blocks) {
        assert_eq!(store.get(block.cid()).unwrap().as_ref(), Some(block));
        assert!(opened.load(Ordering::Relaxed) <= 64);
    }
    assert_eq!(segments(&FileDisk::open(folder.path()).unwrap()).len(), 300);
}
