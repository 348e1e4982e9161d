//! Programs of others, from npm.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A copy of the folder `tests/NAME` with its npm packages; `None`, with a line that says so, without node 22 and npm.
pub(crate) fn npm(name: &str) -> Option<PathBuf> {
    match installed(name) {
        Ok(folder) => Some(folder),
        Err(missing) => {
            let required = env::var("LIGHTSTREAMS_REQUIRE_TOOLS").as_deref() == Ok("1");
            assert!(!required, "what {name} needs is not here: {missing}");
            eprintln!("skipped: what {name} needs is not here: {missing}");
            None
        }
    }
}

fn installed(name: &str) -> Result<PathBuf, String> {
    let version = Command::new("node").arg("--version").output().map_err(|error| format!("node: {error}"))?;
    let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    let major = version.strip_prefix('v').and_then(|version| version.split('.').next()?.parse().ok());
    if major.is_none_or(|major: u32| major < 22) {
        return Err(format!("node is {version}, and 22 is needed"));
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&target).unwrap();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)).unwrap() {
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
