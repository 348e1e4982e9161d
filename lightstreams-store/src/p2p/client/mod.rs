//! The asking side: sessions, windows, and who failed. No socket, no clock, no thread.
//!
//! ```text
//! open, close, consumed ----> +--------+ --> Output::{Dial, Send, Deliver, Finished, Blame}
//! connected, lost, blocks --> | Client |
//! presences, tick ----------> +--------+ --> next_timeout
//! ```
//!
//! A session is a list of CIDs and of peers. A peer of which nothing is known is probed first: it is asked whether it has a
//! few of the blocks. Each block is then asked of one peer at a time, among those that have such blocks the one whose window is the
//! emptiest; a window opens while blocks come fast and closes while they come slowly. DONT_HAVE, silence, disconnection
//! and misbehaviour give a block to the next peer, and what one peer lacks all others are asked about at once. Bytes asked
//! for but not yet taken by the consumer are bounded per peer and per session, so that a slow consumer slows the peers and not
//! the memory. A block goes to all sessions that want it, whoever asked.

mod peer;
mod session;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    time::{Duration, Instant},
};

use cid::Cid;
use libp2p::PeerId;
use multihash::Multihash;

use self::{
    peer::Peer,
    session::{Asked, AskedState, Session, SlotState},
};
use super::{
    BitswapStats,
    wire::{Entry, WantKind},
};
use crate::{Block, PeerFailureKind};

/// How many peers one session asks.
pub(super) const SESSION_PEERS_MAX: usize = 64;
/// How often one session dials a peer before it gives it up.
const DIALS_MAX: u8 = 2;
/// How often a peer may stay silent for a whole timeout, while it is asked, before a session gives it up.
const STRIKES_MAX: u8 = 2;

type Hash = Multihash<64>;
pub(super) type SessionId = u64;

/// Bounds of the asking side.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes asked of one peer and not yet arrived.
    pub(super) peer_window: usize,
    /// Bytes of one session asked for, or arrived and not yet consumed.
    pub(super) session_window: usize,
    /// How long a peer may take to the next answer.
    pub(super) timeout: Duration,
}

/// What the surroundings are to do.
#[derive(Debug)]
pub(super) enum Output {
    Dial(PeerId),
    /// `full` replaces what was sent to the peer before.
    Send {
        peer: PeerId,
        entries: Vec<Entry>,
        full: bool,
    },
    Deliver {
        session: SessionId,
        block: Block,
    },
    /// All blocks are delivered, or those in `missing` cannot be had.
    Finished {
        session: SessionId,
        missing: Vec<Cid>,
        failures: Vec<(PeerId, PeerFailureKind)>,
    },
    /// The peer broke the protocol.
    Blame(PeerId),
}

#[derive(Debug)]
pub(super) struct Client {
    limits: Limits,
    sessions: BTreeMap<SessionId, Session>,
    peers: HashMap<PeerId, Peer>,
    outputs: VecDeque<Output>,
    stats: BitswapStats,
}

