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

/// A power cut leaves a batch without some of its sectors, but with its end.
#[cfg(feature = "fjall")]
#[test]
fn a_torn_last_batch_of_fjall_is_one_that_was_never_committed() {
    let torn = |lost: u8| {
        let (folder, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let kv = lightstreams_chain::FjallKv::open(folder.path()).unwrap();
        for byte in *b"ab" {
            let mut batch = Batch::default();
            batch.put(Table::Bodies, [byte], [byte; 2_000]);
            kv.commit(batch).unwrap();
        }
        let copied = std::process::Command::new("cp").arg("-r").arg(folder.path()).arg(copy.path()).status();
        assert!(copied.unwrap().success());
        let database = copy.path().join(folder.path().file_name().unwrap());
        let mut journal = std::fs::read(database.join("0.jnl")).unwrap();
        let value = journal.windows(2_000).position(|w| w.iter().all(|byte| *byte == lost)).unwrap();
        journal[value + 700..value + 1_212].fill(0);
        std::fs::write(database.join("0.jnl"), journal).unwrap();
        lightstreams_chain::FjallKv::open(database).map(|kv| (copy, kv))
    };
    let (_folder, kv) = torn(b'b').unwrap();
    assert_eq!(kv.get(Table::Bodies, b"a").unwrap(), Some(vec![b'a'; 2_000]));
    assert_eq!(kv.get(Table::Bodies, b"b").unwrap(), None);
    assert!(torn(b'a').is_err());
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
