//! Bitswap messages as bytes.
//!
//! Each message on a stream is an unsigned varint length and a protobuf of these fields:
//!
//! ```text
//! Message   1 wantlist { 1 entries { 1 CID  2 priority  3 cancel  4 wantType  5 sendDontHave }*  2 full }
//!           2 block*                the bytes alone, sha2-256 and CIDv0 understood     1.0.0
//!           3 payload* { 1 prefix = CID version, codec, hash code, hash length  2 data }   1.1.0 on
//!           4 presence* { 1 CID  2 type: 0 HAVE, 1 DONT_HAVE }                          1.2.0
//!           5 pendingBytes
//! ```
//!
//! The decoder borrows block bytes from the message, copies nothing else of size, skips fields it does not know,
//! and stops at the bounds below. Nothing here is verified against a hash: see [`Payload`].

use bytes::{BufMut, Bytes, BytesMut};
use cid::{Cid, Version as CidVersion};
use std::collections::VecDeque;

/// The longest message that is read or written, without its length prefix.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The longest block that is read or written.
pub const BLOCK_BYTES_MAX: usize = 2 * 1024 * 1024;
/// The longest CID.
pub const CID_BYTES_MAX: usize = 168;
/// How many wants of one peer are kept; further ones are ignored, and so is what a message lists beyond it.
pub const WANTS_MAX: usize = 1024;
/// How many entries, blocks or presences one message may list before it is refused.
const ITEMS_MAX: usize = 32 * 1024;
/// How many list entries are kept of one message: a full set of wants after as many cancels.
const ENTRIES_KEPT_MAX: usize = 2 * WANTS_MAX;
/// How many blocks or presences one message may carry: nobody is asked for more at once.
const ANSWERS_MAX: usize = 2 * WANTS_MAX;
/// A block that is a smaller part of its message than this is copied out, so that it does not keep the whole alive.
const SHARE_MIN: usize = 4;

/// The revision of the protocol that a stream negotiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Revision {
    /// `/ipfs/bitswap/1.0.0`: bare blocks.
    V1_0,
    /// `/ipfs/bitswap/1.1.0`: blocks with the prefix of their CID.
    V1_1,
    /// `/ipfs/bitswap/1.2.0`: HAVE and DONT_HAVE.
    V1_2,
}

impl Revision {
    /// All revisions, newest first, which is the order they are proposed in.
    pub const ALL: [Self; 3] = [Self::V1_2, Self::V1_1, Self::V1_0];

    /// The protocol id.
    pub const fn id(self) -> &'static str {
        match self {
            Self::V1_0 => "/ipfs/bitswap/1.0.0",
            Self::V1_1 => "/ipfs/bitswap/1.1.0",
            Self::V1_2 => "/ipfs/bitswap/1.2.0",
        }
    }
}

impl AsRef<str> for Revision {
    fn as_ref(&self) -> &str {
        self.id()
    }
}

/// One message: wants of the sender, and answers to earlier wants of the receiver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Wants and cancels.
    pub entries: Vec<Entry>,
    /// Whether `entries` replaces all earlier wants of the sender.
    pub full: bool,
    /// Blocks, not yet verified.
    pub payloads: Vec<Payload>,
    /// Who has what.
    pub presences: Vec<(Cid, Presence)>,
}

/// A want, or the cancel of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What is wanted.
    pub cid: Cid,
    /// Higher is sooner, among the wants of one peer.
    pub priority: i32,
    /// Whether the want of `cid` ends.
    pub cancel: bool,
    /// The block, or word of it.
    pub kind: WantKind,
    /// Whether an absent block is to be answered by [`Presence::DontHave`].
    pub send_dont_have: bool,
}

/// What a want asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WantKind {
    /// The block itself.
    Block,
    /// Whether the peer has it; a small block is sent at once.
    Have,
}

/// Word about a block instead of the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// The sender would send it.
    Have,
    /// The sender will not send it, for whatever reason.
    DontHave,
}

/// A block as it travels: its CID follows from the bytes, so that there is none to lie about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// How the receiver is to name the bytes.
    pub prefix: Prefix,
    /// The block's bytes.
    pub data: Bytes,
}

/// A CID without its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// CID version.
    pub version: CidVersion,
    /// Multicodec of the block.
    pub codec: u64,
    /// Multihash code.
    pub hash: u64,
    /// Length of the digest.
    pub digest_len: u64,
}

impl Prefix {
    /// What revision 1.0.0 takes for granted.
    const BARE: Self = Self { version: CidVersion::V0, codec: 0x70, hash: 0x12, digest_len: 32 };

    /// The prefix of `cid`.
    pub fn of(cid: &Cid) -> Self {
        Self {
            version: cid.version(),
            codec: cid.codec(),
            hash: cid.hash().code(),
            digest_len: u64::from(cid.hash().size()),
        }
    }

