//! Headers that a reader keeps: the key of what was opened once, wrapped to the reader's own identity.
//!
//! A kept header, the nonce of the manifest and the payload make an ordinary age file, which opens without chain,
//! custodian or network.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use cid::Cid;
use lightstreams_acl::ContentId;
use lightstreams_store::{Disk, Log, LogError};

use super::manifest::Place;
use super::messages::Domain;
use super::wire::{self, Fields, MapBuilder, WireError};

/// The log's name on its disk.
const LOG_NAME: &str = "kept";
/// Bytes that a kept header may have, as any age header.
const HEADER_MAX: usize = 128 * 1024;
const RECORD_MAX: usize = HEADER_MAX + 1024;

/// A kept header.
#[derive(Clone, PartialEq, Eq)]
pub struct Kept {
    /// The content.
    pub place: Place,
    /// The version.
    pub version: u32,
    /// The manifest under which it was opened.
    pub manifest: Cid,
    /// The header, opaque to the node.
    pub header: Vec<u8>,
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept")
            .field("place", &self.place)
            .field("version", &self.version)
            .field("manifest", &self.manifest)
            .finish_non_exhaustive()
    }
}

/// All kept headers, on a [`Disk`].
pub struct KeptHeaders {
    inner: Mutex<Inner>,
}

struct Inner {
    log: Log,
    headers: BTreeMap<(Place, u32), Kept>,
}

impl KeptHeaders {
    /// Opens the kept headers on `disk`.
    pub fn open(disk: Arc<dyn Disk>) -> Result<Self, KeptError> {
        let (mut kept, mut failed, mut index) = (BTreeMap::new(), None, 0u64);
        let log = Log::open(&*disk, LOG_NAME, &mut |record| {
            match Kept::decode(record) {
                Ok(header) => {
                    kept.insert((header.place, header.version), header);
                }
                Err(source) => failed = failed.take().or(Some(KeptError::Record { index, source })),
            }
            index += 1;
        })?;
        match failed {
            Some(error) => Err(error),
            None => Ok(Self { inner: Mutex::new(Inner { log, headers: kept }) }),
        }
    }

    /// Keeps a header, in place of an earlier one of the same version. Durable when it returns.
    pub fn put(&self, kept: Kept) -> Result<(), KeptError> {
        if kept.header.len() > HEADER_MAX {
            return Err(KeptError::TooLong { len: kept.header.len() });
        }
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (kept.place, kept.version);
        if inner.headers.get(&key) == Some(&kept) {
            return Ok(());
        }
        inner.log.append(&kept.encode())?;
        inner.headers.insert(key, kept);
        Ok(())
    }

    /// The header kept of a version of a content.
    pub fn get(&self, place: &Place, version: u32) -> Option<Kept> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).headers.get(&(*place, version)).cloned()
    }

    /// All of them, by place and version.
    pub fn list(&self) -> Vec<Kept> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).headers.values().cloned().collect()
    }
}

impl fmt::Debug for KeptHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptHeaders").finish_non_exhaustive()
    }
}

impl Kept {
    const NAME: &'static str = "kept header";

    fn encode(&self) -> Vec<u8> {
        wire::encode(
            &MapBuilder::default()
                .with("chain", self.place.domain.chain_id)
                .with("registry", &self.place.domain.registry)
                .with("content", &self.place.content.0)
                .with("ver", self.version)
                .with("manifest", &self.manifest)
                .with("hdr", self.header.as_slice())
                .build(),
        )
    }

    fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut fields = Fields::decode(Self::NAME, bytes, RECORD_MAX)?;
        let kept = Self {
            place: Place {
                domain: Domain { chain_id: fields.u64("chain")?, registry: fields.address("registry")? },
                content: ContentId(fields.b256("content")?),
            },
            version: fields.u32("ver")?,
            manifest: fields.link("manifest")?,
            header: fields.bytes("hdr", HEADER_MAX)?,
        };
        fields.finish()?;
        Ok(kept)
    }
}

/// Why a header could not be kept, or the kept ones not be read.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// No age header is this long.
    #[error("a header of {len} bytes, more than {HEADER_MAX}")]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// The log below failed.
    #[error("the log of kept headers failed")]
    Log(#[from] LogError),
    /// A record is whole but cannot be understood.
    #[error("record {index} of the kept headers cannot be read")]
    Record {
        /// Which one, from 0.
        index: u64,
        /// What is wrong with it.
        source: WireError,
    },
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{Address, B256};
    use lightstreams_store::Block;
    use lightstreams_store::testing::FaultyDisk;

    use super::*;

    fn kept(version: u32, header: &[u8]) -> Kept {
        let domain = Domain { chain_id: 161, registry: Address::repeat_byte(1) };
        let place = Place { domain, content: ContentId(B256::repeat_byte(2)) };
        Kept { place, version, manifest: *Block::raw("m").cid(), header: header.to_vec() }
    }

    #[test]
    fn a_kept_header_survives_and_the_last_of_a_version_counts() {
        let disk = FaultyDisk::new(1);
        let headers = KeptHeaders::open(Arc::new(disk.clone())).unwrap();
        headers.put(kept(1, b"one")).unwrap();
        headers.put(kept(2, b"two")).unwrap();
        headers.put(kept(1, b"one, again")).unwrap();
        let headers = KeptHeaders::open(Arc::new(disk.after_power_cut())).unwrap();
        assert_eq!(headers.get(&kept(1, b"").place, 1), Some(kept(1, b"one, again")));
        assert_eq!(headers.list(), [kept(1, b"one, again"), kept(2, b"two")]);
        assert_eq!(headers.get(&kept(1, b"").place, 3), None);
    }

    #[test]
    fn what_no_age_header_can_be_is_not_kept() {
        let headers = KeptHeaders::open(Arc::new(FaultyDisk::new(1))).unwrap();
        let long = vec![0; HEADER_MAX + 1];
        assert!(matches!(headers.put(kept(1, &long)), Err(KeptError::TooLong { .. })));
        headers.put(kept(1, &long[1..])).unwrap();
    }

    #[test]
    fn a_header_is_acknowledged_only_when_it_is_durable() {
        for seed in 0..16 {
            for cut in 1..=8 {
                let disk = FaultyDisk::new(seed);
                let headers = KeptHeaders::open(Arc::new(disk.clone())).unwrap();
                disk.cut_power_at(cut);
                let done = headers.put(kept(1, b"one")).is_ok();
                let again = KeptHeaders::open(Arc::new(disk.after_power_cut())).unwrap();
                assert!(!done || again.list() == [kept(1, b"one")], "seed {seed}, cut {cut}");
            }
        }
    }
}
