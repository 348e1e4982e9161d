//! Clique: proof of authority by turns, as EIP-225 says.
//!
//! N authorities take turns, in the order of their addresses; a block in turn weighs 2, any other 1. Each may seal one
//! of L = floor(N / 2) + 1 consecutive blocks, so a majority has to take part. Authorities vote each other in and out
//! with the `beneficiary` and `nonce` of the blocks they seal.
//!
//! ```text
//! extraData = vanity (32) ‖ authorities (20 each, ascending; checkpoints and genesis only) ‖ seal (65)
//! seal      = r ‖ s ‖ v in {0, 1} over keccak256(RLP(header without the seal))
//! ```
//!
//! Up to London headers are exactly those of go-ethereum 1.13. From Shanghai on, where go-ethereum has no Clique any
//! more, the fields that a fork brings follow in the sealed list in the order of the header.
//!
//! Heads are ordered as EIP-3436 orders them, so that two halves of a network agree on one. A block is final, with the
//! probability that the word has under Clique, when `2 L - 1` blocks stand on it, counting itself.

mod seal;
mod snapshot;

use std::{
    cmp::{Ordering, Reverse},
    sync::{Arc, Mutex, PoisonError},
};

use alloy_consensus::{EMPTY_OMMER_ROOT_HASH, Header};
use alloy_primitives::{Address, B64, B256, Bytes, U256};

pub use self::snapshot::{Snapshot, Tally, Vote};
use self::{
    seal::{NONCE_ADD, NONCE_DROP, SEAL, VANITY},
    snapshot::signer_limit,
};
use crate::{Ancestry, EngineError, ForkChoice, Genesis, HeadInfo, HeaderRules, cache::Cache};

/// Blocks between two checkpoints where a genesis names none.
const EPOCH_DEFAULT: u64 = 30_000;
/// Seconds by which a block may be ahead of the clock.
const AHEAD_SECS_MAX: u64 = 1;
/// Every so many blocks the snapshot is kept on disk; a restart reads no more headers than that.
const RECORD_INTERVAL: u64 = 1_024;
/// Snapshots kept in memory, one a block.
const SNAPSHOTS_MAX: usize = 512;
/// Recovered sealers kept in memory.
const AUTHORS_MAX: usize = 4_096;

const IN_TURN: U256 = U256::from_limbs([2, 0, 0, 0]);
const OUT_OF_TURN: U256 = U256::from_limbs([1, 0, 0, 0]);

/// What a genesis says about Clique.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CliqueConfig {
    /// Blocks between two checkpoints, which list the authorities and discard open votes. 0 means 30000.
    pub epoch: u64,
    /// Least time between two blocks. Headers count in seconds, rounded down.
    pub block_period_ms: u64,
}

/// The rules of Clique, with a memory of what they worked out.
#[derive(Debug)]
pub struct Clique {
    config: CliqueConfig,
    snapshots: Mutex<Cache<B256, Arc<Snapshot>>>,
    authors: Mutex<Cache<B256, Address>>,
}

impl Clique {
    /// The rules for one network.
    pub fn new(mut config: CliqueConfig) -> Self {
        if config.epoch == 0 {
            config.epoch = EPOCH_DEFAULT;
        }
        Self {
            config,
            snapshots: Mutex::new(Cache::new(SNAPSHOTS_MAX)),
            authors: Mutex::new(Cache::new(AUTHORS_MAX)),
        }
    }

    /// The rules of `genesis`, whose engine is `clique` or `dev`.
    pub fn for_genesis(genesis: &Genesis) -> Self {
        let plain = genesis.file().config.clique;
        let plain_ms = plain.and_then(|plain| plain.period).unwrap_or_default().saturating_mul(1_000);
        Self::new(CliqueConfig {
            epoch: plain.and_then(|plain| plain.epoch).unwrap_or_default(),
            block_period_ms: genesis.network().map_or(plain_ms, |network| network.block_period_ms),
        })
    }

    /// The settings, with the epoch filled in.
    pub fn config(&self) -> &CliqueConfig {
        &self.config
    }

