//! The asking side: sessions, windows, and who failed. No socket, no clock, no thread.
//!
//! ```text
//! open, close, consumed ----> +--------+ --> Output::{Dial, Send, Deliver, Finished, Blame}
//! connected, lost, blocks --> | Client |
//! presences, tick ----------> +--------+ --> next_timeout
//! ```
//!
//! A session is a list of CIDs and of peers. Each CID is asked of one peer at a time; DONT_HAVE, silence,
//! disconnection and misbehaviour give it to the next. Bytes asked for but not yet taken by the consumer are bounded
//! per peer and per session, so that a slow consumer slows the peers and not the memory.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    time::{Duration, Instant},
};

use cid::Cid;
use libp2p::PeerId;
use multihash::Multihash;

use super::wire::{Entry, WANTS_MAX, WantKind};
use crate::{Block, PeerFailureKind};

/// How many peers one session asks.
pub(super) const SESSION_PEERS_MAX: usize = 64;
/// How often one session dials a peer before it gives it up.
const DIALS_MAX: u8 = 2;
/// How often a peer may stay silent for a whole timeout, while it is asked, before a session gives it up.
const STRIKES_MAX: u8 = 2;
/// Blocks no longer wanted of a peer that may still arrive from it.
const LATE_MAX: usize = 2 * WANTS_MAX;
/// What a block is taken for until one has arrived.
const SIZE_GUESS: usize = 256 * 1024;
/// The least that a block not yet seen is taken for: small blocks do not open the window to many large ones.
const SIZE_GUESS_MIN: usize = 32 * 1024;

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
}

#[derive(Debug)]
struct Session {
    slots: Vec<Slot>,
    /// Slots not asked of anybody now.
    todo: VecDeque<usize>,
    /// Slots neither delivered nor given up.
    open: usize,
    peers: Vec<Asked>,
    outstanding: usize,
    buffered: usize,
    size_guess: usize,
    patience: Duration,
    progress: Instant,
}

#[derive(Debug)]
struct Slot {
    cid: Cid,
    state: SlotState,
    /// Bit n: the n-th peer of the session said that it does not have it.
    lacking: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SlotState {
    Todo,
    Asked { peer: usize },
    Done,
    Missing,
}

/// A peer in the eyes of one session.
#[derive(Debug)]
struct Asked {
    peer: PeerId,
    state: AskedState,
    outstanding: usize,
    progress: Instant,
    strikes: u8,
    dials: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AskedState {
    Connecting,
    Usable,
    Failed(PeerFailureKind),
}

/// A peer in the eyes of all sessions.
#[derive(Debug, Default)]
struct Peer {
    connected: bool,
    wants: HashMap<Hash, Want>,
    late: HashSet<Hash>,
    late_order: VecDeque<Hash>,
    /// Entries not yet handed out.
    entries: Vec<Entry>,
    full: bool,
}

#[derive(Debug)]
struct Want {
    cid: Cid,
    priority: i32,
    of: Vec<(SessionId, usize)>,
}

impl Peer {
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
}

impl Client {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, sessions: BTreeMap::new(), peers: HashMap::new(), outputs: VecDeque::new() }
    }

