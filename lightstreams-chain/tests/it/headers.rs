//! Headers without a chain: the ancestry that engines read, and the vectors that speak of it.

use std::{
    collections::HashMap,
    path::PathBuf,
    process::{Command, Stdio},
};

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_rlp::Decodable;
use lightstreams_chain::{Ancestry, Block, Clique, CliqueConfig, HeadInfo, Header, KvError, LocalSigner};
use serde_json::Value;

/// All headers ever shown, by hash.
#[derive(Debug, Default)]
pub(crate) struct Headers {
    pub(crate) known: HashMap<B256, HeadInfo>,
    pub(crate) records: HashMap<Vec<u8>, Vec<u8>>,
}

impl Headers {
    /// Takes `header` in, whatever it is.
    pub(crate) fn insert(&mut self, header: Header) -> HeadInfo {
        let before = self.known.get(&header.parent_hash).map_or(U256::ZERO, |parent| parent.total_difficulty);
        let info =
            HeadInfo { hash: header.hash_slow(), total_difficulty: before + header.difficulty, header };
        self.known.insert(info.hash, info.clone());
        info
    }

    pub(crate) fn get(&self, hash: &B256) -> HeadInfo {
        self.known[hash].clone()
    }
}

impl Ancestry for Headers {
    fn header(&self, hash: &B256) -> Result<Option<HeadInfo>, KvError> {
        Ok(self.known.get(hash).cloned())
    }

    fn canonical_hash(&self, _number: u64) -> Result<Option<B256>, KvError> {
        Ok(None)
    }

    fn record(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        Ok(self.records.get(key).cloned())
    }
}

/// The authority called `name`: a key made from the name.
pub(crate) fn authority(name: &str) -> LocalSigner {
    LocalSigner::from_bytes(&keccak256(name).0).unwrap()
}

/// A genesis header for `signers`.
pub(crate) fn genesis_header(signers: &[Address]) -> Header {
    let mut extra = vec![0; 32];
    signers.iter().for_each(|signer| extra.extend_from_slice(signer.as_slice()));
    extra.extend_from_slice(&[0; 65]);
    Header {
        extra_data: Bytes::from(extra),
        difficulty: U256::from(1),
        gas_limit: 8_000_000,
        ..Header::default()
    }
}

pub(crate) fn clique(epoch: u64, block_period_ms: u64) -> Clique {
    Clique::new(CliqueConfig { epoch, block_period_ms })
}

/// The folder `name` of the vectors, or a line that says it is not there.
pub(crate) fn vectors(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("LIGHTSTREAMS_VECTORS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors"),
        PathBuf::from,
    );
    let folder = root.join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: there are no vectors in {}", folder.display());
    None
}

pub(crate) fn json(path: PathBuf) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// What stands in a zstd file, unpacked by the tool of that name.
pub(crate) fn unzstd(path: PathBuf) -> Option<Vec<u8>> {
    let output = Command::new("zstd").arg("-dcq").arg(path).stderr(Stdio::inherit()).output();
    match output {
        Ok(output) if output.status.success() => Some(output.stdout),
        _ if std::env::var_os("LIGHTSTREAMS_REQUIRE_TOOLS").is_some() => panic!("the tool zstd is needed"),
        _ => {
            println!("skipped: the tool zstd is not here");
            None
        }
    }
}

pub(crate) fn hex_bytes(value: &Value) -> Vec<u8> {
    value.as_str().unwrap().parse::<Bytes>().unwrap().to_vec()
}

pub(crate) fn decode_block(value: &Value) -> Option<Block> {
    let bytes = hex_bytes(value);
    let mut rest = bytes.as_slice();
    Block::decode(&mut rest).ok().filter(|_| rest.is_empty())
}

/// A chain of the suite `clique-geth`.
pub(crate) struct GethChain {
    pub(crate) expect: Value,
    pub(crate) blocks: Vec<Block>,
    pub(crate) epoch: u64,
    pub(crate) period: u64,
}

impl GethChain {
    pub(crate) fn read(suite: &std::path::Path, name: &str) -> Option<Self> {
        let folder = suite.join("chains").join(name);
        let expect = json(folder.join("expect.json"));
        let packed = unzstd(folder.join("chain.rlp.zst"))?;
        let mut rest = packed.as_slice();
        let mut blocks = Vec::new();
        while !rest.is_empty() {
            blocks.push(Block::decode(&mut rest).unwrap());
        }
        let epoch = expect["epoch"].as_u64().unwrap();
        let period = expect["period"].as_u64().unwrap();
        Some(Self { expect, blocks, epoch, period })
    }

    pub(crate) fn rules(&self) -> Clique {
        clique(self.epoch, self.period * 1_000)
    }

    /// The headers up to and including block `last`.
    pub(crate) fn headers(&self, last: u64) -> (Headers, HeadInfo) {
        let mut headers = Headers::default();
        let mut head = None;
        for block in self.blocks.iter().take_while(|block| block.header.number <= last) {
            head = Some(headers.insert(block.header.clone()));
        }
        (headers, head.unwrap())
    }
}

pub(crate) fn chain_names(suite: &std::path::Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(suite.join("chains"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
