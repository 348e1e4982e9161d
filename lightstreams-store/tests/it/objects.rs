//! Segments in object storage: what is acknowledged is durable, and an object is a segment or nothing.

use std::{
    cell::RefCell,
    fmt, io,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use lightstreams_store::{
    Block, BlockStore, Bytes, Disk, DiskFile, DiskLock, SegmentOptions, SegmentStore, StoreError,
    objects::{
        ObjectDisk,
        object_store::{
            CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
            ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, memory::InMemory,
            path::Path,
        },
    },
    testing::{
        FaultyDisk, Seeded, check_block_store, check_cut_block_store, check_racing_block_store,
        check_reopened_block_store,
    },
};

/// Object storage in memory that can be made to fail.
#[derive(Debug, Default)]
struct Bucket {
    memory: InMemory,
    fails: AtomicBool,
}

impl Bucket {
    fn check(&self) -> Result<()> {
        let failure = || Error::Generic { store: "bucket", source: "no route to host".into() };
        if self.fails.load(Ordering::SeqCst) { Err(failure()) } else { Ok(()) }
    }

    fn names(&self) -> Vec<String> {
        let listed: Vec<_> = futures::executor::block_on(self.memory.list(None).collect());
        listed.into_iter().map(|meta| meta.unwrap().location.to_string()).collect()
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bucket")
    }
}

#[async_trait]
impl ObjectStore for Bucket {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.check()?;
        self.memory.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.check()?;
        self.memory.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.check()?;
        self.memory.get_opts(path, options).await
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.check()?;
        self.memory.get_ranges(path, ranges).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.memory.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.memory.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.memory.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.memory.copy_opts(from, to, options).await
    }
}

fn disk(local: &FaultyDisk, bucket: &Arc<Bucket>) -> Arc<ObjectDisk> {
    Arc::new(ObjectDisk::open(Arc::new(local.clone()), bucket.clone(), "a/b").unwrap())
}

/// A store whose segments are small, and its disk.
fn store(local: &FaultyDisk, bucket: &Arc<Bucket>) -> (SegmentStore, Arc<ObjectDisk>) {
    let disk = disk(local, bucket);
    (SegmentStore::open_on(disk.clone(), small()).unwrap(), disk)
}

fn small() -> SegmentOptions {
    SegmentOptions::default().with_segment_bytes(16 << 10)
}

fn blocks(count: usize) -> Vec<Block> {
    let mut seeded = Seeded::new(3);
    (0..count).map(|_| seeded.block(1000)).collect()
}

#[track_caller]
fn holds(store: &SegmentStore, blocks: &[Block]) {
    for block in blocks {
        assert_eq!(store.get(block.cid()).unwrap().as_ref(), Some(block));
    }
}

#[test]
fn the_contract() {
    let (store, _) = store(&FaultyDisk::new(1), &Arc::default());
    check_block_store(&store);
    check_racing_block_store(&store, |store| {
        store.compact().unwrap();
    });
    let (local, bucket) = (FaultyDisk::new(1), Arc::default());
    check_reopened_block_store(|| SegmentStore::open_on(disk(&local, &bucket), small()).unwrap());
}

#[test]
fn a_full_segment_becomes_one_object_and_leaves_the_local_disk() {
    let (local, bucket) = (FaultyDisk::new(1), Arc::default());
    let blocks = blocks(100);
    let (segments, disk) = store(&local, &bucket);
    for some in blocks.chunks(5) {
        segments.put_many(some).unwrap();
    }
    disk.flush().unwrap();
    assert_eq!(disk.waiting(), 0);
    let local_segments = local.list().unwrap().iter().filter(|name| name.ends_with(".seg")).count();
    assert_eq!(local_segments, 1, "the one that is being filled");
    assert_eq!(bucket.names().len(), 7, "six segments of 15 blocks and an owner: {:?}", bucket.names());
    holds(&segments, &blocks);

    // What is removed goes from there too.
    let cids: Vec<_> = blocks.iter().map(|block| *block.cid()).collect();
    segments.remove_many(&cids[..90]).unwrap();
    segments.reclaim().unwrap();
    disk.flush().unwrap();
    assert!(bucket.names().len() <= 2, "{:?}", bucket.names());
    drop((segments, disk));
    let (segments, _) = store(&local, &bucket);
    assert_eq!(segments.cids(None, 200).unwrap().len(), 10);
    holds(&segments, &blocks[90..]);
}

/// Waits for each upload where it is asked for, so that the same calls take the same operations of the local disk.
#[derive(Debug)]
struct InTurn(ObjectDisk);

impl Disk for InTurn {
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.0.open(name)
    }
    fn read(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.0.read(name)
    }
    fn lock(&self) -> io::Result<DiskLock> {
        self.0.lock()
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }
    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
    fn complete(&self, name: &str) -> io::Result<()> {
        let result = self.0.complete(name);
        // The one who completed it does not hear of an upload that fails.
        let _ = self.0.flush();
        result
    }
}

