//! From a CAR into a store.

use std::io::Read;

use cid::Cid;

use super::{CarError, CarLimits, CarReader};
use crate::{BlockStore, StoreError};

/// Bytes of blocks that are stored in one commit.
const BATCH_BYTES: usize = 8 << 20;
/// Blocks that are stored in one commit, where they are short.
const BATCH_BLOCKS: usize = 1 << 14;

/// What an import brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CarImport {
    /// The roots that the header names; nothing says that they were in the file.
    pub roots: Vec<Cid>,
    /// Blocks, repeated ones counted each time.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Reads a CAR of version 1 or 2 to its end, verifies every block and puts it into `store`, in batches; `progress` is told how many
/// blocks are durable so far. After an error the batches before it are in the store: importing again is safe, and so
/// is resuming.
pub fn import_car(
    input: impl Read,
    limits: CarLimits,
    store: &dyn BlockStore,
    progress: &mut dyn FnMut(u64),
) -> Result<CarImport, CarImportError> {
    let mut reader = CarReader::with_limits(input, limits).map_err(CarImportError::Car)?;
    let mut done = CarImport { roots: reader.roots().to_vec(), blocks: 0, bytes: 0 };
    let (mut batch, mut batch_bytes) = (Vec::new(), 0);
    while let Some(block) = reader.next_block().map_err(CarImportError::Car)? {
        done.blocks += 1;
        done.bytes += block.len() as u64;
        batch_bytes += block.len();
        batch.push(block);
        if batch_bytes >= BATCH_BYTES || batch.len() >= BATCH_BLOCKS {
            store.put_many(&batch).map_err(CarImportError::Store)?;
            batch.clear();
            batch_bytes = 0;
            progress(done.blocks);
        }
    }
    store.put_many(&batch).map_err(CarImportError::Store)?;
    progress(done.blocks);
    Ok(done)
}

/// Why a CAR was not imported to its end.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum CarImportError {
    /// The file is wrong or could not be read.
    #[error("reading the CAR failed")]
    Car(#[source] CarError),
    /// The store failed, which says nothing about the file.
    #[error("storing a block of the CAR failed")]
    Store(#[source] StoreError),
}
