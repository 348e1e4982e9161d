//! What `lightstreams-crypto` promises, and the primitives that it and the chain stand on.

pub(crate) mod age;
pub(crate) mod ed25519;
pub(crate) mod hpke;
pub(crate) mod keystore;
pub(crate) mod wycheproof;
