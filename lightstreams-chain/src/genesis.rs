//! The genesis file: geth's `genesis.json` with our own section, and the block it stands for.
//!
//! ```text
//! { "config": { "chainId": .., "osakaTime": 0, "clique": { "period": .., "epoch": .. },
//!               "lightstreams": { "engines": [{ "at": 0, "engine": "clique" }], "blockPeriodMs": 1000, "emptyBlockMs": 10000,
//!                                 "feePolicy": { "kind": "market" }, "contracts": { "registry": "0x.." } } },
//!   "alloc": { .. }, "extraData": "0x..", .. }
//! ```

use std::collections::BTreeMap;

use alloy_consensus::Header;
use alloy_eips::{eip2935, eip7685::EMPTY_REQUESTS_HASH};
use alloy_genesis::{CliqueConfig, GenesisAccount};
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_trie::{EMPTY_ROOT_HASH, root::state_root_unhashed};
use serde::{Deserialize, Serialize};

use crate::{Permits, execute, rules::Rules};

/// Names that `config.lightstreams.contracts` may have.
const CONTRACTS: [&str; 11] = [
    "registry",
    "custodians",
    "market",
    "royalties",
    "curation",
    "identity",
    "docSign",
    "governor",
    "timelock",
    "accessLog",
    "legacyAcl",
];

/// Gas limit of the blocks of a new network.
const GAS_LIMIT: u64 = 30_000_000;
/// Base fee of block 0 where the market makes it.
const INITIAL_BASE_FEE: u64 = 1_000_000_000;
/// Blobs of one block at most, whatever a blob schedule would like.
const BLOBS_MAX: u64 = 1 << 16;
/// The longest time between empty blocks.
const EMPTY_BLOCK_MS_MAX: u64 = 60_000;
/// The time between empty blocks where a file does not say.
const EMPTY_BLOCK_MS: u64 = 10_000;
/// Checkpoint distance of a new Clique network, as EIP-225 recommends.
const CLIQUE_EPOCH: u64 = 30_000;

/// A genesis, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genesis {
    file: alloy_genesis::Genesis,
    network: Option<NetworkConfig>,
}

/// `config.lightstreams` of a genesis file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Which engine seals from which block on; the first from block 0.
    pub engines: Vec<EngineSwitch>,
    /// Time between blocks with transactions, in milliseconds.
    pub block_period_ms: u64,
    /// Time between empty blocks, in milliseconds; `None` never seals one (only for `dev`).
    pub empty_block_ms: Option<u64>,
    /// What gas costs.
    pub fee_policy: FeePolicy,
    /// Who gets the fees under `fixed` and `zero`; the sealer if absent.
    pub fee_recipient: Option<Address>,
    /// Contracts predeployed, by their names: `registry`, `custodians`, `market` ..
    pub contracts: BTreeMap<String, Address>,
}

/// From block `at` on, `engine` seals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineSwitch {
    /// First block.
    pub at: u64,
    /// The engine.
    pub engine: EngineKind,
}

/// An engine that a genesis can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    /// EIP-225.
    Clique,
    /// Byzantine-fault-tolerant, by commit seals; with a contract that names the validators, or with the header.
    Bft {
        /// The contract, if validators come from one.
        contract: Option<Address>,
    },
    /// One local sealer.
    Dev,
}

/// What gas costs on a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeePolicy {
    /// EIP-1559: the base fee follows demand, and is burnt.
    Market,
    /// The base fee stays, and is credited like a tip.
    Fixed {
        /// The base fee in wei.
        base_fee: u64,
    },
    /// The base fee is zero.
    Zero,
}

/// Why a genesis is not usable.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum GenesisError {
    /// The file is not JSON, or a field has the wrong form.
    #[error("genesis.json: {0}")]
    Json(String),
    /// A field has a value it must not have.
    #[error("genesis.json: {field}: {rule}")]
    Field {
        /// Path of the field.
        field: String,
        /// What is wrong.
        rule: String,
    },
    /// The constructor of a contract to predeploy failed.
    #[error("the constructor for {address} failed: {reason}")]
    Constructor {
        /// Where it was to stand.
        address: Address,
        /// What the machine said.
        reason: String,
    },
}

impl GenesisError {
    fn field(field: impl Into<String>, rule: impl Into<String>) -> Self {
        Self::Field { field: field.into(), rule: rule.into() }
    }
}

