//! Removing blocks by name.

use cid::Cid;

use super::{Owner, PinError, PinnedStore, walk::Seen};
use crate::BlockStore;

/// What became of a block that was to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// It is gone.
    Removed,
    /// It was not here.
    Missing,
    /// A pin holds it.
    Pinned(Owner),
    /// It is still here: a [`Hold`](super::Hold) holds it, somebody put it or looked for it meanwhile, or the store keeps it.
    InUse,
}

impl<S: BlockStore> PinnedStore<S> {
    /// Removes the blocks of `cids` as a [sweep](Self::sweep) would, those that nobody keeps and nobody relies on, and says what became of
    /// each. Refused with [`PinError::Sweeping`] while a sweep or another removal runs, and with [`PinError::Damage`] if it cannot be known
    /// what the pins hold.
    pub fn remove(&self, cids: &[Cid]) -> Result<Vec<Removal>, PinError> {
        // As in a sweep: what is touched from here on is kept, and the pins are read after that.
        let sweeping = self.guard.begin_sweep().ok_or(PinError::Sweeping)?;
        self.ledger.check()?;
        let mut seen = Seen::new(self.blocks_max);
        for pin in self.each_pin() {
            self.trace(&self.store, &pin, &mut seen, false, &mut || true)?;
        }
        let mut removals = Vec::with_capacity(cids.len());
        for cid in cids {
            let pinned = if seen.contains(cid) { self.owners(cid, 1)?.pop() } else { None };
            removals.push(match pinned {
                Some(owner) => Removal::Pinned(owner),
                None if seen.contains(cid) => Removal::InUse,
                None if !self.store.has(cid)? => Removal::Missing,
                None => {
                    let dying = sweeping.choose(vec![*cid]);
                    self.store.remove_many(&dying.cids)?;
                    if self.store.has(cid)? { Removal::InUse } else { Removal::Removed }
                }
            });
        }
        Ok(removals)
    }
}
