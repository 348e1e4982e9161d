//! Who signed what: each signature is recovered once in a process.
//!
//! Recovering costs more than all else about a plain transfer. Whoever comes first (the pool, a block on its way in, another chain in this
//! process) leaves the answer here for the others. The hash of a transaction covers its signature, so an answer is right wherever it
//! came from.

use std::sync::{LazyLock, Mutex, PoisonError};

use alloy_consensus::{crypto::SECP256K1N_HALF, transaction::SignerRecoverable};
use alloy_primitives::{Address, B256};

use crate::{Transaction, cache::Cache};

/// Parts of the memory, each behind a lock of its own.
const SHARDS: usize = 16;
/// Answers that one part keeps; together about 16 MiB.
const SHARD_MAX: usize = 8_192;

static KNOWN: LazyLock<[Mutex<Cache<B256, Address>>; SHARDS]> =
    LazyLock::new(|| std::array::from_fn(|_| Mutex::new(Cache::new(SHARD_MAX))));

/// Who signed `transaction`; `None` if nobody can have. From Homestead on a signature has a `low_s` (EIP-2).
pub(crate) fn sender(transaction: &Transaction, low_s: bool) -> Option<Address> {
    if low_s && transaction.signature().s() > SECP256K1N_HALF {
        return None;
    }
    let hash = transaction.tx_hash();
    let known = KNOWN.get(usize::from(hash.0[0]) % SHARDS)?;
    let found = known.lock().unwrap_or_else(PoisonError::into_inner).get(hash);
    if found.is_some() {
        return found;
    }
    let sender = transaction.recover_signer_unchecked().ok()?;
    known.lock().unwrap_or_else(PoisonError::into_inner).insert(*hash, sender);
    Some(sender)
}

/// The senders of `transactions`, in their order, on all cores of the pool that the caller installed.
pub(crate) fn senders(transactions: &[Transaction], low_s: bool) -> Vec<Option<Address>> {
    #[cfg(feature = "parallel")]
    if rayon::current_thread_index().is_some() {
        use rayon::prelude::*;

        return transactions
            .par_iter()
            .with_min_len(8)
            .map(|transaction| sender(transaction, low_s))
            .collect();
    }
    transactions.iter().map(|transaction| sender(transaction, low_s)).collect()
}

/// Does both: at the same time, where the caller installed a pool.
pub(crate) fn join<A: Send, B: Send>(a: impl FnOnce() -> A + Send, b: impl FnOnce() -> B + Send) -> (A, B) {
    #[cfg(feature = "parallel")]
    if rayon::current_thread_index().is_some() {
        return rayon::join(a, b);
    }
    (a(), b())
}
