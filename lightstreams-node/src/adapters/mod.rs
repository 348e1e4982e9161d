//! The seams of the libraries, filled by this node.

mod chain_view;
mod clock;
mod contract_backend;
mod serve_policy;

pub use chain_view::{NodeView, ViewError};
pub use clock::{now_ms, now_s, rng};
pub use contract_backend::ChainBackend;
pub use serve_policy::{Clock, PermissionGate};