impl Genesis {
    /// Reads a genesis file.
    pub fn from_json(json: &[u8]) -> Result<Self, GenesisError> {
        let malformed = |error: serde_json::Error| GenesisError::Json(error.to_string());
        let mut file: serde_json::Value = serde_json::from_slice(json).map_err(malformed)?;
        for field in ["alloc", "difficulty", "gasLimit"] {
            if file.get(field).is_none() {
                return Err(GenesisError::field(field, "is missing"));
            }
        }
        let accounts = file.get_mut("alloc").and_then(serde_json::Value::as_object_mut);
        for account in accounts.into_iter().flat_map(|accounts| accounts.values_mut()) {
            if let Some(account) = account.as_object_mut() {
                account.entry("balance").or_insert_with(|| "0x0".into());
            }
        }
        Self::new(serde_json::from_value(file).map_err(malformed)?)
    }

    /// Checks a genesis made in memory.
    pub fn new(file: alloy_genesis::Genesis) -> Result<Self, GenesisError> {
        if file.number.unwrap_or(0) != 0 {
            return Err(GenesisError::field("number", "a genesis is block 0"));
        }
        if file.gas_limit > i64::MAX as u64 {
            return Err(GenesisError::field("gasLimit", "is more than 2^63 - 1"));
        }
        if file.base_fee_per_gas.is_some_and(|fee| u64::try_from(fee).is_err()) {
            return Err(GenesisError::field("baseFeePerGas", "is more than 2^64 - 1"));
        }
        check_forks(&file.config)?;
        let network = match file.config.extra_fields.get("lightstreams") {
            None => None,
            Some(section) => Some(read_network(section, &file.config)?),
        };
        Ok(Self { file, network })
    }

    /// A new network: every fork to Osaka from block 0, EIP-2935 predeployed, `network` as given, and the authorities in
    /// `extra_data`, in the form of the first engine.
    pub fn for_network(
        chain_id: u64,
        network: NetworkConfig,
        extra_data: Bytes,
        timestamp: u64,
    ) -> Result<Self, GenesisError> {
        let zero = Some(0);
        let mut file = alloy_genesis::Genesis {
            timestamp,
            extra_data,
            gas_limit: GAS_LIMIT,
            difficulty: U256::ONE,
            base_fee_per_gas: Some(u128::from(initial_base_fee(network.fee_policy))),
            ..Default::default()
        };
        let config = &mut file.config;
        config.chain_id = chain_id;
        config.homestead_block = zero;
        config.eip150_block = zero;
        config.eip155_block = zero;
        config.eip158_block = zero;
        config.byzantium_block = zero;
        config.constantinople_block = zero;
        config.petersburg_block = zero;
        config.istanbul_block = zero;
        config.muir_glacier_block = zero;
        config.berlin_block = zero;
        config.london_block = zero;
        config.arrow_glacier_block = zero;
        config.gray_glacier_block = zero;
        config.merge_netsplit_block = zero;
        config.shanghai_time = zero;
        config.cancun_time = zero;
        config.prague_time = zero;
        config.osaka_time = zero;
        config.terminal_total_difficulty = Some(U256::ZERO);
        config.terminal_total_difficulty_passed = true;
        file.alloc.insert(
            eip2935::HISTORY_STORAGE_ADDRESS,
            GenesisAccount {
                nonce: Some(1),
                code: Some(eip2935::HISTORY_STORAGE_CODE.clone()),
                ..Default::default()
            },
        );
        let mut genesis = Self { file, network: None };
        genesis.set_network(network)?;
        Ok(genesis)
    }

    /// The file, as [`Genesis::from_json`] reads it.
    pub fn to_json(&self) -> String {
        // A genesis holds numbers, strings and maps with string keys: nothing that JSON cannot.
        serde_json::to_string_pretty(&self.file).unwrap_or_default()
    }

    /// The file's content.
    pub fn file(&self) -> &alloy_genesis::Genesis {
        &self.file
    }

    /// The chain id.
    pub fn chain_id(&self) -> u64 {
        self.file.config.chain_id
    }

    /// Our section, if the file has one.
    pub fn network(&self) -> Option<&NetworkConfig> {
        self.network.as_ref()
    }

    /// Changes our section, keeping the file in step.
    pub fn set_network(&mut self, network: NetworkConfig) -> Result<(), GenesisError> {
        if let Some(EngineSwitch { engine: EngineKind::Clique, .. }) = network.engines.first() {
            let epoch = self.file.config.clique.and_then(|clique| clique.epoch).unwrap_or(CLIQUE_EPOCH);
            self.file.config.clique =
                Some(CliqueConfig { period: Some(network.block_period_ms / 1_000), epoch: Some(epoch) });
        }
        let section = serde_json::to_value(NetworkSection::from(&network))
            .map_err(|error| GenesisError::Json(error.to_string()))?;
        // What was made in memory goes through the same checks as a file.
        self.network = Some(read_network(&section, &self.file.config)?);
        self.file.config.extra_fields.insert("lightstreams".into(), section);
        Ok(())
    }

