//! Making proofs: the tries hold the head's state, and an older one is rebuilt over them from the change sets.

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_trie::{EMPTY_ROOT_HASH, KECCAK_EMPTY};

use super::Chain;
use crate::{
    BlockRef, KvError, StateError, Table,
    proof::{self, AccountProof, SlotProof},
    state::{Staged, account_path, restored, slot_path, write},
};

/// Changed records between a block and the head that are taken back for one proof.
const CHANGES_MAX: usize = 100_000;
/// Slots of one proof.
const SLOTS_MAX: usize = 1_024;

pub(crate) fn prove(
    chain: &Chain,
    block: BlockRef,
    address: Address,
    slots: &[U256],
) -> Result<AccountProof, StateError> {
    if slots.len() > SLOTS_MAX {
        return Err(StateError::TooManySlots { asked: slots.len(), limit: SLOTS_MAX });
    }
    match prove_once(chain, block, address, slots) {
        // A block may have been committed meanwhile: none is while the writer is held.
        Err(StateError::Storage(_)) => {
            let _writer = chain.lock_writer();
            prove_once(chain, block, address, slots)
        }
        done => done,
    }
}

fn prove_once(
    chain: &Chain,
    block: BlockRef,
    address: Address,
    slots: &[U256],
) -> Result<AccountProof, StateError> {
    let not_kept = StateError::NotKept(block.number);
    if block.number < chain.oldest_state() || chain.canonical_at(block.number)? != Some(block.hash) {
        return Err(not_kept);
    }
    let Some(info) = chain.blocks().info(block)? else { return Err(not_kept) };
    let head = chain.head();
    let staged = Staged::new(chain.kv());
    if block.number < head.number() {
        let Some(changes) = restored(&staged, block.number + 1..=head.number(), CHANGES_MAX)? else {
            return Err(StateError::TooManyChanges { block: block.number, limit: CHANGES_MAX });
        };
        write(&staged, changes, head.header.state_root, None)?;
    }
    // Each node is held against the hash that leads to it, from this root on: what comes out is right, or an error.
    let root = info.header.state_root;
    let account_proof = account_path(&staged, root, keccak256(address))?;
    let account = proof::account(root, address, &account_proof).map_err(own)?;
    let storage_root = account.map_or(EMPTY_ROOT_HASH, |account| account.storage_root);
    let mut storage_proof = Vec::with_capacity(slots.len());
    for key in slots {
        let hashed = keccak256(key.to_be_bytes::<32>());
        let proof = slot_path(&staged, storage_root, keccak256(address), hashed)?;
        let value = proof::slot(storage_root, *key, &proof).map_err(own)?;
        storage_proof.push(SlotProof { key: *key, value, proof });
    }
    let is = account.unwrap_or_default();
    debug_assert!(account.is_some() || is.code_hash == KECCAK_EMPTY);
    Ok(AccountProof {
        address,
        balance: is.balance,
        nonce: is.nonce,
        // As go-ethereum writes an account that is not there.
        code_hash: account.map_or(B256::ZERO, |account| account.code_hash),
        storage_hash: account.map_or(B256::ZERO, |account| account.storage_root),
        account_proof,
        storage_proof,
    })
}

/// A path through our own trie does not prove anything.
fn own(_: proof::ProofError) -> KvError {
    KvError::corrupt(Table::AccountTrie, "a path through the trie is broken")
}
