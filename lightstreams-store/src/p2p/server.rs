//! The answering side: whose want is looked up next, and what is sent when. No socket, no clock, no thread.
//!
//! ```text
//! entries, answers ---> +--------+ --> next_lookup: some wants of one peer, for the policy and the store
//! sent, lost, tick ---> | Server | --> next_message: blocks and presences for one peer
//!                       +--------+ --> next_timeout
//! ```
//!
//! Peers take turns. A peer with more than its share of bytes on the way waits, so that no answer is read from the
//! store before there is room for it. What is denied is [`Answer::Absent`], as is what is not here, and nothing
//! below this line knows the difference: both leave through one queue, a whole number of fixed delays after the want
//! arrived. Neither is kept.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;
use cid::Cid;
use libp2p::PeerId;

use super::wire::{Entry, Message, Payload, Prefix, Presence, WANTS_MAX, WantKind};

/// How many wants one look-up takes at most.
const LOOKUP_WANTS_MAX: usize = 64;
/// A look-up ends when it has found this many bytes, so that a message stays well below its bound.
pub(super) const LOOKUP_BYTES: usize = 512 * 1024;

/// Blocks that would make a message longer than this go into the next one: Helia takes no message above 2 MiB.
const MESSAGE_BLOCKS: usize = 1024 * 1024;

/// Bounds of the answering side.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes handed to one peer's connection and not yet written.
    pub(super) peer_bytes: usize,
    /// The same over all peers.
    pub(super) total_bytes: usize,
    /// Look-ups at one time.
    pub(super) lookups: usize,
    /// A negative answer leaves a whole number of these after its want arrived.
    pub(super) negative_delay: Duration,
}

/// One want of a peer.
#[derive(Clone, Debug)]
pub(super) struct Want {
    pub(super) cid: Cid,
    pub(super) kind: WantKind,
    priority: i32,
    send_dont_have: bool,
    arrived: Instant,
}

/// What policy and store say of a want.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Block(Bytes),
    Have,
    /// Not here, not for this peer, or it could not be found out.
    Absent,
    /// The look-up was full before this one's turn.
    Later,
}

/// Wants of one peer to be answered through [`Server::answered`].
#[derive(Debug)]
pub(super) struct Lookup {
    pub(super) peer: PeerId,
    pub(super) visit: u64,
    pub(super) wants: Vec<Want>,
}

/// Names a message until it is written or lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct MessageId(u64);

#[derive(Debug)]
pub(super) struct Server {
    limits: Limits,
    peers: HashMap<PeerId, Queue>,
    /// Peers with wants, the next one first.
    turns: VecDeque<PeerId>,
    negatives: BTreeMap<(Instant, PeerId), Vec<Cid>>,
    messages: VecDeque<(PeerId, MessageId, Message)>,
    on_the_way: usize,
    lookups: usize,
    ids: u64,
    /// Blocks handed out, and their bytes.
    sent: (u64, u64),
}

/// What is known of one peer.
#[derive(Debug, Default)]
struct Queue {
    /// Tells a peer from the same peer connected anew.
    visit: u64,
    waiting: BTreeMap<(Reverse<i32>, u64), Want>,
    by_cid: HashMap<Cid, (Reverse<i32>, u64)>,
    /// Being looked up; a cancel takes it out.
    looking: HashSet<Cid>,
    is_looking: bool,
    in_turn: bool,
    on_the_way: usize,
    messages: HashMap<MessageId, (usize, Vec<Cid>)>,
    /// Blocks among `messages`: they are not read and sent a second time.
    leaving: HashSet<Cid>,
    negatives: usize,
}

impl Queue {
    fn has_room(&self) -> bool {
        self.by_cid.len() + self.looking.len() + self.negatives < WANTS_MAX
    }

    fn forget(&mut self, cid: &Cid) {
        if let Some(key) = self.by_cid.remove(cid) {
            self.waiting.remove(&key);
        }
        self.looking.remove(cid);
    }

    fn keep(&mut self, key: (Reverse<i32>, u64), want: Want) {
        self.by_cid.insert(want.cid, key);
        self.waiting.insert(key, want);
    }
}

