//! Space of removed blocks comes back.

use std::{
    io,
    sync::{MutexGuard, PoisonError, TryLockError},
};

use bytes::Bytes;

use super::{
    SegmentError, SegmentStore,
    record::{Kind, Spot},
    scan,
    writer::Change,
};
use crate::{StoreError, StoreOp, spin::lock};

/// Bytes that are copied in one commit, at least and at most.
const STEP_BYTES: [usize; 2] = [4 << 10, 1 << 20];
/// A shorter record counts as so many bytes: it takes as long.
const RECORD_BYTES: usize = 1 << 10;

/// What a compaction did.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compaction {
    /// Segments that were removed.
    pub segments: u64,
    /// Bytes that they had.
    pub read_bytes: u64,
    /// Bytes by which the store shrank.
    pub freed_bytes: u64,
}

impl SegmentStore {
    /// Removes all segments of which less than half is live, after copying what is. Others may read and write meanwhile.
    ///
    /// A segment in which a live block is damaged stays; the error names it, and comes after all others were dealt with.
    pub fn compact(&self) -> Result<Compaction, StoreError> {
        let _compacting = self.begin_compaction();
        self.compact_all().map_err(|e| StoreError::new(StoreOp::Compact, e))
    }

    /// Waits, asleep, for the end of the one that runs.
    pub(super) fn begin_compaction(&self) -> MutexGuard<'_, ()> {
        self.compacting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn compact_all(&self) -> Result<Compaction, SegmentError> {
        {
            let mut writer = lock(&self.writer);
            if self.table.is_dead_but_for(writer.number(), 2) {
                writer.roll(self)?;
            }
        }
        let (mut done, before, mut damage) = (Compaction::default(), self.disk_bytes(), Ok(()));
        while let Some(victim) = self.table.victim(2) {
            match self.compact_one(victim) {
                Ok(bytes) => {
                    done.segments += 1;
                    done.read_bytes += bytes;
                }
                Err(e @ SegmentError::Damaged { .. }) => {
                    self.table.leave_alone(victim);
                    damage = damage.and(Err(e));
                }
                Err(e) => return Err(e),
            }
        }
        done.freed_bytes = before.saturating_sub(self.disk_bytes());
        damage.map(|()| done)
    }

    /// Compacts one segment, if hardly anything in it is live and nobody else is at it.
    ///
    /// To copy half of a segment now would be in vain where the next removals take most of that too, as in a sweep. What was asked for is done already: a failure comes up when [`compact`](Self::compact) is called.
    pub(super) fn compact_in_passing(&self) {
        let _compacting = match self.compacting.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(e)) => e.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if let Some(victim) = self.table.victim(8)
            && let Err(SegmentError::Damaged { .. }) = self.compact_one(victim)
        {
            self.table.leave_alone(victim);
        }
    }

    /// Moves what is live in the segment `victim`, and removes it; returns its length.
    fn compact_one(&self, victim: u32) -> Result<u64, SegmentError> {
        let Some(name) = self.table.name(victim) else { return Ok(0) };
        let mut len = 0;
        if let Some((_, file)) = self.table.reader(victim)? {
            len = file.len()?;
            let (mut changes, mut bytes) = (Vec::new(), 0);
            let [least, most] = STEP_BYTES;
            let mut step = least;
            let needed = |target: &Spot| target.segment != victim && self.table.contains(target.segment);
            let found = scan::scan(&*file, name, false, &mut |at, record| {
                let spot = Spot { segment: victim, offset: at + record.data_at() };
                let block = record.kind != Kind::Tombstone;
                if block && self.index.find(record.key).is_some_and(|place| place.spot == spot) {
                    bytes += record.data.len().max(RECORD_BYTES);
                    let data = Bytes::copy_from_slice(record.data);
                    changes.push(Change::moving(record.key.to_vec(), spot, data));
                }
                if let Some(target) = record.target.filter(needed) {
                    bytes += RECORD_BYTES;
                    changes.push(Change::Void { key: record.key.to_vec(), target });
                }
                if bytes >= step {
                    bytes = 0;
                    let waited = self.commit(std::mem::take(&mut changes))?;
                    // Whoever adds waits for a step to end. Where nobody does, large ones share a sync.
                    step = if waited { step / 2 } else { step + step / 32 };
                    step = step.clamp(least, most);
                }
                Ok(())
            })?;
            self.commit(changes)?;
            if self.table.live(victim) > 0 {
                let first = found.damaged.first().copied();
                return Err(SegmentError::damaged(first.unwrap_or(Spot { segment: victim, offset: 0 })));
            }
            match self.disk.remove(&name.to_string()) {
                // An earlier attempt got as far as this.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                result => result?,
            }
        }
        // Until its name is gone for good, tombstones for what it holds are needed.
        self.disk.sync()?;
        self.table.remove(victim);
        Ok(len)
    }
}
