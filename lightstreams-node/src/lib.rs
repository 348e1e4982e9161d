//! A Lightstreams node: publish, sell, release and open encrypted content over libp2p and a proof-of-authority chain.
//!
//! ```text
//!  verbs (cli) --HTTP over the socket--> http --+-- vault ---- adapters --> acl, chain, store, crypto
//!  wallets ----JSON-RPC, port 8545-----> http   |                 |
//!  peers ------libp2p, port 4001-------> network+----- daemon ----+-- consensus machine, timers, databases
//! ```
//!
//! The four libraries below know nothing of each other; this crate wires them. The binary `lightstreams` is a thin
//! front of it, so that a test or another program can do everything the binary does:
//!
//! ```
//! use lightstreams_node::config::Config;
//! let text = "storage = \"fjall\"\nrpc = \"127.0.0.1:8545\"\np2p = \"/ip4/127.0.0.1/tcp/4001\"\n";
//! let config = Config::parse(text)?;
//! assert_eq!(config.rpc.map(|a| a.port()), Some(8545));
//! # Ok::<(), lightstreams_node::error::NodeError>(())
//! ```
//!
//! **Promises.** What a node acknowledged survives `kill -9`. A reader's keys and plaintext never reach a node: the
//! verbs encrypt, decrypt and sign in their own process. A refusal is typed and signed. Every listener binds loopback
//! unless the configuration says otherwise.
//!
//! **Not here.** Consensus rules, block formats, contracts and cryptography: they live in the four libraries.

pub mod adapters;
pub mod cli;
pub mod client;
pub mod config;
mod console;
pub mod daemon;
pub mod datadir;
pub mod demo;
pub mod error;
pub mod http;
pub mod init;
pub mod network;
pub mod secrets;
pub mod units;
pub mod vault;
