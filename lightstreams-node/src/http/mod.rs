//! The private API over the socket, and the listener of JSON-RPC.

pub mod rpc;
pub mod stream;
