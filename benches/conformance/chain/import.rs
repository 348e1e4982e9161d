//! `chain-import`: whole chains of others, from their files.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use alloy_primitives::{B256, U256};
use alloy_rlp::Decodable;
use lightstreams_chain::{Block, BlockId, Chain, Clique, Engine, Genesis, MemoryKv, testing::Ethash};
use serde_json::Value;

use super::{
    archive::unpack,
    fixture::{field, optional, quantity},
};
use crate::report::{Outcome, Report, Stop, ensure, failed, files_below};

/// Folders below which chains are.
const FOLDERS: [&str; 3] = ["chain-import", "chain-load", "execution-apis/tests"];
/// Names that files of blocks have.
const FILES: [&str; 3] = ["chain.rlp", "chain.blocks", "chain.rlp.zst"];
/// A time after all blocks.
const NOW: u64 = u64::MAX >> 1;

/// Runs the suite: each folder with a genesis and a file of blocks is a case.
pub(crate) fn run(root: &Path, report: &mut Report) {
    for folder in FOLDERS {
        for genesis in files_below(&root.join(folder), "/genesis.json") {
            let folder = genesis.with_file_name("");
            let Some(file) = FILES.iter().map(|file| folder.join(file)).find(|file| file.is_file()) else {
                continue;
            };
            report.case(folder.strip_prefix(root).unwrap_or(&folder).display(), || check(&genesis, &file));
        }
    }
}

fn check(genesis: &Path, file: &Path) -> Outcome {
    let mut config: Value = read(genesis)?;
    let fixed = &config["config"]["ethash"]["fixeddifficulty"];
    let fixed = if fixed.is_null() { None } else { Some(U256::from(quantity(fixed)?)) };
    name_all_forks(&mut config);
    let genesis = Genesis::from_json(config.to_string().as_bytes()).or_else(failed)?;
    let engine: Arc<dyn Engine> = if genesis.file().config.clique.is_some() {
        Arc::new(Clique::for_genesis(&genesis))
    } else {
        let ethash = Ethash::for_genesis(&genesis);
        Arc::new(fixed.map_or(ethash.clone(), |difficulty| ethash.with_difficulty(difficulty)))
    };
    let chain = Chain::open(genesis, Arc::new(MemoryKv::default()), engine).or_else(failed)?;

    let packed = file.extension().is_some_and(|extension| extension == "zst");
    let bytes = if packed { unpack(file).or_else(failed)? } else { std::fs::read(file).or_else(failed)? };
    let blocks = blocks_of(&bytes)?;
    let last = blocks.last().map(|block| block.header.hash_slow());
    for block in blocks {
        let number = block.header.number;
        if number == 0 {
            ensure(block.header.hash_slow() == chain.genesis_hash(), "another genesis")?;
        } else {
            chain.import(block, NOW).or_else(|error| failed(format_args!("block {number}: {error:?}")))?;
        }
    }
    let head = chain.head();
    ensure(Some(head.hash) == last, format_args!("the head is block {}", head.number()))?;
    check_words(&chain, file)
}

/// What stands beside a chain about its head.
fn check_words(chain: &Chain, file: &Path) -> Outcome {
    let beside = |name: &str| -> Result<Option<Value>, Stop> {
        let path: PathBuf = file.with_file_name(name);
        if path.is_file() { read(&path).map(Some) } else { Ok(None) }
    };
    let head = chain.head();
    if let Some(block) = beside("headblock.json")? {
        ensure(head.hash == field::<B256>(&block["hash"])?, "headblock.json names another head")?;
    }
    if let Some(choice) = beside("headfcu.json")? {
        let choice = optional::<B256>(&choice["params"][0]["headBlockHash"])?;
        ensure(choice.is_none_or(|hash| hash == head.hash), "headfcu.json names another head")?;
    }
    if let Some(state) = beside("headstate.json")? {
        ensure(
            field::<B256>(&prefixed(&state["root"]))? == head.header.state_root,
            "headstate.json has another root",
        )?;
        let view = chain.state(BlockId::Latest).or_else(failed)?;
        for (address, expected) in state["accounts"].as_object().into_iter().flatten() {
            let account = view.account(address.parse().or_else(failed)?).or_else(failed)?;
            let same = account.is_some_and(|account| {
                expected["nonce"] == account.nonce
                    && expected["balance"] == account.balance.to_string()
                    && expected["codeHash"] == account.code_hash.to_string()
                    && expected["root"] == account.storage_root.to_string()
            });
            ensure(same, format_args!("{address}: {account:?}"))?;
        }
    }
    Ok(())
}

/// Hex with its prefix.
fn prefixed(value: &Value) -> Value {
    match value.as_str() {
        Some(text) if !text.starts_with("0x") => format!("0x{text}").into(),
        _ => value.clone(),
    }
}

fn read(path: &Path) -> Result<Value, Stop> {
    serde_json::from_slice(&std::fs::read(path).or_else(failed)?).or_else(failed)
}

/// Besu writes `chainID`, and goes to the forks at once that a file does not name before one that it does.
fn name_all_forks(genesis: &mut Value) {
    let Some(config) = genesis["config"].as_object_mut() else { return };
    let Some(id) = config.remove("chainID") else { return };
    config.insert("chainId".into(), id);
    let forks =
        ["homestead", "eip150", "eip155", "eip158", "byzantium", "constantinople", "istanbul", "berlin"];
    let Some(london) = config.get("londonBlock").cloned() else { return };
    for fork in forks {
        config.entry(format!("{fork}Block")).or_insert_with(|| london.clone());
    }
}

/// Blocks one after the other.
pub(super) fn blocks_of(mut rlp: &[u8]) -> Result<Vec<Block>, Stop> {
    let mut blocks = Vec::new();
    while !rlp.is_empty() {
        blocks.push(Block::decode(&mut rlp).or_else(failed)?);
    }
    Ok(blocks)
}
