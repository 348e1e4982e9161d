//! DAGs of any codec: where a path leads, and which blocks lie there.
//!
//! ```text
//! root, path --resolve--> DagPath --export, write_car--> blocks on the path, then what the path leads to
//!                                   DagSelection: block | entity (a range of it) | all
//! ```
//!
//! Blocks come depth first, each parent before its children, in the order of its links. (Rules: ipfs/specs
//! `src/http-gateways/trustless-gateway.md`, "CAR responses"; IPIP-402, IPIP-412.)

mod fetch;
mod path;
mod walk;

use std::io;

use cid::Cid;

pub use self::{
    fetch::{FetchedDag, fetch_dag},
    path::DagPath,
    walk::{DagScope, DagSelection, EntityBytes},
};
use crate::{DecodeError, FetchError, ReadError, StoreError};

/// Why a path leads nowhere, or blocks of a DAG were not handed on; those before the error were.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum DagError {
    /// Nothing is there under a name of the path.
    #[error("{cid} has no entry {name:?}")]
    NotFound {
        /// The block in which the name was looked for.
        cid: Box<Cid>,
        /// The name.
        name: String,
    },
    /// A block is missing, wrong, or no directory.
    #[error("reading the DAG failed")]
    Read(#[from] ReadError),
    /// A block is malformed.
    #[error("the block {cid} cannot be read")]
    Decode {
        /// Which.
        cid: Box<Cid>,
        /// What is wrong.
        source: DecodeError,
    },
    /// The path or the DAG is larger than allowed.
    #[error("too many {what}")]
    Limit {
        /// Of what there is too much.
        what: &'static str,
    },
    /// Blocks did not come.
    #[error("fetching the blocks failed")]
    Fetch(#[from] FetchError),
    /// The store that the blocks were to go into failed.
    #[error("the store failed")]
    Store(#[source] StoreError),
    /// The blocks were not taken.
    #[error("writing the blocks failed")]
    Write(#[source] io::Error),
}
