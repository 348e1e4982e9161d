//! Pins, and the collection of what no pin holds.
//!
//! ```text
//! writer   hold -- put, put .. -- pin -- drop        what goes through a hold stays until the hold is dropped
//! sweep         begin -- mark -- remove, remove ..   what no pin reaches, no hold holds and nobody touched since it began
//! ```
//!
//! **No lock is held over a sweep.** A sweep that begins notes from then on what is put, and what a writer is told to be here
//! and so does not put again. It marks what the pins reach, then goes through the store in batches of 16 to 4096. What is to be removed in
//! a batch is chosen, under a lock, from what is neither marked nor noted nor held; from that moment until the batch is
//! gone, whoever touches a block of this very batch waits, and all others go on. So a touch comes either before the choice,
//! and the block stays, or after the removal, and the block is stored anew.
//!
//! **Pins.** A pin that is being set holds what it reaches, block by block, while it looks whether all of it is here; the hold ends
//! when the pin is durable. One that is removed is gone durably before a sweep can see it gone. A sweep reads the pins after it
//! began: one that it does not see is set later, by somebody who touches all blocks of it, or was never set.
//!
//! **Memory.** What was marked is remembered by fingerprints of 128 bits, whose key is drawn for each sweep: that two of a billion
//! blocks meet has a chance of 10^-20, which nobody can better. They take 20 to 39 bytes a block, twice that for a block with
//! links. What a hold holds, and what was touched, is a Bloom filter of three to twelve bytes a block, at most 22 MiB: it may keep
//! what it need not (less than one block in a thousand, up to seven million in a filter), until the hold or the sweep ends.
//!
//! ```text
//! pins, a Log:   record = 1 pin, 2 unpin: u8 | row          row = CID | 0 direct, 1 recursive: u8 | name, UTF-8
//! pins.new       the rows that hold, written anew: takes the place of pins when that is mostly history
//! ```

mod filter;
mod guard;
mod ledger;
mod owner;
mod remove;
mod sweep;
mod verify;
mod walk;

use std::sync::Arc;

use bytes::Bytes;
use cid::Cid;

use self::{
    guard::Guard,
    ledger::Ledger,
    owner::Names,
    walk::{Seen, Walk, is_here, links, read},
};
pub use self::{
    guard::Hold,
    ledger::{MAX_PIN_NAME_LEN, Pin, PinKind},
    owner::{Owner, PathStep},
    remove::Removal,
    sweep::Sweep,
    verify::{Finding, Verification},
};
use crate::{Block, BlockStore, DecodeError, Disk, FetchError, LogError, StoreError};

/// Blocks that a walk may remember, unless told otherwise.
const DEFAULT_BLOCKS_MAX: usize = 200_000_000;

/// A store of any kind that knows what is to be kept, and [sweeps](Self::sweep) the rest.
///
/// ```
/// use std::{ops::ControlFlow, sync::Arc, time::Instant};
/// use lightstreams_store::{FileDisk, ImportOptions, Input, MemoryStore, Pin, PinnedStore};
///
/// # let folder = tempfile::tempdir()?;
/// let store = PinnedStore::open(MemoryStore::default(), Arc::new(FileDisk::open(folder.path())?))?;
/// let hold = store.hold(); // from here on no sweep takes what is written through it
/// let root = ImportOptions::unixfs_v1_2025().import(Input::reader(&b"hello"[..]), &hold, &mut |_| ())?;
/// let pin = Pin::recursive(root.cid, "greeting");
/// store.pin(&pin)?;
/// drop(hold);
///
/// let start = Instant::now();
/// let mut sweep = || store.sweep(&|| start.elapsed(), &mut |_progress| ControlFlow::Continue(()));
/// assert_eq!(sweep()?.removed, 0);
/// store.unpin(&pin)?;
/// assert_eq!(sweep()?.removed, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Whoever writes what is to be pinned writes it through a [`Hold`]. Nothing may be put into the store behind its back. A
/// [`Quota`](crate::Quota) goes below it, so that it counts what a sweep removes; when to sweep, say from nine tenths of the quota on,
/// its owner decides.
///
/// As a `BlockStore` it does what the store below does, [`remove_many`](BlockStore::remove_many) included, which asks no
/// pin; what is put, or said to be here, while a sweep runs, is kept by that sweep.
#[derive(Debug)]
pub struct PinnedStore<S> {
    store: S,
    guard: Arc<Guard>,
    ledger: Arc<Ledger>,
    blocks_max: usize,
}

impl<S: BlockStore> PinnedStore<S> {
    /// Keeps the pins of `store` on `disk`, in the files `pins` and `pins.new`; nobody else may have them open meanwhile, which
    /// the lock of the store below sees to where one disk belongs to one store.
    ///
    /// A store that never had pins has none: its first sweep, before anything is pinned, leaves nothing.
    pub fn open(store: S, disk: Arc<dyn Disk>) -> Result<Self, PinError> {
        let ledger = Arc::new(Ledger::open(disk)?);
        Ok(Self { store, guard: Arc::default(), ledger, blocks_max: DEFAULT_BLOCKS_MAX })
    }

