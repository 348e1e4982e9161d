//! Transactions that wait for a block.
//!
//! Those of one account whose nonces follow on from the state are pending; those after a gap are queued. Both are bounded, per
//! account and in all. What the next block may take is decided when it is built; here only what can never run is
//! refused.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
    sync::Arc,
};

use alloy_consensus::{Transaction as _, Typed2718};
use alloy_eips::eip2718::Decodable2718;
use alloy_primitives::{Address, B256, U256};
use revm::{
    context::CfgEnv,
    primitives::{KECCAK_EMPTY, eip3860::MAX_INITCODE_SIZE, eip7825, hardfork::SpecId},
};

use crate::{Chain, FeePolicy, KvError, Table, Transaction, execute::tx_env, senders::sender};

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

/// The transactions that wait.
pub(crate) struct Pool {
    limits: PoolLimits,
    accounts: HashMap<Address, Queue>,
    by_hash: HashMap<B256, (Address, u64)>,
    pending: usize,
    /// Counts arrivals, so that of equals the first comes first.
    arrivals: u64,
}

/// The transactions of one account.
#[derive(Default)]
struct Queue {
    /// The next nonce in the state.
    nonce: u64,
    waiting: BTreeMap<u64, Waiting>,
}

struct Waiting {
    transaction: Arc<Transaction>,
    arrival: u64,
}

impl Queue {
    /// The first nonce from the state's on that is missing.
    fn gap(&self) -> u64 {
        let mut gap = self.nonce;
        while self.waiting.contains_key(&gap) {
            gap = gap.saturating_add(1);
        }
        gap
    }

    fn pending(&self) -> usize {
        self.waiting.range(..self.gap()).count()
    }

    fn status(&self, nonce: u64) -> PoolStatus {
        let gap = self.gap();
        if nonce < gap { PoolStatus::Pending } else { PoolStatus::Queued { missing_nonce: gap } }
    }
}

impl Pool {
    pub(crate) fn new(limits: PoolLimits) -> Self {
        Self { limits, accounts: HashMap::new(), by_hash: HashMap::new(), pending: 0, arrivals: 0 }
    }

    /// Takes a signed transaction.
    pub(crate) fn submit(&mut self, chain: &Chain, raw: &[u8]) -> Result<PooledTransaction, SubmitError> {
        let limit = self.limits.transaction_bytes_max;
        if raw.len() > limit {
            return Err(SubmitError::TooLarge { given: raw.len(), limit });
        }
        let mut rest = raw;
        let transaction =
            Transaction::decode_2718(&mut rest).map_err(|error| SubmitError::Decode(error.to_string()))?;
        if !rest.is_empty() {
            return Err(SubmitError::Decode(format!("{} bytes follow the transaction", rest.len())));
        }
        if self.by_hash.contains_key(transaction.tx_hash()) {
            return Err(SubmitError::Known(*transaction.tx_hash()));
        }
        check_alone(chain, &transaction)?;
        let sender = sender(&transaction, true).ok_or(SubmitError::Signature)?;
        self.take(chain, Arc::new(transaction), sender)
    }

