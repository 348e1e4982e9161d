//! UnixFS: a hostile root is a file, a directory, a link or an error, and never more than was allowed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lightstreams_store::{
    Block, BlockStore, Bytes, DAG_PB, DagPath, DagSelection, Directory, ExportLimits, FileReader, MemoryStore, NodeKind,
    RAW, export_tar, resolve, stat,
};

fuzz_target!(|data: &[u8]| {
    // Some children, which links may name: each is found by who finds the hash, so that they are given by their CIDs.
    let store = MemoryStore::default();
    for text in ["", "a", "leaf"] {
        store.put(&Block::new(RAW, Bytes::copy_from_slice(text.as_bytes()))).unwrap();
    }
    let root = Block::new(DAG_PB, Bytes::copy_from_slice(data));
    store.put(&root).unwrap();
    let source = &&store;
    let found = stat(source, root.cid());
    if let Ok(reader) = FileReader::open(&store, root.cid()) {
        assert!(matches!(&found, Ok(found) if found.kind == NodeKind::File { size: reader.len() }));
        let mut buf = [0; 300];
        for at in [0, reader.len() / 2, reader.len().saturating_sub(1), u64::MAX] {
            if let Ok(n) = reader.read_at(at, &mut buf) {
                assert_eq!(n as u64, reader.len().saturating_sub(at).min(buf.len() as u64));
            }
        }
    }
    if let Ok(directory) = Directory::open(&store, root.cid()) {
        for entry in directory.entries().take(1000) {
            let Ok(entry) = entry else { break };
            assert!(!entry.name.contains('/') && !matches!(&*entry.name, "" | "." | ".."));
            let by_name = directory.get(&entry.name).expect("what is listed is found");
            assert_eq!(by_name.as_ref(), Some(&entry));
            assert_eq!(resolve(source, root.cid(), &entry.name).expect("and by path"), by_name);
        }
    }
    let mut limits = ExportLimits::default();
    (limits.entries_max, limits.bytes_max) = (1000, 1 << 16);
    let tar = export_tar(source, root.cid(), "root", limits, Vec::new());
    assert!(tar.is_err() || tar.unwrap().len() % 512 == 0);
    if let Ok(path) = DagPath::resolve(source, root.cid(), &["a", "b"]) {
        let _ = path.write_car(source, &DagSelection::default(), Vec::new());
    }
});
