//! Commits: one append and one sync for all who wait.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    io::{self, IoSlice},
    ops::Range,
    sync::{
        Arc, Condvar, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;

use super::{
    SegmentError, SegmentOptions, SegmentStore,
    index::Place,
    live_size,
    record::{self, FIRST, Kind, MAGIC, MAX_FOOTER_LEN, Record, Spot},
    scan::{Name, Scanned},
    table::Table,
};
use crate::{
    Disk, DiskFile,
    spin::{self, lock},
};

/// Bytes after which a commit takes nobody more who waits.
const GROUP_BYTES: usize = 16 << 20;
/// Bytes that are copied before they are written: what a commit copies may be as long as the commit.
const STEP_BYTES: usize = 1 << 20;
/// Data up to this length is copied together with what is before and after it; longer data is written from where it is.
const COPY_BYTES: usize = 8 << 10;
/// How often a writer looks whether the commit before its own has ended before it sleeps: on a quick disk a commit takes less time
/// than to wake a thread.
const SPINS: u32 = 3000;
/// A footer is written if it is at most this part of its segment.
const FOOTER_PART: usize = 64;

/// What is to be written.
pub(super) enum Change {
    /// Store a block, unless it is held.
    Put { key: Vec<u8>, data: Bytes, sum: u32 },
    /// Forget a block, if it is held.
    Remove { key: Vec<u8> },
    /// Store a block again, if it is still at the spot.
    Move { key: Vec<u8>, from: Spot, data: Bytes, sum: u32 },
    /// Say again that the record at the spot is void, if its segment is still there.
    Void { key: Vec<u8>, target: Spot },
}

impl Change {
    // The checksums are made here, by the callers, beside each other.
    pub(super) fn put(key: Vec<u8>, data: Bytes) -> Self {
        let sum = record(Kind::Put, &key, None, &data).sum();
        Self::Put { key, data, sum }
    }

    pub(super) fn moving(key: Vec<u8>, from: Spot, data: Bytes) -> Self {
        let sum = record(Kind::Moved, &key, Some(from), &data).sum();
        Self::Move { key, from, data, sum }
    }

    fn len(&self) -> usize {
        match self {
            Self::Put { data, .. } | Self::Move { data, .. } => data.len(),
            Self::Remove { .. } | Self::Void { .. } => record::HEADER_LEN,
        }
    }

    /// Bytes of what is copied before it is written.
    fn copied_len(&self) -> usize {
        let (Self::Put { key, .. } | Self::Remove { key } | Self::Move { key, .. } | Self::Void { key, .. }) =
            self;
        let data = if self.len() > COPY_BYTES { 0 } else { self.len() };
        record::HEADER_LEN + key.len() + record::SPOT_LEN + data
    }
}

fn record<'a>(kind: Kind, key: &'a [u8], target: Option<Spot>, data: &'a [u8]) -> Record<'a> {
    Record { kind, key, target, data, data_len: data.len() as u32 }
}

/// Those who wait for a commit.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// Somebody writes for all; changes while `waiting` is locked.
    led: AtomicBool,
    /// A commit ended.
    ended: Condvar,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    /// Threads that are to be told that a commit ended: to tell nobody would cost a system call all the same.
    asleep: u32,
}

struct Job {
    changes: Vec<Change>,
    done: Arc<OnceLock<Result<(), SegmentError>>>,
}

/// Writes for all, until it is dropped.
struct Lead<'a>(&'a Queue);

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        let waiting = lock(&self.0.waiting);
        self.0.led.store(false, Ordering::Release);
        let asleep = waiting.asleep > 0;
        drop(waiting);
        if asleep {
            self.0.ended.notify_all();
        }
    }
}

