//! Random histories against a model that knows all links.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use lightstreams_store::{
    Block, BlockFault, BlockStore, Cid, MemoryStore, Pin, PinError, PinKind, PinnedStore,
    testing::{FaultyDisk, Seeded},
};

use super::{leaf, node, sweep};

/// Blocks, each with the indices of those that it links to, which come before it.
pub(super) struct Universe {
    pub(super) blocks: Vec<(Block, Vec<usize>)>,
}

impl Universe {
    pub(super) fn new(seeded: &mut Seeded, leaves: u64, nodes: u64) -> Self {
        let mut blocks: Vec<(Block, Vec<usize>)> = (0..leaves).map(|i| (leaf(i), Vec::new())).collect();
        for salt in 0..nodes {
            let links: Vec<usize> =
                (0..seeded.below(5)).map(|_| seeded.below(blocks.len() as u64) as usize).collect();
            let cids: Vec<Cid> = links.iter().map(|i| *blocks[*i].0.cid()).collect();
            blocks.push((node(salt, &cids), links));
        }
        Self { blocks }
    }

    /// All that `pin` holds.
    pub(super) fn below(&self, i: usize, kind: PinKind) -> BTreeSet<usize> {
        let (mut found, mut next) = (BTreeSet::new(), vec![i]);
        while let Some(i) = next.pop() {
            if found.insert(i) && kind == PinKind::Recursive {
                next.extend(&self.blocks[i].1);
            }
        }
        found
    }

    pub(super) fn cid(&self, i: usize) -> Cid {
        *self.blocks[i].0.cid()
    }
}

#[test]
fn random_histories_end_as_the_model_says() {
    let (mut refused, mut removed, mut kept) = (0, 0, 0);
    for seed in 0..150 {
        let mut seeded = Seeded::new(seed);
        let universe = Universe::new(&mut seeded, 12, 25);
        let count = universe.blocks.len() as u64;
        let disk = Arc::new(FaultyDisk::new(seed));
        let blocks = Arc::new(MemoryStore::default());
        let mut store = PinnedStore::open(blocks.clone(), disk.clone()).unwrap();
        let mut held: BTreeSet<usize> = BTreeSet::new();
        let mut pins: BTreeMap<(usize, PinKind, String), Pin> = BTreeMap::new();
        for step in 0..60 {
            let what = format!("seed {seed}, step {step}");
            let i = seeded.below(count) as usize;
            let kind = [PinKind::Direct, PinKind::Recursive, PinKind::Recursive][seeded.below(3) as usize];
            let name = ["", "a", "b"][seeded.below(3) as usize].to_owned();
            let pin = Pin { cid: universe.cid(i), kind, name: name.clone() };
            match seeded.below(10) {
                0..3 => {
                    // All below it, or all but some.
                    let all = seeded.below(4) > 0;
                    for j in universe.below(i, PinKind::Recursive) {
                        if all || seeded.below(3) > 0 {
                            store.put(&universe.blocks[j].0).unwrap();
                            held.insert(j);
                        }
                    }
                }
                3..6 => {
                    let below = universe.below(i, kind);
                    match store.pin(&pin) {
                        Ok(()) => {
                            assert!(below.is_subset(&held), "{what}: pinned though not whole");
                            pins.insert((i, kind, name), pin);
                        }
                        Err(PinError::Damage(damage)) => {
                            assert!(matches!(damage.fault, BlockFault::Missing), "{what}");
                            let j = (0..count as usize).find(|j| universe.cid(*j) == damage.cid).unwrap();
                            assert!(below.contains(&j) && !held.contains(&j), "{what}: {damage}");
                            refused += 1;
                        }
                        Err(e) => panic!("{what}: {e}"),
                    }
                }
                6..8 => {
                    let found = pins.values().nth(seeded.below(pins.len() as u64 + 1) as usize);
                    let some = found.cloned().unwrap_or(pin);
                    let was = pins.values().any(|set| *set == some);
                    assert_eq!(store.unpin(&some).unwrap(), was, "{what}");
                    pins.retain(|_, left| *left != some);
                }
                8 => {
                    let expected: BTreeSet<usize> =
                        pins.iter().flat_map(|((i, kind, _), _)| universe.below(*i, *kind)).collect();
                    let before = held.len();
                    held = held.intersection(&expected).copied().collect();
                    assert_eq!(held, expected, "{what}: the model keeps what is pinned");
                    let done = sweep(&store);
                    assert_eq!(done.removed as usize, before - held.len(), "{what}");
                    removed += done.removed;
                    kept += held.len();
                }
                _ => {
                    drop(store);
                    store = PinnedStore::open(blocks.clone(), disk.clone()).unwrap();
                }
            }
            let listed: BTreeSet<Vec<u8>> =
                store.cids(None, 1000).unwrap().iter().map(|cid| cid.hash().to_bytes()).collect();
            let expected = held.iter().map(|i| universe.cid(*i).hash().to_bytes()).collect();
            assert_eq!(listed, expected, "{what}");
            assert_eq!(store.pins(None, 1000).len(), pins.len(), "{what}");
        }
        // Each block has the owners that the model gives it.
        for i in 0..count as usize {
            let owners = store.owners(&universe.cid(i), 1000).unwrap();
            let expected = pins.keys().filter(|(root, kind, _)| universe.below(*root, *kind).contains(&i));
            assert_eq!(owners.len(), expected.count(), "seed {seed}, block {i}");
            for owner in owners {
                let end = owner.path.last().map_or(owner.pin.cid, |step| step.cid);
                assert_eq!(end, universe.cid(i));
            }
        }
    }
    println!("{removed} blocks removed, {kept} kept, {refused} pins refused");
    assert!(refused > 100 && removed > 500 && kept > 500);
}
