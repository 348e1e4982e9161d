//! Every implementation of a seam passes its shared check.

use std::sync::Arc;

use lightstreams_store::{
    AllowAll, BlockStore, DenyAll, Exchange, FetchError, FetchingSource, FileDisk, Gate, LocalExchange,
    MemoryStore, PeerId, Requester, ServePolicy, Session, StoreOp,
    testing::{
        FaultyDisk, Seeded, check_block_store, check_disk, check_exchange, check_full_block_store,
        check_racing_block_store,
    },
};

fn peer(byte: u8) -> PeerId {
    PeerId::from_bytes(&[byte; 38]).unwrap()
}

#[test]
fn memory_store() {
    check_block_store(&MemoryStore::default());
    check_racing_block_store(&MemoryStore::default(), |_| ());
    check_full_block_store(MemoryStore::default());
}

#[test]
fn memory_store_behind_a_pointer() {
    let store: Arc<dyn BlockStore> = Arc::new(MemoryStore::default());
    check_block_store(&store);
}

#[cfg(feature = "fjall")]
#[test]
fn fjall_store() {
    let folder = tempfile::tempdir().unwrap();
    check_block_store(&lightstreams_store::FjallStore::open(folder.path().join("a")).unwrap());
    check_racing_block_store(&lightstreams_store::FjallStore::open(folder.path().join("c")).unwrap(), |_| ());
    check_full_block_store(lightstreams_store::FjallStore::open(folder.path().join("d")).unwrap());
    lightstreams_store::testing::check_reopened_block_store(|| {
        lightstreams_store::FjallStore::open(folder.path().join("b")).unwrap()
    });
}

#[cfg(feature = "fjall")]
#[test]
fn a_fjall_store_that_is_open_is_not_opened_twice() {
    let folder = tempfile::tempdir().unwrap();
    let first = lightstreams_store::FjallStore::open(folder.path()).unwrap();
    let error = lightstreams_store::FjallStore::open(folder.path()).unwrap_err();
    assert_eq!(error.op, StoreOp::Open);
    assert_eq!(error.source.to_string(), "another process has the database open");
    drop(first);
    lightstreams_store::FjallStore::open(folder.path()).unwrap();
}

#[cfg(feature = "rocksdb")]
#[test]
fn rocks_store() {
    let folder = tempfile::tempdir().unwrap();
    check_block_store(&lightstreams_store::RocksStore::open(folder.path().join("a")).unwrap());
    check_racing_block_store(&lightstreams_store::RocksStore::open(folder.path().join("c")).unwrap(), |_| ());
    check_full_block_store(lightstreams_store::RocksStore::open(folder.path().join("d")).unwrap());
    lightstreams_store::testing::check_reopened_block_store(|| {
        lightstreams_store::RocksStore::open(folder.path().join("b")).unwrap()
    });
}

#[cfg(feature = "rocksdb")]
#[test]
fn a_rocks_store_that_is_open_is_not_opened_twice() {
    let folder = tempfile::tempdir().unwrap();
    let first = lightstreams_store::RocksStore::open(folder.path()).unwrap();
    let error = lightstreams_store::RocksStore::open(folder.path()).unwrap_err();
    assert_eq!(error.source.to_string(), "another process has the database open");
    drop(first);
    lightstreams_store::RocksStore::open(folder.path()).unwrap();
}

#[cfg(feature = "fjall")]
#[test]
fn a_folder_of_something_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let open = || lightstreams_store::FjallStore::open(folder.path()).map_err(|e| e.source.to_string());
    let marker = folder.path().join("FORMAT");
    // The rest of an earlier attempt does no harm; another file does.
    std::fs::write(folder.path().join("FORMAT.new"), "lightstr").unwrap();
    std::fs::write(folder.path().join("photo.jpg"), "x").unwrap();
    assert_eq!(open().unwrap_err(), "the folder holds other files than a block store");
    std::fs::remove_file(folder.path().join("photo.jpg")).unwrap();
    open().unwrap();
    open().unwrap();
    assert_eq!(std::fs::read_to_string(&marker).unwrap(), "lightstreams-store fjall 1\n");
    std::fs::write(&marker, "lightstreams-store rocksdb 1\n").unwrap();
    let error = open().unwrap_err();
    assert_eq!(
        error,
        "the folder belongs to \"lightstreams-store rocksdb 1\", not to \"lightstreams-store fjall 1\""
    );
}

