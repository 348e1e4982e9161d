//! Chain sync: a libp2p behaviour that follows the best chain among its peers and tells them of new blocks.

use std::sync::Arc;

use libp2p::{PeerId, StreamProtocol};

use crate::{Block, BlockRef, Chain};

/// The behaviour.
#[derive(Debug)]
pub struct ChainSync {}

/// What [`ChainSync`] tells its swarm's owner.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum Event {
    /// A peer of this network told its head.
    Status {
        /// The peer.
        peer: PeerId,
        /// Its head.
        head: BlockRef,
    },
    /// A peer follows another network, and was dropped.
    OtherNetwork {
        /// The peer.
        peer: PeerId,
        /// What it said of its genesis.
        genesis: String,
    },
    /// A peer sent what no honest one sends, and was dropped.
    Misbehaved {
        /// The peer.
        peer: PeerId,
        /// What it was.
        reason: String,
    },
    /// Blocks of a peer were imported.
    Imported {
        /// The peer.
        peer: PeerId,
        /// The last of them.
        last: BlockRef,
    },
    /// Our own storage failed: nothing is imported any more.
    Failed {
        /// Why.
        reason: String,
    },
}

impl ChainSync {
    /// A behaviour over `chain`. It announces what the chain takes as its head, and transactions newly in the pool, by
    /// itself; imports run on a thread of its own.
    pub fn new(chain: Arc<Chain>) -> Self {
        let _ = chain;
        todo!()
    }

    /// Announces a block that is not the head, for instance an own one that lost its turn.
    pub fn announce_block(&mut self, block: &Block) {
        let _ = block;
        todo!()
    }

    /// What identify says of a peer: one that speaks the sync protocol of another network is dropped.
    pub fn note_protocols(&mut self, peer: PeerId, protocols: &[StreamProtocol]) {
        let _ = (peer, protocols);
        todo!()
    }

    /// The number of the highest block that a connected peer has told of.
    pub fn highest_block(&self) -> Option<u64> {
        todo!()
    }

    /// A handle for other threads that answers [`ChainSync::highest_block`] and the number of peers in sync with us.
    pub fn peers(&self) -> Vec<PeerId> {
        todo!()
    }
}