impl Queue {
    /// Waits until `done` is set, or this thread is to write for all.
    fn join(&self, job: Job) -> Option<Lead<'_>> {
        let done = job.done.clone();
        let must_wait = || self.led.load(Ordering::Acquire) && done.get().is_none();
        lock(&self.waiting).jobs.push_back(job);
        spin::until(SPINS, || !must_wait());
        let mut waiting = lock(&self.waiting);
        while must_wait() {
            waiting.asleep += 1;
            waiting = self.ended.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            waiting.asleep -= 1;
        }
        if done.get().is_some() {
            return None;
        }
        self.led.store(true, Ordering::Release);
        Some(Lead(self))
    }

    fn next_group(&self) -> Vec<Job> {
        let mut waiting = lock(&self.waiting);
        let (mut group, mut bytes) = (Vec::new(), 0);
        while bytes < GROUP_BYTES
            && let Some(job) = waiting.jobs.pop_front()
        {
            bytes += job.changes.iter().map(Change::len).sum::<usize>();
            group.push(job);
        }
        group
    }
}

impl SegmentStore {
    /// Returns once all `changes` survive a power cut; says whether others had to wait for that.
    pub(super) fn commit(&self, changes: Vec<Change>) -> Result<bool, SegmentError> {
        if changes.is_empty() {
            return Ok(false);
        }
        let done = Arc::new(OnceLock::new());
        let lead = self.queue.join(Job { changes, done: done.clone() });
        while lead.is_some() && done.get().is_none() {
            let group = self.queue.next_group();
            if group.is_empty() {
                return Err(io::Error::other("the thread that wrote for this one panicked").into());
            }
            let result = lock(&self.writer).write(self, &group);
            for job in group {
                let _ = job.done.set(result.clone());
            }
        }
        let waited = lead.is_none() || !lock(&self.queue.waiting).jobs.is_empty();
        drop(lead);
        let lost = || io::Error::other("the group that this write was part of came to no end");
        done.get().cloned().unwrap_or_else(|| Err(lost().into())).map(|()| waited)
    }
}

/// The last segment, to which all is appended.
pub(super) struct Writer {
    name: Name,
    /// `None` after a failure: what was written behind `end` is unknown.
    file: Option<Box<dyn DiskFile>>,
    end: u32,
    /// Entries of its footer, unless it will have none.
    footer: Option<Vec<u8>>,
    /// Nothing more may be appended.
    sealed: bool,
    /// The segment that follows, while it could not be created.
    next: Option<Name>,
    segment_bytes: u32,
}

impl Writer {
    /// Goes on with the segment `name`.
    pub(super) fn new(
        name: Name,
        file: Box<dyn DiskFile>,
        found: &Scanned,
        footer: Option<Vec<u8>>,
        options: SegmentOptions,
    ) -> Self {
        Self {
            name,
            file: Some(file),
            // No segment is longer.
            end: u32::try_from(found.end).unwrap_or(u32::MAX),
            footer,
            sealed: found.sealed,
            next: None,
            segment_bytes: options.segment_bytes,
        }
    }

    /// Begins the first segment.
    pub(super) fn create(
        disk: &dyn Disk,
        table: &Table,
        options: SegmentOptions,
    ) -> Result<Self, SegmentError> {
        let name = Name { number: 0, salt: 0 };
        let mut writer = Self {
            name,
            file: None,
            end: FIRST,
            footer: None,
            sealed: true,
            next: None,
            segment_bytes: options.segment_bytes,
        };
        writer.begin_next(disk, table)?;
        Ok(writer)
    }

    /// Number of the segment that is written.
    pub(super) fn number(&self) -> u32 {
        self.name.number
    }

    /// Ends the segment and begins another, if it has any record.
    pub(super) fn roll(&mut self, store: &SegmentStore) -> Result<(), SegmentError> {
        self.make_ready(store)?;
        if self.end > FIRST { self.seal_and_begin_next(store) } else { Ok(()) }
    }

