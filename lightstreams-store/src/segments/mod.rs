//! Blocks in append-only segments.
//!
//! ```text
//! <folder>/FORMAT                         "lightstreams-store segments 1\n"
//! <folder>/db/LOCK                        held by the process that has the store open
//! <folder>/db/00000001-9f3c2a71.seg ..    number and salt
//!
//! segment = "LSSEG1\r\n" record* [footer]                                             (integers big-endian)
//! record  = crc32c u32 | kind u8 | length of key u8 | length of body u32 | start of its commit u32 | key | body
//!
//! kind        key         body                                          says
//! 1 put       multihash   bytes of the block                            here is a block
//! 2 moved     multihash   spot | bytes of the block                     here is a block, and the record at the spot is void
//! 3 tombstone multihash   spot                                          the record at the spot is void
//! 4 footer                entry* | start of the footer u32 | "LSFT"     what all records before say
//!
//! spot  = number of the segment u32 | byte in it at which the block's bytes begin u32
//! entry = kind u8 | length of key u8 | length of the block u32 | key | spot, of kinds 2 and 3
//! ```
//!
//! **One write.** A payload byte is written once, by the append that commits it, from where the caller holds it. A record adds
//! 48 bytes to a block (0.02 % of 256 KiB, 4.7 % of 1 KiB). A full segment gets a footer if that is at most a 64th of it.
//!
//! **One sync.** Whoever comes while a commit is being written waits; the next commit takes all who wait, up to
//! 16 MiB, with one sync. The index changes after the sync: what can be read is durable.
//!
//! **The index is in memory**, about 70 bytes a block, and the segments are the truth: opening reads the footers, and
//! those segments whole that have none (the last one; and those of small blocks, where a footer would double the keys). A
//! database as index would have to be written too: each key once more in its journal and once in its tree, which for
//! blocks of 1 KiB is more than all that a record adds; and its own recovery would have to agree with the segments'. The
//! price is memory: 290 MB for a TiB in blocks of 256 KiB.
//!
//! **Torn or damaged.** The checksum covers all of a record and the salt of its segment, which no peer knows: a block that
//! contains bytes like a record's is never taken for one. Commits are synced one after the other, so a sound record of a
//! later commit proves that an unsound one was acknowledged: that is damage, which [`SegmentStore::damage`] names, and
//! all other blocks stay readable. Without such proof it is the rest of a torn append, and is cut off.
//!
//! **Removal and compaction.** A tombstone names a record, not a key, so that it can be copied anywhere, and is needed only while
//! the segment is there that it names. At any time at most one record of a block is not void. Compaction copies what is
//! live in a segment to the end of the last one, through the same commits as everybody's, and removes the segment.

mod compact;
mod index;
mod record;
mod scan;
mod table;
mod writer;

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use cid::Cid;

pub use self::compact::Compaction;
use self::{
    index::{Index, MemoryIndex, Place},
    record::{FIRST, HEADER_LEN, Header, Kind, MAGIC, Record, SPOT_LEN, Spot},
    scan::{Name, Scanned},
    table::Table,
    writer::{Change, Queue, Writer},
};
use crate::{
    Block, BlockError, BlockStore, Disk, DiskFile, DiskLock, FileDisk, StoreError, StoreOp,
    buffers::Buffers,
    folder::claim,
    key::{check_batch, cid_of_key, key},
};

/// Keys that are listed while nobody may change the index.
const KEYS_AT_ONCE: usize = 32;
/// Bytes of buffers that wait for the next block that is read.
const FREE_BYTES: usize = 8 << 20;

/// Settings of a [`SegmentStore`].
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentOptions {
    /// Bytes from which on a segment is full and the next one begins.
    pub segment_bytes: u32,
}

impl Default for SegmentOptions {
    /// Segments of 256 MiB.
    fn default() -> Self {
        Self { segment_bytes: 256 << 20 }
    }
}

impl SegmentOptions {
    /// The same options, with segments of `bytes`, at least 4 KiB and at most 1 GiB.
    #[must_use]
    pub fn with_segment_bytes(mut self, bytes: u32) -> Self {
        self.segment_bytes = bytes.clamp(4 << 10, 1 << 30);
        self
    }
}

