//! Transactions that wait for a block.

use alloy_primitives::{Address, B256};

use crate::{KvError, Transaction};

/// Bounds of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// Transactions that could go into the next block, of all accounts.
    pub pending_max: usize,
    /// Transactions that wait for one with a lower nonce, of all accounts.
    pub queued_max: usize,
    /// Transactions of one account.
    pub per_account_max: usize,
    /// Bytes of one transaction.
    pub transaction_bytes_max: usize,
    /// By how many per cent a replacement must offer more.
    pub bump_percent: u128,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            pending_max: 5_120,
            queued_max: 1_024,
            per_account_max: 64,
            transaction_bytes_max: 131_072,
            bump_percent: 10,
        }
    }
}

/// Where a transaction of the pool stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolStatus {
    /// It can go into the next block that pays enough room and price.
    Pending,
    /// It waits for a transaction of its account with a lower nonce.
    Queued {
        /// The nonce that is missing.
        missing_nonce: u64,
    },
}

/// A transaction of the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PooledTransaction {
    /// The transaction.
    pub transaction: Transaction,
    /// Who signed it.
    pub sender: Address,
    /// Where it stands.
    pub status: PoolStatus,
}

/// Why a transaction was not taken.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The bytes are no transaction.
    #[error("transaction could not be decoded: {0}")]
    Decode(String),
    /// The signature does not recover to an account.
    #[error("invalid sender")]
    Signature,
    /// It is signed for another chain.
    #[error("invalid chain id: have {given}, want {expected}")]
    ChainId {
        /// Of the transaction.
        given: String,
        /// Of this chain.
        expected: u64,
    },
    /// Its type is not active on this chain, or never accepted here.
    #[error("transaction type not supported")]
    Type,
    /// It was submitted before.
    #[error("already known")]
    Known(B256),
    /// Its nonce is used already.
    #[error("nonce too low: next nonce {next}, tx nonce {given}")]
    NonceTooLow {
        /// The next nonce of the account.
        next: u64,
        /// Of the transaction.
        given: u64,
    },
    /// Its nonce is further ahead than the pool keeps transactions of one account.
    #[error("nonce too high: next nonce {next}, tx nonce {given}")]
    NonceTooHigh {
        /// The next nonce of the account.
        next: u64,
        /// Of the transaction.
        given: u64,
    },
    /// The account cannot pay for it.
    #[error("insufficient funds for gas * price + value: balance {balance}, tx cost {cost}")]
    Funds {
        /// Balance of the account.
        balance: alloy_primitives::U256,
        /// What it may cost at most.
        cost: alloy_primitives::U256,
    },
    /// Its gas does not even cover its data.
    #[error("intrinsic gas too low: gas {given}, minimum needed {needed}")]
    IntrinsicGas {
        /// Of the transaction.
        given: u64,
        /// Needed.
        needed: u64,
    },
    /// Its gas is more than a block, or a transaction, may have.
    #[error("exceeds block gas limit: gas {given}, limit {limit}")]
    GasLimit {
        /// Of the transaction.
        given: u64,
        /// The limit.
        limit: u64,
    },
    /// Its tip is higher than its fee cap.
    #[error("max priority fee per gas higher than max fee per gas")]
    TipAboveCap,
    /// Its price is below what this chain asks.
    #[error("transaction underpriced: fee cap {given}, minimum needed {needed}")]
    Underpriced {
        /// Of the transaction.
        given: u128,
        /// Needed.
        needed: u128,
    },
    /// It would replace one of the same nonce without offering enough more.
    #[error("replacement transaction underpriced")]
    Replacement,
    /// It has more bytes than the pool takes.
    #[error("oversized data: transaction size {given}, limit {limit}")]
    TooLarge {
        /// Of the transaction.
        given: usize,
        /// The limit.
        limit: usize,
    },
    /// Its constructor is longer than allowed.
    #[error("max initcode size exceeded: code size {given}, limit {limit}")]
    InitCode {
        /// Of the transaction.
        given: usize,
        /// The limit.
        limit: usize,
    },
    /// The account has as many transactions here as it may.
    #[error("account limit exceeded: {0} transactions of this account are waiting")]
    AccountFull(usize),
    /// The pool is full, and everything in it pays better.
    #[error("txpool is full")]
    Full,
    /// The sender has code, and may not send.
    #[error("sender not an eoa")]
    SenderHasCode,
    /// Our storage failed.
    #[error("chain storage failed")]
    Storage(#[from] KvError),
}
