//! The node's identity and the passwords that unlock it.
//!
//! `identity.age` is an ordinary age file with one scrypt (passphrase) recipient; its plaintext is an ordinary age
//! identity file with one more comment:
//!
//! ```text
//! # recipient: age1…
//! # holder-seed: <64 hex digits>      Ed25519 seed: libp2p key and holder key
//! AGE-SECRET-KEY-1…
//! ```
//!
//! so that `age -d identity.age` prints what `age -d -i` takes. One password unlocks the identity and the keystore.

use crate::datadir::write_private_new;
use crate::error::{Exit, NodeError, Result, io_error};
use alloy_primitives::hex;
use lightstreams_crypto::ed25519::SigningKey;
use lightstreams_crypto::{X25519Identity, X25519Recipient};
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use zeroize::Zeroizing;

/// A password has at most this many bytes.
const PASSWORD_LEN_MAX: usize = 4096;
/// `identity.age` is a few hundred bytes; nothing near this is one.
const IDENTITY_LEN_MAX: u64 = 64 * 1024;
/// The file in systemd's credential directory.
const CREDENTIAL_NAME: &str = "lightstreams-password";

/// A password, wiped from memory when dropped.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Takes a password as it is.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The password's text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// Where a password comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PasswordSource {
    /// The first line of a file.
    File(PathBuf),
    /// The first line of an inherited file descriptor.
    Fd(u32),
    /// Asked for on the terminal.
    Prompt,
}

impl PasswordSource {
    /// Chooses the source: `--password-file`, `--password-fd`, `LIGHTSTREAMS_PASSWORD_FILE`, systemd's credential
    /// directory, else the terminal.
    pub fn choose(file: Option<PathBuf>, fd: Option<u32>) -> Self {
        let set = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        if let Some(file) = file {
            return Self::File(file);
        }
        if let Some(fd) = fd {
            return Self::Fd(fd);
        }
        if let Some(file) = set("LIGHTSTREAMS_PASSWORD_FILE") {
            return Self::File(file);
        }
        match set("CREDENTIALS_DIRECTORY").map(|dir| dir.join(CREDENTIAL_NAME)) {
            Some(file) if file.is_file() => Self::File(file),
            _ => Self::Prompt,
        }
    }

    /// Reads the password; with `confirm` a person types it twice.
    pub fn read(&self, prompt: &str, confirm: bool) -> Result<Password> {
        match self {
            Self::File(path) => first_line(path),
            Self::Fd(fd) => first_line(Path::new(&format!("/dev/fd/{fd}"))),
            Self::Prompt => {
                let ask = |text: &str| {
                    rpassword::prompt_password(text).map(Password::new).map_err(|e| {
                        NodeError::usage("no_password", "cannot ask for a password here")
                            .because(e)
                            .hint("give --password-file, or set LIGHTSTREAMS_PASSWORD_FILE")
                    })
                };
                let password = ask(&format!("{prompt}: "))?;
                if confirm && ask("again: ")?.expose() != password.expose() {
                    return Err(NodeError::usage("passwords_differ", "the two passwords differ"));
                }
                checked(password)
            }
        }
    }
}

fn first_line(path: &Path) -> Result<Password> {
    let wrong = |e| io_error("read the password from", path, e);
    let mut bytes = Zeroizing::new(vec![0; PASSWORD_LEN_MAX + 2]);
    let mut len = 0;
    let mut file = std::fs::File::open(path).map_err(wrong)?;
    while let Some(rest) = bytes.get_mut(len..).filter(|r| !r.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(wrong(e)),
        }
    }
    let text = std::str::from_utf8(bytes.get(..len).unwrap_or_default())
        .map_err(|_| NodeError::usage("bad_password", format!("{} is not UTF-8 text", path.display())))?;
    checked(Password::new(text.lines().next().unwrap_or_default()))
}

fn checked(password: Password) -> Result<Password> {
    match password.expose().len() {
        0 => Err(NodeError::usage("bad_password", "the password is empty")),
        n if n > PASSWORD_LEN_MAX => {
            Err(NodeError::usage("bad_password", format!("a password has at most {PASSWORD_LEN_MAX} bytes")))
        }
        _ => Ok(password),
    }
}