    /// Seconds that must lie between a block and its parent.
    pub fn period_seconds(&self) -> u64 {
        match &self.network {
            Some(network) => network.block_period_ms / 1_000,
            None => self.file.config.clique.and_then(|clique| clique.period).unwrap_or(0),
        }
    }

    /// Gives `address` a balance from the start, beside what it has.
    pub fn fund(&mut self, address: Address, wei: U256) {
        let account = self.file.alloc.entry(address).or_default();
        account.balance = account.balance.saturating_add(wei);
    }

    /// Runs `init_code` as `sender` and puts the contract it makes at `address`, with its code and storage. Contracts
    /// predeployed before are there already, and the constructor may call them.
    pub fn predeploy(
        &mut self,
        address: Address,
        init_code: Bytes,
        sender: Address,
    ) -> Result<(), GenesisError> {
        let rules = Rules::new(self, Permits::default());
        let header = self.header();
        let changed = execute::construct(&rules, &header, &self.file.alloc, address, init_code, sender)
            .map_err(|reason| GenesisError::Constructor { address, reason })?;
        for (address, account) in changed {
            self.file.alloc.insert(address, account);
        }
        Ok(())
    }

    /// Header of block 0.
    pub fn header(&self) -> Header {
        let file = &self.file;
        let rules = Rules::new(self, Permits::default());
        let forks = rules.forks(0, file.timestamp, U256::ZERO);
        let base_fee = file.base_fee_per_gas.and_then(|fee| u64::try_from(fee).ok());
        Header {
            parent_hash: file.parent_hash.unwrap_or_default(),
            beneficiary: file.coinbase,
            state_root: state_root_unhashed(
                file.alloc.iter().map(|(address, account)| (*address, account.clone().into_trie_account())),
            ),
            difficulty: file.difficulty,
            gas_limit: file.gas_limit,
            timestamp: file.timestamp,
            extra_data: file.extra_data.clone(),
            mix_hash: file.mix_hash,
            nonce: file.nonce.into(),
            base_fee_per_gas: forks
                .london
                .then(|| base_fee.unwrap_or_else(|| initial_base_fee(rules.fee_policy()))),
            withdrawals_root: forks.shanghai.then_some(EMPTY_ROOT_HASH),
            parent_beacon_block_root: forks.cancun.then_some(B256::ZERO),
            blob_gas_used: forks.cancun.then(|| file.blob_gas_used.unwrap_or(0)),
            excess_blob_gas: forks.cancun.then(|| file.excess_blob_gas.unwrap_or(0)),
            requests_hash: forks.prague.then_some(EMPTY_REQUESTS_HASH),
            ..Header::default()
        }
    }

    /// Hash of block 0 under engines that hash headers plainly.
    pub fn hash(&self) -> B256 {
        self.header().hash_slow()
    }

    /// Accounts with code and storage of block 0: code hash, code, and slots that are not zero.
    pub(crate) fn alloc(&self) -> impl Iterator<Item = (&Address, &GenesisAccount)> {
        self.file.alloc.iter()
    }
}

/// Code of a genesis account with its hash, if it has any.
pub(crate) fn code_of(account: &GenesisAccount) -> Option<(B256, &Bytes)> {
    account.code.as_ref().filter(|code| !code.is_empty()).map(|code| (keccak256(code), code))
}

fn initial_base_fee(policy: FeePolicy) -> u64 {
    match policy {
        FeePolicy::Market => INITIAL_BASE_FEE,
        FeePolicy::Fixed { base_fee } => base_fee,
        FeePolicy::Zero => 0,
    }
}

