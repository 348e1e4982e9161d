//! A session: its blocks, its peers as it sees them, and who is asked for what.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use cid::Cid;
use libp2p::PeerId;

use super::{Hash, Limits};
use crate::PeerFailureKind;

/// What a block is taken for until one has arrived.
const SIZE_GUESS: usize = 256 * 1024;
/// The least that a block not yet seen is taken for: small blocks do not open the window to many large ones.
pub(super) const SIZE_GUESS_MIN: usize = 32 * 1024;
/// Probes under way at a peer of which nothing is known.
pub(super) const FIRST_PROBES: usize = 4;
/// Probes under way at a peer, for blocks that another one lacks.
const PROBES_MAX: usize = 64;
/// After so many blocks in a row that it lacks, a peer is probed again before it is asked.
const MISSES_MAX: u8 = 8;
/// Blocks that wait are looked at so far for what to probe.
const PROBE_AHEAD: usize = 128;
/// A peer whose blocks take longer than this from want to arrival is asked for less at a time.
const PACE_WANTED: Duration = Duration::from_millis(500);
/// A peer that takes so many times longer than usual is passed over while there are others.
const STALL_FACTOR: u32 = 8;
/// But not before this.
const STALL_MIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Session {
    pub(super) slots: Vec<Slot>,
    pub(super) by_hash: HashMap<Hash, Vec<usize>>,
    /// Slots not asked of anybody now.
    pub(super) todo: VecDeque<usize>,
    /// Slots neither delivered nor given up.
    pub(super) open: usize,
    pub(super) peers: Vec<Asked>,
    /// Whether peers that connect later are asked too.
    pub(super) anyone: bool,
    pub(super) outstanding: usize,
    pub(super) buffered: usize,
    pub(super) size_guess: usize,
    pub(super) patience: Duration,
    pub(super) progress: Instant,
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) cid: Cid,
    pub(super) state: SlotState,
    /// Bit n: the n-th peer of the session said that it does not have it.
    pub(super) lacking: u64,
    /// Bit n: it said that it has it.
    pub(super) having: u64,
    /// Bit n: it was asked whether it has it, and has not answered.
    pub(super) probing: u64,
    asked_at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SlotState {
    Todo,
    Asked { peer: usize },
    Done,
    Missing,
}

/// A peer in the eyes of one session.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) peer: PeerId,
    pub(super) state: AskedState,
    /// Blocks asked for.
    pub(super) outstanding: usize,
    /// Presences asked for.
    pub(super) probes: usize,
    /// Whether it has what is wanted more often than not, and is asked for blocks without probing.
    pub(super) proven: bool,
    /// Whether it speaks a revision that knows no presences: it is never probed, and what it lacks shows in its silence.
    pub(super) plain: bool,
    misses: u8,
    /// Bytes that may be asked of it at once.
    window: usize,
    /// How long a block takes from want to arrival, smoothed.
    pace: Option<Duration>,
    pub(super) progress: Instant,
    pub(super) strikes: u8,
    pub(super) dials: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AskedState {
    Connecting,
    Usable,
    Failed(PeerFailureKind),
}

/// What is to be asked of the n-th peer of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) by: usize,
    pub(super) index: usize,
}

impl Session {
    pub(super) fn new(now: Instant, cids: Vec<Cid>, peers: Vec<Asked>, patience: Duration) -> Self {
        let slot =
            |cid| Slot { cid, state: SlotState::Todo, lacking: 0, having: 0, probing: 0, asked_at: now };
        let slots: Vec<Slot> = cids.into_iter().map(slot).collect();
        let mut by_hash: HashMap<Hash, Vec<usize>> = HashMap::with_capacity(slots.len());
        for (index, slot) in slots.iter().enumerate() {
            by_hash.entry(*slot.cid.hash()).or_default().push(index);
        }
        Self {
            by_hash,
            todo: (0..slots.len()).collect(),
            open: slots.len(),
            slots,
            peers,
            anyone: false,
            outstanding: 0,
            buffered: 0,
            size_guess: SIZE_GUESS,
            patience,
            progress: now,
        }
    }

