//! A chain made up block by block, for tests of those who ask it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use alloy_primitives::{Address, B256, Bytes};
use lightstreams_acl::{AccessControl, AclError, At, BlockRef, ContentId, Decision, Denial};

use super::{BlockPoint, ChainHead, ChainView, ContentState, Domain, Finality, Tip, VersionInfo};

pub(crate) const REGISTRY: Address = Address::repeat_byte(0x11);
/// An account that is a contract.
pub(crate) const SMART: Address = Address::repeat_byte(0x44);

/// What is true at one block.
#[derive(Clone)]
pub(crate) struct Facts {
    pub(crate) time: u64,
    pub(crate) contents: BTreeMap<ContentId, ContentState>,
    pub(crate) versions: BTreeMap<(ContentId, B256), VersionInfo>,
    pub(crate) version_custody: Vec<Address>,
    pub(crate) rows: BTreeMap<(ContentId, Address), Row>,
    pub(crate) revoked: BTreeSet<Address>,
    /// Signatures that the smart account accepts.
    pub(crate) accepted: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Row {
    pub(crate) starts: u64,
    pub(crate) ends: u64,
    pub(crate) from_epoch: u32,
    pub(crate) bought: bool,
}

/// A chain whose block `n` has the facts at `n`.
pub(crate) struct MadeUp {
    pub(crate) blocks: Vec<Facts>,
    pub(crate) settled: usize,
    pub(crate) stale_after_ms: Option<u64>,
    pub(crate) fails: bool,
    /// How often permission was asked.
    pub(crate) asked: AtomicUsize,
}

impl MadeUp {
    pub(crate) fn new(blocks: Vec<Facts>, settled: usize) -> Self {
        Self { blocks, settled, stale_after_ms: Some(30_000), fails: false, asked: AtomicUsize::new(0) }
    }

    pub(crate) fn point(number: usize) -> BlockPoint {
        BlockPoint { number: number as u64, hash: B256::with_last_byte(number as u8 + 1) }
    }

    fn at(&self, block: BlockRef) -> Result<&Facts, AclError> {
        let BlockRef::Hash(hash) = block else { panic!("the engine names blocks by hash") };
        self.blocks.get(usize::from(hash[31]) - 1).ok_or(AclError::UnknownBlock(block))
    }

    fn row(&self, content: ContentId, account: Address, at: At) -> Result<Result<Row, Denial>, AclError> {
        let facts = self.at(at.block)?;
        let (starts, ends) = (at.starts.unwrap_or(facts.time), at.ends.unwrap_or(facts.time));
        Ok(match facts.rows.get(&(content, account)) {
            None if facts.revoked.contains(&account) => Err(Denial::Revoked),
            None => Err(Denial::NotGranted),
            Some(row) if row.ends != 0 && row.ends <= ends => Err(Denial::Expired { at: row.ends }),
            Some(row) if row.starts > starts => Err(Denial::NotYetValid { at: row.starts }),
            Some(row) if at.epoch.is_some_and(|epoch| epoch < row.from_epoch) => {
                Err(Denial::OtherEpoch { from: row.from_epoch })
            }
            Some(row) => Ok(*row),
        })
    }
}

impl AccessControl for MadeUp {
    fn decide(&self, content: ContentId, account: Address, at: At) -> Result<Decision, AclError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Ok(match self.row(content, account, at)? {
            Ok(row) => Decision::Allow { until: (row.ends != 0).then_some(row.ends) },
            Err(denial) => Decision::Deny(denial),
        })
    }
}

impl ChainView for MadeUp {
    fn domain(&self) -> Domain {
        Domain { chain_id: 161, registry: REGISTRY }
    }

    fn head(&self) -> Result<ChainHead, AclError> {
        if self.fails {
            return Err(AclError::Unsupported("answer"));
        }
        let number = self.blocks.len() - 1;
        Ok(ChainHead {
            block: Self::point(number),
            time: self.blocks[number].time,
            stale_after_ms: self.stale_after_ms,
        })
    }

    fn tip(&self) -> Result<Tip, AclError> {
        Ok(Tip {
            head: self.head()?,
            final_block: Self::point(self.settled),
            final_time: self.blocks[self.settled].time,
            finality: Finality::Probabilistic,
            between: (self.settled + 1..self.blocks.len() - 1).map(Self::point).collect(),
        })
    }

    fn content(&self, content: ContentId, block: BlockRef) -> Result<Option<ContentState>, AclError> {
        Ok(self.at(block)?.contents.get(&content).cloned())
    }

    fn version_of(
        &self,
        content: ContentId,
        manifest: B256,
        block: BlockRef,
    ) -> Result<Option<VersionInfo>, AclError> {
        Ok(self.at(block)?.versions.get(&(content, manifest)).copied())
    }

    fn custody_of_version(&self, _: ContentId, _: u32, block: BlockRef) -> Result<Vec<Address>, AclError> {
        Ok(self.at(block)?.version_custody.clone())
    }

    fn has_bought(&self, content: ContentId, account: Address, at: At) -> Result<bool, AclError> {
        Ok(self.row(content, account, at)?.is_ok_and(|row| row.bought))
    }

    fn accepts_signature(
        &self,
        account: Address,
        _: B256,
        sig: &Bytes,
        block: BlockRef,
    ) -> Result<bool, AclError> {
        let accepted = self.at(block)?.accepted.as_deref();
        Ok(account == SMART && accepted == Some(sig.as_ref()))
    }
}
