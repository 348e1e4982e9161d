//! Proofs of accounts and slots in the form of `eth_getProof` (EIP-1186), checked without a chain.
//!
//! ```text
//!  block hash --keccak--> header.state_root --account_proof--> storage_hash --storage_proof--> value of a slot
//! ```
//!
//! A reader that trusts one block hash, from an authority's seal or from a checkpoint, believes nothing else: the header is
//! bytes that hash to it, the account hangs under the header's state root, the slot under the account's storage root.
//! Proofs show absence too. The module needs `alloc` alone: a light reader takes the crate without default features.
//!
//! ```
//! use lightstreams_chain::proof::{self, AccountProof};
//!
//! fn read(header: &[u8], trusted: B256, answer: &AccountProof) -> Result<U256, proof::ProofError> {
//!     let header = proof::header(header, trusted)?;
//!     answer.verify(header.state_root)?;
//!     Ok(answer.storage_proof.first().map_or(U256::ZERO, |slot| slot.value))
//! }
//! # use lightstreams_chain::alloy_primitives::{B256, U256};
//! ```
//!
//! What is asked for is the reader's to check: that `answer.address` and the keys of the slots are those it wanted.

use alloc::vec::Vec;
use core::fmt;

use alloy_consensus::Header;
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_rlp::Decodable;
use alloy_trie::{
    EMPTY_ROOT_HASH, KECCAK_EMPTY, Nibbles, TrieAccount,
    nodes::{RlpNode, TrieNode},
};

/// The RLP of the node that stands for an empty trie; some servers send it, others send no node.
const EMPTY_NODE: &[u8] = &[alloy_rlp::EMPTY_STRING_CODE];

/// An account and some of its slots with their proofs: the answer of `eth_getProof`.
///
/// An absent account has nonce and balance 0; its hashes are zero, as go-ethereum writes them, or those of empty code and
/// storage, as others do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "std", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "std", serde(rename_all = "camelCase"))]
pub struct AccountProof {
    /// The account.
    pub address: Address,
    /// Balance in wei.
    pub balance: U256,
    /// Keccak of the code.
    pub code_hash: B256,
    /// Transactions sent, or contracts created.
    #[cfg_attr(feature = "std", serde(with = "quantity"))]
    pub nonce: u64,
    /// Root of the storage trie.
    pub storage_hash: B256,
    /// Nodes of the state trie, from the root down.
    pub account_proof: Vec<Bytes>,
    /// Slots.
    pub storage_proof: Vec<SlotProof>,
}

/// A slot with its proof.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "std", derive(serde::Serialize, serde::Deserialize))]
pub struct SlotProof {
    /// The slot.
    pub key: U256,
    /// Its value, zero if it was never set.
    pub value: U256,
    /// Nodes of the storage trie, from the root down.
    pub proof: Vec<Bytes>,
}

impl AccountProof {
    /// Checks everything that is said here against `state_root`. `None` if the account is proven to be absent.
    pub fn verify(&self, state_root: B256) -> Result<Option<TrieAccount>, ProofError> {
        let found = account(state_root, self.address, &self.account_proof)?;
        let empty = |hash: B256, of_nothing: B256| if hash.is_zero() { of_nothing } else { hash };
        let said = match found {
            Some(_) => TrieAccount::new(self.nonce, self.balance, self.storage_hash, self.code_hash),
            None => TrieAccount::new(
                self.nonce,
                self.balance,
                empty(self.storage_hash, EMPTY_ROOT_HASH),
                empty(self.code_hash, KECCAK_EMPTY),
            ),
        };
        let is = found.unwrap_or_default();
        for (field, equal) in [
            ("nonce", said.nonce == is.nonce),
            ("balance", said.balance == is.balance),
            ("storageHash", said.storage_root == is.storage_root),
            ("codeHash", said.code_hash == is.code_hash),
        ] {
            if !equal {
                return Err(ProofError::Differs { field });
            }
        }
        for proof in &self.storage_proof {
            if slot(is.storage_root, proof.key, &proof.proof)? != proof.value {
                return Err(ProofError::Differs { field: "value" });
            }
        }
        Ok(found)
    }
}

/// The account at `address` in the state with the root `state_root`; `None` if it is proven to be absent.
pub fn account(
    state_root: B256,
    address: Address,
    proof: &[Bytes],
) -> Result<Option<TrieAccount>, ProofError> {
    value(state_root, keccak256(address), proof)?.map(|record| decode(&record)).transpose()
}

