//! However many threads import, blocks, order, errors and callbacks are those of one.

use std::{
    cell::{Cell, RefCell},
    io::{self, Read},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use lightstreams_store::{
    Block, BlockStore, BuildError, Cid, EnvelopeChunker, FileBuilder, FileLayout, FileRoot, FixedChunker,
    ImportOptions, Input, MemoryStore, Metadata, Mtime, StoreError, StoreOp, testing::Seeded,
};

const THREADS: [usize; 4] = [2, 3, 8, 0];

/// Fails after so many bytes.
struct Breaks<R>(R, u64);

impl<R: Read> Read for Breaks<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.1 == 0 {
            return Err(io::Error::other("gone"));
        }
        let room = buf.len().min(usize::try_from(self.1).unwrap_or(usize::MAX));
        let n = self.0.read(&mut buf[..room])?;
        self.1 -= n as u64;
        Ok(n)
    }
}

/// A tree of files from empty to long and of folders within one another; the file `broken` fails in its middle.
fn tree(seed: u64, broken: Option<usize>) -> Input<'static> {
    let mut seeded = Seeded::new(seed);
    let mut files = Vec::new();
    for i in 0..60 {
        let len = [0, 1, 100, 5000, 70_000, 300_000][seeded.below(6) as usize];
        // Some are like others.
        let bytes = Seeded::new(seed + seeded.below(40)).bytes(len);
        let breaks = if broken == Some(i) { len as u64 / 2 } else { u64::MAX };
        files.push((format!("file {i}"), Input::reader(Breaks(io::Cursor::new(bytes), breaks))));
    }
    let below = files.split_off(40);
    let lowest = ("empty".to_owned(), Input::directory([]));
    files.insert(20, ("folder".to_owned(), Input::directory(below.into_iter().chain([lowest]))));
    files.push(("link".to_owned(), Input::symlink("file 1")));
    Input::directory(files)
}

type Built = (Vec<(Cid, usize)>, Result<FileRoot, String>);

fn built(options: &ImportOptions, input: Input<'_>, threads: usize) -> Built {
    let (mut blocks, caller) = (Vec::new(), thread::current().id());
    let options = options.clone().with_threads(threads);
    let root = options.build(input, &mut |block| {
        assert_eq!(thread::current().id(), caller);
        blocks.push((*block.cid(), block.len()));
        Ok(())
    });
    (blocks, root.map_err(|error| format!("{error:?}")))
}

fn all_options() -> Vec<ImportOptions> {
    let (v1, mut trickle, mut kept) =
        (ImportOptions::unixfs_v1_2025(), ImportOptions::unixfs_v0_2015(), ImportOptions::unixfs_v0_2015());
    let mut narrow = v1.clone();
    narrow.chunker = "size-1000".parse().unwrap();
    narrow.max_links = 3;
    trickle.chunker = "rabin-1000-3000-9000".parse().unwrap();
    trickle.layout = FileLayout::Trickle;
    trickle.max_links = 4;
    kept.metadata = Metadata::new(Some(0o640), Mtime::new(1_600_000_000, 7));
    kept.chunker = "buzhash".parse().unwrap();
    let mut inlined = v1.clone();
    inlined.inline_limit = Some(32);
    inlined.empty_directories = false;
    vec![v1, ImportOptions::unixfs_v0_2015(), narrow, trickle, kept, inlined]
}

#[test]
fn blocks_and_their_order_are_those_of_one_thread() {
    for (i, options) in all_options().iter().enumerate() {
        let expected = built(options, tree(7, None), 1);
        assert!(expected.1.is_ok() && expected.0.len() > 60, "{i}: {:?}", expected.1);
        for threads in THREADS {
            assert!(built(options, tree(7, None), threads) == expected, "options {i}, {threads} threads");
        }
    }
}

#[test]
fn an_input_that_breaks_gives_the_blocks_before_and_one_error() {
    for (i, options) in all_options().iter().enumerate() {
        for broken in [0, 15, 33, 59] {
            let expected = built(options, tree(9, Some(broken)), 1);
            assert!(expected.1.as_ref().is_err_and(|error| error.contains("gone")), "{:?}", expected.1);
            for threads in THREADS {
                let found = built(options, tree(9, Some(broken)), threads);
                assert!(found == expected, "options {i}, file {broken}, {threads} threads");
            }
        }
    }
}

#[test]
fn whoever_refuses_a_block_gets_no_more() {
    for threads in [1, 2, 8] {
        let options = ImportOptions::unixfs_v1_2025().with_threads(threads);
        let mut left = 25;
        let result = options.build(tree(3, None), &mut |block| {
            assert!(left > 0, "called after a failure");
            left -= 1;
            if left > 0 { Ok(()) } else { Err(StoreError::new(StoreOp::Put, "full").on(block.cid())) }
        });
        assert!(matches!(result, Err(BuildError::Store(_))), "{result:?}");
    }
}

