//! Lines for whoever started the process. A stream that is closed is no reason to stop, nor to panic as `println` does.

use std::{fmt::Display, io::Write};

/// Prints a line to standard output.
pub(crate) fn say(line: impl Display) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Prints a line to standard error.
pub(crate) fn warn(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