/// The right to run a memory-hard derivation; the process has one, since each takes 256 MiB.
#[derive(Debug)]
pub struct DerivationTurn {
    _turn: MutexGuard<'static, ()>,
}

/// Waits for the turn to derive a key from a password. Hold it for the derivation, no longer.
pub fn derivation_turn() -> DerivationTurn {
    static TURN: Mutex<()> = Mutex::new(());
    DerivationTurn { _turn: TURN.lock().unwrap_or_else(PoisonError::into_inner) }
}

/// The private halves of a node: its age identity and its Ed25519 key.
pub struct NodeIdentity {
    age: X25519Identity,
    holder_seed: Zeroizing<[u8; 32]>,
}

/// The public halves of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicIdentity {
    /// The age recipient that publishers wrap keys to.
    pub recipient: X25519Recipient,
    /// The Ed25519 key that signs releases and names the libp2p peer.
    pub holder: [u8; 32],
    /// The libp2p name of `holder`.
    pub peer_id: libp2p::PeerId,
}

impl NodeIdentity {
    /// A new identity.
    pub fn generate(rng: &mut impl rand::CryptoRng) -> Self {
        let mut holder_seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(holder_seed.as_mut());
        Self { age: X25519Identity::generate(rng), holder_seed }
    }

    /// The identity that wraps and unwraps file keys.
    pub fn age(&self) -> &X25519Identity {
        &self.age
    }

    /// The key that signs releases.
    pub fn holder_key(&self) -> SigningKey {
        SigningKey::from_seed(&self.holder_seed)
    }

    /// The seed of the holder key.
    pub fn holder_seed(&self) -> &[u8; 32] {
        &self.holder_seed
    }

    /// The libp2p key, which is the holder key.
    pub fn libp2p_keypair(&self) -> Result<libp2p::identity::Keypair> {
        let mut seed = Zeroizing::new(*self.holder_seed);
        libp2p::identity::Keypair::ed25519_from_bytes(seed.as_mut_slice())
            .map_err(|e| NodeError::new("bad_identity", "identity.age holds no Ed25519 seed").because(e))
    }

    /// The public halves.
    pub fn public(&self) -> Result<PublicIdentity> {
        Ok(PublicIdentity {
            recipient: self.age.recipient(),
            holder: self.holder_key().public(),
            peer_id: self.libp2p_keypair()?.public().to_peer_id(),
        })
    }

    /// Writes the identity to a file that must not exist, under `password`.
    pub fn save_new(&self, path: &Path, password: &Password, rng: &mut impl rand::CryptoRng) -> Result<()> {
        let plain = Zeroizing::new(format!(
            "# recipient: {}\n# holder-seed: {}\n{}\n",
            self.age.recipient(),
            hex::encode(*self.holder_seed),
            self.age.to_secret_string().as_str(),
        ));
        let recipient = lightstreams_crypto::ScryptRecipient::new(password.expose());
        let mut sealed = Vec::new();
        let turn = derivation_turn();
        lightstreams_crypto::encrypt(&[&recipient], &mut plain.as_bytes(), &mut sealed, rng)
            .map_err(|e| NodeError::new("identity", "cannot encrypt the identity").because(e))?;
        drop(turn);
        write_private_new(path, &sealed)
    }

