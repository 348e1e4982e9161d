//! When to seal: machines without clock, disk or socket.
//!
//! A machine is told what happened and answers what to do. The same code runs in a simulator and in a node.
//!
//! ```text
//!  Tick, Head, PoolChanged ──> step ──> Timer, Build            the driver asks the chain for a block
//!                     Built ──> step ──> Persist                 it writes the record down
//!                 Persisted ──> step ──> Import                  signed; the chain checks and commits it
//!                  Imported ──> step ──> Broadcast               only what stands on our own disk leaves
//! ```
//!
//! A driver carries each output out and feeds the result back:
//!
//! ```no_run
//! use lightstreams_chain::{BuildAttributes, Chain, HeaderRules, Signer};
//! use lightstreams_chain::consensus::{ConsensusMachine, Input, Output};
//!
//! fn drive(chain: &Chain, machine: &mut dyn ConsensusMachine, signer: &dyn Signer, now_ms: u64, input: Input) {
//!     for output in machine.step(input, signer) {
//!         let result = match output {
//!             Output::Build { parent, author, now_ms } => {
//!                 let now = now_ms / 1_000;
//!                 let block = chain.build(&BuildAttributes { parent, author, now, with_transactions: true });
//!                 Input::Built { now_ms, block: block.ok().map(Box::new) }
//!             }
//!             Output::Persist { record } => {
//!                 // Write `record` to a file of its own, and sync it, before going on.
//!                 Input::Persisted { now_ms }
//!             }
//!             Output::Import(block) => {
//!                 let hash = chain.engine().block_hash(&block.header);
//!                 let accepted = chain.import(*block, now_ms / 1_000).is_ok();
//!                 Input::Imported { now_ms, hash, accepted }
//!             }
//!             // Timers, announcements and alarms are the business of the node.
//!             _ => continue,
//!         };
//!         drive(chain, machine, signer, now_ms, result);
//!     }
//! }
//! ```

use std::{collections::BTreeMap, sync::Arc};

use alloy_consensus::EMPTY_ROOT_HASH;
use alloy_primitives::{Address, B256};
use alloy_rlp::{Decodable, Encodable};

use crate::{
    Block, Chain, Clique, EngineError, Genesis, HeadInfo, HeaderRules, Signer, SignerError, Slot, Snapshot,
};

/// Head start of each eligible authority over the next one, at most.
const TURN_DELAY_MS_MAX: u64 = 500;
/// The same, at least, however short the block period is.
const TURN_DELAY_MS_MIN: u64 = 100;
/// Pause after the chain could not build a block.
const RETRY_MS: u64 = 1_000;
/// Proposals kept; one more is not taken.
const PROPOSALS_MAX: usize = 256;

/// Decides when its authority seals, and what.
///
/// The driver carries outputs out in their order, one after the other, and feeds results back as inputs. It calls
/// `step` from one place at a time. Time in inputs is Unix milliseconds and may jump.
pub trait ConsensusMachine: Send {
    /// Takes one input, and says what to do.
    fn step(&mut self, input: Input, signer: &dyn Signer) -> Vec<Output>;
}

// A node runs the machine of the engine that its genesis names.
const _: Option<&dyn ConsensusMachine> = None;

