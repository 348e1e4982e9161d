//! Both ways with `rage`, where it is installed.
//!
//! It takes minutes to build and is not in Debian 12, so that its absence is a line and never a failure.
//! Passphrases are left out: its prompt drops what was typed before it, so that no test can wait for it.

use std::{fs, path::Path, process::Command};

use lightstreams_crypto::{ArmorWriter, SshIdentity, X25519Identity, encrypt, rewrap};

use crate::{age_command::success, opened, rng, sealed_for, split, text};

const SIZES: [usize; 6] = [0, 1, 65_535, 65_536, 65_537, 1_000_000];

#[test]
fn rage_opens_what_we_write_and_the_reverse() {
    if !has_rage() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let identity = X25519Identity::generate(&mut rng(61));
    fs::write(dir.path().join("key"), identity.to_secret_string().as_bytes()).unwrap();
    for len in SIZES {
        fs::write(dir.path().join("file.age"), sealed_for(&identity, &text(len), len as u64)).unwrap();
        assert_eq!(rage(dir.path(), &["-d", "-i", "key", "file.age"]), text(len), "{len} bytes");

        fs::write(dir.path().join("plain"), text(len)).unwrap();
        let recipient = identity.recipient().to_string();
        let other = X25519Identity::generate(&mut rng(62)).recipient().to_string();
        let theirs = rage(dir.path(), &["-r", &other, "-r", &recipient, "plain"]);
        assert_eq!(opened(&[&identity], &theirs).unwrap(), text(len), "{len} bytes");
    }
}

#[test]
fn armor_and_keys_of_openssh_go_both_ways_with_rage() {
    if !has_rage() || Command::new("ssh-keygen").arg("-V").output().is_err() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut make = Command::new("ssh-keygen");
    make.current_dir(dir.path()).args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", "key"]);
    success(make.output().unwrap());
    let secret = fs::read_to_string(dir.path().join("key")).unwrap();
    let public = fs::read_to_string(dir.path().join("key.pub")).unwrap();
    let identity = SshIdentity::from_openssh(&secret, None).unwrap();

    fs::write(dir.path().join("plain"), text(70_000)).unwrap();
    let theirs = rage(dir.path(), &["-a", "-r", public.trim(), "plain"]);
    assert!(theirs.starts_with(b"-----BEGIN"));
    assert_eq!(opened(&[&identity], &theirs).unwrap(), text(70_000));

    let mut armor = ArmorWriter::new(Vec::new());
    encrypt(&[&identity.recipient()], &text(70_000)[..], &mut armor, &mut rng(63)).unwrap();
    fs::write(dir.path().join("ours.age"), armor.finish().unwrap()).unwrap();
    assert_eq!(rage(dir.path(), &["-d", "-i", "key", "ours.age"]), text(70_000));
}

#[test]
fn rage_opens_a_released_header_before_the_old_payload() {
    if !has_rage() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (owner, reader) = (X25519Identity::generate(&mut rng(64)), X25519Identity::generate(&mut rng(65)));
    let file = sealed_for(&owner, &text(200_000), 66);
    let (header, nonce, payload) = split(&file);
    let released = rewrap(&header, &[&owner], &[&reader.recipient()], &mut rng(67)).unwrap();
    fs::write(dir.path().join("file.age"), [released.as_bytes(), nonce, payload].concat()).unwrap();
    fs::write(dir.path().join("key"), reader.to_secret_string().as_bytes()).unwrap();
    assert_eq!(rage(dir.path(), &["-d", "-i", "key", "file.age"]), text(200_000));
}

fn has_rage() -> bool {
    let found = Command::new("rage").arg("--version").output().is_ok();
    if !found {
        println!("skipped: the command `rage` is not installed");
    }
    found
}

#[track_caller]
fn rage(dir: &Path, args: &[&str]) -> Vec<u8> {
    success(Command::new("rage").current_dir(dir).args(args).output().unwrap())
}
