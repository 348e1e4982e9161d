//! EIP-6110: deposits of the beacon chain, as the logs of their contract say them.

use alloy_primitives::{Address, B256, Log, b256};

use crate::InvalidBlock;

/// Type of the request that carries deposits.
pub(crate) const TYPE: u8 = 0;

/// Keccak of `DepositEvent(bytes,bytes,bytes,bytes,bytes)`.
const TOPIC: B256 = b256!("649bbc62d0e31342afea4e5cd82d4049e7e1ee912fc0889aa790803be39038c5");
/// Bytes of the event's data.
const DATA: usize = 576;
/// Of each field the word that points at it, where it stands behind its length, and how long it is: public key, withdrawal
/// credentials, amount, signature, index.
const FIELDS: [(usize, usize, usize); 5] =
    [(0, 160, 48), (32, 256, 32), (64, 320, 8), (96, 384, 96), (128, 512, 8)];

/// The deposits that `contract` logged, one after another.
pub(crate) fn in_logs<'a>(
    contract: Address,
    logs: impl Iterator<Item = &'a Log>,
) -> Result<Vec<u8>, InvalidBlock> {
    let mut deposits = Vec::new();
    for log in logs {
        if log.address == contract && log.topics().first() == Some(&TOPIC) {
            append(&log.data.data, &mut deposits).ok_or(InvalidBlock::SystemCall {
                contract,
                reason: "a deposit has another layout than the one fixed",
            })?;
        }
    }
    Ok(deposits)
}

fn append(data: &[u8], deposits: &mut Vec<u8>) -> Option<()> {
    if data.len() != DATA {
        return None;
    }
    for (pointer, place, length) in FIELDS {
        let start = place.checked_add(32)?;
        if word(data, pointer)? != place || word(data, place)? != length {
            return None;
        }
        deposits.extend_from_slice(data.get(start..start.checked_add(length)?)?);
    }
    Some(())
}

/// The number at `at`, if it is a small one.
fn word(data: &[u8], at: usize) -> Option<usize> {
    let word = data.get(at..at.checked_add(32)?)?;
    let (high, low) = word.split_last_chunk::<8>()?;
    high.iter().all(|byte| *byte == 0).then(|| usize::try_from(u64::from_be_bytes(*low)).ok())?
}
