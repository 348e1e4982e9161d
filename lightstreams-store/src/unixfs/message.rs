//! The UnixFS message in the data of a dag-pb node, byte for byte (ipfs/specs `src/unixfs.md`).
//!
//! ```text
//! Data = Type (1), Data (2)?, filesize (3)?, blocksizes (4)*, hashType (5)?, fanout (6)?, mode (7)?, mtime (8)?
//! ```

use bytes::Bytes;

use crate::{
    LayoutError,
    dagpb::malformed,
    protobuf::{Fields, Value, put_bytes},
    varint,
};

/// UnixFS `Type`.
pub(crate) const TYPE_RAW: u64 = 0;
pub(crate) const TYPE_DIRECTORY: u64 = 1;
pub(crate) const TYPE_FILE: u64 = 2;
pub(crate) const TYPE_SYMLINK: u64 = 4;
pub(crate) const TYPE_SHARD: u64 = 5;

/// What a node may say about its file or directory beside the content.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The lowest 12 bits of a Unix mode: permissions, setuid, setgid, sticky.
    pub mode: Option<u32>,
    /// When it was changed last.
    pub mtime: Option<Mtime>,
}

impl Metadata {
    /// This mode and time.
    pub fn new(mode: Option<u32>, mtime: Option<Mtime>) -> Self {
        Self { mode, mtime }
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A time in seconds and nanoseconds from 1970-01-01 UTC on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mtime {
    seconds: i64,
    nanos: u32,
}

impl Mtime {
    /// This many seconds, and nanoseconds after them; `None` if the latter are a second or more.
    pub fn new(seconds: i64, nanos: u32) -> Option<Self> {
        (nanos < 1_000_000_000).then_some(Self { seconds, nanos })
    }

    /// Whole seconds, rounded down.
    pub fn seconds(&self) -> i64 {
        self.seconds
    }

    /// Nanoseconds after them, below 10^9.
    pub fn nanos(&self) -> u32 {
        self.nanos
    }
}

/// The message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) kind: u64,
    pub(crate) data: Bytes,
    pub(crate) filesize: Option<u64>,
    pub(crate) blocksizes: Vec<u64>,
    pub(crate) hash_type: Option<u64>,
    pub(crate) fanout: Option<u64>,
    pub(crate) metadata: Metadata,
}

impl Message {
    /// Encodes the message; empty data is left out.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.data.len() + self.blocksizes.len() * 5 + 32);
        let put = |out: &mut Vec<u8>, tag: u8, value: u64| {
            out.push(tag);
            varint::put(out, value);
        };
        put(&mut out, 0x08, self.kind);
        if !self.data.is_empty() {
            put_bytes(&mut out, 0x12, &self.data);
        }
        let optional = |out: &mut Vec<u8>, tag, value: Option<u64>| {
            if let Some(value) = value {
                put(out, tag, value);
            }
        };
        optional(&mut out, 0x18, self.filesize);
        self.blocksizes.iter().for_each(|size| put(&mut out, 0x20, *size));
        optional(&mut out, 0x28, self.hash_type);
        optional(&mut out, 0x30, self.fanout);
        optional(&mut out, 0x38, self.metadata.mode.map(u64::from));
        if let Some(mtime) = self.metadata.mtime {
            let mut time = Vec::with_capacity(16);
            // protobuf writes a negative int64 as its two's complement of 64 bits.
            put(&mut time, 0x08, mtime.seconds as u64);
            if mtime.nanos != 0 {
                time.push(0x15);
                time.extend_from_slice(&mtime.nanos.to_le_bytes());
            }
            put_bytes(&mut out, 0x42, &time);
        }
        out
    }

    /// Decodes the message; unknown fields are passed over.
    pub(crate) fn decode(message: &Bytes) -> Result<Self, LayoutError> {
        let mut fields = Fields::new(message);
        let (mut kind, mut data) = (None, None);
        let (mut filesize, mut hash_type, mut fanout, mut mode, mut mtime) = (None, None, None, None, None);
        let mut blocksizes = Vec::new();
        while let Some((_, number, value)) = fields.next()? {
            let twice = match (number, value) {
                (1, Value::Int(value)) => kind.replace(value).is_some(),
                (2, Value::Bytes(bytes)) => data.replace(message.slice_ref(bytes)).is_some(),
                (3, Value::Int(value)) => filesize.replace(value).is_some(),
                (4, Value::Int(value)) => {
                    blocksizes.push(value);
                    false
                }
                // protobuf lets a repeated integer come packed.
                (4, Value::Bytes(mut packed)) => {
                    while !packed.is_empty() {
                        let size = varint::take(&mut packed);
                        blocksizes
                            .push(size.ok_or(LayoutError::Malformed { reason: "blocksizes are cut off" })?);
                    }
                    false
                }
                (5, Value::Int(value)) => hash_type.replace(value).is_some(),
                (6, Value::Int(value)) => fanout.replace(value).is_some(),
                // The bits above the lowest 12 say nothing here; the specification lets a reader ignore them.
                (7, Value::Int(value)) => mode.replace((value & 0o7777) as u32).is_some(),
                (8, Value::Bytes(bytes)) => mtime.replace(decode_mtime(bytes)?).is_some(),
                (1..=8, _) => return malformed("a UnixFS field has the wrong type"),
                _ => false,
            };
            if twice {
                return malformed("a UnixFS field stands twice");
            }
        }
        let kind = kind.ok_or(LayoutError::Malformed { reason: "the UnixFS message has no type" })?;
        let data = data.unwrap_or_default();
        Ok(Self { kind, data, filesize, blocksizes, hash_type, fanout, metadata: Metadata { mode, mtime } })
    }
}

fn decode_mtime(bytes: &[u8]) -> Result<Mtime, LayoutError> {
    let mut fields = Fields::new(bytes);
    let (mut seconds, mut nanos) = (None, 0);
    while let Some((_, number, value)) = fields.next()? {
        match (number, value) {
            (1, Value::Int(value)) => seconds = Some(value as i64),
            (2, Value::Fixed32(value)) => nanos = value,
            (1 | 2, _) => return malformed("a field of a time has the wrong type"),
            _ => {}
        }
    }
    let seconds = seconds.ok_or(LayoutError::Malformed { reason: "a time has no seconds" })?;
    Mtime::new(seconds, nanos).ok_or(LayoutError::Malformed { reason: "a time has a second of nanoseconds" })
}
