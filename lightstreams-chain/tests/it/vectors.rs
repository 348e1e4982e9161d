//! Chains and blocks that others made.
