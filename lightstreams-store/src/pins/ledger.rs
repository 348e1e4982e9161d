//! The pins that are set, durably.

use std::{
    collections::BTreeSet,
    fmt,
    ops::Bound,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard},
};

use cid::Cid;

use super::PinError;
use crate::{Disk, Log, LogError};

/// Bytes of the longest name of a pin, as in Kubo.
pub const MAX_PIN_NAME_LEN: usize = 255;

const LOG: &str = "pins";
const NEW_LOG: &str = "pins.new";

/// Records of history that are let be, beside as many as there are pins.
const HISTORY: usize = 1024;
/// Rows that are written anew in one append.
const ROWS: usize = 1024;

const PIN: u8 = 1;
const UNPIN: u8 = 2;

/// What a pin holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PinKind {
    /// The one block.
    Direct,
    /// The block and all below it.
    Recursive,
}

impl fmt::Display for PinKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Recursive => "recursive",
        })
    }
}

/// A reason to keep blocks. Two pins are the same if all their fields are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pin {
    /// The block, or the root of what is kept; its codec says how its links are read.
    pub cid: Cid,
    /// What is kept.
    pub kind: PinKind,
    /// Who keeps it, or why: any text of at most [`MAX_PIN_NAME_LEN`] bytes, which several pins may have.
    pub name: String,
}

impl Pin {
    /// A pin named `name` on `cid` and all below it.
    pub fn recursive(cid: Cid, name: impl Into<String>) -> Self {
        Self { cid, kind: PinKind::Recursive, name: name.into() }
    }

    /// A pin named `name` on the block of `cid` alone.
    pub fn direct(cid: Cid, name: impl Into<String>) -> Self {
        Self { cid, kind: PinKind::Direct, name: name.into() }
    }

    pub(super) fn check(&self) -> Result<(), PinError> {
        let len = self.name.len();
        if len > MAX_PIN_NAME_LEN { Err(PinError::LongName { len }) } else { Ok(()) }
    }

    fn row(&self) -> Row {
        let mut row = self.cid.to_bytes();
        row.push(match self.kind {
            PinKind::Direct => 0,
            PinKind::Recursive => 1,
        });
        row.extend_from_slice(self.name.as_bytes());
        row.into()
    }

    fn of_row(mut row: &[u8]) -> Option<Self> {
        let cid = Cid::read_bytes(&mut row).ok()?;
        let (kind, name) = row.split_first()?;
        let kind = match kind {
            0 => PinKind::Direct,
            1 => PinKind::Recursive,
            _ => return None,
        };
        Some(Self { cid, kind, name: std::str::from_utf8(name).ok()?.to_owned() })
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} pin {:?} of {}", self.kind, self.name, self.cid)
    }
}

/// A pin in bytes. A CID says itself where it ends, so that the pins of a CID are those that begin with its bytes.
type Row = Box<[u8]>;

/// All pins, in memory (about 100 bytes each) and in a log.
pub(super) struct Ledger {
    disk: Arc<dyn Disk>,
    rows: RwLock<BTreeSet<Row>>,
    writer: Mutex<Writer>,
}

struct Writer {
    /// `None` after a failure: what the file holds is unknown.
    log: Option<Log>,
    records: usize,
    /// Records from which on it is worth writing the log anew.
    records_max: usize,
}

impl Ledger {
    pub(super) fn open(disk: Arc<dyn Disk>) -> Result<Self, PinError> {
        let (mut rows, mut records, mut known) = (BTreeSet::new(), 0, true);
        let log = Log::open(&*disk, LOG, &mut |record| {
            records += 1;
            known &= replay(&mut rows, record).is_some();
        })?;
        if !known {
            return Err(PinError::UnknownRecord);
        }
        let records_max = rows.len() * 2 + HISTORY;
        let writer = Writer { log: Some(log), records, records_max };
        Ok(Self { disk, rows: RwLock::new(rows), writer: Mutex::new(writer) })
    }