    /// Takes a transaction that is right in itself, if it is right beside the state and the others.
    fn take(
        &mut self,
        chain: &Chain,
        transaction: Arc<Transaction>,
        sender: Address,
    ) -> Result<PooledTransaction, SubmitError> {
        let account = chain.tip_account(sender)?;
        let (next, balance) = account.map_or((0, U256::ZERO), |account| (account.nonce, account.balance));
        let code_hash = account.map_or(KECCAK_EMPTY, |account| account.code_hash);
        if code_hash != KECCAK_EMPTY && !is_delegation(chain, code_hash)? {
            // EIP-3607
            return Err(SubmitError::SenderHasCode);
        }
        let given = transaction.nonce();
        if given < next {
            return Err(SubmitError::NonceTooLow { next, given });
        }
        if given - next >= self.limits.per_account_max as u64 {
            return Err(SubmitError::NonceTooHigh { next, given });
        }

        let queue = self.accounts.get(&sender);
        let replaced = queue.and_then(|queue| queue.waiting.get(&given));
        if let Some(replaced) = replaced {
            check_bump(&replaced.transaction, &transaction, self.limits.bump_percent)?;
        }
        let others = queue.into_iter().flat_map(|queue| queue.waiting.range(..given));
        let cost = others.fold(cost(&transaction), |sum, (_, other)| sum.saturating_add(cost_of(other)));
        if cost > balance {
            return Err(SubmitError::Funds { balance, cost });
        }
        if replaced.is_none() {
            self.make_room(sender, given, next, &transaction)?;
        }

        self.arrivals = self.arrivals.wrapping_add(1);
        let arrival = self.arrivals;
        let hash = *transaction.tx_hash();
        let waiting = Waiting { transaction: transaction.clone(), arrival };
        let status = self.change(sender, |queue| {
            queue.nonce = next;
            let replaced = queue.waiting.insert(given, waiting);
            (queue.status(given), replaced)
        });
        let (status, replaced) = status;
        if let Some(replaced) = replaced {
            self.by_hash.remove(replaced.transaction.tx_hash());
        }
        self.by_hash.insert(hash, (sender, given));
        Ok(PooledTransaction { transaction: (*transaction).clone(), sender, status })
    }

    /// Makes sure that one more transaction has a place, if need be that of one that pays less.
    fn make_room(
        &mut self,
        sender: Address,
        nonce: u64,
        next: u64,
        transaction: &Transaction,
    ) -> Result<(), SubmitError> {
        let queue = self.accounts.get(&sender);
        let gap = queue.map_or(next, Queue::gap);
        let count = queue.map_or(0, |queue| queue.waiting.len());
        if count >= self.limits.per_account_max {
            return Err(SubmitError::AccountFull(count));
        }
        if nonce != gap {
            let queued = self.by_hash.len().saturating_sub(self.pending);
            return if queued < self.limits.queued_max { Ok(()) } else { Err(SubmitError::Full) };
        }
        if self.pending < self.limits.pending_max {
            return Ok(());
        }
        // The last of an account can go without leaving a gap.
        let cheapest = self
            .accounts
            .iter()
            .filter(|(account, _)| **account != sender)
            .filter_map(|(_, queue)| queue.waiting.last_key_value())
            .map(|(_, last)| &last.transaction)
            .min_by_key(|last| last.max_fee_per_gas());
        match cheapest {
            Some(cheapest) if cheapest.max_fee_per_gas() < transaction.max_fee_per_gas() => {
                let hash = *cheapest.tx_hash();
                self.remove(&hash);
                Ok(())
            }
            _ => Err(SubmitError::Full),
        }
    }

    /// Drops the transaction `hash`.
    pub(crate) fn remove(&mut self, hash: &B256) {
        if let Some((sender, nonce)) = self.by_hash.remove(hash) {
            self.change(sender, |queue| queue.waiting.remove(&nonce));
        }
    }

    /// Changes the queue of `account`, keeping count.
    fn change<T>(&mut self, account: Address, change: impl FnOnce(&mut Queue) -> T) -> T {
        let queue = self.accounts.entry(account).or_default();
        let before = queue.pending();
        let result = change(queue);
        self.pending = self.pending.saturating_sub(before).saturating_add(queue.pending());
        if queue.waiting.is_empty() {
            self.accounts.remove(&account);
        }
        result
    }

