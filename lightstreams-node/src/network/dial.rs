//! Connecting to others.

use std::time::{Duration, Instant};

use libp2p::multiaddr::Protocol;
use libp2p::swarm::DialError;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId};

use crate::error::{Exit, NodeError};

/// First and last pause between two dials of a configured peer.
const REDIAL_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The peer id that an address ends in.
pub fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        _ => None,
    }
}

/// A peer of the configuration.
pub(super) struct Configured {
    pub(super) address: Multiaddr,
    pub(super) peer: Option<PeerId>,
    pub(super) dialling: bool,
    pub(super) next: Instant,
    pause: Duration,
}

impl Configured {
    pub(super) fn new(address: Multiaddr, now: Instant) -> Self {
        let peer = peer_of(&address);
        Self { address, peer, dialling: false, next: now, pause: REDIAL_PAUSES.0 }
    }

    pub(super) fn connected(&mut self, peer: PeerId) {
        self.peer = Some(peer);
        self.dialling = false;
        self.pause = REDIAL_PAUSES.0;
    }

    pub(super) fn failed(&mut self, now: Instant) {
        self.dialling = false;
        self.next = now + self.pause;
        self.pause = (self.pause * 2).min(REDIAL_PAUSES.1);
    }
}

/// Dials from a port of its own: two nodes that dial each other from the ports they listen on may meet in one TCP
/// connection (a simultaneous open, RFC 9293 section 3.5) whose ends both act as its dialler, and then both dials fail.
pub(super) fn dial_opts(address: &Multiaddr, condition: PeerCondition) -> DialOpts {
    match peer_of(address) {
        Some(peer) => {
            let opts = DialOpts::peer_id(peer).condition(condition).addresses(vec![address.clone()]);
            opts.allocate_new_port().build()
        }
        None => DialOpts::unknown_peer_id().address(address.clone()).allocate_new_port().build(),
    }
}

pub(super) fn dial_failure(error: &DialError) -> String {
    match error {
        DialError::WrongPeerId { obtained, .. } => format!("the node there is {obtained}"),
        DialError::Transport(errors) => {
            errors.last().map_or_else(|| "no address could be dialled".into(), |(_, e)| innermost(e))
        }
        other => innermost(other),
    }
}

pub(super) fn unreachable(address: &Multiaddr, why: &str) -> NodeError {
    NodeError::new("peer_unreachable", format!("cannot connect to {address}: {why}"))
        .exit(Exit::Peer)
        .hint("check that the other node runs and that the address is right")
}

pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(below) = error.source() {
        error = below;
    }
    error.to_string()
}
