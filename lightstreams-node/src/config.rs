//! `lightstreams.toml`: a closed list of keys, each optional but `storage`.
//!
//! | key | value | meaning |
//! |---|---|---|
//! | `storage` | `"fjall"` or `"rocksdb"` | the database of the chain |
//! | `states` | `"all"`, or a number from 128 on | for how many blocks below the head the state is kept: reads, calls and proofs of the past; 1024 when absent; `"all"` is an archive. It may be changed at any time; states that are gone stay so |
//! | `blocks` | `"segments"` or `"database"` | what keeps blocks: append-only segments, or a database of the same kind as the chain's; when absent, what the folder holds, segments in a new one |
//! | `account` | address | the operator: default account of verbs, whose contents this node holds |
//! | `admit` | addresses | further owners whose contents this node takes custody of |
//! | `authority` | address | seals blocks with this account of the keystore |
//! | `rpc` | `"127.0.0.1:8545"` | JSON-RPC listener; none when absent |
//! | `gateway` | `"127.0.0.1:8080"` | HTTP gateway to content that everybody may read; none when absent |
//! | `kubo` | `"127.0.0.1:5002"` | the commands of Kubo's RPC over this node's blocks, for whoever has the token; none when absent |
//! | `p2p` | `"/ip4/127.0.0.1/tcp/4001"` | libp2p listener; none when absent |
//! | `private` | `"127.0.0.1:5001"` | the private API over loopback TCP, beside the socket |
//! | `peers` | multiaddrs | nodes to stay connected to |
//! | `recipient`, `holder` | `age1…`, 64 hex digits | public halves of `identity.age` |

use crate::datadir::{DataDir, read_text, write_private};
use crate::error::{NodeError, Result};
use alloy_primitives::{Address, hex};
use libp2p::Multiaddr;
use serde::{Deserialize, Deserializer, Serialize, de};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

/// Where JSON-RPC listens unless told.
pub const RPC_DEFAULT: &str = "127.0.0.1:8545";
/// Where libp2p listens unless told.
pub const P2P_DEFAULT: &str = "/ip4/127.0.0.1/tcp/4001";
/// Where commands of Kubo's RPC may listen; unless told, they do not.
pub const KUBO_DEFAULT: &str = "127.0.0.1:5002";
/// A list in the configuration has at most this many entries.
const LIST_LEN_MAX: usize = 256;

/// The database behind the chain, and behind the blocks if [`BlockStorage::Database`] says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// fjall, pure Rust, in every build.
    #[default]
    Fjall,
    /// RocksDB, in builds with the feature `rocksdb`.
    Rocksdb,
}

impl Storage {
    /// The word the configuration uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fjall => "fjall",
            Self::Rocksdb => "rocksdb",
        }
    }
}

impl std::str::FromStr for Storage {
    type Err = NodeError;
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "fjall" => Ok(Self::Fjall),
            "rocksdb" => Ok(Self::Rocksdb),
            _ => Err(NodeError::usage("bad_storage", "storage is \"fjall\" or \"rocksdb\"")),
        }
    }
}

/// What keeps the blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum BlockStorage {
    /// Append-only segments, beside a database of either kind: a payload byte is written once.
    #[default]
    Segments,
    /// A database of the kind of [`Storage`], which needs less memory for very many blocks.
    Database,
}

impl BlockStorage {
    /// The word the configuration uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Segments => "segments",
            Self::Database => "database",
        }
    }
}

/// For how many blocks below the head the chain keeps states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum States {
    /// An archive.
    All,
    /// The newest; at least 128.
    Newest(u64),
}

impl States {
    /// Least that may be asked for: reorgs need them.
    pub const MIN: u64 = 128;

    /// The number, as the chain takes it.
    pub fn count(self) -> u64 {
        match self {
            Self::All => lightstreams_chain::Options::ALL_STATES,
            Self::Newest(count) => count,
        }
    }
}

impl<'de> Deserialize<'de> for States {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(u64),
            Word(String),
        }
        match Form::deserialize(from) {
            Ok(Form::Word(word)) if word == "all" => Ok(Self::All),
            Ok(Form::Number(count)) if count >= Self::MIN => Ok(Self::Newest(count)),
            _ => Err(de::Error::custom("`states` is \"all\", or a number from 128 on")),
        }
    }
}

