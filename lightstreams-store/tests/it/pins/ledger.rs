use std::{collections::BTreeSet, ops::ControlFlow::Continue, sync::Arc};

use lightstreams_store::{
    BlockStore, Disk, FileDisk, Log, LogError, MemoryStore, Pin, PinError, PinKind, PinnedStore,
    testing::FaultyDisk,
};

use super::{STILL, all_cids, leaf, sweep};

fn open(disk: &(impl Disk + Clone + 'static)) -> Result<PinnedStore<MemoryStore>, PinError> {
    let store = MemoryStore::default();
    store.put_many(&(0..10).map(leaf).collect::<Vec<_>>()).unwrap();
    PinnedStore::open(store, Arc::new(disk.clone()))
}

fn pin(i: u64, name: impl Into<String>) -> Pin {
    Pin::direct(*leaf(i).cid(), name)
}

fn all(store: &PinnedStore<MemoryStore>) -> Vec<Pin> {
    store.pins(None, usize::MAX)
}

#[test]
fn pins_are_listed_in_pages_and_by_block_and_survive_a_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let disk = FileDisk::open(folder.path().join("pins")).unwrap();
    let store = open(&disk).unwrap();
    let mut pins = Vec::new();
    for i in 0..10 {
        for name in ["", "a", "ab", "\u{fc}", "b"] {
            pins.push(Pin::direct(*leaf(i).cid(), name));
            pins.push(Pin::recursive(*leaf(i).cid(), name));
        }
    }
    store.pin_many(&pins).unwrap();
    store.pin_many(&pins[3..7]).unwrap();
    let listed = all(&store);
    let set = |pins: &[Pin]| pins.iter().cloned().collect::<std::collections::HashSet<_>>();
    assert_eq!((listed.len(), set(&listed)), (100, set(&pins)), "each once");
    for page in [1, 7, 100, 1000] {
        let (mut paged, mut after) = (Vec::new(), None);
        loop {
            let some = store.pins(after.as_ref(), page);
            assert!(some.len() <= page);
            let Some(last) = some.last() else { break };
            after = Some(last.clone());
            paged.extend(some);
        }
        assert_eq!(paged, listed, "pages of {page}");
    }
    let of = store.pins_of(leaf(3).cid());
    assert_eq!(set(&of), set(&pins[30..40]));
    assert!(of.iter().take(5).all(|pin| pin.kind == PinKind::Direct));
    assert_eq!(store.unpin_many(&[pins[3].clone(), pins[3].clone(), pin(3, "none")]).unwrap(), 1);
    assert!(
        !listed.is_empty() && !store.pins(Some(&pins[3]), 1).is_empty(),
        "a pin that is gone still marks its place"
    );
    let left = all(&store);
    drop(store);
    assert_eq!(all(&open(&disk).unwrap()), left);
}

#[test]
fn history_is_written_away_and_the_file_stays_small() {
    let disk = FaultyDisk::new(1);
    let store = open(&disk).unwrap();
    store.pin(&pin(1, "stays")).unwrap();
    for i in 0..3000 {
        let pin = pin(2, format!("{i}"));
        store.pin(&pin).unwrap();
        assert!(store.unpin(&pin).unwrap());
    }
    let bytes = disk.open("pins").unwrap().len().unwrap();
    assert!(bytes < 2048 * 100, "{bytes} bytes");
    assert_eq!(disk.list().unwrap(), ["pins"]);
    store.pin(&pin(3, "after")).unwrap();
    drop(store);
    let names: BTreeSet<String> = all(&open(&disk).unwrap()).into_iter().map(|pin| pin.name).collect();
    assert_eq!(names, ["after", "stays"].map(str::to_owned).into());
}

