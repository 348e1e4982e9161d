//! Both ways with the JavaScript package `age-encryption`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

#[cfg(feature = "hybrid")]
use lightstreams_crypto::{ArmorWriter, HybridIdentity};
use lightstreams_crypto::{ScryptIdentity, ScryptRecipient, X25519Identity, encrypt, rewrap};
use serde_json::{Value, json};

use crate::{opened, require, rng, sealed_for, split, text};

const SIZES: [usize; 6] = [0, 1, 65_535, 65_536, 65_537, 200_000];

#[test]
fn javascript_opens_what_we_write() {
    let Some(package) = package() else { return };
    let dir = tempfile::tempdir().unwrap();
    let identity = X25519Identity::generate(&mut rng(41));
    let mut jobs = Vec::new();
    for len in SIZES {
        let file = sealed_for(&identity, &text(len), len as u64);
        fs::write(dir.path().join(format!("{len}.age")), file).unwrap();
        let secret = identity.to_secret_string();
        jobs.push(json!({"decrypt": format!("{len}.age"), "to": len.to_string(), "identity": *secret}));
    }
    let recipient = ScryptRecipient::new("correct horse").with_work_factor(10);
    let mut file = Vec::new();
    encrypt(&[&recipient], &text(70_000)[..], &mut file, &mut rng(42)).unwrap();
    fs::write(dir.path().join("passphrase.age"), &file).unwrap();
    jobs.push(json!({"decrypt": "passphrase.age", "to": "passphrase", "passphrase": "correct horse"}));

    run(&package, dir.path(), &jobs);
    for len in SIZES {
        assert_eq!(fs::read(dir.path().join(len.to_string())).unwrap(), text(len), "{len} bytes");
    }
    assert_eq!(fs::read(dir.path().join("passphrase")).unwrap(), text(70_000));
}

#[test]
fn we_open_what_javascript_writes() {
    let Some(package) = package() else { return };
    let dir = tempfile::tempdir().unwrap();
    run(&package, dir.path(), &[json!({"generate": "x25519", "to": "key"})]);
    let key = fs::read_to_string(dir.path().join("key")).unwrap();
    let (identity, recipient) = key.trim_end().split_once('\n').unwrap();
    let theirs: X25519Identity = identity.parse().unwrap();
    assert_eq!(theirs.recipient().to_string(), recipient);

    let ours = X25519Identity::generate(&mut rng(43));
    let recipients = [recipient.to_owned(), ours.recipient().to_string()];
    let mut jobs = Vec::new();
    for len in SIZES {
        fs::write(dir.path().join(len.to_string()), text(len)).unwrap();
        jobs.push(json!({"encrypt": len.to_string(), "to": format!("{len}.age"), "recipients": recipients}));
    }
    jobs.push(json!({"encrypt": "200000", "to": "passphrase.age", "passphrase": "correct horse"}));
    run(&package, dir.path(), &jobs);
    for len in SIZES {
        let file = fs::read(dir.path().join(format!("{len}.age"))).unwrap();
        assert_eq!(opened(&[&ours], &file).unwrap(), text(len), "{len} bytes");
        assert_eq!(opened(&[&theirs], &file).unwrap(), text(len), "{len} bytes");
    }
    let file = fs::read(dir.path().join("passphrase.age")).unwrap();
    assert_eq!(opened(&[&ScryptIdentity::new("correct horse")], &file).unwrap(), text(200_000));
}

