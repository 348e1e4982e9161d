//! The heaviest chain that a peer claims, fetched from the last common block on.

use std::{
    cmp::Reverse,
    time::{Duration, Instant},
};

use alloy_primitives::{B256, U256};
use libp2p::{PeerId, request_response::OutboundRequestId, swarm::ToSwarm};

use super::{
    ChainSync, Event,
    message::{Question, Range, Reply, Status},
    worker::{Failed, Import},
};
use crate::{Block, BlockId, BlockRef, Header, ImportError};

/// Headers asked for at a time in search of the last common block.
const LOCATE_COUNT: u64 = 32;
/// Blocks asked for at a time.
const FETCH_COUNT: u64 = 256;
/// How long a peer that could not serve is left alone.
const BACKOFF: Duration = Duration::from_secs(10);

/// The one fetch that is under way.
pub(super) enum State {
    Idle,
    /// Looking for the last common block among `count` headers from `first` on.
    Locating {
        peer: PeerId,
        request: OutboundRequestId,
        first: u64,
        step: u64,
    },
    /// Waiting for the blocks from `next` on.
    Fetching {
        peer: PeerId,
        request: OutboundRequestId,
        next: u64,
    },
    /// The thread imports what came.
    Importing,
}

impl ChainSync {
    /// Starts to fetch the heaviest chain that a peer claims, if it is none that is known here.
    pub(super) fn look_for_work(&mut self) {
        if !matches!(self.state, State::Idle) || self.failed {
            return;
        }
        let head = self.chain.head();
        let now = Instant::now();
        let mut candidates: Vec<(U256, PeerId, Status)> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.not_before <= now)
            .filter_map(|(id, peer)| Some((id, peer.status.as_ref()?)))
            // Of equal weight one may still be preferred: the chain decides when it has it.
            .filter(|(_, status)| {
                status.total_difficulty >= head.total_difficulty && status.hash != head.hash
            })
            .map(|(id, status)| (status.total_difficulty, *id, status.clone()))
            .collect();
        candidates.sort_by_key(|(weight, ..)| Reverse(*weight));
        for (_, peer, status) in candidates {
            match self.chain.header(BlockId::Hash(status.hash)) {
                Ok(Some(_)) => continue,
                Ok(None) => {
                    return self.locate(
                        peer,
                        status.number.min(head.number()).saturating_add(1),
                        LOCATE_COUNT,
                    );
                }
                Err(error) => return self.fail(&error),
            }
        }
    }

    /// Asks for the headers below `end`, `step` of them.
    fn locate(&mut self, peer: PeerId, end: u64, step: u64) {
        let first = end.saturating_sub(step);
        let range = Range { first, count: LOCATE_COUNT };
        let request = self.inner.sync.send_request(&peer, Question::Headers(range));
        self.state = State::Locating { peer, request, first, step };
    }

    fn fetch(&mut self, peer: PeerId, next: u64) {
        let range = Range { first: next, count: FETCH_COUNT };
        let request = self.inner.sync.send_request(&peer, Question::Blocks(range));
        self.state = State::Fetching { peer, request, next };
    }

    /// Leaves `peer` alone for a while and looks for another.
    pub(super) fn back_off(&mut self, peer: PeerId) {
        if let Some(known) = self.peers.get_mut(&peer) {
            known.not_before = Instant::now() + BACKOFF;
        }
        self.state = State::Idle;
        self.look_for_work();
    }

    pub(super) fn take_reply(&mut self, peer: PeerId, request: OutboundRequestId, reply: Reply) {
        match (reply, &self.state) {
            (Reply::Status(status), _) => {
                let genesis = status.genesis.to_string();
                if !self.take_status(peer, status) {
                    self.drop_peer(peer, Event::OtherNetwork { peer, genesis });
                }
            }
            (Reply::Headers(headers), State::Locating { request: asked, first, step, .. })
                if *asked == request =>
            {
                let (first, step) = (*first, *step);
                self.state = State::Idle;
                if !self.is_range(first, LOCATE_COUNT, headers.iter()) {
                    return self.blame(peer, "headers that were not asked for");
                }
                // The last header that both know.
                let mut common = None;
                for header in headers.iter().rev() {
                    let hash = self.chain.engine().block_hash(header);
                    match self.chain.header(BlockId::Hash(hash)) {
                        Ok(Some(info)) => {
                            common = Some(info.number());
                            break;
                        }
                        Ok(None) => {}
                        Err(error) => return self.fail(&error),
                    }
                }
                match common {
                    Some(common) => self.fetch(peer, common.saturating_add(1)),
                    None if first == 0 => self.blame(peer, "a chain without our genesis"),
                    None => self.locate(peer, first, step.saturating_mul(2)),
                }
            }
            (Reply::Blocks(blocks), State::Fetching { request: asked, next, .. }) if *asked == request => {
                let next = *next;
                self.state = State::Idle;
                if !self.is_range(next, FETCH_COUNT, blocks.iter().map(|block| &block.header)) {
                    return self.blame(peer, "blocks that were not asked for");
                }
                let bad = |block: &Block| {
                    self.bad_blocks.get(&self.chain.engine().block_hash(&block.header)).is_some()
                };
                if blocks.iter().any(bad) {
                    return self.blame(peer, "a block known to be invalid");
                }
                if blocks.is_empty() {
                    return self.caught_up(peer);
                }
                self.state = State::Importing;
                if !self.workers.import(Import::Range { peer, blocks }) {
                    self.back_off(peer);
                }
            }
            // Late, or not asked for: of no use, and no harm.
            _ => {}
        }
    }

    /// Whether `headers` are consecutive, from `first` on, and no more than were asked for.
    fn is_range<'a>(&self, first: u64, count: u64, headers: impl Iterator<Item = &'a Header>) -> bool {
        let mut parent: Option<B256> = None;
        for (header, place) in headers.zip(0..) {
            let linked = parent.is_none_or(|parent| parent == header.parent_hash);
            if place >= count || Some(header.number) != first.checked_add(place) || !linked {
                return false;
            }
            parent = Some(self.chain.engine().block_hash(header));
        }
        true
    }

    /// `peer` has no more blocks: what it claimed beyond them is not to be believed.
    fn caught_up(&mut self, peer: PeerId) {
        self.state = State::Idle;
        let head = self.chain.head();
        let Some(known) = self.peers.get_mut(&peer) else { return self.look_for_work() };
        let claims_more = known.status.as_ref().is_some_and(|status| {
            status.hash != head.hash && matches!(self.chain.header(BlockId::Hash(status.hash)), Ok(None))
        });
        if claims_more {
            // It may have changed its mind since: it is asked again.
            known.status = None;
            self.ask_status(&peer);
            return self.back_off(peer);
        }
        self.look_for_work();
    }

    pub(super) fn imported(
        &mut self,
        peer: PeerId,
        range: bool,
        last: Option<BlockRef>,
        failed: Option<Failed>,
    ) {
        if let Some(last) = last {
            self.events.push_back(ToSwarm::GenerateEvent(Event::Imported { peer, last }));
        }
        if range {
            self.state = State::Idle;
        }
        let Some(Failed { block, error }) = failed else {
            match (range, last) {
                (true, Some(last)) if self.peers.contains_key(&peer) => {
                    let more = self.peers.get(&peer).and_then(|known| known.status.as_ref());
                    if more.is_some_and(|status| status.number > last.number) {
                        self.fetch(peer, last.number.saturating_add(1));
                    } else {
                        self.caught_up(peer);
                    }
                }
                _ => self.look_for_work(),
            }
            return;
        };
        match error {
            ImportError::Invalid { block: hash, reason } => {
                self.bad_blocks.insert(block.hash, ());
                self.bad_blocks.insert(hash, ());
                self.blame(peer, format!("invalid block {block}: {reason}"));
                self.look_for_work();
            }
            ImportError::Storage(error) => self.fail(&error),
            ImportError::TooDeep { .. } => {
                let reason = error.to_string();
                self.events.push_back(ToSwarm::GenerateEvent(Event::Diverged { peer, reason }));
                self.back_off(peer);
            }
            // A parent that is missing is fetched; a block from the future comes again.
            _ if range => self.back_off(peer),
            _ => self.look_for_work(),
        }
    }
}
