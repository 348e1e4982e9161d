//! Manifests, key release, receipts, kept headers and the content index of the block gate.
//!
//! The only part of the house in which a file, its key, its blocks and its permissions are seen together. It has no
//! socket, clock or chain of its own: they come as arguments and ports.

mod audit;
#[cfg(test)]
mod hostile;
mod index;
mod kept;
#[cfg(test)]
pub(crate) mod made_up;
mod manifest;
pub mod merkle;
mod messages;
mod receipts;
mod records;
mod release;
pub mod signature;
mod wire;

pub use audit::{AuditAction, AuditEvent, AuditLine, AuditProblem, AuditTrail, Evidence, GrantSource, audit};
pub use index::{Belonging, ContentIndex, Gate, IndexError, IndexedContent, Origin};
pub use kept::{Kept, KeptError, KeptHeaders};
pub use manifest::{Card, Manifest, ManifestError, Metadata, MetadataError, Place, VersionInfo};
pub use messages::{
    CLOCK_SKEW_SECONDS, DELEGATION_MAX, DELEGATION_SECONDS_MAX, Domain, KeyRequest, Message, PeerDelegation,
    REQUEST_MAX, ReleaseRequest, Signed,
};
pub use receipts::{LoggedRelease, ReleaseLog, ReleaseLogError, leaf_of, read_log};
pub use records::{
    ANSWER_MAX, Answer, AuthAnswer, BlockPoint, CustodianRecord, Finality, Receipt, RecordError, Refusal,
    RefusalCode, Release, SEEDERS_MAX, SignedRefusal,
};
pub use release::{
    Admission, Answered, ChainHead, ChainView, ContentState, Custodian, Fault, PATH_MAX, REQUEST_SECONDS_MAX,
    ReleaseEngine, Tip, code_of,
};
pub use wire::WireError;
