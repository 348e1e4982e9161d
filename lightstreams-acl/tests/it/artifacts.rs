//! The artifacts are what the sources compile to, and fit on any Ethereum chain.

use std::path::{Path, PathBuf};
use std::process::Command;

use lightstreams_acl::alloy_primitives::keccak256;
use lightstreams_acl::{Address, abi, hex};
use serde_json::Value;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn manifest() -> Value {
    serde_json::from_str(&std::fs::read_to_string(root().join("artifacts/sources.json")).unwrap()).unwrap()
}

#[track_caller]
fn check(recorded: &Value, path: &Path) {
    let digest = keccak256(std::fs::read(path).unwrap());
    assert_eq!(
        recorded.as_str(),
        Some(hex::encode_prefixed(digest).as_str()),
        "{} changed: run node compile.mjs",
        path.display()
    );
}

#[test]
fn sources_and_artifacts_are_those_that_were_compiled_together() {
    let manifest = manifest();
    let own: Vec<_> =
        manifest["sources"].as_object().unwrap().iter().filter(|(path, _)| !path.starts_with('@')).collect();
    assert_eq!(own.len(), 7);
    for (path, digest) in own {
        check(digest, &root().join("contracts").join(path));
    }
    let artifacts = manifest["artifacts"].as_object().unwrap();
    assert_eq!(artifacts.len(), 6);
    for (path, digest) in artifacts {
        check(digest, &root().join(path));
    }
}

#[test]
fn the_settings_are_those_that_every_network_can_run() {
    let manifest = manifest();
    assert_eq!(manifest["settings"]["evmVersion"], "cancun");
    assert_eq!(manifest["settings"]["optimizer"]["enabled"], true);
}

#[test]
fn every_contract_fits_the_size_limit_of_ethereum() {
    let sizes = [
        ("ContentRegistry", abi::ContentRegistry::DEPLOYED_BYTECODE.len()),
        ("Custodians", abi::Custodians::DEPLOYED_BYTECODE.len()),
        ("Market", abi::Market::DEPLOYED_BYTECODE.len()),
    ];
    for (name, size) in sizes {
        println!("{name}: {size} bytes");
        assert!((1..=24_576).contains(&size), "{name} is {size} bytes");
    }
    let init = lightstreams_acl::Market::init_code(Address::ZERO).len();
    assert!(init <= 49_152, "EIP-3860");
}

/// Compiles anew where npm is there: needs node, npm and, the first time, a registry.
#[test]
fn the_sources_compile_to_the_artifacts() {
    let contracts = root().join("contracts");
    let run = |program: &str, args: &[&str]| match Command::new(program)
        .args(args)
        .current_dir(&contracts)
        .output()
    {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )),
        Err(error) => Err(format!("{program}: {error}")),
    };
    let ready =
        run("node", &["--version"]).and_then(|()| match contracts.join("node_modules/solc").is_dir() {
            true => Ok(()),
            false => run("npm", &["ci", "--no-audit", "--no-fund"]),
        });
    if let Err(missing) = ready {
        assert!(
            std::env::var("LIGHTSTREAMS_REQUIRE_TOOLS").as_deref() != Ok("1"),
            "the compiler is missing: {missing}"
        );
        return println!("skipped, the compiler is missing: {}", missing.lines().next().unwrap_or_default());
    }
    if let Err(difference) = run("node", &["compile.mjs", "--check"]) {
        panic!("{difference}");
    }
}
