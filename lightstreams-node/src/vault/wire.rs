//! Canonical dag-cbor maps, taken apart field by field.
//!
//! A record is read in three steps: the length is held against its bound, the bytes are decoded and encoded
//! again (only the canonical form comes out equal, so map order, shortest integers and repeated keys are all
//! judged at once), and [`Fields`] hands out each field once by name and type. What is left over is unknown,
//! and unknown is refused.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256};
use cid::Cid;
use ipld_core::ipld::Ipld;

/// What is wrong with the bytes of a record.
///
/// The sender is at fault; `record` and `field` name the place.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// More bytes than a record of this kind may have.
    #[error("{record}: {len} bytes are more than the {max} allowed")]
    TooLong {
        /// The record's name.
        record: &'static str,
        /// Bytes that came.
        len: usize,
        /// Bytes that may come.
        max: usize,
    },
    /// The bytes are not dag-cbor.
    #[error("{record}: not dag-cbor")]
    NotCbor {
        /// The record's name.
        record: &'static str,
    },
    /// The bytes are dag-cbor, but not in its one canonical form.
    #[error("{record}: not in canonical form")]
    NotCanonical {
        /// The record's name.
        record: &'static str,
    },
    /// The outermost value has another kind than the record's.
    #[error("{record}: expected {expected}")]
    Shape {
        /// The record's name.
        record: &'static str,
        /// What the format asks for.
        expected: &'static str,
    },
    /// A field that must be there is not.
    #[error("{record}: field `{field}` is missing")]
    Missing {
        /// The record's name.
        record: &'static str,
        /// The field's name.
        field: &'static str,
    },
    /// A field has a value that the format does not allow.
    #[error("{record}: field `{field}` is not {expected}")]
    Field {
        /// The record's name.
        record: &'static str,
        /// The field's name.
        field: &'static str,
        /// What the format asks for.
        expected: &'static str,
    },
    /// A field that this version does not know.
    #[error("{record}: unknown field `{field}`")]
    Unknown {
        /// The record's name.
        record: &'static str,
        /// The field's name, cut to 32 characters.
        field: String,
    },
}

/// Decodes `bytes` as the one canonical dag-cbor value that they are.
pub(crate) fn decode(record: &'static str, bytes: &[u8], max: usize) -> Result<Ipld, WireError> {
    if bytes.len() > max {
        return Err(WireError::TooLong { record, len: bytes.len(), max });
    }
    let value: Ipld = serde_ipld_dagcbor::from_slice(bytes).map_err(|_| WireError::NotCbor { record })?;
    if encode(&value) != bytes {
        return Err(WireError::NotCanonical { record });
    }
    Ok(value)
}

/// The canonical bytes of `value`.
pub(crate) fn encode(value: &Ipld) -> Vec<u8> {
    // Writing to memory does not fail, and every `Ipld` that this crate builds has a dag-cbor form: no integer
    // of it leaves the 64 bits that CBOR has. Empty bytes decode as nothing, so a mistake here fails closed.
    serde_ipld_dagcbor::to_vec(value).unwrap_or_default()
}

/// The fields of a map, each taken out once.
pub(crate) struct Fields {
    record: &'static str,
    map: BTreeMap<String, Ipld>,
}

impl Fields {
    /// Reads a whole record: bound, canonical form, outermost map.
    pub(crate) fn decode(record: &'static str, bytes: &[u8], max: usize) -> Result<Self, WireError> {
        Self::of(record, decode(record, bytes, max)?)
    }

    /// The fields of a map inside another record.
    pub(crate) fn of(record: &'static str, value: Ipld) -> Result<Self, WireError> {
        match value {
            Ipld::Map(map) => Ok(Self { record, map }),
            _ => Err(WireError::Shape { record, expected: "a map" }),
        }
    }

    /// Takes a field that must be there.
    pub(crate) fn take(&mut self, field: &'static str) -> Result<Ipld, WireError> {
        self.map.remove(field).ok_or(WireError::Missing { record: self.record, field })
    }