/// Forks come in their order, or a node would run rules that no one knows.
fn check_forks(config: &alloy_genesis::ChainConfig) -> Result<(), GenesisError> {
    let blocks = [
        ("homesteadBlock", config.homestead_block),
        ("eip150Block", config.eip150_block),
        ("eip155Block", config.eip155_block),
        ("eip158Block", config.eip158_block),
        ("byzantiumBlock", config.byzantium_block),
        ("constantinopleBlock", config.constantinople_block),
        ("petersburgBlock", config.petersburg_block.or(config.constantinople_block)),
        ("istanbulBlock", config.istanbul_block),
        ("berlinBlock", config.berlin_block),
        ("londonBlock", config.london_block),
    ];
    let times = [
        ("shanghaiTime", config.shanghai_time),
        ("cancunTime", config.cancun_time),
        ("pragueTime", config.prague_time),
        ("osakaTime", config.osaka_time),
    ];
    let blobs = [
        ("osakaTime", config.osaka_time),
        ("bpo1Time", config.bpo1_time),
        ("bpo2Time", config.bpo2_time),
        ("bpo3Time", config.bpo3_time),
        ("bpo4Time", config.bpo4_time),
        ("bpo5Time", config.bpo5_time),
    ];
    for forks in [&blocks[..], &times[..], &blobs[..]] {
        let mut last: Option<(&str, Option<u64>)> = None;
        for (name, at) in forks {
            if let (Some(at), Some((earlier, before))) = (at, last)
                && before.is_none_or(|before| before > *at)
            {
                return Err(GenesisError::field(
                    format!("config.{name}"),
                    format!("is {at}, but {earlier}, which comes before it, is {}", Shown(before)),
                ));
            }
            last = Some((name, *at));
        }
    }
    if config.shanghai_time.is_some() && config.london_block.is_none() {
        return Err(GenesisError::field("config.shanghaiTime", "is set, but londonBlock is not"));
    }
    check_blob_schedule(config)?;
    for (name, at) in [("amsterdamTime", config.amsterdam_time), ("bogotaTime", config.bogota_time)] {
        if at.is_some() {
            return Err(GenesisError::field(
                format!("config.{name}"),
                "this software knows the forks to Osaka",
            ));
        }
    }
    Ok(())
}

/// EIP-7840: entries that a price can be computed from, and one for each fork that has no numbers of its own.
fn check_blob_schedule(config: &alloy_genesis::ChainConfig) -> Result<(), GenesisError> {
    let field = |name: &str| format!("config.blobSchedule.{name}");
    for (name, params) in &config.blob_schedule {
        if params.update_fraction == 0 || params.update_fraction > u128::from(u64::MAX) {
            return Err(GenesisError::field(field(name), "baseFeeUpdateFraction must be 1 to 2^64 - 1"));
        }
        if params.target_blob_count > params.max_blob_count || params.max_blob_count > BLOBS_MAX {
            return Err(GenesisError::field(
                field(name),
                format!("target must not be more than max, nor max than {BLOBS_MAX}"),
            ));
        }
    }
    let bare = [("bpo3", config.bpo3_time), ("bpo4", config.bpo4_time), ("bpo5", config.bpo5_time)];
    for (name, at) in bare {
        if at.is_some() && !config.blob_schedule.contains_key(name) {
            return Err(GenesisError::field(field(name), format!("is missing, but {name}Time is set")));
        }
    }
    Ok(())
}

struct Shown(Option<u64>);

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(at) => write!(f, "{at}"),
            None => f.write_str("not set"),
        }
    }
}

