//! What to pay: suggestions, and the fees of the last blocks.

use alloy_consensus::Transaction as _;
use alloy_primitives::{U128, U256};
use jsonrpsee::types::ErrorObjectOwned;
use serde_json::{Value, json};

use super::{
    Answer, Api,
    args::{Args, BlockArg},
    error, json as forms,
};
use crate::{BlockId, FeePolicy};

/// Blocks looked at for a suggestion, and transactions of each.
const SAMPLE_BLOCKS: u64 = 20;
const SAMPLE_TRANSACTIONS: usize = 3;
/// The suggestion of a chain without transactions, and the highest one.
const TIP_DEFAULT: u128 = 1_000_000_000;
const TIP_MAX: u128 = 500_000_000_000;
/// Blocks and percentiles of one `eth_feeHistory`.
const HISTORY_BLOCKS_MAX: u64 = 1_024;
const PERCENTILES_MAX: usize = 100;

/// The head's base fee and the suggested tip.
pub(super) fn gas_price(api: &Api) -> Result<u128, ErrorObjectOwned> {
    let base_fee = api.chain.head().header.base_fee_per_gas.unwrap_or_default();
    Ok(tip(api)?.saturating_add(base_fee.into()))
}

/// The tip that has been enough of late: of the lowest tips of the last blocks, the one that 60 % do not exceed.
pub(super) fn tip(api: &Api) -> Result<u128, ErrorObjectOwned> {
    let policy = api.chain.genesis().network().map(|network| network.fee_policy);
    if matches!(policy, Some(FeePolicy::Fixed { .. } | FeePolicy::Zero)) {
        return Ok(0);
    }
    let head = api.chain.head().number();
    let mut tips = Vec::new();
    for number in (head.saturating_sub(SAMPLE_BLOCKS)..=head).rev() {
        let Some(block) = api.chain.block(BlockId::Number(number)).map_err(error::storage)? else { continue };
        let base_fee = block.header.base_fee_per_gas.unwrap_or_default();
        let mut of_block: Vec<u128> = block
            .body
            .transactions
            .iter()
            .filter_map(|transaction| transaction.effective_tip_per_gas(base_fee))
            .collect();
        of_block.sort_unstable();
        tips.extend(of_block.into_iter().take(SAMPLE_TRANSACTIONS));
    }
    tips.sort_unstable();
    let at = tips.len().saturating_sub(1).saturating_mul(60) / 100;
    Ok(tips.get(at).copied().unwrap_or(TIP_DEFAULT).min(TIP_MAX))
}

pub(super) fn history(api: &Api, args: &Args) -> Answer {
    let wanted = match args.required::<Value>(0)? {
        Value::Number(number) => number.as_u64().unwrap_or_default(),
        other => serde_json::from_value::<alloy_primitives::U64>(other)
            .map_err(|reason| error::invalid(format!("invalid argument 0: {reason}")))?
            .to(),
    };
    let newest: BlockArg = args.required(1)?;
    let percentiles: Vec<f64> = args.optional(2)?.unwrap_or_default();
    if percentiles.len() > PERCENTILES_MAX {
        return Err(error::server("over the query limit 100 of percentiles"));
    }
    let ascending = percentiles.windows(2).all(|pair| pair.first() <= pair.last());
    if !ascending || percentiles.iter().any(|percent| !(0.0..=100.0).contains(percent)) {
        return Err(error::server("invalid reward percentile"));
    }
    let last = api.resolve(newest)?.ok_or_else(|| error::server("request beyond head block"))?.number;
    let count = wanted.min(HISTORY_BLOCKS_MAX).min(last.saturating_add(1));
    if count == 0 {
        return Ok(json!({ "oldestBlock": "0x0", "gasUsedRatio": null }));
    }
    let oldest = last.saturating_add(1).saturating_sub(count);
    let (mut base_fees, mut ratios, mut rewards) = (Vec::new(), Vec::new(), Vec::new());
    for number in oldest..=last {
        let header = api.chain.header(BlockId::Number(number)).map_err(error::storage)?;
        let header = header.ok_or_else(error::unknown_block)?.header;
        base_fees.push(header.base_fee_per_gas.unwrap_or_default());
        #[allow(clippy::cast_precision_loss)]
        ratios.push(header.gas_used as f64 / header.gas_limit.max(1) as f64);
        if !percentiles.is_empty() {
            rewards.push(block_rewards(api, number, header.gas_used, header.base_fee_per_gas, &percentiles)?);
        }
    }
    let next = api.chain.header(BlockId::Number(last.saturating_add(1))).map_err(error::storage)?;
    let next = next.map_or_else(|| api.chain.next_base_fee(), |next| next.header.base_fee_per_gas);
    base_fees.push(next.unwrap_or_default());
    let base_fees: Vec<Value> = base_fees.into_iter().map(forms::quantity).collect();
    let mut answer = json!({
        "oldestBlock": forms::quantity(oldest),
        "baseFeePerGas": base_fees,
        "gasUsedRatio": ratios,
    });
    if let Some(fields) = answer.as_object_mut().filter(|_| !percentiles.is_empty()) {
        fields.insert("reward".into(), rewards.into());
    }
    Ok(answer)
}

/// For each percentile of the gas of a block the tip that was paid there.
fn block_rewards(
    api: &Api,
    number: u64,
    gas_used: u64,
    base_fee: Option<u64>,
    percentiles: &[f64],
) -> Answer {
    let id = BlockId::Number(number);
    let block = api.chain.block(id).map_err(error::storage)?.ok_or_else(error::unknown_block)?;
    let receipts = api.chain.receipts(id).map_err(error::storage)?.unwrap_or_default();
    let mut before = 0;
    let mut paid: Vec<(u128, u64)> = Vec::new();
    for (transaction, receipt) in block.body.transactions.iter().zip(&receipts) {
        let gas = receipt.cumulative_gas_used().saturating_sub(before);
        before = receipt.cumulative_gas_used();
        paid.push((transaction.effective_tip_per_gas(base_fee.unwrap_or_default()).unwrap_or_default(), gas));
    }
    paid.sort_unstable();
    let rewards = percentiles.iter().map(|percent| {
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let threshold = (gas_used as f64 * percent / 100.0) as u64;
        let mut sum = 0_u64;
        let tip = paid.iter().find(|(_, gas)| {
            sum = sum.saturating_add(*gas);
            sum >= threshold
        });
        json!(U128::from(tip.map_or(0, |(tip, _)| *tip)))
    });
    Ok(rewards.collect())
}

/// The fee cap that goes with `tip`: twice the base fee, so that the transaction stays valid for some full blocks.
pub(super) fn fee_cap(api: &Api, tip: u128) -> u128 {
    let base_fee = u128::from(api.chain.next_base_fee().unwrap_or_default());
    base_fee.saturating_mul(2).saturating_add(tip)
}

pub(super) fn price(value: u128) -> Value {
    json!(U256::from(value))
}
