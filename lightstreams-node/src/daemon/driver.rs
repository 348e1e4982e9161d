//! Carries out what the consensus machine says: one thread, one input at a time.
//!
//! ```text
//! head, pool (observers) --Wake--> thread: machine.step(input) --> outputs in order --> chain, record file, network
//!                                    ^--------- results as inputs, timer ---------------+
//! ```
//!
//! Nothing here decides anything. Calls of the chain block, so the thread is not one of the reactor's.

use crate::adapters::now_ms;
use crate::datadir::{make_private_dir, write_private};
use crate::error::{NodeError, Result, io_error};
use crate::network::NetworkHandle;
use alloy_primitives::B256;
use lightstreams_chain::consensus::{ConsensusMachine, Input, Output};
use lightstreams_chain::{
    BuildAttributes, BuildError, Chain, Clique, GuardError, GuardLog, ImportError, Signer, Slot,
};
use lightstreams_store::{Disk, Log, LogError};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What happened outside since the thread looked last; many events of a kind are one.
#[derive(Debug, Default)]
pub(super) struct Wake {
    news: Mutex<News>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct News {
    head: bool,
    pool: bool,
    stop: bool,
}

impl Wake {
    /// The chain has another head.
    pub(super) fn head(&self) {
        self.set(|news| news.head = true);
    }
    /// The pool has another transaction.
    pub(super) fn pool(&self) {
        self.set(|news| news.pool = true);
    }
    /// The thread is to end.
    pub(super) fn stop(&self) {
        self.set(|news| news.stop = true);
    }

