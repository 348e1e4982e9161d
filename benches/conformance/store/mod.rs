//! What `lightstreams-store` promises.

/// Why cases of long identity CIDs are skipped.
const LONG_IDENTITY: &str = "the type of CIDs holds identity digests of 64 bytes, not of 128";

pub(crate) mod car;
pub(crate) mod codecs;
mod input;
pub(crate) mod ipns;
pub(crate) mod kubo_gateway;
pub(crate) mod kubo_import;
pub(crate) mod multiformats;
pub(crate) mod unixfs_import;
pub(crate) mod unixfs_spec;
