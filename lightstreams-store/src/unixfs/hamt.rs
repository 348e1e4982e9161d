//! Large directories, spread over a trie of blocks (ipfs/specs `src/unixfs.md`, HAMT).
//!
//! The hash of a name is murmur3-x64-64 and is taken from the top, log2(fanout) bits for each level. A node has a link for each
//! position that is taken, named by the position in upper-case hex of the width of the last one; the name of an entry
//! follows it, and nothing where a further node is linked. `Data` holds a bit for each position, big-endian, without
//! leading zero bytes.

use crate::{
    Block, BuildError, DAG_PB, ImportOptions, LayoutError,
    dagpb::{Link, Node, encode_node, malformed},
    unixfs::{DirectoryEntry, Message, Metadata, TYPE_SHARD, check_name},
};

/// Multicodec of murmur3-x64-64.
const MURMUR3: u64 = 0x22;
/// Bits of a hash.
const BITS: u32 = 64;

/// Whether HAMTs have this fanout.
pub(crate) fn is_fanout(fanout: u64) -> bool {
    fanout.is_power_of_two() && (8..=1024).contains(&fanout)
}

/// The place of a hash in a node of `level`, the root being 0; `None` below the last bits.
pub(crate) fn position(hash: u64, level: u32, fanout: u64) -> Option<u64> {
    let bits = fanout.trailing_zeros();
    let used = level.checked_mul(bits)?;
    (used + bits <= BITS).then(|| (hash << used) >> (BITS - bits))
}

/// Digits that stand before the name in a link of a shard, whose block may state any fanout.
pub(crate) fn prefix_len(fanout: u64) -> usize {
    width(fanout.max(2))
}

/// Digits of a position.
fn width(fanout: u64) -> usize {
    (fanout - 1).ilog(16) as usize + 1
}

/// Builds the HAMT of `entries`, whose names differ; each block goes to `emit`, children first. Returns the root as an
/// entry without a name.
pub(crate) fn build(
    entries: Vec<DirectoryEntry>,
    options: &ImportOptions,
    metadata: Metadata,
    emit: &mut dyn FnMut(Block) -> Result<(), BuildError>,
) -> Result<DirectoryEntry, BuildError> {
    let mut hashed: Vec<(u64, DirectoryEntry)> =
        entries.into_iter().map(|entry| (murmur3(entry.name.as_bytes()), entry)).collect();
    hashed.sort_by_key(|(hash, _)| *hash);
    shard(&hashed, 0, options, metadata, emit)
}

/// Builds the node of `level` over entries that share what was taken of their hashes so far.
fn shard(
    entries: &[(u64, DirectoryEntry)],
    level: u32,
    options: &ImportOptions,
    metadata: Metadata,
    emit: &mut dyn FnMut(Block) -> Result<(), BuildError>,
) -> Result<DirectoryEntry, BuildError> {
    let fanout = u64::from(options.sharding.fanout);
    let mut links = Vec::new();
    let mut bits = vec![0u8; options.sharding.fanout as usize / 8];
    for group in entries.chunk_by(|(a, _), (b, _)| position(*a, level, fanout) == position(*b, level, fanout))
    {
        let Some((hash, first)) = group.first() else { continue };
        let collision = || BuildError::Collision { name: first.name.clone() };
        let position = position(*hash, level, fanout).ok_or_else(collision)?;
        if let Some(byte) = bits.iter_mut().rev().nth(position as usize / 8) {
            *byte |= 1 << (position % 8);
        }
        let prefix = format!("{position:0width$X}", width = width(fanout));
        let link = match group {
            [_] => DirectoryEntry { name: prefix + &first.name, ..first.clone() },
            _ => DirectoryEntry {
                name: prefix,
                ..shard(group, level + 1, options, Metadata::default(), emit)?
            },
        };
        links.push(link);
    }
    let leading_zeros = bits.iter().take_while(|byte| **byte == 0).count();
    let message = Message {
        kind: TYPE_SHARD,
        data: bits.split_off(leading_zeros).into(),
        hash_type: Some(MURMUR3),
        fanout: Some(fanout),
        metadata,
        ..Message::default()
    };
    let block = options.block(
        DAG_PB,
        encode_node(links.iter().map(|link| (&link.cid, &*link.name, link.tsize)), &message.encode()),
    )?;
    let below: u64 = links.iter().map(|link| link.tsize).sum();
    let tsize = below + block.len() as u64;
    let cid = *block.cid();
    emit(block)?;
    Ok(DirectoryEntry { name: String::new(), cid, tsize })
}

