//! Ed25519 keys of SSH and of nodes, and the files that OpenSSH keeps them in.

use base64::{Engine, engine::general_purpose::STANDARD, engine::general_purpose::STANDARD_NO_PAD};
use lightstreams_crypto::{
    Error, FileKey, Identity, ParseKeyError, Recipient, SshIdentity, SshRecipient, ed25519::SigningKey,
    encrypt,
};

use crate::{opened, recipients::LOW_ORDER, rng};

const PLAIN: &str = include_str!("../ssh/plain.pem");
const PLAIN_PUB: &str = include_str!("../ssh/plain.pub");
const LOCKED: &str = include_str!("../ssh/locked.pem");
const BY_AGE: &str = include_str!("../ssh/by_age.txt");

fn plain() -> SshIdentity {
    SshIdentity::from_openssh(PLAIN, None).unwrap()
}

#[cfg(feature = "testing")]
#[test]
fn ssh_recipients_keep_their_promises() {
    let (mine, other) = (SshIdentity::from_seed(&[1; 32]), SshIdentity::from_seed(&[2; 32]));
    lightstreams_crypto::testing::check_recipient(&mine.recipient(), &mine, &other, &mut rng(1));
}

#[test]
fn a_file_that_age_wrote_for_a_key_of_openssh_opens() {
    assert_eq!(opened(&[&plain()], BY_AGE.as_bytes()).unwrap(), b"a text for an SSH key\n");
    let other = SshIdentity::from_seed(&[1; 32]);
    assert!(matches!(opened(&[&other], BY_AGE.as_bytes()), Err(Error::NoMatchingIdentity)));
}

#[test]
fn the_key_of_a_node_opens_files() {
    let node = SigningKey::generate(&mut rng(2));
    let recipient = SshRecipient::from_bytes(&node.public()).unwrap();
    let mut file = Vec::new();
    encrypt(&[&recipient], &b"text"[..], &mut file, &mut rng(3)).unwrap();
    let identity = SshIdentity::from_seed(node.expose_seed());
    assert_eq!(identity.recipient(), recipient);
    assert_eq!(recipient.as_bytes(), &node.public());
    assert_eq!(opened(&[&identity], &file).unwrap(), b"text");
}

#[test]
fn a_public_key_is_a_line_with_any_comment() {
    let recipient = plain().recipient();
    let line = recipient.to_string();
    assert!(PLAIN_PUB.starts_with(&line));
    let spelled =
        [&format!("{line}\r\n"), &format!("{line} "), &format!("{line}\tä b  c"), &line.replace(' ', " \t ")];
    for text in spelled.map(String::as_str).into_iter().chain([PLAIN_PUB, &line]) {
        assert_eq!(text.parse::<SshRecipient>().unwrap(), recipient, "{text:?}");
    }
    let kind = Err(ParseKeyError::Kind { expected: "ssh-ed25519" });
    for text in
        ["", " ", "ssh", &format!(" {line}"), &line.to_uppercase(), &line["ssh-ed25519 ".len()..], "age1"]
    {
        assert_eq!(text.parse::<SshRecipient>(), kind, "{text:?}");
    }
    for text in [
        include_str!("../ssh/ecdsa.pub"),
        "ssh-rsa AAAA",
        "ssh-ed25519-cert-v01@openssh.com A",
        "ssh-ed25519x",
    ] {
        assert!(matches!(text.parse::<SshRecipient>(), Err(ParseKeyError::Unsupported(_))), "{text:?}");
    }
    for text in ["ssh-ed25519", "ssh-ed25519 ", "ssh-ed25519 AAAA", "ssh-ed25519 c3NoLXJzYQ=="] {
        assert_eq!(text.parse::<SshRecipient>(), Err(ParseKeyError::Length), "{text:?}");
    }
    for text in [format!("{line} a\n{line}"), format!("{line}\nb"), format!("{line} a\rb")] {
        assert_eq!(text.parse::<SshRecipient>(), Err(ParseKeyError::Encoding), "{text:?}");
    }
    assert_eq!("ssh-ed25519 AAA".parse::<SshRecipient>(), Err(ParseKeyError::Encoding));
    assert_eq!(format!("{line}=").parse::<SshRecipient>(), Err(ParseKeyError::Encoding));
    assert_eq!(format!("{line}AAAA").parse::<SshRecipient>(), Err(ParseKeyError::Length));

    // The lengths and the kind inside are those of the one form.
    let wire = STANDARD.decode(&line["ssh-ed25519 ".len()..]).unwrap();
    for at in 0..19 {
        let mut changed = wire.clone();
        changed[at] ^= 1;
        let text = format!("ssh-ed25519 {}", STANDARD.encode(changed));
        assert_eq!(text.parse::<SshRecipient>(), Err(ParseKeyError::Length), "at {at}");
    }
}

