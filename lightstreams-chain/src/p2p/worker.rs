//! Two threads that do what would hold up the swarm: one imports, one reads for peers.

use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use alloy_primitives::{B256, Bytes};
use alloy_rlp::Encodable;
use futures::channel::mpsc::UnboundedSender;
use libp2p::{PeerId, request_response::ResponseChannel};

use super::message::{ANSWER_MAX, ITEMS_MAX, NewBlock, Question, Range, Reply, Status, VERSION};
use crate::{Block, BlockId, BlockRef, Chain, ImportError, KvError, SubmitError};

/// Jobs that wait for each thread; more are refused.
const JOBS_MAX: usize = 256;
/// How often the reader says that time has passed.
pub(super) const TICK: Duration = Duration::from_secs(1);
/// Room for what stands around the items of an answer.
const ANSWER_SLACK: usize = 4 << 10;

/// What to import.
pub(super) enum Import {
    /// Consecutive blocks.
    Range { peer: PeerId, blocks: Vec<Block> },
    /// A block that a peer announced.
    Announced { peer: PeerId, block: Box<Block> },
    /// Transactions that a peer announced.
    Transactions { raw: Vec<Bytes> },
}

/// What to read.
pub(super) enum Read {
    Answer {
        question: Question,
        channel: ResponseChannel<Reply>,
    },
    /// A block of ours, to announce it.
    Load {
        hash: B256,
    },
}

/// What the threads have done: one for each job, and at most one tick that was not taken yet.
pub(super) enum Done {
    Imported { peer: PeerId, range: bool, last: Option<BlockRef>, failed: Option<Failed> },
    Answered { reply: Option<Reply>, channel: ResponseChannel<Reply> },
    Loaded(Box<NewBlock>),
    Tick,
}

/// The block that was not imported, and why.
pub(super) struct Failed {
    pub(super) block: BlockRef,
    pub(super) error: ImportError,
}

pub(super) struct Workers {
    imports: SyncSender<Import>,
    reads: SyncSender<Read>,
    ticked: Arc<AtomicBool>,
}

impl Workers {
    /// Starts both threads. They end when this is dropped.
    pub(super) fn start(chain: Arc<Chain>, done: UnboundedSender<Done>) -> Self {
        let (imports, import_jobs) = sync_channel(JOBS_MAX);
        let (reads, read_jobs) = sync_channel(JOBS_MAX);
        let ticked = Arc::new(AtomicBool::new(false));
        let (chain_too, done_too, ticked_too) = (chain.clone(), done.clone(), ticked.clone());
        thread::spawn(move || import_on_all_cores(&chain, import_jobs, &done));
        thread::spawn(move || read_all(&chain_too, &read_jobs, &done_too, &ticked_too));
        Self { imports, reads, ticked }
    }

    /// `false` if there is too much to do already.
    pub(super) fn import(&self, job: Import) -> bool {
        self.imports.try_send(job).is_ok()
    }

    /// Lets the next tick come, now that the last one was taken.
    pub(super) fn take_tick(&self) {
        self.ticked.store(false, Ordering::Relaxed);
    }

    /// `false` if there is too much to do already.
    pub(super) fn read(&self, job: Read) -> bool {
        self.reads.try_send(job).is_ok()
    }
}

/// Imports what comes; with the feature `parallel` on all cores.
fn import_on_all_cores(chain: &Chain, jobs: Receiver<Import>, done: &UnboundedSender<Done>) {
    #[cfg(feature = "parallel")]
    if let Ok(pool) = rayon::ThreadPoolBuilder::new().build() {
        return pool.install(move || import_all(chain, &jobs, done));
    }
    import_all(chain, &jobs, done);
}

fn import_all(chain: &Chain, jobs: &Receiver<Import>, done: &UnboundedSender<Done>) {
    for job in jobs {
        let result = match job {
            Import::Range { peer, blocks } => import_blocks(chain, peer, blocks, true),
            Import::Announced { peer, block } => import_blocks(chain, peer, vec![*block], false),
            Import::Transactions { raw } => {
                for raw in raw {
                    // A transaction that one pool takes another may refuse: no blame.
                    if let Err(SubmitError::Storage(_)) = chain.submit(&raw) {
                        break;
                    }
                }
                continue;
            }
        };
        if done.unbounded_send(result).is_err() {
            return;
        }
    }
}

fn import_blocks(chain: &Chain, peer: PeerId, blocks: Vec<Block>, range: bool) -> Done {
    let block_ref = |block: &Block| BlockRef {
        number: block.header.number,
        hash: chain.engine().block_hash(&block.header),
    };
    let refs: Vec<BlockRef> = blocks.iter().map(block_ref).collect();
    let mut count = 0;
    let imported = chain.import_groups(blocks.into_iter(), now(), |taken| {
        count += taken.blocks as usize;
        ControlFlow::Continue(())
    });
    let last = count.checked_sub(1).and_then(|index| refs.get(index)).copied();
    let failed = imported.err().zip(refs.get(count).copied()).map(|(error, block)| Failed { block, error });
    Done::Imported { peer, range, last, failed }
}

fn read_all(chain: &Chain, jobs: &Receiver<Read>, done: &UnboundedSender<Done>, ticked: &AtomicBool) {
    let mut ticked_at = Instant::now();
    loop {
        if ticked_at.elapsed() >= TICK {
            ticked_at = Instant::now();
            if !ticked.swap(true, Ordering::Relaxed) && done.unbounded_send(Done::Tick).is_err() {
                return;
            }
        }
        let result = match jobs.recv_timeout(TICK) {
            Ok(Read::Answer { question, channel }) => {
                Done::Answered { reply: answer(chain, question).ok(), channel }
            }
            Ok(Read::Load { hash }) => match load(chain, hash) {
                Some(block) => Done::Loaded(Box::new(block)),
                None => continue,
            },
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if done.unbounded_send(result).is_err() {
            return;
        }
    }
}

fn answer(chain: &Chain, question: Question) -> Result<Reply, KvError> {
    match question {
        Question::Status(_) => Ok(Reply::Status(status(chain))),
        Question::Headers(range) => {
            collect(range, |id| Ok(chain.header(id)?.map(|info| info.header))).map(Reply::Headers)
        }
        Question::Blocks(range) => collect(range, |id| chain.block(id)).map(Reply::Blocks),
    }
}

fn collect<T: Encodable>(
    range: Range,
    read: impl Fn(BlockId) -> Result<Option<T>, KvError>,
) -> Result<Vec<T>, KvError> {
    let mut items = Vec::new();
    let mut bytes = 0_usize;
    for number in range.first..range.first.saturating_add(range.count.min(ITEMS_MAX)) {
        let Some(item) = read(BlockId::Number(number))? else { break };
        bytes = bytes.saturating_add(item.length());
        if bytes > ANSWER_MAX.saturating_sub(ANSWER_SLACK) {
            break;
        }
        items.push(item);
    }
    Ok(items)
}

fn load(chain: &Chain, hash: B256) -> Option<NewBlock> {
    let total_difficulty = chain.header(BlockId::Hash(hash)).ok()??.total_difficulty;
    let block = chain.block(BlockId::Hash(hash)).ok()??;
    Some(NewBlock { total_difficulty, block })
}

pub(super) fn status(chain: &Chain) -> Status {
    let head = chain.head();
    Status {
        version: VERSION,
        genesis: chain.genesis_hash(),
        number: head.number(),
        hash: head.hash,
        total_difficulty: head.total_difficulty,
    }
}

/// Unix seconds.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