    fn set(&self, change: impl FnOnce(&mut News)) {
        change(&mut self.lock());
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for news, at most until `at_ms`.
    fn wait(&self, at_ms: Option<u64>) -> News {
        let mut news = self.lock();
        loop {
            if news.head || news.pool || news.stop {
                let stop = news.stop;
                return News { stop, ..std::mem::replace(&mut *news, News { stop, ..News::default() }) };
            }
            let left_ms = at_ms.map_or(60_000, |at| at.saturating_sub(now_ms()));
            if left_ms == 0 {
                return News::default();
            }
            // The clock may be set while we wait: look at it again at least once a minute.
            let wait = Duration::from_millis(left_ms.min(60_000));
            news = self.changed.wait_timeout(news, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// All that the thread needs.
pub(super) struct Driver {
    pub(super) chain: Arc<Chain>,
    pub(super) rules: Arc<Clique>,
    pub(super) machine: Box<dyn ConsensusMachine>,
    pub(super) signer: Box<dyn Signer>,
    pub(super) record: RecordFile,
    pub(super) network: NetworkHandle,
    pub(super) wake: Arc<Wake>,
}

impl Driver {
    /// Runs until told to stop, or until this node's storage fails.
    pub(super) fn run(mut self) -> Result<()> {
        let mut timer = None;
        let mut inputs = VecDeque::from([self.head()?]);
        if let Some(record) = self.record.read()? {
            inputs.push_back(Input::Restored { now_ms: now_ms(), record });
        }
        loop {
            while let Some(input) = inputs.pop_front() {
                for output in self.machine.step(input, &*self.signer) {
                    self.carry_out(output, &mut timer, &mut inputs)?;
                }
            }
            let news = self.wake.wait(timer);
            if news.stop {
                return Ok(());
            }
            if news.head {
                inputs.push_back(self.head()?);
            }
            if news.pool {
                let pending = self.chain.pool_size().0 > 0;
                inputs.push_back(Input::PoolChanged { now_ms: now_ms(), pending });
            }
            if timer.is_some_and(|at_ms| at_ms <= now_ms()) {
                timer = None;
                inputs.push_back(Input::Tick { now_ms: now_ms() });
            }
        }
    }

    fn head(&self) -> Result<Input> {
        Input::head(&self.chain, &self.rules, now_ms())
            .map_err(|e| super::storage::storage_error("cannot read the chain's head", e))
    }

    fn carry_out(
        &mut self,
        output: Output,
        timer: &mut Option<u64>,
        inputs: &mut VecDeque<Input>,
    ) -> Result<()> {
        match output {
            Output::Timer { at_ms } => *timer = Some(at_ms),
            Output::Build { parent, author, now_ms: build_ms } => {
                let attributes =
                    BuildAttributes { parent, author, now: build_ms / 1000, with_transactions: true };
                let block = match self.chain.build(&attributes) {
                    Ok(block) => Some(Box::new(block)),
                    Err(BuildError::Storage(e)) => {
                        return Err(super::storage::storage_error("cannot build a block", e));
                    }
                    Err(error) => {
                        tracing::debug!(%error, "no block was built");
                        None
                    }
                };
                inputs.push_back(Input::Built { now_ms: now_ms(), block });
            }
            Output::Persist { record } => {
                self.record.write(&record)?;
                inputs.push_back(Input::Persisted { now_ms: now_ms() });
            }
            Output::Import(block) => {
                let hash = block.header.hash_slow();
                let (number, transactions) = (block.header.number, block.body.transactions.len());
                let accepted = match self.chain.import(*block, now_ms() / 1000) {
                    Ok(_) => {
                        tracing::info!(number, %hash, transactions, "sealed a block");
                        true
                    }
                    Err(ImportError::Storage(e)) => {
                        return Err(super::storage::storage_error("cannot store a block", e));
                    }
                    Err(error) => {
                        let error =
                            NodeError::new("import", "the chain refused our own block").because(error);
                        tracing::error!(number, %hash, "{error}");
                        false
                    }
                };
                inputs.push_back(Input::Imported { now_ms: now_ms(), hash, accepted });
            }
            Output::Broadcast(block) => self.network.announce(block),
            Output::Alarm { message, halted } => tracing::error!(halted, "{message}"),
            // The machine and this driver are built together: there is no other output.
            other => tracing::error!(?other, "the driver does not know this output"),
        }
        Ok(())
    }
}

/// The last record that the machine wanted durable before it signed.
#[derive(Debug)]
pub(super) struct RecordFile(PathBuf);

impl RecordFile {
    /// The record in the directory `consensus`.
    pub(super) fn new(consensus: &Path) -> Result<Self> {
        make_private_dir(consensus)?;
        Ok(Self(consensus.join("sealing")))
    }

    fn read(&self) -> Result<Option<Vec<u8>>> {
        match std::fs::read(&self.0) {
            Ok(record) => Ok(Some(record)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io_error("read", &self.0, e)),
        }
    }

    fn write(&self, record: &[u8]) -> Result<()> {
        write_private(&self.0, record)
    }
}

/// What the signer signed, in an append-only log: a slot that is taken stays taken across crashes.
pub(super) struct DiskGuard {
    inner: Mutex<(Log, BTreeMap<Slot, B256>)>,
}

/// The log's name on its disk.
const GUARD_LOG: &str = "signed";
/// Slots this far below the newest are forgotten in memory; they stay in the log.
const SLOTS_KEPT: usize = 4096;

impl DiskGuard {
    /// Opens the guard on `disk`.
    pub(super) fn open(disk: Arc<dyn Disk>) -> Result<Self> {
        let (mut slots, mut damaged) = (BTreeMap::new(), false);
        let log = Log::open(&*disk, GUARD_LOG, &mut |record| match decode_slot(record) {
            Some((slot, digest)) => {
                remember(&mut slots, slot, digest);
            }
            None => damaged = true,
        })
        .map_err(|e| super::storage::storage_error("cannot open the signer's guard in consensus/", e))?;
        if damaged {
            return Err(NodeError::new("bad_guard", "the signer's guard in consensus/ has a record that makes no sense")
                .hint("do not seal with this key again on this network; restore consensus/ or use another authority"));
        }
        Ok(Self { inner: Mutex::new((log, slots)) })
    }
}

impl GuardLog for DiskGuard {
    fn claim(&self, slot: &Slot, digest: B256) -> Result<B256, GuardError> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let (log, slots) = &mut *inner;
        if let Some(signed) = slots.get(slot) {
            return Ok(*signed);
        }
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| GuardError { op: "append", source };
        // A slot below all that is remembered may have been signed and forgotten: it is never signed again.
        if slots.len() >= SLOTS_KEPT && slots.first_key_value().is_some_and(|(oldest, _)| slot < oldest) {
            return Err(failed("the slot is older than the guard remembers".into()));
        }
        let record = encode_slot(slot, digest).ok_or_else(|| failed("a slot of an unknown kind".into()))?;
        log.append(&record).map_err(|e: LogError| failed(e.into()))?;
        remember(slots, *slot, digest);
        Ok(digest)
    }
}

fn remember(slots: &mut BTreeMap<Slot, B256>, slot: Slot, digest: B256) {
    slots.insert(slot, digest);
    if slots.len() > SLOTS_KEPT {
        slots.pop_first();
    }
}

/// A record: 0x01 (Clique) ‖ u64 number ‖ 32-byte parent ‖ 32-byte digest.
fn encode_slot(slot: &Slot, digest: B256) -> Option<Vec<u8>> {
    match slot {
        Slot::Clique { number, parent } => {
            let mut record = vec![1];
            record.extend_from_slice(&number.to_be_bytes());
            record.extend_from_slice(parent.as_slice());
            record.extend_from_slice(digest.as_slice());
            Some(record)
        }
        _ => None,
    }
}

fn decode_slot(record: &[u8]) -> Option<(Slot, B256)> {
    let (kind, rest) = record.split_first()?;
    let (number, rest) = rest.split_first_chunk::<8>()?;
    let (parent, rest) = rest.split_first_chunk::<32>()?;
    let digest = <[u8; 32]>::try_from(rest).ok()?;
    let slot = Slot::Clique { number: u64::from_be_bytes(*number), parent: B256::new(*parent) };
    (*kind == 1).then_some((slot, B256::new(digest)))
}

impl std::fmt::Debug for DiskGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskGuard").finish_non_exhaustive()
    }
}