#[test]
fn points_that_are_none_or_not_of_the_one_form_are_refused() {
    let low_order = [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    ];
    let invalid = [
        // y = 2 is not on the curve; y = p and y = p + 1 are 0 and 1 in a second spelling; 1 with a sign.
        "0200000000000000000000000000000000000000000000000000000000000000",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0100000000000000000000000000000000000000000000000000000000000080",
    ];
    let lists = [(&low_order[..], ParseKeyError::LowOrder), (&invalid[..], ParseKeyError::Invalid)];
    for (point, error) in lists.iter().flat_map(|(list, error)| list.iter().map(move |point| (point, *error)))
    {
        let bytes: [u8; 32] = hex::decode(point).unwrap().try_into().unwrap();
        assert_eq!(SshRecipient::from_bytes(&bytes), Err(error), "{point}");
    }
}

#[test]
fn a_stanza_of_my_kind_that_breaks_its_rules_condemns_the_header() {
    let mine = plain();
    let file_key = FileKey::generate(&mut rng(4));
    let good = mine.recipient().wrap(&file_key, &mut rng(5)).unwrap();
    assert_eq!((good.tag.as_str(), good.args[0].len(), good.body.len()), ("ssh-ed25519", 6, 32));
    let mut broken = vec![good.clone(); 9];
    broken[0].args.clear();
    broken[1].args.pop();
    broken[2].args.push("more".into());
    broken[3].args[0].pop();
    broken[4].args[0].push('A');
    broken[5].args[1].pop();
    broken[6].args[1].push('A');
    broken[7].body.pop();
    broken[8].body.push(0);
    for point in LOW_ORDER {
        let mut stanza = good.clone();
        stanza.args[1] = STANDARD_NO_PAD.encode(hex::decode(point).unwrap());
        broken.push(stanza);
    }
    for stanza in broken {
        let outcome = mine.unwrap(&stanza);
        assert!(matches!(outcome, Err(Error::BrokenStanza { kind: "ssh-ed25519", .. })), "{stanza:?}");
    }
    let mut not_mine = vec![good.clone(); 3];
    not_mine[0].args[0] = "AAAAAA".into();
    not_mine[1].args[1] = STANDARD_NO_PAD.encode([9; 32]);
    not_mine[2].tag = "ssh-rsa".into();
    for stanza in not_mine {
        assert!(matches!(mine.unwrap(&stanza), Ok(None)), "{stanza:?}");
    }
    assert_eq!(mine.unwrap(&good).unwrap().unwrap(), file_key);
}

#[test]
fn a_passphrase_opens_a_protected_key_and_no_other_does() {
    let open =
        |passphrase: Option<&[u8]>| SshIdentity::from_openssh(LOCKED, passphrase).map(|key| key.recipient());
    let recipient = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAII61h/WEcMYLbx4pNFClDuChFJ4P5wNYseZFrG6YhtEj";
    assert_eq!(open(Some(b"correct horse")).unwrap().to_string(), recipient);
    assert_eq!(open(None), Err(ParseKeyError::PassphraseNeeded));
    for wrong in ["", "correct horse ", "Correct horse"] {
        assert_eq!(open(Some(wrong.as_bytes())), Err(ParseKeyError::WrongPassphrase), "{wrong:?}");
    }
    // A passphrase that is not needed is not looked at.
    assert!(SshIdentity::from_openssh(PLAIN, Some(b"any")).is_ok());
}

