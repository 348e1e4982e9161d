//! The genesis file: geth's `genesis.json` with our own section, and the block it stands for.

use std::collections::BTreeMap;

use alloy_consensus::Header;
use alloy_primitives::{Address, B256, Bytes, U256};

/// A genesis, checked.
#[derive(Clone, Debug)]
pub struct Genesis {
    pub(crate) file: alloy_genesis::Genesis,
    pub(crate) network: Option<NetworkConfig>,
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
#[derive(Clone, Debug, PartialEq, Eq)]
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

impl Genesis {
    /// Reads a genesis file.
    pub fn from_json(_json: &[u8]) -> Result<Self, GenesisError> {
        todo!()
    }
    /// Checks a genesis made in memory.
    pub fn new(_file: alloy_genesis::Genesis) -> Result<Self, GenesisError> {
        todo!()
    }
    /// A new network: every fork to Osaka from block 0, EIP-2935 predeployed, `network` as given, and what the engine
    /// wants in `extra_data`.
    pub fn for_network(
        _chain_id: u64,
        _network: NetworkConfig,
        _extra_data: Bytes,
        _timestamp: u64,
    ) -> Result<Self, GenesisError> {
        todo!()
    }
    /// The file, as `from_json` reads it.
    pub fn to_json(&self) -> String {
        todo!()
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
    pub fn set_network(&mut self, _network: NetworkConfig) -> Result<(), GenesisError> {
        todo!()
    }
    /// Seconds that must lie between a block and its parent.
    pub fn period_seconds(&self) -> u64 {
        todo!()
    }
    /// Gives `address` a balance from the start.
    pub fn fund(&mut self, _address: Address, _wei: U256) {
        todo!()
    }
    /// Runs `init_code` as `sender` and puts the contract it makes at `address`, with its code and storage. Contracts
    /// predeployed before are there already, and may be called by the constructor.
    pub fn predeploy(
        &mut self,
        _address: Address,
        _init_code: Bytes,
        _sender: Address,
    ) -> Result<(), GenesisError> {
        todo!()
    }
    /// Header of block 0.
    pub fn header(&self) -> Header {
        todo!()
    }
    /// Hash of block 0 under engines that hash headers plainly.
    pub fn hash(&self) -> B256 {
        self.header().hash_slow()
    }
}