/// `config.lightstreams` as it is written.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NetworkSection {
    engines: Vec<EngineSection>,
    block_period_ms: u64,
    #[serde(default = "default_empty_block_ms")]
    empty_block_ms: Option<u64>,
    fee_policy: FeeSection,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fee_recipient: Option<Address>,
    contracts: BTreeMap<String, Address>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EngineSection {
    at: u64,
    engine: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    validators: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    contract: Option<Address>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FeeSection {
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base_fee: Option<u64>,
}

fn default_empty_block_ms() -> Option<u64> {
    Some(EMPTY_BLOCK_MS)
}

impl From<&NetworkConfig> for NetworkSection {
    fn from(network: &NetworkConfig) -> Self {
        let engine = |switch: &EngineSwitch| {
            let (engine, validators, contract) = match switch.engine {
                EngineKind::Clique => ("clique", None, None),
                EngineKind::Dev => ("dev", None, None),
                EngineKind::Bft { contract: None } => ("bft", Some("header"), None),
                EngineKind::Bft { contract } => ("bft", Some("contract"), contract),
            };
            EngineSection {
                at: switch.at,
                engine: engine.into(),
                validators: validators.map(Into::into),
                contract,
            }
        };
        let (kind, base_fee) = match network.fee_policy {
            FeePolicy::Market => ("market", None),
            FeePolicy::Fixed { base_fee } => ("fixed", Some(base_fee)),
            FeePolicy::Zero => ("zero", None),
        };
        Self {
            engines: network.engines.iter().map(engine).collect(),
            block_period_ms: network.block_period_ms,
            empty_block_ms: network.empty_block_ms,
            fee_policy: FeeSection { kind: kind.into(), base_fee },
            fee_recipient: network.fee_recipient,
            contracts: network.contracts.clone(),
        }
    }
}

fn read_network(
    section: &serde_json::Value,
    config: &alloy_genesis::ChainConfig,
) -> Result<NetworkConfig, GenesisError> {
    let path = |name: &str| format!("config.lightstreams.{name}");
    let section = NetworkSection::deserialize(section)
        .map_err(|error| GenesisError::field("config.lightstreams", error.to_string()))?;
    let engines = section
        .engines
        .iter()
        .enumerate()
        .map(|(index, engine)| {
            read_engine(engine).map_err(|rule| GenesisError::field(path(&format!("engines[{index}]")), rule))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let Some(first) = engines.first() else {
        return Err(GenesisError::field(path("engines"), "must name at least one engine"));
    };
    if first.at != 0 {
        return Err(GenesisError::field(path("engines[0].at"), "the first engine seals from block 0 on"));
    }
    if !engines.is_sorted_by(|a, b| a.at < b.at) {
        return Err(GenesisError::field(path("engines"), "`at` must ascend"));
    }
    let only_dev = engines.iter().all(|switch| switch.engine == EngineKind::Dev);
    match section.empty_block_ms {
        None if !only_dev => {
            return Err(GenesisError::field(path("emptyBlockMs"), "null is only for the dev engine"));
        }
        Some(ms) if ms > EMPTY_BLOCK_MS_MAX => {
            return Err(GenesisError::field(
                path("emptyBlockMs"),
                format!("{ms} is more than {EMPTY_BLOCK_MS_MAX}"),
            ));
        }
        Some(ms) if ms < section.block_period_ms => {
            return Err(GenesisError::field(
                path("emptyBlockMs"),
                format!("{ms} is less than blockPeriodMs, {}", section.block_period_ms),
            ));
        }
        _ => {}
    }
    let fee_policy = match (section.fee_policy.kind.as_str(), section.fee_policy.base_fee) {
        ("market", None) => FeePolicy::Market,
        ("zero", None) => FeePolicy::Zero,
        ("fixed", Some(base_fee)) => FeePolicy::Fixed { base_fee },
        ("fixed", None) => {
            return Err(GenesisError::field(path("feePolicy.baseFee"), "a fixed fee needs it"));
        }
        ("market" | "zero", Some(_)) => {
            return Err(GenesisError::field(path("feePolicy.baseFee"), "belongs to a fixed fee only"));
        }
        (kind, _) => {
            return Err(GenesisError::field(
                path("feePolicy.kind"),
                format!("{kind:?} is none of market, fixed, zero"),
            ));
        }
    };
    if fee_policy == FeePolicy::Market && section.fee_recipient.is_some() {
        return Err(GenesisError::field(
            path("feeRecipient"),
            "belongs to fixed and zero fees; market burns the base fee",
        ));
    }
    for name in section.contracts.keys() {
        if !CONTRACTS.contains(&name.as_str()) {
            return Err(GenesisError::field(
                path(&format!("contracts.{name}")),
                format!("unknown; the names are {}", CONTRACTS.join(", ")),
            ));
        }
    }
    let period = section.block_period_ms / 1_000;
    if engines.iter().any(|switch| switch.engine == EngineKind::Clique)
        && config.clique.is_none_or(|clique| clique.period.unwrap_or(0) != period)
    {
        return Err(GenesisError::field(
            "config.clique.period",
            format!("must be {period}, the whole seconds of config.lightstreams.blockPeriodMs"),
        ));
    }
    Ok(NetworkConfig {
        engines,
        block_period_ms: section.block_period_ms,
        empty_block_ms: section.empty_block_ms,
        fee_policy,
        fee_recipient: section.fee_recipient,
        contracts: section.contracts,
    })
}

fn read_engine(section: &EngineSection) -> Result<EngineSwitch, String> {
    let engine = match (section.engine.as_str(), section.validators.as_deref(), section.contract) {
        ("clique", None, None) => EngineKind::Clique,
        ("dev", None, None) => EngineKind::Dev,
        ("bft", None | Some("header"), None) => EngineKind::Bft { contract: None },
        ("bft", Some("contract"), Some(contract)) => EngineKind::Bft { contract: Some(contract) },
        ("bft", Some("contract"), None) => return Err("validators from a contract need `contract`".into()),
        ("bft", None | Some("header"), Some(_)) => {
            return Err("`contract` needs `validators: \"contract\"`".into());
        }
        ("bft", Some(other), _) => {
            return Err(format!("validators: {other:?} is neither header nor contract"));
        }
        ("clique" | "dev", _, _) => return Err("`validators` and `contract` belong to bft".into()),
        (other, _, _) => return Err(format!("engine: {other:?} is none of clique, bft, dev")),
    };
    Ok(EngineSwitch { at: section.at, engine })
}