#[test]
fn files_that_are_not_read_say_what_to_do() {
    let pkcs8 = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n";
    let many_rounds = change(LOCKED, |bytes| {
        let at = bytes.windows(4).position(|w| w == [0, 0, 0, 4]).unwrap();
        bytes[at + 2] = 5;
    });
    let (ecdsa, cbc) = (include_str!("../ssh/ecdsa.pem"), include_str!("../ssh/cbc.pem"));
    for (file, advice) in
        [(pkcs8, "ssh-keygen -p"), (cbc, "ssh-keygen -p -Z"), (&many_rounds, "-a 24"), (ecdsa, "Ed25519")]
    {
        let error = SshIdentity::from_openssh(file, Some(b"x")).unwrap_err();
        assert!(matches!(error, ParseKeyError::Unsupported(_)), "{error:?}");
        assert!(error.to_string().contains(advice), "{error}");
    }
}

/// Changes the binary content of a private key file.
fn change(file: &str, change: impl FnOnce(&mut Vec<u8>)) -> String {
    let lines: Vec<&str> = file.lines().collect();
    let mut bytes = STANDARD.decode(lines[1..lines.len() - 1].concat()).unwrap();
    change(&mut bytes);
    format!("{}\n{}\n{}\n", lines[0], STANDARD.encode(bytes), lines[lines.len() - 1])
}

#[test]
fn a_private_key_file_changed_in_any_bit_is_refused_or_is_the_same_key() {
    let recipient = plain().recipient();
    let mut len = 0;
    change(PLAIN, |bytes| len = bytes.len());
    // Only the comment, 13 bytes before 0 bytes of padding, is nobody's business.
    for bit in 0..len * 8 {
        let changed = change(PLAIN, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        match SshIdentity::from_openssh(&changed, None) {
            Ok(key) => {
                assert_eq!(key.recipient(), recipient);
                assert!(bit / 8 >= len - 13, "bit {bit} was not noticed");
            }
            Err(error) => assert!(
                matches!(error, ParseKeyError::OpenSsh(_) | ParseKeyError::Unsupported(_)),
                "bit {bit}: {error:?}"
            ),
        }
    }
    for cut in 0..len {
        let changed = change(PLAIN, |bytes| bytes.truncate(cut));
        assert!(
            matches!(SshIdentity::from_openssh(&changed, None), Err(ParseKeyError::OpenSsh(_))),
            "{cut} bytes"
        );
    }
    for more in [0, 1] {
        let changed = change(PLAIN, |bytes| bytes.push(more));
        assert!(matches!(SshIdentity::from_openssh(&changed, None), Err(ParseKeyError::OpenSsh(_))));
    }
}

/// A private key file made by hand: the parts of its secret section, and what pads them.
fn by_hand(count: u32, public: &[u8], numbers: [u32; 2], parts: [&[u8]; 4], padding: &[u8]) -> String {
    let string = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes(), bytes].concat();
    let wire = [string(b"ssh-ed25519"), string(public)].concat();
    let mut secret = numbers.map(u32::to_be_bytes).concat();
    secret.extend(parts.map(string).concat());
    secret.extend(padding);
    let head = [string(b"none"), string(b"none"), string(b""), count.to_be_bytes().to_vec()].concat();
    let bytes = [b"openssh-key-v1\0".to_vec(), head, string(&wire), string(&secret)].concat();
    let text = STANDARD.encode(bytes);
    format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{text}\n-----END OPENSSH PRIVATE KEY-----\n")
}

