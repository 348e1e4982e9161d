//! What `lightstreams-chain` promises: Ethereum's execution and state, and Clique.

mod archive;
pub(crate) mod blocks;
pub(crate) mod clique;
mod fixture;
pub(crate) mod genesis;
pub(crate) mod import;
pub(crate) mod opcodes;
pub(crate) mod rlp;
pub(crate) mod state;
pub(crate) mod t8n;
pub(crate) mod transactions;
pub(crate) mod trie;
pub(crate) mod vm;
