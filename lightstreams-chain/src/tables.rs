//! The keys of the chain's tables, and the forms of the records that are not plain RLP.
//!
//! Numbers are 8 bytes, big-endian, so that ranges of blocks are ranges of keys.

use alloy_primitives::{Address, B256};
use alloy_trie::Nibbles;

use crate::{BlockRef, KvError, Table};

pub(crate) const SCHEMA: &[u8] = b"schema";
pub(crate) const GENESIS: &[u8] = b"genesis";
/// The whole genesis file, to say what differs in another.
pub(crate) const GENESIS_FILE: &[u8] = b"genesis_file";
pub(crate) const HEAD: &[u8] = b"head";
pub(crate) const FINAL: &[u8] = b"final";

/// Records to read at a time: those of some tables have megabytes.
pub(crate) fn step(table: Table) -> usize {
    match table {
        Table::Bodies | Table::Receipts | Table::Changes => 16,
        _ => 256,
    }
}

pub(crate) fn number(number: u64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

/// Key of what belongs to one block, canonical or not.
pub(crate) fn block(block: BlockRef) -> Vec<u8> {
    dated_first(block.number, block.hash.as_slice())
}

pub(crate) fn slot(address: B256, slot: B256) -> Vec<u8> {
    [address.as_slice(), slot.as_slice()].concat()
}

/// Path of a node of the account trie, after its length: the path of the root is empty, and no key may be.
pub(crate) fn account_node(path: &Nibbles) -> Vec<u8> {
    let mut key = vec![path.len() as u8];
    key.extend(path.iter());
    key
}

pub(crate) fn storage_node(address: B256, path: &Nibbles) -> Vec<u8> {
    let mut key = address.to_vec();
    key.extend(path.iter());
    key
}

/// `key` at block `number`, in the histories.
pub(crate) fn dated(key: &[u8], number: u64) -> Vec<u8> {
    [key, &number.to_be_bytes()].concat()
}

fn dated_first(number: u64, key: &[u8]) -> Vec<u8> {
    [&number.to_be_bytes(), key].concat()
}

/// A kind of thing in the log index.
pub(crate) fn log_address(address: Address) -> Vec<u8> {
    [&[0], address.as_slice()].concat()
}

/// A topic, wherever it stands in the log, in the log index.
pub(crate) fn log_topic(topic: B256) -> Vec<u8> {
    [&[1], topic.as_slice()].concat()
}

pub(crate) fn encode_ref(block: BlockRef) -> Vec<u8> {
    dated_first(block.number, block.hash.as_slice())
}

pub(crate) fn decode_ref(table: Table, record: &[u8]) -> Result<BlockRef, KvError> {
    let damaged = || KvError::corrupt(table, "a block reference has another length");
    let (number, hash) = record.split_first_chunk::<8>().ok_or_else(damaged)?;
    Ok(BlockRef { number: u64::from_be_bytes(*number), hash: B256::try_from(hash).map_err(|_| damaged())? })
}

pub(crate) fn decode_number(table: Table, record: &[u8]) -> Result<u64, KvError> {
    let bytes = record.try_into().map_err(|_| KvError::corrupt(table, "a number has another length"))?;
    Ok(u64::from_be_bytes(bytes))
}

pub(crate) fn decode_hash(table: Table, record: &[u8]) -> Result<B256, KvError> {
    B256::try_from(record).map_err(|_| KvError::corrupt(table, "a hash has another length"))
}