    /// Fails if an earlier write did: pins may be on the disk that are not in memory.
    pub(super) fn check(&self) -> Result<(), PinError> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.log.is_some() { Ok(()) } else { Err(LogError::Stopped.into()) }
    }

    /// Sets `pins` or removes them, durably; returns how many were not so already.
    pub(super) fn set(&self, pins: &[Pin], set: bool) -> Result<usize, PinError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let changes: BTreeSet<Row> = {
            let rows = self.rows();
            pins.iter().map(Pin::row).filter(|row| rows.contains(row) != set).collect()
        };
        // A log that failed must not look as if all were well, even where there is nothing to do.
        let log = writer.log.take().ok_or(LogError::Stopped)?;
        writer.log = Some(append(log, changes.iter(), if set { PIN } else { UNPIN })?);
        writer.records += changes.len();
        let changed = changes.len();
        // Durable first, visible then: a sweep never sees a pin gone that a power cut brings back.
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        for row in changes {
            if set {
                rows.insert(row);
            } else {
                rows.remove(&row);
            }
        }
        drop(rows);
        if writer.records >= writer.records_max {
            self.write_anew(&mut writer)?;
        }
        Ok(changed)
    }

    /// Puts a log in place of the log that holds no history.
    fn write_anew(&self, writer: &mut Writer) -> Result<(), PinError> {
        let rows = self.rows();
        writer.records_max = rows.len() * 2 + HISTORY;
        let Ok(log) = self.new_log(&rows) else {
            // The disk may be full; the log is whole as it is, and grows on.
            writer.records_max += writer.records;
            return Ok(());
        };
        writer.log = None;
        self.disk.rename(NEW_LOG, LOG).map_err(LogError::Disk)?;
        // Before this, what is appended to the new log would be lost with its name.
        self.disk.sync().map_err(LogError::Disk)?;
        (writer.log, writer.records) = (Some(log), rows.len());
        Ok(())
    }

    fn new_log(&self, rows: &BTreeSet<Row>) -> Result<Log, LogError> {
        // The rest of an earlier attempt.
        if self.disk.list()?.iter().any(|name| name == NEW_LOG) {
            self.disk.remove(NEW_LOG)?;
        }
        let mut log = Log::open(&*self.disk, NEW_LOG, &mut |_| ())?;
        let mut rows = rows.iter().peekable();
        while rows.peek().is_some() {
            log = append(log, rows.by_ref().take(ROWS), PIN)?;
        }
        Ok(log)
    }

    // What the lock guards is changed one row at a time.
    fn rows(&self) -> RwLockReadGuard<'_, BTreeSet<Row>> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn contains(&self, pin: &Pin) -> bool {
        self.rows().contains(&pin.row())
    }

    pub(super) fn page(&self, after: Option<&Pin>, limit: usize) -> Vec<Pin> {
        let after = after.map(Pin::row);
        let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        // All rows were read when they came in.
        self.rows()
            .range::<Row, _>((from, Bound::Unbounded))
            .take(limit)
            .filter_map(|row| Pin::of_row(row))
            .collect()
    }

    pub(super) fn pins_of(&self, cid: &Cid) -> Vec<Pin> {
        let first: Row = cid.to_bytes().into();
        let rows = self.rows();
        let from = rows.range::<Row, _>((Bound::Included(&first), Bound::Unbounded));
        from.take_while(|row| row.starts_with(&first)).filter_map(|row| Pin::of_row(row)).collect()
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("pins", &self.rows().len()).finish_non_exhaustive()
    }
}

/// Appends a record for each of `rows`, and gives the log back if it is whole.
fn append<'a>(mut log: Log, rows: impl Iterator<Item = &'a Row>, op: u8) -> Result<Log, LogError> {
    let records: Vec<Vec<u8>> = rows.map(|row| [&[op][..], &**row].concat()).collect();
    if !records.is_empty() {
        log.append_many(&records.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
    }
    Ok(log)
}

/// Does what `record` says; `None` if that is not known.
fn replay(rows: &mut BTreeSet<Row>, record: &[u8]) -> Option<()> {
    let (op, row) = record.split_first()?;
    Pin::of_row(row)?;
    match *op {
        PIN => drop(rows.insert(row.into())),
        UNPIN => drop(rows.remove(row)),
        _ => return None,
    }
    Some(())
}
