//! What a log acknowledged survives every power cut, and damage is never silent.

use lightstreams_store::{
    Disk, DiskFile, FileDisk, Log, LogError, MAX_RECORD_LEN,
    testing::{FaultyDisk, Seeded},
};

const NAME: &str = "receipts";

fn replay(disk: &dyn Disk) -> Result<Vec<Vec<u8>>, LogError> {
    let mut records = Vec::new();
    Log::open(disk, NAME, &mut |record| records.push(record.to_vec()))?;
    Ok(records)
}

fn file(disk: &dyn Disk) -> Vec<u8> {
    let file = disk.open(NAME).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(0, &mut bytes).unwrap();
    bytes
}

fn overwrite(disk: &dyn Disk, bytes: &[u8]) {
    let mut file = disk.open(NAME).unwrap();
    file.truncate(0).unwrap();
    file.append(bytes).unwrap();
    file.sync().unwrap();
}

/// Appends batches of records of every size until the power goes; returns what was acknowledged and what was tried
/// last.
fn write_until_cut(disk: &FaultyDisk, seeded: &mut Seeded) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let mut acknowledged = Vec::new();
    let Ok(mut log) = Log::open(disk, NAME, &mut |record| acknowledged.push(record.to_vec())) else {
        return (acknowledged, Vec::new());
    };
    for _ in 0..6 {
        let batch: Vec<Vec<u8>> = (0..=seeded.below(3))
            .map(|_| {
                let len = [0, 1, 100, 511, 512, 5000][seeded.below(6) as usize];
                seeded.bytes(len)
            })
            .collect();
        let slices: Vec<&[u8]> = batch.iter().map(Vec::as_slice).collect();
        match log.append_many(&slices) {
            Ok(()) => acknowledged.extend(batch),
            Err(_) => {
                assert!(matches!(log.append(b"x"), Err(LogError::Stopped)));
                return (acknowledged, batch);
            }
        }
    }
    (acknowledged, Vec::new())
}

#[test]
fn nothing_acknowledged_is_lost_wherever_the_power_goes() {
    let (mut cuts, mut partial, mut torn) = (0, 0, 0);
    for seed in 0..300 {
        let disk = FaultyDisk::new(seed);
        let mut seeded = Seeded::new(seed);
        write_until_cut(&disk, &mut seeded);
        for n in 1..=disk.operations() {
            let disk = FaultyDisk::new(seed * 1000 + n);
            disk.cut_power_at(n);
            let (acknowledged, tried) = write_until_cut(&disk, &mut Seeded::new(seed));
            assert!(disk.is_off());
            cuts += 1;

            // The power may go again while the log is opened, which must lose nothing either.
            let mut disk = disk.after_power_cut();
            for again in 1..4 {
                disk.cut_power_at(again);
                let _ = replay(&disk);
                if !disk.is_off() {
                    break;
                }
                disk = disk.after_power_cut();
            }
            let disk = disk.after_power_cut();
            let before = file(&disk).len();
            let found = replay(&disk).unwrap_or_else(|e| panic!("seed {seed}, operation {n}: {e}"));
            torn += usize::from(file(&disk).len() < before);
            let (kept, more) =
                found.split_at_checked(acknowledged.len()).expect("acknowledged records are there");
            assert_eq!(kept, acknowledged, "seed {seed}, operation {n}");
            assert!(
                tried.starts_with(more),
                "seed {seed}, operation {n}: only what was tried may be there too"
            );
            partial += usize::from(!more.is_empty());

            // The log goes on from there.
            let mut log = Log::open(&disk, NAME, &mut |_| ()).unwrap();
            log.append(b"goes on").unwrap();
            assert_eq!(replay(&disk.after_power_cut()).unwrap(), [found, vec![b"goes on".to_vec()]].concat());
        }
    }
    println!("{cuts} power cuts; {partial} left unacknowledged records, {torn} a torn tail");
    assert!(cuts > 3000 && partial > 100 && torn > 100);
}