#[test]
fn local_exchange() {
    let remote = Arc::new(MemoryStore::default());
    let exchange = LocalExchange::new(Gate::new(remote.clone(), Arc::new(AllowAll)), peer(1));
    check_exchange(&remote, &exchange, &Session::new());
}

#[test]
fn file_disk_and_faulty_disk() {
    let folder = tempfile::tempdir().unwrap();
    check_disk(|| FileDisk::open(folder.path().join("a/b")).unwrap());
    let disk = FaultyDisk::new(1);
    check_disk(|| disk.clone());
}

#[test]
fn a_denied_block_looks_like_an_absent_one() {
    let store = Arc::new(MemoryStore::default());
    let (held, absent) = (Seeded::new(1).block(100), Seeded::new(2).block(100));
    store.put(&held).unwrap();
    let gate = Gate::new(store.clone(), Arc::new(DenyAll));
    let stranger = Requester::Peer { id: peer(1), account: None };
    for requester in [stranger, Requester::Http { account: Some([7; 20]) }] {
        assert_eq!(gate.get(&requester, held.cid()).unwrap(), None);
        assert_eq!(gate.size(&requester, held.cid()).unwrap(), None);
    }
    assert_eq!(gate.get(&Requester::Local, held.cid()).unwrap(), Some(held.clone()));

    let exchange = LocalExchange::new(gate, peer(1));
    let answers = [&held, &absent].map(|block| match exchange.fetch_one(block.cid(), &Session::new()) {
        Err(FetchError::Missing { cids, peers }) => {
            assert_eq!(cids, [*block.cid()]);
            peers
        }
        other => panic!("{other:?}"),
    });
    assert_eq!(answers[0], answers[1]);
}

/// Serves one account.
struct Only([u8; 20]);

impl ServePolicy for Only {
    fn allows(&self, requester: &Requester, _: &lightstreams_store::Cid) -> bool {
        requester.account() == Some(&self.0)
    }
}

#[test]
fn a_session_asks_in_the_name_of_its_account() {
    let store = Arc::new(MemoryStore::default());
    let block = Seeded::new(1).block(100);
    store.put(&block).unwrap();
    let exchange = LocalExchange::new(Gate::new(store, Arc::new(Only([7; 20]))), peer(1));
    assert!(exchange.fetch_one(block.cid(), &Session::new()).is_err());
    assert!(exchange.fetch_one(block.cid(), &Session::new().with_account([8; 20])).is_err());
    assert!(exchange.fetch_one(block.cid(), &Session::new().with_account([7; 20])).is_ok());
}

#[test]
fn what_was_fetched_is_kept_only_if_so_wished() {
    use lightstreams_store::BlockSource;
    let remote = Arc::new(MemoryStore::default());
    let block = Seeded::new(1).block(100);
    remote.put(&block).unwrap();
    let exchange = LocalExchange::new(Gate::new(remote.clone(), Arc::new(AllowAll)), peer(1));
    let (local, session) = (MemoryStore::default(), Session::new());
    let passing = FetchingSource::new(&local, &exchange, &session, false);
    assert_eq!(passing.block(block.cid()).unwrap(), Some(block.clone()));
    assert!(local.is_empty());
    let keeping = FetchingSource::new(&local, &exchange, &session, true);
    assert_eq!(keeping.block(block.cid()).unwrap(), Some(block.clone()));
    assert_eq!(local.len(), 1);
    remote.remove_many(&[*block.cid()]).unwrap();
    assert_eq!(passing.block(block.cid()).unwrap(), Some(block));
    let absent = Seeded::new(2).block(1);
    assert_eq!(passing.block(absent.cid()).unwrap_err().op, StoreOp::Fetch);
}
