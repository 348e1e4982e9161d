//! A disk that fails.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::Seeded;
use crate::{Disk, DiskFile, DiskLock, disk::check_name};

/// Bytes that a disk writes in one go or not at all.
const SECTOR: usize = 512;

/// A disk in memory that loses power at a chosen operation, and then holds what a real one might: of all that was not
/// synced, any part, in any order, in sectors that may be torn.
#[derive(Debug, Clone)]
pub struct FaultyDisk {
    state: Arc<Mutex<State>>,
    /// The folder that this is, empty or with a slash at its end.
    folder: String,
}

#[derive(Debug)]
struct State {
    seeded: Seeded,
    ops: u64,
    cut_at: Option<u64>,
    off: bool,
    files: Vec<Contents>,
    /// With the folders before them; a folder's own ends with a slash, and its file is [`FOLDER`].
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    unsynced_names: Vec<NameOp>,
    /// Bytes that fit on it.
    capacity: usize,
    locked: BTreeSet<String>,
}

const FOLDER: usize = usize::MAX;

/// Frees its folder when it is dropped.
struct Guard(FaultyDisk);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.state().locked.remove(&self.0.folder);
    }
}

#[derive(Debug, Clone, Default)]
struct Contents {
    live: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Append { offset: usize, bytes: Vec<u8> },
    Truncate(usize),
}

#[derive(Debug, Clone)]
enum NameOp {
    Create(String, usize),
    Rename(String, String),
    Remove(String),
}

impl FaultyDisk {
    /// An empty disk; `seed` decides what survives a power cut.
    pub fn new(seed: u64) -> Self {
        Self::with(Seeded::new(seed), Vec::new(), BTreeMap::new())
    }

    fn with(seeded: Seeded, files: Vec<Contents>, names: BTreeMap<String, usize>) -> Self {
        let state = State {
            seeded,
            ops: 0,
            cut_at: None,
            off: false,
            files,
            durable_names: names.clone(),
            names,
            unsynced_names: Vec::new(),
            capacity: usize::MAX,
            locked: BTreeSet::new(),
        };
        Self { state: Arc::new(Mutex::new(state)), folder: String::new() }
    }

    /// Cuts the power in the middle of the `n`th operation from now on (1 is the next one). Every write, truncation, sync,
    /// creation, renaming and removal is an operation.
    pub fn cut_power_at(&self, n: u64) {
        let mut state = self.state();
        state.cut_at = Some(state.ops + n);
    }

    /// From now on no more than `bytes` fit on the disk; an append that does not fit writes what does, and fails.
    pub fn set_capacity(&self, bytes: usize) {
        self.state().capacity = bytes;
    }

    /// Changes the byte at `offset` of the file `name`, as a failing disk does, where there is one.
    pub fn damage(&self, name: &str, offset: usize) {
        let mut state = self.state();
        let Some(file) = state.names.get(&self.full(name)).copied() else { return };
        let Contents { live, durable, .. } = &mut state.files[file];
        for bytes in [live, durable] {
            if let Some(byte) = bytes.get_mut(offset) {
                *byte ^= 0x55;
            }
        }
    }

    /// Operations so far.
    pub fn operations(&self) -> u64 {
        self.state().ops
    }

    /// Whether the power is off.
    pub fn is_off(&self) -> bool {
        self.state().off
    }