    /// Takes a field that may be absent.
    pub(crate) fn take_optional(&mut self, field: &'static str) -> Option<Ipld> {
        self.map.remove(field)
    }

    /// The error of a field with a wrong value.
    pub(crate) fn wrong(&self, field: &'static str, expected: &'static str) -> WireError {
        WireError::Field { record: self.record, field, expected }
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, WireError> {
        match self.take(field)? {
            Ipld::Integer(i) => u64::try_from(i).ok(),
            _ => None,
        }
        .ok_or_else(|| self.wrong(field, "an unsigned integer of 64 bits"))
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, WireError> {
        let value = self.u64(field)?;
        u32::try_from(value).map_err(|_| self.wrong(field, "an unsigned integer of 32 bits"))
    }

    pub(crate) fn bytes(&mut self, field: &'static str, max: usize) -> Result<Vec<u8>, WireError> {
        match self.take(field)? {
            Ipld::Bytes(bytes) if bytes.len() <= max => Ok(bytes),
            Ipld::Bytes(_) => Err(self.wrong(field, "short enough")),
            _ => Err(self.wrong(field, "a byte string")),
        }
    }

    pub(crate) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], WireError> {
        let bytes = self.bytes(field, N)?;
        <[u8; N]>::try_from(bytes).map_err(|_| self.wrong(field, "a byte string of its fixed length"))
    }

    pub(crate) fn b256(&mut self, field: &'static str) -> Result<B256, WireError> {
        self.array(field).map(B256::new)
    }

    pub(crate) fn address(&mut self, field: &'static str) -> Result<Address, WireError> {
        self.array(field).map(Address::new)
    }

    pub(crate) fn link(&mut self, field: &'static str) -> Result<Cid, WireError> {
        match self.take(field)? {
            Ipld::Link(cid) => Ok(cid),
            _ => Err(self.wrong(field, "a link")),
        }
    }

    pub(crate) fn link_or_null(&mut self, field: &'static str) -> Result<Option<Cid>, WireError> {
        match self.take(field)? {
            Ipld::Link(cid) => Ok(Some(cid)),
            Ipld::Null => Ok(None),
            _ => Err(self.wrong(field, "a link or null")),
        }
    }

    pub(crate) fn text(&mut self, field: &'static str, max: usize) -> Result<String, WireError> {
        let value = self.take(field)?;
        self.as_text(field, value, max)
    }

    pub(crate) fn text_optional(
        &mut self,
        field: &'static str,
        max: usize,
    ) -> Result<Option<String>, WireError> {
        self.optional(field, |fields, field| fields.text(field, max))
    }

    pub(crate) fn list(&mut self, field: &'static str, max: usize) -> Result<Vec<Ipld>, WireError> {
        match self.take(field)? {
            Ipld::List(items) if items.len() <= max => Ok(items),
            Ipld::List(_) => Err(self.wrong(field, "short enough")),
            _ => Err(self.wrong(field, "a list")),
        }
    }

    pub(crate) fn texts(
        &mut self,
        field: &'static str,
        count: usize,
        max: usize,
    ) -> Result<Vec<String>, WireError> {
        let items = self.list(field, count)?;
        items.into_iter().map(|item| self.as_text(field, item, max)).collect()
    }

    /// `[number, hash]`, as blocks are named.
    pub(crate) fn block(&mut self, field: &'static str) -> Result<(u64, B256), WireError> {
        let items = self.list(field, 2)?;
        let mut items = items.into_iter();
        match (items.next(), items.next()) {
            (Some(Ipld::Integer(number)), Some(Ipld::Bytes(hash))) => u64::try_from(number)
                .ok()
                .zip(<[u8; 32]>::try_from(hash).ok())
                .map(|(number, hash)| (number, B256::new(hash))),
            _ => None,
        }
        .ok_or_else(|| self.wrong(field, "a block as [number, hash]"))
    }

    fn as_text(&self, field: &'static str, value: Ipld, max: usize) -> Result<String, WireError> {
        match value {
            Ipld::String(text) if text.len() <= max => Ok(text),
            Ipld::String(_) => Err(self.wrong(field, "short enough")),
            _ => Err(self.wrong(field, "a text")),
        }
    }

    /// Takes a field that may be absent, by the reader of one that is there.
    pub(crate) fn optional<T>(
        &mut self,
        field: &'static str,
        take: impl FnOnce(&mut Self, &'static str) -> Result<T, WireError>,
    ) -> Result<Option<T>, WireError> {
        if !self.map.contains_key(field) {
            return Ok(None);
        }
        take(self, field).map(Some)
    }

    /// Takes a field that may be null.
    pub(crate) fn or_null<T>(
        &mut self,
        field: &'static str,
        take: impl FnOnce(&mut Self, &'static str) -> Result<T, WireError>,
    ) -> Result<Option<T>, WireError> {
        if self.map.get(field) == Some(&Ipld::Null) {
            self.map.remove(field);
            return Ok(None);
        }
        take(self, field).map(Some)
    }

    /// Refuses what nobody took.
    pub(crate) fn finish(self) -> Result<(), WireError> {
        match self.map.into_keys().next() {
            None => Ok(()),
            Some(field) => {
                Err(WireError::Unknown { record: self.record, field: field.chars().take(32).collect() })
            }
        }
    }
}

/// A map built field by field.
#[derive(Default)]
pub(crate) struct MapBuilder(BTreeMap<String, Ipld>);

impl MapBuilder {
    pub(crate) fn with(mut self, field: &str, value: impl IntoIpld) -> Self {
        self.0.insert(field.to_owned(), value.into_ipld());
        self
    }

    /// Adds the field only if there is a value.
    pub(crate) fn with_some(self, field: &str, value: Option<impl IntoIpld>) -> Self {
        match value {
            Some(value) => self.with(field, value),
            None => self,
        }
    }

    pub(crate) fn build(self) -> Ipld {
        Ipld::Map(self.0)
    }
}

/// What has one obvious dag-cbor form.
pub(crate) trait IntoIpld {
    fn into_ipld(self) -> Ipld;
}

impl IntoIpld for Ipld {
    fn into_ipld(self) -> Ipld {
        self
    }
}

impl IntoIpld for u64 {
    fn into_ipld(self) -> Ipld {
        Ipld::Integer(i128::from(self))
    }
}

impl IntoIpld for u32 {
    fn into_ipld(self) -> Ipld {
        Ipld::Integer(i128::from(self))
    }
}

impl IntoIpld for &[u8] {
    fn into_ipld(self) -> Ipld {
        Ipld::Bytes(self.to_vec())
    }
}

impl IntoIpld for &B256 {
    fn into_ipld(self) -> Ipld {
        Ipld::Bytes(self.to_vec())
    }
}

impl IntoIpld for &Address {
    fn into_ipld(self) -> Ipld {
        Ipld::Bytes(self.to_vec())
    }
}

impl IntoIpld for &str {
    fn into_ipld(self) -> Ipld {
        Ipld::String(self.to_owned())
    }
}

impl IntoIpld for &Cid {
    fn into_ipld(self) -> Ipld {
        Ipld::Link(*self)
    }
}

impl IntoIpld for (u64, B256) {
    fn into_ipld(self) -> Ipld {
        Ipld::List(vec![self.0.into_ipld(), (&self.1).into_ipld()])
    }
}

impl<T: IntoIpld> IntoIpld for Option<T> {
    fn into_ipld(self) -> Ipld {
        self.map_or(Ipld::Null, IntoIpld::into_ipld)
    }
}

impl<T: IntoIpld> IntoIpld for Vec<T> {
    fn into_ipld(self) -> Ipld {
        Ipld::List(self.into_iter().map(IntoIpld::into_ipld).collect())
    }
}