    fn parse(mut bytes: &[u8]) -> Result<Self, MessageError> {
        const PLACE: &str = "payload.prefix";
        let version = match varint(&mut bytes, PLACE)? {
            0 => CidVersion::V0,
            1 => CidVersion::V1,
            _ => return Err(MessageError::Malformed(PLACE)),
        };
        let prefix = Self {
            version,
            codec: varint(&mut bytes, PLACE)?,
            hash: varint(&mut bytes, PLACE)?,
            digest_len: varint(&mut bytes, PLACE)?,
        };
        if bytes.is_empty() { Ok(prefix) } else { Err(MessageError::Malformed(PLACE)) }
    }

    fn to_bytes(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(8);
        for n in [u64::from(self.version), self.codec, self.hash, self.digest_len] {
            put_varint(&mut out, n);
        }
        out
    }
}

/// Why bytes are not a message. The sender is at fault, and the stream is of no more use.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The bytes end inside, or hold a value that has no meaning.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// A length or a count is over its bound.
    #[error("{place} exceeds {max}")]
    TooLarge {
        /// What is too large.
        place: &'static str,
        /// The bound.
        max: usize,
    },
}

impl Message {
    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && !self.full && self.payloads.is_empty() && self.presences.is_empty()
    }

    /// Reads one message, without its length prefix.
    ///
    /// Entries beyond twice [`WANTS_MAX`] are left out, since they would not be kept.
    pub fn decode(bytes: &Bytes) -> Result<Self, MessageError> {
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(MessageError::TooLarge { place: "message", max: MESSAGE_BYTES_MAX });
        }
        let mut message = Self::default();
        let mut items = Bound { place: "message items", left: ITEMS_MAX, max: ITEMS_MAX };
        let mut fields = Fields { rest: bytes.clone(), place: "message" };
        while let Some((number, value)) = fields.next()? {
            match (number, value) {
                (1, Value::Bytes(list)) => message.decode_wantlist(list, &mut items)?,
                (2, Value::Bytes(data)) => message.push_payload(Prefix::BARE, data, bytes.len())?,
                (3, Value::Bytes(payload)) => message.decode_payload(payload, bytes.len())?,
                (4, Value::Bytes(presence)) => message.decode_presence(presence)?,
                (1..=4, _) => return Err(MessageError::Malformed("message")),
                _ => items.take()?,
            }
        }
        Ok(message)
    }

    fn decode_wantlist(&mut self, bytes: Bytes, items: &mut Bound) -> Result<(), MessageError> {
        let mut fields = Fields { rest: bytes, place: "wantlist" };
        while let Some((number, value)) = fields.next()? {
            items.take()?;
            match (number, value) {
                (1, Value::Bytes(bytes)) => {
                    let entry = Entry::decode(bytes)?;
                    if self.entries.len() < ENTRIES_KEPT_MAX {
                        self.entries.push(entry);
                    }
                }
                (2, Value::Number(full)) => self.full = full != 0,
                (1 | 2, _) => return Err(MessageError::Malformed("wantlist")),
                _ => {}
            }
        }
        Ok(())
    }

    fn decode_payload(&mut self, bytes: Bytes, message_len: usize) -> Result<(), MessageError> {
        let (mut prefix, mut data) = (None, Bytes::new());
        let mut fields = Fields { rest: bytes, place: "payload" };
        while let Some((number, value)) = fields.next()? {
            match (number, value) {
                (1, Value::Bytes(bytes)) => prefix = Some(Prefix::parse(&bytes)?),
                (2, Value::Bytes(bytes)) => data = bytes,
                (1 | 2, _) => return Err(MessageError::Malformed("payload")),
                _ => {}
            }
        }
        self.push_payload(prefix.ok_or(MessageError::Malformed("payload.prefix"))?, data, message_len)
    }

    fn push_payload(&mut self, prefix: Prefix, data: Bytes, message_len: usize) -> Result<(), MessageError> {
        if data.len() > BLOCK_BYTES_MAX {
            return Err(MessageError::TooLarge { place: "block", max: BLOCK_BYTES_MAX });
        }
        if self.payloads.len() >= ANSWERS_MAX {
            return Err(MessageError::TooLarge { place: "blocks", max: ANSWERS_MAX });
        }
        let shares = data.len().saturating_mul(SHARE_MIN) >= message_len;
        let data = if shares { data } else { Bytes::copy_from_slice(&data) };
        self.payloads.push(Payload { prefix, data });
        Ok(())
    }

    fn decode_presence(&mut self, bytes: Bytes) -> Result<(), MessageError> {
        let (mut cid, mut presence) = (None, Presence::Have);
        let mut fields = Fields { rest: bytes, place: "presence" };
        while let Some((number, value)) = fields.next()? {
            match (number, value) {
                (1, Value::Bytes(bytes)) => cid = Some(parse_cid(&bytes)?),
                (2, Value::Number(0)) => presence = Presence::Have,
                (2, Value::Number(1)) => presence = Presence::DontHave,
                (1 | 2, _) => return Err(MessageError::Malformed("presence")),
                _ => {}
            }
        }
        if self.presences.len() >= ANSWERS_MAX {
            return Err(MessageError::TooLarge { place: "presences", max: ANSWERS_MAX });
        }
        self.presences.push((cid.ok_or(MessageError::Malformed("presence.cid"))?, presence));
        Ok(())
    }

    /// The message with its length prefix, for a peer that speaks `revision`. What that revision cannot say is
    /// left out. Blocks are not copied.
    ///
    /// A message over [`MESSAGE_BYTES_MAX`] or with a block over [`BLOCK_BYTES_MAX`] is refused.
    pub fn encode(&self, revision: Revision) -> Result<Encoded, MessageError> {
        let mut body = Segments::default();
        let list = self.encode_wantlist(revision);
        if !list.is_empty() {
            put_bytes(&mut body.tail, 1, &list);
        }
        for payload in &self.payloads {
            if payload.data.len() > BLOCK_BYTES_MAX {
                return Err(MessageError::TooLarge { place: "block", max: BLOCK_BYTES_MAX });
            }
            payload.encode(revision, &mut body);
        }
        if revision >= Revision::V1_2 {
            for (cid, presence) in &self.presences {
                let mut item = Vec::with_capacity(48);
                put_bytes(&mut item, 1, &cid.to_bytes());
                put_number(&mut item, 2, u64::from(*presence == Presence::DontHave));
                put_bytes(&mut body.tail, 4, &item);
            }
        }
        body.finish()
    }

    fn encode_wantlist(&self, revision: Revision) -> Vec<u8> {
        let mut list = Vec::new();
        for entry in &self.entries {
            let have = entry.kind == WantKind::Have;
            if have && revision < Revision::V1_2 {
                continue;
            }
            let mut item = Vec::with_capacity(48);
            put_bytes(&mut item, 1, &entry.cid.to_bytes());
            // protobuf: an int32 is sign-extended to 64 bits.
            put_number(&mut item, 2, i64::from(entry.priority) as u64);
            put_number(&mut item, 3, u64::from(entry.cancel));
            if revision >= Revision::V1_2 {
                put_number(&mut item, 4, u64::from(have));
                put_number(&mut item, 5, u64::from(entry.send_dont_have));
            }
            put_bytes(&mut list, 1, &item);
        }
        put_number(&mut list, 2, u64::from(self.full));
        list
    }
}