    /// The disk after the power came back: all that was synced, and a random part of the rest. The disk before the cut
    /// answers nothing any more.
    #[must_use]
    pub fn after_power_cut(&self) -> Self {
        let mut state = self.state();
        state.off = true;
        let mut seeded = Seeded::new(state.seeded.next_u64());
        // One time in four nothing unsynced survives, one time in four all of it, else each part by chance.
        let chance = match seeded.below(4) {
            0 => 0,
            1 => 100,
            _ => 50,
        };
        let survives = |seeded: &mut Seeded| seeded.below(100) < chance;
        let mut files = state.files.clone();
        for file in &mut files {
            let mut kept = std::mem::take(&mut file.durable);
            for change in std::mem::take(&mut file.unsynced) {
                match change {
                    Change::Truncate(len) if survives(&mut seeded) => kept.truncate(len),
                    Change::Truncate(_) => {}
                    Change::Append { offset, bytes } => {
                        for sector in sectors(offset, bytes.len()) {
                            if survives(&mut seeded) {
                                write_sector(&mut kept, offset, &bytes, sector, &mut seeded);
                            }
                        }
                    }
                }
            }
            *file = Contents { live: kept.clone(), durable: kept, unsynced: Vec::new() };
        }
        let mut names = state.durable_names.clone();
        for op in &state.unsynced_names {
            if survives(&mut seeded) {
                op.apply(&mut names);
            }
        }
        // What lies in a folder goes with it.
        let there = names.clone();
        names.retain(|name, _| {
            std::iter::successors(Some(folder_of(name)), |folder| Some(folder_of(folder)))
                .take_while(|folder| !folder.is_empty())
                .all(|folder| there.contains_key(folder))
        });
        Self::with(seeded, files, names)
    }

    fn full(&self, name: &str) -> String {
        format!("{}{name}", self.folder)
    }

    /// The names in this folder, without it.
    fn names_here(&self) -> io::Result<Vec<String>> {
        let state = self.state();
        state.check_power()?;
        let here = state.names.keys().filter(|name| folder_of(name) == self.folder);
        Ok(here.map(|name| name[self.folder.len()..].to_owned()).collect())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The folder that the file or folder `name` is in.
fn folder_of(name: &str) -> &str {
    let name = name.strip_suffix('/').unwrap_or(name);
    name.rfind('/').map_or("", |slash| &name[..=slash])
}

/// The ranges of `0..len` that lie in one sector each, if byte 0 stands at `offset` in the file.
fn sectors(offset: usize, len: usize) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut start = 0;
    while start < len {
        let end = (start + SECTOR - (offset + start) % SECTOR).min(len);
        ranges.push(start..end);
        start = end;
    }
    ranges
}

fn write_sector(file: &mut Vec<u8>, offset: usize, bytes: &[u8], sector: Range<usize>, seeded: &mut Seeded) {
    let mut end = sector.end;
    // A sector in eight is torn.
    if seeded.below(8) == 0 {
        end = sector.start + seeded.below(sector.len() as u64) as usize;
    }
    let (from, to) = (offset + sector.start, offset + end);
    if file.len() < to {
        // What was never written shows as zeros or as what lay there before.
        let old = if seeded.below(2) == 0 { 0 } else { seeded.next_u64() as u8 };
        file.resize(to, old);
    }
    file[from..to].copy_from_slice(&bytes[sector.start..end]);
}

impl NameOp {
    /// The folder that it changes.
    fn folder(&self) -> &str {
        match self {
            Self::Create(name, _) | Self::Rename(name, _) | Self::Remove(name) => folder_of(name),
        }
    }

    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Create(name, file) => {
                names.insert(name.clone(), *file);
            }
            Self::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            Self::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}

impl State {
    /// Counts an operation; `true` if the power goes in the middle of it.
    fn operation(&mut self) -> io::Result<bool> {
        self.check_power()?;
        self.ops += 1;
        self.off = self.cut_at == Some(self.ops);
        Ok(self.off)
    }

    fn check_power(&self) -> io::Result<()> {
        if self.off { Err(power_is_off()) } else { Ok(()) }
    }

    fn name_op(&mut self, op: NameOp) -> io::Result<()> {
        let cut = self.operation()?;
        op.apply(&mut self.names);
        self.unsynced_names.push(op);
        if cut { Err(power_is_off()) } else { Ok(()) }
    }
}

fn not_found() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "no such file")
}

