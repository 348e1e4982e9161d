//! Both ways with the `age` command.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use lightstreams_crypto::{
    AnyRecipient, ArmorWriter, Header, ScryptIdentity, ScryptRecipient, SshIdentity, X25519Identity,
    X25519Recipient, encrypt, parse_recipients, rewrap,
};

use crate::{opened, rng, sealed_for, split, text, tool};

const SIZES: [usize; 6] = [0, 1, 65_535, 65_536, 65_537, 1_000_000];

#[test]
fn age_opens_what_we_write() {
    if !tool("age") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let identity = X25519Identity::generate(&mut rng(1));
    write_identity(dir.path(), &identity);
    for len in SIZES {
        let plaintext = text(len);
        fs::write(dir.path().join("file.age"), sealed_for(&identity, &plaintext, len as u64)).unwrap();
        assert_eq!(age(dir.path(), &["-d", "-i", "key", "file.age"]), plaintext, "{len} bytes");
    }
}

#[test]
fn we_open_what_age_writes() {
    if !tool("age") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let identity = X25519Identity::generate(&mut rng(2));
    let other = X25519Identity::generate(&mut rng(3));
    for len in SIZES {
        let plaintext = text(len);
        fs::write(dir.path().join("plain"), &plaintext).unwrap();
        let recipients = [other.recipient().to_string(), identity.recipient().to_string()];
        let file = age(dir.path(), &["-r", &recipients[0], "-r", &recipients[1], "plain"]);
        assert_eq!(opened(&[&identity], &file).unwrap(), plaintext, "{len} bytes");
    }
}

#[test]
fn armored_files_go_both_ways() {
    if !tool("age") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let identity = X25519Identity::generate(&mut rng(10));
    write_identity(dir.path(), &identity);
    // Headers and payloads whose armor ends in a full line, a short one, and one with padding.
    for len in (0..50).chain(SIZES) {
        let plaintext = text(len);
        let mut armor = ArmorWriter::new(Vec::new());
        encrypt(&[&identity.recipient()], &plaintext[..], &mut armor, &mut rng(len as u64)).unwrap();
        fs::write(dir.path().join("file.age"), armor.finish().unwrap()).unwrap();
        assert_eq!(age(dir.path(), &["-d", "-i", "key", "file.age"]), plaintext, "{len} bytes");

        fs::write(dir.path().join("plain"), &plaintext).unwrap();
        let file = age(dir.path(), &["-a", "-r", &identity.recipient().to_string(), "plain"]);
        assert!(file.starts_with(b"-----BEGIN"));
        assert_eq!(opened(&[&identity], &file).unwrap(), plaintext, "{len} bytes");
    }
}

#[test]
fn keys_of_openssh_go_both_ways() {
    if !tool("age") || !tool("ssh-keygen") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let plaintext = text(70_000);
    fs::write(dir.path().join("plain"), &plaintext).unwrap();
    for (name, passphrase) in [("free", ""), ("locked", "correct horse")] {
        let mut make = Command::new("ssh-keygen");
        make.current_dir(dir.path()).args(["-q", "-t", "ed25519", "-a", "2", "-N", passphrase, "-f", name]);
        success(make.output().unwrap());
        let public = fs::read_to_string(dir.path().join(format!("{name}.pub"))).unwrap();
        let secret = fs::read_to_string(dir.path().join(name)).unwrap();
        let identity = SshIdentity::from_openssh(&secret, Some(passphrase.as_bytes())).unwrap();
        assert_eq!(parse_recipients(&public).unwrap(), [AnyRecipient::Ssh(identity.recipient())]);

        let theirs = age(dir.path(), &["-R", &format!("{name}.pub"), "plain"]);
        assert_eq!(opened(&[&identity], &theirs).unwrap(), plaintext);

        let mut ours = Vec::new();
        encrypt(&[&identity.recipient()], &plaintext[..], &mut ours, &mut rng(11)).unwrap();
        fs::write(dir.path().join("file.age"), &ours).unwrap();
        if passphrase.is_empty() {
            assert_eq!(age(dir.path(), &["-d", "-i", name, "file.age"]), plaintext);
        } else if tool("script") {
            let command = format!("age -d -i {name} -o opened file.age");
            on_terminal(dir.path(), &command, &format!("{passphrase}\n"));
            assert_eq!(fs::read(dir.path().join("opened")).unwrap(), plaintext);
        }
    }
}

