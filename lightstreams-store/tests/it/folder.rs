//! The store of plain files: where Kubo keeps them, and as durable as the others.

use std::{
    fs, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use lightstreams_store::{
    Block, BlockError, BlockStore, DAG_PB, Disk, DiskFile, FileDisk, FolderStore, HashFunction, SegmentStore,
    StoreError, StoreOp,
    testing::{
        FaultyDisk, Seeded, check_block_store, check_cut_block_store, check_full_block_store,
        check_killed_block_store, check_racing_block_store, check_reopened_block_store,
    },
};

const SHARDING: &str = "/repo/flatfs/shard/v1/next-to-last/2\n";

/// Blocks, and where Kubo keeps them; the first two are in every repository that `ipfs init` makes.
fn known() -> [(Block, &'static str); 4] {
    let sha2_512 = HashFunction::from_code(0x13).unwrap();
    [
        (
            Block::new(DAG_PB, vec![0x0a, 2, 8, 1]),
            "X3/CIQFTFEEHEDF6KLBT32BFAGLXEZL4UWFNWM4LFTLMXQBCERZ6CMLX3Y.data",
        ),
        (Block::raw(vec![]), "QV/CIQOHMGEIKMPYHAUTL57JSEZN64SIJ5OIHSGJG4TJSSJLGI3PBJLQVI.data"),
        (
            Block::raw(b"hello world".to_vec()),
            "32/CIQLSTJHXGJU2PQIUUXFFV62PWV7VREE57RXUU4A52IIR55M4LX432I.data",
        ),
        (
            Block::with_hash(0x55, sha2_512, b"hello world".to_vec()),
            "XN/CNADBHWMJCOBFVXLJTCA6UGJALZLJUHNO7XFCGT4PKN42PFINVGNQ34YTXJVXRP7JGLHBWRUEVNULMGP3AYOQH3ALXHX3RKUF2J25HGXN4.data",
        ),
    ]
}

fn on(disk: &FaultyDisk) -> Result<FolderStore, StoreError> {
    FolderStore::open_on(Arc::new(disk.clone()))
}

/// All files below `path` but those that we alone have, sorted.
fn files(path: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()).iter().map(|within| format!("{name}/{within}")));
        } else if name != "LOCK" {
            found.push(name);
        }
    }
    found.sort();
    found
}

#[test]
fn the_contract() {
    check_block_store(&on(&FaultyDisk::new(1)).unwrap());
    check_full_block_store(on(&FaultyDisk::new(2)).unwrap());
    let folder = tempfile::tempdir().unwrap();
    check_block_store(&FolderStore::open(folder.path().join("a")).unwrap());
    check_reopened_block_store(|| FolderStore::open(folder.path().join("b")).unwrap());
}

#[test]
fn many_at_one_store() {
    check_racing_block_store(&on(&FaultyDisk::new(1)).unwrap(), |_| ());
    let folder = tempfile::tempdir().unwrap();
    check_racing_block_store(&FolderStore::open(folder.path()).unwrap(), |_| ());
    assert_eq!(files(folder.path()), ["SHARDING", "_README"], "no file is left behind");
}

#[test]
fn nothing_acknowledged_is_lost_wherever_the_power_goes() {
    let cuts = check_cut_block_store(6, on, |_| ());
    println!("{cuts} power cuts");
    assert!(cuts > 500);
}

#[test]
fn nothing_acknowledged_is_lost_by_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let open = |path: &Path| FolderStore::open(path).unwrap();
    check_killed_block_store("folder::nothing_acknowledged_is_lost_by_a_kill", folder.path(), open, |_| ());
}

#[test]
fn blocks_lie_where_kubo_keeps_them() {
    let folder = tempfile::tempdir().unwrap();
    let store = FolderStore::open(folder.path()).unwrap();
    store.put_many(&known().map(|(block, _)| block)).unwrap();
    let mut expected: Vec<&str> = known().iter().map(|(_, path)| *path).collect();
    expected.extend(["SHARDING", "_README"]);
    expected.sort_unstable();
    assert_eq!(files(folder.path()), expected);
    assert_eq!(fs::read_to_string(folder.path().join("SHARDING")).unwrap(), SHARDING);
    for (block, path) in known() {
        assert_eq!(fs::read(folder.path().join(path)).unwrap(), *block.data());
    }
    store.remove_many(&known().map(|(block, _)| *block.cid())).unwrap();
    assert_eq!(files(folder.path()), ["SHARDING", "_README"]);
}

