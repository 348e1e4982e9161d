//! A set that may hold more than was put in, never less.

/// Bits of the first layer; each further one has four times as many as the one before.
const FIRST_BITS: usize = 1 << 13;
/// Bits of the largest layer: 16 MiB, and 21.3 MiB together with all before it.
const MAX_BITS: usize = 1 << 27;
/// Bits for each member of a layer.
const BITS_PER_MEMBER: usize = 24;
/// Bits that a member sets: in a full layer, one absentee in 24,000 finds all of its own set.
const PROBES: u64 = 8;

/// A Bloom filter of keyed hashes that grows in layers.
#[derive(Debug, Default)]
pub(super) struct Filter {
    layers: Vec<Layer>,
}

#[derive(Debug)]
struct Layer {
    words: Vec<u64>,
    /// Members until it is full. The largest layer takes all that come after.
    left: usize,
}

impl Filter {
    /// Takes in a member by its hash.
    pub(super) fn insert(&mut self, hash: u64) {
        if self.contains(hash) {
            return;
        }
        let last = self.layers.last();
        let bits = last.map_or(0, Layer::bits);
        if last.is_none_or(|layer| layer.left == 0 && bits < MAX_BITS) {
            let bits = (bits * 4).max(FIRST_BITS);
            self.layers.push(Layer { words: vec![0; bits / 64], left: bits / BITS_PER_MEMBER });
        }
        if let Some(layer) = self.layers.last_mut() {
            layer.insert(hash);
        }
    }

    /// Whether it is, or looks like, a member.
    pub(super) fn contains(&self, hash: u64) -> bool {
        self.layers.iter().any(|layer| layer.contains(hash))
    }
}

impl Layer {
    fn bits(&self) -> usize {
        self.words.len() * 64
    }

    /// Where the bits of `hash` are: a word, and a bit in it.
    fn probes(&self, hash: u64) -> impl Iterator<Item = (usize, u64)> + use<> {
        let bits = self.bits() as u64;
        let step = hash.rotate_left(32) | 1;
        (0..PROBES).map(move |i| {
            let bit = hash.wrapping_add(step.wrapping_mul(i)) % bits;
            ((bit / 64) as usize, 1 << (bit % 64))
        })
    }

    fn insert(&mut self, hash: u64) {
        for (word, bit) in self.probes(hash) {
            if let Some(word) = self.words.get_mut(word) {
                *word |= bit;
            }
        }
        self.left = self.left.saturating_sub(1);
    }

    fn contains(&self, hash: u64) -> bool {
        self.probes(hash).all(|(word, bit)| self.words.get(word).is_some_and(|word| word & bit != 0))
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, RandomState};

    use super::*;

    #[test]
    fn all_members_are_found_and_few_others() {
        let keys = RandomState::new();
        let mut filter = Filter::default();
        let members = 300_000u64;
        (0..members).for_each(|i| filter.insert(keys.hash_one(i)));
        assert!((0..members).all(|i| filter.contains(keys.hash_one(i))));
        let others = (members..2 * members).filter(|i| filter.contains(keys.hash_one(i))).count();
        assert!(others < 300, "{others} of {members} others look like members");
        let bytes: usize = filter.layers.iter().map(|layer| layer.words.len() * 8).sum();
        assert!(bytes < members as usize * 13, "{bytes} bytes");
    }

    #[test]
    fn it_does_not_grow_above_its_bound() {
        let full = Layer { words: vec![0; MAX_BITS / 64], left: 0 };
        let mut filter = Filter { layers: vec![full] };
        filter.insert(7);
        assert!(filter.contains(7));
        assert_eq!(filter.layers.len(), 1);
    }
}