impl Disk for FaultyDisk {
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        check_name(name)?;
        let name = self.full(name);
        let mut state = self.state();
        state.check_power()?;
        let file = match state.names.get(&name) {
            Some(file) => *file,
            None if state.names.contains_key(&format!("{name}/")) => {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            None => {
                let file = state.files.len();
                state.files.push(Contents::default());
                state.name_op(NameOp::Create(name, file))?;
                file
            }
        };
        Ok(Box::new(FaultyFile { disk: self.clone(), file }))
    }

    fn read(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        check_name(name)?;
        let state = self.state();
        state.check_power()?;
        let file = *state.names.get(&self.full(name)).ok_or_else(not_found)?;
        Ok(Box::new(FaultyFile { disk: self.clone(), file }))
    }

    fn lock(&self) -> io::Result<DiskLock> {
        if !self.state().locked.insert(self.folder.clone()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(DiskLock::new(Guard(self.clone())))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        check_name(from)?;
        check_name(to)?;
        let (from, to) = (self.full(from), self.full(to));
        let mut state = self.state();
        state.check_power()?;
        if !state.names.contains_key(&from) {
            return Err(not_found());
        }
        state.name_op(NameOp::Rename(from, to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        check_name(name)?;
        let name = self.full(name);
        let mut state = self.state();
        state.check_power()?;
        if !state.names.contains_key(&name) {
            return Err(not_found());
        }
        state.name_op(NameOp::Remove(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = self.names_here()?;
        names.retain(|name| !name.ends_with('/'));
        Ok(names)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.operation()? {
            return Err(power_is_off());
        }
        let ops = std::mem::take(&mut state.unsynced_names);
        let (here, elsewhere) = ops.into_iter().partition::<Vec<_>, _>(|op| op.folder() == self.folder);
        state.unsynced_names = elsewhere;
        here.iter().for_each(|op| op.apply(&mut state.durable_names));
        Ok(())
    }

    fn folder(&self, name: &str) -> io::Result<Arc<dyn Disk>> {
        check_name(name)?;
        let folder = self.full(name) + "/";
        let mut state = self.state();
        state.check_power()?;
        if state.names.contains_key(&self.full(name)) {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        if !state.names.contains_key(&folder) {
            state.name_op(NameOp::Create(folder.clone(), FOLDER))?;
        }
        Ok(Arc::new(Self { state: self.state.clone(), folder }))
    }

    fn folders(&self) -> io::Result<Vec<String>> {
        let names = self.names_here()?;
        Ok(names.iter().filter_map(|name| name.strip_suffix('/')).map(str::to_owned).collect())
    }
}

struct FaultyFile {
    disk: FaultyDisk,
    file: usize,
}

impl FaultyFile {
    fn change(&self, change: Change) -> io::Result<()> {
        let mut state = self.disk.state();
        let cut = state.operation()?;
        let file = &mut state.files[self.file];
        match &change {
            Change::Append { bytes, .. } => file.live.extend_from_slice(bytes),
            Change::Truncate(len) => file.live.truncate(*len),
        }
        file.unsynced.push(change);
        if cut { Err(power_is_off()) } else { Ok(()) }
    }
}

impl DiskFile for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        let state = self.disk.state();
        state.check_power()?;
        Ok(state.files[self.file].live.len() as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let state = self.disk.state();
        state.check_power()?;
        let live = &state.files[self.file].live;
        let from = live.get(offset as usize..).unwrap_or_default();
        let n = from.len().min(buf.len());
        buf[..n].copy_from_slice(&from[..n]);
        Ok(n)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (offset, fits) = {
            let state = self.disk.state();
            let files = state.names.values().filter_map(|file| state.files.get(*file));
            let used: usize = files.map(|file| file.live.len()).sum();
            (state.files[self.file].live.len(), bytes.len().min(state.capacity.saturating_sub(used)))
        };
        self.change(Change::Append { offset, bytes: bytes[..fits].to_vec() })?;
        if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.change(Change::Truncate(len as usize))
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.state();
        if state.operation()? {
            return Err(power_is_off());
        }
        let file = &mut state.files[self.file];
        file.durable = file.live.clone();
        file.unsynced.clear();
        Ok(())
    }
}
