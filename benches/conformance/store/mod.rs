//! What `lightstreams-store` promises.

pub(crate) mod codecs;
pub(crate) mod multiformats;
