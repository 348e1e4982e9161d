//! Opening: a new database gets the genesis, one with a chain in it must hold the same.

use std::sync::{Arc, Mutex, RwLock, atomic::AtomicU64};

use alloy_primitives::B256;

use super::{Chain, Observers, Options, Tip, Writer};
use crate::{
    Block, BlockRef, Difference, Engine, Genesis, HeadInfo, Kv, KvError, OpenError, Table,
    blocks::{Blocks, stage_canonical, stage_known},
    difference::genesis_differences,
    genesis, native,
    pool::Pool,
    rules::Rules,
    state::{AccountChange, AccountFields, Staged, StateChanges, write},
    tables,
};
use alloy_primitives::{U256, keccak256};
use alloy_trie::{EMPTY_ROOT_HASH, KECCAK_EMPTY};

/// Version of the tables and the records in them.
pub(crate) const SCHEMA: u32 = 2;
/// States that every chain keeps below its head.
const STATE_HISTORY_MIN: u64 = 128;

pub(super) fn open(
    genesis: Genesis,
    kv: Arc<dyn Kv>,
    engine: Arc<dyn Engine>,
    mut options: Options,
) -> Result<Chain, OpenError> {
    options.state_history = options.state_history.max(STATE_HISTORY_MIN);
    if let Some((address, reason)) = native::conflict(&options.natives) {
        return Err(OpenError::Native { address, reason });
    }
    let header = genesis.header();
    engine.verify_genesis(&header)?;
    let genesis_hash = engine.block_hash(&header);
    let info = HeadInfo { total_difficulty: header.difficulty, hash: genesis_hash, header };
    match kv.get(Table::Meta, tables::SCHEMA)? {
        None => write_genesis(&genesis, &info, kv.as_ref())?,
        Some(found) if found == SCHEMA.to_be_bytes() => check_stored(&genesis, genesis_hash, kv.as_ref())?,
        Some(found) => {
            let found = match <[u8; 4]>::try_from(found.as_slice()) {
                Ok(version) => u32::from_be_bytes(version).to_string(),
                Err(_) => "unknown".into(),
            };
            return Err(OpenError::Schema { found, expected: SCHEMA });
        }
    }
    let head = Blocks(kv.as_ref())
        .info(stored_ref(kv.as_ref(), tables::HEAD)?)?
        .ok_or_else(|| KvError::corrupt(Table::Headers, "the head is missing"))?;
    let final_block = stored_ref(kv.as_ref(), tables::FINAL)?;
    let oldest = oldest_state(kv.as_ref(), &head)?;
    Ok(Chain {
        rules: Rules::new(&genesis, engine.permits()).with_natives(&options.natives),
        genesis,
        genesis_hash,
        engine,
        kv,
        tip: RwLock::new(Tip { head, final_block }),
        writer: Mutex::new(Writer::default()),
        reorgs: RwLock::new(0),
        oldest_state: AtomicU64::new(oldest),
        pool: Mutex::new(Pool::new(options.pool)),
        options,
        heads: Observers::new(),
        taken: Observers::new(),
    })
}

fn stored_ref(kv: &dyn Kv, name: &'static [u8]) -> Result<BlockRef, KvError> {
    let record = kv.get(Table::Meta, name)?;
    let record = record.ok_or_else(|| KvError::corrupt(Table::Meta, "head or final block is missing"))?;
    tables::decode_ref(Table::Meta, &record)
}

/// States below the oldest change set are gone.
fn oldest_state(kv: &dyn Kv, head: &HeadInfo) -> Result<u64, KvError> {
    match kv.scan(Table::Changes, &[], 1)?.pop() {
        Some((key, _)) => Ok(tables::decode_number(Table::Changes, &key)?.saturating_sub(1)),
        None => Ok(head.number()),
    }
}

fn write_genesis(genesis: &Genesis, info: &HeadInfo, kv: &dyn Kv) -> Result<(), OpenError> {
    let staged = Staged::new(kv);
    let root = write_state(genesis, &staged)?;
    if root != info.header.state_root {
        return Err(KvError::corrupt(Table::AccountTrie, "the genesis state has another root").into());
    }
    let mut block = Block::uncle(info.header.clone());
    block.body.withdrawals = info.header.withdrawals_root.map(|_| Default::default());
    stage_known(&staged, info, &block, &[]);
    stage_canonical(&staged, info, &block, &[]);
    staged.put(Table::Meta, tables::FINAL, tables::encode_ref(info.block_ref()));
    staged.put(Table::Meta, tables::GENESIS, genesis_record(genesis, info.hash));
    staged.put(Table::Meta, tables::GENESIS_FILE, genesis_file(genesis));
    staged.put(Table::Meta, tables::SCHEMA, SCHEMA.to_be_bytes());
    Ok(kv.commit(staged.into_batch())?)
}

/// Stages the accounts of `genesis`, and returns the root of their state.
pub(crate) fn write_state(genesis: &Genesis, staged: &Staged<'_>) -> Result<B256, KvError> {
    let mut changes = StateChanges::new();
    for (address, account) in genesis.alloc() {
        let code = genesis::code_of(account);
        if let Some((hash, code)) = code {
            staged.put(Table::Code, hash.as_slice(), code.to_vec());
        }
        let fields = AccountFields {
            nonce: account.nonce.unwrap_or(0),
            balance: account.balance,
            code_hash: code.map_or(KECCAK_EMPTY, |(hash, _)| hash),
        };
        let slots = account
            .storage
            .iter()
            .flatten()
            .map(|(slot, value)| (keccak256(slot), U256::from_be_bytes(value.0)));
        changes.insert(
            keccak256(address),
            AccountChange { info: Some(Some(fields)), wipe: false, slots: slots.collect() },
        );
    }
    write(staged, changes, EMPTY_ROOT_HASH, None)
}

/// The hash of the genesis, and its configuration, which is not part of the hash.
fn genesis_record(genesis: &Genesis, hash: B256) -> Vec<u8> {
    let config = serde_json::to_vec(&genesis.file().config).unwrap_or_default();
    [hash.as_slice(), &config].concat()
}

/// The whole file, with which another one can be compared.
fn genesis_file(genesis: &Genesis) -> Vec<u8> {
    serde_json::to_vec(genesis.file()).unwrap_or_default()
}

fn check_stored(genesis: &Genesis, given: B256, kv: &dyn Kv) -> Result<(), OpenError> {
    let damaged = || KvError::corrupt(Table::Meta, "the genesis record does not decode");
    let record = kv.get(Table::Meta, tables::GENESIS)?.ok_or_else(damaged)?;
    let (hash, _) = record.split_first_chunk::<32>().ok_or_else(damaged)?;
    let stored = B256::from(*hash);
    if stored != given {
        let differences = genesis_differences(kv, genesis)?.unwrap_or_default();
        return Err(OpenError::OtherGenesis { stored, given, differences });
    }
    let new_record = genesis_record(genesis, given);
    if record == new_record {
        return Ok(());
    }
    if let Some(Difference { field, stored, given, .. }) =
        genesis_differences(kv, genesis)?.unwrap_or_default().into_iter().find(|found| !found.allowed)
    {
        return Err(OpenError::OtherConfig { field, stored, given });
    }
    // What differs lies ahead: the configuration given is the one from now on.
    let mut batch = crate::Batch::default();
    batch.put(Table::Meta, tables::GENESIS, new_record);
    batch.put(Table::Meta, tables::GENESIS_FILE, genesis_file(genesis));
    Ok(kv.commit(batch)?)
}
