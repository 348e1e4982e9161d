//! Importing and building a block: checks, execution, and the one batch in which a change of head is written.

use std::{
    fmt::Display,
    sync::{MutexGuard, PoisonError, atomic},
};

use alloy_consensus::{Header, Transaction as _, proofs};
use alloy_primitives::{Address, B256};
use alloy_rlp::Encodable;

use super::{Chain, Tip, Writer};
use crate::{
    Ancestry, Batch, Block, BlockRef, BuildAttributes, BuildError, EngineError, HeadChange, HeadInfo,
    ImportError, Imported, InvalidBlock, KvError, Permits, Table, Transaction,
    blocks::{Blocks, prune, stage_canonical, stage_known, unstage_canonical, unstage_known},
    execute::{BlockError, Executed, Executor, TxError, block_bloom},
    rules::{BLOCK_BYTES_MAX, Forks},
    senders::senders,
    state::{Hot, Staged, unwind},
    tables,
};

/// Hashes of invalid blocks remembered.
const INVALID_MAX: usize = 1_024;
/// Transactions of the pool that may turn out not to fit before a block under construction is closed.
const MISFITS_MAX: usize = 64;
/// Bytes of a block that are kept free for the header and the frame of the lists.
const BLOCK_BYTES_SPARE: usize = 4_096;

/// A block that was built here and waits for its seal.
pub(super) struct Built {
    header: Header,
    author: Address,
    batch: Batch,
    hot: Hot,
    executed: Executed,
}

impl Built {
    /// Whether executing the block of `header`, sealed by `author`, is what was done for this one.
    fn is_execution_of(&self, header: &Header, author: Address) -> bool {
        // The engine may still change these; the EVM sees none of them.
        let mut header = header.clone();
        header.extra_data = self.header.extra_data.clone();
        header.beneficiary = self.header.beneficiary;
        header.nonce = self.header.nonce;
        header == self.header && author == self.author
    }
}

/// A block on its way in.
pub(super) struct Candidate {
    pub(super) block: Block,
    pub(super) info: HeadInfo,
    author: Address,
    senders: Vec<Address>,
}

/// What was found out about a block without executing it.
pub(super) struct Checked {
    pub(super) info: HeadInfo,
    author: Address,
    senders: Vec<Address>,
}

impl Checked {
    pub(super) fn of(self, block: Block) -> Candidate {
        let Self { info, author, senders } = self;
        Candidate { block, info, author, senders }
    }
}

/// Why a change of head did not come about.
pub(super) enum Failure {
    Invalid(BlockRef, InvalidBlock),
    TooDeep { fork: u64, oldest: u64 },
    Storage(KvError),
}

impl From<KvError> for Failure {
    fn from(error: KvError) -> Self {
        Self::Storage(error)
    }
}

impl Chain {
    /// Checks `block`, executes it if its branch is preferred, and returns once what it says it did is durable.
    /// `now` in Unix seconds.
    pub fn import(&self, block: Block, now: u64) -> Result<Imported, ImportError> {
        let imported = self.import_locked(&mut self.lock_writer(), block, now);
        self.heads.call();
        imported
    }

    /// Builds a block on the head from the pool: complete but for its seal. Seal it, then import it.
    pub fn build(&self, attributes: &BuildAttributes) -> Result<Block, BuildError> {
        let mut writer = self.lock_writer();
        let head = self.head();
        if head.hash != attributes.parent {
            return Err(BuildError::NotOnHead { head: head.hash, parent: attributes.parent });
        }
        let mut header = self.rules.next_header(&head, self.options.gas_limit_target);
        self.engine.prepare(&mut header, &head, attributes.author, self, attributes.now)?;
        let forks = self.rules.forks_of(&header, &head);
        self.rules.set_fork_fields(&mut header, &head.header, forks);

        let staged = self.stage_on_head(&mut writer);
        let mut executor = Executor::begin(&self.rules, &staged, &head, &header, attributes.author)?;
        let transactions = match attributes.with_transactions {
            true => self.fill(&mut executor, &header, forks)?,
            false => Vec::new(),
        };
        let executed =
            executor.finish(&[], &self.engine.rewards(&header, &[])).map_err(|error| match error {
                BlockError::Invalid(reason) => BuildError::Invalid(reason),
                BlockError::Storage(error) => BuildError::Storage(error),
            })?;

        header.state_root = executed.root;
        header.gas_used = executed.gas_used;
        header.blob_gas_used = forks.cancun.then_some(executed.blob_gas_used);
        header.requests_hash = forks.prague.then(|| executed.requests.requests_hash());
        header.logs_bloom = block_bloom(&executed.receipts);
        header.receipts_root = proofs::calculate_receipt_root(&executed.receipts);
        header.transactions_root = proofs::calculate_transaction_root(&transactions);
        let mut block = Block::uncle(header.clone());
        block.body.transactions = transactions;
        block.body.withdrawals = forks.shanghai.then(Default::default);
        let (batch, hot) = staged.into_parts();
        writer.built = Some(Built { header, author: attributes.author, batch, hot, executed });
        Ok(block)
    }

