//! Notices that this node's account was put in custody of a content whose owner the operator admits.
//!
//! Nothing has to be told to the node: custody is an event of the registry. What is noticed is put into the index of
//! the block gate, so that readers are served after a start of the node, too; blocks that are not here are named, so
//! that the operator can fetch them.

use super::{Node, storage_error};
use crate::error::Result;
use crate::vault::{ChainView, Manifest, VersionInfo};
use lightstreams_acl::{BlockRef, ContentId, ContractBackend, LogFilter};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Blocks whose logs are read at a time.
const BLOCKS_STEP: u64 = 10_000;
/// How often the final block is looked at.
const PAUSE: Duration = Duration::from_millis(500);

/// Looks at every final block once, until told to stop.
pub(super) async fn watch(node: Arc<Node>, mut stop: watch::Receiver<bool>) {
    let mut next = 0;
    while !*stop.borrow() {
        let looking = node.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let settled = looking.chain.final_block().number;
            while next <= settled {
                let end = settled.min(next.saturating_add(BLOCKS_STEP - 1));
                if let Err(error) = look(&looking, next, end) {
                    return (next, Err(error));
                }
                next = end.saturating_add(1);
            }
            (next, Ok(()))
        });
        match looked.await {
            Ok((reached, Ok(()))) => next = reached,
            // The same blocks are looked at again: what is in the index already stays as it is.
            Ok((reached, Err(error))) => {
                next = reached;
                tracing::warn!("cannot look for custody in block {next}: {error}");
            }
            Err(_) => return,
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            _ = stop.changed() => return,
        }
    }
}

/// Indexes what the blocks `from` to `to` put into custody here.
fn look(node: &Node, from: u64, to: u64) -> Result<()> {
    let Some(operator) = node.config.account else { return Ok(()) };
    let failed = |e| storage_error("cannot read the registry", e);
    let (registry, backend) = (node.view.registry(), node.view.backend());
    let filter = LogFilter {
        from: BlockRef::Number(from),
        to: BlockRef::Number(to),
        addresses: vec![registry.address()],
        topics: Default::default(),
    };
    // The content is the first indexed field of every event that concerns versions or custody.
    let contents: BTreeSet<ContentId> = backend
        .logs(&filter)
        .map_err(failed)?
        .iter()
        .filter_map(|log| log.topics.get(1))
        .map(|id| ContentId(*id))
        .collect();
    for content in contents {
        let Some(state) = node.view.content(content, BlockRef::Final).map_err(failed)? else { continue };
        let admitted = state.owner == operator || node.config.admit.contains(&state.owner);
        if !admitted || !state.custody.contains(&operator) {
            continue;
        }
        let head = registry.head(content).run(backend, BlockRef::Final).map_err(failed)?;
        let (manifest, place) = (Manifest::cid_of(&head.manifest), node.place(content));
        let known = node.index.contents().into_iter().find(|known| known.place == place);
        if known.is_some_and(|known| known.manifests.contains(&manifest)) {
            continue;
        }
        let version = VersionInfo { version: head.version, epoch: head.headEpoch, revision: head.revision };
        let indexed = node.releases.take_custody(&place, &manifest, &version);
        if let Err(error) = indexed {
            tracing::warn!(
                "{content} is in our custody, and cannot be served yet: {error}; `lightstreams fetch` brings its blocks"
            );
        }
    }
    Ok(())
}
