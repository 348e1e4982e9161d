//! Snapshots of the chain: a directory from which another node starts, and what is read back from it.
//!
//! ```text
//! DIR/genesis.json   the genesis of the network
//! DIR/db/            the chain's database at one moment, closed
//! DIR/snapshot.json  what is in it; written last, so a snapshot without it is one that was interrupted
//! ```

use std::{fs, path::Path};

use lightstreams_chain::{Chain, SnapshotError, SnapshotInfo};
use serde::{Deserialize, Serialize};

use super::storage::{open_chain_db, storage_error};
use crate::{
    config::Storage,
    datadir::{make_private_dir, read_text, write_private_new},
    error::{NodeError, Result, io_error},
};

/// `snapshot.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// The database that `db` is one of.
    pub(crate) storage: Storage,
    #[serde(flatten)]
    pub(crate) info: SnapshotInfo,
}

const MANIFEST: &str = "snapshot.json";
/// The file with the genesis, in a snapshot.
pub(crate) const GENESIS: &str = "genesis.json";
/// The folder with the database, in a snapshot.
pub(crate) const DATABASE: &str = "db";

/// Writes a snapshot of `chain` into the new directory `to`; tells `progress` records and bytes. Blocks may come meanwhile.
pub(crate) fn write(
    chain: &Chain,
    storage: Storage,
    to: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Manifest> {
    if fs::symlink_metadata(to).is_ok() {
        return Err(NodeError::usage("already_exists", format!("{} already exists", to.display()))
            .hint("a snapshot is written into a directory that is not there yet; nothing was changed"));
    }
    make_private_dir(to)?;
    let written = write_into(chain, storage, to, progress);
    if written.is_err() {
        let _ = fs::remove_dir_all(to);
    }
    written
}

fn write_into(
    chain: &Chain,
    storage: Storage,
    to: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Manifest> {
    let kv = open_chain_db(&to.join(DATABASE), storage)?;
    let info = chain.copy_to(kv.as_ref(), progress).map_err(|error| match error {
        SnapshotError::Write(error) => storage_error("cannot write the snapshot", error),
        SnapshotError::Storage(error) => storage_error("cannot read the chain", error),
        error => NodeError::new("snapshot", "no snapshot was made").because(error),
    })?;
    // Closed, so that its files can be copied.
    drop(kv);
    write_private_new(&to.join(GENESIS), chain.genesis().to_json().as_bytes())?;
    let manifest = Manifest { storage, info };
    let text = serde_json::to_string_pretty(&manifest)
        .map_err(|error| NodeError::new("snapshot", "the manifest is no JSON").because(error))?;
    write_private_new(&to.join(MANIFEST), format!("{text}\n").as_bytes())?;
    Ok(manifest)
}

/// Reads what the snapshot in `from` says it holds.
pub(crate) fn read(from: &Path) -> Result<Manifest> {
    let path = from.join(MANIFEST);
    if !path.exists() {
        return Err(NodeError::not_found("no_snapshot", format!("{} does not exist", path.display()))
            .hint("name a directory that `lightstreams chain snapshot` wrote to its end"));
    }
    serde_json::from_str(&read_text(&path)?).map_err(|error| {
        NodeError::usage("bad_snapshot", format!("{} is no manifest of a snapshot", path.display()))
            .because(error)
    })
}

/// Copies the database of the snapshot in `from` to the new directory `to`.
pub(crate) fn restore(from: &Path, to: &Path) -> Result<()> {
    copy(&from.join(DATABASE), to)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    make_private_dir(to)?;
    let wrong = |error| io_error("read", from, error);
    for entry in fs::read_dir(from).map_err(wrong)? {
        let entry = entry.map_err(wrong)?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().map_err(wrong)?.is_dir() {
            // Databases nest their folders a few deep.
            copy(&source, &target)?;
        } else {
            let copied = fs::copy(&source, &target).and_then(|_| fs::File::open(&target)?.sync_all());
            copied.map_err(|error| io_error("write", &target, error))?;
        }
    }
    fs::File::open(to).and_then(|dir| dir.sync_all()).map_err(|error| io_error("write", to, error))
}
