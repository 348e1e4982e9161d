//! Records.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use ed25519_dalek::{Signer, SigningKey};

use super::{IpnsError, IpnsName, key, malformed, time};
use crate::{
    Codec, Ipld,
    protobuf::{Fields as Protobuf, Value, put_bytes, put_int},
};

/// The longest record: 10 KiB.
pub const MAX_IPNS_RECORD_LEN: usize = 10 << 10;

/// What stands before `data` in what is signed.
const DOMAIN: &[u8] = b"ipns-signature:";
/// The only type of validity: the end of life.
const EOL: u64 = 0;

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpnsEntry {
    /// What the name points to: a path, `/ipfs/…` or `/ipns/…`.
    pub value: Bytes,
    /// Version of the record; a higher one replaces a lower one.
    pub sequence: u64,
    /// End of its validity, since 1970.
    pub validity: Duration,
    /// How long it may be cached; a hint.
    pub ttl: Duration,
}

/// A record that was verified, or signed by us: its bytes and what they say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpnsRecord {
    name: IpnsName,
    bytes: Bytes,
    entry: IpnsEntry,
}

impl IpnsRecord {
    /// Verifies that `bytes` are a record of `name` that is valid at `now`, the time since 1970.
    ///
    /// The signature of version 1 is not looked at, and a record that has no other is refused.
    pub fn verify(name: &IpnsName, bytes: impl Into<Bytes>, now: Duration) -> Result<Self, IpnsError> {
        let bytes = bytes.into();
        let fields = Fields::read(&bytes)?;
        let Some(data) = fields.data else { return malformed("there is no data: version 1 only") };
        let signature = fields.signature_v2.ok_or(IpnsError::Signature)?;
        let key = match (fields.key, name.key()) {
            (Some(key), _) if IpnsName::from_key(key) != *name => {
                return Err(IpnsError::Key { reason: "the one in the record is another" });
            }
            (Some(key), _) | (None, Some(key)) => key,
            (None, None) => {
                return Err(IpnsError::Key { reason: "the name is its hash, and the record has none" });
            }
        };
        key::verify(key, &[DOMAIN, data].concat(), signature)?;
        let signed = Signed::read(data)?;
        fields.agree_with(&signed)?;
        let validity = std::str::from_utf8(&signed.validity).ok().and_then(time::parse);
        let Some(validity) = validity else { return malformed("its validity is no time after 1970") };
        if now > validity {
            let validity = String::from_utf8_lossy(&signed.validity).into_owned();
            return Err(IpnsError::Expired { validity });
        }
        let entry = IpnsEntry {
            value: signed.value.into(),
            sequence: signed.sequence,
            validity,
            ttl: Duration::from_nanos(signed.ttl),
        };
        Ok(Self { name: *name, bytes, entry })
    }

    /// Signs a record with an Ed25519 key, given by its 32 secret bytes; `compatible` adds the fields of version 1, which
    /// old readers need.
    ///
    /// An error is a validity after the year 9999, a time to live of more than 584 years, or a value that makes the
    /// record too long.
    pub fn create(secret: &[u8; 32], entry: IpnsEntry, compatible: bool) -> Result<Self, IpnsError> {
        let key = SigningKey::from_bytes(secret);
        let name = IpnsName::from_ed25519(key.verifying_key().as_bytes());
        let Some(validity) = time::format(entry.validity) else {
            return malformed("its validity is too late");
        };
        let Ok(ttl) = u64::try_from(entry.ttl.as_nanos()) else {
            return malformed("its time to live is too long");
        };
        let signed =
            Signed { value: entry.value.to_vec(), validity: validity.into(), sequence: entry.sequence, ttl };
        let data = signed.write()?;
        let mut out = Vec::new();
        if compatible {
            let v1 = [&signed.value[..], &signed.validity, b"EOL"].concat();
            put_bytes(&mut out, 0x0a, &signed.value);
            put_bytes(&mut out, 0x12, &key.sign(&v1).to_bytes());
            put_int(&mut out, 0x18, EOL);
            put_bytes(&mut out, 0x22, &signed.validity);
            put_int(&mut out, 0x28, signed.sequence);
            put_int(&mut out, 0x30, signed.ttl);
        }
        put_bytes(&mut out, 0x42, &key.sign(&[DOMAIN, &data].concat()).to_bytes());
        put_bytes(&mut out, 0x4a, &data);
        if out.len() > MAX_IPNS_RECORD_LEN {
            return Err(IpnsError::TooLong { len: out.len() });
        }
        Ok(Self { name, bytes: out.into(), entry })
    }

    /// The name whose key signed it.
    pub fn name(&self) -> &IpnsName {
        &self.name
    }

    /// The record as it travels.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What it says.
    pub fn entry(&self) -> &IpnsEntry {
        &self.entry
    }

    /// Whether this record replaces `other` of the same name: by a higher sequence, then by a later validity, then, so that all
    /// choose one, by its bytes.
    pub fn replaces(&self, other: &Self) -> bool {
        let rank = |record: &Self| (record.entry.sequence, record.entry.validity, record.bytes.clone());
        self.name == other.name && rank(self) > rank(other)
    }
}

