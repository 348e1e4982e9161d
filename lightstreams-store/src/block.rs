//! A block: bytes together with the CID that they hash to.

use std::fmt;

use bytes::Bytes;
use cid::Cid;
use multihash::Multihash;

use crate::hash::{HashFunction, IDENTITY};

/// Codec of opaque bytes: leaves of files, age headers, encrypted chunks.
pub const RAW: u64 = 0x55;
/// Codec of UnixFS nodes.
pub const DAG_PB: u64 = 0x70;
/// Codec of manifests and other records.
pub const DAG_CBOR: u64 = 0x71;

/// The longest block that is created, stored or exchanged: 2 MiB, as everywhere in IPFS.
pub const MAX_BLOCK_LEN: usize = 2 * 1024 * 1024;

/// Bytes together with their CID; there is no way to build one whose bytes do not hash to its CID.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Block {
    cid: Cid,
    data: Bytes,
}

impl Block {
    /// Names `data` by a CIDv1 of the codec `raw` and sha2-256.
    pub fn raw(data: impl Into<Bytes>) -> Self {
        Self::new(RAW, data)
    }

    /// Names `data` by a CIDv1 of `codec` and sha2-256.
    pub fn new(codec: u64, data: impl Into<Bytes>) -> Self {
        let data = data.into();
        let cid = Cid::new_v1(codec, HashFunction::SHA2_256.digest(&data));
        Self { cid, data }
    }

    /// Names `data` by a CIDv1 of `codec` and `hash`.
    pub fn with_hash(codec: u64, hash: HashFunction, data: impl Into<Bytes>) -> Self {
        let data = data.into();
        Self { cid: Cid::new_v1(codec, hash.digest(&data)), data }
    }

    /// Takes `data` that somebody says is `cid`, and checks it.
    ///
    /// Known hash functions are those of [`HashFunction`], with their whole digest, and identity of up to 64 bytes.
    pub fn from_cid(cid: Cid, data: impl Into<Bytes>) -> Result<Self, BlockError> {
        let data = data.into();
        check_len(data.len())?;
        verify(cid.hash(), &data)?;
        Ok(Self { cid, data })
    }

    /// The block that an identity CID carries in itself, or `None` for every other CID.
    pub fn inline(cid: &Cid) -> Option<Self> {
        (cid.hash().code() == IDENTITY)
            .then(|| Self { cid: *cid, data: Bytes::copy_from_slice(cid.hash().digest()) })
    }

    /// Puts a CID on bytes that were checked against its multihash before.
    pub(crate) fn checked_before(cid: Cid, data: Bytes) -> Self {
        Self { cid, data }
    }

    /// The name.
    pub fn cid(&self) -> &Cid {
        &self.cid
    }

    /// The bytes.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether the block has no bytes; the empty raw block is a valid file.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// Name and bytes.
    pub fn into_parts(self) -> (Cid, Bytes) {
        (self.cid, self.data)
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({}, {} bytes)", self.cid, self.data.len())
    }
}

/// Why bytes are not the block that they are said to be: drop them, blame the sender.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// The bytes hash to something else.
    #[error("the bytes do not hash to the CID")]
    Mismatch,
    /// The bytes held by a `SegmentStore` do not hash to the CID.
    #[error("segment {segment:08x} is damaged at byte {offset}")]
    DamagedAt {
        /// Number of the segment, which its file's name begins with, in hexadecimal digits.
        segment: u32,
        /// Byte in it at which the block begins.
        offset: u32,
    },
    /// More bytes than [`MAX_BLOCK_LEN`].
    #[error("the block has {len} bytes, more than {MAX_BLOCK_LEN}")]
    TooLong {
        /// Length found.
        len: usize,
    },
    /// The CID uses a hash function that is not known here.
    #[error("hash function 0x{code:x} is not supported")]
    UnknownHash {
        /// Multicodec of the hash function.
        code: u64,
    },
}

/// Refuses a length above [`MAX_BLOCK_LEN`].
pub(crate) fn check_len(len: usize) -> Result<(), BlockError> {
    if len > MAX_BLOCK_LEN {
        return Err(BlockError::TooLong { len });
    }
    Ok(())
}

/// Checks that `data` hashes to `hash`; a digest that was cut short names nothing.
fn verify(hash: &Multihash<64>, data: &[u8]) -> Result<(), BlockError> {
    let matches = match hash.code() {
        IDENTITY => data == hash.digest(),
        code => HashFunction::from_code(code).ok_or(BlockError::UnknownHash { code })?.digest(data) == *hash,
    };
    if matches { Ok(()) } else { Err(BlockError::Mismatch) }
}