#[test]
fn no_power_cut_loses_a_pin_or_brings_one_back() {
    let many = |name: &str, n: u64| (0..n).map(|i| pin(1, format!("{name} {i}"))).collect::<Vec<_>>();
    // The history becomes long enough to be written away in the middle.
    let run = |disk: &FaultyDisk,
               sure: &mut BTreeSet<String>,
               doubt: &mut BTreeSet<String>|
     -> Result<(), PinError> {
        let store = open(disk)?;
        let steps =
            [(many("a", 700), true), (many("a", 690), false), (many("b", 3), true), (many("b", 1), false)];
        for (pins, set) in steps {
            let names: Vec<String> = pins.iter().map(|pin| pin.name.clone()).collect();
            for name in &names {
                sure.remove(name);
                doubt.insert(name.clone());
            }
            let result = if set { store.pin_many(&pins) } else { store.unpin_many(&pins).map(drop) };
            if result.is_err() {
                // Nobody knows what is on the disk now.
                assert!(matches!(
                    store.sweep(&STILL, &mut |_| Continue(())),
                    Err(PinError::Log(LogError::Stopped))
                ));
                assert!(matches!(store.pin(&pin(1, "x")), Err(PinError::Log(LogError::Stopped))));
                assert_eq!(all_cids(&store), 10);
            }
            result?;
            doubt.clear();
            if set {
                sure.extend(names);
            }
        }
        Ok(())
    };
    let disk = FaultyDisk::new(0);
    run(&disk, &mut BTreeSet::new(), &mut BTreeSet::new()).unwrap();
    assert!(disk.operations() > 15, "the log was written anew");
    let mut cuts = 0;
    for n in 1..=disk.operations() {
        for seed in 0..6 {
            let disk = FaultyDisk::new(seed * 1000 + n);
            let (mut sure, mut doubt) = Default::default();
            disk.cut_power_at(n);
            run(&disk, &mut sure, &mut doubt).unwrap_err();
            let mut disk = disk.after_power_cut();
            for again in 1..4 {
                disk.cut_power_at(again);
                let _ = open(&disk);
                if !disk.is_off() {
                    break;
                }
                disk = disk.after_power_cut();
            }
            let disk = disk.after_power_cut();
            let found: BTreeSet<String> =
                all(&open(&disk).unwrap()).into_iter().map(|pin| pin.name).collect();
            assert!(found.is_superset(&sure), "operation {n}, seed {seed}: acknowledged pins are there");
            let more: BTreeSet<String> = found.difference(&sure).cloned().collect();
            assert!(more.is_subset(&doubt), "operation {n}, seed {seed}: acknowledged removals too");
            let store = open(&disk).unwrap();
            store.pin(&pin(2, "goes on")).unwrap();
            drop(store);
            let store = open(&disk.after_power_cut()).unwrap();
            assert_eq!(all(&store).len(), found.len() + 1);
            cuts += 1;
        }
    }
    println!("{cuts} power cuts");
}

#[test]
fn a_full_disk_stops_pins_and_sweeps_until_the_pins_are_opened_again() {
    let disk = FaultyDisk::new(1);
    let store = open(&disk).unwrap();
    store.pin(&pin(1, "first")).unwrap();
    disk.set_capacity(disk.open("pins").unwrap().len().unwrap() as usize + 10);
    assert!(matches!(store.pin(&pin(2, "second")), Err(PinError::Log(LogError::Disk(_)))));
    assert!(matches!(store.pin(&pin(1, "first")), Err(PinError::Log(LogError::Stopped))));
    assert!(matches!(store.sweep(&STILL, &mut |_| Continue(())), Err(PinError::Log(LogError::Stopped))));
    assert_eq!(all(&store), [pin(1, "first")]);
    drop(store);
    let store = open(&disk).unwrap();
    assert_eq!(all(&store), [pin(1, "first")]);
    assert_eq!(sweep(&store).removed, 9);
}

#[test]
fn a_file_that_is_not_understood_is_left_alone() {
    let row = [leaf(1).cid().to_bytes(), vec![0], b"name".to_vec()].concat();
    let op = |op: u8, row: &[u8]| [&[op], row].concat();
    let bad_kind = [leaf(1).cid().to_bytes(), vec![2]].concat();
    let bad_name = [leaf(1).cid().to_bytes(), vec![1, 0xff]].concat();
    let records = [vec![], vec![1], op(3, &row), op(1, &bad_kind), op(1, &bad_name), op(2, &[0xff; 40])];
    for record in records {
        let disk = FaultyDisk::new(1);
        Log::open(&disk, "pins", &mut |_| ()).unwrap().append(&record).unwrap();
        assert!(matches!(open(&disk), Err(PinError::UnknownRecord)), "{record:?}");
    }
    let disk = FaultyDisk::new(1);
    disk.open("pins").unwrap().append(b"something else").unwrap();
    assert!(matches!(open(&disk), Err(PinError::Log(LogError::Foreign))));
}
