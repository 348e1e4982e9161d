//! Reading all blocks, and mending those that are damaged.

use std::{
    collections::HashSet,
    ops::ControlFlow::{self, Break},
};

use super::{
    BlockFault, Damage, Hold, Owner, PAGE, PinError, PinnedStore,
    owner::Names,
    walk::{Seen, Walk, links, read},
};
use crate::{Block, BlockStore, Cid, Exchange, FetchError, MAX_WANTS, Session, StoreError};

/// Blocks that are read between two reports.
const READS: u64 = 256;
/// Bytes of fetched blocks that are stored in one commit.
const BATCH_BYTES: usize = 8 << 20;

/// What a verification found, or found so far.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verification {
    /// Pins whose blocks were read.
    pub pins: u64,
    /// Blocks that are what their CIDs say.
    pub blocks: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Blocks that are not, and were not repaired.
    pub damaged: u64,
    /// Blocks that were not, and are now.
    pub repaired: u64,
    /// The caller had it stopped.
    pub stopped: bool,
}

/// What a verification tells while it runs.
#[derive(Debug)]
pub enum Finding<'a> {
    /// It came as far as this.
    Progress(&'a Verification),
    /// A block is damaged, and is not repaired.
    Damaged(&'a Damage),
    /// A block was damaged, and came from peers.
    Repaired(&'a Damage),
}

impl<S: BlockStore> PinnedStore<S> {
    /// Reads all that pins hold, and then all other blocks, each once, and tells `report` of each that is missing or damaged, and
    /// what it belongs to. Others may do what they like beside it. Stops when `report` breaks it off.
    ///
    /// What is below a damaged block is not seen, unless another way leads there.
    pub fn verify(
        &self,
        report: &mut dyn FnMut(Finding<'_>) -> ControlFlow<()>,
    ) -> Result<Verification, PinError> {
        self.examine(None, report)
    }

    /// Does what [`verify`](Self::verify) does, and replaces what is damaged or missing below a pin by what `exchange` brings, and goes on
    /// below it. Leaves are fetched many at a time. What nobody gives is reported as damaged; damaged blocks that belong to no pin
    /// are left to the next sweep.
    pub fn repair(
        &self,
        exchange: &dyn Exchange,
        session: &Session,
        report: &mut dyn FnMut(Finding<'_>) -> ControlFlow<()>,
    ) -> Result<Verification, PinError> {
        self.examine(Some((exchange, session)), report)
    }

    fn examine(
        &self,
        peers: Option<(&dyn Exchange, &Session)>,
        report: &mut dyn FnMut(Finding<'_>) -> ControlFlow<()>,
    ) -> Result<Verification, PinError> {
        let mut seen = Seen::new(self.blocks_max);
        let (hold, done) = (self.hold(), Verification::default());
        let mut examination = Examination {
            pinned: self,
            hold,
            peers,
            report,
            done,
            lost: Vec::new(),
            names: Names::default(),
        };
        let result = examination.pinned(&mut seen).and_then(|()| examination.others(&seen));
        match result {
            Ok(()) => {}
            Err(Stop::Asked) => examination.done.stopped = true,
            Err(Stop::Failed(e)) => return Err(e),
        }
        Ok(examination.done)
    }
}

/// Why an examination ends early.
enum Stop {
    Asked,
    Failed(PinError),
}

impl From<PinError> for Stop {
    fn from(e: PinError) -> Self {
        Self::Failed(e)
    }
}

impl From<StoreError> for Stop {
    fn from(e: StoreError) -> Self {
        Self::Failed(e.into())
    }
}

struct Examination<'a, S> {
    pinned: &'a PinnedStore<S>,
    hold: Hold<&'a S>,
    peers: Option<(&'a dyn Exchange, &'a Session)>,
    report: &'a mut dyn FnMut(Finding<'_>) -> ControlFlow<()>,
    done: Verification,
    /// Damage that was not yet dealt with; at most [`MAX_WANTS`].
    lost: Vec<Damage>,
    names: Names,
}

impl<S: BlockStore> Examination<'_, S> {
    fn pinned(&mut self, seen: &mut Seen) -> Result<(), Stop> {
        let pinned = self.pinned;
        for pin in pinned.each_pin() {
            let mut walk = Walk::new(&pin);
            while let Some(cid) = walk.next(seen)? {
                let goes_below = walk.goes_below(&cid);
                let fault = match self.read(&cid, goes_below)? {
                    Ok(below) => {
                        walk.enter(cid, below);
                        continue;
                    }
                    Err(fault) => fault,
                };
                if !pinned.ledger.contains(&pin) {
                    // It was removed meanwhile, and its blocks swept. Another pin that holds this one comes here again.
                    seen.forget(&cid);
                    continue;
                }
                let owner = Some(Owner::new(&pinned.store, &pin, &walk, cid, &mut self.names));
                self.lost.push(Damage { cid, fault, owner });
                if self.lost.len() >= MAX_WANTS {
                    self.mend()?;
                }
                if goes_below && self.peers.is_some() {
                    self.mend()?;
                    if let Ok(below) = self.read(&cid, true)? {
                        walk.enter(cid, below);
                    }
                }
            }
            self.done.pins += 1;
        }
        self.mend()
    }

    /// What belongs to no pin.
    fn others(&mut self, seen: &Seen) -> Result<(), Stop> {
        let mut after = None;
        loop {
            let page = self.pinned.store.cids(after.as_ref(), PAGE)?;
            for cid in page.iter().filter(|cid| !seen.contains(cid)) {
                match self.read(cid, false)? {
                    // What is not here any more was swept.
                    Ok(_) | Err(BlockFault::Missing) => {}
                    Err(fault) => self.lost.push(Damage { cid: *cid, fault, owner: None }),
                }
            }
            self.mend()?;
            after = page.last().copied();
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Reads a block, and with `below` its links.
    fn read(&mut self, cid: &Cid, below: bool) -> Result<Result<Vec<Cid>, BlockFault>, Stop> {
        let data = match read(&self.pinned.store, cid) {
            Ok(data) => data,
            Err(fault) => return Ok(Err(fault)),
        };
        let links = if below { links(cid, &data) } else { Ok(Vec::new()) };
        if links.is_ok() {
            self.done.blocks += 1;
            self.done.bytes += data.len() as u64;
            if self.done.blocks.is_multiple_of(READS) {
                let done = self.done;
                self.tell(Finding::Progress(&done))?;
            }
        }
        Ok(links)
    }

    fn tell(&mut self, finding: Finding<'_>) -> Result<(), Stop> {
        if (self.report)(finding) == Break(()) { Err(Stop::Asked) } else { Ok(()) }
    }

    /// Fetches what was lost, if it may, and tells what came of it.
    fn mend(&mut self) -> Result<(), Stop> {
        let lost = std::mem::take(&mut self.lost);
        let came = self.fetch(&lost)?;
        for damage in &lost {
            if came.contains(&damage.cid) {
                self.done.repaired += 1;
                self.tell(Finding::Repaired(damage))?;
            } else {
                self.done.damaged += 1;
                self.tell(Finding::Damaged(damage))?;
            }
        }
        Ok(())
    }

    /// Replaces what can be had of `lost`; returns what came.
    fn fetch(&self, lost: &[Damage]) -> Result<HashSet<Cid>, PinError> {
        let mut came = HashSet::new();
        let Some((exchange, session)) = self.peers else { return Ok(came) };
        let wanted = |damage: &&Damage| {
            damage.owner.is_some() && matches!(damage.fault, BlockFault::Missing | BlockFault::Unreadable(_))
        };
        let wants: Vec<Cid> = lost.iter().filter(wanted).map(|damage| damage.cid).collect();
        if wants.is_empty() {
            return Ok(came);
        }
        let mut blocks: Vec<Block> = Vec::new();
        let mut bytes = 0;
        let mut keep = |blocks: &mut Vec<Block>| {
            let cids: Vec<Cid> = blocks.iter().map(|block| *block.cid()).collect();
            // A store that takes the damaged copy for the block does not write it again.
            self.hold.remove_many(&cids)?;
            self.hold.put_many(blocks)?;
            came.extend(cids);
            blocks.clear();
            Ok::<(), StoreError>(())
        };
        let fetched = exchange.fetch(&wants, session, &mut |block| {
            bytes += block.len();
            blocks.push(block);
            if bytes >= BATCH_BYTES {
                bytes = 0;
                keep(&mut blocks)?;
            }
            Ok(())
        });
        keep(&mut blocks)?;
        match fetched {
            Ok(()) | Err(FetchError::Missing { .. }) => Ok(came),
            Err(FetchError::Sink(e)) => Err(e.into()),
            Err(e) => Err(PinError::Fetch(e)),
        }
    }
}