/// What happened.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum Input {
    /// The time of the last [`Output::Timer`] has come.
    Tick {
        /// Now.
        now_ms: u64,
    },
    /// The chain has this head. The first input of all, and once after each change of the head.
    Head {
        /// Now.
        now_ms: u64,
        /// The head.
        head: Box<HeadInfo>,
        /// Who may seal on it; `None` if nothing can follow it.
        snapshot: Option<Arc<Snapshot>>,
        /// Number of the newest final block.
        final_number: u64,
        /// Whether the pool holds a transaction that could be in the next block.
        pending: bool,
    },
    /// Transactions came into the pool, or left it without a block.
    PoolChanged {
        /// Now.
        now_ms: u64,
        /// Whether the pool holds a transaction that could be in the next block.
        pending: bool,
    },
    /// The answer to [`Output::Build`]: a prepared and executed block without its seal, or `None` if there is none.
    Built {
        /// Now.
        now_ms: u64,
        /// The block.
        block: Option<Box<Block>>,
    },
    /// The record of the last [`Output::Persist`] survives a power cut from now on.
    Persisted {
        /// Now.
        now_ms: u64,
    },
    /// At a start, after the first [`Input::Head`]: the last record persisted before it.
    Restored {
        /// Now.
        now_ms: u64,
        /// The record.
        record: Vec<u8>,
    },
    /// The answer to [`Output::Import`].
    Imported {
        /// Now.
        now_ms: u64,
        /// Hash of the block.
        hash: B256,
        /// Whether the chain took it, durably.
        accepted: bool,
    },
    /// From now on vote to add or drop an account, in each own block where that can change anything.
    Propose {
        /// The account.
        address: Address,
        /// Add it, or drop it.
        authorize: bool,
    },
    /// No longer vote on an account.
    Discard {
        /// The account.
        address: Address,
    },
}

/// What to do.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send [`Input::Tick`] at this time. It replaces the timer before; a tick too many does no harm.
    Timer {
        /// When.
        at_ms: u64,
    },
    /// Ask the chain for a block on `parent` by `author`, and answer with [`Input::Built`].
    Build {
        /// Hash of the parent.
        parent: B256,
        /// Who will seal it, and earns the fees.
        author: Address,
        /// The time to build for.
        now_ms: u64,
    },
    /// Write this record down, in place of the one before, and answer with [`Input::Persisted`] once it is durable.
    Persist {
        /// The record.
        record: Vec<u8>,
    },
    /// Give this sealed block to the chain, and answer with [`Input::Imported`].
    Import(Box<Block>),
    /// Announce this block, which is on our disk, to the peers.
    Broadcast(Box<Block>),
    /// Tell the operator; sealing goes on only if `halted` is false.
    Alarm {
        /// What happened and what it means.
        message: String,
        /// Whether this machine has stopped sealing until it is started again.
        halted: bool,
    },
}

/// The pace of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pacing {
    /// Time between two blocks while there are transactions. 0 seals as soon as there is one.
    pub block_period_ms: u64,
    /// Time between two blocks without transactions; `None` seals none. Shorter than the period means the period.
    pub empty_block_ms: Option<u64>,
}

impl Pacing {
    /// The pace that `genesis` asks for. A plain go-ethereum genesis seals every period, and with period 0 only
    /// transactions.
    pub fn for_genesis(genesis: &Genesis) -> Self {
        if let Some(network) = genesis.network() {
            return Self { block_period_ms: network.block_period_ms, empty_block_ms: network.empty_block_ms };
        }
        let block_period_ms = Clique::for_genesis(genesis).config().block_period_ms;
        Self { block_period_ms, empty_block_ms: Some(block_period_ms).filter(|period_ms| *period_ms > 0) }
    }
}

impl Input {
    /// [`Input::Head`] for the head that `chain` has now.
    pub fn head(chain: &Chain, rules: &Clique, now_ms: u64) -> Result<Self, EngineError> {
        let head = chain.head();
        let snapshot = match rules.snapshot(&head, chain) {
            Ok(snapshot) => Some(snapshot),
            Err(EngineError::Invalid(_)) => None,
            Err(other) => return Err(other),
        };
        let final_number = chain.final_block().number;
        Ok(Self::Head {
            now_ms,
            head: Box::new(head),
            snapshot,
            final_number,
            pending: chain.pool_size().0 > 0,
        })
    }
}

/// Seals as one of the authorities of a Clique network.
///
/// It seals at once in turn, and a delay later for each eligible authority that comes before it; never when it has
/// sealed recently; and votes only as proposed. The block is persisted before it is signed, so that a crash between the
/// two leads to the same block again, which a guarded signer signs again.
#[derive(Debug)]
pub struct CliqueMachine {
    rules: Arc<Clique>,
    sealer: Sealer,
    proposals: BTreeMap<Address, bool>,
}

