//! The `lightstreams` command.

fn main() -> std::process::ExitCode {
    lightstreams_node::cli::main()
}
