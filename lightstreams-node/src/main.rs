//! The `lightstreams` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(target_env = "gnu")]
    keep_few_arenas();
    lightstreams_node::cli::main()
}

/// Starts this process anew with glibc told to keep few arenas.
///
/// By default each thread may get an arena of its own, and blocks of 256 KiB that many threads free fragment them to
/// hundreds of megabytes. Two arenas, and a size from which memory is mapped that does not creep, bound that. Both can
/// be fixed only by the environment, before the process starts; the process id stays the same.
#[cfg(target_env = "gnu")]
fn keep_few_arenas() {
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
    let _ = again.args(arguments).env(SIZE, "33554432").env("MALLOC_ARENA_MAX", "2").exec();
}