    /// Whether the session depends on peers, and not on its consumer.
    pub(super) fn is_waiting(&self) -> bool {
        self.open > 0 && self.buffered == 0
    }

    pub(super) fn place_of(&self, peer: &PeerId) -> Option<usize> {
        self.peers.iter().position(|asked| asked.peer == *peer)
    }

    /// The next block to ask for and whom, noted as asked; `may` says which peers take a want.
    pub(super) fn next_ask(
        &mut self,
        now: Instant,
        limits: &Limits,
        may: &dyn Fn(&PeerId) -> bool,
    ) -> Option<Ask> {
        if !fits(self.outstanding, self.size_guess, self.buffered, limits.session_window) {
            return None;
        }
        let size = self.size_guess;
        let mut usable = 0u64;
        let mut open = 0u64;
        for (by, asked) in self.peers.iter().enumerate() {
            if asked.state == AskedState::Usable {
                usable |= 1 << by;
                open |= u64::from(asked.fits_one_more(size) && may(&asked.peer)) << by;
            }
        }
        if open == 0 {
            return None;
        }
        let proven = self.bits(|asked| asked.proven);
        let plain = self.bits(|asked| asked.plain);
        let mut found = None;
        let mut second = None;
        for (at, index) in self.todo.iter().enumerate() {
            let Some(slot) = self.slots.get(*index) else { continue };
            let left = usable & !slot.lacking;
            // Where no other is left, to probe first would only take longer.
            let alone = if left.count_ones() == 1 { left } else { 0 };
            // What one peer lacks all others are asked about, and then one that has it for the block.
            let likely = if slot.lacking == 0 { proven } else { 0 };
            let candidates = open & left & (slot.having | plain | alone | likely);
            let best = (0..self.peers.len()).filter(|by| candidates & (1 << by) != 0).min_by_key(|by| {
                let having = slot.having & (1 << by) != 0;
                self.peers.get(*by).map(|asked| (asked.strikes, !having, asked.load(size)))
            });
            let Some(by) = best else { continue };
            let ask = Some((at, Ask { by, index: *index }));
            // Who is asked about a block may answer with it: it is asked for when there is nothing else to ask for.
            if slot.probing == 0 || slot.having != 0 {
                found = ask;
                break;
            }
            second = second.or(ask);
        }
        let found = found.or(second);
        let (at, ask) = found?;
        self.todo.remove(at);
        let slot = self.slots.get_mut(ask.index)?;
        slot.state = SlotState::Asked { peer: ask.by };
        slot.asked_at = now;
        if slot.probing & (1 << ask.by) != 0 {
            slot.probing &= !(1 << ask.by);
            self.probe_ended(ask.by);
        }
        let asked = self.peers.get_mut(ask.by)?;
        asked.begin(now);
        asked.outstanding += 1;
        self.outstanding += 1;
        Some(ask)
    }

    /// The next block to ask a peer about, and which, noted as asked about.
    ///
    /// A peer of which nothing is known is asked about a few blocks, of which nobody else is asked at the time, so that no small
    /// one comes twice; all are asked about a block that one of them lacks.
    pub(super) fn next_probe(&mut self, now: Instant, may: &dyn Fn(&PeerId) -> bool) -> Option<Ask> {
        let unproven = self.bits(|asked| !asked.proven && asked.probes < FIRST_PROBES);
        let some = self.bits(|asked| asked.probes < PROBES_MAX);
        let usable = self.bits(|asked| asked.state == AskedState::Usable && !asked.plain && may(&asked.peer));
        let mut found = None;
        for index in self.todo.iter().take(PROBE_AHEAD) {
            let Some(slot) = self.slots.get(*index) else { continue };
            if (usable & !slot.lacking).count_ones() < 2 {
                continue;
            }
            let unknown = usable & !slot.lacking & !slot.having & !slot.probing;
            let candidates = match (slot.having, slot.lacking, slot.probing) {
                (0, 0, 0) => unknown & unproven,
                (0, 0, _) => 0,
                (0, _, _) => unknown & some,
                _ => 0,
            };
            // The peer with the fewest probes, so that each gets blocks of its own.
            let best = (0..self.peers.len())
                .filter(|by| candidates & (1 << by) != 0)
                .min_by_key(|by| self.peers.get(*by).map(|asked| (asked.strikes, asked.probes)));
            if let Some(by) = best {
                found = Some(Ask { by, index: *index });
                break;
            }
        }
        let ask = found?;
        self.slots.get_mut(ask.index)?.probing |= 1 << ask.by;
        let asked = self.peers.get_mut(ask.by)?;
        asked.begin(now);
        asked.probes += 1;
        Some(ask)
    }

