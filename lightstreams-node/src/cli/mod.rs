//! The verbs of the command line: each reads the chain through its node, signs and decrypts here, and says what to do next.
//!
//! ```text
//! args -> run -> session (account, node, transactions) -> publish | permit | market | fetch | report
//!           \- shell: many lines, one keyring               payload, pipe: blocks to and from the node
//! ```

mod accounts;
pub mod args;
mod chain;
pub(crate) mod content;
mod fetch;
pub(crate) mod keyring;
mod market;
mod output;
pub(crate) mod payload;
mod permit;
pub(crate) mod pipe;
mod publish;
mod report;
pub(crate) mod session;
mod shell;
pub(crate) mod wallet;

use std::{process::ExitCode, sync::Arc};

use clap::Parser;
use serde_json::json;

pub use self::args::Cli;
use self::{
    args::{DevArgs, InitArgs, Verb},
    keyring::Keyring,
    session::Session,
};
use crate::{
    adapters::now_s,
    console, daemon, demo,
    error::{NodeError, Result},
    init::{self, Init, Network, NewNetwork},
};

/// Runs the command line of this process; errors go where the results go, in the same form.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.common.json;
    let failed = match &cli.verb {
        Verb::Shell => Session::open(cli.common, Arc::default()).and_then(|session| shell::run(&session)),
        _ => run_with(cli, Arc::default()).map(|()| None),
    };
    let failed = failed.unwrap_or_else(|error| {
        report_error(&error, json);
        Some(error.exit_code())
    });
    failed.map_or(ExitCode::SUCCESS, |exit| ExitCode::from(exit as u8))
}

fn report_error(error: &NodeError, json: bool) {
    if json {
        console::say(error.to_json());
        return;
    }
    console::warn(format_args!("error: {}", error.message()));
    if let Some(hint) = error.advice() {
        console::warn(format_args!("  what to do: {hint}"));
    }
}

/// Runs one verb with the keys that were unlocked before.
fn run_with(cli: Cli, keyring: Arc<Keyring>) -> Result<()> {
    let session = Session::open(cli.common, keyring)?;
    match &cli.verb {
        Verb::Demo(arguments) => demo::run(arguments),
        Verb::Dev(arguments) => dev(&session, arguments),
        Verb::Init(arguments) => start(&session, arguments),
        Verb::Run => daemon::run(session.dir(), &session.password_source()),
        Verb::Account(verb) => accounts::run(&session, verb),
        Verb::Chain(verb) => chain::run(&session, verb),
        verb => runtime()?.block_on(client(&session, verb)),
    }
}

/// The verbs that are clients of a node.
async fn client(session: &Session, verb: &Verb) -> Result<()> {
    match verb {
        Verb::Publish(arguments) => publish::run(session, arguments).await,
        Verb::Grant(arguments) => permit::grant(session, arguments).await,
        Verb::Revoke(arguments) => permit::revoke(session, arguments).await,
        Verb::List(arguments) => market::run_list(session, arguments).await,
        Verb::Buy(arguments) => market::buy(session, arguments).await,
        Verb::Cut(arguments) => market::cut(session, arguments).await,
        Verb::Withdraw(arguments) => market::withdraw(session, arguments).await,
        Verb::Get(arguments) => fetch::get(session, arguments).await,
        Verb::Open(arguments) => fetch::open(session, arguments).await,
        Verb::Fetch(arguments) => fetch::fetch(session, arguments).await,
        Verb::Export(arguments) => fetch::export(session, arguments).await,
        Verb::Import(arguments) => fetch::import(session, arguments).await,
        Verb::Ls => report::ls(session).await,
        Verb::Info(arguments) => report::info(session, arguments).await,
        Verb::Audit(arguments) => report::audit(session, arguments).await,
        Verb::Status => report::status(session).await,
        Verb::Demo(_)
        | Verb::Dev(_)
        | Verb::Init(_)
        | Verb::Run
        | Verb::Shell
        | Verb::Account(_)
        | Verb::Chain(_) => Ok(()),
    }
}

/// `init`: founds a network, or joins one.
fn start(session: &Session, arguments: &InitArgs) -> Result<()> {
    let account = session.account().ok();
    let founds = arguments.genesis.is_none() && arguments.snapshot.is_none();
    if founds && arguments.seal {
        return Err(NodeError::usage("bad_arguments", "--seal is for a network that is joined")
            .hint("who founds a network names its sealers with --authority"));
    }
    let authorities = match (arguments.authorities.as_slice(), account) {
        ([], Some(account)) => vec![account],
        (named, _) => named.to_vec(),
    };
    let authority = account.filter(|account| founds && authorities.contains(account) || arguments.seal);
    let network = match (&arguments.genesis, &arguments.snapshot) {
        (Some(genesis), _) => Network::Join { genesis: genesis.clone() },
        (None, Some(snapshot)) => Network::Restore { snapshot: snapshot.clone() },
        (None, None) => Network::New(NewNetwork {
            chain_id: arguments.chain_id,
            authorities,
            period_ms: arguments.period_ms,
            empty_ms: Some(arguments.empty_block_ms.max(arguments.period_ms)),
            alloc: arguments.alloc.clone(),
            dev: false,
            timestamp: now_s(),
        }),
    };
    let plan = Init {
        network,
        peers: arguments.peers.iter().map(|peer| multiaddr(peer)).collect::<Result<_>>()?,
        storage: arguments.storage,
        blocks: arguments.blocks,
        account,
        admit: arguments.admit.clone(),
        authority,
        rpc: Some(arguments.rpc),
        p2p: Some(multiaddr(&arguments.p2p)?),
        private: arguments.private,
    };
    let genesis = init::init(session.dir(), &plan)?;
    let dir = session.dir();
    let mut lines = vec![
        format!("chain {} with genesis {}", genesis.chain_id(), genesis.hash()),
        format!("  genesis file   {}", dir.genesis().display()),
        format!("  configuration  {}", dir.config().display()),
    ];
    if account.is_none() {
        lines.push("  no account yet: make one with `lightstreams account new`".to_owned());
    }
    lines.push(format!("  next: lightstreams --data {} run", dir.root().display()));
    session.out().result(
        &lines,
        &json!({
            "chain_id": genesis.chain_id(),
            "genesis": genesis.hash(),
            "genesis_file": dir.genesis().display().to_string(),
            "account": account,
            "authority": authority,
        }),
    )
}

/// `dev`: where `--data` is named it is kept there, else it goes with the process.
fn dev(session: &Session, arguments: &DevArgs) -> Result<()> {
    daemon::dev(&daemon::Dev {
        dir: session.has_named_dir().then(|| session.dir().clone()),
        rpc: arguments.rpc,
        p2p: arguments.p2p.as_deref().map(multiaddr).transpose()?,
        period_ms: arguments.period_ms,
        storage: arguments.storage,
        blocks: arguments.blocks,
    })
}

fn multiaddr(text: &str) -> Result<libp2p::Multiaddr> {
    text.parse().map_err(|error| {
        NodeError::usage("bad_multiaddr", format!("{text} is no multiaddr such as /ip4/127.0.0.1/tcp/4001"))
            .because(error)
    })
}

/// One thread for the network, and those that the runtime adds for blocking work.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| NodeError::new("runtime", "cannot start the runtime").because(error))
}

/// The reason that a contract gave for a revert, if it is one of ours or a plain text.
pub(crate) fn revert_reason(data: &str) -> Option<String> {
    let bytes = hex::decode(data.strip_prefix("0x").unwrap_or(data)).ok()?;
    lightstreams_acl::error_name(&bytes)
}
