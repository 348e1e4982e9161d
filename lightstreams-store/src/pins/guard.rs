//! What a sweep must leave alone, though no pin holds it.

use std::{
    collections::{BTreeMap, HashSet},
    hash::{BuildHasher, RandomState},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use cid::Cid;

use super::filter::Filter;
use crate::{Block, BlockStore, StoreError, spin};

/// Between writers and a sweep.
#[derive(Debug, Default)]
pub(super) struct Guard {
    /// Nobody who may send a block knows them, and so cannot make another look like it.
    keys: RandomState,
    state: Mutex<State>,
    /// A batch was removed.
    removed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// What was touched since the running sweep began.
    touched: Option<Filter>,
    holds: BTreeMap<u64, Held>,
    last_hold: u64,
    /// What is being removed, by hashes: who touches another block of the same hash waits in vain, and no harm is done.
    dying: HashSet<u64>,
    /// Threads that wait for the end of that.
    waiting: u32,
}

/// What a hold holds.
#[derive(Debug, Default)]
struct Held {
    filter: Filter,
    /// It was dropped while a sweep ran: what it held may have been pinned after the sweep read the pins.
    ended: bool,
}

impl Guard {
    // It is changed in steps that each keep at least what must be kept.
    fn state(&self) -> MutexGuard<'_, State> {
        spin::lock(&self.state)
    }

    fn hash(&self, cid: &Cid) -> u64 {
        self.keys.hash_one((cid.hash().code(), cid.hash().digest()))
    }

    /// Notes that somebody relies on `cids` to stay, or to be stored by a put that follows. Waits for the removal of any of them.
    pub(super) fn touch(&self, hold: Option<u64>, cids: &mut dyn Iterator<Item = &Cid>) {
        if hold.is_none() && self.state().touched.is_none() {
            return;
        }
        let hashes: Vec<u64> = cids.map(|cid| self.hash(cid)).collect();
        let mut state = self.state();
        while !state.dying.is_empty() && hashes.iter().any(|hash| state.dying.contains(hash)) {
            state.waiting += 1;
            state = self.removed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        let State { touched, holds, .. } = &mut *state;
        let held = hold.and_then(|hold| holds.get_mut(&hold)).map(|held| &mut held.filter);
        for filter in touched.iter_mut().chain(held) {
            hashes.iter().for_each(|hash| filter.insert(*hash));
        }
    }

    fn begin_hold(&self) -> u64 {
        let mut state = self.state();
        state.last_hold += 1;
        let hold = state.last_hold;
        state.holds.insert(hold, Held::default());
        hold
    }

    fn end_hold(&self, hold: u64) {
        let mut state = self.state();
        if state.touched.is_none() {
            state.holds.remove(&hold);
        } else if let Some(held) = state.holds.get_mut(&hold) {
            held.ended = true;
        }
    }

    /// Begins a sweep, unless one is running.
    pub(super) fn begin_sweep(&self) -> Option<Sweeping<'_>> {
        let mut state = self.state();
        if state.touched.is_some() {
            return None;
        }
        state.touched = Some(Filter::default());
        Some(Sweeping(self))
    }
}

/// A sweep that is running, until it is dropped.
pub(super) struct Sweeping<'a>(&'a Guard);

impl<'a> Sweeping<'a> {
    /// Chooses those of `candidates` that nobody relies on. Until the answer is dropped, whoever touches one of them waits.
    pub(super) fn choose(&self, candidates: Vec<Cid>) -> Dying<'a> {
        let guard = self.0;
        let hashed: Vec<(u64, Cid)> = candidates.into_iter().map(|cid| (guard.hash(&cid), cid)).collect();
        let mut state = guard.state();
        let mut cids = Vec::with_capacity(hashed.len());
        for (hash, cid) in hashed {
            let touched = state.touched.as_ref().is_none_or(|touched| touched.contains(hash));
            if !touched && !state.holds.values().any(|held| held.filter.contains(hash)) {
                state.dying.insert(hash);
                cids.push(cid);
            }
        }
        Dying { guard, cids }
    }
}

impl Drop for Sweeping<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.touched = None;
        state.holds.retain(|_, held| !held.ended);
    }
}

/// A batch that is being removed.
pub(super) struct Dying<'a> {
    guard: &'a Guard,
    pub(super) cids: Vec<Cid>,
}

impl Drop for Dying<'_> {
    fn drop(&mut self) {
        let mut state = self.guard.state();
        state.dying.clear();
        let waiting = state.waiting > 0;
        drop(state);
        if waiting {
            self.guard.removed.notify_all();
        }
    }
}

/// A store through which is written what will be pinned.
///
/// Each block that is put through it, read through it, or found to be here through it ([`has`](BlockStore::has),
/// [`size`](BlockStore::size)), stays until the hold is dropped, whatever is swept meanwhile; blocks below it are protected when
/// they go through the hold themselves. Take it before the first block, drop it after the pin was set:
/// [`PinnedStore::pin`](super::PinnedStore::pin).
#[derive(Debug)]
pub struct Hold<S> {
    store: S,
    guard: Arc<Guard>,
    id: u64,
}

impl<S> Hold<S> {
    pub(super) fn new(store: S, guard: Arc<Guard>) -> Self {
        let id = guard.begin_hold();
        Self { store, guard, id }
    }

    fn touch(&self, cid: &Cid) {
        self.guard.touch(Some(self.id), &mut std::iter::once(cid));
    }
}

impl<S> Drop for Hold<S> {
    fn drop(&mut self) {
        self.guard.end_hold(self.id);
    }
}

impl<S: BlockStore> BlockStore for Hold<S> {
    fn get(&self, cid: &Cid) -> Result<Option<Block>, StoreError> {
        self.touch(cid);
        self.store.get(cid)
    }

    fn get_unhashed(&self, cid: &Cid) -> Result<Option<Bytes>, StoreError> {
        self.touch(cid);
        self.store.get_unhashed(cid)
    }

    fn size(&self, cid: &Cid) -> Result<Option<u64>, StoreError> {
        self.touch(cid);
        self.store.size(cid)
    }

    fn put_many(&self, blocks: &[Block]) -> Result<(), StoreError> {
        self.guard.touch(Some(self.id), &mut blocks.iter().map(Block::cid));
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
