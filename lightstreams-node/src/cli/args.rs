//! The command line as clap sees it: every verb, its arguments and their meaning.
#![allow(
    rustdoc::invalid_html_tags,
    rustdoc::broken_intra_doc_links,
    reason = "clap prints these texts as they are"
)]

use std::path::PathBuf;

use alloy_primitives::{Address, U256};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{BlockStorage, Storage};
use crate::units::{ByteRange, Share, parse_amount, parse_duration, parse_range};

/// Publish, sell, release and open encrypted content on a proof-of-authority chain.
#[derive(Debug, Parser)]
#[command(name = "lightstreams", version, about, max_term_width = 110)]
pub struct Cli {
    /// Options that every verb understands.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Options that every verb understands.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// The node's data directory.
    #[arg(long, global = true, env = "LIGHTSTREAMS_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The private listener of a node elsewhere, instead of the socket in the data directory; its bearer token is read
    /// from LIGHTSTREAMS_TOKEN.
    #[arg(long, global = true, value_name = "URL")]
    pub node: Option<String>,
    /// The socket of a node in another data directory; keys still come from --data.
    #[arg(long, global = true, value_name = "PATH", conflicts_with = "node")]
    pub socket: Option<PathBuf>,
    /// The account that signs; by default the one of the configuration.
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub account: Option<Address>,
    /// A file that holds the password of the keystore and of identity.age.
    #[arg(long, global = true, env = "LIGHTSTREAMS_PASSWORD_FILE", value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Print one JSON object instead of text.
    #[arg(long, global = true)]
    pub json: bool,
    /// Send without asking, whatever it costs.
    #[arg(long, short, global = true)]
    pub yes: bool,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Tell the whole story on loopback: publish, refuse, sell, open, revoke, audit.
    Demo(DemoArgs),
    /// Run a single-authority network with ten funded accounts, on loopback.
    Dev(DevArgs),
    /// Prepare a data directory: found a network, or join one.
    Init(InitArgs),
    /// Run the node of a data directory.
    Run,
    /// Make, list or import accounts.
    #[command(subcommand)]
    Account(AccountVerb),
    /// Encrypt a file, store it, and register it on chain.
    Publish(PublishArgs),
    /// Let an account read, write or administer a content.
    Grant(GrantArgs),
    /// Take back what people granted an account; what was paid for stays.
    Revoke(RevokeArgs),
    /// Put a content up for sale.
    List(ListArgs),
    /// Buy a content.
    Buy(BuyArgs),
    /// End a sold order, with the full refund that this takes.
    Cut(CutArgs),
    /// Take out what sales have earned this account.
    Withdraw(WithdrawArgs),
    /// Ask for the key, fetch the blocks, decrypt.
    Get(GetArgs),
    /// Decrypt what was fetched before, with neither chain nor custodian nor network.
    Open(GetArgs),
    /// Fetch the encrypted blocks, without a key: to hold a copy for others, or to see what peers would give.
    Fetch(FetchArgs),
    /// Write the encrypted blocks of a content that this node holds to a CAR file.
    Export(ExportArgs),
    /// Take the blocks of a CAR file into this node's store.
    Import(ImportArgs),
    /// List the contents of this account: owned, and kept.
    Ls,
    /// What the chain says of a content.
    Info(ContentArgs),
    /// Who was granted and released what, when and by whom.
    Audit(AuditArgs),
    /// Export, import, check and copy the chain.
    #[command(subcommand)]
    Chain(ChainVerb),
    /// How the node is.
    Status,
    /// Take verbs from standard input, one a line, and unlock each key once for all of them.
    Shell,
}

/// `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// The file to publish; without it, a sample of 5 MB.
    pub file: Option<PathBuf>,
    /// The database of the nodes.
    #[arg(long, default_value = "fjall")]
    pub storage: Storage,
    /// What keeps their blocks.
    #[arg(long, default_value = "segments")]
    pub blocks: BlockStorage,
    /// Where the nodes live; by default a temporary directory that is removed in the end.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// `dev`.
#[derive(Debug, Args)]
pub struct DevArgs {
    /// Where JSON-RPC listens.
    #[arg(long, default_value = "127.0.0.1:8545", value_name = "HOST:PORT")]
    pub rpc: std::net::SocketAddr,
    /// Where peers are accepted, as a multiaddr; by default nowhere.
    #[arg(long, value_name = "MULTIADDR")]
    pub p2p: Option<String>,
    /// Milliseconds between blocks; 0 seals as soon as a transaction is there.
    #[arg(long, default_value_t = 0, value_name = "MS")]
    pub period_ms: u64,
    /// The database of the chain.
    #[arg(long, default_value = "fjall")]
    pub storage: Storage,
    /// What keeps the blocks.
    #[arg(long, default_value = "segments")]
    pub blocks: BlockStorage,
}

