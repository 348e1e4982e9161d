//! Segments on a real S3: `s3 BUCKET [MIB]`; see `s3.sh`.

use std::{error::Error, sync::Arc, time::Instant};

use lightstreams_store::{
    Block, BlockStore, FileDisk, SegmentOptions, SegmentStore,
    objects::{
        ObjectDisk,
        object_store::{ObjectStore, aws::AmazonS3Builder},
    },
};
use rand::Rng;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const BLOCK: usize = 256 << 10;
const SEGMENT: u32 = 64 << 20;
const PREFIX: &str = "lightstreams/blocks";

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let bucket = arguments.next().ok_or("usage: s3 BUCKET [MIB]")?;
    let mib: usize = arguments.next().unwrap_or_else(|| "512".into()).parse()?;
    let s3: Arc<dyn ObjectStore> =
        Arc::new(AmazonS3Builder::from_env().with_bucket_name(bucket).with_allow_http(true).build()?);
    let folders = [tempfile::tempdir()?, tempfile::tempdir()?];
    let [first, second] = [0, 1].map(|i: usize| FileDisk::open(folders[i].path()).map(Arc::new));
    let (first, second) = (first?, second?);
    let options = SegmentOptions::default().with_segment_bytes(SEGMENT);

    let mut cids = Vec::new();
    let disk = Arc::new(ObjectDisk::open(first.clone(), s3.clone(), PREFIX)?);
    let store = SegmentStore::open_on(disk.clone(), options)?;
    let clock = Instant::now();
    for _ in 0..mib {
        let blocks: Vec<Block> = (0..(1 << 20) / BLOCK)
            .map(|_| {
                let mut bytes = vec![0; BLOCK];
                rand::rng().fill_bytes(&mut bytes);
                Block::raw(bytes)
            })
            .collect();
        store.put_many(&blocks)?;
        cids.extend(blocks.iter().map(|block| *block.cid()));
    }
    disk.flush()?;
    println!("put and uploaded: {:.0} MiB/s", mib as f64 / clock.elapsed().as_secs_f64());
    drop((store, disk));

    // Another machine is refused, then takes over: it has all but the segment that was not full.
    assert!(ObjectDisk::open(second.clone(), s3.clone(), PREFIX).is_err());
    let clock = Instant::now();
    let disk = Arc::new(ObjectDisk::take_over(second.clone(), s3.clone(), PREFIX)?);
    let store = SegmentStore::open_on(disk.clone(), options)?;
    let opened = clock.elapsed();
    let held: Vec<_> = cids.iter().filter(|cid| store.has(cid).unwrap_or(false)).collect();
    assert!(held.len() * BLOCK + SEGMENT as usize > mib << 20, "{} blocks are held", held.len());
    let clock = Instant::now();
    for cid in &held {
        assert!(store.get(cid)?.is_some());
    }
    let read = held.len() as f64 / 4.0 / clock.elapsed().as_secs_f64();
    println!("opened by another machine in {opened:.1?}; read block by block: {read:.0} MiB/s");

    store.remove_many(&cids)?;
    store.reclaim()?;
    disk.flush()?;
    println!("removed: {} bytes left", store.disk_bytes());
    assert!(store.disk_bytes() < 1 << 20);
    Ok(())
}