    /// Starts to fetch `cids` from `peers`, or from all connected ones if there are none.
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
        if chosen.is_empty() {
            chosen = self.peers.iter().filter(|(_, peer)| peer.connected).map(|(id, _)| *id).collect();
            chosen.sort();
        }
        chosen.truncate(SESSION_PEERS_MAX);
        let slots: Vec<Slot> =
            cids.into_iter().map(|cid| Slot { cid, state: SlotState::Todo, lacking: 0 }).collect();
        let peers = chosen.into_iter().map(|peer| {
            let connected = self.peers.get(&peer).is_some_and(|peer| peer.connected);
            if !connected {
                self.outputs.push_back(Output::Dial(peer));
            }
            Asked {
                peer,
                state: if connected { AskedState::Usable } else { AskedState::Connecting },
                outstanding: 0,
                progress: now,
                strikes: 0,
                dials: u8::from(!connected),
            }
        });
        let session = Session {
            todo: (0..slots.len()).collect(),
            open: slots.len(),
            peers: peers.collect(),
            slots,
            outstanding: 0,
            buffered: 0,
            size_guess: SIZE_GUESS,
            patience,
            progress: now,
        };
        self.sessions.insert(id, session);
        self.settle(id);
        self.fill(now);
    }

    /// Ends a session before its time.
    pub(super) fn close(&mut self, now: Instant, id: SessionId) {
        let Some(session) = self.sessions.remove(&id) else { return };
        for (index, slot) in session.slots.iter().enumerate() {
            if let SlotState::Asked { peer } = slot.state
                && let Some(asked) = session.peers.get(peer)
            {
                self.withdraw(asked.peer, slot.cid.hash(), (id, index));
            }
        }
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
        for asked in self.sessions.values_mut().flat_map(|session| &mut session.peers) {
            if asked.peer == peer && asked.state == AskedState::Connecting {
                asked.state = AskedState::Usable;
                asked.progress = now;
            }
        }
        self.fill(now);
    }

    /// The last connection to `peer` is gone.
    pub(super) fn disconnected(&mut self, now: Instant, peer: PeerId) {
        self.peers.remove(&peer);
        let mut dial = false;
        self.release(peer, |asked| {
            if asked.state != AskedState::Usable {
                return;
            }
            asked.state = AskedState::Failed(PeerFailureKind::Unreachable);
            if asked.dials < DIALS_MAX {
                asked.dials += 1;
                asked.state = AskedState::Connecting;
                dial = true;
            }
        });
        if dial {
            self.outputs.push_back(Output::Dial(peer));
        }
        self.settle_all();
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
        let Some(state) = self.peers.get_mut(&peer).filter(|state| !state.wants.is_empty()) else { return };
        state.entries = state.wants.values().map(|want| entry(want.cid, want.priority, false)).collect();
        state.full = true;
        self.flush(peer);
    }

    /// A verified block came from `peer`.
    pub(super) fn block(&mut self, now: Instant, peer: PeerId, block: &Block) {
        let hash = *block.cid().hash();
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let Some(want) = state.wants.remove(&hash) else {
            if !state.late.remove(&hash) {
                // Nobody asked for these bytes: either they were pushed, or they are a wrong answer.
                self.misbehaved(now, peer);
            }
            return;
        };
        for (id, index) in want.of {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            let Some(cid) = session.answered(now, index, SlotState::Done) else { continue };
            session.size_guess =
                block.len().max(session.size_guess - session.size_guess / 8).max(SIZE_GUESS_MIN);
            session.open -= 1;
            session.buffered += block.len();
            session.progress = now;
            let block = if cid == *block.cid() {
                block.clone()
            } else {
                Block::checked_before(cid, block.data().clone())
            };
            self.outputs.push_back(Output::Deliver { session: id, block });
            self.settle(id);
        }
        self.fill(now);
    }

    /// `peer` will not send the block.
    pub(super) fn dont_have(&mut self, now: Instant, peer: PeerId, cid: &Cid) {
        let Some(want) = self.peers.get_mut(&peer).and_then(|state| state.wants.remove(cid.hash())) else {
            return;
        };
        for (id, index) in want.of {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            let by = session.asked_of(index);
            if session.answered(now, index, SlotState::Todo).is_none() {
                continue;
            }
            session.todo.push_front(index);
            if let (Some(slot), Some(by)) = (session.slots.get_mut(index), by) {
                slot.lacking |= 1 << by;
            }
            self.settle(id);
        }
        self.fill(now);
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Instant) {
        let mut silent = Vec::new();
        let mut ended = Vec::new();
        for (id, session) in &mut self.sessions {
            let timeout = self.limits.timeout.min(session.patience / 2);
            for (by, asked) in session.peers.iter_mut().enumerate() {
                if asked.outstanding > 0 && now >= asked.progress + timeout {
                    asked.strikes += 1;
                    asked.progress = now;
                    if asked.strikes >= STRIKES_MAX {
                        asked.state = AskedState::Failed(PeerFailureKind::Silent);
                    }
                    silent.push((*id, by));
                }
            }
            if session.is_waiting() && now >= session.progress + session.patience {
                ended.push(*id);
            }
        }
        for (id, by) in silent {
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
            let timeout = self.limits.timeout.min(session.patience / 2);
            let asked = session.peers.iter().filter(|asked| asked.outstanding > 0);
            let waiting = session.is_waiting().then(|| session.progress + session.patience);
            asked.map(move |asked| asked.progress + timeout).chain(waiting)
        });
        deadlines.min()
    }

    pub(super) fn next_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// How many blocks are wanted of `peer`.
    pub(super) fn wanted_of(&self, peer: &PeerId) -> usize {
        self.peers.get(peer).map_or(0, |state| state.wants.len())
    }

    /// Asks for what the windows allow.
    fn fill(&mut self, now: Instant) {
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in ids {
            self.fill_session(now, id);
        }
        let peers: Vec<PeerId> =
            self.peers.iter().filter(|(_, state)| !state.entries.is_empty()).map(|(peer, _)| *peer).collect();
        for peer in peers {
            self.flush(peer);
        }
    }

    fn fill_session(&mut self, now: Instant, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        // A peer that was silent is asked again after all others.
        let mut order: Vec<usize> = (0..session.peers.len()).collect();
        order.sort_by_key(|by| session.peers.get(*by).map(|asked| asked.strikes));
        for by in order {
            let Some(asked) = session.peers.get_mut(by).filter(|asked| asked.state == AskedState::Usable)
            else {
                continue;
            };
            let Some(state) = self.peers.get_mut(&asked.peer).filter(|state| state.connected) else {
                continue;
            };
            let mut skipped = 0;
            while skipped < session.todo.len()
                && state.wants.len() < WANTS_MAX
                && fits(asked.outstanding, session.size_guess, 0, self.limits.peer_window)
                && fits(session.outstanding, session.size_guess, session.buffered, self.limits.session_window)
            {
                let Some(&index) = session.todo.get(skipped) else { break };
                let Some(slot) = session.slots.get_mut(index) else { break };
                if slot.lacking & (1 << by) != 0 {
                    skipped += 1;
                    continue;
                }
                session.todo.remove(skipped);
                slot.state = SlotState::Asked { peer: by };
                if asked.outstanding == 0 {
                    asked.progress = now;
                }
                asked.outstanding += 1;
                session.outstanding += 1;
                // What stands first in the session is wanted first.
                let priority = i32::try_from(session.slots.len().saturating_sub(index)).unwrap_or(i32::MAX);
                let cid = session.slots.get(index).map(|slot| slot.cid).unwrap_or_default();
                let want = state.wants.entry(*cid.hash()).or_insert_with(|| {
                    state.entries.push(entry(cid, priority, false));
                    Want { cid, priority, of: Vec::new() }
                });
                want.of.push((id, index));
            }
        }
    }

    fn flush(&mut self, peer: PeerId) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let entries = std::mem::take(&mut state.entries);
        let full = std::mem::take(&mut state.full);
        self.outputs.push_back(Output::Send { peer, entries, full });
    }

    /// Ends the use of `peer` in all sessions.
    fn fail(&mut self, now: Instant, peer: PeerId, kind: PeerFailureKind) {
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in ids {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            let Some(by) = session.peers.iter().position(|asked| asked.peer == peer) else { continue };
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

    /// Makes everything that was asked of `peer` free for others, where nothing can be cancelled any more.
    fn release(&mut self, peer: PeerId, mut each: impl FnMut(&mut Asked)) {
        for session in self.sessions.values_mut() {
            let Some(by) = session.peers.iter().position(|asked| asked.peer == peer) else { continue };
            session.free(by);
            if let Some(asked) = session.peers.get_mut(by) {
                each(asked);
            }
        }
    }

    /// Makes everything that a session asked of its peer number `by` free for others, and cancels it there.
    fn take_back(&mut self, id: SessionId, by: usize) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(peer) = session.peers.get(by).map(|asked| asked.peer) else { return };
        for (index, hash) in session.free(by) {
            self.withdraw(peer, &hash, (id, index));
        }
    }

    fn withdraw(&mut self, peer: PeerId, hash: &Hash, of: (SessionId, usize)) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let Some(want) = state.wants.get_mut(hash) else { return };
        want.of.retain(|other| *other != of);
        if want.of.is_empty()
            && let Some(want) = state.wants.remove(hash)
        {
            state.entries.push(entry(want.cid, 0, true));
            state.expect_late(*hash);
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
        let lost: Vec<&Slot> = session.slots.iter().filter(|slot| slot.state == SlotState::Missing).collect();
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

impl Session {
    /// Whether the session depends on peers, and not on its consumer.
    fn is_waiting(&self) -> bool {
        self.open > 0 && self.buffered == 0
    }

    fn asked_of(&self, index: usize) -> Option<usize> {
        match self.slots.get(index)?.state {
            SlotState::Asked { peer } => Some(peer),
            _ => None,
        }
    }

    /// Ends the asking of a slot, and says which CID it is.
    fn answered(&mut self, now: Instant, index: usize, state: SlotState) -> Option<Cid> {
        let by = self.asked_of(index)?;
        let slot = self.slots.get_mut(index)?;
        slot.state = state;
        self.outstanding = self.outstanding.saturating_sub(1);
        if let Some(asked) = self.peers.get_mut(by) {
            asked.outstanding = asked.outstanding.saturating_sub(1);
            asked.progress = now;
            asked.strikes = 0;
        }
        Some(slot.cid)
    }

    /// Takes back all slots asked of peer number `by`, to be asked first of the next, and says which.
    fn free(&mut self, by: usize) -> Vec<(usize, Hash)> {
        let mut freed = Vec::new();
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if slot.state == (SlotState::Asked { peer: by }) {
                slot.state = SlotState::Todo;
                freed.push((index, *slot.cid.hash()));
            }
        }
        for (index, _) in freed.iter().rev() {
            self.todo.push_front(*index);
        }
        self.outstanding = self.outstanding.saturating_sub(freed.len());
        if let Some(asked) = self.peers.get_mut(by) {
            asked.outstanding = 0;
        }
        freed
    }
}

fn entry(cid: Cid, priority: i32, cancel: bool) -> Entry {
    Entry { cid, priority, cancel, kind: WantKind::Block, send_dont_have: !cancel }
}

/// Whether one more block of about `size` bytes fits beside those asked for and those waiting; one always does.
fn fits(outstanding: usize, size: usize, buffered: usize, window: usize) -> bool {
    outstanding == 0 && buffered == 0 || (outstanding + 1).saturating_mul(size) + buffered <= window
}

fn all_peers(count: usize) -> u64 {
    1u64.checked_shl(count as u32).map_or(u64::MAX, |bit| bit - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;
    const LIMITS: Limits =
        Limits { peer_window: MIB, session_window: 2 * MIB, timeout: Duration::from_secs(4) };
    const PATIENCE: Duration = Duration::from_secs(20);

    /// What is missing, and why.
    type End = (Vec<Cid>, Vec<(PeerId, PeerFailureKind)>);

    /// A client, its clock, and what it said.
    struct Case {
        client: Client,
        now: Instant,
        peers: Vec<PeerId>,
        asked: HashMap<PeerId, Vec<Cid>>,
        delivered: Vec<Block>,
        dials: usize,
        blamed: Vec<PeerId>,
        finished: Option<End>,
    }

    impl Case {
        fn new(peers: usize) -> Self {
            let mut case = Self {
                client: Client::new(LIMITS),
                now: Instant::now(),
                peers: (0..peers).map(|_| PeerId::random()).collect(),
                asked: HashMap::new(),
                delivered: Vec::new(),
                dials: 0,
                blamed: Vec::new(),
                finished: None,
            };
            for peer in case.peers.clone() {
                case.client.connected(case.now, peer);
            }
            case
        }

        fn open(&mut self, blocks: &[Block]) {
            let cids = blocks.iter().map(|block| *block.cid()).collect();
            self.client.open(self.now, 1, cids, &self.peers, PATIENCE);
            self.drain();
        }

        fn drain(&mut self) {
            while let Some(output) = self.client.next_output() {
                match output {
                    Output::Dial(_) => self.dials += 1,
                    Output::Send { peer, entries, full } => {
                        let asked = self.asked.entry(peer).or_default();
                        if full {
                            asked.clear();
                        }
                        for entry in entries {
                            asked.retain(|cid| *cid != entry.cid);
                            if !entry.cancel {
                                asked.push(entry.cid);
                            }
                        }
                    }
                    Output::Deliver { block, .. } => self.delivered.push(block),
                    Output::Finished { missing, failures, .. } => {
                        assert!(self.finished.replace((missing, failures)).is_none());
                    }
                    Output::Blame(peer) => self.blamed.push(peer),
                }
            }
        }

        fn asked(&self, peer: usize) -> Vec<Cid> {
            self.asked.get(&self.peers[peer]).cloned().unwrap_or_default()
        }

        fn answer(&mut self, peer: usize, block: &Block) {
            let id = self.peers[peer];
            self.asked.entry(id).or_default().retain(|cid| cid != block.cid());
            self.client.block(self.now, id, block);
            self.drain();
        }

        fn dont_have(&mut self, peer: usize, cid: &Cid) {
            let id = self.peers[peer];
            self.asked.entry(id).or_default().retain(|other| other != cid);
            self.client.dont_have(self.now, id, cid);
            self.drain();
        }

        fn pass(&mut self, time: Duration) {
            self.now += time;
            self.client.tick(self.now);
            self.drain();
        }
    }

    fn blocks(count: usize, len: usize) -> Vec<Block> {
        let block = |i: usize| {
            let mut data = vec![0; len];
            data[..8].copy_from_slice(&i.to_be_bytes());
            Block::raw(data)
        };
        (0..count).map(block).collect()
    }

    #[test]
    fn windows_hold_for_peers_session_and_consumer() {
        let mut case = Case::new(3);
        let all = blocks(40, 256 * 1024);
        case.open(&all);
        assert_eq!((case.asked(0).len(), case.asked(1).len(), case.asked(2).len()), (4, 4, 0));
        // Until the consumer takes, nothing more is asked for.
        for block in &all[..8] {
            case.answer(usize::from(!case.asked(0).contains(block.cid())), block);
        }
        assert_eq!(case.delivered.len(), 8);
        assert_eq!((0..3).map(|peer| case.asked(peer).len()).sum::<usize>(), 0);
        case.client.consumed(case.now, 1, 3 * 256 * 1024);
        case.drain();
        assert_eq!((0..3).map(|peer| case.asked(peer).len()).sum::<usize>(), 3);
        assert!(case.client.next_timeout().is_some());
    }

    #[test]
    fn small_blocks_do_not_open_the_window_to_large_ones() {
        let mut case = Case::new(1);
        let all = blocks(600, 100);
        case.open(&all);
        for block in &all[..100] {
            case.answer(0, block);
            case.client.consumed(case.now, 1, block.len());
            case.drain();
        }
        assert!((5..=MIB / SIZE_GUESS_MIN).contains(&case.asked(0).len()));
    }

    #[test]
    fn a_block_goes_from_peer_to_peer_until_one_has_it() {
        let mut case = Case::new(3);
        let all = blocks(1, 100);
        case.open(&all);
        case.dont_have(0, all[0].cid());
        assert_eq!(case.asked(1), [*all[0].cid()]);
        case.dont_have(1, all[0].cid());
        case.answer(2, &all[0]);
        assert_eq!(case.delivered, all);
        assert_eq!(case.finished, Some((vec![], vec![])));
    }

    #[test]
    fn silence_is_met_by_a_second_chance_and_then_by_the_others() {
        let mut case = Case::new(2);
        let all = blocks(2, 100);
        case.open(&all);
        assert_eq!(case.asked(0).len(), 2);
        case.pass(LIMITS.timeout);
        assert_eq!((case.asked(0).len(), case.asked(1).len()), (0, 2), "cancelled here, asked there");
        case.dont_have(1, all[1].cid());
        assert_eq!(case.asked(0), [*all[1].cid()], "asked again where nobody said no");
        case.answer(1, &all[0]);
        case.pass(LIMITS.timeout);
        let failures =
            vec![(case.peers[0], PeerFailureKind::Silent), (case.peers[1], PeerFailureKind::Absent)];
        assert_eq!(case.finished, Some((vec![*all[1].cid()], failures)));
        // What comes too late is no offence.
        case.answer(0, &all[1]);
        assert!(case.blamed.is_empty());
    }

    #[test]
    fn a_lost_peer_is_dialed_again_while_others_go_on() {
        let mut case = Case::new(2);
        let all = blocks(4, 100);
        case.open(&all);
        let (lost, now) = (case.peers[0], case.now);
        for dials in 1..=DIALS_MAX {
            case.client.disconnected(now, lost);
            case.drain();
            assert_eq!(case.dials, usize::from(dials));
            assert_eq!(case.asked(1).len(), 4);
            case.client.connected(now, lost);
        }
        case.client.disconnected(now, lost);
        case.drain();
        assert_eq!(case.dials, usize::from(DIALS_MAX), "a connection that flaps is given up");
        all.iter().for_each(|block| case.answer(1, block));
        assert_eq!(case.finished, Some((vec![], vec![(lost, PeerFailureKind::Unreachable)])));
    }

    #[test]
    fn patience_runs_while_peers_are_waited_for_and_not_while_the_consumer_is() {
        let mut case = Case::new(1);
        let all = blocks(2, MIB);
        case.open(&all);
        case.answer(0, &all[0]);
        case.dont_have(0, all[1].cid());
        assert_eq!(case.finished.take().map(|(missing, _)| missing), Some(vec![*all[1].cid()]));

        let connecting = PeerId::random();
        case.client.open(case.now, 2, vec![*all[1].cid()], &[connecting], PATIENCE);
        case.pass(PATIENCE - Duration::from_millis(1));
        assert_eq!(case.finished, None);
        case.pass(Duration::from_millis(1));
        let failures = vec![(connecting, PeerFailureKind::Unreachable)];
        assert_eq!(case.finished, Some((vec![*all[1].cid()], failures)));
        assert_eq!(case.client.next_timeout(), None);
    }

    #[test]
    fn two_sessions_share_a_want_and_one_may_leave() {
        let mut case = Case::new(1);
        let all = blocks(1, 100);
        case.open(&all);
        case.client.open(case.now, 2, vec![*all[0].cid()], &case.peers, PATIENCE);
        case.drain();
        case.client.close(case.now, 1);
        case.drain();
        assert_eq!(case.asked(0).len(), 1, "the other session still wants it");
        case.answer(0, &all[0]);
        assert_eq!(case.delivered, all);
        case.client.close(case.now, 2);
        assert_eq!(case.client.wanted_of(&case.peers[0]), 0);
    }

    #[test]
    fn a_block_comes_under_the_cid_that_was_wanted() {
        let mut case = Case::new(1);
        let node = Block::new(crate::DAG_PB, vec![1; 50]);
        let old = Cid::new_v0(*node.cid().hash()).unwrap();
        case.client.open(case.now, 1, vec![old, *node.cid()], &case.peers, PATIENCE);
        case.drain();
        case.answer(0, &node);
        let delivered: Vec<Cid> = case.delivered.iter().map(|block| *block.cid()).collect();
        assert_eq!(delivered, [old, *node.cid()]);
    }

    #[test]
    fn unasked_blocks_end_the_use_of_their_sender() {
        let mut case = Case::new(2);
        let all = blocks(3, 100);
        case.open(&all[..2]);
        case.answer(0, &all[2]);
        assert_eq!(case.blamed, [case.peers[0]]);
        assert_eq!((case.asked(0).len(), case.asked(1).len()), (0, 2));
        assert!(case.delivered.is_empty());
    }

    #[test]
    fn everything_is_asked_again_when_a_connection_is_replaced() {
        let mut case = Case::new(1);
        let all = blocks(3, 100);
        case.open(&all);
        case.asked.clear();
        case.client.resend(case.peers[0]);
        case.drain();
        let mut asked = case.asked(0);
        asked.sort();
        let mut wanted: Vec<Cid> = all.iter().map(|block| *block.cid()).collect();
        wanted.sort();
        assert_eq!(asked, wanted);
    }
}
