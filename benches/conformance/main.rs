//! Runs the suites of vectors that others made, and prints a line each: `./x conformance [SUITE…]`.
//!
//! The vectors lie in the folder `LIGHTSTREAMS_VECTORS`, by default `../shared/vectors` beside the checkout. A
//! suite runs the cases that it finds there and knows no name of any. Exit codes: 0 passed, 1 a case failed or
//! a suite that was asked for found no case, 2 no suite of that name.

// A case that panics has failed, and is reported as such.
#![allow(clippy::indexing_slicing)]
// Built with some of the suites or none, not all is needed, and it can still tell their names.
#![cfg_attr(
    not(all(feature = "chain", feature = "crypto", feature = "store")),
    allow(dead_code, unused_imports)
)]

use std::{path::PathBuf, process::ExitCode};

use report::{Excuse, Report, Run};

#[cfg(feature = "chain")]
mod chain;
#[cfg(feature = "crypto")]
mod crypto;
mod report;
#[cfg(feature = "store")]
mod store;
#[cfg(any(feature = "chain", feature = "store"))]
mod tar;

/// Declares the suites: Cargo feature, name, function. `x` reads these lines too, to build no more than is asked
/// for.
macro_rules! suites {
    ($($feature:tt: $name:literal => $run:path;)*) => {
        const SUITES: &[Suite] = &[$(Suite {
            feature: $feature,
            name: $name,
            #[cfg(feature = $feature)]
            run: Some($run),
            #[cfg(not(feature = $feature))]
            run: None,
        }),*];
    };
}

struct Suite {
    feature: &'static str,
    name: &'static str,
    /// `None` where the suite was not built.
    run: Option<Run>,
}

suites! {
    "chain": "chain-import" => chain::import::run;
    "chain": "clique" => chain::clique::run;
    "chain": "evm-blockchain" => chain::blocks::run;
    "chain": "evm-state" => chain::state::run;
    "chain": "genesis" => chain::genesis::run;
    "chain": "opcodes" => chain::opcodes::run;
    "chain": "rlp" => chain::rlp::run;
    "chain": "t8n" => chain::t8n::run;
    "chain": "transactions" => chain::transactions::run;
    "chain": "trie" => chain::trie::run;
    "chain": "vm" => chain::vm::run;
    "crypto": "age" => crypto::age::run;
    "crypto": "ed25519" => crypto::ed25519::run;
    "crypto": "hpke" => crypto::hpke::run;
    "crypto": "keystore" => crypto::keystore::run;
    "crypto": "wycheproof" => crypto::wycheproof::run;
    "store": "car" => store::car::run;
    "store": "codecs" => store::codecs::run;
    "store": "ipns" => store::ipns::run;
    "store": "kubo-gateway" => store::kubo_gateway::run;
    "store": "kubo-import" => store::kubo_import::run;
    "store": "kubo-ipns" => store::ipns::kubo;
    "store": "multiformats" => store::multiformats::run;
    "store": "unixfs-cids" => store::kubo_import::run_cids;
    "store": "unixfs-import" => store::unixfs_import::run;
    "store": "unixfs-spec" => store::unixfs_spec::run;
}

/// Cases that may fail: suite, name of the case (`*` at its end for whatever follows), reason. They are counted as failed and do
/// not fail the run.
const MAY_FAIL: &[Excuse] = &[(
    "transactions",
    "TransactionWithHighGasPrice *",
    "a price of 2^128 wei or more for a unit of gas, which no one can pay, is refused where it is read",
)];

fn main() -> ExitCode {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    for name in &asked {
        if !SUITES.iter().any(|suite| suite.name == name) {
            let names: Vec<&str> = SUITES.iter().map(|suite| suite.name).collect();
            eprintln!("no suite is named {name:?}; there are: {}", names.join(", "));
            return ExitCode::from(2);
        }
    }

    let root = std::env::var_os("LIGHTSTREAMS_VECTORS").map(PathBuf::from);
    let root =
        root.unwrap_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors")));
    if !root.is_dir() {
        println!("no vectors: {} is not a folder (set LIGHTSTREAMS_VECTORS)", root.display());
        return if asked.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }

    std::panic::set_hook(Box::new(|_| {}));
    let mut sound = true;
    for suite in SUITES {
        let named = asked.iter().any(|name| name == suite.name);
        if !named && !asked.is_empty() {
            continue;
        }
        let Some(run) = suite.run else {
            eprintln!("{}: not built (feature {:?})", suite.name, suite.feature);
            sound &= !named;
            continue;
        };
        let report = Report::of(suite.name, MAY_FAIL, &root, run);
        println!("{report}");
        if named && report.is_empty() {
            eprintln!("{}: no case in {}", suite.name, root.display());
        }
        sound &= report.is_sound() && !(named && report.is_empty());
    }
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