    /// The same store, in which no walk (of a pin, a sweep, a verification) remembers more than `blocks_max` blocks, those with links
    /// counted twice; 200 million, at most 8 GB, unless told otherwise.
    #[must_use]
    pub fn with_blocks_max(mut self, blocks_max: usize) -> Self {
        self.blocks_max = blocks_max;
        self
    }

    /// The store below. What is put into it directly is not protected.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The same pins and holds over `store`, which shows the blocks of this one in another way: what it does not list is not swept.
    pub fn view<T: BlockStore>(&self, store: T) -> PinnedStore<T> {
        let (guard, ledger) = (self.guard.clone(), self.ledger.clone());
        PinnedStore { store, guard, ledger, blocks_max: self.blocks_max }
    }

    /// Protects what goes through it from now on from every sweep, until it is dropped.
    pub fn hold(&self) -> Hold<&S> {
        Hold::new(&self.store, self.guard.clone())
    }

    /// [`hold`](Self::hold) without a borrow, for a store behind an [`Arc`].
    pub fn hold_owned(&self) -> Hold<S>
    where
        S: Clone,
    {
        Hold::new(self.store.clone(), self.guard.clone())
    }

    /// Sets `pin`; returns once it survives a power cut, as all that it holds does already.
    ///
    /// It is refused, with [`PinError::Damage`], unless all that it holds is here and its links can be read. A pin that was set
    /// already stays; the same CID may have several.
    pub fn pin(&self, pin: &Pin) -> Result<(), PinError> {
        self.pin_many(std::slice::from_ref(pin))
    }

    /// Sets `pins` with one sync. After a failure or a power cut some of them may be set.
    pub fn pin_many(&self, pins: &[Pin]) -> Result<(), PinError> {
        let hold = self.hold();
        let mut seen = Seen::new(self.blocks_max);
        for pin in pins {
            pin.check()?;
            self.trace(&hold, pin, &mut seen, true, &mut || true)?;
        }
        self.ledger.set(pins, true)?;
        Ok(())
    }

    /// Removes `pin`; returns whether it was set, once its removal survives a power cut.
    pub fn unpin(&self, pin: &Pin) -> Result<bool, PinError> {
        Ok(self.ledger.set(std::slice::from_ref(pin), false)? > 0)
    }

    /// Removes `pins` with one sync; returns how many were set. After a failure or a power cut some of them may be removed.
    pub fn unpin_many(&self, pins: &[Pin]) -> Result<usize, PinError> {
        self.ledger.set(pins, false)
    }

    /// At most `limit` pins in ascending order of the bytes of their CIDs, from the first one after `after` on.
    pub fn pins(&self, after: Option<&Pin>, limit: usize) -> Vec<Pin> {
        self.ledger.page(after, limit)
    }

    /// The pins on `cid` itself; for all that hold it, see [`owners`](Self::owners).
    pub fn pins_of(&self, cid: &Cid) -> Vec<Pin> {
        self.ledger.pins_of(cid)
    }

    /// At most `limit` pins through which the block of `cid` is kept, with a path for each. Walks pin after pin.
    pub fn owners(&self, cid: &Cid, limit: usize) -> Result<Vec<Owner>, PinError> {
        let mut owners = Vec::new();
        for pin in self.each_pin() {
            if owners.len() >= limit {
                break;
            }
            let (mut walk, mut seen) = (Walk::new(&pin), Seen::new(self.blocks_max));
            while let Some(found) = walk.next(&mut seen)? {
                if found.hash() == cid.hash() {
                    owners.push(Owner::new(&self.store, &pin, &walk, found, &mut Names::default()));
                    break;
                }
                // What cannot be read hides what is below it.
                if walk.goes_below(&found)
                    && let Ok(below) = read(&self.store, &found).and_then(|data| links(&found, &data))
                {
                    walk.enter(found, below);
                }
            }
        }
        Ok(owners)
    }

    /// All pins, page by page: others are set and removed meanwhile.
    fn each_pin(&self) -> impl Iterator<Item = Pin> {
        let mut after = None;
        let pages = std::iter::from_fn(move || {
            let page = self.pins(after.as_ref(), PAGE);
            after = Some(page.last()?.clone());
            Some(page)
        });
        pages.flatten()
    }

