//! Every database keeps the contract of the seam, and its contents when it is opened again.

use lightstreams_chain::{Batch, Kv, MemoryKv, Table, testing::check_kv};

#[test]
fn tables_in_memory_keep_the_contract() {
    check_kv(&MemoryKv::default());
}

#[cfg(feature = "fjall")]
#[test]
fn fjall_keeps_the_contract_and_what_was_committed() {
    let folder = tempfile::tempdir().unwrap();
    check_kv(&lightstreams_chain::FjallKv::open(folder.path()).unwrap());
    keeps(|| lightstreams_chain::FjallKv::open(folder.path()).unwrap());
}

#[cfg(feature = "rocksdb")]
#[test]
fn rocksdb_keeps_the_contract_and_what_was_committed() {
    let folder = tempfile::tempdir().unwrap();
    check_kv(&lightstreams_chain::RocksKv::open(folder.path()).unwrap());
    keeps(|| lightstreams_chain::RocksKv::open(folder.path()).unwrap());
}

#[cfg(feature = "fjall")]
#[test]
fn a_database_in_use_is_not_opened_twice() {
    let folder = tempfile::tempdir().unwrap();
    let _open = lightstreams_chain::FjallKv::open(folder.path()).unwrap();
    assert!(lightstreams_chain::FjallKv::open(folder.path()).is_err());
}

#[cfg(any(feature = "fjall", feature = "rocksdb"))]
#[track_caller]
fn keeps<K: Kv>(open: impl Fn() -> K) {
    let mut batch = Batch::default();
    batch.put(Table::Meta, b"kept", b"value");
    batch.remove(Table::Slots, b"a");
    open().commit(batch).unwrap();
    let again = open();
    assert_eq!(again.get(Table::Meta, b"kept").unwrap(), Some(b"value".to_vec()));
    assert_eq!(again.get(Table::Slots, b"a").unwrap(), None);
    assert_eq!(again.scan(Table::Meta, b"kept", 1).unwrap().len(), 1);
}

#[test]
fn a_batch_says_what_it_does() {
    let mut batch = Batch::default();
    assert!(batch.is_empty());
    batch.put(Table::Code, b"b", b"1");
    batch.remove(Table::Code, b"a");
    batch.put(Table::Engine, b"a", b"2");
    assert_eq!(batch.get(Table::Code, b"b"), Some(Some(&b"1"[..])));
    assert_eq!(batch.get(Table::Code, b"a"), Some(None));
    assert_eq!(batch.get(Table::Code, b"c"), None);
    let code: Vec<_> = batch.range(Table::Code, b"a").map(|(key, _)| key.to_vec()).collect();
    assert_eq!(code, [b"a".to_vec(), b"b".to_vec()]);
    assert_eq!(batch.iter().count(), batch.len());
}