    /// Puts transactions of the pool into a block, the best paying first.
    fn fill(
        &self,
        executor: &mut Executor<'_, '_>,
        header: &Header,
        forks: Forks,
    ) -> Result<Vec<Transaction>, KvError> {
        let mut waiting = self.lock_pool().best(header.base_fee_per_gas.unwrap_or(0));
        let mut transactions = Vec::new();
        let mut bytes = BLOCK_BYTES_SPARE;
        let mut misfits = 0;
        while let Some((transaction, sender)) = waiting.next() {
            let size = transaction.length();
            let fits = !forks.osaka || bytes.saturating_add(size) <= BLOCK_BYTES_MAX;
            let result = if fits { executor.transact(&transaction, sender) } else { Err(TxError::NoRoom) };
            match result {
                Ok(_) => {
                    bytes = bytes.saturating_add(size);
                    transactions.push((*transaction).clone());
                    continue;
                }
                Err(TxError::Storage(error)) => return Err(error),
                // What follows from the same account needs this one.
                Err(TxError::NoRoom) => waiting.skip_account(sender),
                Err(TxError::Invalid(_)) => {
                    waiting.skip_account(sender);
                    self.lock_pool().remove(transaction.tx_hash());
                }
            }
            misfits += 1;
            if misfits >= MISFITS_MAX || executor.gas_left() < 21_000 {
                break;
            }
        }
        Ok(transactions)
    }

    pub(super) fn import_locked(
        &self,
        writer: &mut Writer,
        block: Block,
        now: u64,
    ) -> Result<Imported, ImportError> {
        let hash = self.engine.block_hash(&block.header);
        if let Some(number) = self.blocks().number(&hash)? {
            return Ok(Imported::Known(BlockRef { number, hash }));
        }
        let parent_hash = block.header.parent_hash;
        for bad in [hash, parent_hash] {
            if writer.invalid_set.contains(&bad) {
                writer.remember_invalid(hash);
                return Err(ImportError::Invalid { block: hash, reason: InvalidBlock::Ancestor(bad) });
            }
        }
        let head = self.head();
        let parent = match parent_hash == head.hash {
            true => head.clone(),
            false => Ancestry::header(self, &parent_hash)?.ok_or(ImportError::UnknownParent(parent_hash))?,
        };
        // It could become canonical only with what stands between, and that is settled.
        let oldest = self.oldest_state();
        if block.header.number <= oldest {
            return Err(ImportError::TooDeep { fork: block.header.number.saturating_sub(1), oldest });
        }
        let checked = self.check(&block, hash, &parent, self, now).inspect_err(|error| {
            if let ImportError::Invalid { reason, .. } = error
                && !reason.is_of_body()
            {
                writer.remember_invalid(hash);
            }
        })?;
        let candidate = checked.of(block);

        let order =
            self.engine.compare(&candidate.info, &head, self).map_err(|error| engine_failed(error, hash))?;
        if order.is_gt() {
            return self.make_head(writer, &head, candidate).map(Imported::Head).map_err(|failure| {
                match failure {
                    Failure::Invalid(bad, reason) if bad.hash == hash => {
                        ImportError::Invalid { block: hash, reason }
                    }
                    Failure::Invalid(bad, _) => {
                        ImportError::Invalid { block: hash, reason: InvalidBlock::Ancestor(bad.hash) }
                    }
                    Failure::TooDeep { fork, oldest } => ImportError::TooDeep { fork, oldest },
                    Failure::Storage(error) => ImportError::Storage(error),
                }
            });
        }
        let staged = Staged::new(self.kv());
        self.stage_candidate(&staged, &candidate)?;
        self.kv.commit(staged.into_batch())?;
        Ok(Imported::Side(candidate.info.block_ref()))
    }