    /// The state of the vote after `at`.
    ///
    /// Fails with [`EngineError::Invalid`] where a block is valid and yet no block can follow it: before block L
    /// go-ethereum lets an authority seal twice running, and then finds no snapshot for the child.
    pub fn snapshot(&self, at: &HeadInfo, ancestry: &dyn Ancestry) -> Result<Arc<Snapshot>, EngineError> {
        let mut path: Vec<(Header, B256)> = Vec::new();
        let mut header = at.header.clone();
        let mut hash = at.hash;
        let base = loop {
            if let Some(known) = lock(&self.snapshots).get(&hash) {
                break known;
            }
            if let Some(kept) = self.kept_snapshot(header.number, &hash, ancestry)? {
                break Arc::new(kept);
            }
            if header.number == 0 {
                break Arc::new(Snapshot::new(0, hash, seal::listed_signers(&header)?));
            }
            let parent = ancestry
                .header(&header.parent_hash)?
                .ok_or(EngineError::UnknownAncestor(header.parent_hash))?;
            path.push((header, hash));
            (header, hash) = (parent.header, parent.hash);
        };
        let mut snapshot = base;
        for (header, hash) in path.iter().rev() {
            let signer = self.author_of(header, *hash)?;
            snapshot = Arc::new(snapshot.apply(header, *hash, signer, self.config.epoch)?);
            lock(&self.snapshots).insert(*hash, snapshot.clone());
        }
        lock(&self.snapshots).insert(at.hash, snapshot.clone());
        Ok(snapshot)
    }

    /// Writes a seal (r, s, recovery id) into the room that [`HeaderRules::prepare`] left for it.
    pub fn write_seal(header: &mut Header, seal: &[u8; SEAL]) {
        seal::write(header, seal);
    }

    /// Makes `header`, prepared and not yet sealed, a vote on `address`. On a checkpoint, which carries no vote, it
    /// changes nothing and returns `false`.
    pub fn write_vote(&self, header: &mut Header, address: Address, authorize: bool) -> bool {
        if self.is_checkpoint(header.number) {
            return false;
        }
        header.beneficiary = address;
        header.nonce = if authorize { NONCE_ADD } else { NONCE_DROP };
        true
    }

    /// Whether block `number` lists the authorities and carries no vote.
    pub fn is_checkpoint(&self, number: u64) -> bool {
        number.checked_rem(self.config.epoch) == Some(0)
    }

    /// The earliest time (Unix seconds) of a child of a block with time `parent`.
    pub fn earliest_timestamp(&self, parent: u64) -> u64 {
        parent.saturating_add(self.config.block_period_ms / 1_000)
    }

    fn kept_snapshot(
        &self,
        number: u64,
        hash: &B256,
        ancestry: &dyn Ancestry,
    ) -> Result<Option<Snapshot>, EngineError> {
        if number == 0 || number.checked_rem(RECORD_INTERVAL) != Some(0) {
            return Ok(None);
        }
        // A record that does not read back is worked out again from the headers.
        let record = ancestry.record(&record_key(hash))?;
        let kept: Option<Snapshot> = record.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Ok(kept.filter(|kept| kept.hash == *hash && kept.number == number))
    }

    fn author_of(&self, header: &Header, hash: B256) -> Result<Address, EngineError> {
        if let Some(author) = lock(&self.authors).get(&hash) {
            return Ok(author);
        }
        let author = seal::recover(header)?;
        lock(&self.authors).insert(hash, author);
        Ok(author)
    }

