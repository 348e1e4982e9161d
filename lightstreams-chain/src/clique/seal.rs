//! What a Clique seal covers, and whose it is.

use alloy_consensus::Header;
use alloy_primitives::{Address, B64, B256, Bytes, keccak256};
use alloy_rlp::{BufMut, Encodable};

use crate::{EngineError, signer};

/// Bytes of the extra data that are the sealer's own.
pub(super) const VANITY: usize = 32;
/// Bytes of the seal: r, s, recovery id.
pub(super) const SEAL: usize = 65;
/// Nonce of a block that votes to add its beneficiary.
pub(super) const NONCE_ADD: B64 = B64::repeat_byte(0xff);
/// Nonce of a block that votes to drop its beneficiary.
pub(super) const NONCE_DROP: B64 = B64::ZERO;

/// The digest that is signed: the header without the last 65 bytes of its extra data.
///
/// Up to London it is what EIP-225 says. The fields of later forks follow in the order of the header, as far as they
/// are there.
pub(super) fn seal_hash(header: &Header) -> B256 {
    let extra = header.extra_data.len().saturating_sub(SEAL);
    let extra = header.extra_data.get(..extra).unwrap_or_default();
    let fields = [
        // The thirteen fields of Frontier, then those that forks brought.
        &header.parent_hash as &dyn Encodable,
        &header.ommers_hash,
        &header.beneficiary,
        &header.state_root,
        &header.transactions_root,
        &header.receipts_root,
        &header.logs_bloom,
        &header.difficulty,
        &header.number,
        &header.gas_limit,
        &header.gas_used,
        &header.timestamp,
        &extra,
        &header.mix_hash,
        &header.nonce,
    ];
    let later = [
        header.base_fee_per_gas.as_ref().map(|x| x as &dyn Encodable),
        header.withdrawals_root.as_ref().map(|x| x as &dyn Encodable),
        header.blob_gas_used.as_ref().map(|x| x as &dyn Encodable),
        header.excess_blob_gas.as_ref().map(|x| x as &dyn Encodable),
        header.parent_beacon_block_root.as_ref().map(|x| x as &dyn Encodable),
        header.requests_hash.as_ref().map(|x| x as &dyn Encodable),
    ];
    let mut out = Vec::with_capacity(640);
    encode_list(fields.into_iter().chain(later.into_iter().flatten()), &mut out);
    keccak256(out)
}

fn encode_list<'a>(fields: impl Iterator<Item = &'a dyn Encodable> + Clone, out: &mut dyn BufMut) {
    let payload_length = fields.clone().map(Encodable::length).sum();
    alloy_rlp::Header { list: true, payload_length }.encode(out);
    for field in fields {
        field.encode(out);
    }
}

/// Who sealed `header`.
pub(super) fn recover(header: &Header) -> Result<Address, EngineError> {
    let seal = header
        .extra_data
        .len()
        .checked_sub(SEAL)
        .and_then(|at| header.extra_data.get(at..))
        .and_then(|seal| <&[u8; SEAL]>::try_from(seal).ok())
        .ok_or_else(|| EngineError::invalid("extraData", "no room for a 65-byte seal"))?;
    signer::recover(seal, seal_hash(header))
        .ok_or_else(|| EngineError::invalid("extraData", "the seal is no signature"))
}

/// Writes `seal` over the last 65 bytes of the extra data. Extra data without that room is left alone, and gives a
/// header that no one sealed.
pub(super) fn write(header: &mut Header, seal: &[u8; SEAL]) {
    let mut extra = header.extra_data.to_vec();
    if let Some((_, room)) = extra.split_last_chunk_mut::<SEAL>() {
        *room = *seal;
    }
    header.extra_data = Bytes::from(extra);
}

/// The authorities that the extra data of a genesis or checkpoint lists.
pub(super) fn listed_signers(header: &Header) -> Result<Vec<Address>, EngineError> {
    let extra = &header.extra_data;
    if extra.len() < VANITY {
        return Err(EngineError::invalid("extraData", "no room for the 32-byte vanity"));
    }
    let list = extra
        .len()
        .checked_sub(SEAL)
        .and_then(|end| extra.get(VANITY..end))
        .ok_or_else(|| EngineError::invalid("extraData", "no room for a 65-byte seal"))?;
    let (signers, rest) = list.as_chunks::<20>();
    if !rest.is_empty() {
        return Err(EngineError::invalid("extraData", "the list of signers is no multiple of 20 bytes"));
    }
    Ok(signers.iter().map(Address::from).collect())
}