impl Client {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            sessions: BTreeMap::new(),
            peers: HashMap::new(),
            outputs: VecDeque::new(),
            stats: BitswapStats::default(),
        }
    }

    /// What came so far.
    pub(super) fn stats(&self) -> BitswapStats {
        self.stats
    }

    /// Starts to fetch `cids` from `peers`, or from whoever is or gets connected if there are none.
    pub(super) fn open(
        &mut self,
        now: Instant,
        id: SessionId,
        cids: Vec<Cid>,
        peers: &[PeerId],
        patience: Duration,
    ) {
        let mut known = HashSet::new();
        let mut chosen: Vec<PeerId> = peers.iter().filter(|peer| known.insert(**peer)).copied().collect();
        if peers.is_empty() {
            chosen = self.peers.iter().filter(|(_, peer)| peer.connected).map(|(id, _)| *id).collect();
            chosen.sort();
        }
        chosen.truncate(SESSION_PEERS_MAX);
        let asked = chosen.into_iter().map(|peer| {
            let state = self.peers.get(&peer).filter(|state| state.connected);
            if state.is_none() {
                self.outputs.push_back(Output::Dial(peer));
            }
            let mut asked = Asked::new(peer, state.is_some(), now, &self.limits);
            asked.proven = state.is_some_and(|state| state.gave);
            asked.plain = state.is_some_and(|state| state.plain);
            asked
        });
        let mut session = Session::new(now, cids, asked.collect(), patience);
        session.anyone = peers.is_empty();
        self.sessions.insert(id, session);
        self.settle(id);
        self.fill(now);
    }

    /// Ends a session before its time.
    pub(super) fn close(&mut self, now: Instant, id: SessionId) {
        let peers = self.sessions.get(&id).map_or(0, |session| session.peers.len());
        for by in 0..peers {
            self.take_back(id, by);
        }
        self.sessions.remove(&id);
        self.fill(now);
    }

    /// The consumer of a session took `bytes`.
    pub(super) fn consumed(&mut self, now: Instant, id: SessionId, bytes: usize) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.buffered = session.buffered.saturating_sub(bytes);
            session.progress = now;
            self.fill(now);
        }
    }

    pub(super) fn connected(&mut self, now: Instant, peer: PeerId) {
        self.peers.entry(peer).or_default().connected = true;
        for session in self.sessions.values_mut() {
            let place = session.place_of(&peer);
            let joins = place.is_none() && session.anyone && session.peers.len() < SESSION_PEERS_MAX;
            match place.and_then(|by| session.peers.get_mut(by)) {
                Some(asked) if asked.state == AskedState::Connecting => {
                    asked.state = AskedState::Usable;
                    asked.progress = now;
                }
                None if joins => {
                    session.peers.push(Asked::new(peer, true, now, &self.limits));
                }
                _ => {}
            }
        }
        self.fill(now);
    }

    /// The last connection to `peer` is gone.
    pub(super) fn disconnected(&mut self, now: Instant, peer: PeerId) {
        self.peers.remove(&peer);
        let mut dial = false;
        for session in self.sessions.values_mut() {
            let Some(by) = session.place_of(&peer) else { continue };
            session.free(by);
            let Some(asked) = session.peers.get_mut(by) else { continue };
            if asked.state == AskedState::Usable {
                asked.state = AskedState::Failed(PeerFailureKind::Unreachable);
                if asked.dials < DIALS_MAX {
                    asked.dials += 1;
                    asked.state = AskedState::Connecting;
                    dial = true;
                }
            }
        }
        if dial {
            self.outputs.push_back(Output::Dial(peer));
        }
        self.settle_all();
        self.fill(now);
    }

    /// `peer` speaks a revision without presences.
    pub(super) fn plain(&mut self, now: Instant, peer: PeerId) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        state.plain = true;
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in ids {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            let Some(by) = session.place_of(&peer) else { continue };
            if let Some(asked) = session.peers.get_mut(by) {
                asked.plain = true;
            }
            // What it was asked about, it did not even hear.
            self.take_back(id, by);
        }
        self.fill(now);
    }

    /// `peer` cannot be reached, or not by this protocol.
    pub(super) fn unreachable(&mut self, now: Instant, peer: PeerId) {
        self.fail(now, peer, PeerFailureKind::Unreachable);
    }

    /// `peer` broke the protocol.
    pub(super) fn misbehaved(&mut self, now: Instant, peer: PeerId) {
        self.outputs.push_back(Output::Blame(peer));
        self.fail(now, peer, PeerFailureKind::Misbehaved);
    }

    /// What was sent to `peer` may not have arrived.
    pub(super) fn resend(&mut self, peer: PeerId) {
        if let Some(state) = self.peers.get_mut(&peer) {
            state.resend();
            self.flush(peer);
        }
    }

    /// A verified block came from `peer`.
    pub(super) fn block(&mut self, now: Instant, peer: PeerId, block: &Block) {
        let hash = *block.cid().hash();
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if !state.came(&hash) {
            // Nobody asked for these bytes: either they were pushed, or they are a wrong answer.
            self.misbehaved(now, peer);
            return;
        }
        state.gave = true;
        let mut taken = false;
        let mut withdrawn = Vec::new();
        let mut touched = Vec::new();
        for (id, session) in &mut self.sessions {
            let Some(indexes) = session.by_hash.get(&hash).cloned() else { continue };
            let by = session.place_of(&peer);
            for index in indexes {
                let Some((cid, others)) = session.take(now, index, by, block.len(), &self.limits) else {
                    continue;
                };
                taken = true;
                let asked = others.into_iter().filter_map(|other| session.peers.get(other));
                withdrawn.extend(asked.map(|asked| (asked.peer, (*id, index))));
                let block = if cid == *block.cid() {
                    block.clone()
                } else {
                    Block::checked_before(cid, block.data().clone())
                };
                self.outputs.push_back(Output::Deliver { session: *id, block });
            }
            touched.push(*id);
        }
        for (other, of) in withdrawn {
            if let Some(state) = self.peers.get_mut(&other) {
                state.withdraw(&hash, of);
            }
        }
        let len = block.len() as u64;
        self.stats.blocks += 1;
        self.stats.bytes += len;
        if !taken {
            self.stats.duplicate_blocks += 1;
            self.stats.duplicate_bytes += len;
        }
        touched.into_iter().for_each(|id| self.settle(id));
        self.fill(now);
    }

    /// Blocks came from a peer of which nothing was wanted any more, and were not looked at.
    pub(super) fn dropped(&mut self, blocks: u64, bytes: u64) {
        self.stats.blocks += blocks;
        self.stats.bytes += bytes;
        self.stats.dropped_blocks += blocks;
        self.stats.dropped_bytes += bytes;
    }

    /// `peer` says that it has a block, or that it will not send it.
    pub(super) fn presence(&mut self, now: Instant, peer: PeerId, cid: &Cid, has: bool) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let of = if has { state.has(cid.hash()) } else { state.lacks(cid.hash()) };
        if of.is_empty() {
            return;
        }
        state.gave = has;
        for (id, index) in of {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            let Some(by) = session.place_of(&peer) else { continue };
            session.presence(now, index, by, has);
            self.settle(id);
        }
        self.fill(now);
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Instant) {
        let (mut late, mut ended) = (Vec::new(), Vec::new());
        for (id, session) in &mut self.sessions {
            for by in 0..session.peers.len() {
                let Some((silent, stalled)) = session.deadlines(by, &self.limits) else { continue };
                let Some(asked) = session.peers.get_mut(by) else { continue };
                if now >= silent {
                    asked.strikes += 1;
                    asked.progress = now;
                    if asked.strikes >= STRIKES_MAX {
                        asked.state = AskedState::Failed(PeerFailureKind::Silent);
                    }
                    late.push((*id, by));
                } else if stalled.is_some_and(|stalled| now >= stalled) {
                    asked.stalled();
                    late.push((*id, by));
                }
            }
            if session.is_waiting() && now >= session.progress + session.patience {
                ended.push(*id);
            }
        }
        for (id, by) in late {
            self.take_back(id, by);
            self.settle(id);
        }
        for id in ended {
            self.give_up(id);
        }
        self.fill(now);
    }

    /// When [`tick`](Self::tick) is due.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let deadlines = self.sessions.values().flat_map(|session| {
            let peers = (0..session.peers.len()).filter_map(|by| session.deadlines(by, &self.limits));
            let waiting = session.is_waiting().then(|| session.progress + session.patience);
            peers.map(|(silent, stalled)| stalled.unwrap_or(silent)).chain(waiting)
        });
        deadlines.min()
    }

    pub(super) fn next_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// How many blocks are wanted of `peer`.
    pub(super) fn wanted_of(&self, peer: &PeerId) -> usize {
        self.peers.get(peer).map_or(0, Peer::wanted)
    }

    /// Asks for what the windows allow.
    fn fill(&mut self, now: Instant) {
        let peers = &mut self.peers;
        for (id, session) in &mut self.sessions {
            loop {
                let may =
                    |peer: &PeerId| peers.get(peer).is_some_and(|state| state.connected && state.has_room());
                let (ask, kind) = match session.next_ask(now, &self.limits, &may) {
                    Some(ask) => (ask, WantKind::Block),
                    None => match session.next_probe(now, &may) {
                        Some(ask) => (ask, WantKind::Have),
                        None => break,
                    },
                };
                let priority = session.priority(ask.index);
                let cid = session.slots.get(ask.index).map(|slot| slot.cid);
                let state = session.peers.get(ask.by).and_then(|asked| peers.get_mut(&asked.peer));
                if let (Some(cid), Some(state)) = (cid, state) {
                    state.want(cid, kind, priority, (*id, ask.index));
                }
            }
        }
        let peers: Vec<PeerId> = self.peers.keys().copied().collect();
        for peer in peers {
            self.flush(peer);
        }
    }

    fn flush(&mut self, peer: PeerId) {
        if let Some((entries, full)) = self.peers.get_mut(&peer).and_then(Peer::take_entries) {
            self.outputs.push_back(Output::Send { peer, entries, full });
        }
    }

    /// Ends the use of `peer` in all sessions.
    fn fail(&mut self, now: Instant, peer: PeerId, kind: PeerFailureKind) {
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in ids {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            let Some(by) = session.place_of(&peer) else { continue };
            if let Some(asked) = session.peers.get_mut(by)
                && !matches!(asked.state, AskedState::Failed(_))
            {
                asked.state = AskedState::Failed(kind);
            }
            self.take_back(id, by);
            self.settle(id);
        }
        self.fill(now);
    }

    /// Makes everything that a session asked of its peer number `by` free for others, and cancels it there.
    fn take_back(&mut self, id: SessionId, by: usize) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let freed = session.free(by);
        let Some(state) = session.peers.get(by).and_then(|asked| self.peers.get_mut(&asked.peer)) else {
            return;
        };
        for (index, hash) in freed {
            state.withdraw(&hash, (id, index));
        }
    }

    fn settle_all(&mut self) {
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        ids.into_iter().for_each(|id| self.settle(id));
    }

    /// Gives up the blocks that no peer is left for, and ends the session when none is open.
    fn settle(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let mut failed = 0u64;
        for (by, asked) in session.peers.iter().enumerate() {
            failed |= u64::from(matches!(asked.state, AskedState::Failed(_))) << by;
        }
        let all = all_peers(session.peers.len());
        let slots = &mut session.slots;
        let open = &mut session.open;
        session.todo.retain(|index| {
            let Some(slot) = slots.get_mut(*index) else { return false };
            let hopeless = (slot.lacking | failed) & all == all;
            if hopeless {
                slot.state = SlotState::Missing;
                *open -= 1;
            }
            !hopeless
        });
        if session.open == 0 {
            self.finish(id);
        }
    }

    /// The patience of a session is at its end.
    fn give_up(&mut self, id: SessionId) {
        let peers = self.sessions.get(&id).map_or(0, |session| session.peers.len());
        for by in 0..peers {
            self.take_back(id, by);
        }
        let Some(session) = self.sessions.get_mut(&id) else { return };
        for asked in &mut session.peers {
            asked.state = match asked.state {
                AskedState::Connecting => AskedState::Failed(PeerFailureKind::Unreachable),
                AskedState::Usable => AskedState::Failed(PeerFailureKind::Silent),
                failed => failed,
            };
        }
        self.settle(id);
    }

    fn finish(&mut self, id: SessionId) {
        let Some(session) = self.sessions.remove(&id) else { return };
        let lost: Vec<_> = session.slots.iter().filter(|slot| slot.state == SlotState::Missing).collect();
        let lacking = lost.iter().fold(0, |bits, slot| bits | slot.lacking);
        let failures = session.peers.iter().enumerate().filter_map(|(by, asked)| match asked.state {
            AskedState::Failed(kind) => Some((asked.peer, kind)),
            _ => (lacking & (1 << by) != 0).then_some((asked.peer, PeerFailureKind::Absent)),
        });
        self.outputs.push_back(Output::Finished {
            session: id,
            missing: lost.iter().map(|slot| slot.cid).collect(),
            failures: failures.collect(),
        });
    }
}

fn all_peers(count: usize) -> u64 {
    1u64.checked_shl(count as u32).map_or(u64::MAX, |bit| bit - 1)
}
