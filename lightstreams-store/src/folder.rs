//! Whose folder it is.
//!
//! ```text
//! <folder>/FORMAT     "lightstreams-store <backend> 1\n"
//! <folder>/db/        the database, as its library lays it out
//! ```
//!
//! Without the first file, an operator who changes the backend in the configuration would see an empty store.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{Disk, FileDisk, StoreError, StoreOp};

const MARKER: &str = "FORMAT";
const NEW_MARKER: &str = "FORMAT.new";

/// Makes sure that the folder `path` is, or becomes, that of a store on `backend`; returns where its database is.
pub(crate) fn claim(path: &Path, backend: &str) -> Result<PathBuf, StoreError> {
    let expected = format!("lightstreams-store {backend} 1\n");
    let io_failed = |e: io::Error| StoreError::new(StoreOp::Open, e);
    let disk = FileDisk::open(path).map_err(io_failed)?;
    match fs::read_to_string(disk.path().join(MARKER)) {
        Ok(found) if found == expected => {}
        Ok(found) => {
            let found = found.lines().next().unwrap_or_default();
            let message = format!("the folder belongs to \"{found}\", not to \"{}\"", expected.trim_end());
            return Err(StoreError::new(StoreOp::Open, message));
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => mark(&disk, &expected)?,
        Err(e) => return Err(io_failed(e)),
    }
    Ok(disk.path().join("db"))
}

/// Marks an empty folder, durably.
fn mark(disk: &FileDisk, marker: &str) -> Result<(), StoreError> {
    let failed = |e: io::Error| StoreError::new(StoreOp::Open, e);
    for entry in fs::read_dir(disk.path()).map_err(failed)? {
        // An earlier attempt may have been cut off.
        if entry.map_err(failed)?.file_name() != NEW_MARKER {
            return Err(StoreError::new(StoreOp::Open, "the folder holds other files than a block store"));
        }
    }
    let write = || {
        let mut file = disk.open(NEW_MARKER)?;
        file.truncate(0)?;
        file.append(marker.as_bytes())?;
        file.sync()?;
        disk.rename(NEW_MARKER, MARKER)?;
        disk.sync()
    };
    write().map_err(failed)
}
