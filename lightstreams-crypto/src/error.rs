use std::io;

/// Why an envelope could not be written, or was not opened.
///
/// Each variant says whose fault it is, and none of them carries key material: whoever holds the key may see them as
/// they are. Somebody who opens for strangers what they send, and answers, must not let them try one change after the
/// other: where [`depends_on_key`](Error::depends_on_key) says so, the answer is one and the same for all of them.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The header is sound as far as can be told, but none of the given identities opens it: wrong key or
    /// wrong passphrase.
    #[error("none of the identities opens this header")]
    NoMatchingIdentity,

    /// The bytes are not a canonical age v1 header.
    #[error("malformed age header at byte {offset}: {reason}")]
    MalformedHeader {
        /// Where in the header the fault was found.
        offset: usize,
        /// What was found there.
        reason: &'static str,
    },

    /// The bytes are not strict ASCII armor; see [`ArmorReader`](crate::ArmorReader) for what is.
    #[error("malformed armor at line {line}: {reason}")]
    MalformedArmor {
        /// The line in which the fault was found, from 1.
        line: u64,
        /// What was found there.
        reason: &'static str,
    },

    /// A stanza is of a kind that an identity knows, but breaks the rules of that kind.
    #[error("broken {kind} stanza: {reason}")]
    BrokenStanza {
        /// The kind of stanza.
        kind: &'static str,
        /// Which rule it breaks.
        reason: &'static str,
    },

    /// A passphrase stanza asks for more work than this reader allows.
    #[error("scrypt work factor 2^{log_n} is above the allowed 2^{log_n_max}")]
    ExcessiveWork {
        /// The binary logarithm of the work factor asked for.
        log_n: u8,
        /// The binary logarithm of the work factor allowed.
        log_n_max: u8,
    },

    /// The header was changed after it was written: its MAC does not verify under the file key it carries.
    #[error("the age header does not verify under its own file key")]
    HeaderMac,

    /// The file key is not the one that was committed to, or not for this context.
    #[error("the file key does not match the key commitment")]
    CommitmentMismatch,

    /// A payload chunk does not decrypt: the payload was changed, reordered, or belongs to another key.
    #[error("payload chunk {chunk} does not verify")]
    DamagedPayload {
        /// Index of the chunk.
        chunk: u64,
    },

    /// The payload ends before its last chunk.
    #[error("the payload is truncated at chunk {chunk}")]
    TruncatedPayload {
        /// Index of the chunk that is missing or incomplete.
        chunk: u64,
    },

    /// Bytes follow the last chunk of the payload.
    #[error("data follows the last payload chunk, {chunk}")]
    TrailingData {
        /// Index of the last chunk.
        chunk: u64,
    },

    /// The metadata box does not open with this key and associated data.
    #[error("the metadata does not verify")]
    DamagedMetadata,

    /// There are more bytes than the format allows in this place.
    #[error("{what} has at most {len_max} bytes")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How many bytes it may have.
        len_max: usize,
    },

    /// The caller asked for something that the format cannot express.
    #[error("{0}")]
    Unsupported(&'static str),

    /// Reading or writing failed, which says nothing about the envelope.
    #[error("input or output failed")]
    Io(#[source] io::Error),
}

impl Error {
    /// Whether a key, or which keys there are, had a part in the outcome.
    ///
    /// The other errors follow from the bytes alone, or from the machine: everybody can find them out.
    pub fn depends_on_key(&self) -> bool {
        match self {
            Error::NoMatchingIdentity
            | Error::BrokenStanza { .. }
            | Error::HeaderMac
            | Error::CommitmentMismatch
            | Error::DamagedPayload { .. }
            | Error::TruncatedPayload { .. }
            | Error::TrailingData { .. }
            | Error::DamagedMetadata
            // The armor of a payload is looked at only if the header has opened.
            | Error::MalformedArmor { .. } => true,
            Error::MalformedHeader { .. }
            | Error::ExcessiveWork { .. }
            | Error::TooLarge { .. }
            | Error::Unsupported(_)
            | Error::Io(_) => false,
        }
    }
}

/// Takes an [`Error`] back out of the `io::Error` in which the readers of this crate report it.
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.downcast::<Error>() {
            Ok(inner) => inner,
            Err(error) => Error::Io(error),
        }
    }
}

/// Wraps an [`Error`] for the `std::io` traits; [`Error::from`] takes it out again.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Io(inner) => inner.kind(),
            Error::TruncatedPayload { .. } => io::ErrorKind::UnexpectedEof,
            _ => io::ErrorKind::InvalidData,
        };
        match error {
            Error::Io(inner) => inner,
            error => io::Error::new(kind, error),
        }
    }
}

/// Why a text is not a recipient or an identity.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseKeyError {
    /// Not the one spelling of a key, or its checksum is wrong: most likely mistyped.
    #[error("not a key in its canonical spelling with a valid checksum")]
    Encoding,
    /// Soundly spelled, but another kind of key.
    #[error("this is another kind of key (expected prefix {expected:?})")]
    Kind {
        /// The human readable part that was expected.
        expected: &'static str,
    },
    /// The key does not have the number of bytes of its kind.
    #[error("the key has the wrong length")]
    Length,
    /// A point of low order, with which every secret would be shared by everyone.
    #[error("the key is a point of low order")]
    LowOrder,
    /// The right number of bytes, which no secret key has for its public key.
    #[error("the bytes are not a public key")]
    Invalid,
    /// A secret key where a public one is expected: do not publish it.
    #[error("this is a secret key where a recipient is expected")]
    Secret,
    /// A public key where a secret one is expected.
    #[error("this is a recipient where a secret key is expected")]
    Public,
    /// Not a whole OpenSSH private key.
    #[error("damaged OpenSSH private key: {0}")]
    OpenSsh(&'static str),
    /// The key is protected, and no passphrase was given.
    #[error("the key is protected by a passphrase")]
    PassphraseNeeded,
    /// The passphrase is not that of the key.
    #[error("the passphrase does not open the key")]
    WrongPassphrase,
    /// A key that exists and is not read here; the text says what to do.
    #[error("{0}")]
    Unsupported(&'static str),
}

/// Why a list of recipients or identities was not read. Says where, and repeats nothing of the text.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyListError {
    /// A line holds no key.
    #[error("line {line} holds no key of a known kind")]
    Line {
        /// The line, from 1.
        line: usize,
        /// Why it holds none.
        #[source]
        error: ParseKeyError,
    },
    /// There is no key at all.
    #[error("there is no key in the list")]
    Empty,
}
