//! Ommers: headers of blocks that did not become canonical, in the body of one that may.
//!
//! Yellow Paper, section 11.1: a block names at most two, each the child of one of its ancestors and no ancestor itself, a valid
//! header, and none that an ancestor named before.

use std::collections::HashSet;

use alloy_primitives::B256;

use super::Chain;
use crate::{Ancestry, Block, HeadInfo, ImportError, InvalidBlock};

/// Ommers of a block at most.
const OMMERS_MAX: usize = 2;
/// How many generations up an ommer's parent may be.
const GENERATIONS_MAX: usize = 7;

impl Chain {
    /// Checks the ommers of `block`, a child of `parent`, at `now` (Unix seconds).
    pub(super) fn check_ommers(
        &self,
        block: &Block,
        hash: B256,
        parent: &HeadInfo,
        now: u64,
    ) -> Result<(), ImportError> {
        let ommers = &block.body.ommers;
        if ommers.is_empty() {
            return Ok(());
        }
        let refused = |rule| ImportError::Invalid { block: hash, reason: InvalidBlock::Ommers { rule } };
        if ommers.len() > OMMERS_MAX {
            return Err(refused("there are more than two"));
        }
        let mut ancestors = vec![parent.clone()];
        let mut named = HashSet::new();
        while let Some(oldest) = ancestors.last().filter(|oldest| oldest.number() > 0) {
            let body =
                self.blocks().body(oldest.block_ref())?.ok_or(ImportError::UnknownParent(oldest.hash))?;
            named.extend(body.body.ommers.iter().map(|ommer| self.engine.block_hash(ommer)));
            if ancestors.len() == GENERATIONS_MAX {
                break;
            }
            let next = oldest.header.parent_hash;
            ancestors.push(Ancestry::header(self, &next)?.ok_or(ImportError::UnknownParent(next))?);
        }
        for ommer in ommers {
            let name = self.engine.block_hash(ommer);
            if !named.insert(name) {
                return Err(refused("one was named before"));
            }
            if ancestors.iter().any(|ancestor| ancestor.hash == name) {
                return Err(refused("one is an ancestor"));
            }
            let uncle = ancestors.iter().skip(1).find(|ancestor| ancestor.hash == ommer.parent_hash);
            let uncle = uncle.ok_or_else(|| refused("one is not the child of an ancestor near enough"))?;
            self.rules
                .verify_header(ommer, uncle)
                .map_err(|error| ImportError::Invalid { block: hash, reason: error.into() })?;
            self.engine
                .verify_header(ommer, uncle, self, now)
                .map_err(|error| super::import::engine_failed(error, hash))?;
        }
        Ok(())
    }
}
