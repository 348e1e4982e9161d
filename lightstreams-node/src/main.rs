//! The `lightstreams` command.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// Blocks of 256 KiB are made by one thread and freed by another: glibc's allocator either fragments on that, or maps and
/// unmaps each of them. This one reuses them, and gives the 256 MiB of a key derivation back at once.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    lightstreams_node::cli::main()
}
