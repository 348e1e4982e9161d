//! `lightstreams dev` with what wallets are made of: ethers and viem.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;

/// A copy of the folder of a story, which is beside this crate, with its packages; without node 20 and npm, why not.
fn installed(story: &str) -> Result<PathBuf, String> {
    let version = Command::new("node").arg("--version").output().map_err(|error| format!("node: {error}"))?;
    let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    let major = version.strip_prefix('v').and_then(|version| version.split('.').next()?.parse().ok());
    if major.is_none_or(|major: u32| major < 20) {
        return Err(format!("node is {version}, and 20 is needed"));
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join(story);
    fs::create_dir_all(&target).unwrap();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(story)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), target.join(entry.file_name())).unwrap();
    }
    if !target.join("node_modules").is_dir() {
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&target);
        let output = npm.output().map_err(|error| format!("npm: {error}"))?;
        if !output.status.success() {
            return Err(format!("npm ci: {}", String::from_utf8_lossy(&output.stderr).trim_end()));
        }
    }
    Ok(target)
}

/// Runs the `story.mjs` of a folder against a development network of its own.
fn tell(story: &str) {
    let folder = match installed(story) {
        Ok(folder) => folder,
        Err(missing) => {
            let required = std::env::var("LIGHTSTREAMS_REQUIRE_TOOLS").as_deref() == Ok("1");
            assert!(!required, "what {story} needs is not here: {missing}");
            return eprintln!("skipped: what {story} needs is not here: {missing}");
        }
    };
    let mut dev = Command::new(crate::support::binary())
        .args(["dev", "--rpc", "127.0.0.1:0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(dev.stdout.take().unwrap()).lines().map_while(Result::ok);
    let url = lines
        .into_iter()
        .find_map(|line| line.split_whitespace().find(|word| word.starts_with("http://")).map(str::to_owned));
    let told = Command::new("node").arg(folder.join("story.mjs")).arg(url.unwrap()).output();
    crate::support::signal(&dev, Signal::TERM);
    let ended = dev.wait().unwrap();
    let told = told.unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    assert!(told.stdout.ends_with(b"done\n"), "{}", String::from_utf8_lossy(&told.stdout));
    assert!(ended.success(), "dev ended with {ended}");
}

#[test]
fn a_development_network_serves_ethers() {
    tell("lightstreams-chain/tests/ethers");
}

#[test]
fn a_development_network_serves_viem() {
    tell("lightstreams-node/tests/viem");
}
