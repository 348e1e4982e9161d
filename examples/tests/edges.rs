//! Holds the crate edges of ARCHITECTURE.md against what cargo says of the workspace.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

use std::{collections::BTreeSet, process::Command};

const LIBRARIES: [&str; 4] =
    ["lightstreams-chain", "lightstreams-store", "lightstreams-acl", "lightstreams-crypto"];

/// What no embedder gets who takes a library as it is.
const HEAVY: [&str; 13] = [
    "tokio",
    "libp2p",
    "libp2p-swarm",
    "fjall",
    "rocksdb",
    "librocksdb-sys",
    "redb",
    "hyper",
    "axum",
    "jsonrpsee",
    "jsonrpsee-core",
    "tower",
    "rayon",
];

fn cargo(arguments: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO")).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The members of the workspace that `package` depends on, for its code, tests or build.
fn edges(metadata: &serde_json::Value, package: &str) -> BTreeSet<String> {
    let packages = metadata["packages"].as_array().unwrap();
    let found =
        packages.iter().find(|p| p["name"] == package).unwrap_or_else(|| panic!("no package {package}"));
    let names =
        found["dependencies"].as_array().unwrap().iter().map(|d| d["name"].as_str().unwrap().to_owned());
    names.filter(|name| name.starts_with("lightstreams-")).collect()
}

#[test]
fn the_four_libraries_know_nothing_of_each_other_and_the_node_uses_all_four() {
    let metadata = cargo(&["metadata", "--format-version", "1", "--no-deps", "--locked", "--offline"]);
    let metadata = serde_json::from_str(&metadata).unwrap();
    for library in LIBRARIES {
        assert_eq!(edges(&metadata, library), BTreeSet::new(), "{library} uses another member");
    }
    assert_eq!(edges(&metadata, "lightstreams-node"), LIBRARIES.map(str::to_owned).into());
    for member in metadata["packages"].as_array().unwrap() {
        let used = edges(&metadata, member["name"].as_str().unwrap());
        assert!(
            !used.contains("lightstreams-examples") && !used.contains("lightstreams-benches"),
            "{member}"
        );
    }
}

#[test]
fn a_library_with_default_features_pulls_no_database_no_network_and_no_server() {
    for library in LIBRARIES {
        let tree = cargo(&[
            "tree",
            "-p",
            library,
            "-e",
            "normal,build",
            "--prefix",
            "none",
            "--locked",
            "--offline",
        ]);
        let names: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
        assert!(names.contains(library), "cargo tree answered something else:\n{tree}");
        for heavy in HEAVY {
            assert!(!names.contains(heavy), "{library} pulls {heavy}");
        }
    }
}