    /// Executes `blocks`, whose senders are given, on the head and on each other, and keeps nothing.
    #[cfg(feature = "testing")]
    pub(crate) fn execute_only(&self, blocks: Vec<(Block, Vec<Address>)>) -> Result<(), ImportError> {
        let staged = Staged::new(self.kv());
        let mut parent = self.head();
        for (block, senders) in blocks {
            let header = block.header.clone();
            let hash = self.engine.block_hash(&header);
            let author = self.engine.author(&header).map_err(|error| engine_failed(error, hash))?;
            let total_difficulty = parent.total_difficulty.saturating_add(header.difficulty);
            let info = HeadInfo { header, hash, total_difficulty };
            let candidate = Candidate { block, info, author, senders };
            let invalid = |reason| ImportError::Invalid { block: hash, reason };
            let executed = self.outcome(&staged, &parent, &candidate).map_err(|failure| match failure {
                Failure::Storage(error) => ImportError::Storage(error),
                Failure::TooDeep { fork, oldest } => ImportError::TooDeep { fork, oldest },
                Failure::Invalid(_, reason) => invalid(reason),
            })?;
            if executed.root != candidate.info.header.state_root {
                return Err(invalid(InvalidBlock::Body { rule: "the state has another root" }));
            }
            parent = candidate.info;
        }
        Ok(())
    }