    fn write(&mut self, store: &SegmentStore, jobs: &[Job]) -> Result<(), SegmentError> {
        self.make_ready(store)?;
        let changes = || jobs.iter().flat_map(|job| &job.changes);
        let copied_len = changes().map(Change::copied_len).sum::<usize>().min(STEP_BYTES + 2 * COPY_BYTES);
        let mut batch = Batch { copied: Vec::with_capacity(copied_len), ..Batch::default() };
        batch.places.reserve(changes().count());
        for change in changes() {
            let held = |key: &[u8]| match batch.places.get(key) {
                Some(place) => *place,
                None => store.index.find(key),
            };
            let (record, sum, before) = match change {
                Change::Put { key, data, sum } => {
                    if held(key).is_some() {
                        continue;
                    }
                    (record(Kind::Put, key, None, data), *sum, None)
                }
                Change::Move { key, from, data, sum } => {
                    let Some(before) = held(key).filter(|held| held.spot == *from) else { continue };
                    (record(Kind::Moved, key, Some(*from), data), *sum, Some(before))
                }
                Change::Remove { key } => {
                    let Some(before) = held(key) else { continue };
                    let record = record(Kind::Tombstone, key, Some(before.spot), &[]);
                    (record, record.sum(), Some(before))
                }
                Change::Void { key, target } => {
                    if !store.table.contains(target.segment) {
                        continue;
                    }
                    let record = record(Kind::Tombstone, key, Some(*target), &[]);
                    (record, record.sum(), None)
                }
            };
            let bytes = match change {
                Change::Put { data, .. } | Change::Move { data, .. } => Some(data),
                Change::Remove { .. } | Change::Void { .. } => None,
            };
            let end = self.end + batch.len;
            if end > FIRST && end.saturating_add(record.size()) > self.segment_bytes {
                self.flush(store, &mut batch)?;
                self.seal_and_begin_next(store)?;
            }
            batch.push(self.name, self.end, &record, sum, bytes, before);
            if batch.copied.len() >= STEP_BYTES {
                self.append(&mut batch)?;
            }
        }
        self.flush(store, &mut batch)
    }

    /// Opens the file again after a failure, or begins the segment that could not be begun.
    fn make_ready(&mut self, store: &SegmentStore) -> Result<(), SegmentError> {
        if self.file.is_none() {
            let mut file = store.disk.open(&self.name.to_string())?;
            if file.len()? > u64::from(self.end) {
                file.truncate(self.end.into())?;
            }
            file.sync()?;
            self.file = Some(file);
        }
        if self.sealed {
            self.begin_next(&*store.disk, &store.table)?;
        }
        Ok(())
    }

    /// Appends what the batch has since it was appended last. After a failure the file is opened again, and cut.
    fn append(&mut self, batch: &mut Batch) -> Result<(), SegmentError> {
        let file = self.file.take();
        let mut file = file.ok_or_else(|| io::Error::other("the segment is not open"))?;
        file.append_parts(&mut batch.slices())?;
        self.file = Some(file);
        batch.copied.clear();
        batch.parts.clear();
        Ok(())
    }

    /// Appends and syncs the batch, and lets it be seen.
    fn flush(&mut self, store: &SegmentStore, batch: &mut Batch) -> Result<(), SegmentError> {
        let mut batch = std::mem::take(batch);
        if batch.len == 0 {
            return Ok(());
        }
        self.append(&mut batch)?;
        let file = self.file.take();
        let mut file = file.ok_or_else(|| io::Error::other("the segment is not open"))?;
        file.sync()?;
        self.file = Some(file);
        self.end += batch.len;
        if let Some(footer) = &mut self.footer {
            footer.extend_from_slice(&batch.footer);
        }
        if self.footer.as_ref().is_some_and(|footer| footer.len() > self.footer_bytes_max()) {
            self.footer = None;
        }
        let number = self.name.number;
        store.table.set_bytes(number, self.end.into());
        store.table.add_live(number, batch.live);
        store.table.add_tombstone(number, batch.tombstones);
        for (number, bytes) in batch.dead {
            store.table.remove_live(number, bytes);
        }
        store.index.apply(&mut batch.places.into_iter());
        Ok(())
    }

    /// Bytes of the longest footer that the segment may have when it is full.
    fn footer_bytes_max(&self) -> usize {
        (self.segment_bytes as usize / FOOTER_PART).min(MAX_FOOTER_LEN - record::FOOTER_END_LEN)
    }

