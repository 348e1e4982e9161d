//! Writing a state: flat records, tries, and the values that were there before.

use std::{collections::BTreeMap, ops::RangeInclusive};

use alloy_primitives::{B256, U256, utils::keccak256_cached};
use alloy_rlp::Decodable;
use alloy_trie::{EMPTY_ROOT_HASH, Nibbles, TrieAccount};
use revm::{primitives::KECCAK_EMPTY, state::EvmState};

use super::{Staged, trie::NodeSource};
use crate::{KvError, Table, tables};

/// What is to become of one account.
#[derive(Default)]
pub(crate) struct AccountChange {
    /// Nonce, balance and code hash from now on; `Some(None)` if the account goes; `None` if they stay.
    pub(crate) info: Option<Option<AccountFields>>,
    /// Whether all its slots go first.
    pub(crate) wipe: bool,
    /// Values of slots by the keccak of their keys; zero removes.
    pub(crate) slots: BTreeMap<B256, U256>,
}

/// The fields of an account beside its storage.
#[derive(Clone, Copy)]
pub(crate) struct AccountFields {
    pub(crate) nonce: u64,
    pub(crate) balance: U256,
    pub(crate) code_hash: B256,
}

/// Changes by the keccak of the account's address.
pub(crate) type StateChanges = BTreeMap<B256, AccountChange>;

/// The flat records that a block changes, with their values before it.
#[derive(Default)]
pub(crate) struct ChangeLog {
    accounts: BTreeMap<B256, Option<TrieAccount>>,
    slots: BTreeMap<(B256, B256), U256>,
}

impl ChangeLog {
    /// Stages the log as the change set of block `number`, and its entries in the history.
    pub(crate) fn stage(self, staged: &Staged<'_>, number: u64) {
        let mut record = Vec::with_capacity(self.accounts.len() * 33 + self.slots.len() * 65);
        // An entry is the length of the key (32 or 64) and the key; the value before is in the history.
        let mut entry = |key: &[u8], before: Vec<u8>| {
            record.push(key.len() as u8);
            record.extend_from_slice(key);
            staged.put(history_table(key), tables::dated(key, number), before);
        };
        for (address, before) in self.accounts {
            entry(address.as_slice(), before.map(alloy_rlp::encode).unwrap_or_default());
        }
        for ((address, slot), before) in self.slots {
            entry(&tables::slot(address, slot), slot_record(before).unwrap_or_default());
        }
        staged.put(Table::Changes, tables::number(number), record);
    }
}

/// The record of a slot that holds `value`.
fn slot_record(value: U256) -> Option<Vec<u8>> {
    (!value.is_zero()).then(|| alloy_rlp::encode(value))
}

/// The history in which the values of `key` are.
pub(crate) fn history_table(key: &[u8]) -> Table {
    if key.len() == 32 { Table::AccountHistory } else { Table::SlotHistory }
}

/// The keys of what changed in block `number`.
pub(crate) fn change_set(staged: &Staged<'_>, number: u64) -> Result<Vec<Vec<u8>>, KvError> {
    let damaged = || KvError::corrupt(Table::Changes, "a change set is cut short");
    let Some(record) = staged.get(Table::Changes, &tables::number(number))? else {
        return Err(KvError::corrupt(Table::Changes, "a change set is missing"));
    };
    let mut rest = record.as_slice();
    let mut keys = Vec::new();
    while let Some((length @ (32 | 64), tail)) = rest.split_first() {
        let (key, tail) = tail.split_at_checked(usize::from(*length)).ok_or_else(damaged)?;
        keys.push(key.to_vec());
        rest = tail;
    }
    if rest.is_empty() { Ok(keys) } else { Err(damaged()) }
}

/// Forgets the change set of block `number` and its entries in the history.
pub(crate) fn forget(staged: &Staged<'_>, number: u64) -> Result<(), KvError> {
    for key in change_set(staged, number)? {
        staged.remove(history_table(&key), tables::dated(&key, number));
    }
    staged.remove(Table::Changes, tables::number(number));
    Ok(())
}

/// Takes back what block `number` changed, and returns the root of the state before it.
pub(crate) fn unwind(staged: &Staged<'_>, number: u64, root: B256) -> Result<B256, KvError> {
    let mut changes = StateChanges::new();
    restore(staged, change_set(staged, number)?, number, &mut changes)?;
    forget(staged, number)?;
    write(staged, changes, root, None)
}

