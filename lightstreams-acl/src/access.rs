//! The question that everything else asks: may this account read this content?

use std::fmt;

use alloy_primitives::Address;

use crate::{AclError, BlockRef, ContentId};

/// What an account may do with a content; each level includes those below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Permission {
    /// Nothing.
    #[default]
    None = 0,
    /// Get the key of a version and its blocks.
    Read = 1,
    /// Publish versions.
    Write = 2,
    /// Grant and revoke, choose custodians, make the content public.
    Admin = 3,
}

impl Permission {
    /// The level that a contract calls `level`, if there is one.
    pub fn from_level(level: u8) -> Option<Self> {
        match level {
            0 => Some(Self::None),
            1 => Some(Self::Read),
            2 => Some(Self::Write),
            3 => Some(Self::Admin),
            _ => None,
        }
    }

    /// The number that contracts use.
    pub fn level(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        })
    }
}

/// Where and when a question is asked.
///
/// A plain [`BlockRef`] turns into "the head version, at that block's own time". A custodian is stricter: a term must have begun by
/// the time of the final block and must not have ended by its own clock, see [`At::clock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// The state that is asked.
    pub block: BlockRef,
    /// The epoch of the version to be read; `None`: the head version's.
    pub epoch: Option<u32>,
    /// The time by which a term must have begun; `None`: the block's.
    pub starts: Option<u64>,
    /// The time by which a term must not have ended; `None`: the block's.
    pub ends: Option<u64>,
}

impl At {
    /// The head version, at `block` and its time.
    pub fn block(block: BlockRef) -> Self {
        Self { block, epoch: None, starts: None, ends: None }
    }

    /// Asks for a version of this epoch.
    pub fn epoch(self, epoch: u32) -> Self {
        Self { epoch: Some(epoch), ..self }
    }

    /// Terms must have begun at `starts` and not have ended at `ends` (unix seconds, neither may be 0).
    pub fn clock(self, starts: u64, ends: u64) -> Self {
        Self { starts: Some(starts), ends: Some(ends), ..self }
    }
}

impl From<BlockRef> for At {
    fn from(block: BlockRef) -> Self {
        Self::block(block)
    }
}

/// The answer: a denial is an answer too, and only "could not find out" is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The account may read.
    Allow {
        /// The first unix second at which this holds no longer by itself; `None`: no end. An answer that comes from a gate or
        /// a collection ends in the second after the one that was asked for.
        until: Option<u64>,
    },
    /// The account may not read, and this is why.
    Deny(Denial),
}

impl Decision {
    /// Whether the account may read.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow { .. })
    }
}

/// Why an account may not read. Among several rows the one that says most decides, in the order of the variants from the last.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Denial {
    /// No content with this id was registered.
    #[error("there is no such content")]
    UnknownContent,
    /// Nobody gave this account permission.
    #[error("no permission was granted")]
    NotGranted,
    /// A permission was taken back, renounced, cut, or died in a transfer.
    #[error("the permission was revoked")]
    Revoked,
    /// A permission ran out.
    #[error("the permission expired at {at}")]
    Expired {
        /// Unix seconds.
        at: u64,
    },
    /// A permission counts for later versions only.
    #[error("the permission counts from epoch {from} on")]
    OtherEpoch {
        /// The first epoch that it covers.
        from: u32,
    },
    /// A permission has not begun.
    #[error("the permission begins at {at}")]
    NotYetValid {
        /// Unix seconds.
        at: u64,
    },
}

impl Denial {
    /// The code of a custodian's refusal record.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownContent => "unknown_content",
            Self::NotGranted | Self::OtherEpoch { .. } => "not_granted",
            Self::Revoked => "revoked",
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not_yet_valid",
        }
    }
}

/// Answers whether an account may read a content.
///
/// Deny by default: an implementation that cannot find out returns an error, and callers treat an error as a denial.
pub trait AccessControl: Send + Sync {
    /// May `account` read `content` at the block, epoch and times that `at` names?
    fn decide(&self, content: ContentId, account: Address, at: At) -> Result<Decision, AclError>;
}

const _: Option<&dyn AccessControl> = None;
