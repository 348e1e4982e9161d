//! The node's identity and the passwords that unlock it.