/// A node of a HAMT, decoded and checked.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) fanout: u64,
    /// Position, name (empty for a further node) and the rest, in the order of positions.
    pub(crate) slots: Vec<(u64, DirectoryEntry)>,
}

impl Shard {
    /// Checks that hash and fanout are the known ones and that bits and links say the same.
    pub(crate) fn new(node: Node, message: &Message) -> Result<Self, LayoutError> {
        let fanout = message.fanout.filter(|fanout| is_fanout(*fanout));
        let fanout =
            fanout.ok_or(LayoutError::Malformed { reason: "a shard has no fanout from 8 to 1024" })?;
        if message.hash_type != Some(MURMUR3) {
            return malformed("a shard has another hash than murmur3-x64-64");
        }
        let set: u32 = message.data.iter().map(|byte| byte.count_ones()).sum();
        if set as usize != node.links.len() {
            return malformed("bits and links of a shard differ in number");
        }
        let width = width(fanout);
        let mut slots: Vec<(u64, DirectoryEntry)> = Vec::with_capacity(node.links.len());
        for Link { cid, name, tsize } in node.links {
            let slot = name.split_at_checked(width).and_then(|(digits, name)| {
                if !name.is_empty() {
                    check_name(name).ok()?;
                }
                let upper = digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'A'..=b'F'));
                let position = u64::from_str_radix(digits, 16).ok()?;
                let byte = message.data.iter().rev().nth(position as usize / 8)?;
                let is_set = upper && position < fanout && byte >> (position % 8) & 1 == 1;
                let entry = DirectoryEntry { name: name.to_owned(), cid, tsize };
                is_set.then_some((position, entry))
            });
            let Some(slot) = slot else { return malformed("a link of a shard has no position or no name") };
            if slots.last().is_some_and(|(last, _)| *last >= slot.0) {
                return malformed("the links of a shard are out of order");
            }
            slots.push(slot);
        }
        Ok(Self { fanout, slots })
    }
}

/// The first 64 bits of murmur3 x64 128 with seed 0.
pub(crate) fn murmur3(bytes: &[u8]) -> u64 {
    const C1: u64 = 0x87c3_7b91_1142_53d5;
    const C2: u64 = 0x4cf5_ad43_2745_937f;
    let k1 = |k: u64| k.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2);
    let k2 = |k: u64| k.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1);
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, byte| (word << 8) | u64::from(*byte));
    let (mut h1, mut h2) = (0u64, 0u64);
    let mut blocks = bytes.chunks_exact(16);
    for block in &mut blocks {
        let (low, high) = block.split_at(8);
        h1 ^= k1(word(low));
        h1 = h1.rotate_left(27).wrapping_add(h2).wrapping_mul(5).wrapping_add(0x52dc_e729);
        h2 ^= k2(word(high));
        h2 = h2.rotate_left(31).wrapping_add(h1).wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }
    let tail = blocks.remainder();
    let (low, high) = tail.split_at(tail.len().min(8));
    h2 ^= k2(word(high));
    h1 ^= k1(word(low));
    h1 ^= bytes.len() as u64;
    h2 ^= bytes.len() as u64;
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    mix(h1).wrapping_add(mix(h2))
}

fn mix(mut h: u64) -> u64 {
    h = (h ^ h >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    h = (h ^ h >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ h >> 33
}
