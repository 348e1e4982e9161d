//! Headers without a chain: the ancestry that engines read, and the vectors that speak of it.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use lightstreams_chain::{
    Ancestry, Chain, Clique, CliqueConfig, Genesis, HeadInfo, Header, KvError, LocalSigner, MemoryKv,
};
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

/// A time after all blocks of the vectors.
pub(crate) const NOW: u64 = 4_000_000_000;

/// The chain `name` of the suite `clique-geth`, with nothing but its genesis.
pub(crate) fn open_geth(suite: &Path, name: &str) -> (Chain, Arc<Clique>) {
    let genesis = std::fs::read(suite.join("chains").join(name).join("genesis.json")).unwrap();
    let genesis = Genesis::from_json(&genesis).unwrap();
    let clique = Arc::new(Clique::for_genesis(&genesis));
    (Chain::open(genesis, Arc::new(MemoryKv::default()), clique.clone()).unwrap(), clique)
}