/// A node's configuration; the module page lists the keys.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The database of the chain.
    pub storage: Storage,
    /// For how many blocks below the head states are kept.
    #[serde(default)]
    pub states: Option<States>,
    /// What keeps the blocks; without it what their folder holds, segments in a new one.
    #[serde(default)]
    pub blocks: Option<BlockStorage>,
    /// The operator's account.
    #[serde(default)]
    pub account: Option<Address>,
    /// Further owners whose contents this node takes custody of.
    #[serde(default, deserialize_with = "bounded")]
    pub admit: Vec<Address>,
    /// The account that seals blocks.
    #[serde(default)]
    pub authority: Option<Address>,
    /// JSON-RPC listener.
    #[serde(default)]
    pub rpc: Option<SocketAddr>,
    /// HTTP gateway to content that everybody may read.
    #[serde(default)]
    pub gateway: Option<SocketAddr>,
    /// Listener of the commands of Kubo's RPC.
    #[serde(default, deserialize_with = "loopback")]
    pub kubo: Option<SocketAddr>,
    /// libp2p listener.
    #[serde(default)]
    pub p2p: Option<Multiaddr>,
    /// The private API over loopback TCP.
    #[serde(default, deserialize_with = "loopback")]
    pub private: Option<SocketAddr>,
    /// Nodes to stay connected to.
    #[serde(default, deserialize_with = "bounded")]
    pub peers: Vec<Multiaddr>,
    /// The age recipient of `identity.age`.
    #[serde(default)]
    pub recipient: Option<String>,
    /// The Ed25519 key of this node: its holder key and libp2p key.
    #[serde(default, deserialize_with = "holder_key")]
    pub holder: Option<[u8; 32]>,
}

impl Config {
    /// Reads the text of a configuration file.
    pub fn parse(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|e| {
            let line = e
                .span()
                .and_then(|s| text.get(..s.start))
                .map_or(1, |before| before.matches('\n').count() + 1);
            NodeError::usage(
                "bad_config",
                format!("lightstreams.toml, line {line}: {}", one_line(e.message())),
            )
            .hint("correct the line; `lightstreams init` in an empty directory shows a valid file")
        })
    }

    /// Reads the configuration of a data directory.
    pub fn load(dir: &DataDir) -> Result<Self> {
        let path = dir.config();
        if !path.exists() {
            return Err(NodeError::not_found(
                "not_initialised",
                format!("{} does not exist", path.display()),
            )
            .hint("run `lightstreams init` first, or name the data directory with --data"));
        }
        Self::load_file(&path)
    }

    /// Reads the configuration of a data directory, or the default where there is none yet.
    pub fn load_or_default(dir: &DataDir) -> Result<Self> {
        if dir.config().exists() { Self::load_file(&dir.config()) } else { Ok(Self::default()) }
    }

    fn load_file(path: &Path) -> Result<Self> {
        Self::parse(&read_text(path)?)
    }

    /// Writes the configuration of a data directory.
    pub fn save(&self, dir: &DataDir) -> Result<()> {
        dir.create()?;
        write_private(&dir.config(), self.to_toml().as_bytes())
    }

    /// The text of this configuration; [`Self::parse`] reads it back.
    pub fn to_toml(&self) -> String {
        let mut text = String::from("# Lightstreams node. Unknown keys are refused.\n");
        let mut line = |key: &str, value: String| {
            let _ = writeln!(text, "{key} = {value}");
        };
        line("storage", quoted(self.storage.name()));
        match self.states {
            Some(States::All) => line("states", quoted("all")),
            Some(States::Newest(count)) => line("states", count.to_string()),
            None => {}
        }
        if let Some(blocks) = self.blocks {
            line("blocks", quoted(blocks.name()));
        }
        if let Some(account) = self.account {
            line("account", quoted(&account.to_string()));
        }
        if !self.admit.is_empty() {
            line("admit", list(&self.admit));
        }
        if let Some(authority) = self.authority {
            line("authority", quoted(&authority.to_string()));
        }
        if let Some(rpc) = self.rpc {
            line("rpc", quoted(&rpc.to_string()));
        }
        if let Some(gateway) = self.gateway {
            line("gateway", quoted(&gateway.to_string()));
        }
        if let Some(kubo) = self.kubo {
            line("kubo", quoted(&kubo.to_string()));
        }
        if let Some(p2p) = &self.p2p {
            line("p2p", quoted(&p2p.to_string()));
        }
        if let Some(private) = self.private {
            line("private", quoted(&private.to_string()));
        }
        line("peers", list(&self.peers));
        if let Some(recipient) = &self.recipient {
            line("recipient", quoted(recipient));
        }
        if let Some(holder) = self.holder {
            line("holder", quoted(&hex::encode(holder)));
        }
        if self.kubo.is_none() {
            let _ = writeln!(text, "# kubo = {}", quoted(KUBO_DEFAULT));
        }
        text
    }
}

