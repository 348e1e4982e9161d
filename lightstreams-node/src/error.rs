//! The error a person or a script sees: what failed, how to name it, what to do next.

use std::borrow::Cow;
use std::fmt;

/// What a process exits with, and which kind of failure an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Something failed that none of the other kinds describes.
    Failure = 1,
    /// The command line or a configuration file is wrong.
    Usage = 2,
    /// The chain's permissions refuse it.
    Refused = 3,
    /// The thing named does not exist here.
    NotFound = 4,
    /// No node answers.
    Unreachable = 5,
    /// Another node failed to answer or answered wrongly.
    Peer = 6,
    /// The account cannot pay, or the price is not the expected one.
    Funds = 7,
}

impl Exit {
    /// The kind with this number; [`Exit::Failure`] for a number that none has.
    pub fn from_number(number: u8) -> Self {
        match number {
            2 => Self::Usage,
            3 => Self::Refused,
            4 => Self::NotFound,
            5 => Self::Unreachable,
            6 => Self::Peer,
            7 => Self::Funds,
            _ => Self::Failure,
        }
    }
}

/// A failure of the node or of a verb, fit to be shown.
///
/// `code` is stable and meant for machines (`data_dir_locked`), `message` says in one line what failed, `hint` what to do
/// about it. On the private API it travels as `{"error": {"code", "message", "hint", "exit"}}`.
pub struct NodeError {
    code: Cow<'static, str>,
    message: String,
    hint: Option<String>,
    exit: Exit,
    source: Option<Box<dyn std::error::Error + Send + Sync + 'static>>,
}

/// What most functions of this crate return.
pub type Result<T, E = NodeError> = std::result::Result<T, E>;

impl NodeError {
    /// An error of the kind [`Exit::Failure`].
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), hint: None, exit: Exit::Failure, source: None }
    }

    /// Something the caller wrote is wrong.
    pub fn usage(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(code, message).exit(Exit::Usage)
    }

    /// The thing named does not exist here.
    pub fn not_found(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(code, message).exit(Exit::NotFound)
    }

    /// The same error with an advice of one line.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same error, of another kind.
    #[must_use]
    pub fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// The same error with the failure below it, which `Display` appends after a colon.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync + 'static>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The stable name of this error.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// What failed, in one line, with the failures below it.
    pub fn message(&self) -> String {
        let mut line = self.message.clone();
        let mut below: Option<&(dyn std::error::Error + 'static)> =
            self.source.as_deref().map(|e| e as &(dyn std::error::Error + 'static));
        // A chain of errors is a handful long; the bound only guards against one that names itself.
        for _ in 0..8 {
            let Some(error) = below else { break };
            let text = error.to_string();
            if !line.ends_with(&text) {
                line.push_str(": ");
                line.push_str(&text);
            }
            below = error.source();
        }
        line.replace('\n', " ")
    }

    /// What to do about it, in one line.
    pub fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Which kind of failure this is.
    pub fn exit_code(&self) -> Exit {
        self.exit
    }

    /// The private API's form: `{"error": {"code", "message", "hint", "exit"}}`.
    pub fn to_json(&self) -> serde_json::Value {
        let (message, exit) = (self.message(), self.exit as u8);
        serde_json::json!({ "error": { "code": self.code, "message": message, "hint": self.hint, "exit": exit } })
    }
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message())?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self, self.code)
    }
}

impl std::error::Error for NodeError {}

/// A failed operation on a file or directory, with the advice that fits its cause.
pub fn io_error(doing: &str, path: &std::path::Path, error: std::io::Error) -> NodeError {
    use std::io::ErrorKind as K;
    let (code, hint) = match error.kind() {
        K::StorageFull | K::QuotaExceeded => {
            ("disk_full", Some("free some space on this disk, then start again"))
        }
        K::PermissionDenied => ("permission_denied", Some("check who owns the path and its mode")),
        K::ReadOnlyFilesystem => ("read_only", Some("choose a directory on a writable file system")),
        K::NotFound => ("missing_file", None),
        _ => ("io", None),
    };
    let text = NodeError::new(code, format!("cannot {doing} {}", path.display())).because(error);
    match hint {
        Some(hint) => text.hint(hint),
        None => text,
    }
}
