//! News, as they come: blocks and transactions that peers tell of, and those that they are told.

use std::task::{Context, Poll};

use alloy_primitives::{B256, Bytes, keccak256};
use futures::StreamExt;
use libp2p::PeerId;

use super::{
    ChainSync,
    message::{NewBlock, NewTransactions, Status, TRANSACTIONS_MAX, VERSION},
    worker::{Import, Read},
};
use crate::BlockId;

impl ChainSync {
    pub(super) fn take_block(&mut self, peer: PeerId, new: NewBlock) {
        let hash = self.chain.engine().block_hash(&new.block.header);
        let number = new.block.header.number;
        if self.bad_blocks.get(&hash).is_some() {
            return self.blame(peer, format!("block {number} ({hash}), known to be invalid"));
        }
        let genesis = self.chain.genesis_hash();
        if let Some(known) = self.peers.get_mut(&peer) {
            known.known_blocks.insert(hash, ());
            let better =
                known.status.as_ref().is_none_or(|status| status.total_difficulty < new.total_difficulty);
            if better {
                let total_difficulty = new.total_difficulty;
                known.status = Some(Status { version: VERSION, genesis, number, hash, total_difficulty });
            }
        }
        self.count_peers();
        match self.chain.header(BlockId::Hash(new.block.header.parent_hash)) {
            Ok(Some(_)) if !self.failed => {
                self.workers.import(Import::Announced { peer, block: Box::new(new.block) });
            }
            Ok(_) => self.look_for_work(),
            Err(error) => self.fail(&error),
        }
    }

    pub(super) fn take_transactions(&mut self, peer: PeerId, new: NewTransactions) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        for raw in &new.raw {
            known.known_transactions.insert(keccak256(raw), ());
        }
        self.workers.import(Import::Transactions { raw: new.raw });
    }

    /// Sends `new` to every peer that is not known to have it, nor to be further.
    pub(super) fn tell_block(&mut self, new: &NewBlock) {
        let hash = self.chain.engine().block_hash(&new.block.header);
        for (id, peer) in &mut self.peers {
            let Some(status) = &peer.status else { continue };
            if status.total_difficulty > new.total_difficulty || peer.known_blocks.get(&hash).is_some() {
                continue;
            }
            peer.known_blocks.insert(hash, ());
            self.inner.blocks.send_request(id, new.clone());
        }
    }

    fn tell_transactions(&mut self, new: &[(B256, Bytes)]) {
        for (id, peer) in self.peers.iter_mut().filter(|(_, peer)| peer.status.is_some()) {
            let mut message = NewTransactions::default();
            let mut bytes = 0_usize;
            for (hash, raw) in new {
                if peer.known_transactions.get(hash).is_some() {
                    continue;
                }
                peer.known_transactions.insert(*hash, ());
                bytes = bytes.saturating_add(raw.len()).saturating_add(9);
                if bytes > TRANSACTIONS_MAX / 2 && !message.raw.is_empty() {
                    self.inner.transactions.send_request(id, std::mem::take(&mut message));
                    bytes = raw.len();
                }
                message.raw.push(raw.clone());
            }
            if !message.raw.is_empty() {
                self.inner.transactions.send_request(id, message);
            }
        }
    }

    /// Announces what the chain and the pool took of late; `false` if there was nothing.
    pub(super) fn announce(&mut self, cx: &mut Context<'_>) -> bool {
        let mut head = None;
        while let Poll::Ready(Some(hash)) = self.heads.poll_next_unpin(cx) {
            head = Some(hash);
        }
        if let Some(hash) = head {
            self.workers.read(Read::Load { hash });
        }
        let mut fresh = Vec::new();
        while let Poll::Ready(Some(transaction)) = self.transactions.poll_next_unpin(cx) {
            fresh.push(transaction);
        }
        self.tell_transactions(&fresh);
        head.is_some() || !fresh.is_empty()
    }
}
