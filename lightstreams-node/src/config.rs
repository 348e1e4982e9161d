//! The node's configuration.
