//! `evm-blockchain`: blocks that follow each other or must not, across forks and branches.

use std::{path::Path, sync::Arc};

use alloy_primitives::B256;
use lightstreams_chain::{
    Block, BlockId, Chain, Genesis, ImportError, Imported, MemoryKv, decode_block, testing::Ethash,
};
use serde_json::Value;

use super::{
    archive,
    fixture::{alloc, bytes, config, field, optional, optional_quantity, quantity, root_of},
};
use crate::report::{Outcome, Report, Stop, ensure, failed, list};

/// Folders with archives of blockchain tests.
const FOLDERS: [&str; 3] = ["execution-spec-tests", "ethereum-tests", "ethereum-legacytests"];
/// A time after all blocks.
const NOW: u64 = u64::MAX >> 1;

/// Runs the suite.
pub(crate) fn run(root: &Path, report: &mut Report) {
    for folder in FOLDERS {
        let files = archive::files(root, folder, "blockchain-tests", report);
        report.on_all_cores(files, |file, report| {
            for (name, test) in archive::cases(&file, report) {
                let name = format!("{folder}/{}/{name}", file.name);
                if report.chooses(&name) {
                    report.case(&name, || check(&serde_json::from_str(test.get()).or_else(failed)?));
                }
            }
        });
    }
}

fn check(test: &Value) -> Outcome {
    let genesis = genesis(test)?;
    let (hash, expected) = (genesis.hash(), field::<B256>(&test["genesisBlockHeader"]["hash"])?);
    ensure(hash == expected, format_args!("the genesis has the hash {hash}, not {expected}"))?;
    let chain = open(&genesis)?;
    let mut taken = Vec::new();
    for (index, case) in list(&test["blocks"]).iter().enumerate() {
        let expected = case.as_object().and_then(|case| {
            case.iter()
                .find(|(key, _)| key.starts_with("expectException"))
                .map(|(_, value)| value.to_string())
        });
        // Some only leave out what a block would be.
        let expected = expected.or_else(|| case["blockHeader"].is_null().then(|| "a refusal".into()));
        let block = bytes(&case["rlp"]).ok().and_then(|rlp| decode_block(&rlp).ok());
        let head = chain.head();
        match (import(&chain, block.as_ref())?, expected) {
            (Ok(_), None) => taken.extend(block),
            (Ok(Imported::Side(_)), Some(_)) => {
                // A side block is executed when its branch is preferred. Alone with its branch it is.
                let block = block.as_ref().ok_or_else(|| Stop::Failed("no block".into()))?;
                ensure(
                    refused_alone(&genesis, &taken, block)?,
                    format_args!("block {index} of a branch is taken"),
                )?;
            }
            (Ok(done), Some(expected)) => {
                return failed(format_args!("block {index} is taken ({done:?}), against {expected}"));
            }
            (Err(reason), None) => return failed(format_args!("block {index} is refused: {reason}")),
            (Err(_), Some(_)) => {
                ensure(chain.head() == head, format_args!("refusing block {index} moved the head"))?;
            }
        }
    }
    let head = chain.head();
    let expected: B256 = field(&test["lastblockhash"])?;
    ensure(
        head.hash == expected,
        format_args!("the head is {} {}, not {expected}", head.number(), head.hash),
    )?;
    let root = match optional::<B256>(&test["postStateHash"])? {
        Some(root) => root,
        None => root_of(alloc(&test["postState"])?)?,
    };
    ensure(head.header.state_root == root, "the state at the head has another root")?;
    let state = chain.state(BlockId::Latest).or_else(failed)?;
    for (address, account) in optional::<super::fixture::Alloc>(&test["postState"])?.unwrap_or_default() {
        let balance = state.balance(address).or_else(failed)?;
        ensure(balance == account.balance, format_args!("{address} has {balance}"))?;
    }
    Ok(())
}

fn genesis(test: &Value) -> Result<Genesis, Stop> {
    let header = &test["genesisBlockHeader"];
    let network = test["network"].as_str().unwrap_or_default();
    let chain_id = optional_quantity(&test["config"]["chainid"])?.unwrap_or(1);
    let file = alloy_genesis::Genesis {
        config: config(network, chain_id, &test["config"]["blobSchedule"])?,
        alloc: alloc(&test["pre"])?,
        nonce: quantity(&header["nonce"])?,
        timestamp: quantity(&header["timestamp"])?,
        extra_data: bytes(&header["extraData"])?,
        gas_limit: quantity(&header["gasLimit"])?,
        difficulty: field(&header["difficulty"])?,
        mix_hash: field(&header["mixHash"])?,
        coinbase: field(&header["coinbase"])?,
        parent_hash: Some(field(&header["parentHash"])?),
        base_fee_per_gas: optional_quantity(&header["baseFeePerGas"])?.map(u128::from),
        excess_blob_gas: optional_quantity(&header["excessBlobGas"])?,
        blob_gas_used: optional_quantity(&header["blobGasUsed"])?,
        ..Default::default()
    };
    Genesis::new(file).or_else(failed)
}

fn open(genesis: &Genesis) -> Result<Chain, Stop> {
    let engine = Arc::new(Ethash::for_genesis(genesis));
    Chain::open(genesis.clone(), Arc::new(MemoryKv::default()), engine).or_else(failed)
}

/// Imports a block; what is no block is refused. That our storage fails is no refusal.
fn import(chain: &Chain, block: Option<&Block>) -> Result<Result<Imported, String>, Stop> {
    let Some(block) = block else { return Ok(Err("it does not decode".into())) };
    match chain.import(block.clone(), NOW) {
        Err(ImportError::Storage(error)) => failed(format_args!("storage: {error}")),
        Err(ImportError::Invalid { reason, .. }) => Ok(Err(reason.to_string())),
        other => Ok(other.map_err(|error| error.to_string())),
    }
}

/// Whether a chain that has only the ancestors of `block` refuses it.
fn refused_alone(genesis: &Genesis, taken: &[Block], block: &Block) -> Result<bool, Stop> {
    let chain = open(genesis)?;
    let mut branch: Vec<&Block> = Vec::new();
    let mut parent = block.header.parent_hash;
    while let Some(ancestor) = taken.iter().find(|taken| taken.header.hash_slow() == parent) {
        parent = ancestor.header.parent_hash;
        branch.push(ancestor);
    }
    for ancestor in branch.into_iter().rev() {
        import(&chain, Some(ancestor))?.or_else(failed)?;
    }
    Ok(import(&chain, Some(block))?.is_err())
}
