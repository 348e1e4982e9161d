use std::{
    ops::ControlFlow::{Break, Continue},
    sync::Arc,
};

use lightstreams_store::{
    AllowAll, Block, BlockFault, BlockStore, Cid, Disk, Finding, Gate, ImportOptions, Input, LocalExchange,
    MemoryStore, PeerId, Pin, PinnedStore, SegmentOptions, SegmentStore, Session, Verification, resolve,
    testing::FaultyDisk,
};

use super::{STILL, leaf, node, sweep};

type Store = PinnedStore<SegmentStore>;

fn open(disk: &FaultyDisk) -> Store {
    let disk = Arc::new(disk.clone());
    let segments = SegmentStore::open_on(disk.clone(), SegmentOptions::default()).unwrap();
    PinnedStore::open(segments, disk).unwrap()
}

/// Changes a byte of the block on the disk.
fn damage(disk: &FaultyDisk, block: &Block) {
    for name in disk.list().unwrap().iter().filter(|name| name.ends_with(".seg")) {
        let file = disk.open(name).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_at(0, &mut bytes).unwrap();
        if let Some(at) = bytes.windows(block.len()).position(|window| window == &block.data()[..]) {
            disk.damage(name, at);
            return;
        }
    }
    panic!("{block:?} is not on the disk");
}

/// A directory with two files, one of three leaves; the root.
fn import(store: &dyn BlockStore) -> Cid {
    let file = |byte: u8, len: usize| {
        let bytes: Vec<u8> = (0..len).map(|i| byte.wrapping_add((i >> 8) as u8) ^ (i >> 16) as u8).collect();
        Input::reader(std::io::Cursor::new(bytes))
    };
    let docs =
        Input::directory([("long.bin".to_owned(), file(1, 700_000)), ("s.txt".to_owned(), file(7, 9))]);
    let options = ImportOptions::unixfs_v0_2015();
    options.import(Input::directory([("docs".to_owned(), docs)]), store, &mut |_| ()).unwrap().cid
}

fn find(store: &Store, root: &Cid, path: &str) -> Block {
    let cid = resolve(&store, root, path).unwrap().unwrap().cid;
    store.get(&cid).unwrap().unwrap()
}

fn examine(store: &Store) -> (Verification, Vec<String>) {
    let mut found = Vec::new();
    let done = store.verify(&mut |finding| {
        if let Finding::Damaged(damage) = finding {
            found.push(damage.to_string());
        }
        Continue(())
    });
    (done.unwrap(), found)
}

fn peer(blocks: &Arc<MemoryStore>) -> LocalExchange {
    LocalExchange::new(Gate::new(blocks.clone(), Arc::new(AllowAll)), PeerId::from_bytes(&[1; 38]).unwrap())
}

