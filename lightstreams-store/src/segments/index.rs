//! Where each block lies.

use std::{collections::BTreeMap, ops::Bound, sync::RwLock};

use super::record::Spot;
use crate::spin;

/// A block's record and length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) spot: Spot,
    pub(super) len: u32,
}

/// From the bytes of a multihash to the place of the block.
///
/// A change becomes visible as a whole. What it keeps is derived from the segments, which are the truth.
pub(super) trait Index: Send + Sync {
    /// Where the block of `key` is.
    fn find(&self, key: &[u8]) -> Option<Place>;
    /// Puts blocks at their places, or forgets them.
    fn apply(&self, changes: &mut dyn Iterator<Item = (Vec<u8>, Option<Place>)>);
    /// At most `limit` keys in ascending order, from the first one after `after` on.
    fn keys(&self, after: Option<&[u8]>, limit: usize) -> Vec<Vec<u8>>;
}

/// An index in memory.
///
/// Nearly all keys are sha2-256 multihashes. Without their two constant bytes, and in place instead of behind a pointer,
/// they take half the memory.
#[derive(Debug, Default)]
pub(super) struct MemoryIndex {
    maps: RwLock<Maps>,
}

#[derive(Debug, Default)]
struct Maps {
    sha2_256: BTreeMap<[u8; 32], Place>,
    others: BTreeMap<Vec<u8>, Place>,
}

/// The code of sha2-256 and the length of its digest.
const SHA2_256: [u8; 2] = [0x12, 32];

fn digest(key: &[u8]) -> Option<[u8; 32]> {
    key.strip_prefix(&SHA2_256)?.try_into().ok()
}

impl Maps {
    fn set(&mut self, key: Vec<u8>, place: Option<Place>) {
        match (digest(&key), place) {
            (Some(digest), Some(place)) => drop(self.sha2_256.insert(digest, place)),
            (Some(digest), None) => drop(self.sha2_256.remove(&digest)),
            (None, Some(place)) => drop(self.others.insert(key, place)),
            (None, None) => drop(self.others.remove(&key)),
        }
    }
}

impl Index for MemoryIndex {
    fn find(&self, key: &[u8]) -> Option<Place> {
        let maps = spin::read(&self.maps);
        match digest(key) {
            Some(digest) => maps.sha2_256.get(&digest).copied(),
            None => maps.others.get(key).copied(),
        }
    }

    fn apply(&self, changes: &mut dyn Iterator<Item = (Vec<u8>, Option<Place>)>) {
        let mut maps = spin::write(&self.maps);
        changes.for_each(|(key, place)| maps.set(key, place));
    }

    fn keys(&self, after: Option<&[u8]>, limit: usize) -> Vec<Vec<u8>> {
        let maps = spin::read(&self.maps);
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        // The multihashes of sha2-256 stand together, between those below their two bytes and those above.
        let sha2_256: &[u8] = &SHA2_256;
        let others = |above: bool| {
            let keys = maps.others.range::<[u8], _>((from, Bound::Unbounded)).map(|(key, _)| key);
            keys.filter(move |key| (key.as_slice() > sha2_256) == above).cloned()
        };
        let first = match after {
            None => Some(Bound::Unbounded),
            Some(after) => match (digest(after), after < sha2_256) {
                (Some(digest), _) => Some(Bound::Excluded(digest)),
                (None, true) => Some(Bound::Unbounded),
                (None, false) => None,
            },
        };
        let digests = first.map(|first| maps.sha2_256.range((first, Bound::Unbounded)));
        let digests = digests.into_iter().flatten().map(|(digest, _)| [sha2_256, digest].concat());
        let below = others(false);
        below.chain(digests).chain(others(true)).take(limit).collect()
    }
}