#[cfg(feature = "hybrid")]
#[test]
fn post_quantum_files_go_both_ways() {
    use lightstreams_crypto::{HybridIdentity, Recipient, parse_identities};

    if !tool("age") || !tool("age-keygen") {
        return;
    }
    let made = Command::new("age-keygen").arg("-pq").output().unwrap();
    if !made.status.success() {
        // Debian's age is older, and there is nothing newer to install: no failure.
        println!("skipped: this `age` is older than 1.3 and knows no post-quantum keys");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let theirs = String::from_utf8(made.stdout).unwrap();
    let ours = HybridIdentity::generate(&mut rng(13));
    let keys = [theirs.clone(), format!("{}\n", *ours.to_secret_string())];
    for key in keys {
        let [identity] = parse_identities(&key).unwrap().try_into().unwrap();
        let AnyRecipient::Hybrid(recipient) = identity.recipient() else { panic!("{identity:?}") };
        fs::write(dir.path().join("key"), &key).unwrap();
        let known = Command::new("age-keygen").arg("-y").arg(dir.path().join("key")).output().unwrap();
        assert_eq!(String::from_utf8(success(known)).unwrap().trim(), recipient.to_string());
        for len in SIZES {
            let plaintext = text(len);
            fs::write(dir.path().join("plain"), &plaintext).unwrap();
            fs::write(dir.path().join("readers"), format!("{recipient}\n{}\n", ours.recipient())).unwrap();
            let file = age(dir.path(), &["-R", "readers", "plain"]);
            assert_eq!(opened(&[&identity], &file).unwrap(), plaintext, "{len} bytes");

            let mut file = Vec::new();
            let recipients: [&dyn Recipient; 2] = [&ours.recipient(), &recipient];
            encrypt(&recipients, &plaintext[..], &mut file, &mut rng(len as u64)).unwrap();
            fs::write(dir.path().join("file.age"), &file).unwrap();
            assert_eq!(age(dir.path(), &["-d", "-i", "key", "file.age"]), plaintext, "{len} bytes");
        }
        // It refuses the mixture that we refuse.
        let classical = X25519Identity::generate(&mut rng(14)).recipient();
        fs::write(dir.path().join("readers"), format!("{recipient}\n{classical}\n")).unwrap();
        let mixed =
            Command::new("age").current_dir(dir.path()).args(["-R", "readers", "plain"]).output().unwrap();
        assert!(!mixed.status.success());
    }
}

#[test]
fn a_list_of_recipients_means_to_age_what_it_means_to_us() {
    if !tool("age") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (x25519, ssh) = (X25519Identity::generate(&mut rng(12)), SshIdentity::from_seed(&[3; 32]));
    let list = format!("# readers\n\n{}\r\n{} of ours\n", x25519.recipient(), ssh.recipient());
    fs::write(dir.path().join("readers"), &list).unwrap();
    fs::write(dir.path().join("plain"), "text").unwrap();
    let file = age(dir.path(), &["-R", "readers", "plain"]);
    assert_eq!(split(&file).0.stanzas().len(), parse_recipients(&list).unwrap().len());
    assert_eq!(opened(&[&x25519], &file).unwrap(), b"text");
    assert_eq!(opened(&[&ssh], &file).unwrap(), b"text");
}

#[test]
fn age_opens_a_rewrapped_header_before_the_old_payload() {
    if !tool("age") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (owner, reader) = (X25519Identity::generate(&mut rng(4)), X25519Identity::generate(&mut rng(5)));
    let plaintext = text(200_000);
    let file = sealed_for(&owner, &plaintext, 6);
    let (header, nonce, payload) = split(&file);
    let released: Header = rewrap(&header, &[&owner], &[&reader.recipient()], &mut rng(7)).unwrap();
    fs::write(dir.path().join("file.age"), [released.as_bytes(), nonce, payload].concat()).unwrap();
    write_identity(dir.path(), &reader);
    assert_eq!(age(dir.path(), &["-d", "-i", "key", "file.age"]), plaintext);
}

#[test]
fn keys_of_age_keygen_are_read_and_ours_are_read_by_it() {
    if !tool("age-keygen") {
        return;
    }
    let made = Command::new("age-keygen").output().unwrap();
    let made = String::from_utf8(made.stdout).unwrap();
    let secret = made.lines().find(|line| !line.starts_with('#')).unwrap();
    let identity: X25519Identity = secret.parse().unwrap();
    assert!(made.contains(&identity.recipient().to_string()));

    let dir = tempfile::tempdir().unwrap();
    let ours = X25519Identity::generate(&mut rng(8));
    write_identity(dir.path(), &ours);
    let output = Command::new("age-keygen").arg("-y").arg(dir.path().join("key")).output().unwrap();
    let recipient = String::from_utf8(output.stdout).unwrap();
    assert_eq!(recipient.trim().parse::<X25519Recipient>().unwrap(), ours.recipient());
}

#[test]
fn age_opens_our_passphrase_files_and_the_reverse() {
    // age asks for passphrases on a terminal only, which `script` gives it.
    if !tool("age") || !tool("script") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let plaintext = text(70_000);
    let mut file = Vec::new();
    let recipient = ScryptRecipient::new("correct horse").with_work_factor(12);
    encrypt(&[&recipient], &plaintext[..], &mut file, &mut rng(9)).unwrap();
    fs::write(dir.path().join("file.age"), &file).unwrap();
    on_terminal(dir.path(), "age -d -o plain file.age", "correct horse\n");
    assert_eq!(fs::read(dir.path().join("plain")).unwrap(), plaintext);

    on_terminal(dir.path(), "age -p -o theirs.age plain", "correct horse\ncorrect horse\n");
    let theirs = fs::read(dir.path().join("theirs.age")).unwrap();
    assert_eq!(opened(&[&ScryptIdentity::new("correct horse")], &theirs).unwrap(), plaintext);
}

fn write_identity(dir: &Path, identity: &X25519Identity) {
    fs::write(dir.join("key"), format!("# a comment\n{}\n", *identity.to_secret_string())).unwrap();
}

#[track_caller]
fn age(dir: &Path, args: &[&str]) -> Vec<u8> {
    success(Command::new("age").current_dir(dir).args(args).output().unwrap())
}

#[track_caller]
fn on_terminal(dir: &Path, command: &str, typed: &str) {
    let mut script = Command::new("script");
    script.current_dir(dir).args(["--quiet", "--return", "--command", command, "/dev/null"]);
    script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = script.spawn().unwrap();
    child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    success(child.wait_with_output().unwrap());
}

#[track_caller]
pub(crate) fn success(output: Output) -> Vec<u8> {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {err} {out}", output.status);
    output.stdout
}