/// A file whose bytes are counted as they are read.
struct Counted<'a> {
    seeded: Seeded,
    left: u64,
    read: &'a Cell<u64>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = buf.len().min(usize::try_from(self.left).unwrap_or(usize::MAX)).min(1 << 16);
        buf[..n].copy_from_slice(&self.seeded.bytes(n));
        self.left -= n as u64;
        self.read.set(self.read.get() + n as u64);
        Ok(n)
    }
}

#[test]
fn what_is_read_ahead_is_bounded() {
    for threads in [1, 2, 8] {
        let (read, mut taken, mut most) = (Cell::new(0), 0, 0);
        let options = ImportOptions::unixfs_v1_2025().with_threads(threads);
        let mut file = Counted { seeded: Seeded::new(5), left: 40 << 20, read: &read };
        let builder = FileBuilder::with_options(FixedChunker::V1_2025, &options).unwrap();
        builder
            .build(&mut file, &mut |block| {
                most = most.max(read.get() - taken);
                taken += if block.cid().codec() == lightstreams_store::RAW { block.len() as u64 } else { 0 };
                Ok(())
            })
            .unwrap();
        let ahead = if threads == 1 { 2 << 20 } else { 9 << 20 };
        assert!(most <= ahead, "{threads} threads: {most} bytes");
        assert!(threads == 1 || most > 2 << 20, "{threads} threads: {most} bytes");
    }
}

/// Stores until so many batches were put, then fails or panics.
struct Failing {
    store: MemoryStore,
    batches_left: AtomicU64,
    panics: bool,
}

impl BlockStore for Failing {
    fn get(&self, cid: &Cid) -> Result<Option<Block>, StoreError> {
        self.store.get(cid)
    }
    fn size(&self, cid: &Cid) -> Result<Option<u64>, StoreError> {
        self.store.size(cid)
    }
    fn put_many(&self, blocks: &[Block]) -> Result<(), StoreError> {
        let left = self.batches_left.load(Ordering::Relaxed);
        if left > 0 {
            self.batches_left.store(left - 1, Ordering::Relaxed);
            return self.store.put_many(blocks);
        }
        assert!(!self.panics, "the store panics");
        Err(StoreError::new(StoreOp::Put, "full"))
    }
    fn remove_many(&self, cids: &[Cid]) -> Result<(), StoreError> {
        self.store.remove_many(cids)
    }
    fn cids(&self, after: Option<&Cid>, limit: usize) -> Result<Vec<Cid>, StoreError> {
        self.store.cids(after, limit)
    }
}

#[test]
fn a_store_that_fails_or_panics_does_so_once_and_nothing_is_told_that_is_not_stored() {
    for threads in [1, 2, 8] {
        for panics in [false, true] {
            let store = Failing { store: MemoryStore::new(), batches_left: AtomicU64::new(2), panics };
            let (told, read, caller) = (RefCell::new(Vec::new()), Cell::new(0), thread::current().id());
            let options = ImportOptions::unixfs_v1_2025().with_threads(threads);
            let file = Counted { seeded: Seeded::new(6), left: 50 << 20, read: &read };
            let result = catch_unwind(AssertUnwindSafe(|| {
                options.import(Input::reader(file), &store, &mut |bytes| {
                    assert_eq!(thread::current().id(), caller);
                    let held = store.store.cids(None, 1000).unwrap();
                    let held: u64 = held.iter().map(|cid| store.size(cid).unwrap().unwrap()).sum();
                    assert!(bytes <= held);
                    told.borrow_mut().push(bytes);
                })
            }));
            match result {
                Ok(result) => assert!(!panics && matches!(result, Err(BuildError::Store(_))), "{result:?}"),
                Err(panic) => assert!(panics && panic.downcast_ref::<&str>() == Some(&"the store panics")),
            }
            assert_eq!(*told.borrow(), [8 << 20, 16 << 20], "{threads} threads");
        }
    }
}

#[test]
fn a_sealed_payload_is_the_same_file_and_an_empty_root_stays() {
    let bytes = Seeded::new(8).bytes(5_000_000);
    let root = |threads| {
        let options = ImportOptions::unixfs_v1_2025().with_threads(threads);
        let builder = FileBuilder::with_options(EnvelopeChunker::default(), &options).unwrap();
        builder.import(&mut &bytes[..], &MemoryStore::new(), &mut |_| ()).unwrap()
    };
    assert!(THREADS.iter().all(|threads| root(*threads) == root(1)));

    let mut options = ImportOptions::unixfs_v1_2025();
    let empty = options.build(Input::directory([]), &mut |_| Ok(())).unwrap();
    options.empty_directories = false;
    let below = ("below".to_owned(), Input::directory([]));
    assert_eq!(options.build(Input::directory([below]), &mut |_| Ok(())).unwrap(), empty);
}