impl Entry {
    fn decode(bytes: Bytes) -> Result<Self, MessageError> {
        let mut cid = None;
        let (mut priority, mut cancel, mut kind, mut send_dont_have) = (0, false, WantKind::Block, false);
        let mut fields = Fields { rest: bytes, place: "entry" };
        while let Some((number, value)) = fields.next()? {
            match (number, value) {
                (1, Value::Bytes(bytes)) => cid = Some(parse_cid(&bytes)?),
                // protobuf: an int32 is the low half of what was sent.
                (2, Value::Number(n)) => priority = n as i32,
                (3, Value::Number(n)) => cancel = n != 0,
                (4, Value::Number(0)) => kind = WantKind::Block,
                (4, Value::Number(1)) => kind = WantKind::Have,
                (5, Value::Number(n)) => send_dont_have = n != 0,
                (1..=5, _) => return Err(MessageError::Malformed("entry")),
                _ => {}
            }
        }
        let cid = cid.ok_or(MessageError::Malformed("entry.cid"))?;
        Ok(Self { cid, priority, cancel, kind, send_dont_have })
    }
}

impl Payload {
    fn encode(&self, revision: Revision, out: &mut Segments) {
        if revision == Revision::V1_0 {
            put_tag(&mut out.tail, 2, 2);
            put_varint(&mut out.tail, self.data.len() as u64);
        } else {
            let mut head = Vec::with_capacity(16);
            put_bytes(&mut head, 1, &self.prefix.to_bytes());
            put_tag(&mut head, 2, 2);
            put_varint(&mut head, self.data.len() as u64);
            put_tag(&mut out.tail, 3, 2);
            put_varint(&mut out.tail, (head.len() + self.data.len()) as u64);
            out.tail.extend_from_slice(&head);
        }
        out.push(self.data.clone());
    }
}

/// A message ready to be written, piece by piece.
#[derive(Clone, Debug, Default)]
pub struct Encoded {
    /// The pieces, in order.
    pub pieces: VecDeque<Bytes>,
}