    /// Visits what `pin` holds and `seen` has not; `check` looks for leaves too. Ends early, with `false`, when `tick`, called
    /// at each block, says `false`.
    fn trace(
        &self,
        store: &dyn BlockStore,
        pin: &Pin,
        seen: &mut Seen,
        check: bool,
        tick: &mut dyn FnMut() -> bool,
    ) -> Result<bool, PinError> {
        let mut walk = Walk::new(pin);
        while let Some(cid) = walk.next(seen)? {
            if !tick() {
                return Ok(false);
            }
            let below = if walk.goes_below(&cid) {
                read(store, &cid).and_then(|data| links(&cid, &data))
            } else if check {
                is_here(store, &cid).map(|()| Vec::new())
            } else {
                continue;
            };
            match below {
                Ok(below) => walk.enter(cid, below),
                Err(fault) => {
                    let owner = Some(Owner::new(&self.store, pin, &walk, cid, &mut Names::default()));
                    return Err(PinError::Damage(Box::new(Damage { cid, fault, owner })));
                }
            }
        }
        Ok(true)
    }
}

/// Pins, and blocks, that are listed at once.
const PAGE: usize = 1024;

impl<S: BlockStore> BlockStore for PinnedStore<S> {
    fn get(&self, cid: &Cid) -> Result<Option<Block>, StoreError> {
        self.store.get(cid)
    }

    fn get_unhashed(&self, cid: &Cid) -> Result<Option<Bytes>, StoreError> {
        self.store.get_unhashed(cid)
    }

    fn size(&self, cid: &Cid) -> Result<Option<u64>, StoreError> {
        // A writer that is told that a block is here does not put it.
        self.guard.touch(None, &mut std::iter::once(cid));
        self.store.size(cid)
    }

    fn put_many(&self, blocks: &[Block]) -> Result<(), StoreError> {
        self.guard.touch(None, &mut blocks.iter().map(Block::cid));
        self.store.put_many(blocks)
    }

    fn remove_many(&self, cids: &[Cid]) -> Result<(), StoreError> {
        self.store.remove_many(cids)
    }

    fn cids(&self, after: Option<&Cid>, limit: usize) -> Result<Vec<Cid>, StoreError> {
        self.store.cids(after, limit)
    }

    fn reclaim(&self) -> Result<(), StoreError> {
        self.store.reclaim()
    }
}

/// A block that is not as it should be, and what it belongs to.
#[derive(Debug, thiserror::Error)]
#[error("block {cid} {fault}{}", .owner.as_ref().map(|owner| format!("; it is {owner}")).unwrap_or_default())]
pub struct Damage {
    /// The block.
    pub cid: Cid,
    /// What is wrong with it.
    pub fault: BlockFault,
    /// A pin that holds it, and how; `None` if no pin does. [`PinnedStore::owners`] finds the others.
    pub owner: Option<Owner>,
}

/// What is wrong with a block.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum BlockFault {
    /// It is not in the store: fetch it.
    #[error("is not here")]
    Missing,
    /// The store cannot read it, or what it reads does not hash to the CID: fetch it again.
    #[error("cannot be read ({}: {})", .0, .0.source)]
    Unreadable(StoreError),
    /// Its bytes are those that the CID names, and none of its codec: what it links to is unknown. Pin it directly, if at all.
    #[error("has links that cannot be read ({0})")]
    Malformed(DecodeError),
    /// Blocks of this codec may have links that are not understood here, and so cannot be kept. Pin it directly, if at all.
    #[error("has a codec whose links are unknown here, 0x{code:x}")]
    UnknownCodec {
        /// Multicodec of the codec.
        code: u64,
    },
}

/// Why pins were not changed, or the store not swept or verified.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The file of the pins could not be read or written. After [`LogError::Stopped`], open it again: until then nothing is
    /// pinned, unpinned or swept.
    #[error("the pins could not be read or written")]
    Log(#[from] LogError),
    /// The file of the pins has a record that is not understood here; it was left as it is.
    #[error("the file of the pins has a record of another version")]
    UnknownRecord,
    /// The name of a pin is longer than [`MAX_PIN_NAME_LEN`]; nothing was written.
    #[error("a pin's name of {len} bytes, more than {MAX_PIN_NAME_LEN}")]
    LongName {
        /// Its length.
        len: usize,
    },
    /// A block stands in the way: it is missing, or what it links to cannot be known. Nothing was pinned or removed.
    #[error(transparent)]
    Damage(Box<Damage>),
    /// More blocks are to be remembered than is [allowed](PinnedStore::with_blocks_max). Nothing was pinned or removed.
    #[error("more than {blocks_max} blocks are to be remembered")]
    TooMany {
        /// How many are allowed.
        blocks_max: usize,
    },
    /// A sweep is running, and another cannot.
    #[error("a sweep is running")]
    Sweeping,
    /// The store below failed. What was pinned stays pinned, and a sweep may be begun again.
    #[error("the store of the pinned blocks failed")]
    Store(#[from] StoreError),
    /// The exchange failed, which says nothing about blocks and peers.
    #[error("fetching what is damaged failed")]
    Fetch(#[source] FetchError),
}
