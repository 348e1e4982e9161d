//! The private API and the RPC listener.
