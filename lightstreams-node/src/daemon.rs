//! A running node.
