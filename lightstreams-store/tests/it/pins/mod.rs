//! What a pin holds is never swept, what nothing holds is, and damage is named.

mod crash;
mod ledger;
mod model;
mod race;
mod verify;

use std::{
    collections::BTreeMap,
    ops::ControlFlow::{Break, Continue},
    sync::{Arc, Mutex},
    time::Duration,
};

use lightstreams_store::{
    Block, BlockFault, BlockStore, Cid, Codec, DAG_CBOR, DAG_JSON, DAG_PB, ImportOptions, Input, Ipld,
    MAX_PIN_NAME_LEN, MemoryStore, Pin, PinError, PinnedStore, Quota, StoreError, Sweep, testing::FaultyDisk,
};
use multihash::Multihash;

fn pinned<S: BlockStore>(store: S) -> PinnedStore<S> {
    PinnedStore::open(store, Arc::new(FaultyDisk::new(1))).unwrap()
}

/// A clock that stands still: the same history does the same.
const STILL: fn() -> Duration = || Duration::ZERO;

fn sweep<S: BlockStore>(store: &PinnedStore<S>) -> Sweep {
    let done = store.sweep(&STILL, &mut |_| Continue(())).unwrap();
    assert!(!done.stopped);
    done
}

/// A dag-cbor node of its own kind with these links.
fn node(salt: u64, links: &[Cid]) -> Block {
    let links = Ipld::List(links.iter().map(|cid| Ipld::Link(*cid)).collect());
    let value =
        BTreeMap::from([("links".to_owned(), links), ("salt".to_owned(), Ipld::Integer(salt.into()))]);
    Block::new(DAG_CBOR, Codec::DagCbor.encode(&Ipld::Map(value)).unwrap())
}

fn leaf(salt: u64) -> Block {
    Block::raw(salt.to_be_bytes().to_vec())
}

fn held(store: &dyn BlockStore, blocks: &[&Block]) -> Vec<bool> {
    blocks.iter().map(|block| store.get(block.cid()).unwrap().is_some()).collect()
}

fn all_cids(store: &dyn BlockStore) -> usize {
    store.cids(None, usize::MAX).unwrap().len()
}

