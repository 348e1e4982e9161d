//! What holds for every block under every engine: which fork is active, what a header must say, what gas costs.

use std::sync::Arc;

use alloy_consensus::{EMPTY_OMMER_ROOT_HASH, Header};
use alloy_eips::{
    eip1559::{BaseFeeParams, INITIAL_BASE_FEE},
    eip4844::DATA_GAS_PER_BLOB,
    eip7594::MAX_BLOBS_PER_TX_FUSAKA,
    eip7685::EMPTY_REQUESTS_HASH,
    eip7840::{BLOB_BASE_COST, BlobParams},
};
use alloy_genesis::ChainConfig;
use alloy_primitives::{Address, B256, U256};
use alloy_trie::EMPTY_ROOT_HASH;
use revm::primitives::hardfork::SpecId;

use crate::{FeePolicy, Genesis, HeadInfo, InvalidHeader, NativeContract, Permits};

/// The lowest gas limit of a block.
const GAS_LIMIT_MIN: u64 = 5_000;
/// The highest gas limit of a block.
const GAS_LIMIT_MAX: u64 = i64::MAX as u64;
/// The gas limit of a block differs from its parent's by less than one part in so many.
const GAS_LIMIT_BOUND: u64 = 1_024;
/// EIP-1559 doubles the gas limit where it comes in.
const ELASTICITY: u64 = 2;
/// EIP-7934: bytes of a block's RLP from Osaka on.
pub(crate) const BLOCK_BYTES_MAX: usize = 10_485_760 - 2_097_152;

/// The rules of one chain.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    config: ChainConfig,
    fee_policy: FeePolicy,
    fee_recipient: Option<Address>,
    permits: Permits,
    natives: Arc<[Arc<dyn NativeContract>]>,
}

/// What is active in a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forks {
    pub(crate) spec: SpecId,
    /// Constantinople as it was before Petersburg took EIP-1283 back.
    pub(crate) eip1283: bool,
    pub(crate) homestead: bool,
    pub(crate) eip155: bool,
    pub(crate) byzantium: bool,
    pub(crate) london: bool,
    pub(crate) paris: bool,
    pub(crate) shanghai: bool,
    pub(crate) cancun: bool,
    pub(crate) prague: bool,
    pub(crate) osaka: bool,
    /// What blobs cost and how many there may be, from Cancun on.
    pub(crate) blobs: Option<BlobParams>,
}

impl Rules {
    /// The rules of `genesis`, where blocks may hold what `permits` says.
    pub(crate) fn new(genesis: &Genesis, permits: Permits) -> Self {
        let network = genesis.network();
        Self {
            config: genesis.file().config.clone(),
            fee_policy: network.map_or(FeePolicy::Market, |network| network.fee_policy),
            fee_recipient: network.and_then(|network| network.fee_recipient),
            permits,
            natives: Arc::default(),
        }
    }

    /// The same rules, with `natives`.
    pub(crate) fn with_natives(self, natives: &[Arc<dyn NativeContract>]) -> Self {
        Self { natives: natives.into(), ..self }
    }

    pub(crate) fn natives(&self) -> &[Arc<dyn NativeContract>] {
        &self.natives
    }

    pub(crate) fn permits(&self) -> Permits {
        self.permits
    }

    /// EIP-779: whether the balances of The DAO move at the beginning of block `number`.
    pub(crate) fn moves_the_dao(&self, number: u64) -> bool {
        self.config.dao_fork_support && self.config.dao_fork_block == Some(number)
    }

    /// EIP-6110: whose logs are deposits, if the genesis names a contract.
    pub(crate) fn deposit_contract(&self) -> Option<Address> {
        self.config.deposit_contract_address
    }

    pub(crate) fn chain_id(&self) -> u64 {
        self.config.chain_id
    }

    pub(crate) fn fee_policy(&self) -> FeePolicy {
        self.fee_policy
    }

    /// Who gets all fees instead of burning the base fee and tipping the sealer; `None` under the market.
    pub(crate) fn fee_recipient(&self, author: Address) -> Option<Address> {
        match self.fee_policy {
            FeePolicy::Market => None,
            FeePolicy::Fixed { .. } | FeePolicy::Zero => Some(self.fee_recipient.unwrap_or(author)),
        }
    }

