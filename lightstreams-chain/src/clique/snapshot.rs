//! The set of authorities after a block, with the votes about it that are still open.

use std::collections::{BTreeMap, BTreeSet};

use alloy_consensus::Header;
use alloy_primitives::{Address, B256};
use serde::{Deserialize, Serialize};

use super::seal::{NONCE_ADD, NONCE_DROP};
use crate::EngineError;

/// The state of the vote after a block: what its child is judged by.
///
/// The JSON form is the one of go-ethereum's `clique_getSnapshot`, beside the order of `signers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Number of the block.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// The authorities, ascending: who may seal the next block.
    pub signers: BTreeSet<Address>,
    /// Who sealed the last blocks and has to wait, by number.
    pub recents: BTreeMap<u64, Address>,
    /// Votes that count, in the order they were cast.
    pub votes: Vec<Vote>,
    /// What the votes add up to, by the account that is voted on.
    pub tally: BTreeMap<Address, Tally>,
}

/// One authority's vote on one account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// Who voted.
    pub signer: Address,
    /// In which block.
    pub block: u64,
    /// On whom.
    pub address: Address,
    /// Whether to add or to drop it.
    pub authorize: bool,
}

/// The votes on one account. All are of one direction, since an authority can only be dropped and others only added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Whether the account would be added or dropped.
    pub authorize: bool,
    /// How many votes it has.
    pub votes: usize,
}

impl Snapshot {
    /// The snapshot after a genesis block or a trusted checkpoint that lists `signers`.
    pub fn new(number: u64, hash: B256, signers: impl IntoIterator<Item = Address>) -> Self {
        Self {
            number,
            hash,
            signers: signers.into_iter().collect(),
            recents: BTreeMap::new(),
            votes: Vec::new(),
            tally: BTreeMap::new(),
        }
    }

    /// How many consecutive blocks have different sealers: `floor(N / 2) + 1`.
    pub fn signer_limit(&self) -> u64 {
        signer_limit(self.signers.len())
    }

    /// The place of `signer` among the authorities, ascending.
    pub fn index_of(&self, signer: &Address) -> Option<u64> {
        let index = self.signers.iter().position(|x| x == signer)?;
        u64::try_from(index).ok()
    }

    /// Whether block `number` is `signer`'s to seal without delay.
    pub fn in_turn(&self, number: u64, signer: &Address) -> bool {
        let count = u64::try_from(self.signers.len()).unwrap_or(u64::MAX);
        self.index_of(signer).is_some_and(|index| number.checked_rem(count) == Some(index))
    }

    /// Whether `signer` sealed one of the last `L - 1` blocks before `number`, the child of this snapshot's block.
    pub fn recently_signed(&self, number: u64, signer: &Address) -> bool {
        let limit = self.signer_limit();
        self.recents.iter().any(|(seen, recent)| recent == signer && seen.saturating_add(limit) > number)
    }

    /// Whether a vote on `address` can change anything: add one that is not an authority, or drop one that is.
    pub fn is_meaningful(&self, address: &Address, authorize: bool) -> bool {
        self.signers.contains(address) != authorize
    }

    /// The snapshot after `header`, the child of this block, which `signer` sealed.
    pub fn apply(
        &self,
        header: &Header,
        hash: B256,
        signer: Address,
        epoch: u64,
    ) -> Result<Self, EngineError> {
        let number = header.number;
        if Some(number) != self.number.checked_add(1) || header.parent_hash != self.hash {
            return Err(EngineError::invalid("parentHash", "not the child of the snapshot's block"));
        }
        let authorize = match header.nonce {
            NONCE_ADD => true,
            NONCE_DROP => false,
            _ => return Err(EngineError::invalid("nonce", "neither of the two votes")),
        };
        let target = header.beneficiary;

        let mut next = Self { number, hash, ..self.clone() };
        // EIP-225: an epoch transition discards all votes. The block's own vote is counted afterwards.
        if number.checked_rem(epoch) == Some(0) {
            next.votes.clear();
            next.tally.clear();
        }
        next.free_recent(number);
        if !next.signers.contains(&signer) {
            return Err(EngineError::invalid("extraData", format!("{signer} is not an authority")));
        }
        // EIP-225: a signer may seal one of SIGNER_LIMIT consecutive blocks.
        if next.recents.values().any(|recent| *recent == signer) {
            return Err(EngineError::invalid("extraData", format!("{signer} has signed too recently")));
        }
        next.recents.insert(number, signer);

        next.withdraw(&signer, &target);
        if next.cast(&target, authorize) {
            next.votes.push(Vote { signer, block: number, address: target, authorize });
        }
        // Only the account that this block votes on may change: no cascades.
        let tally = next.tally.get(&target).copied();
        if let Some(tally) = tally.filter(|tally| tally.votes > next.signers.len() / 2) {
            next.change(&target, tally.authorize);
        }
        Ok(next)
    }

    /// Drops the entry that leaves the window before block `number`: one entry only, whatever the limit was before.
    fn free_recent(&mut self, number: u64) {
        if let Some(out) = number.checked_sub(self.signer_limit()) {
            self.recents.remove(&out);
        }
    }

    /// Takes the earlier vote of `signer` on `target` out, if there is one.
    fn withdraw(&mut self, signer: &Address, target: &Address) {
        let earlier = self.votes.iter().position(|vote| vote.signer == *signer && vote.address == *target);
        if let Some(at) = earlier {
            let vote = self.votes.remove(at);
            self.uncast(&vote);
        }
    }

    fn cast(&mut self, target: &Address, authorize: bool) -> bool {
        if !self.is_meaningful(target, authorize) {
            return false;
        }
        let tally = self.tally.entry(*target).or_insert(Tally { authorize, votes: 0 });
        tally.votes = tally.votes.saturating_add(1);
        true
    }

    fn uncast(&mut self, vote: &Vote) {
        let Some(tally) = self.tally.get_mut(&vote.address).filter(|tally| tally.authorize == vote.authorize)
        else {
            return;
        };
        tally.votes = tally.votes.saturating_sub(1);
        if tally.votes == 0 {
            self.tally.remove(&vote.address);
        }
    }

    /// Adds or drops `target`, whose tally has become a majority.
    fn change(&mut self, target: &Address, authorize: bool) {
        if authorize {
            self.signers.insert(*target);
        } else {
            self.signers.remove(target);
            // The window may have shrunk: one more authority may seal again.
            self.free_recent(self.number);
            let (gone, kept) = self.votes.iter().partition(|vote| vote.signer == *target);
            self.votes = kept;
            let gone: Vec<Vote> = gone;
            gone.iter().for_each(|vote| self.uncast(vote));
        }
        self.votes.retain(|vote| vote.address != *target);
        self.tally.remove(target);
    }
}

pub(super) fn signer_limit(signers: usize) -> u64 {
    u64::try_from(signers / 2).unwrap_or(u64::MAX).saturating_add(1)
}