/// The value of `slot` in the storage with the root `storage_root`; zero if it is proven to be absent.
pub fn slot(storage_root: B256, slot: U256, proof: &[Bytes]) -> Result<U256, ProofError> {
    match value(storage_root, keccak256(slot.to_be_bytes::<32>()), proof)? {
        Some(record) => decode(&record),
        None => Ok(U256::ZERO),
    }
}

/// The header that `rlp` is, if `hash` is its name. Engines that hash headers otherwise than by keccak have rules of their own.
pub fn header(rlp: &[u8], hash: B256) -> Result<Header, ProofError> {
    if keccak256(rlp) != hash {
        return Err(ProofError::OtherHeader);
    }
    decode(rlp)
}

/// What the trie with the root `root` holds under `key`, which is a hash already; `None` if nothing. `proof` are the nodes
/// from the root down that do not lie inside their parents, and no others.
pub fn value(root: B256, key: B256, proof: &[Bytes]) -> Result<Option<Vec<u8>>, ProofError> {
    if root == EMPTY_ROOT_HASH {
        return match proof {
            [] => Ok(None),
            [node] if node.as_ref() == EMPTY_NODE => Ok(None),
            _ => Err(ProofError::Extra { used: 0 }),
        };
    }
    let key = Nibbles::unpack(key);
    let (mut link, mut depth, mut used) = (RlpNode::word_rlp(&root), 0, 0);
    // Every step takes a node of the proof or goes into a smaller one, so there are no more steps than bytes.
    let found = loop {
        let node = match link.as_hash() {
            Some(hash) => {
                let node = proof.get(used).ok_or(ProofError::Truncated { used })?;
                if keccak256(node) != hash {
                    return Err(ProofError::OtherNode { index: used });
                }
                used += 1;
                decode(node)?
            }
            None => decode(&link)?,
        };
        match node {
            TrieNode::EmptyRoot => return Err(ProofError::Malformed),
            TrieNode::Leaf(leaf) => break (leaf.key == key.slice(depth..)).then_some(leaf.value),
            TrieNode::Extension(extension) => {
                if extension.key.is_empty() {
                    return Err(ProofError::Malformed);
                }
                if !key.slice(depth..).starts_with(&extension.key) {
                    break None;
                }
                depth += extension.key.len();
                link = extension.child;
            }
            TrieNode::Branch(branch) => {
                let nibble = key.get(depth).ok_or(ProofError::Malformed)?;
                if !branch.state_mask.is_bit_set(nibble) {
                    break None;
                }
                let before = (0..nibble).filter(|other| branch.state_mask.is_bit_set(*other)).count();
                link = branch.stack.into_iter().nth(before).ok_or(ProofError::Malformed)?;
                depth += 1;
            }
        }
    };
    if used < proof.len() {
        return Err(ProofError::Extra { used });
    }
    Ok(found)
}

/// Decodes RLP that nothing may follow.
fn decode<T: Decodable>(mut rlp: &[u8]) -> Result<T, ProofError> {
    match T::decode(&mut rlp) {
        Ok(value) if rlp.is_empty() => Ok(value),
        _ => Err(ProofError::Malformed),
    }
}

/// Why a proof does not hold. Whoever sent it is mistaken or lies: ask another, or for a block that both know.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProofError {
    /// The bytes of the header do not hash to the name of the block.
    OtherHeader,
    /// A node does not hash to what its parent, or the root, refers to.
    OtherNode {
        /// Its index in the proof.
        index: usize,
    },
    /// The path goes on after the last node.
    Truncated {
        /// Nodes there were.
        used: usize,
    },
    /// The path ends before the last node.
    Extra {
        /// Nodes on the path.
        used: usize,
    },
    /// What is under the root is no trie of Ethereum.
    Malformed,
    /// The trie holds another value than the answer says.
    Differs {
        /// The field of the answer.
        field: &'static str,
    },
}

impl fmt::Display for ProofError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherHeader => f.write_str("the header does not hash to the name of the block"),
            Self::OtherNode { index } => write!(f, "node {index} of the proof is not the one referred to"),
            Self::Truncated { used } => write!(f, "the proof ends after {used} nodes, before its path does"),
            Self::Extra { used } => write!(f, "the path ends after {used} nodes, before the proof does"),
            Self::Malformed => f.write_str("a part of the proof is not the RLP that belongs there"),
            Self::Differs { field } => write!(f, "the state holds another {field}"),
        }
    }
}

impl core::error::Error for ProofError {}

/// A number as JSON-RPC writes it.
#[cfg(feature = "std")]
mod quantity {
    use alloy_primitives::U64;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(number: &u64, to: S) -> Result<S::Ok, S::Error> {
        U64::from(*number).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        U64::deserialize(from).map(|number| number.to())
    }
}