    fn verify_form(&self, header: &Header) -> Result<(), EngineError> {
        let checkpoint = self.is_checkpoint(header.number);
        if checkpoint && !header.beneficiary.is_zero() {
            return Err(EngineError::invalid("miner", "a checkpoint votes on no one"));
        }
        if header.nonce != NONCE_ADD && header.nonce != NONCE_DROP {
            return Err(EngineError::invalid("nonce", "neither of the two votes"));
        }
        if checkpoint && header.nonce != NONCE_DROP {
            return Err(EngineError::invalid("nonce", "a checkpoint has no vote"));
        }
        let listed = seal::listed_signers(header)?;
        if !checkpoint && !listed.is_empty() {
            return Err(EngineError::invalid("extraData", "only a checkpoint lists signers"));
        }
        if !header.mix_hash.is_zero() {
            return Err(EngineError::invalid("mixHash", "not zero"));
        }
        if header.ommers_hash != EMPTY_OMMER_ROOT_HASH {
            return Err(EngineError::invalid("sha3Uncles", "there are no ommers under Clique"));
        }
        if header.difficulty != IN_TURN && header.difficulty != OUT_OF_TURN {
            return Err(EngineError::invalid("difficulty", "neither 1 nor 2"));
        }
        Ok(())
    }

    /// Whether a block can follow `head` at all.
    fn can_grow(&self, head: &HeadInfo, ancestry: &dyn Ancestry) -> Result<bool, EngineError> {
        match self.snapshot(head, ancestry) {
            Ok(_) => Ok(true),
            Err(EngineError::Invalid(_)) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// How long ago the sealer of `head` was in turn, counted so that more is better: `(number - index) mod N`.
    fn turn_age(&self, head: &HeadInfo, ancestry: &dyn Ancestry) -> Result<u64, EngineError> {
        let Some(parent) = ancestry.header(&head.header.parent_hash)? else {
            return Ok(0);
        };
        let snapshot = self.snapshot(&parent, ancestry)?;
        let author = self.author_of(&head.header, head.hash)?;
        let count = u64::try_from(snapshot.signers.len()).unwrap_or(u64::MAX);
        let index = snapshot.index_of(&author).unwrap_or_default();
        Ok(head.number().saturating_add(count).saturating_sub(index).checked_rem(count).unwrap_or_default())
    }
}

impl HeaderRules for Clique {
    fn verify_genesis(&self, genesis: &Header) -> Result<(), EngineError> {
        if seal::listed_signers(genesis)?.is_empty() {
            return Err(EngineError::invalid(
                "extraData",
                "a genesis under Clique names at least one authority",
            ));
        }
        Ok(())
    }

    fn verify_header(
        &self,
        header: &Header,
        parent: &HeadInfo,
        ancestry: &dyn Ancestry,
        now: u64,
    ) -> Result<(), EngineError> {
        if header.timestamp > now.saturating_add(AHEAD_SECS_MAX) {
            return Err(EngineError::Future { number: header.number, time: header.timestamp, now });
        }
        self.verify_form(header)?;
        if header.timestamp < self.earliest_timestamp(parent.header.timestamp) {
            return Err(EngineError::invalid("timestamp", "less than one period after the parent"));
        }
        let snapshot = self.snapshot(parent, ancestry)?;
        if self.is_checkpoint(header.number) && !seal::listed_signers(header)?.iter().eq(&snapshot.signers) {
            return Err(EngineError::invalid("extraData", "a checkpoint lists the authorities in force"));
        }
        let author = self.author(header)?;
        if !snapshot.signers.contains(&author) {
            return Err(EngineError::invalid("extraData", format!("{author} is not an authority")));
        }
        // go-ethereum subtracts without a sign, so that nothing blocks a sealer before block L.
        if header.number >= snapshot.signer_limit() && snapshot.recently_signed(header.number, &author) {
            return Err(EngineError::invalid("extraData", format!("{author} has signed too recently")));
        }
        if (header.difficulty == IN_TURN) != snapshot.in_turn(header.number, &author) {
            return Err(EngineError::invalid("difficulty", "2 exactly if the sealer is in turn"));
        }
        Ok(())
    }

    fn author(&self, header: &Header) -> Result<Address, EngineError> {
        self.author_of(header, self.block_hash(header))
    }

    fn seal_hash(&self, header: &Header) -> B256 {
        seal::seal_hash(header)
    }

    fn prepare(
        &self,
        header: &mut Header,
        parent: &HeadInfo,
        author: Address,
        ancestry: &dyn Ancestry,
        now: u64,
    ) -> Result<(), EngineError> {
        let number = header.number;
        let snapshot = self.snapshot(parent, ancestry)?;
        let refuse = |reason| Err(EngineError::MayNotSeal { author, number, reason });
        if !snapshot.signers.contains(&author) {
            return refuse("it is not an authority");
        }
        if snapshot.recently_signed(number, &author) {
            return refuse("it sealed one of the last blocks and has to wait for others");
        }
        let mut extra = vec![0; VANITY];
        if self.is_checkpoint(number) {
            snapshot.signers.iter().for_each(|signer| extra.extend_from_slice(signer.as_slice()));
        }
        extra.extend_from_slice(&[0; SEAL]);
        header.extra_data = Bytes::from(extra);
        header.beneficiary = Address::ZERO;
        header.nonce = B64::ZERO;
        header.mix_hash = B256::ZERO;
        header.ommers_hash = EMPTY_OMMER_ROOT_HASH;
        header.difficulty = if snapshot.in_turn(number, &author) { IN_TURN } else { OUT_OF_TURN };
        header.timestamp = self.earliest_timestamp(parent.header.timestamp).max(now);
        Ok(())
    }

    fn records(
        &self,
        header: &HeadInfo,
        ancestry: &dyn Ancestry,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, EngineError> {
        if header.number() == 0 || header.number().checked_rem(RECORD_INTERVAL) != Some(0) {
            return Ok(Vec::new());
        }
        if !self.can_grow(header, ancestry)? {
            return Ok(Vec::new());
        }
        let snapshot = self.snapshot(header, ancestry)?;
        let record = serde_json::to_vec(&*snapshot).unwrap_or_default();
        Ok(vec![(record_key(&header.hash), record)])
    }
}

impl ForkChoice for Clique {
    fn compare(&self, a: &HeadInfo, b: &HeadInfo, ancestry: &dyn Ancestry) -> Result<Ordering, EngineError> {
        if a.hash == b.hash {
            return Ok(Ordering::Equal);
        }
        // A block that nothing can follow is worth less than any other, whatever it weighs.
        let alive = self.can_grow(a, ancestry)?.cmp(&self.can_grow(b, ancestry)?);
        // EIP-3436: the heavier, then the shorter, then the one whose sealer was in turn longest ago, then the lower hash.
        let weight = alive
            .then(a.total_difficulty.cmp(&b.total_difficulty))
            .then(Reverse(a.number()).cmp(&Reverse(b.number())));
        if weight.is_ne() {
            return Ok(weight);
        }
        let turn = self.turn_age(a, ancestry)?.cmp(&self.turn_age(b, ancestry)?);
        Ok(turn.then(Reverse(a.hash).cmp(&Reverse(b.hash))))
    }

    /// The newest block on which `2 L - 1` blocks stand, itself counted, where L belongs to the largest set that was in
    /// force from it to the head. With one authority that is the head.
    fn final_number(
        &self,
        head: &HeadInfo,
        last_final: u64,
        ancestry: &dyn Ancestry,
    ) -> Result<u64, EngineError> {
        let mut at = head.clone();
        let mut largest = match self.snapshot(&at, ancestry) {
            Ok(snapshot) => snapshot.signers.len(),
            // Nothing can follow such a head, so it makes nothing final.
            Err(EngineError::Invalid(_)) => return Ok(last_final),
            Err(other) => return Err(other),
        };
        while at.number() > last_final {
            let parent = ancestry
                .header(&at.header.parent_hash)?
                .ok_or(EngineError::UnknownAncestor(at.header.parent_hash))?;
            largest = largest.max(self.snapshot(&parent, ancestry)?.signers.len());
            let blocks = (head.number() - at.number()).saturating_add(1);
            if blocks >= signer_limit(largest).saturating_mul(2).saturating_sub(1) {
                return Ok(at.number());
            }
            at = parent;
        }
        Ok(last_final)
    }
}

fn record_key(hash: &B256) -> Vec<u8> {
    [b"clique/snapshot/", hash.as_slice()].concat()
}

/// A poisoned lock guards a cache that is still whole: each change to it is one call.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
