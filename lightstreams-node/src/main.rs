//! The `lightstreams` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(target_env = "gnu")]
    give_blocks_back();
    lightstreams_node::cli::main()
}

/// Starts this process anew with glibc told to give freed blocks back to the system.
///
/// By default glibc raises the size from which it maps memory as soon as a large piece is freed; blocks of 256 KiB
/// then come from its arenas, which many threads fragment to hundreds of megabytes. The size can be fixed only by the
/// environment, before the process starts; the process id stays the same.
#[cfg(target_env = "gnu")]
fn give_blocks_back() {
    use std::os::unix::process::CommandExt;
    const SIZE: &str = "MALLOC_MMAP_THRESHOLD_";
    if std::env::var_os(SIZE).is_some() {
        return;
    }
    let Ok(this) = std::env::current_exe() else { return };
    let mut arguments = std::env::args_os();
    let name = arguments.next();
    let mut again = std::process::Command::new(this);
    if let Some(name) = name {
        again.arg0(name);
    }
    // Returns only if the process could not be started anew; then this one goes on as it is.
    let _ = again.args(arguments).env(SIZE, "65536").env("MALLOC_TRIM_THRESHOLD_", "131072").exec();
}