#[test]
fn a_folder_of_kubo_is_read_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, bytes: &[u8]| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    write("SHARDING", SHARDING.as_bytes());
    write("_README", b"This is a repository of IPLD objects.");
    write("diskUsage.cache", b"{\"diskUsage\":4096,\"accuracy\":\"initial-exact\"}\n");
    write(".temp/temp-123", b"begun");
    for (block, path) in known() {
        write(path, block.data());
    }
    // What is no block: left from a write, a key of before 2021, a name in lower case, one in the wrong folder, one that is
    // no multihash, and a folder that is no shard.
    write("X3/put-555", b"begun");
    write("SC/AFKREIA22FLID5AJ2KU7URG47MDLROZIH6YF2KALU2PWEFPVI37YLKRSCA.data", b"old");
    write("X3/ciqftfeehedf6klbt32bfaglxezl4uwfnwm4lftlmxqbcerz6cmlx3y.data", b"\n\x02\x08\x01");
    write("QV/CIQLSTJHXGJU2PQIUUXFFV62PWV7VREE57RXUU4A52IIR55M4LX432I.data", b"hello world");
    write("X3/CIQX3Y.data", b"");
    write("lost+found/CIQLSTJHXGJU2PQIUUXFFV62PWV7VREE57RXUU4A52IIR55M4LX432I.data", b"hello world");

    let store = FolderStore::open(folder.path()).unwrap();
    let mut keys: Vec<Vec<u8>> = known().map(|(block, _)| block.cid().hash().to_bytes()).into();
    keys.sort();
    let listed = store.cids(None, 100).unwrap();
    assert_eq!(listed.iter().map(|cid| cid.hash().to_bytes()).collect::<Vec<_>>(), keys);
    for (block, _) in known() {
        assert_eq!(store.get(block.cid()).unwrap(), Some(block.clone()));
        assert_eq!(store.size(block.cid()).unwrap(), Some(block.len() as u64));
    }
    assert!(!folder.path().join("diskUsage.cache").exists(), "Kubo counts again");

    // Without its option `sync` Kubo may lose the bytes of a file and keep its name.
    let (hello, path) = &known()[2];
    write(path, b"");
    let error = store.get(hello.cid()).unwrap_err();
    assert_eq!(error.source.downcast_ref(), Some(&BlockError::Mismatch));
    store.put(hello).unwrap();
    assert_eq!(store.get(hello.cid()).unwrap().as_ref(), Some(hello));
    let long = fs::File::options().write(true).open(folder.path().join(path)).unwrap();
    long.set_len(1 << 40).unwrap();
    let error = store.get(hello.cid()).unwrap_err();
    assert_eq!(error.source.downcast_ref(), Some(&BlockError::TooLong { len: 1 << 40 }));
    store.put_many(&[known()[0].0.clone(), hello.clone()]).unwrap();
    assert_eq!(store.get(hello.cid()).unwrap().as_ref(), Some(hello));

    store.put(&Block::raw(b"a new one".to_vec())).unwrap();
    assert_eq!(store.cids(None, 100).unwrap().len(), 5);
    assert_eq!(
        fs::read_to_string(folder.path().join("_README")).unwrap(),
        "This is a repository of IPLD objects."
    );
    // What was begun goes when something is written beside it.
    let begun = folder.path().join("X3/put-555");
    assert!(!begun.exists(), "the batch above wrote to this folder");
}

#[test]
fn a_folder_of_something_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |words: &str| {
        let error = FolderStore::open(folder.path()).unwrap_err();
        assert_eq!(error.op, StoreOp::Open);
        assert!(error.source.to_string().contains(words), "{}", error.source);
    };
    fs::write(folder.path().join("photo.jpg"), "x").unwrap();
    refused("other files than a block store");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "it is left as it is");
    fs::remove_file(folder.path().join("photo.jpg")).unwrap();
    fs::create_dir(folder.path().join("X3")).unwrap();
    refused("other files than a block store");
    fs::remove_dir(folder.path().join("X3")).unwrap();
    // The rest of an earlier attempt does no harm.
    fs::write(folder.path().join("put-SHARDING"), "/repo").unwrap();
    let open = FolderStore::open(folder.path()).unwrap();
    refused("another process has the folder open");
    drop(open);
    assert!(SegmentStore::open(folder.path()).is_err(), "nor is it taken for another backend's");
    for other in ["/repo/flatfs/shard/v1/prefix/5\n", "", "x".repeat(1000).as_str()] {
        fs::write(folder.path().join("SHARDING"), other).unwrap();
        refused("next-to-last/2");
    }
    fs::write(folder.path().join("SHARDING"), SHARDING.trim()).unwrap();
    FolderStore::open(folder.path()).unwrap();
}