    /// What is active in block `number` at `time`, whose parent has the total difficulty `before`.
    pub(crate) fn forks(&self, number: u64, time: u64, before: U256) -> Forks {
        let config = &self.config;
        let at = |block: Option<u64>| block.is_some_and(|block| block <= number);
        let since = |fork: Option<u64>| at(config.london_block) && fork.is_some_and(|fork| fork <= time);
        let shanghai = since(config.shanghai_time);
        let cancun = shanghai && since(config.cancun_time);
        let prague = cancun && since(config.prague_time);
        let osaka = prague && since(config.osaka_time);
        let reached = config.terminal_total_difficulty.is_some_and(|terminal| before >= terminal);
        let paris = shanghai || (at(config.london_block) && reached && number > 0);
        let ladder = [
            (osaka, SpecId::OSAKA),
            (prague, SpecId::PRAGUE),
            (cancun, SpecId::CANCUN),
            (shanghai, SpecId::SHANGHAI),
            (paris, SpecId::MERGE),
            (at(config.london_block), SpecId::LONDON),
            (at(config.berlin_block), SpecId::BERLIN),
            (at(config.istanbul_block), SpecId::ISTANBUL),
            (at(config.petersburg_block) || at(config.constantinople_block), SpecId::PETERSBURG),
            (at(config.byzantium_block), SpecId::BYZANTIUM),
            (at(config.eip158_block), SpecId::SPURIOUS_DRAGON),
            (at(config.eip150_block), SpecId::TANGERINE),
            (at(config.homestead_block), SpecId::HOMESTEAD),
        ];
        let spec = ladder.iter().find(|(active, _)| *active).map_or(SpecId::FRONTIER, |(_, spec)| *spec);
        Forks {
            spec,
            eip1283: spec == SpecId::PETERSBURG
                && config.petersburg_block.is_some_and(|block| block > number),
            homestead: at(config.homestead_block),
            eip155: at(config.eip155_block),
            byzantium: at(config.byzantium_block),
            london: at(config.london_block),
            paris,
            shanghai,
            cancun,
            prague,
            osaka,
            blobs: cancun.then(|| self.blob_params(time, osaka)),
        }
    }

    /// EIP-7840, EIP-7892: the newest entry of the blob schedule that is active at `time`.
    fn blob_params(&self, time: u64, osaka: bool) -> BlobParams {
        let config = &self.config;
        let schedule = [
            ("bpo5", config.bpo5_time, None),
            ("bpo4", config.bpo4_time, None),
            ("bpo3", config.bpo3_time, None),
            ("bpo2", config.bpo2_time, Some(BlobParams::bpo2())),
            ("bpo1", config.bpo1_time, Some(BlobParams::bpo1())),
            ("osaka", config.osaka_time, Some(BlobParams::osaka())),
            ("prague", config.prague_time, Some(BlobParams::prague())),
            ("cancun", config.cancun_time, Some(BlobParams::cancun())),
        ];
        let active = schedule.into_iter().filter(|(_, at, _)| at.is_some_and(|at| at <= time));
        let params = active
            .filter_map(|(name, _, default)| config.blob_schedule.get(name).copied().or(default))
            .next()
            .unwrap_or_else(BlobParams::cancun);
        // A schedule in a file does not say what Osaka brought: EIP-7594's limit and EIP-7918's reserve.
        if osaka {
            params.with_max_blobs_per_tx(MAX_BLOBS_PER_TX_FUSAKA).with_blob_base_cost(BLOB_BASE_COST)
        } else {
            params.with_max_blobs_per_tx(params.max_blob_count).with_blob_base_cost(0)
        }
    }

    /// EIP-4844, EIP-7918: the excess blob gas of a block with `params` on `parent`.
    fn excess_blob_gas(&self, params: &BlobParams, parent: &Header) -> u64 {
        let excess = parent.excess_blob_gas.unwrap_or(0);
        let used = parent.blob_gas_used.unwrap_or(0);
        let (sum, target) = (excess.saturating_add(used), params.target_blob_gas_per_block());
        let Some(above) = sum.checked_sub(target) else { return 0 };
        let reserve = U256::from(params.blob_base_cost)
            .saturating_mul(U256::from(parent.base_fee_per_gas.unwrap_or(0)));
        let price = U256::from(params.calc_blob_fee(excess)).saturating_mul(U256::from(DATA_GAS_PER_BLOB));
        if params.blob_base_cost == 0 || reserve <= price {
            return above;
        }
        let spare = params.max_blob_count.saturating_sub(params.target_blob_count);
        let scaled = u128::from(used) * u128::from(spare) / u128::from(params.max_blob_count.max(1));
        excess.saturating_add(u64::try_from(scaled).unwrap_or(u64::MAX))
    }

    /// What is active in the block of `header` on `parent`.
    pub(crate) fn forks_of(&self, header: &Header, parent: &HeadInfo) -> Forks {
        self.forks(header.number, header.timestamp, parent.total_difficulty)
    }

    /// The base fee of block `number` on `parent`; `None` before London.
    pub(crate) fn base_fee(&self, number: u64, parent: &Header) -> Option<u64> {
        let london = |number| self.config.london_block.is_some_and(|block| block <= number);
        if !london(number) {
            return None;
        }
        Some(match self.fee_policy {
            FeePolicy::Zero => 0,
            FeePolicy::Fixed { base_fee } => base_fee,
            FeePolicy::Market if london(parent.number) => {
                parent.next_block_base_fee(BaseFeeParams::ethereum()).unwrap_or(INITIAL_BASE_FEE)
            }
            FeePolicy::Market => INITIAL_BASE_FEE,
        })
    }

    /// The gas limit of the block after `parent` that comes nearest to `target`.
    pub(crate) fn gas_limit(&self, parent: &Header, target: Option<u64>) -> u64 {
        let base = self.gas_limit_base(parent);
        let step = (base / GAS_LIMIT_BOUND).saturating_sub(1);
        let target = target.unwrap_or(base).clamp(GAS_LIMIT_MIN, GAS_LIMIT_MAX);
        target.clamp(base.saturating_sub(step), base.saturating_add(step))
    }