    /// Follows a change of head; `returned` are transactions that a reorg took out of the chain.
    pub(crate) fn on_head(&mut self, chain: &Chain, returned: &[Transaction]) -> Result<(), KvError> {
        let accounts: Vec<Address> = self.accounts.keys().copied().collect();
        for address in accounts {
            let account = chain.tip_account(address)?;
            let (nonce, balance) =
                account.map_or((0, U256::ZERO), |account| (account.nonce, account.balance));
            let dropped = self.change(address, |queue| {
                queue.nonce = nonce;
                let rest = queue.waiting.split_off(&nonce);
                let mut dropped = std::mem::replace(&mut queue.waiting, rest);
                let poor = queue.waiting.iter().find(|(_, waiting)| cost_of(waiting) > balance);
                if let Some(nonce) = poor.map(|(nonce, _)| *nonce) {
                    dropped.append(&mut queue.waiting.split_off(&nonce));
                }
                dropped
            });
            for waiting in dropped.into_values() {
                self.by_hash.remove(waiting.transaction.tx_hash());
            }
        }
        for transaction in returned {
            if chain.kv().get(Table::Transactions, transaction.tx_hash().as_slice())?.is_some() {
                continue;
            }
            let Some(sender) = sender(transaction, true) else { continue };
            // What no longer fits is lost; its sender sees that it is unknown.
            if let Err(SubmitError::Storage(error)) = self.take(chain, Arc::new(transaction.clone()), sender)
            {
                return Err(error);
            }
        }
        Ok(())
    }

    pub(crate) fn get(&self, hash: &B256) -> Option<PooledTransaction> {
        let (sender, nonce) = self.by_hash.get(hash)?;
        let queue = self.accounts.get(sender)?;
        let waiting = queue.waiting.get(nonce)?;
        Some(PooledTransaction {
            transaction: (*waiting.transaction).clone(),
            sender: *sender,
            status: queue.status(*nonce),
        })
    }

    pub(crate) fn content(&self) -> Vec<PooledTransaction> {
        let mut content: Vec<_> = self.by_hash.keys().filter_map(|hash| self.get(hash)).collect();
        content.sort_by_key(|pooled| (pooled.sender, pooled.transaction.nonce()));
        content
    }

    pub(crate) fn size(&self) -> (usize, usize) {
        (self.pending, self.by_hash.len().saturating_sub(self.pending))
    }

    /// The first nonce of `account` that no pending transaction uses, if it has transactions here.
    pub(crate) fn next_nonce(&self, account: Address) -> Option<u64> {
        self.accounts.get(&account).map(Queue::gap)
    }

    /// What a block with `base_fee` could take, the best paying first.
    pub(crate) fn best(&self, base_fee: u64) -> Best {
        let mut best = Best { base_fee, accounts: HashMap::new(), heads: BinaryHeap::new() };
        for (account, queue) in &self.accounts {
            let gap = queue.gap();
            let pending =
                queue.waiting.range(..gap).map(|(_, waiting)| (waiting.transaction.clone(), waiting.arrival));
            let mut pending: Vec<_> = pending.collect();
            pending.reverse();
            best.accounts.insert(*account, pending);
            best.push_head(*account);
        }
        best
    }
}

/// Transactions in the order in which a block takes them.
pub(crate) struct Best {
    base_fee: u64,
    /// Of each account what is left, the next last.
    accounts: HashMap<Address, Vec<(Arc<Transaction>, u64)>>,
    /// The next of each account: tip, earlier arrival.
    heads: BinaryHeap<(u128, Reverse<u64>, Address)>,
}

impl Best {
    pub(crate) fn next(&mut self) -> Option<(Arc<Transaction>, Address)> {
        loop {
            let (_, _, account) = self.heads.pop()?;
            if let Some((transaction, _)) = self.accounts.get_mut(&account).and_then(Vec::pop) {
                self.push_head(account);
                return Some((transaction, account));
            }
        }
    }

    /// Leaves out what is left of `account`.
    pub(crate) fn skip_account(&mut self, account: Address) {
        self.accounts.remove(&account);
    }

    fn push_head(&mut self, account: Address) {
        let next = self.accounts.get(&account).and_then(|rest| rest.last());
        // Without a tip the transaction does not pay the base fee, nor can those after it go first.
        if let Some((transaction, arrival)) = next
            && let Some(tip) = transaction.effective_tip_per_gas(self.base_fee)
        {
            self.heads.push((tip, Reverse(*arrival), account));
        }
    }
}

