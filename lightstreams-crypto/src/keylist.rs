use std::{fmt, str::FromStr};

use rand_core::CryptoRng;

use crate::{
    Error, FileKey, Identity, KeyListError, ParseKeyError, Recipient, SshIdentity, SshRecipient, Stanza,
    X25519Identity, X25519Recipient, openssh, ssh::is_another_kind,
};
#[cfg(feature = "hybrid")]
use crate::{HybridIdentity, HybridRecipient};

/// A recipient of any kind that has a text: `age1…`, `age1pq1…` or `ssh-ed25519 AAAA…`.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnyRecipient {
    /// An X25519 key of age.
    X25519(X25519Recipient),
    /// A post-quantum key of age.
    #[cfg(feature = "hybrid")]
    Hybrid(HybridRecipient),
    /// An Ed25519 key of SSH.
    Ssh(SshRecipient),
}

impl AnyRecipient {
    fn inner(&self) -> &dyn Recipient {
        match self {
            Self::X25519(recipient) => recipient,
            #[cfg(feature = "hybrid")]
            Self::Hybrid(recipient) => recipient,
            Self::Ssh(recipient) => recipient,
        }
    }
}

impl Recipient for AnyRecipient {
    fn wrap(&self, file_key: &FileKey, rng: &mut dyn CryptoRng) -> Result<Stanza, Error> {
        self.inner().wrap(file_key, rng)
    }

    fn labels(&self) -> &[&str] {
        self.inner().labels()
    }
}

impl fmt::Display for AnyRecipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::X25519(recipient) => recipient.fmt(f),
            #[cfg(feature = "hybrid")]
            Self::Hybrid(recipient) => recipient.fmt(f),
            Self::Ssh(recipient) => recipient.fmt(f),
        }
    }
}

impl FromStr for AnyRecipient {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        if text.starts_with("age1pq1") {
            #[cfg(feature = "hybrid")]
            return text.parse().map(Self::Hybrid);
            #[cfg(not(feature = "hybrid"))]
            return Err(WITHOUT_HYBRID);
        }
        if text.starts_with("AGE-SECRET-KEY-") || text.starts_with("-----BEGIN ") {
            return Err(ParseKeyError::Secret);
        }
        if text.starts_with(openssh::KIND) || is_another_kind(text) {
            return text.parse().map(Self::Ssh);
        }
        text.parse().map(Self::X25519)
    }
}

/// A secret key of any kind that has a text: `AGE-SECRET-KEY-1…`, `AGE-SECRET-KEY-PQ-1…`, or a private key
/// file of OpenSSH. Wiped on drop, never printed.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub enum AnyIdentity {
    /// An X25519 key of age.
    X25519(X25519Identity),
    /// A post-quantum key of age.
    #[cfg(feature = "hybrid")]
    Hybrid(HybridIdentity),
    /// An Ed25519 key of SSH.
    Ssh(SshIdentity),
}

impl AnyIdentity {
    /// The public half.
    pub fn recipient(&self) -> AnyRecipient {
        match self {
            Self::X25519(identity) => AnyRecipient::X25519(identity.recipient()),
            #[cfg(feature = "hybrid")]
            Self::Hybrid(identity) => AnyRecipient::Hybrid(identity.recipient()),
            Self::Ssh(identity) => AnyRecipient::Ssh(identity.recipient()),
        }
    }
}

impl Identity for AnyIdentity {
    fn unwrap(&self, stanza: &Stanza) -> Result<Option<FileKey>, Error> {
        match self {
            Self::X25519(identity) => identity.unwrap(stanza),
            #[cfg(feature = "hybrid")]
            Self::Hybrid(identity) => identity.unwrap(stanza),
            Self::Ssh(identity) => identity.unwrap(stanza),
        }
    }
}

impl FromStr for AnyIdentity {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        if text.starts_with("AGE-SECRET-KEY-PQ-1") {
            #[cfg(feature = "hybrid")]
            return text.parse().map(Self::Hybrid);
            #[cfg(not(feature = "hybrid"))]
            return Err(WITHOUT_HYBRID);
        }
        if text.starts_with("age1") || text.starts_with(openssh::KIND) || is_another_kind(text) {
            return Err(ParseKeyError::Public);
        }
        if text.starts_with("AGE-PLUGIN-") {
            return Err(ParseKeyError::Unsupported("keys that live in plugins of age are not read"));
        }
        if text.starts_with("-----BEGIN AGE ") || text.starts_with("age-encryption.org/") {
            return Err(ParseKeyError::Unsupported("this list of keys is an age file: decrypt it first"));
        }
        if text.starts_with("-----BEGIN ") {
            return SshIdentity::from_openssh(text, None).map(Self::Ssh);
        }
        text.parse().map(Self::X25519)
    }
}

#[cfg(not(feature = "hybrid"))]
const WITHOUT_HYBRID: ParseKeyError =
    ParseKeyError::Unsupported("this is a post-quantum key, and the feature `hybrid` is off");

/// Reads a list of recipients, as `age -R` does: one in a line, kinds mixed; empty lines and those that start with
/// `#` say nothing.
///
/// At least one, or it is [`KeyListError::Empty`].
pub fn parse_recipients(list: &str) -> Result<Vec<AnyRecipient>, KeyListError> {
    parse_lines(list)
}

/// Reads the identities of a file, as `age -i` does: one in a line, kinds mixed; empty lines and those that start
/// with `#` say nothing. Or the file is a private key of OpenSSH, and nothing else.
///
/// For a private key under a passphrase the answer is [`ParseKeyError::PassphraseNeeded`];
/// [`SshIdentity::from_openssh`] takes it. For an identity file that is itself an age file it is
/// [`ParseKeyError::Unsupported`]: decrypt it first.
///
/// ```
/// use lightstreams_crypto::{Identity, KeyListError, ParseKeyError, parse_identities};
///
/// let file = "# created: 2026-01-01\n\
///     AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX\n";
/// let identities = parse_identities(file)?;
/// let identities: Vec<&dyn Identity> = identities.iter().map(|identity| identity as _).collect();
/// assert_eq!(identities.len(), 1);
///
/// let error = parse_identities(&format!("{file}age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"));
/// assert_eq!(error.unwrap_err(), KeyListError::Line { line: 3, error: ParseKeyError::Public });
/// # Ok::<(), KeyListError>(())
/// ```
pub fn parse_identities(file: &str) -> Result<Vec<AnyIdentity>, KeyListError> {
    if file.starts_with("-----BEGIN ") {
        return match file.parse() {
            Ok(identity) => Ok(vec![identity]),
            Err(error) => Err(KeyListError::Line { line: 1, error }),
        };
    }
    parse_lines(file)
}

fn parse_lines<K: FromStr<Err = ParseKeyError>>(list: &str) -> Result<Vec<K>, KeyListError> {
    let lines = list.lines().zip(1..).filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
    let keys: Vec<K> = lines
        .map(|(text, line)| text.parse().map_err(|error| KeyListError::Line { line, error }))
        .collect::<Result<_, _>>()?;
    match keys.is_empty() {
        false => Ok(keys),
        true => Err(KeyListError::Empty),
    }
}