    fn bits(&self, is: impl Fn(&Asked) -> bool) -> u64 {
        self.peers.iter().enumerate().fold(0, |bits, (by, asked)| bits | u64::from(is(asked)) << by)
    }

    /// Wanted first is what stands first in the session.
    pub(super) fn priority(&self, index: usize) -> i32 {
        i32::try_from(self.slots.len().saturating_sub(index)).unwrap_or(i32::MAX)
    }

    fn probe_ended(&mut self, by: usize) {
        if let Some(asked) = self.peers.get_mut(by) {
            asked.probes = asked.probes.saturating_sub(1);
        }
    }

    /// Peer number `by` answered for a slot: it lacks the block, or has it.
    pub(super) fn presence(&mut self, now: Instant, index: usize, by: usize, has: bool) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let bit = 1 << by;
        if slot.probing & bit != 0 {
            slot.probing &= !bit;
            self.probe_ended(by);
        }
        let Some(slot) = self.slots.get_mut(index) else { return };
        let asked_here = slot.state == SlotState::Asked { peer: by };
        if has {
            slot.having |= bit;
        } else {
            slot.lacking |= bit;
            slot.having &= !bit;
            if asked_here {
                slot.state = SlotState::Todo;
                self.todo.push_front(index);
            }
        }
        if asked_here && !has {
            self.outstanding = self.outstanding.saturating_sub(1);
        }
        let Some(asked) = self.peers.get_mut(by) else { return };
        if asked_here && !has {
            asked.outstanding = asked.outstanding.saturating_sub(1);
        }
        asked.said(now, has);
    }

    /// The block of a slot came from peer number `by`, if from one of this session; returns the CID wanted and the peers that were
    /// asked for it or about it.
    pub(super) fn take(
        &mut self,
        now: Instant,
        index: usize,
        by: Option<usize>,
        len: usize,
        limits: &Limits,
    ) -> Option<(Cid, Vec<usize>)> {
        if let Some(by) = by {
            let slot = self.slots.get_mut(index)?;
            let probed = slot.probing & (1 << by) != 0;
            slot.probing &= !(1 << by);
            if probed {
                self.probe_ended(by);
            }
            if let Some(asked) = self.peers.get_mut(by) {
                asked.said(now, true);
                asked.strikes = 0;
            }
        }
        let slot = self.slots.get_mut(index)?;
        let mut others = Vec::new();
        match slot.state {
            SlotState::Done | SlotState::Missing => return None,
            SlotState::Asked { peer } => {
                others.push(peer);
                self.outstanding = self.outstanding.saturating_sub(1);
                let took = now.saturating_duration_since(slot.asked_at);
                if let Some(asked) = self.peers.get_mut(peer) {
                    asked.outstanding = asked.outstanding.saturating_sub(1);
                    if by == Some(peer) {
                        asked.paced(took, len, limits.peer_window);
                    }
                }
            }
            SlotState::Todo => {
                // What came late, for another session or as the answer to a probe must find room like any other.
                if self.buffered > 0 && self.buffered + len > limits.session_window {
                    return None;
                }
                self.todo.retain(|other| *other != index);
            }
        }
        let slot = self.slots.get_mut(index)?;
        slot.state = SlotState::Done;
        let cid = slot.cid;
        let probing = std::mem::take(&mut slot.probing);
        for other in (0..self.peers.len()).filter(|other| probing & (1 << other) != 0) {
            others.push(other);
            self.probe_ended(other);
        }
        self.size_guess = len.max(self.size_guess - self.size_guess / 8).max(SIZE_GUESS_MIN);
        self.open -= 1;
        self.buffered += len;
        self.progress = now;
        Some((cid, others))
    }

    /// Takes back all that was asked of peer number `by`, to be asked first of the next, and says which slots.
    pub(super) fn free(&mut self, by: usize) -> Vec<(usize, Hash)> {
        let bit = 1 << by;
        let (mut freed, mut asked_for) = (Vec::new(), 0);
        for (index, slot) in self.slots.iter_mut().enumerate().rev() {
            let asked = slot.state == SlotState::Asked { peer: by };
            if asked {
                slot.state = SlotState::Todo;
                self.todo.push_front(index);
                asked_for += 1;
            }
            if asked || slot.probing & bit != 0 {
                freed.push((index, *slot.cid.hash()));
            }
            slot.probing &= !bit;
            slot.having &= !bit;
        }
        self.outstanding = self.outstanding.saturating_sub(asked_for);
        if let Some(asked) = self.peers.get_mut(by) {
            asked.outstanding = 0;
            asked.probes = 0;
        }
        freed
    }

    /// When peer number `by` counts as silent, and when as stalled, if it owes answers.
    pub(super) fn deadlines(&self, by: usize, limits: &Limits) -> Option<(Instant, Option<Instant>)> {
        let asked = self.peers.get(by).filter(|asked| asked.outstanding + asked.probes > 0)?;
        let silent = asked.progress + limits.timeout.min(self.patience / 2);
        let others = self.peers.iter().filter(|asked| asked.state == AskedState::Usable).count() > 1;
        let stalled = asked
            .pace
            .filter(|_| others && asked.outstanding > 0)
            .map(|pace| (asked.progress + pace.saturating_mul(STALL_FACTOR).max(STALL_MIN)).min(silent));
        Some((silent, stalled))
    }
}