impl Encoded {
    /// How many bytes are left to write.
    pub fn len(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    /// Whether nothing is left to write.
    pub fn is_empty(&self) -> bool {
        self.pieces.iter().all(Bytes::is_empty)
    }
}

/// Small fields gathered in `tail`, blocks by reference.
#[derive(Default)]
struct Segments {
    done: VecDeque<Bytes>,
    tail: Vec<u8>,
}

impl Segments {
    fn push(&mut self, data: Bytes) {
        self.done.push_back(Bytes::from(std::mem::take(&mut self.tail)));
        self.done.push_back(data);
    }

    fn finish(mut self) -> Result<Encoded, MessageError> {
        self.push(Bytes::new());
        let len = self.done.iter().map(Bytes::len).sum::<usize>();
        if len > MESSAGE_BYTES_MAX {
            return Err(MessageError::TooLarge { place: "message", max: MESSAGE_BYTES_MAX });
        }
        let mut pieces = self.done;
        let first = pieces.pop_front().unwrap_or_default();
        let mut head = BytesMut::with_capacity(first.len() + 4);
        put_varint(&mut head, len as u64);
        head.extend_from_slice(&first);
        pieces.push_front(head.freeze());
        pieces.retain(|piece| !piece.is_empty());
        Ok(Encoded { pieces })
    }
}

/// Walks the fields of a protobuf message.
struct Fields {
    rest: Bytes,
    place: &'static str,
}

enum Value {
    Number(u64),
    Bytes(Bytes),
    /// A fixed-width number, which no known field is.
    Fixed,
}

impl Fields {
    fn next(&mut self) -> Result<Option<(u64, Value)>, MessageError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.split(8).map(|_| Value::Fixed)?,
            2 => {
                let len = self.varint()?;
                Value::Bytes(self.split(usize::try_from(len).unwrap_or(usize::MAX))?)
            }
            5 => self.split(4).map(|_| Value::Fixed)?,
            // Groups have been out of use since before Bitswap.
            _ => return Err(MessageError::Malformed(self.place)),
        };
        match tag >> 3 {
            0 => Err(MessageError::Malformed(self.place)),
            number => Ok(Some((number, value))),
        }
    }

    fn varint(&mut self) -> Result<u64, MessageError> {
        let mut rest: &[u8] = &self.rest;
        let number = varint(&mut rest, self.place)?;
        let used = self.rest.len() - rest.len();
        self.rest = self.rest.slice(used..);
        Ok(number)
    }

    fn split(&mut self, len: usize) -> Result<Bytes, MessageError> {
        if len > self.rest.len() {
            return Err(MessageError::Malformed(self.place));
        }
        Ok(self.rest.split_to(len))
    }
}

struct Bound {
    place: &'static str,
    left: usize,
    max: usize,
}

impl Bound {
    fn take(&mut self) -> Result<(), MessageError> {
        self.left =
            self.left.checked_sub(1).ok_or(MessageError::TooLarge { place: self.place, max: self.max })?;
        Ok(())
    }
}

fn parse_cid(bytes: &[u8]) -> Result<Cid, MessageError> {
    if bytes.len() > CID_BYTES_MAX {
        return Err(MessageError::TooLarge { place: "CID", max: CID_BYTES_MAX });
    }
    let cid = Cid::try_from(bytes).map_err(|_| MessageError::Malformed("CID"))?;
    // The parser stops where the digest ends.
    if cid.encoded_len() == bytes.len() { Ok(cid) } else { Err(MessageError::Malformed("CID")) }
}

/// A protobuf varint: at most ten bytes, not necessarily the shortest form.
fn varint(bytes: &mut &[u8], place: &'static str) -> Result<u64, MessageError> {
    let mut number = 0u64;
    for shift in (0..70).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(MessageError::Malformed(place))?;
        *bytes = rest;
        if shift == 63 && byte > 1 {
            return Err(MessageError::Malformed(place));
        }
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(MessageError::Malformed(place))
}

fn put_varint(out: &mut impl BufMut, mut number: u64) {
    while number >= 0x80 {
        out.put_u8((number as u8 & 0x7f) | 0x80);
        number >>= 7;
    }
    out.put_u8(number as u8);
}

fn put_tag(out: &mut impl BufMut, field: u64, wire_type: u64) {
    put_varint(out, field << 3 | wire_type);
}

/// proto3 leaves out what has its default value.
fn put_number(out: &mut impl BufMut, field: u64, number: u64) {
    if number != 0 {
        put_tag(out, field, 0);
        put_varint(out, number);
    }
}

fn put_bytes(out: &mut impl BufMut, field: u64, bytes: &[u8]) {
    put_tag(out, field, 2);
    put_varint(out, bytes.len() as u64);
    out.put_slice(bytes);
}
