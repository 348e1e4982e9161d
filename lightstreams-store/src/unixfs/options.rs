use bytes::Bytes;
use cid::{Cid, Version};
use multihash::Multihash;

use super::{Metadata, hamt};
use crate::{
    AnyChunker, Block, BuildError, DAG_PB, FixedChunker, HashFunction, MAX_BLOCK_LEN, hash::IDENTITY,
};

/// The highest limit for blocks that go into identity CIDs (IPIP-512).
pub const MAX_INLINE_LEN: usize = 128;

/// How files and directories become blocks: two importers with the same options make the same CIDs, whatever their threads.
///
/// The constructors are the profiles of IPIP-499 and Kubo's own; fields can be changed from there.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportOptions {
    /// Version of the CIDs; 0 goes with sha2-256 only, and raw blocks and identity CIDs are of version 1 always.
    pub cid_version: Version,
    /// What names the blocks.
    pub hash: HashFunction,
    /// Blocks of at most so many bytes go into an identity CID and are not stored; at most [`MAX_INLINE_LEN`]. A [`Cid`]
    /// holds 64 bytes: a longer block within the limit is [`BuildError::Inline`].
    pub inline_limit: Option<usize>,
    /// Where files are cut.
    pub chunker: AnyChunker,
    /// Whether leaves are the bytes themselves, or dag-pb nodes around them.
    pub raw_leaves: bool,
    /// The shape of a file's tree.
    pub layout: FileLayout,
    /// The most links of a node of a file, at least 2.
    pub max_links: usize,
    /// When a directory is spread over several blocks, and how.
    pub sharding: Sharding,
    /// Mode and time that every file and directory gets; a symbolic link gets the time. Not with raw leaves.
    pub metadata: Metadata,
    /// Whether files and directories keep the mode that they have. Not with raw leaves.
    pub preserve_mode: bool,
    /// Whether files, directories and links keep the time that they have. Not with raw leaves.
    pub preserve_mtime: bool,
    /// Whether entries whose names begin with a dot are taken along.
    pub hidden: bool,
    /// Whether directories without entries are taken along; the root always is.
    pub empty_directories: bool,
    /// How many threads hash and store, the caller's among them, which reads; at most 8, and 0 is as many as the machine runs
    /// at a time. With 1 none is started; nor is one for less than about a MiB. Whatever the number, blocks and their order are the same, and all
    /// callbacks come in the caller's thread.
    pub threads: usize,
}

/// The shape of a file's tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileLayout {
    /// All leaves are equally far from the root.
    Balanced,
    /// The beginning of the file is near the root: first leaves, then four subtrees of each depth.
    Trickle,
}

/// When a directory becomes a HAMT, and how wide: murmur3-x64-64 of the name, some bits for each level.
///
/// It becomes one if the estimate exceeds the threshold, or if it has more entries than `max_entries`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sharding {
    /// Entries of a node: a power of two from 8 to 1,024.
    pub fanout: u16,
    /// What is compared with the threshold.
    pub estimate: DirectorySize,
    /// Bytes; a directory of exactly so many stays whole.
    pub threshold: u64,
    /// The most entries of a directory that stays whole.
    pub max_entries: Option<u64>,
}

/// How the size of a directory is estimated, which decides whether it is sharded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectorySize {
    /// The bytes of its names and CIDs.
    Links,
    /// The length of its block.
    Block,
    /// It is not: size alone never makes a HAMT.
    Disabled,
}

impl ImportOptions {
    /// The profile `unixfs-v1-2025`: CIDv1, raw leaves, chunks of 1 MiB, 1,024 links, HAMT above 256 KiB of block.
    pub fn unixfs_v1_2025() -> Self {
        Self {
            cid_version: Version::V1,
            hash: HashFunction::SHA2_256,
            inline_limit: None,
            chunker: AnyChunker::Fixed(FixedChunker::V1_2025),
            raw_leaves: true,
            layout: FileLayout::Balanced,
            max_links: crate::MAX_LINKS,
            sharding: Sharding {
                fanout: 256,
                estimate: DirectorySize::Block,
                threshold: 256 << 10,
                max_entries: None,
            },
            metadata: Metadata::default(),
            preserve_mode: false,
            preserve_mtime: false,
            hidden: false,
            empty_directories: true,
            threads: 0,
        }
    }

    /// The profile `unixfs-v0-2015`, Kubo's default: CIDv0, leaves of dag-pb, chunks of 256 KiB, 174 links, HAMT above
    /// 256 KiB of names and CIDs.
    pub fn unixfs_v0_2015() -> Self {
        let v1 = Self::unixfs_v1_2025();
        Self {
            cid_version: Version::V0,
            chunker: AnyChunker::Fixed(FixedChunker::KUBO),
            raw_leaves: false,
            max_links: 174,
            sharding: Sharding { estimate: DirectorySize::Links, ..v1.sharding },
            ..v1
        }
    }

    /// What `ipfs add --cid-version=1` does without a profile: `unixfs-v0-2015` with CIDv1 and raw leaves.
    pub fn kubo_cid_v1() -> Self {
        Self { cid_version: Version::V1, raw_leaves: true, ..Self::unixfs_v0_2015() }
    }

    /// The same options, with so many [threads](Self::threads).
    #[must_use]
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Refuses what cannot be, or what Kubo refuses.
    pub fn check(&self) -> Result<(), OptionsError> {
        let sha2_256 = self.hash == HashFunction::SHA2_256;
        let keeps = self.preserve_mode || self.preserve_mtime || !self.metadata.is_empty();
        let fanout = self.sharding.fanout;
        let wrong = [
            (self.cid_version == Version::V0 && !sha2_256, "CIDv0 goes with sha2-256 only"),
            (self.raw_leaves && keeps, "raw leaves have no place for mode and time"),
            (
                self.inline_limit.is_some_and(|limit| limit > MAX_INLINE_LEN),
                "an identity CID holds 128 bytes",
            ),
            (self.max_links < 2, "a node has two links or more"),
            (!hamt::is_fanout(fanout.into()), "the fanout of a HAMT is a power of two from 8 to 1024"),
        ];
        match wrong.iter().find(|(wrong, _)| *wrong) {
            Some((_, reason)) => Err(OptionsError { reason }),
            None => Ok(()),
        }
    }

    /// Names a block, and makes sure that it can be stored.
    pub(crate) fn block(&self, codec: u64, data: impl Into<Bytes>) -> Result<Block, BuildError> {
        let data = data.into();
        if self.inline_limit.is_some_and(|limit| data.len() <= limit) {
            let hash = Multihash::wrap(IDENTITY, &data);
            let hash = hash.map_err(|_| BuildError::Inline { len: data.len() })?;
            return Ok(Block::checked_before(Cid::new_v1(codec, hash), data));
        }
        if data.len() > MAX_BLOCK_LEN {
            return Err(BuildError::NodeTooLong { len: data.len() });
        }
        let hash = self.hash.digest(&data);
        let v0 =
            (self.cid_version == Version::V0 && codec == DAG_PB).then(|| Cid::new_v0(hash).ok()).flatten();
        Ok(Block::checked_before(v0.unwrap_or_else(|| Cid::new_v1(codec, hash)), data))
    }
}

impl Default for ImportOptions {
    /// The profile `unixfs-v1-2025`.
    fn default() -> Self {
        Self::unixfs_v1_2025()
    }
}

/// Why nothing can be imported with these options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct OptionsError {
    reason: &'static str,
}