/// Keeps blocks in append-only files of its own.
///
/// A payload byte is written once and synced with its commit; writers that come together share one. Holds about 70 bytes of
/// memory for each block, up to 8 MiB for those that are read next, and at most 64 files open. Space of removed blocks comes
/// back by [`compact`](Self::compact); a removal itself gives back a segment in which hardly anything is live.
pub struct SegmentStore {
    disk: Arc<dyn Disk>,
    index: Box<dyn Index>,
    table: Table,
    queue: Queue,
    writer: Mutex<Writer>,
    compacting: Mutex<()>,
    damage: Vec<SegmentError>,
    buffers: Arc<Buffers>,
    /// Dropped last.
    _lock: DiskLock,
}

impl SegmentStore {
    /// Opens the store in the folder `path`, which is created if it is not there.
    ///
    /// A folder of another backend, or with other files in it, is refused.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(path, SegmentOptions::default())
    }

    /// Opens the store in the folder `path` with `options`.
    pub fn open_with(path: impl AsRef<Path>, options: SegmentOptions) -> Result<Self, StoreError> {
        let disk = FileDisk::open(claim(path.as_ref(), "segments")?);
        Self::open_on(Arc::new(disk.map_err(|e| StoreError::new(StoreOp::Open, e))?), options)
    }

    /// Opens the store on `disk`, in which it uses all names that end with `.seg`.
    pub fn open_on(disk: Arc<dyn Disk>, options: SegmentOptions) -> Result<Self, StoreError> {
        Self::replay(disk, options).map_err(|e| StoreError::new(StoreOp::Open, e))
    }

    /// Damage that was found when the store was opened; blocks that cannot be read because of it are not held.
    pub fn damage(&self) -> &[SegmentError] {
        &self.damage
    }

    /// Bytes of all segments.
    pub fn disk_bytes(&self) -> u64 {
        self.table.bytes()
    }

    fn replay(disk: Arc<dyn Disk>, options: SegmentOptions) -> Result<Self, SegmentError> {
        let lock = disk.lock().map_err(|e| match e.kind() {
            io::ErrorKind::WouldBlock => SegmentError::Locked,
            _ => e.into(),
        })?;
        // An earlier process may have been killed before it synced the name of the last segment.
        disk.sync()?;
        let mut names: Vec<Name> = disk.list()?.iter().filter_map(|name| Name::parse(name)).collect();
        names.sort();
        let index = MemoryIndex::default();
        let table = Table::new(disk.clone());
        let mut damage = Vec::new();
        let mut writer = None;
        for (i, name) in names.iter().enumerate() {
            let last = i + 1 == names.len();
            let mut file = if last { disk.open(&name.to_string())? } else { disk.read(&name.to_string())? };
            if last {
                // The same goes for the bytes of the last commit, which must be durable before a block counts as held.
                file.sync()?;
            }
            table.insert(*name);
            let mut footer = Vec::new();
            let found = scan::load(&*file, *name, last, &mut |at, record| {
                if last {
                    record.push_entry(&mut footer);
                }
                take(&index, &table, *name, at, record);
                Ok(())
            })?;
            table.set_bytes(name.number, found.end);
            damage.extend(found.damaged.iter().map(|spot| SegmentError::damaged(*spot)));
            if last {
                cut(&mut *file, &found)?;
                let footer = Some(footer).filter(|_| found.damaged.is_empty());
                writer = Some(Writer::new(*name, file, &found, footer, options));
            } else {
                disk.complete(&name.to_string())?;
            }
        }
        let writer = match writer {
            Some(writer) => writer,
            None => Writer::create(&*disk, &table, options)?,
        };
        Ok(Self {
            disk,
            index: Box::new(index),
            table,
            queue: Queue::default(),
            writer: Mutex::new(writer),
            compacting: Mutex::new(()),
            damage,
            buffers: Buffers::new(FREE_BYTES),
            _lock: lock,
        })
    }

    /// The bytes of the block of `key`.
    fn read(&self, key: &[u8]) -> Result<Option<(Place, Bytes)>, SegmentError> {
        let mut last = None;
        loop {
            let Some(place) = self.index.find(key) else { return Ok(None) };
            if let Some((_, file)) = self.table.reader(place.spot.segment)? {
                return Ok(Some((place, self.read_place(&*file, place)?)));
            }
            // Compaction has just moved the block and removed the segment.
            if last.replace(place) == Some(place) {
                return Err(SegmentError::damaged(place.spot));
            }
        }
    }

    /// The bytes of the block of `key`, if its record is where it was and its checksum is right.
    fn read_sealed(&self, key: &[u8]) -> Result<Option<Bytes>, SegmentError> {
        let Some(place) = self.index.find(key) else { return Ok(None) };
        let Some((salt, file)) = self.table.reader(place.spot.segment)? else { return Ok(None) };
        // The record of a block that was moved has a spot between key and data.
        let before = (HEADER_LEN + key.len() + SPOT_LEN) as u32;
        let (Some(at), Some(len)) = (place.spot.offset.checked_sub(before), place.len.checked_add(before))
        else {
            return Ok(None);
        };
        let bytes = self.read_place(&*file, Place { spot: Spot { offset: at, ..place.spot }, len })?;
        let sealed = [SPOT_LEN, 0].into_iter().any(|skipped| {
            let record = bytes.get(skipped..).and_then(|bytes| {
                let header = Header::parse(bytes, u64::from(at) + skipped as u64)?;
                Record::parse(&header, bytes.get(HEADER_LEN..)?, salt)
            });
            record.is_some_and(|record| record.key == key && record.data_at() + skipped as u32 == before)
        });
        Ok(sealed.then(|| bytes.slice(before as usize..)))
    }

    /// What is at `place`; fewer bytes if the file ends before.
    fn read_place(&self, file: &dyn DiskFile, place: Place) -> io::Result<Bytes> {
        let (at, len) = (place.spot.offset.into(), place.len as usize);
        let mut buffer = self.buffers.take(len);
        let count = file.read_at(at, buffer.space(len))?;
        buffer.filled(count.min(len));
        Ok(buffer.into())
    }
}

