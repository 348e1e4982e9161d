//! The power goes at every operation of the disk on which both blocks and pins are.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow::Continue,
    path::Path,
    sync::Arc,
};

use lightstreams_store::{
    Block, BlockStore, Cid, FileDisk, Pin, PinError, PinKind, PinnedStore, SegmentOptions, SegmentStore,
    StoreError, StoreOp,
    testing::{FaultyDisk, Seeded, check_killed_block_store},
};

use super::{STILL, model::Universe, sweep};

type Store = PinnedStore<SegmentStore>;

fn open(disk: &FaultyDisk) -> Result<Store, PinError> {
    let disk = Arc::new(disk.clone());
    let options = SegmentOptions::default().with_segment_bytes(4 << 10);
    PinnedStore::open(SegmentStore::open_on(disk.clone(), options)?, disk)
}

/// What must be pinned (`Some(true)`), must not (`Some(false)`), or may be.
type Pins = BTreeMap<String, (usize, Pin, Option<bool>)>;

/// Adds trees, pins them, removes pins and sweeps, until the power goes.
fn run(store: &Store, universe: &Universe, seeded: &mut Seeded, pins: &mut Pins) -> Result<(), PinError> {
    for step in 0..14 {
        match seeded.below(7) {
            0..4 => {
                let i = seeded.below(universe.blocks.len() as u64) as usize;
                let kind = if seeded.below(4) == 0 { PinKind::Direct } else { PinKind::Recursive };
                let pin = Pin { cid: universe.cid(i), kind, name: step.to_string() };
                pins.insert(pin.name.clone(), (i, pin.clone(), None));
                let hold = store.hold();
                let below: Vec<_> =
                    universe.below(i, kind).into_iter().map(|j| universe.blocks[j].0.clone()).collect();
                hold.put_many(&below)?;
                store.pin(&pin)?;
                pins.insert(pin.name.clone(), (i, pin, Some(true)));
            }
            4 => {
                let count = pins.len() as u64;
                if let Some((_, pin, state)) = pins.values_mut().nth(seeded.below(count.max(1)) as usize) {
                    let was = *state == Some(true);
                    *state = None;
                    assert_eq!(store.unpin(pin)?, was);
                    *state = Some(false);
                }
            }
            _ => {
                store.sweep(&STILL, &mut |_| Continue(()))?;
            }
        }
    }
    Ok(())
}

#[test]
fn no_power_cut_takes_a_block_of_a_pin() {
    let mut cuts = 0;
    for seed in 0..8 {
        let universe = Universe::new(&mut Seeded::new(seed), 10, 14);
        let disk = FaultyDisk::new(seed);
        let mut pins = Pins::new();
        run(&open(&disk).unwrap(), &universe, &mut Seeded::new(seed), &mut pins).unwrap();
        for n in 1..=disk.operations() {
            let what = format!("seed {seed}, operation {n}");
            let disk = FaultyDisk::new(seed * 100_000 + n);
            disk.cut_power_at(n);
            let mut pins = Pins::new();
            if let Ok(store) = open(&disk) {
                let _ = run(&store, &universe, &mut Seeded::new(seed), &mut pins);
            }
            assert!(disk.is_off(), "{what}");
            cuts += 1;
            let mut disk = disk.after_power_cut();
            // It may go again while the store is opened, or swept.
            let again = 1 + (n % 12);
            disk.cut_power_at(again);
            if let Ok(store) = open(&disk) {
                let _ = store.sweep(&STILL, &mut |_| Continue(()));
            }
            disk = disk.after_power_cut();
            let store = open(&disk).unwrap_or_else(|e| panic!("{what}: {e:?}"));
            let found = store.verify(&mut |_| Continue(())).unwrap();
            assert_eq!(found.damaged, 0, "{what}: {found:?}");
            for (i, pin, state) in pins.values() {
                let set = store.pins_of(&pin.cid).contains(pin);
                assert!(state.is_none_or(|state| state == set), "{what}: {pin}, {state:?} but {set}");
                for j in universe.below(*i, pin.kind).into_iter().filter(|_| set) {
                    let block = &universe.blocks[j].0;
                    assert_eq!(store.get(block.cid()).unwrap().as_ref(), Some(block), "{what}: {pin}");
                }
            }
            // Nothing else stays, and all goes on.
            let pinned = store.pins(None, 1000);
            let expected: BTreeSet<usize> = pins
                .values()
                .filter(|(_, pin, _)| pinned.contains(pin))
                .flat_map(|(i, pin, _)| universe.below(*i, pin.kind))
                .collect();
            sweep(&store);
            assert_eq!(store.cids(None, 1000).unwrap().len(), expected.len(), "{what}");
            let more = Pin::direct(universe.cid(0), "more");
            store.hold().put(&universe.blocks[0].0).unwrap();
            store.pin(&more).unwrap();
            drop(store);
            let store = open(&disk.after_power_cut()).unwrap();
            assert_eq!(store.pins(None, 1000).len(), pinned.len() + 1, "{what}");
            assert_eq!(store.verify(&mut |_| Continue(())).unwrap().damaged, 0, "{what}");
        }
    }
    println!("{cuts} power cuts");
    assert!(cuts > 200);
}

/// A store that pins what is put, and sweeps what is removed.
struct Keeping(Store);

impl Keeping {
    fn pins(cids: impl Iterator<Item = Cid>) -> Vec<Pin> {
        cids.map(|cid| Pin::direct(cid, "kept")).collect()
    }
}

impl BlockStore for Keeping {
    fn get(&self, cid: &Cid) -> Result<Option<Block>, StoreError> {
        self.0.get(cid)
    }
    fn size(&self, cid: &Cid) -> Result<Option<u64>, StoreError> {
        self.0.size(cid)
    }
    fn put_many(&self, blocks: &[Block]) -> Result<(), StoreError> {
        let hold = self.0.hold();
        hold.put_many(blocks)?;
        let pins = Self::pins(blocks.iter().map(|block| *block.cid()));
        self.0.pin_many(&pins).map_err(|e| StoreError::new(StoreOp::Put, e))
    }
    fn remove_many(&self, cids: &[Cid]) -> Result<(), StoreError> {
        let removed = self.0.unpin_many(&Self::pins(cids.iter().copied()));
        removed.map_err(|e| StoreError::new(StoreOp::Remove, e))?;
        sweep(&self.0);
        Ok(())
    }
    fn cids(&self, after: Option<&Cid>, limit: usize) -> Result<Vec<Cid>, StoreError> {
        self.0.cids(after, limit)
    }
}

#[test]
fn a_kill_takes_no_pinned_block() {
    let folder = tempfile::tempdir().unwrap();
    let open = |path: &Path| {
        let options = SegmentOptions::default().with_segment_bytes(64 << 10);
        let segments = SegmentStore::open_with(path.join("blocks"), options).unwrap();
        let disk = FileDisk::open(path.join("pins")).unwrap();
        Keeping(PinnedStore::open(segments, Arc::new(disk)).unwrap())
    };
    check_killed_block_store("pins::crash::a_kill_takes_no_pinned_block", folder.path(), open, |store| {
        sweep(&store.0);
    });
}
