//! Writing a new network, or joining one.