/// `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The genesis file of the network to join; without it a new network is founded.
    #[arg(long, value_name = "FILE")]
    pub genesis: Option<PathBuf>,
    /// A snapshot to start from, as `chain snapshot` writes it, of the network to join.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["genesis", "chain_id", "authorities", "alloc"])]
    pub snapshot: Option<PathBuf>,
    /// A peer to dial, as a multiaddr ending in /p2p/<peer id>; may be repeated.
    #[arg(long = "peer", value_name = "MULTIADDR")]
    pub peers: Vec<String>,
    /// The chain id of a new network.
    #[arg(long, default_value_t = 162, value_name = "ID")]
    pub chain_id: u64,
    /// An authority of a new network; may be repeated; by default this account alone.
    #[arg(long = "authority", value_name = "ADDRESS")]
    pub authorities: Vec<Address>,
    /// Milliseconds between blocks of a new network.
    #[arg(long, default_value_t = 1000, value_name = "MS")]
    pub period_ms: u64,
    /// Milliseconds between empty blocks of a new network.
    #[arg(long, default_value_t = 10_000, value_name = "MS")]
    pub empty_block_ms: u64,
    /// Coins that an account of a new network starts with, as ADDRESS=COINS; may be repeated.
    #[arg(long = "alloc", value_name = "ADDRESS=COINS", value_parser = parse_alloc)]
    pub alloc: Vec<(Address, U256)>,
    /// The database of the chain.
    #[arg(long, default_value = "fjall")]
    pub storage: Storage,
    /// What keeps the blocks.
    #[arg(long, default_value = "segments")]
    pub blocks: BlockStorage,
    /// Where JSON-RPC listens.
    #[arg(long, default_value = "127.0.0.1:8545", value_name = "HOST:PORT")]
    pub rpc: std::net::SocketAddr,
    /// Where the private API listens beside its socket; loopback, with a bearer token.
    #[arg(long, value_name = "HOST:PORT")]
    pub private: Option<std::net::SocketAddr>,
    /// Seal blocks with this account in the network that is joined, of which it is an authority.
    #[arg(long)]
    pub seal: bool,
    /// Where peers are accepted, as a multiaddr.
    #[arg(long, default_value = "/ip4/127.0.0.1/tcp/4001", value_name = "MULTIADDR")]
    pub p2p: String,
    /// An owner whose contents this node serves as custodian, beside its own account; may be repeated.
    #[arg(long = "admit", value_name = "ADDRESS")]
    pub admit: Vec<Address>,
}

/// `account`.
#[derive(Debug, Subcommand)]
pub enum AccountVerb {
    /// Make an Ethereum keystore, and an age identity if there is none yet.
    New,
    /// List the accounts of the data directory.
    List,
    /// Import a private key (64 hex digits) or a Web3 v3 keystore.
    Import {
        /// The file that holds it.
        file: PathBuf,
        /// A file that holds the password of the imported keystore, where it differs.
        #[arg(long, value_name = "FILE")]
        import_password_file: Option<PathBuf>,
    },
}

/// `chain`.
#[derive(Debug, Subcommand)]
pub enum ChainVerb {
    /// Write blocks to a file, one RLP after the other as geth exports them; no node may run on the data directory.
    Export {
        /// The file, which must not be there yet.
        file: PathBuf,
        /// The first block.
        #[arg(long, default_value_t = 0, value_name = "N")]
        from: u64,
        /// The last block; by default the head.
        #[arg(long, value_name = "N")]
        to: Option<u64>,
    },
    /// Import the blocks of such a file, and pass over those that are here; no node may run on the data directory.
    Import {
        /// The file.
        file: PathBuf,
    },
    /// Verify the chain's database and say what is wrong; no node may run on the data directory.
    Check {
        /// Verify every signature, and the state and its history from scratch, too.
        #[arg(long)]
        deep: bool,
    },
    /// Write a copy of the chain as it is now to a new directory, from which `init --snapshot` starts; a node may run.
    Snapshot {
        /// The directory.
        dir: PathBuf,
    },
    /// List the fields in which a genesis file differs from that of the chain's database.
    GenesisDiff {
        /// The file; by default the data directory's own.
        file: Option<PathBuf>,
    },
}

/// Terms of a sale.
#[derive(Clone, Debug, Args)]
pub struct Terms {
    /// The price in coins.
    #[arg(long, value_name = "COINS", value_parser = parse_amount)]
    pub price: Option<U256>,
    /// Who shares in each sale, as ADDRESS=PERCENT; the rest is the seller's; may be repeated.
    #[arg(long = "split", value_name = "ADDRESS=PERCENT")]
    pub split: Vec<Share>,
    /// What a referrer earns of each sale, in percent.
    #[arg(long, default_value = "0", value_name = "PERCENT", value_parser = crate::units::parse_percent)]
    pub referrer: u16,
    /// How long a buyer may read, as 30d, 12h or 90m; without it, for good.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub duration: Option<u64>,
    /// How many may be sold; 0 is no limit.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub supply: u32,
}

