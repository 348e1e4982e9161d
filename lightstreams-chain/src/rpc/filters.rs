//! Filters that callers poll: bounded in number, forgotten when nobody asks.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use alloy_primitives::U128;
use jsonrpsee::types::ErrorObjectOwned;
use serde_json::{Value, json};

use super::{Answer, Api, error, json as forms};
use crate::{BlockId, BlockRef, KvError, LogEntry, LogFilter};

/// Blocks that a reorg may take back from a filter; beyond them it starts anew from the chain of now.
const REMOVED_MAX: usize = 1_024;
/// Hashes in one answer of a block filter; the rest comes with the next.
const BLOCKS_MAX: u64 = 10_000;

pub(super) struct Filters {
    all: Mutex<HashMap<U128, Filter>>,
    max: usize,
    expiry: Duration,
    secret: RandomState,
}

#[derive(Clone)]
struct Filter {
    /// The logs asked for; `None` for a filter of blocks.
    logs: Option<LogFilter>,
    /// The newest block that the caller knows of.
    seen: BlockRef,
    asked: Instant,
    serial: u64,
}

impl Filters {
    pub(super) fn new(max: usize, expiry_secs: u64) -> Self {
        let expiry = Duration::from_secs(expiry_secs);
        Self { all: Mutex::default(), max: max.max(1), expiry, secret: RandomState::new() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<U128, Filter>> {
        // A poisoned map is still whole: each change to it is one call.
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, filter| filter.asked.elapsed() < self.expiry);
        all
    }
}

/// Takes a filter in and gives its id, which nobody guesses.
pub(super) fn add(api: &Api, logs: Option<LogFilter>) -> Answer {
    let mut all = api.filters.lock();
    let serial = all.values().map(|filter| filter.serial).max().unwrap_or_default().saturating_add(1);
    let now = Instant::now();
    let seen = api.chain.head().block_ref();
    let half = |side: u8| u128::from(api.filters.secret.hash_one((side, serial, now)));
    let id = U128::from(half(0) << 64 | half(1));
    if all.len() >= api.filters.max {
        let oldest = all.iter().min_by_key(|(_, filter)| filter.asked).map(|(id, _)| *id);
        oldest.and_then(|oldest| all.remove(&oldest));
    }
    all.insert(id, Filter { logs, seen, asked: now, serial });
    Ok(json!(id))
}

pub(super) fn remove(api: &Api, id: U128) -> Answer {
    Ok(api.filters.lock().remove(&id).is_some().into())
}

/// All logs of a log filter, whatever was told before.
pub(super) fn logs(api: &Api, id: U128) -> Answer {
    let filter = touch(api, id)?;
    let filter = filter.logs.ok_or_else(|| error::server("filter not found"))?;
    let logs = api.chain.logs(&filter).map_err(error::logs)?;
    Ok(logs.iter().map(|entry| forms::log(entry, false)).collect())
}

/// What is new since the last time: first what a reorg took back, then what came.
pub(super) fn changes(api: &Api, id: U128) -> Answer {
    let filter = touch(api, id)?;
    let (removed, base) = taken_back(api, filter.seen).map_err(error::storage)?;
    let head = api.chain.head().block_ref();
    let (answer, seen) = match &filter.logs {
        None => {
            let to = head.number.min(base.saturating_add(BLOCKS_MAX));
            let mut hashes = Vec::new();
            let mut seen = filter.seen;
            for number in base.saturating_add(1)..=to {
                let Some(block) = api.chain.resolve(BlockId::Number(number)).map_err(error::storage)? else {
                    break;
                };
                hashes.push(json!(block.hash));
                seen = block;
            }
            (hashes, seen)
        }
        Some(logs) => {
            let mut answer = Vec::new();
            for block in &removed {
                answer.extend(removed_logs(api, logs, *block).map_err(error::storage)?);
            }
            if head.number > base {
                let from = base.saturating_add(1).max(lower_bound(api, logs.from));
                let to = head.number.min(upper_bound(logs.to));
                if from <= to {
                    let range = LogFilter { from: from.into(), to: to.into(), ..logs.clone() };
                    let found = api.chain.logs(&range).map_err(error::logs)?;
                    answer.extend(found.iter().map(|entry| forms::log(entry, false)));
                }
            }
            (answer, head)
        }
    };
    if let Some(filter) = api.filters.lock().get_mut(&id) {
        filter.seen = seen;
    }
    Ok(answer.into())
}

fn touch(api: &Api, id: U128) -> Result<Filter, ErrorObjectOwned> {
    let mut all = api.filters.lock();
    let filter = all.get_mut(&id).ok_or_else(|| error::server("filter not found"))?;
    filter.asked = Instant::now();
    Ok(filter.clone())
}

/// The blocks from `seen` down that are no longer canonical, and the number of the newest one that is.
fn taken_back(api: &Api, seen: BlockRef) -> Result<(Vec<BlockRef>, u64), KvError> {
    let mut removed = Vec::new();
    let mut at = seen;
    while removed.len() < REMOVED_MAX {
        let canonical = api.chain.resolve(BlockId::Number(at.number))?;
        if canonical.is_some_and(|canonical| canonical.hash == at.hash) {
            return Ok((removed, at.number));
        }
        let Some(info) = api.chain.header(BlockId::Hash(at.hash))?.filter(|info| info.number() > 0) else {
            break;
        };
        removed.push(at);
        at = BlockRef { number: info.number() - 1, hash: info.header.parent_hash };
    }
    Ok((Vec::new(), api.chain.head().number()))
}

fn removed_logs(api: &Api, filter: &LogFilter, block: BlockRef) -> Result<Vec<Value>, KvError> {
    let id = BlockId::Hash(block.hash);
    let (Some(info), Some(body), Some(receipts)) =
        (api.chain.header(id)?, api.chain.block(id)?, api.chain.receipts(id)?)
    else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    let mut log_index = 0_u64;
    for ((transaction, receipt), transaction_index) in body.body.transactions.iter().zip(&receipts).zip(0..) {
        for log in receipt.logs() {
            let address = filter.addresses.is_empty() || filter.addresses.contains(&log.address);
            let topics = filter.topics.iter().enumerate().all(|(place, wanted)| {
                wanted.is_empty() || log.topics().get(place).is_some_and(|topic| wanted.contains(topic))
            });
            if address && topics {
                let entry = LogEntry {
                    log: log.clone(),
                    block,
                    timestamp: info.header.timestamp,
                    transaction_hash: *transaction.tx_hash(),
                    transaction_index,
                    log_index,
                };
                found.push(forms::log(&entry, true));
            }
            log_index = log_index.saturating_add(1);
        }
    }
    Ok(found)
}

fn lower_bound(api: &Api, id: BlockId) -> u64 {
    match id {
        BlockId::Number(number) => number,
        BlockId::Final => api.chain.final_block().number,
        _ => 0,
    }
}

fn upper_bound(id: BlockId) -> u64 {
    match id {
        BlockId::Number(number) => number,
        _ => u64::MAX,
    }
}