#[test]
fn nothing_acknowledged_is_lost_wherever_the_power_of_the_local_disk_goes() {
    // The objects of a disk are those of the disk that it is after a power cut, unless nothing is on it.
    let bucket = RefCell::new(Arc::<Bucket>::default());
    let cuts = check_cut_block_store(
        4,
        |local| {
            if local.list().unwrap().is_empty() {
                bucket.replace(Arc::default());
            }
            let disk = ObjectDisk::open(Arc::new(local.clone()), bucket.borrow().clone(), "")
                .map_err(|e| StoreError::new(lightstreams_store::StoreOp::Open, e))?;
            let options = SegmentOptions::default().with_segment_bytes(6000);
            SegmentStore::open_on(Arc::new(InTurn(disk)), options)
        },
        |store| drop(store.compact()),
    );
    assert!(cuts > 200, "{cuts} cuts");
}

#[test]
fn storage_that_fails_stops_writers_in_time_and_loses_nothing() {
    let (local, bucket) = (FaultyDisk::new(1), Arc::<Bucket>::default());
    let blocks = blocks(400);
    let (segments, disk) = store(&local, &bucket);
    segments.put_many(&blocks[..20]).unwrap();
    disk.flush().unwrap();
    bucket.fails.store(true, Ordering::SeqCst);
    let mut put = 20;
    let error = loop {
        match segments.put(&blocks[put]) {
            Ok(()) => put += 1,
            Err(e) => break e,
        }
    };
    let text = error.source.to_string() + &error.source.source().map(|e| e.to_string()).unwrap_or_default();
    assert!(text.contains("8 files wait for the object storage") && text.contains("no route"), "{text}");
    assert!(disk.failure().unwrap().contains("no route to host") && disk.flush().is_err());
    assert!((130..180).contains(&put), "{put} blocks of 1 KB fill nine segments of 16 KiB");
    // What is on the local disk is still read; what is not is an error, and not an absence.
    holds(&segments, &blocks[30..put]);
    assert!(segments.get(blocks[0].cid()).is_err());
    drop((segments, disk));

    bucket.fails.store(false, Ordering::SeqCst);
    let (segments, disk) = store(&local, &bucket);
    segments.put_many(&blocks).unwrap();
    disk.flush().unwrap();
    holds(&segments, &blocks);
}

#[test]
fn objects_have_one_owner() {
    let (local, bucket) = (FaultyDisk::new(1), Arc::<Bucket>::default());
    let blocks = blocks(60);
    let (segments, disk) = store(&local, &bucket);
    segments.put_many(&blocks).unwrap();
    disk.flush().unwrap();
    drop((segments, disk));

    let other: Arc<FaultyDisk> = Arc::new(FaultyDisk::new(2));
    let refused = ObjectDisk::open(other.clone(), bucket.clone(), "a/b").unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
    assert!(refused.to_string().contains("belong to another disk"), "{refused}");
    ObjectDisk::open(Arc::new(FaultyDisk::new(3)), bucket.clone(), "a/c").unwrap();

    let disk = Arc::new(ObjectDisk::take_over(other.clone(), bucket.clone(), "a/b").unwrap());
    let segments = SegmentStore::open_on(disk, small()).unwrap();
    holds(&segments, &blocks[..45]);
    segments.put_many(&blocks).unwrap();
    holds(&segments, &blocks);
    drop(segments);
    assert!(ObjectDisk::open(Arc::new(local), bucket.clone(), "a/b").is_err(), "it is the former owner");
    ObjectDisk::open(other, bucket, "a/b").unwrap();
}

#[test]
fn long_files_are_uploaded_in_parts_and_read_by_ranges() {
    let (local, bucket) = (FaultyDisk::new(1), Arc::<Bucket>::default());
    let disk = disk(&local, &bucket);
    let bytes: Vec<u8> = (0..(20u32 << 20)).map(|i| (i >> 3) as u8 ^ (i >> 13) as u8).collect();
    let mut file = disk.open("long").unwrap();
    file.append(&bytes).unwrap();
    file.sync().unwrap();
    drop(file);
    disk.complete("long").unwrap();
    disk.flush().unwrap();
    assert!(!local.list().unwrap().contains(&"long".to_owned()));
    assert_eq!(
        futures::executor::block_on(bucket.memory.head(&Path::from("a/b/long"))).unwrap().size,
        20 << 20
    );
    let object = disk.read("long").unwrap();
    let mut buf = vec![0; 1 << 20];
    for at in [0, 7, (8 << 20) - 5, 19 << 20] {
        assert_eq!(object.read_at(at as u64, &mut buf).unwrap(), buf.len());
        assert!(buf == bytes[at..at + buf.len()]);
    }
    assert_eq!(object.read_at((20 << 20) - 3, &mut buf).unwrap(), 3);
    assert_eq!(object.read_at(20 << 20, &mut buf).unwrap(), 0);
    // Whoever appends to it again gets it back.
    let mut file = disk.open("long").unwrap();
    file.append(b"more").unwrap();
    assert_eq!(file.len().unwrap(), (20 << 20) + 4);
    disk.remove("long").unwrap();
    assert!(disk.read("long").is_err() && !bucket.names().contains(&"a/b/long".to_owned()));
}