#[cfg(feature = "hybrid")]
#[test]
fn post_quantum_files_and_armor_go_both_ways() {
    let Some(package) = package() else { return };
    let dir = tempfile::tempdir().unwrap();
    run(&package, dir.path(), &[json!({"generate": "hybrid", "to": "key"})]);
    let key = fs::read_to_string(dir.path().join("key")).unwrap();
    let (identity, recipient) = key.trim_end().split_once('\n').unwrap();
    let theirs: HybridIdentity = identity.parse().unwrap();
    assert_eq!(theirs.recipient().to_string(), recipient);
    let ours = HybridIdentity::generate(&mut rng(48));

    let mut armor = ArmorWriter::new(Vec::new());
    encrypt(&[&ours.recipient()], &text(70_000)[..], &mut armor, &mut rng(49)).unwrap();
    fs::write(dir.path().join("ours.age"), armor.finish().unwrap()).unwrap();
    fs::write(dir.path().join("plain"), text(70_000)).unwrap();
    let recipients = [recipient.to_owned(), ours.recipient().to_string()];
    let secret = ours.to_secret_string();
    run(
        &package,
        dir.path(),
        &[
            json!({"decrypt": "ours.age", "to": "opened", "identity": *secret}),
            json!({"encrypt": "plain", "to": "theirs.age", "recipients": recipients}),
            json!({"encrypt": "plain", "to": "armored.age", "recipients": recipients, "armor": true}),
        ],
    );
    assert_eq!(fs::read(dir.path().join("opened")).unwrap(), text(70_000));
    for name in ["theirs.age", "armored.age"] {
        let file = fs::read(dir.path().join(name)).unwrap();
        assert_eq!(opened(&[&ours], &file).unwrap(), text(70_000), "{name}");
        assert_eq!(opened(&[&theirs], &file).unwrap(), text(70_000), "{name}");
    }
}

#[test]
fn javascript_opens_a_released_header_before_the_old_payload() {
    let Some(package) = package() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (owner, reader) = (X25519Identity::generate(&mut rng(44)), X25519Identity::generate(&mut rng(45)));
    let file = sealed_for(&owner, &text(200_000), 46);
    let (header, nonce, payload) = split(&file);
    let released = rewrap(&header, &[&owner], &[&reader.recipient()], &mut rng(47)).unwrap();
    fs::write(dir.path().join("file.age"), [released.as_bytes(), nonce, payload].concat()).unwrap();
    let secret = reader.to_secret_string();
    run(&package, dir.path(), &[json!({"decrypt": "file.age", "to": "plain", "identity": *secret})]);
    assert_eq!(fs::read(dir.path().join("plain")).unwrap(), text(200_000));
}

/// The folder of the script with its packages, installed once, or `None` and a line without node 20 and npm.
fn package() -> Option<PathBuf> {
    static PACKAGE: OnceLock<Option<PathBuf>> = OnceLock::new();
    PACKAGE
        .get_or_init(|| {
            let installed = install();
            if let Err(missing) = &installed {
                require(&format!("skipped: age-encryption for JavaScript is not here: {missing}"));
            }
            installed.ok()
        })
        .clone()
}

fn install() -> Result<PathBuf, String> {
    let version = Command::new("node").arg("--version").output().map_err(|error| format!("node: {error}"))?;
    let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    let major = version.strip_prefix('v').and_then(|version| version.split('.').next()?.parse().ok());
    if major.is_none_or(|major: u32| major < 20) {
        return Err(format!("node is {version}, and 20 is needed"));
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/javascript");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("javascript");
    fs::create_dir_all(&target).unwrap();
    for entry in fs::read_dir(source).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), target.join(entry.file_name())).unwrap();
    }
    if !target.join("node_modules/age-encryption").is_dir() {
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&target);
        let output = npm.output().map_err(|error| format!("npm: {error}"))?;
        if !output.status.success() {
            return Err(format!("npm ci: {}", String::from_utf8_lossy(&output.stderr).trim_end()));
        }
    }
    Ok(target)
}

#[track_caller]
fn run(package: &Path, dir: &Path, jobs: &[Value]) {
    fs::write(dir.join("jobs.json"), serde_json::to_string(jobs).unwrap()).unwrap();
    let mut node = Command::new("node");
    let output = node.arg(package.join("age.mjs")).arg("jobs.json").current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