impl CliqueMachine {
    /// A machine for the network with these rules.
    pub fn new(rules: Arc<Clique>, pacing: Pacing) -> Self {
        Self { rules, sealer: Sealer::new(pacing), proposals: BTreeMap::new() }
    }

    /// What this authority votes for: accounts to add (`true`) or drop.
    pub fn proposals(&self) -> &BTreeMap<Address, bool> {
        &self.proposals
    }

    /// Writes one of the proposals that can change anything into `block`, a different one for each number.
    fn vote(&self, block: &mut Block) {
        let Some(snapshot) = &self.sealer.snapshot else { return };
        let useful = |(address, authorize): &(&Address, &bool)| {
            // To drop the last authority would end the chain.
            snapshot.is_meaningful(address, **authorize) && (**authorize || snapshot.signers.len() > 1)
        };
        let count = self.proposals.iter().filter(useful).count();
        let turn =
            usize::try_from(block.header.number).unwrap_or_default().checked_rem(count).unwrap_or_default();
        if let Some((address, authorize)) = self.proposals.iter().filter(useful).nth(turn) {
            self.rules.write_vote(&mut block.header, *address, *authorize);
        }
    }
}

impl ConsensusMachine for CliqueMachine {
    fn step(&mut self, input: Input, signer: &dyn Signer) -> Vec<Output> {
        match input {
            Input::Propose { address, authorize } => {
                if self.proposals.len() < PROPOSALS_MAX || self.proposals.contains_key(&address) {
                    self.proposals.insert(address, authorize);
                }
                Vec::new()
            }
            Input::Discard { address } => {
                self.proposals.remove(&address);
                Vec::new()
            }
            Input::Built { now_ms, block } => match block.filter(|block| self.sealer.awaits(block)) {
                Some(mut block) => {
                    self.vote(&mut block);
                    let mut record = Vec::new();
                    block.encode(&mut record);
                    self.sealer.work = Work::Persisting(block);
                    vec![Output::Persist { record }]
                }
                None => self.sealer.build_failed(now_ms, signer),
            },
            Input::Persisted { now_ms } => match std::mem::take(&mut self.sealer.work) {
                Work::Persisting(block) if self.sealer.on_head(&block) => {
                    self.sealer.seal(&self.rules, block, now_ms, signer)
                }
                Work::Persisting(_) => self.sealer.plan(now_ms, signer),
                other => {
                    self.sealer.work = other;
                    Vec::new()
                }
            },
            Input::Restored { now_ms, record } => {
                match Block::decode(&mut record.as_slice()) {
                    // What was to be signed last may have been signed: on this parent it is that block or none.
                    Ok(block) if self.sealer.on_head(&block) => {
                        self.sealer.seal(&self.rules, Box::new(block), now_ms, signer)
                    }
                    _ => Vec::new(),
                }
            }
            other => self.sealer.step(other, signer),
        }
    }
}

/// Seals every block of a development network: as soon as there is a transaction, or on a period.
#[derive(Debug)]
pub struct DevMachine {
    rules: Arc<Clique>,
    sealer: Sealer,
}

impl DevMachine {
    /// A machine for the network with these rules, whose one authority is the signer's.
    pub fn new(rules: Arc<Clique>, pacing: Pacing) -> Self {
        Self { rules, sealer: Sealer::new(pacing) }
    }
}

impl ConsensusMachine for DevMachine {
    fn step(&mut self, input: Input, signer: &dyn Signer) -> Vec<Output> {
        match input {
            Input::Built { now_ms, block } => match block.filter(|block| self.sealer.awaits(block)) {
                Some(block) => self.sealer.seal(&self.rules, block, now_ms, signer),
                None => self.sealer.build_failed(now_ms, signer),
            },
            other => self.sealer.step(other, signer),
        }
    }
}