#[test]
fn records_of_every_length_come_back_from_real_files() {
    let folder = tempfile::tempdir().unwrap();
    let disk = FileDisk::open(folder.path().join("log")).unwrap();
    let mut seeded = Seeded::new(1);
    let records: Vec<Vec<u8>> =
        [0, 1, 15, 16, 17, 300_000, MAX_RECORD_LEN, 0, 5].map(|len| seeded.bytes(len)).into();
    let mut log = Log::open(&disk, NAME, &mut |_| panic!("empty at first")).unwrap();
    let (first, rest) = records.split_at(4);
    first.iter().for_each(|record| log.append(record).unwrap());
    drop(log);
    let mut log = Log::open(&disk, NAME, &mut |_| ()).unwrap();
    log.append_many(&rest.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
    log.append_many(&[]).unwrap();
    assert!(replay(&disk).unwrap() == records);
}

#[test]
fn a_record_too_long_is_refused_and_nothing_is_written() {
    let disk = FaultyDisk::new(1);
    let mut log = Log::open(&disk, NAME, &mut |_| ()).unwrap();
    let long = vec![7; MAX_RECORD_LEN + 1];
    let result = log.append_many(&[b"short", &long]);
    assert!(matches!(result, Err(LogError::TooLong { len }) if len == MAX_RECORD_LEN + 1));
    log.append(b"after").unwrap();
    assert_eq!(replay(&disk).unwrap(), [b"after"]);
}

#[test]
fn a_full_disk_stops_the_log_until_it_is_opened_again() {
    /// Takes so many bytes and no more.
    struct Full(FaultyDisk);
    struct FullFile(Box<dyn DiskFile>, usize);
    impl Disk for Full {
        fn open(&self, name: &str) -> std::io::Result<Box<dyn DiskFile>> {
            Ok(Box::new(FullFile(self.0.open(name)?, 100)))
        }
        fn rename(&self, from: &str, to: &str) -> std::io::Result<()> {
            self.0.rename(from, to)
        }
        fn remove(&self, name: &str) -> std::io::Result<()> {
            self.0.remove(name)
        }
        fn list(&self) -> std::io::Result<Vec<String>> {
            self.0.list()
        }
        fn sync(&self) -> std::io::Result<()> {
            self.0.sync()
        }
    }
    impl DiskFile for FullFile {
        fn len(&self) -> std::io::Result<u64> {
            self.0.len()
        }
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<usize> {
            self.0.read_at(offset, buf)
        }
        fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
            let fits = bytes.len().min(self.1);
            self.0.append(&bytes[..fits])?;
            self.1 -= fits;
            if fits < bytes.len() { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }
        fn truncate(&mut self, len: u64) -> std::io::Result<()> {
            self.0.truncate(len)
        }
        fn sync(&mut self) -> std::io::Result<()> {
            self.0.sync()
        }
    }
    let disk = FaultyDisk::new(1);
    let mut log = Log::open(&Full(disk.clone()), NAME, &mut |_| ()).unwrap();
    log.append(&[1; 50]).unwrap();
    assert!(matches!(log.append(&[2; 50]), Err(LogError::Disk(_))));
    assert!(matches!(log.append(b""), Err(LogError::Stopped)));
    drop(log);
    let mut log = Log::open(&disk, NAME, &mut |_| ()).unwrap();
    log.append(&[3; 50]).unwrap();
    assert_eq!(replay(&disk).unwrap(), [[1; 50], [3; 50]]);
}

#[test]
fn damage_to_acknowledged_records_is_an_error() {
    let disk = FaultyDisk::new(1);
    let mut seeded = Seeded::new(1);
    let mut log = Log::open(&disk, NAME, &mut |_| ()).unwrap();
    for _ in 0..10 {
        log.append(&seeded.bytes(40)).unwrap();
    }
    let good = file(&disk);
    let last = good.len() - 56;
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        overwrite(&disk, &bytes);
        match replay(&disk) {
            Err(LogError::Foreign) => assert!(at < 8),
            Err(LogError::Damaged { at: found }) => {
                assert_eq!(found as usize, 8 + (at - 8) / 56 * 56);
                assert!(file(&disk) == bytes, "a damaged log is left as it is");
            }
            // In the last append damage looks like a torn tail.
            Ok(records) => assert_eq!((at >= last, records.len()), (true, 9)),
            Err(e) => panic!("{e}"),
        }
    }
    // A record that was cut out of the middle.
    overwrite(&disk, &[&good[..64], &good[120..]].concat());
    assert!(replay(&disk).unwrap().len() < 3, "records behind the gap do not stand where they were written");
}

#[test]
fn another_file_is_left_alone() {
    for foreign in [&b"#!/bin/sh\necho hello"[..], b"x", &[0; 9]] {
        let disk = FaultyDisk::new(1);
        overwrite(&disk, foreign);
        assert!(matches!(replay(&disk), Err(LogError::Foreign)));
        assert_eq!(file(&disk), foreign);
    }
}
