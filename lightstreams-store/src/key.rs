//! How backends name a block: by the bytes of its multihash.

use cid::Cid;
use multihash::Multihash;

use crate::{
    Block, StoreError, StoreOp,
    block::{RAW, check_len},
};

/// The key under which `cid` is kept.
pub(crate) fn key(cid: &Cid) -> Vec<u8> {
    cid.hash().to_bytes()
}

/// The CID that a listing shows for `key`.
pub(crate) fn cid_of_key(key: &[u8]) -> Result<Cid, StoreError> {
    let hash = Multihash::from_bytes(key).map_err(|e| StoreError::new(StoreOp::List, e))?;
    Ok(Cid::new_v1(RAW, hash))
}

/// Refuses a batch that holds a block too long to be stored.
pub(crate) fn check_batch(blocks: &[Block]) -> Result<(), StoreError> {
    for block in blocks {
        check_len(block.len()).map_err(|e| StoreError::new(StoreOp::Put, e).on(block.cid()))?;
    }
    Ok(())
}