    fn gas_limit_base(&self, parent: &Header) -> u64 {
        // EIP-1559: the first block with a base fee starts from twice its parent's limit.
        if self.config.london_block == parent.number.checked_add(1) {
            parent.gas_limit.saturating_mul(ELASTICITY)
        } else {
            parent.gas_limit
        }
    }

    /// A header for the block after `parent`, with everything in it that no engine decides.
    pub(crate) fn next_header(&self, parent: &HeadInfo, target: Option<u64>) -> Header {
        let number = parent.header.number.saturating_add(1);
        Header {
            parent_hash: parent.hash,
            number,
            gas_limit: self.gas_limit(&parent.header, target),
            base_fee_per_gas: self.base_fee(number, &parent.header),
            timestamp: parent.header.timestamp,
            ..Header::default()
        }
    }

    /// Puts the fields into `header`, a child of `parent`, that come with the forks of its time, as far as they do not
    /// follow from its body.
    pub(crate) fn set_fork_fields(&self, header: &mut Header, parent: &Header, forks: Forks) {
        let root = header.parent_beacon_block_root.filter(|_| self.permits.beacon_root).unwrap_or_default();
        header.withdrawals_root = forks.shanghai.then_some(EMPTY_ROOT_HASH);
        header.parent_beacon_block_root = forks.cancun.then_some(root);
        header.blob_gas_used = forks.cancun.then_some(0);
        header.excess_blob_gas = forks.blobs.map(|params| self.next_excess_blob_gas(&params, parent));
        header.requests_hash = forks.prague.then_some(EMPTY_REQUESTS_HASH);
    }

    fn next_excess_blob_gas(&self, params: &BlobParams, parent: &Header) -> u64 {
        if self.permits.blobs { self.excess_blob_gas(params, parent) } else { 0 }
    }

    /// Checks `header` as the child of `parent`, before its engine does.
    pub(crate) fn verify_header(&self, header: &Header, parent: &HeadInfo) -> Result<(), InvalidHeader> {
        let forks = self.forks_of(header, parent);
        let permits = self.permits;
        ensure(header.parent_hash == parent.hash, "parentHash", "is not the parent's hash")?;
        ensure(
            parent.header.number.checked_add(1) == Some(header.number),
            "number",
            "does not follow the parent's",
        )?;
        ensure(
            (permits.ommers && !forks.paris) || header.ommers_hash == EMPTY_OMMER_ROOT_HASH,
            "sha3Uncles",
            "ommers are not allowed",
        )?;
        ensure(header.gas_used <= header.gas_limit, "gasUsed", "is more than gasLimit")?;
        let base = self.gas_limit_base(&parent.header);
        ensure(
            (GAS_LIMIT_MIN..=GAS_LIMIT_MAX).contains(&header.gas_limit)
                && header.gas_limit.abs_diff(base) < base / GAS_LIMIT_BOUND,
            "gasLimit",
            "moves too far from the parent's",
        )?;
        ensure(
            header.base_fee_per_gas == self.base_fee(header.number, &parent.header),
            "baseFeePerGas",
            "is not what follows from the parent",
        )?;
        // What the engine permits is there from its fork on with whatever value; what it does not has the one value.
        let mut expected = header.clone();
        self.set_fork_fields(&mut expected, &parent.header, forks);
        let fits = |permitted: bool, found: Option<B256>, expected: Option<B256>| {
            found == expected || (permitted && found.is_some() && expected.is_some())
        };
        ensure(
            fits(permits.withdrawals, header.withdrawals_root, expected.withdrawals_root),
            "withdrawalsRoot",
            FORK_FIELD,
        )?;
        let most = forks.blobs.map(|params| params.max_blob_gas_per_block()).filter(|_| permits.blobs);
        ensure(
            header.blob_gas_used.is_some() == forks.cancun
                && header.blob_gas_used.unwrap_or(0) <= most.unwrap_or(0),
            "blobGasUsed",
            FORK_FIELD,
        )?;
        ensure(header.excess_blob_gas == expected.excess_blob_gas, "excessBlobGas", FORK_FIELD)?;
        ensure(
            header.parent_beacon_block_root == expected.parent_beacon_block_root,
            "parentBeaconBlockRoot",
            FORK_FIELD,
        )?;
        ensure(
            fits(permits.requests, header.requests_hash, expected.requests_hash),
            "requestsHash",
            FORK_FIELD,
        )?;
        ensure(header.block_access_list_hash.is_none(), "blockAccessListHash", FORK_FIELD)?;
        ensure(header.slot_number.is_none(), "slotNumber", FORK_FIELD)
    }
}

const FORK_FIELD: &str = "is not what the active fork fixes it to";

fn ensure(holds: bool, field: &'static str, rule: &'static str) -> Result<(), InvalidHeader> {
    if holds { Ok(()) } else { Err(InvalidHeader { field, rule: rule.into() }) }
}