/// What the transaction may cost its sender at most.
fn cost(transaction: &Transaction) -> U256 {
    U256::from(transaction.max_fee_per_gas())
        .saturating_mul(U256::from(transaction.gas_limit()))
        .saturating_add(transaction.value())
}

fn cost_of(waiting: &Waiting) -> U256 {
    cost(&waiting.transaction)
}

fn check_bump(old: &Transaction, new: &Transaction, percent: u128) -> Result<(), SubmitError> {
    let enough = |old: u128, new: u128| {
        let needed = old.saturating_add(old.saturating_mul(percent) / 100);
        // Even where the tenth of a small price rounds to nothing, a replacement offers more.
        new >= needed && (new > old || old == 0)
    };
    let tip = |transaction: &Transaction| {
        transaction.max_priority_fee_per_gas().unwrap_or(transaction.max_fee_per_gas())
    };
    if enough(old.max_fee_per_gas(), new.max_fee_per_gas()) && enough(tip(old), tip(new)) {
        Ok(())
    } else {
        Err(SubmitError::Replacement)
    }
}

fn is_delegation(chain: &Chain, code_hash: B256) -> Result<bool, KvError> {
    let code = chain.kv().get(Table::Code, code_hash.as_slice())?;
    Ok(code.is_some_and(|code| code.len() == 23 && code.starts_with(&[0xef, 0x01, 0x00])))
}

/// What is wrong with a transaction whoever sends it, in the next block.
fn check_alone(chain: &Chain, transaction: &Transaction) -> Result<(), SubmitError> {
    let head = chain.head();
    let forks =
        chain.rules().forks(head.number().saturating_add(1), head.header.timestamp, head.total_difficulty);
    let active = match transaction.ty() {
        0 => true,
        1 => forks.spec.is_enabled_in(SpecId::BERLIN),
        2 => forks.london,
        4 => forks.prague,
        _ => false,
    };
    if !active {
        return Err(SubmitError::Type);
    }
    let expected = chain.chain_id();
    if transaction.chain_id().is_none_or(|given| given != expected) {
        // Without a chain id a transaction could be replayed from any other chain.
        let given = transaction.chain_id().map_or("none".into(), |given| given.to_string());
        return Err(SubmitError::ChainId { given, expected });
    }
    let given = transaction.gas_limit();
    let mut limit = head.header.gas_limit;
    if forks.osaka {
        limit = limit.min(eip7825::TX_GAS_LIMIT_CAP);
    }
    if given > limit {
        return Err(SubmitError::GasLimit { given, limit });
    }
    if transaction.max_priority_fee_per_gas().is_some_and(|tip| tip > transaction.max_fee_per_gas()) {
        return Err(SubmitError::TipAboveCap);
    }
    if let FeePolicy::Fixed { base_fee } = chain.rules().fee_policy()
        && transaction.max_fee_per_gas() < u128::from(base_fee)
    {
        return Err(SubmitError::Underpriced {
            given: transaction.max_fee_per_gas(),
            needed: base_fee.into(),
        });
    }
    let size = transaction.input().len();
    if forks.shanghai && transaction.kind().is_create() && size > MAX_INITCODE_SIZE {
        return Err(SubmitError::InitCode { given: size, limit: MAX_INITCODE_SIZE });
    }
    let gas = CfgEnv::new_with_spec(forks.spec)
        .gas_params
        .initial_tx_gas_for_tx(tx_env(transaction, Address::ZERO), None);
    let mut needed = gas.initial_total_gas();
    if forks.prague {
        // EIP-7623
        needed = needed.max(gas.floor_gas());
    }
    if given < needed {
        return Err(SubmitError::IntrinsicGas { given, needed });
    }
    Ok(())
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
