//! The log of released keys: what was answered, to whom, judged at which blocks.
//!
//! ```text
//! record  {nonce, notAfter, release: {receipt, sig, hdr, seeders}}   one append, synced, before the answer leaves
//! leaf    SHA-256(0x00 ‖ SHA-256(receipt ‖ sig))                     in the order of the records
//! ```
//!
//! One record holds everything about one release, so that nonce, receipt and answer are durable together or not at
//! all. In memory stay 32 bytes for each release ever made, and the answers that may be asked for again.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use alloy_primitives::{Address, B256};
use lightstreams_store::{Disk, DiskFile, Log, LogError};

use super::merkle;
use super::messages::CLOCK_SKEW_SECONDS;
use super::records::{Receipt, Release};
use super::wire::{self, Fields, MapBuilder, WireError};

/// The log's name on its disk.
const LOG_NAME: &str = "releases";
/// Answers that one reader may have open at a time.
const OPEN_PER_READER_MAX: usize = 64;
const RECORD_MAX: usize = 64 * 1024;

/// A release as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedRelease {
    /// The request's nonce.
    pub nonce: B256,
    /// The request's last second.
    pub not_after: u64,
    /// What was answered.
    pub release: Release,
}

impl LoggedRelease {
    const NAME: &'static str = "logged release";

    fn encode(&self) -> Vec<u8> {
        wire::encode(
            &MapBuilder::default()
                .with("nonce", &self.nonce)
                .with("notAfter", self.not_after)
                .with("release", self.release.to_ipld())
                .build(),
        )
    }

    fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut fields = Fields::decode(Self::NAME, bytes, RECORD_MAX)?;
        let logged = Self {
            nonce: fields.b256("nonce")?,
            not_after: fields.u64("notAfter")?,
            release: Release::from_ipld(fields.take("release")?)?,
        };
        fields.finish()?;
        Ok(logged)
    }

    fn leaf(&self) -> B256 {
        leaf_of(&self.release.receipt, &self.release.sig)
    }

    /// Whether nobody may ask for this answer any more: a request so old is refused as expired.
    fn is_forgotten(&self, now: u64) -> bool {
        now > self.not_after.saturating_add(CLOCK_SKEW_SECONDS)
    }
}

/// The leaf of a receipt in the Merkle log.
pub fn leaf_of(receipt: &Receipt, sig: &[u8; 64]) -> B256 {
    merkle::leaf_hash(&merkle::entry_hash(&receipt.encode(), sig))
}

/// What the log knows of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// Nothing: it may be answered.
    New,
    /// It was answered, with this.
    Answered(Box<Release>),
    /// Its reader used its nonce for another request.
    Replayed,
    /// Its reader has as many answers open as a reader may have; the first is forgotten in so many seconds.
    TooMany {
        /// Seconds.
        retry_s: u64,
    },
}

/// The append-only log of releases on a [`Disk`].
pub struct ReleaseLog {
    disk: Arc<dyn Disk>,
    /// Absent after an append failed: where the file ends is unknown until it is read again.
    log: Option<Log>,
    state: State,
}

#[derive(Default)]
struct State {
    leaves: Vec<B256>,
    open: HashMap<B256, LoggedRelease>,
    nonces: HashMap<(Address, B256), B256>,
    ends: BTreeSet<(u64, B256)>,
}

impl ReleaseLog {
    /// Opens the log on `disk`, and remembers the answers that may still be asked for at `now` (Unix seconds).
    pub fn open(disk: Arc<dyn Disk>, now: u64) -> Result<Self, ReleaseLogError> {
        let (log, state) = replay(disk.clone(), now)?;
        Ok(Self { disk, log: Some(log), state })
    }

    /// What is known of the request with this digest.
    pub fn known(&mut self, request: &B256, reader: Address, nonce: B256, now: u64) -> Known {
        self.state.forget(now);
        if let Some(logged) = self.state.open.get(request) {
            return Known::Answered(Box::new(logged.release.clone()));
        }
        if self.state.nonces.contains_key(&(reader, nonce)) {
            return Known::Replayed;
        }
        let mut open = self.state.ends.iter().filter(|(_, request)| {
            self.state.open.get(request).is_some_and(|logged| logged.release.receipt.reader == reader)
        });
        match (open.next(), open.count()) {
            (Some((not_after, _)), others) if others + 1 >= OPEN_PER_READER_MAX => Known::TooMany {
                retry_s: not_after.saturating_add(CLOCK_SKEW_SECONDS + 1).saturating_sub(now),
            },
            _ => Known::New,
        }
    }

    /// Records a release, and returns its index once it survives a power cut. Nothing may leave before that.
    ///
    /// After a failure the log is read again at the next call: the release that failed may then turn out to be
    /// recorded, and its request to be answered.
    pub fn record(&mut self, logged: LoggedRelease, now: u64) -> Result<u64, ReleaseLogError> {
        let mut log = match self.log.take() {
            Some(log) => log,
            None => return Err(ReleaseLogError::Stopped),
        };
        log.append(&logged.encode())?;
        self.log = Some(log);
        let index = self.state.leaves.len() as u64;
        self.state.insert(logged, now);
        Ok(index)
    }

