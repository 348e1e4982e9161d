//! Writing a state: flat records, tries, and the values that were there before.

use std::{collections::BTreeMap, ops::RangeInclusive};

use alloy_primitives::{B256, U256};
use alloy_rlp::Decodable;
use alloy_trie::{EMPTY_ROOT_HASH, Nibbles, TrieAccount};
use revm::{database::BundleState, primitives::KECCAK_EMPTY};

use super::{
    Staged,
    trie::{NodeSource, Trie},
};
use crate::{Entry, KvError, Table, tables};

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
    before: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl ChangeLog {
    fn note(&mut self, key: &[u8], before: impl FnOnce() -> Option<Vec<u8>>) {
        if !self.before.contains_key(key) {
            self.before.insert(key.to_vec(), before());
        }
    }

    /// Stages the log as the change set of block `number`, and its entries in the history.
    pub(crate) fn stage(self, staged: &Staged<'_>, number: u64) {
        let mut record = Vec::new();
        for (key, before) in self.before {
            // An entry is: length of the key (32 or 64), key, length of the value (0: none), value.
            record.push(key.len() as u8);
            record.extend_from_slice(&key);
            let value = before.unwrap_or_default();
            record.push(value.len() as u8);
            record.extend_from_slice(&value);
            staged.put(history_table(&key), tables::dated(&key, number), value);
        }
        staged.put(Table::Changes, tables::number(number), record);
    }
}

/// The history in which the values of `key` are.
fn history_table(key: &[u8]) -> Table {
    if key.len() == 32 { Table::AccountHistory } else { Table::SlotHistory }
}

/// What changed in block `number`: keys with their values before, empty for none.
fn change_set(staged: &Staged<'_>, number: u64) -> Result<Vec<Entry>, KvError> {
    let damaged = || KvError::corrupt(Table::Changes, "a change set is cut short");
    let Some(record) = staged.get(Table::Changes, &tables::number(number))? else {
        return Err(KvError::corrupt(Table::Changes, "a change set is missing"));
    };
    let mut rest = record.as_slice();
    let mut changes = Vec::new();
    let take = |rest: &mut &[u8]| -> Result<Vec<u8>, KvError> {
        let (length, tail) = rest.split_first().ok_or_else(damaged)?;
        let (bytes, tail) = tail.split_at_checked(usize::from(*length)).ok_or_else(damaged)?;
        *rest = tail;
        Ok(bytes.to_vec())
    };
    while !rest.is_empty() {
        let key = take(&mut rest)?;
        let value = take(&mut rest)?;
        if key.len() != 32 && key.len() != 64 {
            return Err(damaged());
        }
        changes.push((key, value));
    }
    Ok(changes)
}

/// Forgets the change set of block `number` and its entries in the history.
pub(crate) fn forget(staged: &Staged<'_>, number: u64) -> Result<(), KvError> {
    for (key, _) in change_set(staged, number)? {
        staged.remove(history_table(&key), tables::dated(&key, number));
    }
    staged.remove(Table::Changes, tables::number(number));
    Ok(())
}

/// Takes back what block `number` changed, and returns the root of the state before it.
pub(crate) fn unwind(staged: &Staged<'_>, number: u64, root: B256) -> Result<B256, KvError> {
    let mut changes = StateChanges::new();
    restore(change_set(staged, number)?, &mut changes)?;
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
        let set = change_set(staged, number)?;
        records += 1 + set.len();
        if records > limit {
            return Ok(None);
        }
        restore(set, &mut changes)?;
    }
    Ok(Some(changes))
}