/// What leads back to the state before the first of `blocks` from that after the last; `None` where that is more than
/// `limit` blocks and records in all.
pub(crate) fn restored(
    staged: &Staged<'_>,
    blocks: RangeInclusive<u64>,
    limit: usize,
) -> Result<Option<StateChanges>, KvError> {
    let mut changes = StateChanges::new();
    let mut records = 0;
    // Of the values that a record had, that before the first block counts: it is put last.
    for number in blocks.rev() {
        let keys = change_set(staged, number)?;
        records += 1 + keys.len();
        if records > limit {
            return Ok(None);
        }
        restore(staged, keys, number, &mut changes)?;
    }
    Ok(Some(changes))
}

/// Puts what was under `keys` before block `number` into `changes`.
fn restore(
    staged: &Staged<'_>,
    keys: Vec<Vec<u8>>,
    number: u64,
    changes: &mut StateChanges,
) -> Result<(), KvError> {
    for key in keys {
        let table = history_table(&key);
        let value = staged
            .get(table, &tables::dated(&key, number))?
            .ok_or_else(|| KvError::corrupt(table, "a value of a change set is missing"))?;
        let (account, slot) = key.split_at_checked(32).unwrap_or((&key, &[]));
        let change = changes.entry(B256::from_slice(account)).or_default();
        if slot.is_empty() {
            change.info = Some(if value.is_empty() {
                None
            } else {
                let account = decode_account(&value)?;
                Some(AccountFields {
                    nonce: account.nonce,
                    balance: account.balance,
                    code_hash: account.code_hash,
                })
            });
        } else {
            change.slots.insert(B256::from_slice(slot), decode_slot(&value)?);
        }
    }
    Ok(())
}

/// Writes `changes` over the state with the root `root`, notes what was there before in `log`, and returns the new root.
pub(crate) fn write(
    staged: &Staged<'_>,
    changes: StateChanges,
    root: B256,
    mut log: Option<&mut ChangeLog>,
) -> Result<B256, KvError> {
    staged.hot().begin(root);
    let mut trie = staged.hot().take_account_trie(root);
    let source = AccountNodes(staged);
    for (address, change) in changes {
        let before = staged.account(address)?;
        let mut storage_root = before.map_or(EMPTY_ROOT_HASH, |account| account.storage_root);
        if change.wipe && storage_root != EMPTY_ROOT_HASH {
            wipe(staged, address, log.as_deref_mut())?;
            storage_root = EMPTY_ROOT_HASH;
        }
        if !change.slots.is_empty() {
            storage_root = write_slots(staged, address, change.slots, storage_root, log.as_deref_mut())?;
        }
        let fields = match change.info {
            Some(fields) => fields,
            None => before.map(|account| AccountFields {
                nonce: account.nonce,
                balance: account.balance,
                code_hash: account.code_hash,
            }),
        };
        let after = fields
            .map(|fields| TrieAccount::new(fields.nonce, fields.balance, storage_root, fields.code_hash));
        if after == before {
            continue;
        }
        if let Some(log) = log.as_deref_mut() {
            log.accounts.entry(address).or_insert(before);
        }
        match after {
            Some(account) => {
                let record = alloy_rlp::encode(account);
                trie.insert(&source, address, record.clone())?;
                staged.put(Table::Accounts, address.as_slice(), record);
            }
            None => {
                trie.remove(&source, address)?;
                staged.remove(Table::Accounts, address.as_slice());
            }
        }
        staged.hot().set_account(address, after);
    }
    for (path, node) in trie.commit() {
        match node {
            Some(node) => staged.put(Table::AccountTrie, tables::account_node(&path), node),
            None => staged.remove(Table::AccountTrie, tables::account_node(&path)),
        }
    }
    let root = trie.root();
    staged.hot().put_account_trie(trie);
    Ok(root)
}

fn write_slots(
    staged: &Staged<'_>,
    address: B256,
    slots: BTreeMap<B256, U256>,
    root: B256,
    mut log: Option<&mut ChangeLog>,
) -> Result<B256, KvError> {
    let mut trie = staged.hot().take_storage_trie(address, root);
    let source = StorageNodes { staged, address };
    for (slot, after) in slots {
        let before = staged.slot(address, slot)?;
        if before == after {
            continue;
        }
        let key = tables::slot(address, slot);
        if let Some(log) = log.as_deref_mut() {
            log.slots.entry((address, slot)).or_insert(before);
        }
        match slot_record(after) {
            Some(record) => {
                trie.insert(&source, slot, record.clone())?;
                staged.put(Table::Slots, key, record);
            }
            None => {
                trie.remove(&source, slot)?;
                staged.remove(Table::Slots, key);
            }
        }
        staged.hot().set_slot(address, slot, after);
    }
    for (path, node) in trie.commit() {
        let key = tables::storage_node(address, &path);
        match node {
            Some(node) => staged.put(Table::StorageTrie, key, node),
            None => staged.remove(Table::StorageTrie, key),
        }
    }
    let root = trie.root();
    staged.hot().put_storage_trie(address, trie);
    Ok(root)
}