/// What both machines share: the head, the pace, and the one block that is under way.
#[derive(Debug)]
struct Sealer {
    pacing: Pacing,
    head: Option<Box<HeadInfo>>,
    snapshot: Option<Arc<Snapshot>>,
    /// When the head was sealed, as near as we know.
    head_ms: u64,
    pending: bool,
    /// Number of the newest block with transactions, and of the newest final one.
    busy_number: u64,
    final_number: u64,
    work: Work,
    /// The block that we sealed last, and the moment it was due.
    sealed: Option<(B256, u64)>,
    due_ms: u64,
    /// No attempt before this time.
    retry_ms: u64,
    /// The parent on which this authority cannot seal any more.
    barred: Option<B256>,
    halted: bool,
}

#[derive(Debug, Default)]
enum Work {
    #[default]
    Idle,
    Building(B256),
    Persisting(Box<Block>),
    Importing(B256, Box<Block>),
}

impl Sealer {
    fn new(pacing: Pacing) -> Self {
        Self {
            pacing,
            head: None,
            snapshot: None,
            head_ms: 0,
            pending: false,
            busy_number: 0,
            final_number: 0,
            work: Work::Idle,
            sealed: None,
            due_ms: 0,
            retry_ms: 0,
            barred: None,
            halted: false,
        }
    }

    fn step(&mut self, input: Input, signer: &dyn Signer) -> Vec<Output> {
        match input {
            Input::Tick { now_ms } => self.plan(now_ms, signer),
            Input::PoolChanged { now_ms, pending } => {
                self.pending = pending;
                self.plan(now_ms, signer)
            }
            Input::Head { now_ms, head, snapshot, final_number, pending } => {
                self.new_head(now_ms, head, snapshot);
                self.final_number = final_number;
                self.pending = pending;
                self.plan(now_ms, signer)
            }
            Input::Imported { now_ms, hash, accepted } => self.imported(now_ms, hash, accepted, signer),
            // The rest is the business of the machine around.
            _ => Vec::new(),
        }
    }

    fn new_head(&mut self, now_ms: u64, head: Box<HeadInfo>, snapshot: Option<Arc<Snapshot>>) {
        let start_ms = head.header.timestamp.saturating_mul(1_000);
        self.head_ms = match self.sealed {
            Some((hash, due_ms)) if hash == head.hash => due_ms.max(start_ms),
            _ => now_ms.clamp(start_ms, start_ms.saturating_add(999)),
        };
        if head.header.transactions_root != EMPTY_ROOT_HASH {
            self.busy_number = head.number();
        }
        let same = self.head.as_ref().is_some_and(|known| known.hash == head.hash);
        if !same && !matches!(self.work, Work::Importing(..)) {
            // A block that was to follow another head is of no use.
            self.work = Work::Idle;
            self.retry_ms = 0;
        }
        self.head = Some(head);
        self.snapshot = snapshot;
    }

    fn imported(&mut self, now_ms: u64, hash: B256, accepted: bool, signer: &dyn Signer) -> Vec<Output> {
        let block = match std::mem::take(&mut self.work) {
            Work::Importing(awaited, block) if awaited == hash => block,
            other => {
                self.work = other;
                return Vec::new();
            }
        };
        // On this parent there is nothing more to seal; the new head is told of separately.
        self.barred = Some(block.header.parent_hash);
        let mut outputs = if accepted {
            vec![Output::Broadcast(block)]
        } else {
            let number = block.header.number;
            let message = format!("our own block {number} ({hash}) was not imported; it is not sealed again");
            vec![Output::Alarm { message, halted: false }]
        };
        outputs.extend(self.plan(now_ms, signer));
        outputs
    }

    fn build_failed(&mut self, now_ms: u64, signer: &dyn Signer) -> Vec<Output> {
        if matches!(self.work, Work::Building(_)) {
            self.work = Work::Idle;
            self.retry_ms = now_ms.saturating_add(RETRY_MS);
        }
        self.plan(now_ms, signer)
    }

    /// Whether `block` is the one that was asked for last.
    fn awaits(&self, block: &Block) -> bool {
        matches!(self.work, Work::Building(parent) if parent == block.header.parent_hash)
            && self.on_head(block)
    }

