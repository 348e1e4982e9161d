//! Lists of keys: what is in a line, or which line is wrong, and nothing of its text.

use lightstreams_crypto::{
    AnyRecipient, Identity, KeyListError, ParseKeyError, Recipient, SshIdentity, X25519Identity, encrypt,
    parse_identities, parse_recipients,
};

use crate::{opened, rng};

const LOCKED: &str = include_str!("../ssh/locked.pem");
const PLAIN: &str = include_str!("../ssh/plain.pem");

fn x25519() -> X25519Identity {
    X25519Identity::generate(&mut rng(1))
}

#[track_caller]
fn refuses<K: std::fmt::Debug>(outcome: Result<Vec<K>, KeyListError>, at: usize, error: ParseKeyError) {
    assert_eq!(outcome.unwrap_err(), KeyListError::Line { line: at, error });
}

#[test]
fn recipients_of_all_kinds_stand_in_one_list() {
    let (x25519, ssh) = (x25519().recipient(), SshIdentity::from_seed(&[1; 32]).recipient());
    let list = format!("# two\n{x25519}\n\n{ssh} a comment\r\n#{x25519}\r\n\r\n");
    let found = parse_recipients(&list).unwrap();
    assert_eq!(found, [AnyRecipient::X25519(x25519), AnyRecipient::Ssh(ssh)]);
    assert_eq!(found[0].to_string(), x25519.to_string());
    assert_eq!(found[1].to_string(), ssh.to_string());
}

#[test]
fn who_is_in_the_list_of_recipients_opens_with_the_list_of_identities() {
    let (x25519, ssh) = (x25519(), SshIdentity::from_openssh(PLAIN, None).unwrap());
    let list = format!("{}\n{}\n", x25519.recipient(), ssh.recipient());
    let recipients = parse_recipients(&list).unwrap();
    let recipients: Vec<&dyn Recipient> = recipients.iter().map(|recipient| recipient as _).collect();
    let mut file = Vec::new();
    encrypt(&recipients, &b"text"[..], &mut file, &mut rng(2)).unwrap();
    for list in [&format!("# key\n{}\n", *x25519.to_secret_string()), PLAIN] {
        let identities = parse_identities(list).unwrap();
        let identities: Vec<&dyn Identity> = identities.iter().map(|identity| identity as _).collect();
        assert_eq!(opened(&identities, &file).unwrap(), b"text");
    }
}

#[cfg(feature = "hybrid")]
#[test]
fn hybrid_keys_stand_in_lists_and_keep_their_label() {
    let hybrid = lightstreams_crypto::HybridIdentity::generate(&mut rng(3));
    let recipients = parse_recipients(&hybrid.recipient().to_string()).unwrap();
    assert_eq!(recipients, [AnyRecipient::Hybrid(hybrid.recipient())]);
    assert_eq!(recipients[0].labels(), ["postquantum"]);
    let both = format!("{}\n{}", *x25519().to_secret_string(), *hybrid.to_secret_string());
    let identities = parse_identities(&both).unwrap();
    assert_eq!(identities[1].recipient(), recipients[0]);
    assert_eq!(identities[0].recipient(), AnyRecipient::X25519(x25519().recipient()));
}

#[test]
fn the_line_that_is_wrong_is_named_and_why() {
    let (public, secret) = (x25519().recipient().to_string(), x25519().to_secret_string());
    let ssh = SshIdentity::from_seed(&[1; 32]).recipient().to_string();

    let after = |text: &str| parse_recipients(&format!("# a\n\n{public}\n{text}\n{public}"));
    for text in
        [&public[..20], " ", &format!(" {public}"), &format!("{public} "), "age1", "\u{feff}", "github:x"]
    {
        refuses(after(text), 4, ParseKeyError::Encoding);
    }
    refuses(after(&secret), 4, ParseKeyError::Secret);
    refuses(after("-----BEGIN OPENSSH PRIVATE KEY-----"), 4, ParseKeyError::Secret);
    refuses(after("AGE-SECRET-KEY-PQ-1"), 4, ParseKeyError::Secret);
    refuses(after("ssh-ed25519 AAAA"), 4, ParseKeyError::Length);
    for text in ["ssh-rsa AAAA", "ecdsa-sha2-nistp256 AAAA", "sk-ssh-ed25519@openssh.com AAAA"] {
        assert!(matches!(
            after(text),
            Err(KeyListError::Line { line: 4, error: ParseKeyError::Unsupported(_) })
        ));
    }
    // A recipient for a hardware key, from the specification.
    let tag = "age1tag1qt8lw0ual6avlwmwatk888yqnmdamm7xfd0wak53ut6elz5c4swx2yqdj4e";
    refuses(after(tag), 4, ParseKeyError::Kind { expected: "age" });

    let after = |text: &str| parse_identities(&format!("{}\r\n#\r\n{text}\r\n", *secret));
    refuses(after(&public), 3, ParseKeyError::Public);
    refuses(after(&ssh), 3, ParseKeyError::Public);
    refuses(after("age1pq1xyz"), 3, ParseKeyError::Public);
    refuses(after(&secret.to_lowercase()), 3, ParseKeyError::Encoding);
    refuses(after(&secret[..secret.len() - 1]), 3, ParseKeyError::Encoding);
    #[cfg(feature = "hybrid")]
    refuses(after("AGE-SECRET-KEY-PQ-1QQQ"), 3, ParseKeyError::Encoding);
    for text in ["AGE-PLUGIN-YUBIKEY-1QQ", "age-encryption.org/v1"] {
        assert!(matches!(
            after(text),
            Err(KeyListError::Line { line: 3, error: ParseKeyError::Unsupported(_) })
        ));
    }
}

#[test]
fn a_list_without_a_key_is_no_list() {
    for list in ["", "\n", "# a\n#\n\r\n"] {
        assert_eq!(parse_recipients(list), Err(KeyListError::Empty));
        assert!(matches!(parse_identities(list), Err(KeyListError::Empty)));
    }
}

#[test]
fn protected_and_encrypted_files_say_so() {
    refuses(parse_identities(LOCKED), 1, ParseKeyError::PassphraseNeeded);
    for file in ["age-encryption.org/v1\n-> ", "-----BEGIN AGE ENCRYPTED FILE-----\n"] {
        assert!(matches!(
            parse_identities(file),
            Err(KeyListError::Line { line: 1, error: ParseKeyError::Unsupported(_) })
        ));
    }
    assert!(parse_identities(&format!("{PLAIN}{}", *x25519().to_secret_string())).is_err());
}

#[test]
fn an_error_repeats_nothing_of_the_text() {
    let secret = x25519().to_secret_string();
    let error = parse_identities(&format!("{}x", *secret)).unwrap_err();
    let text = format!("{error} {error:?} {}", std::error::Error::source(&error).unwrap());
    assert!(!text.contains(&secret[20..30]), "{text}");
}