/// The fields of the protobuf message, as far as they are present.
#[derive(Default)]
struct Fields<'a> {
    value: Option<&'a [u8]>,
    signature_v1: Option<&'a [u8]>,
    validity_type: Option<u64>,
    validity: Option<&'a [u8]>,
    sequence: Option<u64>,
    ttl: Option<u64>,
    key: Option<&'a [u8]>,
    signature_v2: Option<&'a [u8]>,
    data: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    /// Reads the message; unknown fields are passed over, as protobuf has it.
    fn read(bytes: &'a [u8]) -> Result<Self, IpnsError> {
        if bytes.len() > MAX_IPNS_RECORD_LEN {
            return Err(IpnsError::TooLong { len: bytes.len() });
        }
        let mut fields = Self::default();
        let mut rest = Protobuf::new(bytes);
        while let Some((_, number, value)) = rest.next().or_else(|fault| malformed(fault.reason))? {
            let twice = match (number, value) {
                (1, Value::Bytes(bytes)) => fields.value.replace(bytes).is_some(),
                (2, Value::Bytes(bytes)) => fields.signature_v1.replace(bytes).is_some(),
                (3, Value::Int(value)) => fields.validity_type.replace(value).is_some(),
                (4, Value::Bytes(bytes)) => fields.validity.replace(bytes).is_some(),
                (5, Value::Int(value)) => fields.sequence.replace(value).is_some(),
                (6, Value::Int(value)) => fields.ttl.replace(value).is_some(),
                (7, Value::Bytes(bytes)) => fields.key.replace(bytes).is_some(),
                (8, Value::Bytes(bytes)) => fields.signature_v2.replace(bytes).is_some(),
                (9, Value::Bytes(bytes)) => fields.data.replace(bytes).is_some(),
                (1..=9, _) => return malformed("a field has the wrong type"),
                _ => false,
            };
            if twice {
                return malformed("a field stands twice");
            }
        }
        // An empty key is an absent one, for those who write every field.
        fields.key = fields.key.filter(|key| !key.is_empty());
        Ok(fields)
    }

    /// Refuses fields of version 1 that say something else; if the record has a value or signature of version 1, an absent
    /// field says zero.
    fn agree_with(&self, signed: &Signed) -> Result<(), IpnsError> {
        let is_v1 = self.value.is_some() || self.signature_v1.is_some();
        let zero = is_v1.then_some(0);
        let empty = is_v1.then_some(&b""[..]);
        let bytes =
            |found: Option<&[u8]>, expected: &[u8]| found.or(empty).is_none_or(|found| found == expected);
        let int = |found: Option<u64>, expected| found.or(zero).is_none_or(|found| found == expected);
        for (field, agrees) in [
            ("Value", bytes(self.value, &signed.value)),
            ("ValidityType", int(self.validity_type, EOL)),
            ("Validity", bytes(self.validity, &signed.validity)),
            ("Sequence", int(self.sequence, signed.sequence)),
            ("TTL", int(self.ttl, signed.ttl)),
        ] {
            if !agrees {
                return Err(IpnsError::Contradiction { field });
            }
        }
        Ok(())
    }
}

/// The map that is signed.
struct Signed {
    value: Vec<u8>,
    validity: Vec<u8>,
    sequence: u64,
    ttl: u64,
}

impl Signed {
    /// Reads the map; keys that are not known are passed over, as the specification has it.
    fn read(data: &[u8]) -> Result<Self, IpnsError> {
        let Ok(Ipld::Map(mut map)) = Codec::DagCbor.decode(data) else {
            return malformed("its data is no dag-cbor map");
        };
        let mut int = |key: &str| match map.remove(key) {
            Some(Ipld::Integer(value)) => u64::try_from(value).ok(),
            _ => None,
        };
        let (ttl, sequence, validity_type) = (int("TTL"), int("Sequence"), int("ValidityType"));
        let mut bytes = |key: &str| match map.remove(key) {
            Some(Ipld::Bytes(bytes)) => Some(bytes),
            _ => None,
        };
        let (value, validity) = (bytes("Value"), bytes("Validity"));
        match (value, validity, validity_type, sequence, ttl) {
            (Some(value), Some(validity), Some(EOL), Some(sequence), Some(ttl)) => {
                Ok(Self { value, validity, sequence, ttl })
            }
            (.., Some(1..), _, _) => malformed("its validity is of a type that is not known"),
            _ => malformed("its data lacks a field, or one has the wrong type"),
        }
    }

    fn write(&self) -> Result<Vec<u8>, IpnsError> {
        let map = BTreeMap::from([
            ("TTL".to_owned(), Ipld::Integer(self.ttl.into())),
            ("Value".to_owned(), Ipld::Bytes(self.value.clone())),
            ("Sequence".to_owned(), Ipld::Integer(self.sequence.into())),
            ("Validity".to_owned(), Ipld::Bytes(self.validity.clone())),
            ("ValidityType".to_owned(), Ipld::Integer(EOL.into())),
        ]);
        Codec::DagCbor
            .encode(&Ipld::Map(map))
            .map_err(|_| IpnsError::Malformed { reason: "its data cannot be written" })
    }
}