    fn on_head(&self, block: &Block) -> bool {
        self.head.as_ref().is_some_and(|head| head.hash == block.header.parent_hash)
    }

    fn seal(
        &mut self,
        rules: &Clique,
        mut block: Box<Block>,
        now_ms: u64,
        signer: &dyn Signer,
    ) -> Vec<Output> {
        self.work = Work::Idle;
        if self.halted {
            return Vec::new();
        }
        let slot = Slot::Clique { number: block.header.number, parent: block.header.parent_hash };
        let seal = match signer.sign(&slot, rules.seal_hash(&block.header)) {
            Ok(seal) => seal,
            Err(SignerError::AlreadySigned { .. }) => {
                self.barred = Some(block.header.parent_hash);
                let number = block.header.number;
                let message =
                    format!("another block {number} was sealed on this parent before; waiting for others");
                return vec![Output::Alarm { message, halted: false }];
            }
            Err(error) => {
                self.halted = true;
                let message = format!("sealing stopped, the signer failed: {error}");
                return vec![Output::Alarm { message, halted: true }];
            }
        };
        Clique::write_seal(&mut block.header, &seal);
        let hash = rules.block_hash(&block.header);
        self.sealed = Some((hash, self.due_ms.min(now_ms)));
        self.work = Work::Importing(hash, block.clone());
        vec![Output::Import(block)]
    }

    /// Asks for a block if it is time, else says when it will be.
    fn plan(&mut self, now_ms: u64, signer: &dyn Signer) -> Vec<Output> {
        if self.halted || !matches!(self.work, Work::Idle) {
            return Vec::new();
        }
        let Some(due_ms) = self.due(&signer.address()) else { return Vec::new() };
        let at_ms = due_ms.max(self.retry_ms);
        if now_ms < at_ms {
            return vec![Output::Timer { at_ms }];
        }
        let Some(parent) = self.head.as_ref().map(|head| head.hash) else { return Vec::new() };
        self.due_ms = due_ms;
        self.work = Work::Building(parent);
        vec![Output::Build { parent, author: signer.address(), now_ms }]
    }

    /// From when on `author` seals the next block, if it may and there is a reason to.
    fn due(&self, author: &Address) -> Option<u64> {
        let head = self.head.as_ref().filter(|head| self.barred != Some(head.hash))?;
        let snapshot = self.snapshot.as_ref()?;
        let number = head.number().checked_add(1)?;
        if !snapshot.signers.contains(author) || snapshot.recently_signed(number, author) {
            return None;
        }
        let start_ms = head.header.timestamp.saturating_mul(1_000);
        let period_ms = self.pacing.block_period_ms;
        // Whole seconds count from the parent's time, so that blocks do not drift; parts of one from its sealing.
        let from_ms = if period_ms.is_multiple_of(1_000) { start_ms } else { self.head_ms };
        let paced_ms = from_ms.saturating_add(period_ms);
        // After a block with transactions the pace is kept until it is final.
        let due_ms = if self.pending || self.busy_number > self.final_number {
            paced_ms
        } else {
            paced_ms.max(start_ms.saturating_add(self.pacing.empty_block_ms?))
        };
        Some(due_ms.saturating_add(self.delay(snapshot, number, author)))
    }

    /// The wait for those who come before `author`, from the one in turn on, and may seal block `number`.
    fn delay(&self, snapshot: &Snapshot, number: u64, author: &Address) -> u64 {
        let step = (self.pacing.block_period_ms / 2).clamp(TURN_DELAY_MS_MIN, TURN_DELAY_MS_MAX);
        let count = snapshot.signers.len();
        let first = usize::try_from(number).unwrap_or_default().checked_rem(count).unwrap_or_default();
        let before = snapshot
            .signers
            .iter()
            .cycle()
            .skip(first)
            .take(count)
            .take_while(|signer| *signer != author)
            .filter(|signer| !snapshot.recently_signed(number, signer))
            .count();
        u64::try_from(before).unwrap_or(u64::MAX).saturating_mul(step)
    }
}
