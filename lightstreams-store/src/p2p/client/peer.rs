//! A peer in the eyes of all sessions: what is wanted of it, and what may still come.

use std::collections::{HashMap, HashSet, VecDeque};

use cid::Cid;

use super::{Hash, SessionId};
use crate::p2p::wire::{Entry, WANTS_MAX, WantKind};

/// Blocks no longer wanted of a peer that may still arrive from it.
const LATE_MAX: usize = 2 * WANTS_MAX;

#[derive(Debug, Default)]
pub(super) struct Peer {
    pub(super) connected: bool,
    /// Whether what it said last of a block was that it has it: a new session then asks it without probing.
    pub(super) gave: bool,
    /// Whether it speaks a revision without presences.
    pub(super) plain: bool,
    wants: HashMap<Hash, Want>,
    late: HashSet<Hash>,
    late_order: VecDeque<Hash>,
    /// Entries not yet handed out, one for each hash: a peer takes a want and a cancel in one message for a cancel.
    entries: HashMap<Hash, Entry>,
    full: bool,
}

#[derive(Debug)]
struct Want {
    cid: Cid,
    priority: i32,
    kind: WantKind,
    of: Vec<(SessionId, usize)>,
}

impl Peer {
    pub(super) fn wanted(&self) -> usize {
        self.wants.len()
    }

    pub(super) fn has_room(&self) -> bool {
        self.wants.len() < WANTS_MAX
    }

    /// Wants `cid`, or word of it, for a slot.
    pub(super) fn want(&mut self, cid: Cid, kind: WantKind, priority: i32, of: (SessionId, usize)) {
        let want =
            self.wants.entry(*cid.hash()).or_insert_with(|| Want { cid, priority, kind, of: Vec::new() });
        let upgraded = kind == WantKind::Block && want.kind == WantKind::Have;
        if upgraded {
            want.kind = WantKind::Block;
            want.priority = priority;
        }
        if want.of.is_empty() || upgraded {
            let entry = Entry { cid: want.cid, priority, cancel: false, kind, send_dont_have: true };
            self.entries.insert(*cid.hash(), entry);
        }
        if !want.of.contains(&of) {
            want.of.push(of);
        }
        if upgraded {
            // A small block may answer both questions.
            self.expect_late(*cid.hash());
        }
    }

    /// A slot wants `hash` of this peer no more; with the last one, the want is cancelled.
    pub(super) fn withdraw(&mut self, hash: &Hash, of: (SessionId, usize)) {
        let Some(want) = self.wants.get_mut(hash) else { return };
        want.of.retain(|other| *other != of);
        if want.of.is_empty() {
            let cid = want.cid;
            self.wants.remove(hash);
            self.cancel(cid);
        }
    }

    /// A block came; returns whether it was asked for, now or lately.
    pub(super) fn came(&mut self, hash: &Hash) -> bool {
        // Who sends a block keeps no want of it.
        if self.wants.remove(hash).is_some() {
            self.entries.remove(hash);
            return true;
        }
        self.late.remove(hash)
    }

    /// The peer has the block; the slots that asked, unless the block itself is on its way.
    pub(super) fn has(&mut self, hash: &Hash) -> Vec<(SessionId, usize)> {
        let Some(want) = self.wants.get(hash) else { return Vec::new() };
        if want.kind == WantKind::Block {
            return want.of.clone();
        }
        self.wants.remove(hash).map(|want| want.of).unwrap_or_default()
    }

    /// The peer has not the block; the slots that asked.
    ///
    /// Kubo would push the block when it comes, and Helia say no second time that it is absent: both keep the want until it is
    /// cancelled.
    pub(super) fn lacks(&mut self, hash: &Hash) -> Vec<(SessionId, usize)> {
        let Some(want) = self.wants.remove(hash) else { return Vec::new() };
        self.cancel(want.cid);
        want.of
    }

    fn cancel(&mut self, cid: Cid) {
        let hash = *cid.hash();
        let unsent = self.entries.remove(&hash).is_some_and(|entry| !entry.cancel);
        if !unsent {
            let cancel =
                Entry { cid, priority: 0, cancel: true, kind: WantKind::Block, send_dont_have: false };
            self.entries.insert(hash, cancel);
        }
        self.expect_late(hash);
    }

    fn expect_late(&mut self, hash: Hash) {
        if self.late.insert(hash) {
            self.late_order.push_back(hash);
        }
        if self.late_order.len() > LATE_MAX
            && let Some(oldest) = self.late_order.pop_front()
        {
            self.late.remove(&oldest);
        }
    }

    /// What was sent may not have arrived.
    pub(super) fn resend(&mut self) {
        if self.wants.is_empty() {
            return;
        }
        let entry = |want: &Want| Entry {
            cid: want.cid,
            priority: want.priority,
            cancel: false,
            kind: want.kind,
            send_dont_have: true,
        };
        let hashes: Vec<Hash> = self.wants.keys().copied().collect();
        // If it did arrive, the answers come twice.
        hashes.into_iter().for_each(|hash| self.expect_late(hash));
        self.entries = self.wants.iter().map(|(hash, want)| (*hash, entry(want))).collect();
        self.full = true;
    }

    /// The entries to send and whether they replace those before, if there are any.
    pub(super) fn take_entries(&mut self) -> Option<(Vec<Entry>, bool)> {
        if self.entries.is_empty() {
            return None;
        }
        let mut entries: Vec<Entry> = self.entries.drain().map(|(_, entry)| entry).collect();
        entries.sort_by_key(|entry| (entry.cancel, std::cmp::Reverse(entry.priority)));
        Some((entries, std::mem::take(&mut self.full)))
    }
}
