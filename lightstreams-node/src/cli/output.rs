//! What a verb prints: text and progress for people, one JSON object for machines.

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use crate::{
    console::warn,
    error::{NodeError, Result},
};

/// Where the words of a verb go.
///
/// Results go to standard output. Questions and progress go to standard error, so that `--output -` and pipes stay clean.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
    yes: bool,
}

impl Output {
    /// Text, or one JSON object with `json`; with `yes` nothing is asked.
    pub(crate) fn new(json: bool, yes: bool) -> Self {
        Self { json, yes }
    }

    /// A line about the work, for people only.
    pub(crate) fn note(&self, line: impl AsRef<str>) {
        if !self.json {
            warn(line.as_ref());
        }
    }

    /// The result: `lines` for people, `value` for machines.
    pub(crate) fn result(&self, lines: &[String], value: &Value) -> Result<()> {
        let mut out = std::io::stdout().lock();
        let written = if self.json {
            writeln!(out, "{value}")
        } else {
            lines.iter().try_for_each(|line| writeln!(out, "{line}"))
        };
        written
            .and_then(|()| out.flush())
            .map_err(|error| NodeError::new("stdout", "cannot write to standard output").because(error))
    }

    /// Asks before something is sent; `Ok` means go on.
    pub(crate) fn confirm(&self, question: &str) -> Result<()> {
        if self.yes {
            return Ok(());
        }
        let refuse = |why: &str| {
            NodeError::usage("not_confirmed", format!("{question}: {why}"))
                .hint("add --yes to send without being asked")
        };
        if self.json || !std::io::stdin().is_terminal() {
            return Err(refuse("nobody is there to ask"));
        }
        let mut err = std::io::stderr().lock();
        let _ = write!(err, "{question} [y/N] ").and_then(|()| err.flush());
        let mut answer = String::new();
        std::io::stdin()
            .read_line(&mut answer)
            .map_err(|error| refuse("no answer could be read").because(error))?;
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(refuse("not confirmed")),
        }
    }

    /// A progress bar over `total` bytes; silent for machines and where standard error is no terminal.
    pub(crate) fn bytes(&self, doing: &'static str, total: u64) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(Some(total), self.target());
        let template = "{prefix:>12} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(doing);
        bar
    }

    /// A progress bar over `total` steps; silent as [`bytes`](Self::bytes) is.
    pub(crate) fn steps(&self, doing: &'static str, total: u64) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(Some(total), self.target());
        if let Ok(style) = ProgressStyle::with_template("{prefix:>13} [{bar:30}] {pos}/{len} {eta}") {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(doing);
        bar
    }

    /// A line that shows that something is waited for.
    pub(crate) fn wait(&self, what: impl Into<String>) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(None, self.target());
        bar.set_message(what.into());
        bar.enable_steady_tick(Duration::from_millis(120));
        bar
    }

    fn target(&self) -> ProgressDrawTarget {
        if self.json { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() }
    }
}