/// A store that does something else first when its blocks are listed or removed.
#[derive(Default)]
struct Hooked {
    store: MemoryStore,
    listed: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    removed: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Hooked {
    fn run(hook: &Mutex<Option<Box<dyn FnOnce() + Send>>>) {
        let hook = hook.lock().unwrap().take();
        hook.into_iter().for_each(|hook| hook());
    }
}

impl BlockStore for Hooked {
    fn get(&self, cid: &Cid) -> Result<Option<Block>, StoreError> {
        self.store.get(cid)
    }
    fn size(&self, cid: &Cid) -> Result<Option<u64>, StoreError> {
        self.store.size(cid)
    }
    fn put_many(&self, blocks: &[Block]) -> Result<(), StoreError> {
        self.store.put_many(blocks)
    }
    fn remove_many(&self, cids: &[Cid]) -> Result<(), StoreError> {
        Self::run(&self.removed);
        self.store.remove_many(cids)
    }
    fn cids(&self, after: Option<&Cid>, limit: usize) -> Result<Vec<Cid>, StoreError> {
        Self::run(&self.listed);
        self.store.cids(after, limit)
    }
}

#[test]
fn what_no_pin_holds_is_swept_and_nothing_else() {
    let store = pinned(MemoryStore::default());
    let import = |bytes: u8| {
        let file = |len: usize| Input::reader(std::io::Cursor::new(vec![bytes; len]));
        let tree = Input::directory([("a".to_owned(), file(3_000_000)), ("b".to_owned(), file(10))]);
        ImportOptions::unixfs_v1_2025().import(tree, &store, &mut |_| ()).unwrap().cid
    };
    let kept = import(1);
    let kept_blocks = all_cids(&store);
    let dead = import(2);
    let both = all_cids(&store);
    // All codecs, links under CIDv0, links that carry their block, and a link to the same bytes as raw and as dag-pb.
    let (a, b, c) = (leaf(1), leaf(2), leaf(3));
    let empty = Block::new(DAG_PB, vec![]);
    let v0 = Cid::new_v0(*empty.cid().hash()).unwrap();
    let json = Block::new(DAG_JSON, format!("[{{\"/\":\"{}\"}}]", b.cid()).into_bytes());
    let inline = Codec::DagCbor.encode(&Ipld::Link(*json.cid())).unwrap();
    let inline = Cid::new_v1(DAG_CBOR, Multihash::wrap(0, &inline).unwrap());
    let top = node(1, &[*a.cid(), v0, inline, *Block::raw(vec![]).cid()]);
    store.put_many(&[a.clone(), b.clone(), c.clone(), empty.clone(), json.clone(), top.clone()]).unwrap();
    let direct = node(2, &[*c.cid()]);
    store.put(&direct).unwrap();

    store.pin(&Pin::recursive(kept, "kept")).unwrap();
    store.pin(&Pin::recursive(*top.cid(), "")).unwrap();
    store.pin(&Pin::direct(*direct.cid(), "alone")).unwrap();
    let done = sweep(&store);
    assert_eq!(
        held(&store, &[&a, &b, &c, &empty, &json, &top, &direct]),
        [true, true, false, true, true, true, true]
    );
    assert_eq!((done.pins, done.checked), (3, both as u64 + 7));
    assert_eq!(done.removed, (both - kept_blocks) as u64 + 1);
    assert!(store.get(&dead).unwrap().is_none());
    assert_eq!(sweep(&store).removed, 0);

    // What two pins hold goes with the second.
    store.pin(&Pin::recursive(kept, "once more")).unwrap();
    assert!(store.unpin(&Pin::recursive(kept, "kept")).unwrap());
    assert!(!store.unpin(&Pin::recursive(kept, "kept")).unwrap());
    assert_eq!(sweep(&store).removed, 0);
    assert!(store.unpin(&Pin::recursive(kept, "once more")).unwrap());
    assert_eq!(sweep(&store).removed, kept_blocks as u64);
}

#[test]
fn what_goes_through_a_hold_stays_until_it_is_dropped() {
    let store = pinned(MemoryStore::default());
    let blocks: Vec<Block> = (0..5).map(leaf).collect();
    let [put, asked, read, sized, nobody] = &blocks[..] else { unreachable!() };
    store.put_many(&blocks[1..]).unwrap();
    let hold = store.hold();
    let other = store.hold();
    hold.put(put).unwrap();
    assert!(hold.has(asked.cid()).unwrap());
    assert!(hold.get(read.cid()).unwrap().is_some());
    assert!(hold.size(sized.cid()).unwrap().is_some());
    assert_eq!(sweep(&store).removed, 1);
    assert_eq!(held(&store, &[put, asked, read, sized, nobody]), [true, true, true, true, false]);
    drop(other);
    assert_eq!(sweep(&store).removed, 0, "another hold does not end this one");
    store.pin(&Pin::direct(*put.cid(), "")).unwrap();
    drop(hold);
    assert_eq!(sweep(&store).removed, 3);
    assert_eq!(held(&store, &[put, asked, read, sized]), [true, false, false, false]);

    let shared = PinnedStore::open(Arc::new(MemoryStore::default()), Arc::new(FaultyDisk::new(1))).unwrap();
    let hold = shared.hold_owned();
    std::thread::spawn(move || hold.put(&leaf(1)).map(|()| hold)).join().unwrap().unwrap();
    assert_eq!(sweep(&shared).removed, 1, "the thread has dropped it");
}

#[test]
fn what_is_touched_or_pinned_while_a_sweep_runs_stays() {
    let store = Arc::new(pinned(Arc::new(Hooked::default())));
    let blocks: Vec<Block> = (0..4).map(leaf).collect();
    let root = node(1, &[*blocks[0].cid()]);
    store.put_many(&blocks).unwrap();
    store.put(&root).unwrap();
    let early = store.hold_owned();
    early.put(&leaf(8)).unwrap();
    // The pins are marked by the time the blocks are listed.
    let (beside, others) = (store.clone(), blocks.clone());
    let pin = Pin::recursive(*root.cid(), "late");
    let late = pin.clone();
    *store.store().listed.lock().unwrap() = Some(Box::new(move || {
        beside.pin(&late).unwrap();
        beside.put(&others[1]).unwrap();
        assert!(beside.has(others[2].cid()).unwrap());
        // What a hold held when the sweep began may have been pinned since then.
        drop(early);
        assert!(matches!(beside.sweep(&STILL, &mut |_| Continue(())), Err(PinError::Sweeping)));
    }));
    assert_eq!(sweep(&store).removed, 1);
    let all = [&root, &blocks[0], &blocks[1], &blocks[2], &blocks[3], &leaf(8)];
    assert_eq!(held(&*store, &all), [true, true, true, true, false, true]);
    // The next one knows only pins.
    assert_eq!(sweep(&store).removed, 3);
    assert!(store.unpin(&pin).unwrap());
    assert_eq!(sweep(&store).removed, 2);
}

#[test]
fn who_writes_what_is_being_removed_waits_and_writes_it_anew() {
    let store = Arc::new(pinned(Hooked::default()));
    let blocks: Vec<Block> = (0..3).map(leaf).collect();
    store.put_many(&blocks[..2]).unwrap();
    let (beside, others) = (store.clone(), blocks.clone());
    let (sender, receiver) = std::sync::mpsc::channel();
    *store.store().removed.lock().unwrap() = Some(Box::new(move || {
        let writing = beside.clone();
        let writer = std::thread::spawn(move || {
            let hold = writing.hold();
            // What nobody removes is written at once.
            hold.put(&others[2]).unwrap();
            sender.send(()).unwrap();
            if !hold.has(others[0].cid()).unwrap() {
                hold.put(&others[0]).unwrap();
            }
            // Nobody listens any more, if all is well.
            let _ = sender.send(());
            writing.pin(&Pin::direct(*others[0].cid(), "")).unwrap();
        });
        receiver.recv().unwrap();
        let waited = receiver.recv_timeout(Duration::from_millis(50));
        assert!(waited.is_err(), "the block is being removed");
        *beside.store().listed.lock().unwrap() = Some(Box::new(move || {
            writer.join().unwrap();
        }));
    }));
    assert_eq!(sweep(&store).removed, 2);
    // Waits for the writer.
    let _ = store.cids(None, 1).unwrap();
    assert_eq!(held(&*store, &[&blocks[0], &blocks[1], &blocks[2]]), [true, false, true]);
}

#[track_caller]
fn refused(store: &PinnedStore<MemoryStore>, root: &Block) -> (Cid, BlockFault, Vec<String>) {
    match store.pin(&Pin::recursive(*root.cid(), "x")) {
        Err(PinError::Damage(damage)) => {
            let path = damage.owner.as_ref().unwrap().path.iter().map(|step| step.name.clone()).collect();
            assert!(store.pins(None, 10).is_empty());
            (damage.cid, damage.fault, path)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pin_that_could_not_be_kept_is_refused() {
    let store = pinned(MemoryStore::default());
    let missing = leaf(1);
    let middle = node(1, &[*missing.cid()]);
    let root = node(2, &[*leaf(2).cid(), *middle.cid()]);
    store.put_many(&[leaf(2), root.clone()]).unwrap();
    let (cid, fault, path) = refused(&store, &root);
    assert!(matches!(fault, BlockFault::Missing));
    assert_eq!((cid, path), (*middle.cid(), vec!["links/1".to_owned()]));
    store.put(&middle).unwrap();
    let (cid, fault, path) = refused(&store, &root);
    assert!(matches!(fault, BlockFault::Missing));
    assert_eq!((cid, path), (*missing.cid(), vec!["links/1".to_owned(), "links/0".to_owned()]));

    let malformed = Block::new(DAG_PB, &b"no protobuf"[..]);
    let unknown = Block::new(0x78, &b"git"[..]);
    // CBOR and JSON that are not IPLD's have no links.
    let leaves = [Block::new(0x51, &b"x"[..]), Block::new(0x0200, &b"{}"[..])];
    store.put_many(&[malformed.clone(), unknown.clone()]).unwrap();
    store.put_many(&leaves).unwrap();
    assert!(matches!(refused(&store, &malformed).1, BlockFault::Malformed(_)));
    assert!(matches!(refused(&store, &unknown).1, BlockFault::UnknownCodec { code: 0x78 }));
    assert!(matches!(refused(&store, &leaf(7)).1, BlockFault::Missing));
    for block in [&malformed, &unknown] {
        store.pin(&Pin::direct(*block.cid(), "")).unwrap();
    }
    store.pin_many(&leaves.clone().map(|block| Pin::recursive(*block.cid(), "leaf"))).unwrap();

    let long = |len| Pin::direct(*malformed.cid(), "x".repeat(len));
    assert!(matches!(store.pin(&long(MAX_PIN_NAME_LEN + 1)), Err(PinError::LongName { len: 256 })));
    store.pin(&long(MAX_PIN_NAME_LEN)).unwrap();
    assert_eq!(sweep(&store).removed, 3);
}

#[test]
fn a_sweep_that_cannot_know_all_removes_nothing() {
    let store = pinned(MemoryStore::default());
    let middle = node(1, &[*leaf(1).cid()]);
    let root = node(2, &[*middle.cid()]);
    store.put_many(&[leaf(1), leaf(2), middle.clone(), root.clone()]).unwrap();
    store.pin(&Pin::recursive(*root.cid(), "mine")).unwrap();
    store.remove_many(&[*middle.cid()]).unwrap();
    let error = store.sweep(&STILL, &mut |_| Continue(())).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "block {} is not here; it is in the recursive pin \"mine\" of {}/links/0",
            middle.cid(),
            root.cid()
        )
    );
    assert_eq!(all_cids(&store), 3);
    // A leaf that is missing hides nothing.
    store.put(&middle).unwrap();
    store.remove_many(&[*leaf(1).cid()]).unwrap();
    assert_eq!(sweep(&store).removed, 1);
}

#[test]
fn a_sweep_is_bounded_stopped_and_goes_on_after_that() {
    let blocks: Vec<Block> = (0..5000).map(leaf).collect();
    let cids: Vec<Cid> = blocks.iter().map(|block| *block.cid()).collect();
    let (root, other) = (node(1, &cids), node(2, &cids));
    let store = pinned(MemoryStore::default()).with_blocks_max(5001);
    store.put_many(&blocks).unwrap();
    store.put(&root).unwrap();
    assert!(matches!(
        store.pin(&Pin::recursive(*root.cid(), "")),
        Err(PinError::TooMany { blocks_max: 5001 })
    ));
    let store = store.with_blocks_max(5002);
    store.pin(&Pin::recursive(*root.cid(), "")).unwrap();
    let done = store.sweep(&STILL, &mut |_| Break(())).unwrap();
    assert_eq!((done.stopped, done.marked, done.checked), (true, 4096, 0));
    assert!(store.unpin(&Pin::recursive(*root.cid(), "")).unwrap());
    store.put(&other).unwrap();
    let mut reports = 0;
    let done = store.sweep(&STILL, &mut |done| {
        reports += 1;
        if done.removed >= 2000 { Break(()) } else { Continue(()) }
    });
    let done = done.unwrap();
    assert!(done.stopped && (2000..3100).contains(&done.removed) && reports < 4, "{done:?}");
    assert_eq!(all_cids(&store) as u64, 5002 - done.removed);
    assert_eq!(sweep(&store).removed, 5002 - done.removed);
}

#[test]
fn a_sweep_makes_room_in_a_quota_below() {
    let store = pinned(Quota::new(MemoryStore::default(), 24).unwrap());
    let hold = store.hold();
    hold.put_many(&[leaf(1), leaf(2), leaf(3)]).unwrap();
    store.pin(&Pin::recursive(*leaf(1).cid(), "")).unwrap();
    assert!(hold.put(&leaf(4)).is_err());
    drop(hold);
    sweep(&store);
    assert_eq!(store.store().used_bytes(), 8);
    store.put_many(&[leaf(4), leaf(5)]).unwrap();
}