impl Asked {
    pub(super) fn new(peer: PeerId, connected: bool, now: Instant, limits: &Limits) -> Self {
        Self {
            peer,
            state: if connected { AskedState::Usable } else { AskedState::Connecting },
            outstanding: 0,
            probes: 0,
            proven: false,
            plain: false,
            misses: 0,
            window: limits.peer_window / 4,
            pace: None,
            progress: now,
            strikes: 0,
            dials: u8::from(!connected),
        }
    }

    fn begin(&mut self, now: Instant) {
        if self.outstanding + self.probes == 0 {
            self.progress = now;
        }
    }

    fn fits_one_more(&self, size: usize) -> bool {
        fits(self.outstanding, size, 0, self.window)
    }

    /// How full the window would be with one block more, in thousandths; then, how slow it is.
    fn load(&self, size: usize) -> (usize, Duration) {
        let full = (self.outstanding + 1).saturating_mul(size).saturating_mul(1000) / self.window.max(1);
        (full, self.pace.unwrap_or_default())
    }

    /// It has a block or lacks it. Only a block makes silences forgotten: words alone would hold up the rest for ever.
    fn said(&mut self, now: Instant, has: bool) {
        self.progress = now;
        self.misses = if has { 0 } else { self.misses.saturating_add(1) };
        self.proven = has || self.proven && self.misses < MISSES_MAX;
    }

    /// A block took `took` from want to arrival: with fast ones the window opens, with slow ones it closes.
    fn paced(&mut self, took: Duration, len: usize, window_max: usize) {
        self.pace = Some(self.pace.map_or(took, |pace| pace - pace / 8 + took / 8));
        self.window = match took <= PACE_WANTED {
            true => self.window.saturating_add(len).min(window_max),
            false => self.window.saturating_sub(len / 2).max(SIZE_GUESS_MIN),
        };
    }

    /// It stopped answering while others did not: it begins anew, with a probe and a small window.
    pub(super) fn stalled(&mut self) {
        self.window = SIZE_GUESS_MIN;
        self.proven = false;
    }
}

/// Whether one more block of about `size` bytes fits beside those asked for and those waiting; one always does.
pub(super) fn fits(outstanding: usize, size: usize, buffered: usize, window: usize) -> bool {
    outstanding == 0 && buffered == 0 || (outstanding + 1).saturating_mul(size) + buffered <= window
}
