use super::{session::FIRST_PROBES, *};

const MIB: usize = 1024 * 1024;
const KIB: usize = 1024;
const LIMITS: Limits = Limits { peer_window: MIB, session_window: 2 * MIB, timeout: Duration::from_secs(4) };
const PATIENCE: Duration = Duration::from_secs(20);
const MOMENT: Duration = Duration::from_millis(1);

/// What is missing, and why.
type End = (Vec<Cid>, Vec<(PeerId, PeerFailureKind)>);

/// A client, its clock, and what it said.
struct Case {
    client: Client,
    now: Instant,
    peers: Vec<PeerId>,
    asked: HashMap<PeerId, Vec<Cid>>,
    probed: HashMap<PeerId, Vec<Cid>>,
    cancelled: HashMap<PeerId, Vec<Cid>>,
    delivered: Vec<Block>,
    dials: usize,
    blamed: Vec<PeerId>,
    finished: Option<End>,
}

impl Case {
    /// Peers that gave something before.
    fn new(peers: usize) -> Self {
        let mut case = Self::unknown(peers);
        case.client.peers.values_mut().for_each(|peer| peer.gave = true);
        case
    }

    fn unknown(peers: usize) -> Self {
        let mut case = Self {
            client: Client::new(LIMITS),
            now: Instant::now(),
            peers: (0..peers).map(|_| PeerId::random()).collect(),
            asked: HashMap::new(),
            probed: HashMap::new(),
            cancelled: HashMap::new(),
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
                    if full {
                        self.asked.remove(&peer);
                        self.probed.remove(&peer);
                    }
                    for entry in entries {
                        for lists in [&mut self.asked, &mut self.probed] {
                            lists.entry(peer).or_default().retain(|cid| *cid != entry.cid);
                        }
                        let list = match (entry.cancel, entry.kind) {
                            (true, _) => &mut self.cancelled,
                            (false, WantKind::Block) => &mut self.asked,
                            (false, WantKind::Have) => &mut self.probed,
                        };
                        list.entry(peer).or_default().push(entry.cid);
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

    fn probed(&self, peer: usize) -> Vec<Cid> {
        self.probed.get(&self.peers[peer]).cloned().unwrap_or_default()
    }

    fn forget(&mut self, peer: usize, cid: &Cid) -> PeerId {
        let id = self.peers[peer];
        for lists in [&mut self.asked, &mut self.probed] {
            lists.entry(id).or_default().retain(|other| other != cid);
        }
        id
    }

    fn answer(&mut self, peer: usize, block: &Block) {
        let id = self.forget(peer, block.cid());
        self.client.block(self.now, id, block);
        self.drain();
    }

    fn says(&mut self, peer: usize, cid: &Cid, has: bool) {
        let id = self.forget(peer, cid);
        self.client.presence(self.now, id, cid, has);
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

fn find<'a>(blocks: &'a [Block], cid: &Cid) -> &'a Block {
    blocks.iter().find(|block| block.cid() == cid).unwrap()
}

#[test]
fn windows_hold_for_peers_session_and_consumer() {
    let mut case = Case::new(3);
    let all = blocks(80, 256 * KIB);
    case.open(&all);
    assert_eq!((0..3).map(|peer| case.asked(peer).len()).collect::<Vec<_>>(), [1, 1, 1]);
    let (mut taken, mut widest) = (0, 0);
    while taken < 60 {
        let outstanding: Vec<usize> = (0..3).map(|peer| case.asked(peer).len()).collect();
        assert!(outstanding.iter().all(|count| *count <= 4), "{outstanding:?}");
        let buffered = case.delivered.len() - taken;
        assert!((outstanding.iter().sum::<usize>() + buffered) * 256 * KIB <= LIMITS.session_window);
        widest = widest.max(outstanding.iter().sum());
        match (0..3).find(|peer| outstanding[*peer] > 0) {
            Some(peer) => {
                let cid = case.asked(peer)[0];
                case.answer(peer, find(&all, &cid));
            }
            // Until the consumer takes, nothing more is asked for.
            None => {
                case.client.consumed(case.now, 1, buffered * 256 * KIB);
                case.drain();
                taken += buffered;
            }
        }
    }
    assert_eq!(widest, 8, "the windows opened as blocks came");
    assert!(case.client.next_timeout().is_some());
}

#[test]
fn small_blocks_do_not_open_the_window_to_large_ones() {
    let mut case = Case::new(1);
    let all = blocks(600, 100);
    case.open(&all);
    for _ in 0..100 {
        let cid = case.asked(0)[0];
        case.answer(0, find(&all, &cid));
        case.client.consumed(case.now, 1, 100);
        case.drain();
    }
    assert!((5..=32).contains(&case.asked(0).len()), "{}", case.asked(0).len());
}

#[test]
fn who_is_slow_is_asked_for_less() {
    let mut case = Case::new(2);
    let all = blocks(400, 64 * KIB);
    case.open(&all);
    let mut given = [0, 0];
    for round in 0..100 {
        case.now += Duration::from_millis(50);
        for peer in [0, 1] {
            // The second sends one block in a second, the first all that it is asked for in 50 ms.
            let count = if peer == 0 { case.asked(0).len() } else { usize::from(round % 20 == 19) };
            for cid in case.asked(peer).into_iter().take(count) {
                case.answer(peer, find(&all, &cid));
                case.client.consumed(case.now, 1, 64 * KIB);
                case.drain();
                given[peer] += 1;
            }
        }
        if case.finished.is_some() {
            break;
        }
    }
    assert!(given[0] >= 350 && given[1] >= 1, "{given:?}");
    assert!(case.asked(1).len() <= 4, "{} blocks wait for the slow one", case.asked(1).len());
}

#[test]
fn unknown_peers_are_probed_each_about_other_blocks() {
    let mut case = Case::unknown(3);
    let all = blocks(40, 256 * KIB);
    case.open(&all);
    let mut probed: Vec<Cid> = (0..3).flat_map(|peer| case.probed(peer)).collect();
    assert!((0..3).all(|peer| case.asked(peer).is_empty() && case.probed(peer).len() == FIRST_PROBES));
    probed.sort();
    probed.dedup();
    assert_eq!(probed.len(), 3 * FIRST_PROBES, "no block is asked about twice");
    let first = case.probed(1)[0];
    case.says(1, &first, true);
    assert_eq!(case.asked(1), [first], "who has is asked");
    assert!(case.asked(0).is_empty() && case.asked(2).is_empty());
    // A small block comes at once.
    let second = case.probed(0)[0];
    case.answer(0, find(&all, &second));
    assert_eq!(case.delivered.len(), 1);
    assert_eq!(case.client.stats().duplicate_blocks, 0);
}

#[test]
fn what_one_lacks_all_others_are_asked_about_at_once() {
    let mut case = Case::new(4);
    let all = blocks(1, 100);
    let cid = *all[0].cid();
    case.open(&all);
    assert_eq!(case.asked(0), [cid]);
    case.says(0, &cid, false);
    assert!((1..4).all(|peer| case.probed(peer) == [cid] && case.asked(peer).is_empty()));
    case.says(3, &cid, true);
    assert_eq!(case.asked(3), [cid]);
    case.says(1, &cid, true);
    assert!(case.asked(1).is_empty(), "of one peer at a time");
    case.answer(3, &all[0]);
    assert_eq!(case.delivered, all);
    assert_eq!(case.finished, Some((vec![], vec![])));
    assert!(case.cancelled[&case.peers[2]].contains(&cid), "who has not answered is told");
}

#[test]
fn a_refusal_is_answered_by_a_cancel() {
    let mut case = Case::new(1);
    let all = blocks(1, 100);
    case.open(&all);
    case.says(0, all[0].cid(), false);
    assert_eq!(case.cancelled[&case.peers[0]], [*all[0].cid()]);
    // Until it has heard of the cancel, it may push the block when it gets it.
    case.answer(0, &all[0]);
    assert!(case.blamed.is_empty());
}

#[test]
fn silence_is_met_by_a_second_chance_and_then_by_the_others() {
    let mut case = Case::new(2);
    let all = blocks(1, 100);
    case.open(&all);
    assert_eq!(case.asked(0).len(), 1);
    case.pass(LIMITS.timeout);
    assert_eq!((case.asked(0).len(), case.asked(1).len()), (0, 1), "cancelled here, asked there");
    case.says(1, all[0].cid(), false);
    assert_eq!(case.asked(0), [*all[0].cid()], "asked again where nobody said no");
    case.pass(LIMITS.timeout);
    let failures = vec![(case.peers[0], PeerFailureKind::Silent), (case.peers[1], PeerFailureKind::Absent)];
    assert_eq!(case.finished, Some((vec![*all[0].cid()], failures)));
    // What comes too late is no offence.
    case.answer(0, &all[0]);
    assert!(case.blamed.is_empty());
    assert_eq!(case.client.stats().duplicate_blocks, 1);
}

#[test]
fn who_says_that_it_has_and_sends_nothing_is_given_up() {
    let mut case = Case::unknown(2);
    let all = blocks(2, 100);
    case.open(&all);
    for _ in 0..40 {
        for cid in case.probed(0) {
            case.says(0, &cid, true);
        }
        for cid in case.probed(1).into_iter().chain(case.asked(1)) {
            case.answer(1, find(&all, &cid));
        }
        case.pass(LIMITS.timeout / 4);
    }
    assert_eq!(case.finished, Some((vec![], vec![])));
}

#[test]
fn a_stalled_peer_is_passed_over_long_before_it_counts_as_silent() {
    let mut case = Case::new(2);
    let all = blocks(20, 64 * KIB);
    case.open(&all);
    // Both show what they usually take.
    for peer in [0, 1] {
        case.now += MOMENT;
        let cid = case.asked(peer)[0];
        case.answer(peer, find(&all, &cid));
    }
    let held = case.asked(0);
    assert!(!held.is_empty());
    while !case.asked(1).is_empty() {
        let cid = case.asked(1)[0];
        case.answer(1, find(&all, &cid));
        case.client.consumed(case.now, 1, 64 * KIB);
        case.drain();
    }
    case.pass(Duration::from_secs(1));
    assert!(case.asked(0).is_empty() && held.iter().any(|cid| case.asked(1).contains(cid)));
}

#[test]
fn what_comes_late_is_taken_where_it_is_still_wanted() {
    let mut case = Case::new(2);
    let all = blocks(1, 100);
    case.open(&all);
    case.pass(LIMITS.timeout);
    assert_eq!(case.asked(1), [*all[0].cid()]);
    case.answer(0, &all[0]);
    assert_eq!(case.delivered, all);
    assert!(case.asked(1).is_empty(), "cancelled there");
    case.answer(1, &all[0]);
    let stats = case.client.stats();
    assert_eq!((stats.blocks, stats.duplicate_blocks, stats.duplicate_bytes), (2, 1, 100));
    assert!(case.blamed.is_empty());
}

#[test]
fn a_peer_without_presences_is_asked_and_never_probed() {
    let mut case = Case::unknown(2);
    let all = blocks(4, 100);
    case.open(&all);
    assert!(!case.probed(0).is_empty());
    let (now, old) = (case.now, case.peers[0]);
    case.client.plain(now, old);
    case.drain();
    assert!(case.probed(0).is_empty() && !case.asked(0).is_empty());
    // What the other lacks is asked of it.
    while case.finished.is_none() {
        for cid in case.probed(1) {
            case.says(1, &cid, false);
        }
        let cid = case.asked(0)[0];
        case.answer(0, find(&all, &cid));
    }
    assert!(case.probed(0).is_empty() && case.delivered.len() == 4);
}

#[test]
fn a_lost_peer_is_dialed_again_while_others_go_on() {
    let mut case = Case::new(2);
    let all = blocks(4, 100);
    case.open(&all);
    let (lost, now) = (case.peers[0], case.now);
    for dials in 1..=DIALS_MAX {
        case.client.disconnected(now, lost);
        case.asked.remove(&lost);
        case.probed.remove(&lost);
        case.drain();
        assert_eq!(case.dials, usize::from(dials));
        assert!(!case.asked(1).is_empty());
        case.client.connected(now, lost);
        case.drain();
    }
    case.client.disconnected(now, lost);
    case.drain();
    assert_eq!(case.dials, usize::from(DIALS_MAX), "a connection that flaps is given up");
    while let Some(cid) = case.asked(1).first().copied() {
        case.answer(1, find(&all, &cid));
    }
    assert_eq!(case.finished, Some((vec![], vec![(lost, PeerFailureKind::Unreachable)])));
    assert_eq!(case.delivered.len(), 4);
}

#[test]
fn who_connects_later_joins_a_session_that_names_nobody() {
    let mut case = Case::new(1);
    let all = blocks(2, 100);
    case.client.open(case.now, 1, all.iter().map(|block| *block.cid()).collect(), &[], PATIENCE);
    case.drain();
    let late = PeerId::random();
    case.peers.push(late);
    case.client.connected(case.now, late);
    case.client.disconnected(case.now, case.peers[0]);
    case.drain();
    while let Some(cid) = case.asked(1).first().copied() {
        case.answer(1, find(&all, &cid));
    }
    assert_eq!(case.delivered.len(), 2);
}

#[test]
fn patience_runs_while_peers_are_waited_for_and_not_while_the_consumer_is() {
    let mut case = Case::new(1);
    let all = blocks(2, MIB);
    case.open(&all);
    case.answer(0, &all[0]);
    case.client.consumed(case.now, 1, MIB);
    case.drain();
    case.says(0, all[1].cid(), false);
    assert_eq!(case.finished.take().map(|(missing, _)| missing), Some(vec![*all[1].cid()]));

    let connecting = PeerId::random();
    case.client.open(case.now, 2, vec![*all[1].cid()], &[connecting], PATIENCE);
    case.pass(PATIENCE - MOMENT);
    assert_eq!(case.finished, None);
    case.pass(MOMENT);
    let failures = vec![(connecting, PeerFailureKind::Unreachable)];
    assert_eq!(case.finished, Some((vec![*all[1].cid()], failures)));
    assert_eq!(case.client.next_timeout(), None);
}

#[test]
fn a_block_goes_to_all_sessions_that_want_it_and_one_may_leave() {
    let mut case = Case::new(2);
    let all = blocks(1, 100);
    let cid = vec![*all[0].cid()];
    for (id, peer) in [(1, 0), (2, 1), (3, 1)] {
        case.client.open(case.now, id, cid.clone(), &case.peers[peer..=peer], PATIENCE);
    }
    case.client.close(case.now, 3);
    case.drain();
    assert_eq!((case.asked(0).len(), case.asked(1).len()), (1, 1), "another session still wants it");
    let id = case.forget(0, &cid[0]);
    case.client.block(case.now, id, &all[0]);
    let mut delivered = 0;
    while let Some(output) = case.client.next_output() {
        delivered += usize::from(matches!(output, Output::Deliver { .. }));
    }
    assert_eq!(delivered, 2);
    assert!(case.peers.iter().all(|peer| case.client.wanted_of(peer) == 0));
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
    assert_eq!((case.asked(0).len(), case.asked(1).len()), (0, 1));
    assert!(case.delivered.is_empty());
}

#[test]
fn everything_is_asked_again_when_a_connection_is_replaced() {
    let mut case = Case::new(1);
    let all = blocks(3, 100);
    case.open(&all);
    let mut before = case.asked(0);
    case.asked.clear();
    case.client.resend(case.peers[0]);
    case.drain();
    let mut asked = case.asked(0);
    asked.sort();
    before.sort();
    assert!(!asked.is_empty());
    assert_eq!(asked, before);
}
