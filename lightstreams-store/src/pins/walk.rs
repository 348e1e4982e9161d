//! Blocks below a pin, each once.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    vec,
};

use bytes::Bytes;
use cid::Cid;

use super::{BlockFault, Pin, PinError, PinKind};
use crate::{
    Block, BlockStore, Codec, RAW,
    codec::{CBOR, JSON},
};

/// Codecs that have no links: raw, and CBOR and JSON that are not dag-cbor and dag-json.
const LEAVES: [u64; 3] = [RAW, CBOR, JSON];

/// What was visited, by fingerprints.
pub(super) struct Seen {
    /// Nobody who may send a block knows them, and so cannot make another look like it.
    keys: RandomState,
    fingerprints: HashSet<u128>,
    blocks_max: usize,
}

impl Seen {
    pub(super) fn new(blocks_max: usize) -> Self {
        Self { keys: RandomState::new(), fingerprints: HashSet::new(), blocks_max }
    }

    /// That of a block; with `codec`, that of its links as this codec has them.
    fn fingerprint(&self, cid: &Cid, codec: Option<u64>) -> u128 {
        let half = |half: u8| {
            let hash = self.keys.hash_one((half, codec, cid.hash().code(), cid.hash().digest()));
            u128::from(hash)
        };
        (half(0) << 64) | half(1)
    }

    fn insert(&mut self, fingerprint: u128) -> Result<bool, PinError> {
        let new = self.fingerprints.insert(fingerprint);
        if self.fingerprints.len() > self.blocks_max {
            return Err(PinError::TooMany { blocks_max: self.blocks_max });
        }
        Ok(new)
    }

    /// Notes the block, and with `below` what is below it as well; returns whether that is new.
    fn visit(&mut self, cid: &Cid, below: bool) -> Result<bool, PinError> {
        let new = self.insert(self.fingerprint(cid, None))?;
        if below { self.insert(self.fingerprint(cid, Some(cid.codec()))) } else { Ok(new) }
    }

    /// Whether the block was visited, whatever its codec.
    pub(super) fn contains(&self, cid: &Cid) -> bool {
        self.fingerprints.contains(&self.fingerprint(cid, None))
    }

    /// Lets the block be visited again.
    pub(super) fn forget(&mut self, cid: &Cid) {
        for codec in [None, Some(cid.codec())] {
            self.fingerprints.remove(&self.fingerprint(cid, codec));
        }
    }
}

/// A walk, depth first, over what a pin holds. Memory goes with the links on the path from the root.
pub(super) struct Walk {
    kind: PinKind,
    root: Option<Cid>,
    path: Vec<Step>,
}

/// A block on the path.
struct Step {
    cid: Cid,
    /// Those of its links that were not yet visited.
    rest: vec::IntoIter<Cid>,
}

impl Walk {
    pub(super) fn new(pin: &Pin) -> Self {
        Self { kind: pin.kind, root: Some(pin.cid), path: Vec::new() }
    }

    /// The next block that was not seen before.
    pub(super) fn next(&mut self, seen: &mut Seen) -> Result<Option<Cid>, PinError> {
        loop {
            let cid = match (self.root.take(), self.path.last_mut()) {
                (Some(root), _) => root,
                (None, Some(step)) => match step.rest.next() {
                    Some(cid) => cid,
                    None => {
                        self.path.pop();
                        continue;
                    }
                },
                (None, None) => return Ok(None),
            };
            if seen.visit(&cid, self.goes_below(&cid))? {
                return Ok(Some(cid));
            }
        }
    }

    /// Whether the pin holds what `cid` links to, if it links to anything.
    pub(super) fn goes_below(&self, cid: &Cid) -> bool {
        self.kind == PinKind::Recursive && !LEAVES.contains(&cid.codec())
    }

    /// Goes on with the links of `cid`, the block that came last.
    pub(super) fn enter(&mut self, cid: Cid, links: Vec<Cid>) {
        if !links.is_empty() {
            self.path.push(Step { cid, rest: links.into_iter() });
        }
    }

    /// The blocks above the one that came last, from the root on.
    pub(super) fn above(&self) -> impl ExactSizeIterator<Item = Cid> {
        self.path.iter().map(|step| step.cid)
    }
}

/// The bytes of `cid`.
pub(super) fn read(store: &dyn BlockStore, cid: &Cid) -> Result<Bytes, BlockFault> {
    if let Some(block) = Block::inline(cid) {
        return Ok(block.into_parts().1);
    }
    let block = store.get(cid).map_err(BlockFault::Unreadable)?;
    Ok(block.ok_or(BlockFault::Missing)?.into_parts().1)
}

/// Looks for `cid` without reading it.
pub(super) fn is_here(store: &dyn BlockStore, cid: &Cid) -> Result<(), BlockFault> {
    let here = Block::inline(cid).is_some() || store.has(cid).map_err(BlockFault::Unreadable)?;
    if here { Ok(()) } else { Err(BlockFault::Missing) }
}

/// The links in `data`, the bytes of `cid`.
///
/// A codec that is not known is a fault and not a leaf: what it links to would be swept.
pub(super) fn links(cid: &Cid, data: &[u8]) -> Result<Vec<Cid>, BlockFault> {
    let codec = Codec::from_code(cid.codec()).ok_or(BlockFault::UnknownCodec { code: cid.codec() })?;
    codec.links(data).map_err(BlockFault::Malformed)
}