impl Server {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            peers: HashMap::new(),
            turns: VecDeque::new(),
            negatives: BTreeMap::new(),
            messages: VecDeque::new(),
            on_the_way: 0,
            lookups: 0,
            ids: 0,
            sent: (0, 0),
        }
    }

    /// A message of `peer` listed `entries`; `full` means that they replace all before.
    pub(super) fn wants(&mut self, now: Instant, peer: PeerId, entries: Vec<Entry>, full: bool) {
        if entries.is_empty() && !full {
            return;
        }
        let mut id = self.ids;
        let queue = self.peers.entry(peer).or_insert_with(|| {
            id += 1;
            Queue { visit: id, ..Queue::default() }
        });
        if full {
            queue.waiting.clear();
            queue.by_cid.clear();
            let listed: HashSet<Cid> =
                entries.iter().filter(|entry| !entry.cancel).map(|entry| entry.cid).collect();
            queue.looking.retain(|cid| listed.contains(cid));
        }
        for Entry { cid, priority, cancel, kind, send_dont_have } in entries {
            if cancel {
                queue.forget(&cid);
                continue;
            }
            if queue.looking.contains(&cid) || kind == WantKind::Block && queue.leaving.contains(&cid) {
                continue;
            }
            queue.forget(&cid);
            if !queue.has_room() {
                continue;
            }
            id += 1;
            queue.keep((Reverse(priority), id), Want { cid, kind, priority, send_dont_have, arrived: now });
        }
        self.ids = id;
        self.enqueue(peer);
    }

    /// The next wants to look up, if any may be now.
    pub(super) fn next_lookup(&mut self) -> Option<Lookup> {
        if self.lookups >= self.limits.lookups || self.on_the_way >= self.limits.total_bytes {
            return None;
        }
        let peer = self.turns.pop_front()?;
        let queue = self.peers.get_mut(&peer)?;
        queue.in_turn = false;
        let mut wants = Vec::new();
        while wants.len() < LOOKUP_WANTS_MAX
            && let Some((_, want)) = queue.waiting.pop_first()
        {
            queue.by_cid.remove(&want.cid);
            queue.looking.insert(want.cid);
            wants.push(want);
        }
        queue.is_looking = true;
        self.lookups += 1;
        Some(Lookup { peer, visit: queue.visit, wants })
    }

    /// Takes the answers of a look-up, one for each of its wants.
    pub(super) fn answered(&mut self, now: Instant, lookup: Lookup, answers: Vec<Answer>) {
        self.lookups = self.lookups.saturating_sub(1);
        let peer = lookup.peer;
        let delay = self.limits.negative_delay;
        let Some(queue) = self.peers.get_mut(&peer).filter(|queue| queue.visit == lookup.visit) else {
            return;
        };
        queue.is_looking = false;
        let mut messages = vec![(Message::default(), Vec::new(), 0)];
        for (want, answer) in lookup.wants.into_iter().zip(answers) {
            if !queue.looking.remove(&want.cid) {
                continue;
            }
            match answer {
                Answer::Block(data) => {
                    if messages
                        .last()
                        .is_none_or(|(_, _, bytes)| *bytes > 0 && bytes + data.len() > MESSAGE_BLOCKS)
                    {
                        messages.push((Message::default(), Vec::new(), 0));
                    }
                    if let Some((message, cids, bytes)) = messages.last_mut() {
                        *bytes += data.len();
                        cids.push(want.cid);
                        message.payloads.push(Payload { prefix: Prefix::of(&want.cid), data });
                    }
                }
                Answer::Have => {
                    if let Some((message, _, _)) = messages.last_mut() {
                        message.presences.push((want.cid, Presence::Have));
                    }
                }
                Answer::Absent if want.send_dont_have => {
                    queue.negatives += 1;
                    let due = due(want.arrived, now, delay);
                    self.negatives.entry((due, peer)).or_default().push(want.cid);
                }
                Answer::Absent => {}
                Answer::Later => {
                    self.ids += 1;
                    queue.keep((Reverse(want.priority), self.ids), want);
                }
            }
        }
        for (message, cids, _) in messages {
            self.send(peer, message, cids);
        }
        self.enqueue(peer);
    }

    /// A message is written, or will never be.
    pub(super) fn done(&mut self, peer: PeerId, id: MessageId) {
        let Some(queue) = self.peers.get_mut(&peer) else { return };
        let Some((bytes, cids)) = queue.messages.remove(&id) else { return };
        queue.on_the_way = queue.on_the_way.saturating_sub(bytes);
        self.on_the_way = self.on_the_way.saturating_sub(bytes);
        for cid in cids {
            queue.leaving.remove(&cid);
        }
        self.enqueue(peer);
    }

    /// The connection that answers went to is gone; the peer may have another.
    pub(super) fn connection_lost(&mut self, peer: PeerId) {
        let ids: Vec<MessageId> =
            self.peers.get(&peer).into_iter().flat_map(|queue| queue.messages.keys().copied()).collect();
        for id in ids {
            self.done(peer, id);
        }
    }

    /// The last connection of the peer is gone, and with it all that it wanted.
    pub(super) fn disconnected(&mut self, peer: PeerId) {
        self.connection_lost(peer);
        self.peers.remove(&peer);
        self.turns.retain(|other| *other != peer);
        self.negatives.retain(|(_, other), _| *other != peer);
        self.messages.retain(|(other, _, _)| *other != peer);
    }

    /// Sends the negative answers that are due.
    pub(super) fn tick(&mut self, now: Instant) {
        while let Some(first) = self.negatives.first_entry().filter(|first| first.key().0 <= now) {
            let ((_, peer), cids) = first.remove_entry();
            if let Some(queue) = self.peers.get_mut(&peer) {
                queue.negatives = queue.negatives.saturating_sub(cids.len());
            }
            let presences = cids.into_iter().map(|cid| (cid, Presence::DontHave)).collect();
            self.send(peer, Message { presences, ..Message::default() }, Vec::new());
        }
    }

    /// When [`tick`](Self::tick) is due.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.negatives.first_key_value().map(|((due, _), _)| *due)
    }

    /// The next message to hand to a connection of the peer.
    pub(super) fn next_message(&mut self) -> Option<(PeerId, MessageId, Message)> {
        self.messages.pop_front()
    }

    /// A name for a message that does not count as an answer.
    pub(super) fn message_id(&mut self) -> MessageId {
        self.ids += 1;
        MessageId(self.ids)
    }

    /// Blocks handed out so far, and their bytes.
    pub(super) fn sent(&self) -> (u64, u64) {
        self.sent
    }

    fn send(&mut self, peer: PeerId, message: Message, cids: Vec<Cid>) {
        if message.is_empty() {
            return;
        }
        let id = self.message_id();
        let Some(queue) = self.peers.get_mut(&peer) else { return };
        // A presence is small, and counted, so that a peer that does not read cannot pile them up.
        let blocks: usize = message.payloads.iter().map(|payload| payload.data.len()).sum();
        let bytes = blocks + 64 * message.presences.len();
        self.sent.0 += message.payloads.len() as u64;
        self.sent.1 += blocks as u64;
        queue.on_the_way += bytes;
        self.on_the_way += bytes;
        queue.leaving.extend(&cids);
        queue.messages.insert(id, (bytes, cids));
        self.messages.push_back((peer, id, message));
    }

    /// Gives `peer` a turn if it has wants and room for answers.
    fn enqueue(&mut self, peer: PeerId) {
        let Some(queue) = self.peers.get_mut(&peer) else { return };
        let ready =
            !queue.waiting.is_empty() && !queue.is_looking && queue.on_the_way < self.limits.peer_bytes;
        if ready && !queue.in_turn {
            queue.in_turn = true;
            self.turns.push_back(peer);
        }
    }
}