fn quoted(text: &str) -> String {
    // A basic string of TOML escapes exactly what one of JSON does, for the characters that appear here.
    serde_json::Value::from(text).to_string()
}

fn list<T: ToString>(items: &[T]) -> String {
    format!("[{}]", items.iter().map(|i| quoted(&i.to_string())).collect::<Vec<_>>().join(", "))
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ").chars().take(300).collect()
}

fn bounded<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    let items = Vec::<T>::deserialize(from)?;
    if items.len() > LIST_LEN_MAX {
        return Err(de::Error::custom(format!("at most {LIST_LEN_MAX} entries are allowed")));
    }
    Ok(items)
}

fn loopback<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
    let address = Option::<SocketAddr>::deserialize(from)?;
    match address {
        Some(a) if !a.ip().is_loopback() => {
            Err(de::Error::custom("what administers this node listens on a loopback address only"))
        }
        _ => Ok(address),
    }
}

fn holder_key<'de, D: Deserializer<'de>>(from: D) -> Result<Option<[u8; 32]>, D::Error> {
    let Some(text) = Option::<String>::deserialize(from)? else { return Ok(None) };
    let mut key = [0; 32];
    hex::decode_to_slice(&text, &mut key)
        .map_err(|_| de::Error::custom("`holder` is an Ed25519 public key of 64 hex digits"))?;
    Ok(Some(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str, words: &[&str]) {
        let error = Config::parse(text).unwrap_err().to_string();
        assert!(!error.contains('\n'), "one line: {error:?}");
        for word in words {
            assert!(error.contains(word), "{word:?} missing in {error:?}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let config = Config {
            storage: Storage::Rocksdb,
            states: Some(States::Newest(128)),
            blocks: Some(BlockStorage::Database),
            account: Some(Address::repeat_byte(1)),
            admit: vec![Address::repeat_byte(2), Address::repeat_byte(3)],
            authority: Some(Address::repeat_byte(4)),
            rpc: RPC_DEFAULT.parse().ok(),
            gateway: "127.0.0.1:8080".parse().ok(),
            kubo: KUBO_DEFAULT.parse().ok(),
            p2p: P2P_DEFAULT.parse().ok(),
            private: "[::1]:5001".parse().ok(),
            peers: vec!["/dns4/a.example/tcp/4001".parse().unwrap()],
            recipient: Some("age1x".into()),
            holder: Some([7; 32]),
        };
        assert_eq!(Config::parse(&config.to_toml()).unwrap(), config);
        let archive = Config { states: Some(States::All), ..config };
        assert_eq!(Config::parse(&archive.to_toml()).unwrap(), archive);
        assert_eq!(Config::parse(&Config::default().to_toml()).unwrap(), Config::default());
    }

    #[test]
    fn a_wrong_line_is_named() {
        refused("", &["line 1", "storage"]);
        refused("storage = \"fjall\"\nstorge = 1\n", &["line 2", "storge"]);
        refused("storage = \"mongo\"", &["line 1", "mongo"]);
        refused("storage = \"fjall\"\nblocks = \"fjall\"", &["line 2", "fjall", "segments"]);
        refused("storage = \"fjall\"\nstates = 127", &["line 2", "128", "all"]);
        refused("storage = \"fjall\"\nstates = \"some\"", &["line 2", "128", "all"]);
        refused("storage = \"fjall\"\naccount = \"0x12\"", &["line 2"]);
        refused("storage = \"fjall\"\n\nprivate = \"0.0.0.0:5001\"", &["line 3", "loopback"]);
        refused("storage = \"fjall\"\nkubo = \"0.0.0.0:5002\"", &["line 2", "loopback"]);
        refused("storage = \"fjall\"\nholder = \"zz\"", &["line 2", "64 hex"]);
        refused("storage = \"fjall\"\nrpc = 8545", &["line 2"]);
        refused("storage = \"fjall\"\nrpc = [", &["line 2"]);
        refused("storage = \"fjall\"\nstorage = \"fjall\"", &["line 2", "duplicate"]);
        let many = "\"0x0101010101010101010101010101010101010101\",".repeat(LIST_LEN_MAX + 1);
        refused(&format!("storage = \"fjall\"\nadmit = [{many}]"), &["line 2", "256"]);
    }
}