#[test]
fn a_full_disk_stores_nothing_and_is_usable_on() {
    let disk = FaultyDisk::new(1);
    let store = on(&disk).unwrap();
    let mut seeded = Seeded::new(1);
    let blocks: Vec<Block> = (0..20).map(|_| seeded.block(1000)).collect();
    store.put_many(&blocks[..5]).unwrap();
    disk.set_capacity(10_000);
    let error = store.put_many(&blocks[5..]).unwrap_err();
    let io = error.source.downcast_ref::<io::Error>().unwrap();
    assert_eq!((error.op, io.kind()), (StoreOp::Put, io::ErrorKind::StorageFull));
    for (i, block) in blocks.iter().enumerate() {
        assert_eq!(store.has(block.cid()).unwrap(), i < 5, "all of a batch or nothing");
    }
    store.put(&blocks[7]).unwrap();
    assert_eq!(store.cids(None, 100).unwrap().len(), 6);
    disk.set_capacity(usize::MAX);
    store.put_many(&blocks).unwrap();
    assert_eq!(store.cids(None, 100).unwrap().len(), 20);
}

/// A folder whose syncs fail as often as is asked for, and are counted.
#[derive(Clone)]
struct Failing {
    disk: Arc<dyn Disk>,
    to_fail: Arc<AtomicU64>,
    syncs: Arc<AtomicU64>,
}

impl Disk for Failing {
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.disk.open(name)
    }
    fn read(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.disk.read(name)
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
        if self.to_fail.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Err(io::Error::other("the disk does not answer"));
        }
        self.syncs.fetch_add(1, Ordering::SeqCst);
        self.disk.sync()
    }
    fn folder(&self, name: &str) -> io::Result<Arc<dyn Disk>> {
        Ok(Arc::new(Self { disk: self.disk.folder(name)?, ..self.clone() }))
    }
    fn folders(&self) -> io::Result<Vec<String>> {
        self.disk.folders()
    }
}

#[test]
fn what_could_not_be_synced_is_synced_before_it_counts_as_held() {
    let folder = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(FileDisk::open(folder.path()).unwrap());
    let (to_fail, syncs) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let failing = Failing { disk, to_fail: to_fail.clone(), syncs: syncs.clone() };
    let store = FolderStore::open_on(Arc::new(failing)).unwrap();
    let (first, block) = (Block::raw(b"1".to_vec()), Block::raw(b"hello world".to_vec()));
    store.put_many(&[first.clone(), block.clone()]).unwrap();
    store.remove_many(&[*block.cid()]).unwrap();
    assert_eq!(store.cids(None, 10).unwrap(), [*first.cid()]);
    let counted = || syncs.swap(0, Ordering::SeqCst);
    counted();

    to_fail.store(2, Ordering::SeqCst);
    store.put(&block).unwrap_err();
    store.put(&block).unwrap_err();
    assert_eq!(counted(), 0);
    store.put(&block).unwrap();
    assert_eq!(counted(), 1, "its file was there already, its name was not durable");
    store.put(&block).unwrap();
    assert_eq!(counted(), 0);
    assert_eq!(store.cids(None, 10).unwrap().len(), 2, "a listing sees it after the failure, too");

    to_fail.store(2, Ordering::SeqCst);
    store.remove_many(&[*block.cid()]).unwrap_err();
    store.remove_many(&[*block.cid()]).unwrap_err();
    store.remove_many(&[*block.cid()]).unwrap();
    assert_eq!(counted(), 1);
    assert_eq!(store.cids(None, 10).unwrap(), [*first.cid()]);
}

#[test]
fn a_disk_without_folders_cannot_have_one() {
    struct Flat(FaultyDisk);
    impl Disk for Flat {
        fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
            self.0.open(name)
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
    }
    let store = FolderStore::open_on(Arc::new(Flat(FaultyDisk::new(1)))).unwrap();
    let error = store.put(&Block::raw(b"x".to_vec())).unwrap_err();
    assert_eq!(error.source.downcast_ref::<io::Error>().unwrap().kind(), io::ErrorKind::Unsupported);
    assert_eq!(store.cids(None, 1).unwrap(), []);
}
