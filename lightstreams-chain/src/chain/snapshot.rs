//! Copies of the whole database, as one moment saw it, while blocks go on being imported.

use alloy_primitives::B256;
use serde::{Deserialize, Serialize};

use super::{Chain, open::SCHEMA};
use crate::{Batch, BlockRef, Kv, KvError, Table, blocks::Blocks, tables};

/// A batch of the copy holds at least so many bytes, and is one commit.
const BATCH_BYTES: usize = 4 << 20;

/// What a copy of a chain holds, so that whoever starts from it can see whether it is what they want.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotInfo {
    /// Version of the tables.
    pub schema: u32,
    /// The chain id.
    pub chain_id: u64,
    /// Hash of the genesis.
    pub genesis: B256,
    /// The head.
    pub head: BlockRef,
    /// Root of the state after the head.
    pub state_root: B256,
    /// The newest final block.
    pub final_block: BlockRef,
    /// Number of the oldest block whose state is in it.
    pub oldest_state: u64,
    /// Records.
    pub records: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

/// Why no copy was made.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The database to copy into holds something already: choose an empty one.
    #[error("the database to copy into is not empty: there are records in {}", .0.name())]
    NotEmpty(Table),
    /// The database copied into failed.
    #[error("cannot write the copy")]
    Write(#[source] KvError),
    /// Our storage failed.
    #[error("chain storage failed")]
    Storage(#[from] KvError),
}

impl Chain {
    /// Copies the chain as it is now into `to`, which is empty and may be of another kind; tells `progress` how many records and bytes
    /// are copied. Blocks may be imported meanwhile and are not in the copy.
    ///
    /// A copy that was interrupted has no schema, and is to be thrown away.
    pub fn copy_to(
        &self,
        to: &dyn Kv,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<SnapshotInfo, SnapshotError> {
        for table in Table::ALL {
            if !to.scan(table, &[], 1).map_err(SnapshotError::Write)?.is_empty() {
                return Err(SnapshotError::NotEmpty(table));
            }
        }
        let view = self.kv.view()?;
        let view = view.as_ref();
        let (mut records, mut bytes) = (0, 0);
        // The names, among them the schema, come last: without them nothing takes the copy for a chain.
        let tables = Table::ALL.into_iter().filter(|table| *table != Table::Meta).chain([Table::Meta]);
        let mut batch = Batch::default();
        let mut gathered = 0;
        for table in tables {
            if table == Table::Meta {
                to.commit(std::mem::take(&mut batch)).map_err(SnapshotError::Write)?;
            }
            let (mut from, most) = (Vec::new(), tables::step(table));
            loop {
                let step = view.scan(table, &from, most)?;
                let Some((last, _)) = step.last() else { break };
                from = [last.as_slice(), &[0]].concat();
                let full = step.len() == most;
                for (key, value) in step {
                    records += 1;
                    gathered += key.len() + value.len();
                    bytes += (key.len() + value.len()) as u64;
                    batch.put(table, key, value);
                }
                if gathered >= BATCH_BYTES {
                    gathered = 0;
                    to.commit(std::mem::take(&mut batch)).map_err(SnapshotError::Write)?;
                }
                progress(records, bytes);
                if !full {
                    break;
                }
            }
        }
        to.commit(batch).map_err(SnapshotError::Write)?;
        let named = |name: &[u8]| {
            let record = view.get(Table::Meta, name)?.unwrap_or_default();
            tables::decode_ref(Table::Meta, &record)
        };
        let head = named(tables::HEAD)?;
        let info = Blocks(view).info(head)?;
        let info = info.ok_or_else(|| KvError::corrupt(Table::Headers, "the head is missing"))?;
        let oldest = match view.scan(Table::Changes, &[], 1)?.pop() {
            Some((key, _)) => tables::decode_number(Table::Changes, &key)?.saturating_sub(1),
            None => head.number,
        };
        Ok(SnapshotInfo {
            schema: SCHEMA,
            chain_id: self.chain_id(),
            genesis: self.genesis_hash,
            head,
            state_root: info.header.state_root,
            final_block: named(tables::FINAL)?,
            oldest_state: oldest,
            records,
            bytes,
        })
    }
}
