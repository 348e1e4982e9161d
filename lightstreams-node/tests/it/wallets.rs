//! `lightstreams dev` with what wallets are made of: ethers and viem.

use rustix::process::Signal;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The folder of the script with its packages; without node 20 and npm, why not.
fn packages() -> Result<PathBuf, String> {
    let version = Command::new("node").arg("--version").output().map_err(|error| format!("node: {error}"))?;
    let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    let major = version.strip_prefix('v').and_then(|version| version.split('.').next()?.parse().ok());
    if major.is_none_or(|major: u32| major < 20) {
        return Err(format!("node is {version}, and 20 is needed"));
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("wallets");
    fs::create_dir_all(&target).unwrap();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/javascript")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), target.join(entry.file_name())).unwrap();
    }
    if !target.join("node_modules/viem").is_dir() {
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&target);
        let output = npm.output().map_err(|error| format!("npm: {error}"))?;
        if !output.status.success() {
            return Err(format!("npm ci: {}", String::from_utf8_lossy(&output.stderr).trim_end()));
        }
    }
    Ok(target)
}

#[test]
fn ethers_and_viem_transfer_deploy_call_and_read_logs() {
    let packages = match packages() {
        Ok(packages) => packages,
        Err(missing) => {
            let required = std::env::var("LIGHTSTREAMS_REQUIRE_TOOLS").as_deref() == Ok("1");
            assert!(!required, "ethers and viem are not here: {missing}");
            return eprintln!("skipped: ethers and viem are not here: {missing}");
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
    let done = Command::new("node").arg(packages.join("wallet.mjs")).arg(url.unwrap()).output();
    crate::support::signal(&dev, Signal::TERM);
    let ended = dev.wait().unwrap();
    let done = done.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(ended.success(), "dev ended with {ended}");
}
