//! What tests of Ethereum have in common: names of forks, accounts, numbers and bytes in hex.

use std::collections::BTreeMap;

use alloy_eips::eip7840::BlobParams;
use alloy_genesis::{ChainConfig, GenesisAccount};
use alloy_primitives::{Address, B256, Bytes, U256, address};
use lightstreams_chain::Genesis;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::report::{Stop, failed};

/// The contract whose logs are deposits, in all tests.
const DEPOSITS: Address = address!("00000000219ab540356cbb839cbe05303d7705fa");

/// The one fork that only networks have which name it.
const DAO: &str = "Dao";

/// Where in a configuration a fork is set.
type Setter = fn(&mut ChainConfig, u64);

/// The forks in their order, by the names that tests have for them.
const FORKS: [(&str, Setter); 22] = [
    ("Frontier", |_, _| {}),
    ("Homestead", |config, at| config.homestead_block = Some(at)),
    (DAO, |config, at| (config.dao_fork_block, config.dao_fork_support) = (Some(at), true)),
    ("EIP150", |config, at| config.eip150_block = Some(at)),
    ("EIP158", |config, at| (config.eip155_block, config.eip158_block) = (Some(at), Some(at))),
    ("Byzantium", |config, at| config.byzantium_block = Some(at)),
    ("Constantinople", |config, at| {
        (config.constantinople_block, config.petersburg_block) = (Some(at), Some(u64::MAX));
    }),
    ("ConstantinopleFix", |config, at| config.petersburg_block = Some(at)),
    ("Istanbul", |config, at| config.istanbul_block = Some(at)),
    ("MuirGlacier", |config, at| config.muir_glacier_block = Some(at)),
    ("Berlin", |config, at| config.berlin_block = Some(at)),
    ("London", |config, at| config.london_block = Some(at)),
    ("ArrowGlacier", |config, at| config.arrow_glacier_block = Some(at)),
    ("GrayGlacier", |config, at| config.gray_glacier_block = Some(at)),
    ("Paris", |config, at| config.terminal_total_difficulty = Some(U256::from(at))),
    ("Shanghai", |config, at| config.shanghai_time = Some(at)),
    ("Cancun", |config, at| config.cancun_time = Some(at)),
    ("Prague", |config, at| config.prague_time = Some(at)),
    ("Osaka", |config, at| config.osaka_time = Some(at)),
    ("BPO1", |config, at| config.bpo1_time = Some(at)),
    ("BPO2", |config, at| config.bpo2_time = Some(at)),
    ("BPO3", |config, at| config.bpo3_time = Some(at)),
];

/// The configuration of a network that tests name `network`: a fork, or `EarlierToLaterAt5` (a block), `..AtTime15k`,
/// `..AtDiffC0000`.
pub(crate) fn config(network: &str, chain_id: u64, blob_schedule: &Value) -> Result<ChainConfig, Stop> {
    let mut config =
        ChainConfig { chain_id, deposit_contract_address: Some(DEPOSITS), ..ChainConfig::default() };
    for (fork, params) in blob_schedule.as_object().into_iter().flatten() {
        let params = |key| quantity(&params[key]);
        let (target, max) = (params("target")?, params("max")?);
        let update_fraction = u128::from(params("baseFeeUpdateFraction")?);
        let params = BlobParams {
            target_blob_count: target,
            max_blob_count: max,
            update_fraction,
            ..BlobParams::cancun()
        };
        config.blob_schedule.insert(fork.to_lowercase(), params);
    }
    let (earlier, later) = match network.split_once("To").filter(|(_, rest)| rest.contains("At")) {
        Some((earlier, rest)) => (earlier, rest.rsplit_once("At")),
        None => (network, None),
    };
    let index = |name: &str| {
        let name = if name == "Merge" { "Paris" } else { name };
        FORKS.iter().position(|(fork, _)| *fork == name).ok_or(Stop::Skipped("a fork that we do not have"))
    };
    let first = index(earlier)?;
    for (fork, set) in &FORKS[..=first] {
        if *fork != DAO {
            set(&mut config, 0);
        }
    }
    if let Some((later, at)) = later {
        let at = match (at.strip_prefix("Time"), at.strip_prefix("Diff")) {
            (Some(time), _) => number_with_thousands(time),
            (_, Some(difficulty)) => u64::from_str_radix(difficulty, 16).ok(),
            _ => at.parse().ok(),
        };
        let at = at.ok_or(Stop::Skipped("a transition that we do not have"))?;
        for (fork, set) in &FORKS[first + 1..=index(later)?] {
            if *fork != DAO || later == DAO {
                set(&mut config, at);
            }
        }
    }
    Ok(config)
}

fn number_with_thousands(text: &str) -> Option<u64> {
    match text.strip_suffix('k') {
        Some(thousands) => Some(thousands.parse::<u64>().ok()? * 1_000),
        None => text.parse().ok(),
    }
}

/// Accounts by their addresses.
pub(crate) type Alloc = BTreeMap<Address, GenesisAccount>;

/// The accounts of a test.
pub(crate) fn alloc(accounts: &Value) -> Result<Alloc, Stop> {
    field(accounts)
}

/// The root of a state that is given in full, by another way than the one under test.
pub(crate) fn root_of(alloc: Alloc) -> Result<B256, Stop> {
    let file = alloy_genesis::Genesis { alloc, ..Default::default() };
    Ok(Genesis::new(file).or_else(failed)?.header().state_root)
}

/// A value that is there.
pub(crate) fn field<T: DeserializeOwned>(value: &Value) -> Result<T, Stop> {
    T::deserialize(value).or_else(failed)
}

/// A value that may be absent, null or empty.
pub(crate) fn optional<T: DeserializeOwned>(value: &Value) -> Result<Option<T>, Stop> {
    if value.is_null() || value == "" { Ok(None) } else { field(value).map(Some) }
}

/// A number in hex or decimal, as text or as JSON has it.
pub(crate) fn quantity(value: &Value) -> Result<u64, Stop> {
    match value.as_u64() {
        Some(number) => Ok(number),
        None => u64::try_from(field::<U256>(value)?).or_else(failed),
    }
}

/// As [`quantity`], or `None` if it is not there.
pub(crate) fn optional_quantity(value: &Value) -> Result<Option<u64>, Stop> {
    if value.is_null() { Ok(None) } else { quantity(value).map(Some) }
}

/// Bytes in hex.
pub(crate) fn bytes(value: &Value) -> Result<Bytes, Stop> {
    field(value)
}
