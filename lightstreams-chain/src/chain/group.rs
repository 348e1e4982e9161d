//! Importing many blocks: in groups that are made durable as one, each prepared beside the one before it.

use std::{cmp::Ordering, collections::VecDeque, ops::ControlFlow};

use alloy_consensus::Transaction as _;

use super::{
    Chain, Writer,
    import::{Candidate, Checked, Failure},
};
use crate::{
    Block, ImportError, Imported,
    blocks::Blocks,
    senders::{join, senders},
};

/// Transactions after which blocks imported together are committed.
const GROUP_TRANSACTIONS: usize = 4_096;
/// Bytes of input of their transactions after which they are.
const GROUP_BYTES: usize = 16 << 20;
/// Blocks that are committed together at most.
const GROUP_BLOCKS: usize = 256;

/// What came of blocks that were imported together.
#[derive(Clone, Copy, Default)]
pub(crate) struct Taken {
    /// How many are there now, from the first on.
    pub(crate) blocks: u64,
    /// How many of them were there before.
    pub(crate) known: u64,
}

impl Taken {
    fn note(&mut self, imported: &Imported) {
        self.blocks = self.blocks.saturating_add(1);
        self.known = self.known.saturating_add(u64::from(matches!(imported, Imported::Known(_))));
    }
}

impl Chain {
    /// Imports `blocks`, each of which stands on one that is known or came before it, and returns how many there were.
    ///
    /// Blocks that go on from the head are made durable in groups, and the senders of one group are recovered while the one before
    /// it executes: this is how to read a file of blocks. After an error the blocks before the bad one are there.
    pub fn import_many<I>(&self, blocks: I, now: u64) -> Result<u64, ImportError>
    where
        I: IntoIterator<Item = Block, IntoIter: Send>,
    {
        let mut count = 0u64;
        self.import_groups(blocks.into_iter(), now, |taken| {
            count = count.saturating_add(taken.blocks);
            ControlFlow::Continue(())
        })?;
        Ok(count)
    }

    /// As [`Chain::import_many`]; tells `each` what was taken of a group, also of one that ends in an error, and stops after it where
    /// `each` breaks.
    pub(crate) fn import_groups(
        &self,
        mut blocks: impl Iterator<Item = Block> + Send,
        now: u64,
        mut each: impl FnMut(Taken) -> ControlFlow<()>,
    ) -> Result<(), ImportError> {
        let mut group = self.next_group(&mut blocks);
        while !group.is_empty() {
            let mut taken = Taken::default();
            let import = || self.import_group(&mut self.lock_writer(), group, now, &mut taken);
            let (imported, next) = join(import, || self.next_group(&mut blocks));
            self.heads.call();
            let goes_on = each(taken);
            imported?;
            if goes_on.is_break() {
                break;
            }
            group = next;
        }
        Ok(())
    }

    fn import_group(
        &self,
        writer: &mut Writer,
        mut group: VecDeque<Block>,
        now: u64,
        taken: &mut Taken,
    ) -> Result<(), ImportError> {
        while let Some(next) = group.front() {
            if next.header.parent_hash == self.head().hash {
                self.extend_head(writer, &mut group, now, taken)?;
            }
            // What is no plain extension of the head goes its own way, and so does what is wrong.
            let Some(block) = group.pop_front() else { break };
            taken.note(&self.import_locked(writer, block, now)?);
        }
        Ok(())
    }

    /// Takes blocks from the front of `group` as long as each is the next head, and commits them as one.
    fn extend_head(
        &self,
        writer: &mut Writer,
        group: &mut VecDeque<Block>,
        now: u64,
        taken: &mut Taken,
    ) -> Result<(), ImportError> {
        let staged = self.stage_on_head(writer);
        let mut tip = self.head();
        let mut done = Vec::new();
        while let Some(block) = group.pop_front() {
            let hash = self.engine.block_hash(&block.header);
            let fresh = block.header.parent_hash == tip.hash
                && !writer.invalid_set.contains(&hash)
                && self.blocks().number(&hash)?.is_none();
            let checked = match fresh {
                true => self.check(&block, hash, &tip, &Blocks(&staged), now).ok(),
                false => None,
            };
            let better = |checked: &Checked| {
                self.engine.compare(&checked.info, &tip, &Blocks(&staged)).is_ok_and(Ordering::is_gt)
            };
            let Some(checked) = checked.filter(better) else {
                group.push_front(block);
                break;
            };
            let candidate = checked.of(block);
            self.stage_candidate(&staged, &candidate)?;
            match self.execute(&staged, &tip, &candidate) {
                Ok(()) => {}
                Err(Failure::Storage(error)) => return Err(error.into()),
                Err(_) => {
                    // What it left cannot be told from what those before it did, so they come again, one at a time.
                    group.push_front(candidate.block);
                    for block in done.into_iter().map(|candidate: Candidate| candidate.block) {
                        taken.note(&self.import_locked(writer, block, now)?);
                    }
                    return Ok(());
                }
            }
            tip = candidate.info.clone();
            done.push(candidate);
        }
        if !done.is_empty() {
            let added = done.iter().map(|candidate| candidate.info.block_ref()).collect();
            self.commit(writer, staged, tip, Vec::new(), added, &[])?;
            taken.blocks = taken.blocks.saturating_add(done.len() as u64);
        }
        Ok(())
    }

    /// The next of `blocks` that are committed as one. Who signed the transactions of those that are new is known from here on.
    fn next_group(&self, blocks: &mut impl Iterator<Item = Block>) -> VecDeque<Block> {
        let mut group = VecDeque::new();
        let (mut transactions, mut bytes) = (0, 0);
        while group.len() < GROUP_BLOCKS && transactions < GROUP_TRANSACTIONS && bytes < GROUP_BYTES {
            let Some(block) = blocks.next() else { break };
            transactions += block.body.transactions.len();
            bytes +=
                block.body.transactions.iter().map(|transaction| transaction.input().len()).sum::<usize>();
            group.push_back(block);
        }
        for block in &group {
            let known = self.blocks().number(&self.engine.block_hash(&block.header));
            if !matches!(known, Ok(Some(_))) {
                // Whether the signatures are right is found when the block is checked.
                senders(&block.body.transactions, false);
            }
        }
        group
    }
}