/// Notes what a record says, or an entry of a footer, that stands at byte `at` of the segment `name`.
fn take(index: &dyn Index, table: &Table, name: Name, at: u32, record: &Record<'_>) {
    let held = index.find(record.key);
    let spot = Spot { segment: name.number, offset: at.saturating_add(record.data_at()) };
    let place = match record.kind {
        Kind::Put | Kind::Moved => Some(Place { spot, len: record.data_len }),
        Kind::Tombstone | Kind::Footer => {
            table.add_tombstone(name.number, record.size());
            if held.map(|held| held.spot) != record.target {
                return;
            }
            None
        }
    };
    if let Some(held) = held {
        table.remove_live(held.spot.segment, live_size(record.key, held.len));
    }
    if let Some(place) = place {
        table.add_live(spot.segment, live_size(record.key, place.len));
    }
    index.apply(&mut std::iter::once((record.key.to_vec(), place)));
}

/// What a block counts in its segment.
fn live_size(key: &[u8], len: u32) -> u64 {
    (HEADER_LEN + key.len()) as u64 + u64::from(len)
}

/// Takes the rest of a torn append away from the last segment.
fn cut(file: &mut dyn crate::DiskFile, found: &Scanned) -> io::Result<()> {
    let mut magic = [0; MAGIC.len()];
    let new =
        found.end == u64::from(FIRST) && (file.read_at(0, &mut magic)? < magic.len() || magic != *MAGIC);
    if new {
        file.truncate(0)?;
        file.append(MAGIC)?;
    } else if file.len()? > found.end {
        file.truncate(found.end)?;
    } else {
        return Ok(());
    }
    file.sync()
}

impl std::fmt::Debug for SegmentStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentStore").finish_non_exhaustive()
    }
}

impl BlockStore for SegmentStore {
    fn get(&self, cid: &Cid) -> Result<Option<Block>, StoreError> {
        let read = self.read(&key(cid)).map_err(|e| StoreError::new(StoreOp::Get, e).on(cid))?;
        let Some((place, data)) = read else { return Ok(None) };
        let block = Block::from_cid(*cid, data).map_err(|e| {
            let Spot { segment, offset } = place.spot;
            let damaged = BlockError::DamagedAt { segment, offset };
            StoreError::new(StoreOp::Get, if e == BlockError::Mismatch { damaged } else { e }).on(cid)
        })?;
        Ok(Some(block))
    }

    fn get_unhashed(&self, cid: &Cid) -> Result<Option<Bytes>, StoreError> {
        let sealed = self.read_sealed(&key(cid)).map_err(|e| StoreError::new(StoreOp::Get, e).on(cid))?;
        if sealed.is_some() {
            return Ok(sealed);
        }
        // It is not held, or being moved, or there is damage, which may be beside it.
        Ok(self.get(cid)?.map(|block| block.into_parts().1))
    }

