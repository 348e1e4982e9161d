//! The seam behind which blocks are kept.

use std::{error::Error, fmt, sync::Arc};

use bytes::Bytes;
use cid::Cid;

use crate::Block;

/// Keeps blocks under the multihash of their CIDs.
///
/// CIDs that share a multihash name the same block, whatever their version and codec: what was put as a
/// CIDv1 is found under its CIDv0. A block that `get` returns carries the CID that was asked for.
///
/// `put_many` and `remove_many` are idempotent. Calls may race: a `get` that overlaps a `put_many` of the
/// same block returns all of it or none. A block longer than [`MAX_BLOCK_LEN`](crate::MAX_BLOCK_LEN) is refused,
/// and with it the whole `put_many`. Implementations pass `testing::check_block_store`.
pub trait BlockStore: Send + Sync {
    /// Returns the block named `cid`, or `None` if it is not held here.
    ///
    /// What is returned hashes to `cid`; a block found damaged is an error that says so.
    fn get(&self, cid: &Cid) -> Result<Option<Block>, StoreError>;

    /// Returns the bytes of the block named `cid` for somebody who hashes them, as every peer does, or `None` if it is not held here.
    ///
    /// What is returned was checked, if with less than the hash of its name: what a disk damaged is an error here too, but bytes that
    /// somebody forged together with their checksum are not. The default is [`get`](Self::get).
    fn get_unhashed(&self, cid: &Cid) -> Result<Option<Bytes>, StoreError> {
        Ok(self.get(cid)?.map(|block| block.into_parts().1))
    }

    /// Returns how many bytes the block named `cid` has, or `None` if it is not held here.
    fn size(&self, cid: &Cid) -> Result<Option<u64>, StoreError>;

    /// Stores `blocks` in one commit, and returns once all of them survive a power cut.
    fn put_many(&self, blocks: &[Block]) -> Result<(), StoreError>;

    /// Forgets the blocks named `cids`; those not held are passed over.
    fn remove_many(&self, cids: &[Cid]) -> Result<(), StoreError>;

    /// Lists at most `limit` held blocks in ascending order of their multihash bytes, from the first one after
    /// `after` on, each as a raw CIDv1.
    ///
    /// A caller walks the whole store by passing the last CID of one page as `after` of the next; it sees every
    /// block that is held during the whole walk exactly once.
    fn cids(&self, after: Option<&Cid>, limit: usize) -> Result<Vec<Cid>, StoreError>;

    /// Gives back the space of removed blocks, as far as that takes more work than their removal did.
    ///
    /// Others read and write meanwhile. Whoever removed many blocks calls it once after that; a store that has nothing to do keeps
    /// this default.
    fn reclaim(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Stores one block; many at once in [`put_many`](Self::put_many) cost little more.
    fn put(&self, block: &Block) -> Result<(), StoreError> {
        self.put_many(std::slice::from_ref(block))
    }

    /// Whether the block named `cid` is held here.
    fn has(&self, cid: &Cid) -> Result<bool, StoreError> {
        Ok(self.size(cid)?.is_some())
    }
}

// A node chooses its store at run time, so the trait stays usable as a trait object.
const _: Option<&dyn BlockStore> = None;

macro_rules! forward_block_store {
    ($($holder:ty),*) => {$(
        impl<S: BlockStore + ?Sized> BlockStore for $holder {
            fn get(&self, cid: &Cid) -> Result<Option<Block>, StoreError> {
                (**self).get(cid)
            }
            fn get_unhashed(&self, cid: &Cid) -> Result<Option<Bytes>, StoreError> {
                (**self).get_unhashed(cid)
            }
            fn size(&self, cid: &Cid) -> Result<Option<u64>, StoreError> {
                (**self).size(cid)
            }
            fn put_many(&self, blocks: &[Block]) -> Result<(), StoreError> {
                (**self).put_many(blocks)
            }
            fn remove_many(&self, cids: &[Cid]) -> Result<(), StoreError> {
                (**self).remove_many(cids)
            }
            fn cids(&self, after: Option<&Cid>, limit: usize) -> Result<Vec<Cid>, StoreError> {
                (**self).cids(after, limit)
            }
            fn reclaim(&self) -> Result<(), StoreError> {
                (**self).reclaim()
            }
        }
    )*};
}
forward_block_store!(&S, Box<S>, Arc<S>);

/// What a store was doing when it failed.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreOp {
    /// Opening the database.
    Open,
    /// Reading a block.
    Get,
    /// Looking up the length of a block.
    Size,
    /// Storing blocks.
    Put,
    /// Removing blocks.
    Remove,
    /// Listing blocks.
    List,
    /// Fetching a block from peers.
    Fetch,
    /// Freeing the space of removed blocks.
    Compact,
}

impl fmt::Display for StoreOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "opening the block store",
            Self::Get => "reading a block",
            Self::Size => "looking up a block",
            Self::Put => "storing blocks",
            Self::Remove => "removing blocks",
            Self::List => "listing blocks",
            Self::Fetch => "fetching a block",
            Self::Compact => "freeing the space of removed blocks",
        })
    }
}

/// Failure of a store, which says nothing about the block asked for: it may be there or not.
///
/// The exception is a source of [`BlockError`](crate::BlockError): on [`StoreOp::Put`] the block is too long to be stored, on
/// [`StoreOp::Get`] the copy held here is damaged and should be fetched again.
#[derive(Debug, thiserror::Error)]
#[error("{op} failed{}", .cid.as_ref().map(|cid| format!(": {cid}")).unwrap_or_default())]
pub struct StoreError {
    /// What was being done.
    pub op: StoreOp,
    /// The block concerned, where it was one.
    pub cid: Option<Box<Cid>>,
    /// What went wrong below.
    pub source: Box<dyn Error + Send + Sync>,
}

impl StoreError {
    /// A failure of `op` that concerns no block in particular.
    pub fn new(op: StoreOp, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { op, cid: None, source: source.into() }
    }

    /// The same failure, on the block `cid`.
    #[must_use]
    pub fn on(mut self, cid: &Cid) -> Self {
        self.cid = Some(Box::new(*cid));
        self
    }
}