    /// Opens `identity.age`.
    pub fn load(path: &Path, password: &Password) -> Result<Self> {
        let mut sealed = Vec::new();
        let wrong = |e| match e {
            e if std::io::Error::kind(&e) == std::io::ErrorKind::NotFound => {
                NodeError::not_found("no_identity", format!("{} does not exist", path.display()))
                    .hint("`lightstreams account new` makes one")
            }
            e => io_error("read", path, e),
        };
        std::fs::File::open(path)
            .map_err(wrong)?
            .take(IDENTITY_LEN_MAX)
            .read_to_end(&mut sealed)
            .map_err(wrong)?;
        let identity = lightstreams_crypto::ScryptIdentity::new(password.expose());
        let mut plain = Zeroizing::new(Vec::with_capacity(IDENTITY_LEN_MAX as usize));
        let turn = derivation_turn();
        lightstreams_crypto::decrypt(&[&identity], &mut sealed.as_slice(), &mut *plain).map_err(|e| {
            NodeError::new("wrong_password", format!("cannot open {}", path.display()))
                .because(e)
                .hint("the password is wrong, or the file is damaged")
                .exit(Exit::Usage)
        })?;
        drop(turn);
        let damaged = |what| NodeError::new("bad_identity", format!("{} {what}", path.display()));
        let text = std::str::from_utf8(&plain).map_err(|_| damaged("is no age identity file"))?;
        Self::parse(text).map_err(damaged)
    }

    /// Reads the text of an identity file.
    fn parse(text: &str) -> Result<Self, &'static str> {
        let mut age = None;
        let mut holder_seed = None;
        for line in text.lines() {
            if let Some(seed) = line.strip_prefix("# holder-seed: ") {
                let mut bytes = Zeroizing::new([0; 32]);
                hex::decode_to_slice(seed.trim(), bytes.as_mut())
                    .map_err(|_| "has a malformed holder-seed")?;
                if holder_seed.replace(bytes).is_some() {
                    return Err("has two holder seeds");
                }
            } else if line.starts_with("AGE-SECRET-KEY-1") {
                let key: X25519Identity = line.trim().parse().map_err(|_| "has a malformed age identity")?;
                if age.replace(key).is_some() {
                    return Err("has two age identities");
                }
            }
        }
        match (age, holder_seed) {
            (Some(age), Some(holder_seed)) => Ok(Self { age, holder_seed }),
            (None, _) => Err("has no age identity"),
            (_, None) => Err("has no holder-seed"),
        }
    }
}

impl fmt::Debug for NodeIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeIdentity(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_identity_is_read_back_with_its_password_and_not_with_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity.age");
        let mut rng = rand::rng();
        let made = NodeIdentity::generate(&mut rng);
        made.save_new(&path, &Password::new("open sesame"), &mut rng).unwrap();
        let read = NodeIdentity::load(&path, &Password::new("open sesame")).unwrap();
        assert_eq!(read.public().unwrap(), made.public().unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(NodeIdentity::load(&path, &Password::new("sesame")).unwrap_err().code(), "wrong_password");
        let again = made.save_new(&path, &Password::new("x"), &mut rng).unwrap_err();
        assert_eq!(again.code(), "already_exists");
        let absent = NodeIdentity::load(&dir.path().join("none"), &Password::new("x")).unwrap_err();
        assert_eq!(absent.code(), "no_identity");
    }

    #[test]
    fn a_malformed_identity_file_is_refused() {
        let seed = format!("# holder-seed: {}", "11".repeat(32));
        let key = NodeIdentity::generate(&mut rand::rng()).age.to_secret_string().to_string();
        assert!(NodeIdentity::parse(&format!("# note\n{seed}\n{key}\n")).is_ok());
        for bad in [
            String::new(),
            seed.clone(),
            key.clone(),
            format!("{seed}\n{seed}\n{key}"),
            format!("{seed}\n{key}\n{key}"),
            format!("# holder-seed: 11\n{key}"),
            format!("{seed}\nAGE-SECRET-KEY-1QQQQ"),
        ] {
            assert!(NodeIdentity::parse(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_password_is_the_first_line_of_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        let read = |content: &[u8]| {
            std::fs::write(&path, content).unwrap();
            PasswordSource::File(path.clone()).read("password", false)
        };
        assert_eq!(read(b"open sesame\nrest").unwrap().expose(), "open sesame");
        assert_eq!(read("ö\r\n".as_bytes()).unwrap().expose(), "ö");
        for bad in [&b""[..], b"\n", b"\xff\xfe", &[b'x'; PASSWORD_LEN_MAX + 1]] {
            assert_eq!(read(bad).unwrap_err().code(), "bad_password");
        }
    }
}
