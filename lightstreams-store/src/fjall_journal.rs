//! The one power cut that fjall 3.1 does not mend by itself.
//!
//! fjall drops a last batch of its journal that has no end, but refuses to open when that batch lost sectors in its middle and kept
//! its end. Every batch of ours is synced before it is acknowledged and before the next begins, so such a batch is one that nobody
//! was told of. It is made one without an end.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

use fjall::{Database, Error};

/// What the end marker of a batch ends with, in the journals of fjall 3. Zeros follow, as far as a journal is not used yet.
const END: [u8; 4] = *b"FJL\x03";
/// Bytes that are looked at at a time.
const WINDOW: u64 = 64 << 10;

/// Calls `open`, which opens the database in `folder`, again without the journal's last batch if that one is damaged.
///
/// When any other batch is damaged, the journal stays as it is and the error is fjall's.
pub(crate) fn open_without_torn_batch(
    folder: &Path,
    open: impl Fn() -> fjall::Result<Database>,
) -> fjall::Result<Database> {
    let refused = match open() {
        Err(refused @ Error::JournalRecovery(_)) => refused,
        other => return other,
    };
    let Some(mut end) = LastEnd::find(folder)? else { return Err(refused) };
    end.write(0)?;
    match open() {
        Ok(database) => Ok(database),
        Err(_) => {
            let [.., last] = END;
            end.write(last)?;
            Err(refused)
        }
    }
}

/// The last byte of the last end marker.
struct LastEnd {
    journal: File,
    at: u64,
}

impl LastEnd {
    /// Finds it in the newest journal of `folder`, if what that journal ends with is an end marker.
    fn find(folder: &Path) -> io::Result<Option<Self>> {
        let mut newest = None;
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let number = path.file_stem().and_then(OsStr::to_str).and_then(|stem| stem.parse::<u64>().ok());
            if let Some(number) = number
                && path.extension() == Some(OsStr::new("jnl"))
            {
                newest = newest.max(Some((number, path)));
            }
        }
        let Some((_, path)) = newest else { return Ok(None) };
        let mut journal = File::options().read(true).write(true).open(path)?;
        let Some(at) = last_byte(&mut journal)? else { return Ok(None) };
        let Some(start) = at.checked_sub(END.len() as u64 - 1) else { return Ok(None) };
        let mut end = [0; END.len()];
        journal.seek(SeekFrom::Start(start))?;
        journal.read_exact(&mut end)?;
        Ok((end == END).then_some(Self { journal, at }))
    }

    fn write(&mut self, byte: u8) -> io::Result<()> {
        self.journal.seek(SeekFrom::Start(self.at))?;
        self.journal.write_all(&[byte])?;
        self.journal.sync_all()
    }
}

/// Where the last byte that is not zero lies.
fn last_byte(file: &mut File) -> io::Result<Option<u64>> {
    let mut window = Vec::new();
    let mut end = file.metadata()?.len();
    while end > 0 {
        let start = end.saturating_sub(WINDOW);
        file.seek(SeekFrom::Start(start))?;
        window.clear();
        Read::take(&mut *file, end - start).read_to_end(&mut window)?;
        if let Some(at) = window.iter().rposition(|byte| *byte != 0) {
            return Ok(Some(start + at as u64));
        }
        end = start;
    }
    Ok(None)
}