    /// Everything about a block that can be said without executing it.
    pub(super) fn check(
        &self,
        block: &Block,
        hash: B256,
        parent: &HeadInfo,
        ancestry: &dyn Ancestry,
        now: u64,
    ) -> Result<Checked, ImportError> {
        let invalid = |reason: InvalidBlock| ImportError::Invalid { block: hash, reason };
        let header = &block.header;
        self.rules.verify_header(header, parent).map_err(|error| invalid(error.into()))?;
        self.engine
            .verify_header(header, parent, ancestry, now)
            .map_err(|error| engine_failed(error, hash))?;
        let author = self.engine.author(header).map_err(|error| engine_failed(error, hash))?;
        let forks = self.rules.forks_of(header, parent);
        check_body(block, forks, self.rules.permits()).map_err(invalid)?;
        self.check_ommers(block, hash, parent, now)?;
        let senders = senders(&block.body.transactions, forks.homestead)
            .into_iter()
            .enumerate()
            .map(|(index, sender)| {
                sender.ok_or_else(|| InvalidBlock::Transaction { index, reason: "invalid signature".into() })
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(invalid)?;
        let total_difficulty = parent.total_difficulty.saturating_add(header.difficulty);
        let info = HeadInfo { header: header.clone(), hash, total_difficulty };
        Ok(Checked { info, author, senders })
    }

    /// Executes what leads from `head` to `candidate`, and writes it all in one batch.
    fn make_head(
        &self,
        writer: &mut Writer,
        head: &HeadInfo,
        candidate: Candidate,
    ) -> Result<HeadChange, Failure> {
        let info = candidate.info.clone();
        if info.header.parent_hash == head.hash {
            let built =
                writer.built.take().filter(|built| built.is_execution_of(&info.header, candidate.author));
            let staged = match built {
                Some(built) => {
                    let staged = Staged::resume(self.kv(), built.batch, built.hot);
                    self.stage_candidate(&staged, &candidate)?;
                    self.stage_executed(&staged, &candidate, built.executed)?;
                    staged
                }
                None => {
                    let staged = self.stage_on_head(writer);
                    self.stage_candidate(&staged, &candidate)?;
                    self.execute(&staged, head, &candidate).inspect_err(|failure| {
                        if let Failure::Invalid(bad, _) = failure {
                            writer.remember_invalid(bad.hash);
                        }
                    })?;
                    staged
                }
            };
            return Ok(self.commit(writer, staged, info.clone(), Vec::new(), vec![info.block_ref()], &[])?);
        }

        let branch = self.branch_below(&candidate)?;
        let fork = branch.first().map_or(&candidate.info, |first| &first.info).number().saturating_sub(1);
        let oldest = self.oldest_state();
        if fork < oldest {
            return Err(Failure::TooDeep { fork, oldest });
        }
        let staged = self.stage_on_head(writer);
        let (mut parent, removed, returned) = self.unwind_to(&staged, head, fork)?;
        let mut added = Vec::with_capacity(branch.len() + 1);
        self.stage_candidate(&staged, &candidate)?;
        let mut rest = branch.iter().chain([&candidate]);
        while let Some(next) = rest.next() {
            if let Err(failure) = self.execute(&staged, &parent, next) {
                if let Failure::Invalid(bad, _) = &failure {
                    writer.remember_invalid(bad.hash);
                    self.forget_branch(writer, *bad, rest.map(|rest| rest.info.block_ref()))?;
                }
                return Err(failure);
            }
            added.push(next.info.block_ref());
            parent = next.info.clone();
        }
        Ok(self.commit(writer, staged, info, removed, added, &returned)?)
    }

    /// The side blocks between the canonical chain and `candidate`, ascending.
    fn branch_below(&self, candidate: &Candidate) -> Result<Vec<Candidate>, KvError> {
        let missing = || KvError::corrupt(Table::Headers, "a side block is missing");
        let mut branch = Vec::new();
        let mut hash = candidate.info.header.parent_hash;
        loop {
            let info = Ancestry::header(self, &hash)?.ok_or_else(missing)?;
            if self.canonical_at(info.number())? == Some(hash) {
                break;
            }
            let blocks = self.blocks();
            let block = blocks.body(info.block_ref())?.ok_or_else(missing)?;
            let senders = blocks.senders(info.block_ref())?.ok_or_else(missing)?;
            let author = self.engine.author(&info.header).map_err(|_| missing())?;
            hash = info.header.parent_hash;
            branch.push(Candidate { block, info, author, senders });
        }
        branch.reverse();
        Ok(branch)
    }

    /// Takes back the canonical blocks above `fork`; returns the block there, those taken back, and their transactions.
    fn unwind_to(
        &self,
        staged: &Staged<'_>,
        head: &HeadInfo,
        fork: u64,
    ) -> Result<(HeadInfo, Vec<BlockRef>, Vec<Transaction>), KvError> {
        let missing = || KvError::corrupt(Table::Headers, "a canonical block is missing");
        let mut tip = head.clone();
        let mut removed = Vec::new();
        let mut returned = Vec::new();
        while tip.number() > fork {
            let blocks = self.blocks();
            let block = blocks.body(tip.block_ref())?.ok_or_else(missing)?;
            let receipts = blocks.receipts(tip.block_ref())?.ok_or_else(missing)?;
            let root = unwind(staged, tip.number(), tip.header.state_root)?;
            unstage_canonical(staged, &tip, &block, &receipts);
            let parent = Ancestry::header(self, &tip.header.parent_hash)?.ok_or_else(missing)?;
            if root != parent.header.state_root {
                return Err(KvError::corrupt(Table::Changes, "taking a block back gives another state root"));
            }
            removed.push(tip.block_ref());
            returned.splice(0..0, block.body.transactions);
            tip = parent;
        }
        Ok((tip, removed, returned))
    }

    /// Forgets an invalid block and what stands on it.
    fn forget_branch(
        &self,
        writer: &mut Writer,
        bad: BlockRef,
        above: impl Iterator<Item = BlockRef>,
    ) -> Result<(), KvError> {
        let staged = Staged::new(self.kv());
        unstage_known(&staged, bad);
        for block in above {
            writer.remember_invalid(block.hash);
            unstage_known(&staged, block);
        }
        self.kv.commit(staged.into_batch())
    }

    pub(super) fn stage_candidate(&self, staged: &Staged<'_>, candidate: &Candidate) -> Result<(), KvError> {
        stage_known(staged, &candidate.info, &candidate.block, &candidate.senders);
        let records = match self.engine.records(&candidate.info, &Blocks(staged)) {
            Ok(records) => records,
            Err(EngineError::Storage(error)) => return Err(error),
            // A verified header that the engine keeps nothing of.
            Err(_) => Vec::new(),
        };
        for (key, value) in records {
            staged.put(Table::Engine, key, value);
        }
        Ok(())
    }

    /// Executes `candidate` on `parent`, checks that its header says what comes out, and stages that.
    pub(super) fn execute(
        &self,
        staged: &Staged<'_>,
        parent: &HeadInfo,
        candidate: &Candidate,
    ) -> Result<(), Failure> {
        let executed = self.outcome(staged, parent, candidate)?;
        check_executed(&candidate.info.header, &executed)
            .map_err(|reason| Failure::Invalid(candidate.info.block_ref(), reason))?;
        Ok(self.stage_executed(staged, candidate, executed)?)
    }

    /// Executes `candidate` on `parent`.
    fn outcome(
        &self,
        staged: &Staged<'_>,
        parent: &HeadInfo,
        candidate: &Candidate,
    ) -> Result<Executed, Failure> {
        let this = candidate.info.block_ref();
        let header = &candidate.info.header;
        let mut executor = Executor::begin(&self.rules, staged, parent, header, candidate.author)?;
        for (index, transaction) in candidate.block.body.transactions.iter().enumerate() {
            let sender = candidate.senders.get(index).copied().unwrap_or_default();
            let reason = match executor.transact(transaction, sender) {
                Ok(_) => continue,
                Err(TxError::Storage(error)) => return Err(error.into()),
                Err(TxError::NoRoom) => "its gas is more than the block has left".into(),
                Err(TxError::Invalid(reason)) => reason,
            };
            return Err(Failure::Invalid(this, InvalidBlock::Transaction { index, reason }));
        }
        let body = &candidate.block.body;
        let withdrawals = body.withdrawals.as_ref().map_or(&[][..], |withdrawals| withdrawals);
        executor.finish(withdrawals, &self.engine.rewards(header, &body.ommers)).map_err(
            |error| match error {
                BlockError::Invalid(reason) => Failure::Invalid(this, reason),
                BlockError::Storage(error) => Failure::Storage(error),
            },
        )
    }

    fn stage_executed(
        &self,
        staged: &Staged<'_>,
        candidate: &Candidate,
        executed: Executed,
    ) -> Result<(), KvError> {
        let number = candidate.info.number();
        stage_canonical(staged, &candidate.info, &candidate.block, &executed.receipts);
        executed.log.stage(staged, number);
        Ok(())
    }

    /// Writes what is staged, and tells everyone.
    pub(super) fn commit(
        &self,
        writer: &mut Writer,
        staged: Staged<'_>,
        head: HeadInfo,
        removed: Vec<BlockRef>,
        added: Vec<BlockRef>,
        returned: &[Transaction],
    ) -> Result<HeadChange, KvError> {
        let before = self.final_block();
        let final_block = self.next_final(&staged, &head, before)?;
        if final_block != before {
            staged.put(Table::Meta, tables::FINAL, tables::encode_ref(final_block));
        }
        let oldest = head.number().saturating_sub(self.options.state_history);
        let oldest = prune(&staged, self.oldest_state(), oldest, added.len() as u64)?;
        let (batch, hot) = staged.into_parts();
        // A state that goes is gone for readers before it goes.
        self.oldest_state.store(oldest, atomic::Ordering::SeqCst);
        if removed.is_empty() {
            self.kv.commit(batch)?;
        } else {
            let mut reorgs = self.reorgs.write().unwrap_or_else(PoisonError::into_inner);
            self.kv.commit(batch)?;
            *reorgs = reorgs.wrapping_add(1);
        }
        writer.hot = hot;
        *self.tip.write().unwrap_or_else(PoisonError::into_inner) = Tip { head: head.clone(), final_block };
        let change = HeadChange { head, final_block, removed, added };
        self.heads.queue(change.clone());
        self.lock_pool().on_head(self, returned)?;
        Ok(change)
    }

    fn next_final(
        &self,
        staged: &Staged<'_>,
        head: &HeadInfo,
        before: BlockRef,
    ) -> Result<BlockRef, KvError> {
        let blocks = Blocks(staged);
        let number = match self.engine.final_number(head, before.number, &blocks) {
            Ok(number) => number.min(head.number()),
            Err(EngineError::Storage(error)) => return Err(error),
            Err(_) => before.number,
        };
        if number <= before.number {
            return Ok(before);
        }
        Ok(blocks.canonical_hash(number)?.map_or(before, |hash| BlockRef { number, hash }))
    }

    /// Begins to stage on the head. If nothing comes of it, what was known of its state is lost.
    pub(super) fn stage_on_head(&self, writer: &mut Writer) -> Staged<'_> {
        Staged::resume(self.kv(), Batch::default(), std::mem::take(&mut writer.hot))
    }

    pub(super) fn lock_writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    fn remember_invalid(&mut self, hash: B256) {
        if self.invalid_set.insert(hash) {
            self.invalid.push_back(hash);
        }
        if self.invalid.len() > INVALID_MAX
            && let Some(oldest) = self.invalid.pop_front()
        {
            self.invalid_set.remove(&oldest);
        }
    }
}

pub(super) fn engine_failed(error: EngineError, block: B256) -> ImportError {
    match error {
        EngineError::Invalid(error) => ImportError::Invalid { block, reason: error.into() },
        EngineError::Future { time, now, .. } => ImportError::Future { time, now },
        EngineError::UnknownAncestor(hash) => ImportError::UnknownParent(hash),
        EngineError::Storage(error) => ImportError::Storage(error),
        error @ EngineError::MayNotSeal { .. } => ImportError::Invalid {
            block,
            reason: crate::InvalidHeader { field: "extraData", rule: error.to_string().into() }.into(),
        },
    }
}

fn check_body(block: &Block, forks: Forks, permits: Permits) -> Result<(), InvalidBlock> {
    let (header, body) = (&block.header, &block.body);
    let ensure = |holds: bool, rule: &'static str| match holds {
        true => Ok(()),
        false => Err(InvalidBlock::Body { rule }),
    };
    ensure(
        header.transactions_root == proofs::calculate_transaction_root(&body.transactions),
        "the transactions have another root than the header says",
    )?;
    // Where the engine permits no ommers and no withdrawals, the header's two fields are those of empty lists.
    ensure(
        header.ommers_hash == body.calculate_ommers_root(),
        "the ommers have another hash than the header says",
    )?;
    ensure(
        header.withdrawals_root == body.calculate_withdrawals_root(),
        "the withdrawals have another root than the header says",
    )?;
    let blob_gas = body.transactions.iter().filter_map(|transaction| transaction.blob_gas_used());
    let blob_gas = blob_gas.fold(0, u64::saturating_add);
    ensure(
        !permits.blobs || blob_gas == header.blob_gas_used.unwrap_or(0),
        "the transactions have another amount of blob gas than the header says",
    )?;
    // EIP-7934
    ensure(!forks.osaka || block.length() <= BLOCK_BYTES_MAX, "the block has more than 8,388,608 bytes")
}

fn check_executed(header: &Header, executed: &Executed) -> Result<(), InvalidBlock> {
    let receipts_root = proofs::calculate_receipt_root(&executed.receipts);
    let bloom = block_bloom(&executed.receipts);
    let requests_hash = header.requests_hash.map(|_| executed.requests.requests_hash());
    let mismatch = |field, found: &dyn Display, computed: &dyn Display| {
        Err(InvalidBlock::Mismatch { field, found: found.to_string(), computed: computed.to_string() })
    };
    if header.gas_used != executed.gas_used {
        return mismatch("gasUsed", &header.gas_used, &executed.gas_used);
    }
    if header.receipts_root != receipts_root {
        return mismatch("receiptsRoot", &header.receipts_root, &receipts_root);
    }
    if header.requests_hash != requests_hash {
        // Both are there, or neither.
        let (found, computed) = (header.requests_hash, requests_hash);
        return mismatch("requestsHash", &found.unwrap_or_default(), &computed.unwrap_or_default());
    }
    if header.logs_bloom != bloom {
        return mismatch("logsBloom", &header.logs_bloom, &bloom);
    }
    if header.state_root != executed.root {
        return mismatch("stateRoot", &header.state_root, &executed.root);
    }
    Ok(())
}
