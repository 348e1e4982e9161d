//! The `lightstreams` command.

fn main() {}
