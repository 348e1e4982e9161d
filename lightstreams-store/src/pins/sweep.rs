//! Removing what is not kept.

use std::{ops::ControlFlow, time::Duration};

use super::{PAGE, PinError, PinnedStore, walk::Seen};
use crate::{BlockStore, Cid};

/// Blocks that are marked between two reports.
const MARKS: u64 = 4096;

/// What a sweep did, or did so far.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sweep {
    /// Pins whose blocks were marked.
    pub pins: u64,
    /// Blocks that pins hold; one with links counts once for each codec under which it is linked.
    pub marked: u64,
    /// Blocks of the store that were looked at after that.
    pub checked: u64,
    /// Blocks that were removed.
    pub removed: u64,
    /// The caller had it stopped.
    pub stopped: bool,
}

impl<S: BlockStore> PinnedStore<S> {
    /// Removes each block that no pin holds, but for those that went through a [`Hold`](super::Hold) that was open meanwhile, and those
    /// that were put, or found to be here, since it began. Others read, write, pin and unpin beside it.
    ///
    /// It takes nothing but dead blocks, however it ends: by itself, by a failure, with the power, or because `report`, which is called
    /// every few thousand blocks, breaks it off. Nothing is locked during the call of `report`, which may wait to slow it down.
    ///
    /// `clock` tells the time since any moment, and does not go back; [`Instant::elapsed`](std::time::Instant::elapsed) will do. By it, as many blocks are
    /// removed at once as take about twice as long as a few, from 4 to 4096: whoever adds waits for that long at most.
    ///
    /// If the links of a pinned block cannot be known, the error says so before anything is removed: [repair](Self::repair) it, or remove
    /// the pin. One sweep runs at a time. After it, but not
    /// where it was broken off, the store [gives the space back](BlockStore::reclaim).
    pub fn sweep(
        &self,
        clock: &dyn Fn() -> Duration,
        report: &mut dyn FnMut(&Sweep) -> ControlFlow<()>,
    ) -> Result<Sweep, PinError> {
        // From here on what is touched is kept; the pins are read after that.
        let sweeping = self.guard.begin_sweep().ok_or(PinError::Sweeping)?;
        // A pin whose record failed may be on the disk.
        self.ledger.check()?;
        let mut done = Sweep::default();
        let Some(seen) = self.mark(&mut done, report)? else { return Ok(done) };

        let (mut pace, mut candidates, mut after) = (Pace::default(), Vec::new(), None);
        loop {
            let page = self.store.cids(after.as_ref(), PAGE)?;
            after = page.last().copied();
            done.checked += page.len() as u64;
            candidates.extend(page.into_iter().filter(|cid| !seen.contains(cid)));
            while candidates.len() >= pace.batch() || (after.is_none() && !candidates.is_empty()) {
                let batch: Vec<Cid> = candidates.split_off(candidates.len().saturating_sub(pace.batch()));
                let (count, begin) = (batch.len(), clock());
                let dying = sweeping.choose(batch);
                if !dying.cids.is_empty() {
                    self.store.remove_many(&dying.cids)?;
                }
                done.removed += dying.cids.len() as u64;
                if dying.cids.len() == count {
                    pace.took(clock().saturating_sub(begin));
                }
                // Those who waited for it come first, also where there are fewer cores than threads.
                std::thread::yield_now();
            }
            if after.is_none() {
                break;
            }
            if report(&done).is_break() {
                done.stopped = true;
                return Ok(done);
            }
        }
        drop((sweeping, seen));
        self.store.reclaim()?;
        Ok(done)
    }

    /// Visits what the pins hold; `None` if the caller broke it off.
    fn mark(
        &self,
        done: &mut Sweep,
        report: &mut dyn FnMut(&Sweep) -> ControlFlow<()>,
    ) -> Result<Option<Seen>, PinError> {
        let mut seen = Seen::new(self.blocks_max);
        for pin in self.each_pin() {
            let mut tick = || {
                done.marked += 1;
                !done.marked.is_multiple_of(MARKS) || report(done).is_continue()
            };
            if !self.trace(&self.store, &pin, &mut seen, false, &mut tick)? {
                done.stopped = true;
                return Ok(None);
            }
            done.pins += 1;
        }
        Ok(Some(seen))
    }
}

/// Blocks of a small removal.
const FEW: usize = 4;
/// Blocks of the largest one.
const MANY: usize = 4096;
/// One removal in so many is a small one; the size of the others changes then.
const ROUNDS: u32 = 16;

/// How many blocks to remove at once.
///
/// A store that adds one block syncs, as it does for one removal. Large removals share the sync between many; but who adds
/// meanwhile waits for all of them. Where a sync is dear, many cost little more than a few; where it is cheap, they do not.
struct Pace {
    many: usize,
    round: u32,
    /// Nanoseconds that few, and many, take as a rule.
    usual: [u64; 2],
}

impl Default for Pace {
    fn default() -> Self {
        Self { many: 2 * FEW, round: 0, usual: [0; 2] }
    }
}

impl Pace {
    /// Blocks of the next removal.
    fn batch(&self) -> usize {
        if self.round == 0 { FEW } else { self.many }
    }

    /// Notes how long it took.
    fn took(&mut self, time: Duration) {
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let [few, many] = &mut self.usual;
        let usual = if self.round == 0 { &mut *few } else { &mut *many };
        // One that had to wait for something else, a compaction say, is not the rule.
        *usual = match *usual {
            0 => time,
            usual => usual / 8 * 7 + time.min(usual.saturating_mul(4)) / 8,
        };
        self.round = (self.round + 1) % ROUNDS;
        if self.round == 0 {
            let (few, many) = (*few, *many);
            if many <= few.saturating_mul(3) / 2 {
                self.many = (self.many * 2).min(MANY);
            } else if many > few.saturating_mul(2) {
                self.many = (self.many / 2).max(FEW);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size that a pace comes to where a removal takes `sync` microseconds, and `each` nanoseconds more for each block.
    fn comes_to(sync: u64, each: u64) -> usize {
        let mut pace = Pace::default();
        for round in 0..1000u64 {
            let mut nanos = sync * 1000 + each * pace.batch() as u64;
            if round.is_multiple_of(50) {
                nanos *= 100;
            }
            pace.took(Duration::from_nanos(nanos));
        }
        pace.many
    }

    #[test]
    fn removals_are_large_where_a_sync_is_dear() {
        let sizes =
            [(0, 1000), (15, 1000), (300, 1000), (11_000, 1000)].map(|(sync, each)| comes_to(sync, each));
        let [memory, ram_disk, flash, disk] = sizes;
        assert!(memory <= 16 && (16..=64).contains(&ram_disk), "{sizes:?}");
        assert!((128..=512).contains(&flash) && disk == MANY, "{sizes:?}");
    }
}
