//! The `lightstreams` command.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// What one thread makes and another frees, blocks above all, fragments the heap of glibc's allocator. This one stays smaller, and
/// gives the 256 MiB of a key derivation back at once.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    lightstreams_node::cli::main()
}
