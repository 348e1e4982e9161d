//! `repo/*`, and `refs/local`.

use std::{
    ops::ControlFlow,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use serde_json::json;

use super::{
    refusal::{RpcError, Stop},
    room::{LATE, Room},
    work::{Done, Work},
};
use crate::{Block, BlockStore, Cid, Finding, StoreError};

/// Blocks that are listed at once.
const PAGE: usize = 1024;

/// Shows all blocks.
fn all(room: &Room<'_>, show: &mut dyn FnMut(&Cid) -> Done) -> Done {
    let mut after = None;
    loop {
        let page = room.cids(after.as_ref(), PAGE)?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(*last);
        page.iter().try_for_each(&mut *show)?;
    }
}

pub(super) fn local(work: &mut Work<'_>) -> Done {
    let cids = work.ask.cids()?;
    work.lines()?;
    all(&work.room(), &mut |cid| work.line(&json!({ "Ref": cids.of(cid), "Err": "" })))
}

pub(super) fn stat(work: &mut Work<'_>) -> Done {
    let (mut bytes, mut blocks) = (0u64, 0u64);
    let room = work.room();
    all(&room, &mut |cid| {
        bytes = bytes.saturating_add(room.size(cid)?.unwrap_or(0));
        blocks += 1;
        Ok(())
    })?;
    work.once(&json!({
        "RepoSize": bytes,
        "StorageMax": u64::MAX,
        "NumObjects": blocks,
        "RepoPath": "",
        "Version": "",
    }))
}

/// A store that remembers what was removed.
struct Removals<'a> {
    store: &'a dyn BlockStore,
    removed: &'a Mutex<Vec<Cid>>,
}

impl BlockStore for Removals<'_> {
    fn get(&self, cid: &Cid) -> Result<Option<Block>, StoreError> {
        self.store.get(cid)
    }

    fn size(&self, cid: &Cid) -> Result<Option<u64>, StoreError> {
        self.store.size(cid)
    }

    fn put_many(&self, blocks: &[Block]) -> Result<(), StoreError> {
        self.store.put_many(blocks)
    }

    fn remove_many(&self, cids: &[Cid]) -> Result<(), StoreError> {
        self.store.remove_many(cids)?;
        self.removed.lock().unwrap_or_else(PoisonError::into_inner).extend(cids);
        Ok(())
    }

    fn cids(&self, after: Option<&Cid>, limit: usize) -> Result<Vec<Cid>, StoreError> {
        self.store.cids(after, limit)
    }

    fn reclaim(&self) -> Result<(), StoreError> {
        self.store.reclaim()
    }
}

/// Whether to go on: not when the client has gone or time has run out, which `failed` tells then.
fn go_on(told: Done, until: Instant, failed: &mut Option<Stop>) -> ControlFlow<()> {
    let late = || if Instant::now() < until { Ok(()) } else { Err(RpcError::failed(LATE).into()) };
    *failed = told.and_then(|()| late()).err();
    if failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// Sweeps, and tells what was removed as it goes.
pub(super) fn gc(work: &mut Work<'_>) -> Done {
    let silent = work.ask.flag(&["silent"], false)?;
    let errors = work.ask.flag(&["stream-errors"], false)?;
    work.rpc.node.may_collect()?;
    let removed = Mutex::new(Vec::new());
    let pinned = &work.rpc.store;
    let view = pinned.view(Removals { store: pinned.store(), removed: &removed });
    let (start, until) = (Instant::now(), work.until);
    work.lines()?;
    let tell = |work: &mut Work<'_>| -> Done {
        let removed = std::mem::take(&mut *removed.lock().unwrap_or_else(PoisonError::into_inner));
        let told = removed.iter().filter(|_| !silent);
        told.into_iter().try_for_each(|cid| work.line(&json!({ "Key": { "/": cid.to_string() } })))
    };
    let mut failed = None;
    let swept = view.sweep(&|| start.elapsed(), &mut |_| go_on(tell(work), until, &mut failed));
    tell(work)?;
    match (failed, swept) {
        (Some(stop), _) => Err(stop),
        (None, Ok(_)) => Ok(()),
        (None, Err(error)) => {
            let error = RpcError::from(error);
            if errors {
                work.line(&json!({ "Key": null, "Error": error.message() }))?;
            }
            Err(error.into())
        }
    }
}

pub(super) fn verify(work: &mut Work<'_>) -> Done {
    work.ask.refuse(&["drop", "heal"])?;
    work.lines()?;
    let until = work.until;
    let mut failed = None;
    let done = work.rpc.store.verify(&mut |finding| {
        let told = match finding {
            Finding::Progress(done) => work.line_now(&json!({ "Msg": "", "Progress": done.blocks })),
            Finding::Damaged(damage) => work.line_now(&json!({ "Msg": damage.to_string(), "Progress": 0 })),
            Finding::Repaired(_) => Ok(()),
        };
        go_on(told, until, &mut failed)
    })?;
    if let Some(stop) = failed {
        return Err(stop);
    }
    work.line(&json!({ "Msg": "", "Progress": done.blocks }))?;
    if done.damaged > 0 {
        let text = format!("verify complete, {} blocks are missing or damaged", done.damaged);
        return Err(RpcError::failed(text).into());
    }
    Ok(())
}