    fn seal_and_begin_next(&mut self, store: &SegmentStore) -> Result<(), SegmentError> {
        let part = self.end as usize / FOOTER_PART;
        if let Some(entries) = self.footer.take().filter(|entries| entries.len() <= part) {
            let footer = record::footer(entries, self.end, self.name.salt);
            let file = self.file.take();
            let mut file = file.ok_or_else(|| io::Error::other("the segment is not open"))?;
            file.append(&footer)?;
            file.sync()?;
            self.file = Some(file);
            self.end += footer.len() as u32;
            store.table.set_bytes(self.name.number, self.end.into());
        }
        self.sealed = true;
        self.begin_next(&*store.disk, &store.table)
    }

    fn begin_next(&mut self, disk: &dyn Disk, table: &Table) -> Result<(), SegmentError> {
        if self.name.number > 0 {
            disk.complete(&self.name.to_string())?;
        }
        let number = self.name.number.checked_add(1).ok_or(SegmentError::Full)?;
        // Keys of hash maps are random: nobody who may send a block knows the salt.
        let salt = || RandomState::new().hash_one(number) as u32;
        let name = *self.next.get_or_insert_with(|| Name { number, salt: salt() });
        let mut file = disk.open(&name.to_string())?;
        if !file.is_empty()? {
            file.truncate(0)?;
        }
        file.append(MAGIC)?;
        disk.sync()?;
        table.insert(name);
        *self = Self {
            name,
            file: Some(file),
            end: FIRST,
            footer: Some(Vec::new()),
            sealed: false,
            next: None,
            segment_bytes: self.segment_bytes,
        };
        Ok(())
    }
}

/// Records that are appended together.
#[derive(Default)]
struct Batch {
    /// Heads of records, and short data.
    copied: Vec<u8>,
    parts: Vec<Part>,
    len: u32,
    footer: Vec<u8>,
    places: HashMap<Vec<u8>, Option<Place>>,
    live: u64,
    tombstones: u32,
    /// Segments, and bytes that die in them.
    dead: Vec<(u32, u64)>,
}

enum Part {
    Copied(Range<usize>),
    Data(Bytes),
}

impl Batch {
    /// Adds `record`, whose checksum is `sum`, to the commit that begins at `start`; `data` are its data, and `before` is where
    /// its block was.
    fn push(
        &mut self,
        name: Name,
        start: u32,
        record: &Record<'_>,
        sum: u32,
        data: Option<&Bytes>,
        before: Option<Place>,
    ) {
        let from = self.copied.len();
        record.push_head(sum, start, name.salt, &mut self.copied);
        let long = data.filter(|data| data.len() > COPY_BYTES);
        if long.is_none() {
            self.copied.extend_from_slice(record.data);
        }
        match self.parts.last_mut() {
            Some(Part::Copied(range)) => range.end = self.copied.len(),
            _ => self.parts.push(Part::Copied(from..self.copied.len())),
        }
        self.parts.extend(long.cloned().map(Part::Data));
        record.push_entry(&mut self.footer);

        let offset = start + self.len + record.data_at();
        let place = Place { spot: Spot { segment: name.number, offset }, len: record.data_len };
        if record.kind == Kind::Tombstone {
            self.tombstones += record.size();
        } else {
            self.live += live_size(record.key, place.len);
        }
        if let Some(before) = before {
            self.dead.push((before.spot.segment, live_size(record.key, before.len)));
        }
        // A tombstone that was only said again changes nothing.
        if record.kind != Kind::Tombstone || before.is_some() {
            let place = Some(place).filter(|_| record.kind != Kind::Tombstone);
            self.places.insert(record.key.to_vec(), place);
        }
        self.len += record.size();
    }

    fn slices(&self) -> Vec<IoSlice<'_>> {
        let bytes = self.parts.iter().map(|part| match part {
            Part::Copied(range) => self.copied.get(range.clone()).unwrap_or_default(),
            Part::Data(data) => data,
        });
        bytes.map(IoSlice::new).collect()
    }
}