#[test]
fn a_private_key_file_whose_parts_do_not_fit_together_is_refused() {
    let (key, other) = (SigningKey::from_seed(&[7; 32]), SigningKey::from_seed(&[8; 32]));
    let (public, foreign) = (&key.public(), &other.public());
    let pair = [*key.expose_seed(), *public].concat();
    let half = [*key.expose_seed(), *foreign].concat();
    let kind = &b"ssh-ed25519"[..];
    // 8 + 15 + 36 + 68 + 4 + 5 bytes are whole blocks of 8.
    let good = [kind, public, &pair, b"12345"];
    let read = |file: String| SshIdentity::from_openssh(&file, None).map(|key| *key.recipient().as_bytes());
    assert_eq!(read(by_hand(1, public, [9, 9], good, b"")), Ok(*public));
    let padded = [kind, public, &pair, b"12"];
    assert_eq!(read(by_hand(1, public, [9, 9], padded, &[1, 2, 3])), Ok(*public));

    let unsupported = |outcome| assert!(matches!(outcome, Err(ParseKeyError::Unsupported(_))), "{outcome:?}");
    unsupported(read(by_hand(0, public, [9, 9], good, b"")));
    unsupported(read(by_hand(2, public, [9, 9], good, b"")));
    for (public, numbers, parts, padding) in [
        (public, [9, 8], good, &b""[..]),
        (foreign, [9, 9], good, b""),
        (public, [9, 9], [b"ssh-ed25518", public, &pair, b"12345"], b""),
        (public, [9, 9], [kind, foreign, &pair, b"12345"], b""),
        (public, [9, 9], [kind, public, &half, b"12345"], b""),
        (public, [9, 9], [kind, public, &pair[..63], b"123456"], b""),
        (public, [9, 9], [kind, public, &[&pair[..], b"x"].concat(), b"1234"], b""),
        (public, [9, 9], [kind, public, &pair[..31], &[b'x'; 38]], b""),
        (public, [9, 9], good, &[1, 2, 3, 4, 5, 6, 7, 8]),
        (public, [9, 9], padded, &[1, 2, 4]),
        (public, [9, 9], padded, &[0, 0, 0]),
        (public, [9, 9], padded, &[1, 2]),
    ] {
        let outcome = read(by_hand(1, public, numbers, parts, padding));
        assert!(matches!(outcome, Err(ParseKeyError::OpenSsh(_))), "{outcome:?} {parts:?} {padding:?}");
    }
}

#[test]
fn damage_to_a_protected_key_is_refused() {
    let mut len = 0;
    change(LOCKED, |bytes| len = bytes.len());
    for at in (0..len - 32).step_by(7) {
        let changed = change(LOCKED, |bytes| bytes[at] ^= 0x80);
        let outcome = SshIdentity::from_openssh(&changed, Some(b"correct horse"));
        assert!(outcome.is_err(), "byte {at}");
    }
}

#[test]
fn the_armor_of_a_private_key_is_read_strictly() {
    let crlf = PLAIN.replace('\n', "\r\n");
    let one_line = change(PLAIN, |_| {});
    for file in [&crlf, &one_line, PLAIN.trim_end(), &format!("\n {PLAIN}\n\n")] {
        assert_eq!(SshIdentity::from_openssh(file, None).unwrap().recipient(), plain().recipient());
    }
    let end = "-----END OPENSSH PRIVATE KEY-----";
    for file in [
        "",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        &format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{end}"),
        &PLAIN.replace(end, ""),
        &format!("{PLAIN}{PLAIN}"),
        &format!("x{PLAIN}"),
        &PLAIN.replacen("b3Bl", "b3B*", 1),
        &PLAIN.replacen("b3Bl", "c3Bl", 1),
        &PLAIN.replacen("b3Bl", " b3Bl", 1),
        &format!("{PLAIN}{}", "\n".repeat(16 * 1024)),
    ] {
        let outcome = SshIdentity::from_openssh(file, None);
        assert!(matches!(outcome, Err(ParseKeyError::OpenSsh(_))), "{outcome:?} for {file:?}");
    }
}