    fn size(&self, cid: &Cid) -> Result<Option<u64>, StoreError> {
        Ok(self.index.find(&key(cid)).map(|place| place.len.into()))
    }

    fn put_many(&self, blocks: &[Block]) -> Result<(), StoreError> {
        check_batch(blocks)?;
        let new = blocks.iter().map(|block| (key(block.cid()), block));
        // A block becomes visible only after its commit was synced: one that is seen here is durable.
        let new = new.filter(|(key, _)| self.index.find(key).is_none());
        let changes = new.map(|(key, block)| Change::put(key, block.data().clone())).collect();
        self.commit(changes).map(|_| ()).map_err(|e| StoreError::new(StoreOp::Put, e))
    }

    fn remove_many(&self, cids: &[Cid]) -> Result<(), StoreError> {
        let held = cids.iter().map(key).filter(|key| self.index.find(key).is_some());
        let changes: Vec<Change> = held.map(|key| Change::Remove { key }).collect();
        self.commit(changes).map_err(|e| StoreError::new(StoreOp::Remove, e))?;
        self.compact_in_passing();
        Ok(())
    }

    fn cids(&self, after: Option<&Cid>, limit: usize) -> Result<Vec<Cid>, StoreError> {
        let mut after = after.map(key);
        let mut cids = Vec::new();
        while cids.len() < limit {
            let keys = self.index.keys(after.as_deref(), KEYS_AT_ONCE.min(limit - cids.len()));
            for key in &keys {
                cids.push(cid_of_key(key)?);
            }
            after = keys.into_iter().last();
            if after.is_none() {
                break;
            }
        }
        Ok(cids)
    }

    fn reclaim(&self) -> Result<(), StoreError> {
        let _compacting = self.begin_compaction();
        match self.compact_all() {
            // A segment that is damaged stays; `compact` names it.
            Ok(_) | Err(SegmentError::Damaged { .. }) => Ok(()),
            Err(e) => Err(StoreError::new(StoreOp::Compact, e)),
        }
    }
}

/// Why a store of segments failed.
#[non_exhaustive]
#[derive(Debug, Clone, thiserror::Error)]
pub enum SegmentError {
    /// The disk failed. What was to be written counts as not written, and the store may be used on.
    #[error("the disk of the segments failed")]
    Disk(#[source] Arc<io::Error>),
    /// A record that was acknowledged is damaged; the others are not touched by it.
    #[error("segment {segment:08x} is damaged at byte {offset}")]
    Damaged {
        /// Number of the segment, which its file's name begins with, in hexadecimal digits.
        segment: u32,
        /// Byte in it.
        offset: u32,
    },
    /// Somebody else has the store open.
    #[error("another process has the segments open")]
    Locked,
    /// 4,294,967,295 segments were written.
    #[error("no number is left for another segment")]
    Full,
}

impl SegmentError {
    fn damaged(spot: Spot) -> Self {
        Self::Damaged { segment: spot.segment, offset: spot.offset }
    }
}

impl From<io::Error> for SegmentError {
    fn from(e: io::Error) -> Self {
        Self::Disk(Arc::new(e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_that_were_put_or_moved_are_read_by_their_checksum() {
        let folder = tempfile::tempdir().unwrap();
        let options = SegmentOptions::default().with_segment_bytes(16 << 10);
        let store = SegmentStore::open_with(folder.path(), options).unwrap();
        let blocks: Vec<Block> = (0..40_u8).map(|i| Block::raw(vec![i; 4000])).collect();
        store.put_many(&blocks).unwrap();
        let read = |block: &Block| store.read_sealed(&key(block.cid())).unwrap();
        assert!(blocks.iter().all(|block| read(block).as_ref() == Some(block.data())));

        let spots = || -> Vec<_> { blocks.iter().map(|block| store.index.find(&key(block.cid()))).collect() };
        let before = spots();
        let removed: Vec<Cid> =
            blocks.iter().enumerate().filter(|(i, _)| i % 3 > 0).map(|(_, block)| *block.cid()).collect();
        store.remove_many(&removed).unwrap();
        while store.compact().unwrap().segments > 0 {}
        let moved =
            before.iter().zip(spots()).filter(|(before, after)| after.is_some() && **before != *after);
        assert!(moved.count() > 5, "compaction moved blocks");
        for (i, block) in blocks.iter().enumerate() {
            assert!(read(block).as_ref() == (i % 3 == 0).then_some(block.data()), "block {i}");
        }
    }
}