/// The first moment from `now` on that lies a whole number of delays, at least one, after `arrived`: how long it took to
/// come to a negative answer does not show, except by whole delays.
fn due(arrived: Instant, now: Instant, delay: Duration) -> Instant {
    let mut due = arrived + delay;
    if due < now && !delay.is_zero() {
        let late = now.duration_since(arrived).as_nanos().div_ceil(delay.as_nanos());
        due = arrived + delay.saturating_mul(u32::try_from(late).unwrap_or(u32::MAX));
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Block;

    const DELAY: Duration = Duration::from_millis(20);
    const LIMITS: Limits =
        Limits { peer_bytes: 1000, total_bytes: 10_000, lookups: 2, negative_delay: DELAY };

    fn cid(n: u32) -> Cid {
        *Block::raw(n.to_be_bytes().to_vec()).cid()
    }

    fn want(n: u32) -> Entry {
        Entry { cid: cid(n), priority: 0, cancel: false, kind: WantKind::Block, send_dont_have: true }
    }

    fn block(len: usize) -> Answer {
        Answer::Block(vec![0; len].into())
    }

    fn all(lookup: &Lookup, answer: Answer) -> Vec<Answer> {
        vec![answer; lookup.wants.len()]
    }

    #[test]
    fn denied_and_absent_leave_together_and_never_before_the_delay() {
        let mut server = Server::new(LIMITS);
        let (now, peer) = (Instant::now(), PeerId::random());
        server.wants(now, peer, (0..4).map(want).collect(), false);
        let lookup = server.next_lookup().unwrap();
        let answers = all(&lookup, Answer::Absent);
        server.answered(now + DELAY / 2, lookup, answers);
        assert!(server.next_message().is_none());
        assert_eq!(server.next_timeout(), Some(now + DELAY));
        server.tick(now + DELAY);
        let (_, _, message) = server.next_message().unwrap();
        assert_eq!(message.presences.len(), 4);
        assert_eq!(server.next_timeout(), None);
    }

    #[test]
    fn a_late_negative_leaves_after_a_whole_number_of_delays() {
        let start = Instant::now();
        for (took, leaves) in [(0, 1), (1, 1), (20, 1), (21, 2), (40, 2), (59, 3), (201, 11)] {
            let due = due(start, start + Duration::from_millis(took), DELAY);
            assert_eq!(due, start + DELAY * leaves, "a look-up of {took} ms");
        }
    }

    #[test]
    fn wants_wait_while_answers_are_on_their_way() {
        let mut server = Server::new(LIMITS);
        let (now, peer) = (Instant::now(), PeerId::random());
        server.wants(now, peer, vec![want(1)], false);
        let lookup = server.next_lookup().unwrap();
        let answers = all(&lookup, block(1000));
        server.answered(now, lookup, answers);
        let (_, id, _) = server.next_message().unwrap();
        server.wants(now, peer, vec![want(2)], false);
        assert!(server.next_lookup().is_none());
        server.done(peer, id);
        assert_eq!(server.next_lookup().unwrap().wants.len(), 1);
    }

    #[test]
    fn a_large_block_goes_alone() {
        let mut server = Server::new(LIMITS);
        let (now, peer) = (Instant::now(), PeerId::random());
        server.wants(now, peer, (0..4).map(want).collect(), false);
        let lookup = server.next_lookup().unwrap();
        let answers = [400_000, 100_000, 2 << 20, 1].map(block).to_vec();
        server.answered(now, lookup, answers);
        let counts: Vec<usize> = std::iter::from_fn(|| server.next_message())
            .map(|(_, _, message)| message.payloads.len())
            .collect();
        assert_eq!(counts, [2, 1, 1]);
    }

    #[test]
    fn peers_take_turns() {
        let mut server = Server::new(LIMITS);
        let now = Instant::now();
        let peers = [PeerId::random(), PeerId::random()];
        for (peer, count) in peers.into_iter().zip([1000, 1]) {
            server.wants(now, peer, (0..count).map(want).collect(), false);
        }
        let first = server.next_lookup().unwrap();
        let second = server.next_lookup().unwrap();
        assert_eq!((first.peer, second.peer), (peers[0], peers[1]));
        assert!(server.next_lookup().is_none(), "no more than two look-ups at a time");
        let answers = all(&first, Answer::Later);
        server.answered(now, first, answers);
        assert_eq!(server.next_lookup().unwrap().peer, peers[0]);
    }

    #[test]
    fn priority_goes_first_within_a_peer() {
        let mut server = Server::new(LIMITS);
        let (now, peer) = (Instant::now(), PeerId::random());
        let entries = [(1, -5), (2, 7), (3, 0)].map(|(n, priority)| Entry { priority, ..want(n) });
        server.wants(now, peer, entries.to_vec(), false);
        let lookup = server.next_lookup().unwrap();
        assert_eq!(lookup.wants.iter().map(|want| want.cid).collect::<Vec<_>>(), [cid(2), cid(3), cid(1)]);
    }

    #[test]
    fn a_peer_keeps_at_most_its_number_of_wants() {
        let mut server = Server::new(LIMITS);
        let (now, peer) = (Instant::now(), PeerId::random());
        for round in 0..4 {
            server.wants(now, peer, (round * 1000..(round + 1) * 1000).map(want).collect(), false);
        }
        let mut answered = 0;
        while let Some(lookup) = server.next_lookup() {
            answered += lookup.wants.len();
            let answers = all(&lookup, Answer::Absent);
            server.answered(now, lookup, answers);
        }
        assert_eq!(answered, WANTS_MAX);
        server.wants(now, peer, vec![want(9999)], false);
        assert!(server.next_lookup().is_none(), "negative answers still to come count too");
        server.tick(now + DELAY);
        let (_, id, message) = server.next_message().unwrap();
        assert_eq!(message.presences.len(), WANTS_MAX);
        server.done(peer, id);
        server.wants(now, peer, vec![want(9999)], false);
        assert!(server.next_lookup().is_some());
    }

    #[test]
    fn a_cancel_reaches_a_want_that_is_being_looked_up() {
        let mut server = Server::new(LIMITS);
        let (now, peer) = (Instant::now(), PeerId::random());
        server.wants(now, peer, vec![want(1), want(2)], false);
        let lookup = server.next_lookup().unwrap();
        server.wants(now, peer, vec![Entry { cancel: true, ..want(1) }], false);
        let answers = all(&lookup, block(10));
        server.answered(now, lookup, answers);
        assert_eq!(server.next_message().unwrap().2.payloads.len(), 1);
    }

    #[test]
    fn a_want_repeated_while_its_block_leaves_is_not_served_twice() {
        let mut server = Server::new(LIMITS);
        let (now, peer) = (Instant::now(), PeerId::random());
        server.wants(now, peer, vec![want(1)], false);
        let lookup = server.next_lookup().unwrap();
        let answers = all(&lookup, block(10));
        server.answered(now, lookup, answers);
        server.wants(now, peer, vec![want(1)], true);
        assert!(server.next_lookup().is_none());
        let (_, id, _) = server.next_message().unwrap();
        server.done(peer, id);
        server.wants(now, peer, vec![want(1)], false);
        assert!(server.next_lookup().is_some());
    }

    #[test]
    fn an_answer_for_an_earlier_visit_is_dropped() {
        let mut server = Server::new(LIMITS);
        let (now, peer) = (Instant::now(), PeerId::random());
        server.wants(now, peer, vec![want(1)], false);
        let lookup = server.next_lookup().unwrap();
        server.disconnected(peer);
        server.wants(now, peer, vec![want(1)], false);
        let answers = all(&lookup, block(10));
        server.answered(now, lookup, answers);
        assert!(server.next_message().is_none());
        assert!(server.next_lookup().is_some());
    }

    #[test]
    fn nothing_is_left_of_a_peer_that_went() {
        let mut server = Server::new(LIMITS);
        let (now, peer) = (Instant::now(), PeerId::random());
        server.wants(now, peer, (0..10).map(want).collect(), false);
        let lookup = server.next_lookup().unwrap();
        let answers = lookup
            .wants
            .iter()
            .enumerate()
            .map(|(i, _)| if i % 2 == 0 { block(500) } else { Answer::Absent });
        let answers = answers.collect();
        server.answered(now, lookup, answers);
        server.disconnected(peer);
        assert_eq!((server.on_the_way, server.lookups), (0, 0));
        assert!(server.peers.is_empty() && server.turns.is_empty() && server.negatives.is_empty());
        assert!(server.next_message().is_none());
    }
}
