//! The segments that there are, what is live in them, and their open files.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
};

use super::{record::FIRST, scan::Name};
use crate::{Disk, DiskFile, spin::lock};

/// Files that are open for reading.
const MAX_OPEN: usize = 63;

/// All segments.
pub(super) struct Table {
    disk: Arc<dyn Disk>,
    rows: Mutex<Rows>,
}

#[derive(Default)]
struct Rows {
    segments: BTreeMap<u32, Segment>,
    /// Numbers of those whose file is open.
    open: Vec<u32>,
    /// Counts readings, to tell which file was not used for longest.
    now: u64,
}

struct Segment {
    name: Name,
    bytes: u64,
    live: u64,
    tombstones: u64,
    /// Compaction found damage in it, and leaves it alone.
    left_alone: bool,
    file: Option<Arc<dyn DiskFile>>,
    used: u64,
}

impl Table {
    pub(super) fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, rows: Mutex::default() }
    }

    pub(super) fn insert(&self, name: Name) {
        let segment = Segment {
            name,
            bytes: FIRST.into(),
            live: 0,
            tombstones: 0,
            left_alone: false,
            file: None,
            used: 0,
        };
        lock(&self.rows).segments.insert(name.number, segment);
    }

    pub(super) fn remove(&self, number: u32) {
        let mut rows = lock(&self.rows);
        let removed = rows.segments.remove(&number);
        rows.open.retain(|open| *open != number);
        drop(rows);
        // Its file has no name any more: closing it, which frees its bytes, takes the system a while.
        drop(removed);
    }

    pub(super) fn contains(&self, number: u32) -> bool {
        lock(&self.rows).segments.contains_key(&number)
    }

    pub(super) fn name(&self, number: u32) -> Option<Name> {
        lock(&self.rows).segments.get(&number).map(|segment| segment.name)
    }

    pub(super) fn bytes(&self) -> u64 {
        lock(&self.rows).segments.values().map(|segment| segment.bytes).sum()
    }

    pub(super) fn live(&self, number: u32) -> u64 {
        lock(&self.rows).segments.get(&number).map_or(0, |segment| segment.live)
    }

    fn change(&self, number: u32, change: impl FnOnce(&mut Segment)) {
        if let Some(segment) = lock(&self.rows).segments.get_mut(&number) {
            change(segment);
        }
    }

    pub(super) fn set_bytes(&self, number: u32, bytes: u64) {
        self.change(number, |segment| segment.bytes = bytes);
    }

    pub(super) fn add_live(&self, number: u32, bytes: u64) {
        self.change(number, |segment| segment.live += bytes);
    }

    pub(super) fn remove_live(&self, number: u32, bytes: u64) {
        self.change(number, |segment| segment.live = segment.live.saturating_sub(bytes));
    }

    pub(super) fn add_tombstone(&self, number: u32, bytes: u32) {
        self.change(number, |segment| segment.tombstones += u64::from(bytes));
    }

    pub(super) fn leave_alone(&self, number: u32) {
        self.change(number, |segment| segment.left_alone = true);
    }

    /// Whether less than one part in `parts` of the segment `number` is of use.
    pub(super) fn is_dead_but_for(&self, number: u32, parts: u64) -> bool {
        lock(&self.rows).is_dead_but_for(number, parts)
    }

    /// The first segment of which less than one part in `parts` is of use; never the last one, which is written.
    pub(super) fn victim(&self, parts: u64) -> Option<u32> {
        let rows = lock(&self.rows);
        let mut numbers = rows.segments.keys().copied();
        numbers.next_back();
        numbers.find(|number| rows.is_dead_but_for(*number, parts))
    }

    /// Salt and file of the segment `number`, or `None` if it was removed.
    pub(super) fn reader(&self, number: u32) -> io::Result<Option<(u32, Arc<dyn DiskFile>)>> {
        let rows = &mut *lock(&self.rows);
        rows.now += 1;
        let Some(segment) = rows.segments.get_mut(&number) else { return Ok(None) };
        segment.used = rows.now;
        if let Some(file) = &segment.file {
            return Ok(Some((segment.name.salt, file.clone())));
        }
        let salt = segment.name.salt;
        let file: Arc<dyn DiskFile> = match self.disk.read(&segment.name.to_string()) {
            Ok(file) => file.into(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        segment.file = Some(file.clone());
        rows.open.push(number);
        if rows.open.len() > MAX_OPEN {
            rows.close_one();
        }
        Ok(Some((salt, file)))
    }
}

impl Rows {
    fn is_dead_but_for(&self, number: u32, parts: u64) -> bool {
        let oldest = self.segments.first_key_value().is_some_and(|(oldest, _)| *oldest == number);
        self.segments.get(&number).is_some_and(|segment| {
            // A tombstone names a record before it: in the oldest segment none is of use.
            let tombstones = if oldest { 0 } else { segment.tombstones };
            !segment.left_alone && (segment.live + tombstones) * parts < segment.bytes
        })
    }

    /// Closes the file that was not used for longest.
    fn close_one(&mut self) {
        let used = |number: &u32| self.segments.get(number).map_or(0, |segment| segment.used);
        let Some(number) = self.open.iter().copied().min_by_key(used) else { return };
        self.open.retain(|open| *open != number);
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.file = None;
        }
    }
}