#[test]
fn damage_is_found_named_and_repaired() {
    let disk = FaultyDisk::new(1);
    let store = open(&disk);
    let root = import(&store.hold());
    let remote = Arc::new(MemoryStore::default());
    assert_eq!(import(&remote), root);
    let stray = Block::raw(vec![99; 500]);
    store.put(&stray).unwrap();
    store.pin(&Pin::recursive(root, "photos")).unwrap();
    let (clean, found) = examine(&store);
    assert_eq!((clean.damaged, clean.pins, found), (0, 1, Vec::<String>::new()));
    let all = store.cids(None, 100).unwrap();
    assert_eq!(clean.blocks, all.len() as u64);
    let bytes: u64 = all.iter().map(|cid| store.size(cid).unwrap().unwrap()).sum();
    assert_eq!(clean.bytes, bytes, "each block is read once");

    let long = find(&store, &root, "docs/long.bin");
    let links = lightstreams_store::Codec::DagPb.links(long.data()).unwrap();
    let part = store.get(&links[2]).unwrap().unwrap();
    let docs = find(&store, &root, "docs");
    let short = find(&store, &root, "docs/s.txt");
    for block in [&part, &short, &stray] {
        damage(&disk, block);
    }
    let (done, found) = examine(&store);
    let at = |block: &Block| {
        format!("block {} cannot be read (reading a block failed: {}: ", block.cid(), block.cid())
    };
    let inside = |path: &str| format!("; it is in the recursive pin \"photos\" of {root}/{path}");
    assert_eq!((done.damaged, found.len()), (3, 3));
    assert!(found[0].starts_with(&at(&part)) && found[0].ends_with(&inside("docs/long.bin/2")), "{found:?}");
    assert!(found[0].contains("is damaged at byte"), "{found:?}");
    assert!(found[1].starts_with(&at(&short)) && found[1].ends_with(&inside("docs/s.txt")), "{found:?}");
    assert!(!found[2].contains("pin"), "{found:?}");

    // What is below a damaged block is seen when that is repaired.
    damage(&disk, &docs);
    store.store().remove_many(&[*long.cid()]).unwrap();
    let (done, found) = examine(&store);
    assert!(found[0].starts_with(&at(&docs)) && found[0].ends_with(&inside("docs")), "{found:?}");
    assert_eq!(
        done.damaged, 4,
        "the parts are found by themselves, and belong to nothing that can be seen: {found:?}"
    );
    assert!(store.sweep(&STILL, &mut |_| Continue(())).is_err());

    let peers = peer(&remote);
    // One block is nowhere.
    remote.remove_many(&[*short.cid()]).unwrap();
    let (mut repaired, mut left) = (Vec::new(), Vec::new());
    let done = store.repair(&peers, &Session::new(), &mut |finding| {
        match finding {
            Finding::Repaired(damage) => repaired.push(damage.cid),
            Finding::Damaged(damage) => left.push(damage.cid),
            Finding::Progress(_) => {}
        }
        Continue(())
    });
    let done = done.unwrap();
    assert_eq!(repaired, [*docs.cid(), *long.cid(), *part.cid()]);
    assert_eq!(left.iter().map(Cid::hash).collect::<Vec<_>>(), [short.cid().hash(), stray.cid().hash()]);
    assert_eq!((done.repaired, done.damaged), (3, 2));
    for block in [&docs, &long, &part] {
        assert_eq!(store.get(block.cid()).unwrap().as_ref(), Some(block));
    }
    remote.put(&short).unwrap();
    assert_eq!(store.repair(&peers, &Session::new(), &mut |_| Continue(())).unwrap().repaired, 1);
    // What belongs to nothing goes with a sweep.
    assert_eq!(sweep(&store).removed, 1);
    drop(store);
    let (done, _) = examine(&open(&disk.after_power_cut()));
    assert_eq!((done.damaged, done.blocks), (0, clean.blocks - 1));
}

#[test]
fn many_missing_leaves_come_together_and_all_pins_of_a_block_are_found() {
    let disk = FaultyDisk::new(1);
    let store = open(&disk);
    let leaves: Vec<Block> = (0..3000).map(leaf).collect();
    let cids: Vec<Cid> = leaves.iter().map(|leaf| *leaf.cid()).collect();
    let (a, b) = (node(1, &cids), node(2, &cids[..10]));
    let remote = Arc::new(MemoryStore::default());
    for store in [&store as &dyn BlockStore, &*remote] {
        store.put_many(&leaves).unwrap();
        store.put_many(&[a.clone(), b.clone()]).unwrap();
    }
    let pins = [
        Pin::recursive(*a.cid(), "a"),
        Pin::recursive(*b.cid(), "b"),
        Pin::direct(*b.cid(), "c"),
        Pin::direct(cids[3], "d"),
    ];
    store.pin_many(&pins).unwrap();
    let names = |cid: &Cid, limit| {
        let mut names: Vec<String> =
            store.owners(cid, limit).unwrap().iter().map(|owner| owner.pin.name.clone()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&cids[3], 9), ["a", "b", "d"]);
    assert_eq!(names(&cids[30], 9), ["a"]);
    assert_eq!(names(b.cid(), 9), ["b", "c"]);
    assert_eq!(names(&cids[3], 2).len(), 2);
    assert!(names(leaf(9999).cid(), 9).is_empty());

    store.store().remove_many(&cids).unwrap();
    let mut told = 0;
    let stopped = store.verify(&mut |finding| {
        told += u32::from(
            matches!(finding, Finding::Damaged(damage) if matches!(damage.fault, BlockFault::Missing)),
        );
        if told == 5 { Break(()) } else { Continue(()) }
    });
    assert_eq!(stopped.map(|done| (done.stopped, done.damaged)).unwrap(), (true, 5));
    let done = store.repair(&peer(&remote), &Session::new(), &mut |_| Continue(())).unwrap();
    assert_eq!((done.repaired, done.damaged), (3000, 0));
    assert_eq!(examine(&store).0.damaged, 0);
}