    /// Reads the log again if an append failed before; every question to it begins with this.
    pub fn recover(&mut self, now: u64) -> Result<(), ReleaseLogError> {
        if self.log.is_none() {
            let (log, state) = replay(self.disk.clone(), now)?;
            self.log = Some(log);
            self.state = state;
        }
        Ok(())
    }

    /// How many releases were made.
    pub fn len(&self) -> u64 {
        self.state.leaves.len() as u64
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.state.leaves.is_empty()
    }

    /// The Merkle root over all releases.
    pub fn root(&self) -> B256 {
        merkle::root(&self.state.leaves)
    }

    /// The proof that the release at `index` is under [`ReleaseLog::root`].
    pub fn inclusion_proof(&self, index: u64) -> Option<Vec<B256>> {
        merkle::inclusion_proof(&self.state.leaves, usize::try_from(index).ok()?)
    }
}

impl fmt::Debug for ReleaseLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReleaseLog").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl State {
    fn insert(&mut self, logged: LoggedRelease, now: u64) {
        self.leaves.push(logged.leaf());
        if logged.is_forgotten(now) {
            return;
        }
        let Receipt { request, reader, .. } = logged.release.receipt;
        self.nonces.insert((reader, logged.nonce), request);
        self.ends.insert((logged.not_after, request));
        self.open.insert(request, logged);
    }

    fn forget(&mut self, now: u64) {
        while let Some((_, request)) = self.ends.first().copied() {
            match self.open.get(&request) {
                Some(logged) if !logged.is_forgotten(now) => return,
                _ => {}
            }
            self.ends.pop_first();
            if let Some(logged) = self.open.remove(&request) {
                self.nonces.remove(&(logged.release.receipt.reader, logged.nonce));
            }
        }
    }
}

fn replay(disk: Arc<dyn Disk>, now: u64) -> Result<(Log, State), ReleaseLogError> {
    let (mut state, mut failed, mut index) = (State::default(), None, 0u64);
    let log = Log::open(&*disk, LOG_NAME, &mut |record| {
        match LoggedRelease::decode(record) {
            Ok(logged) => state.insert(logged, now),
            Err(source) => failed = failed.take().or(Some(ReleaseLogError::Record { index, source })),
        }
        index += 1;
    })?;
    match failed {
        Some(error) => Err(error),
        None => Ok((log, state)),
    }
}

/// Reads a log of releases without changing it, from the first to the last: the log of a running node, or a copy.
///
/// `visit` gets each release with its index. A release that is being written at this moment is passed over.
pub fn read_log(
    disk: Arc<dyn Disk>,
    visit: &mut dyn FnMut(u64, LoggedRelease),
) -> Result<(), ReleaseLogError> {
    // To open a log that is not there would make one, which a reader must not.
    if !disk.list().map_err(LogError::from)?.iter().any(|name| name == LOG_NAME) {
        return Ok(());
    }
    let (mut failed, mut index) = (None, 0u64);
    Log::open(&ReadOnly(disk), LOG_NAME, &mut |record| {
        match LoggedRelease::decode(record) {
            Ok(logged) => visit(index, logged),
            Err(source) => failed = failed.take().or(Some(ReleaseLogError::Record { index, source })),
        }
        index += 1;
    })?;
    failed.map_or(Ok(()), Err)
}

/// A disk that is only looked at: the torn tail of a log, which an opener cuts off, may be an append under way.
struct ReadOnly(Arc<dyn Disk>);

struct ReadOnlyFile(Box<dyn DiskFile>);

fn read_only() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::ReadOnlyFilesystem, "opened for reading")
}

impl Disk for ReadOnly {
    fn open(&self, name: &str) -> std::io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(ReadOnlyFile(self.0.open(name)?)))
    }
    fn rename(&self, _: &str, _: &str) -> std::io::Result<()> {
        Err(read_only())
    }
    fn remove(&self, _: &str) -> std::io::Result<()> {
        Err(read_only())
    }
    fn list(&self) -> std::io::Result<Vec<String>> {
        self.0.list()
    }
    fn sync(&self) -> std::io::Result<()> {
        Ok(())
    }
}

impl DiskFile for ReadOnlyFile {
    fn len(&self) -> std::io::Result<u64> {
        self.0.len()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<usize> {
        self.0.read_at(offset, buf)
    }
    fn append(&mut self, _: &[u8]) -> std::io::Result<()> {
        Err(read_only())
    }
    fn truncate(&mut self, _: u64) -> std::io::Result<()> {
        Ok(())
    }
    fn sync(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Why the log of releases cannot be used. Nothing is released without it.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum ReleaseLogError {
    /// The log below failed.
    #[error("the log of releases failed")]
    Log(#[from] LogError),
    /// A record is whole but cannot be understood: the file was written by something else.
    #[error("record {index} of the log of releases cannot be read")]
    Record {
        /// Which one, from 0.
        index: u64,
        /// What is wrong with it.
        source: WireError,
    },
    /// An append failed, and the log was not read again since.
    #[error("the log of releases stopped after a failed append")]
    Stopped,
}