/// `publish`.
#[derive(Debug, Args)]
pub struct PublishArgs {
    /// The file.
    pub file: PathBuf,
    /// The name that readers see; by default the file's.
    #[arg(long)]
    pub name: Option<String>,
    /// The media type that readers see.
    #[arg(long = "type", default_value = "application/octet-stream", value_name = "TYPE")]
    pub media_type: String,
    /// An age recipient that can always open the file, kept somewhere safe; may be repeated.
    #[arg(long, value_name = "AGE1…", required_unless_present = "no_recovery")]
    pub recovery: Vec<String>,
    /// Publish without a recovery recipient.
    #[arg(long, conflicts_with = "recovery")]
    pub no_recovery: bool,
    /// An account that releases keys, beside the one of this node; may be repeated.
    #[arg(long = "custodian", value_name = "ADDRESS")]
    pub custodians: Vec<Address>,
    /// What a sale is, if the content is for sale at once.
    #[command(flatten)]
    pub terms: Terms,
    /// Chunks of 64 KiB in a block: 1, 4 or 15.
    #[arg(long, default_value_t = 4, value_name = "K", value_parser = parse_leaf)]
    pub k: u8,
}

/// A content, named by its URI.
#[derive(Debug, Args)]
pub struct ContentArgs {
    /// lightstreams:<chain id>/<registry>/<content id>[@version]
    pub content: String,
}

/// What a grant allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LevelArg {
    /// Ask for the key and the blocks.
    Read,
    /// Publish versions, too.
    Write,
    /// Grant, revoke and rewrap, too.
    Admin,
}

/// `grant`.
#[derive(Debug, Args)]
pub struct GrantArgs {
    /// The content's URI.
    pub content: String,
    /// Who is granted.
    pub who: Address,
    /// What is granted.
    #[arg(long, default_value = "read")]
    pub level: LevelArg,
    /// How long from now, as 30d, 12h or 90m; without it, until revoked.
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    pub lasting: Option<u64>,
    /// The first epoch that may be read.
    #[arg(long, default_value_t = 0, value_name = "EPOCH")]
    pub from_epoch: u32,
}

/// `revoke`.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// The content's URI.
    pub content: String,
    /// Whose grant ends.
    pub who: Address,
}

/// `list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// The content's URI.
    pub content: String,
    /// What a sale is.
    #[command(flatten)]
    pub terms: Terms,
}

/// `buy`.
#[derive(Debug, Args)]
pub struct BuyArgs {
    /// The content's URI.
    pub content: String,
    /// The plan; by default the cheapest that sells.
    #[arg(long, value_name = "PLAN")]
    pub plan: Option<u64>,
    /// Who may read; by default this account.
    #[arg(long, value_name = "ADDRESS")]
    pub to: Option<Address>,
    /// Refuse to pay more, in coins; by default the price that is shown.
    #[arg(long, value_name = "COINS", value_parser = parse_amount)]
    pub max_price: Option<U256>,
    /// Who sent you here.
    #[arg(long, value_name = "ADDRESS")]
    pub referrer: Option<Address>,
}

/// `cut`.
#[derive(Debug, Args)]
pub struct CutArgs {
    /// The order.
    pub order: u64,
    /// The refund in coins that goes with it; without it the full price is looked up.
    #[arg(long, value_name = "COINS", value_parser = parse_amount)]
    pub refund: Option<U256>,
}

/// `withdraw`.
#[derive(Debug, Args)]
pub struct WithdrawArgs {
    /// Where it goes; by default to this account.
    #[arg(long, value_name = "ADDRESS")]
    pub to: Option<Address>,
}

/// `get` and `open`.
#[derive(Debug, Args)]
pub struct GetArgs {
    /// The content's URI.
    pub content: String,
    /// Where the plaintext goes; `-` is standard output; by default the published name, here.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Only the bytes FIRST-LAST, both included.
    #[arg(long, value_name = "FIRST-LAST", value_parser = parse_range)]
    pub range: Option<ByteRange>,
    /// Keep neither header nor blocks for `open`.
    #[arg(long)]
    pub no_keep: bool,
    /// Write the encrypted file that the age command opens with this account's identity, instead of the plaintext.
    #[arg(long, conflicts_with = "range")]
    pub age: bool,
}

/// `fetch`.
#[derive(Debug, Args)]
pub struct FetchArgs {
    /// The content's URI.
    pub content: String,
    /// Ask the same peers for a block that nobody holds, to compare the answers.
    #[arg(long)]
    pub absent: bool,
}

/// `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The content's URI.
    pub content: String,
    /// The CAR file.
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
}

/// `import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The CAR file.
    pub file: PathBuf,
}

/// `audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// The content's URI.
    pub content: String,
    /// The directory of a custodian's release log; by default that of this node.
    #[arg(long, value_name = "DIR")]
    pub log: Option<PathBuf>,
}

fn parse_leaf(text: &str) -> Result<u8, String> {
    match text {
        "1" => Ok(1),
        "4" => Ok(4),
        "15" => Ok(15),
        _ => Err(format!("a block holds 1, 4 or 15 chunks, not {text}")),
    }
}

fn parse_alloc(text: &str) -> Result<(Address, U256), String> {
    let (account, coins) = text.split_once('=').ok_or("expected ADDRESS=COINS")?;
    let account = account.parse().map_err(|error| format!("{account}: {error}"))?;
    Ok((account, parse_amount(coins)?))
}