fn wipe(staged: &Staged<'_>, address: B256, mut log: Option<&mut ChangeLog>) -> Result<(), KvError> {
    for (key, value) in staged.with_prefix(Table::Slots, address.as_slice())? {
        let slot = key.get(32..).and_then(|slot| B256::try_from(slot).ok());
        let slot =
            slot.ok_or_else(|| KvError::corrupt(Table::Slots, "the key of a slot has another length"))?;
        if let Some(log) = log.as_deref_mut() {
            log.slots.entry((address, slot)).or_insert(decode_slot(&value)?);
        }
        staged.hot().set_slot(address, slot, U256::ZERO);
        staged.remove(Table::Slots, key);
    }
    for (key, _) in staged.with_prefix(Table::StorageTrie, address.as_slice())? {
        staged.remove(Table::StorageTrie, key);
    }
    Ok(())
}

/// The changes that the EVM's journal gathered in one or several transactions, and the code it met for the first time, staged.
pub(crate) fn changes_of(staged: &Staged<'_>, state: EvmState) -> StateChanges {
    let mut changes = StateChanges::new();
    for (address, account) in state {
        if !account.is_touched() {
            continue;
        }
        let destroyed = account.is_selfdestructed();
        // A later transaction that meets a destroyed account clears what it had, and may pay it. EIP-161: what is empty goes; before, the
        // journal says that an empty account was created.
        let gone =
            account.is_selfdestructed_locally() || account.is_empty() && (destroyed || !account.is_created());
        let wipe = gone || destroyed || account.is_created();
        let info = (!gone).then_some(AccountFields {
            nonce: account.info.nonce,
            balance: account.info.balance,
            code_hash: match account.info.code_hash {
                B256::ZERO => KECCAK_EMPTY,
                hash => hash,
            },
        });
        if let Some(AccountFields { code_hash, .. }) = info
            && let Some(code) = account.info.code
            && code_hash != KECCAK_EMPTY
            && staged.hot().code(code_hash).is_none()
        {
            staged.put(Table::Code, code_hash.as_slice(), code.original_bytes().to_vec());
            staged.hot().set_code(code_hash, code);
        }
        let mut slots = BTreeMap::new();
        if !gone {
            // The journal knows a slot's value before the last transaction only, so all that were met are compared with the state.
            for (slot, value) in account.storage {
                slots.insert(keccak256_cached(slot.to_be_bytes::<32>()), value.present_value);
            }
        }
        changes.insert(keccak256_cached(address), AccountChange { info: Some(info), wipe, slots });
    }
    changes
}

pub(crate) fn decode_account(mut record: &[u8]) -> Result<TrieAccount, KvError> {
    TrieAccount::decode(&mut record)
        .map_err(|_| KvError::corrupt(Table::Accounts, "an account does not decode"))
}

/// The value in the record of a slot; no record, no value.
pub(crate) fn decode_slot(mut record: &[u8]) -> Result<U256, KvError> {
    if record.is_empty() {
        return Ok(U256::ZERO);
    }
    U256::decode(&mut record).map_err(|_| KvError::corrupt(Table::Slots, "a slot does not decode"))
}

struct AccountNodes<'a, 'kv>(&'a Staged<'kv>);

impl NodeSource for AccountNodes<'_, '_> {
    const TABLE: Table = Table::AccountTrie;

    fn node(&self, path: &Nibbles) -> Result<Option<Vec<u8>>, KvError> {
        self.0.get(Table::AccountTrie, &tables::account_node(path))
    }
}

struct StorageNodes<'a, 'kv> {
    staged: &'a Staged<'kv>,
    address: B256,
}

impl NodeSource for StorageNodes<'_, '_> {
    const TABLE: Table = Table::StorageTrie;

    fn node(&self, path: &Nibbles) -> Result<Option<Vec<u8>>, KvError> {
        self.staged.get(Table::StorageTrie, &tables::storage_node(self.address, path))
    }
}
