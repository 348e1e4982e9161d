//! Paths through the stored tries, for proofs.

use alloy_primitives::{B256, Bytes, keccak256};
use alloy_rlp::Decodable;
use alloy_trie::{
    EMPTY_ROOT_HASH, Nibbles,
    nodes::{RlpNode, TrieNode},
};

use super::Staged;
use crate::{KvError, Table, tables};

/// The nodes of the account trie that lead to `account`.
pub(crate) fn account_path(staged: &Staged<'_>, root: B256, account: B256) -> Result<Vec<Bytes>, KvError> {
    path(Table::AccountTrie, root, account, |path| {
        staged.get(Table::AccountTrie, &tables::account_node(path))
    })
}

/// The nodes of the storage trie of `account` that lead to `slot`.
pub(crate) fn slot_path(
    staged: &Staged<'_>,
    root: B256,
    account: B256,
    slot: B256,
) -> Result<Vec<Bytes>, KvError> {
    path(Table::StorageTrie, root, slot, |path| {
        staged.get(Table::StorageTrie, &tables::storage_node(account, path))
    })
}

/// The nodes from the root to where `key` is or would be, those inside their parents left out. Each hashes to what its parent
/// refers to.
fn path(
    table: Table,
    root: B256,
    key: B256,
    node: impl Fn(&Nibbles) -> Result<Option<Vec<u8>>, KvError>,
) -> Result<Vec<Bytes>, KvError> {
    let mut nodes = Vec::new();
    if root == EMPTY_ROOT_HASH {
        return Ok(nodes);
    }
    let key = Nibbles::unpack(key);
    let (mut link, mut depth) = (RlpNode::word_rlp(&root), 0);
    // A step goes down by a nibble at least, and there are 64.
    loop {
        let rlp: Bytes = match link.as_hash() {
            Some(hash) => {
                let stored = node(&key.slice(..depth))?.filter(|rlp| keccak256(rlp) == hash);
                let rlp =
                    stored.ok_or_else(|| KvError::corrupt(table, "a trie node is missing or damaged"))?;
                nodes.push(rlp.into());
                nodes.last().cloned().unwrap_or_default()
            }
            None => Bytes::copy_from_slice(&link),
        };
        let damaged = || KvError::corrupt(table, "a trie node does not decode");
        link = match TrieNode::decode(&mut rlp.as_ref()).map_err(|_| damaged())? {
            TrieNode::Extension(extension)
                if !extension.key.is_empty() && key.slice(depth..).starts_with(&extension.key) =>
            {
                depth += extension.key.len();
                extension.child
            }
            TrieNode::Branch(branch) => {
                let nibble = key.get(depth).ok_or_else(damaged)?;
                if !branch.state_mask.is_bit_set(nibble) {
                    return Ok(nodes);
                }
                depth += 1;
                let before = (0..nibble).filter(|other| branch.state_mask.is_bit_set(*other)).count();
                branch.stack.into_iter().nth(before).ok_or_else(damaged)?
            }
            _ => return Ok(nodes),
        };
    }
}