/// Puts what was before a change set into `changes`.
fn restore(set: Vec<Entry>, changes: &mut StateChanges) -> Result<(), KvError> {
    for (key, value) in set {
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
    let mut trie = Trie::open(AccountNodes(staged), root);
    for (address, change) in changes {
        let before = staged.get(Table::Accounts, address.as_slice())?;
        let old = before.as_deref().map(decode_account).transpose()?;
        let mut storage_root = old.map_or(EMPTY_ROOT_HASH, |account| account.storage_root);
        if change.wipe && storage_root != EMPTY_ROOT_HASH {
            wipe(staged, address, log.as_deref_mut())?;
            storage_root = EMPTY_ROOT_HASH;
        }
        if !change.slots.is_empty() {
            storage_root = write_slots(staged, address, change.slots, storage_root, log.as_deref_mut())?;
        }
        let fields = match change.info {
            Some(fields) => fields,
            None => old.map(|account| AccountFields {
                nonce: account.nonce,
                balance: account.balance,
                code_hash: account.code_hash,
            }),
        };
        let after = fields.map(|fields| {
            let account = TrieAccount::new(fields.nonce, fields.balance, storage_root, fields.code_hash);
            alloy_rlp::encode(account)
        });
        if after == before {
            continue;
        }
        if let Some(log) = log.as_deref_mut() {
            log.note(address.as_slice(), || before);
        }
        match after {
            Some(record) => {
                trie.insert(address, record.clone())?;
                staged.put(Table::Accounts, address.as_slice(), record);
            }
            None => {
                trie.remove(address)?;
                staged.remove(Table::Accounts, address.as_slice());
            }
        }
    }
    let update = trie.commit();
    for (path, node) in update.nodes {
        match node {
            Some(node) => staged.put(Table::AccountTrie, tables::account_node(&path), node),
            None => staged.remove(Table::AccountTrie, tables::account_node(&path)),
        }
    }
    Ok(update.root)
}

fn write_slots(
    staged: &Staged<'_>,
    address: B256,
    slots: BTreeMap<B256, U256>,
    root: B256,
    mut log: Option<&mut ChangeLog>,
) -> Result<B256, KvError> {
    let mut trie = Trie::open(StorageNodes { staged, address }, root);
    for (slot, value) in slots {
        let key = tables::slot(address, slot);
        let before = staged.get(Table::Slots, &key)?;
        let after = (!value.is_zero()).then(|| alloy_rlp::encode(value));
        if before == after {
            continue;
        }
        if let Some(log) = log.as_deref_mut() {
            log.note(&key, || before);
        }
        match after {
            Some(record) => {
                trie.insert(slot, record.clone())?;
                staged.put(Table::Slots, key, record);
            }
            None => {
                trie.remove(slot)?;
                staged.remove(Table::Slots, key);
            }
        }
    }
    let update = trie.commit();
    for (path, node) in update.nodes {
        let key = tables::storage_node(address, &path);
        match node {
            Some(node) => staged.put(Table::StorageTrie, key, node),
            None => staged.remove(Table::StorageTrie, key),
        }
    }
    Ok(update.root)
}

fn wipe(staged: &Staged<'_>, address: B256, mut log: Option<&mut ChangeLog>) -> Result<(), KvError> {
    for (key, value) in staged.with_prefix(Table::Slots, address.as_slice())? {
        if let Some(log) = log.as_deref_mut() {
            log.note(&key, || Some(value));
        }
        staged.remove(Table::Slots, key);
    }
    for (key, _) in staged.with_prefix(Table::StorageTrie, address.as_slice())? {
        staged.remove(Table::StorageTrie, key);
    }
    Ok(())
}

/// The changes that the EVM gathered, and the code it met for the first time, staged.
pub(crate) fn changes_of(staged: &Staged<'_>, bundle: &BundleState) -> StateChanges {
    use alloy_primitives::keccak256;
    use revm::database::OriginalValuesKnown;

    let plain = bundle.to_plain_state(OriginalValuesKnown::Yes);
    let mut changes = StateChanges::new();
    for (address, info) in plain.accounts {
        changes.entry(keccak256(address)).or_default().info = Some(info.map(|info| AccountFields {
            nonce: info.nonce,
            balance: info.balance,
            code_hash: if info.code_hash.is_zero() { KECCAK_EMPTY } else { info.code_hash },
        }));
    }
    for storage in plain.storage {
        let change = changes.entry(keccak256(storage.address)).or_default();
        change.wipe = storage.wipe_storage;
        change.slots = storage
            .storage
            .into_iter()
            .map(|(slot, value)| (keccak256(slot.to_be_bytes::<32>()), value))
            .collect();
    }
    for (hash, code) in plain.contracts {
        staged.put(Table::Code, hash.as_slice(), code.original_bytes().to_vec());
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
