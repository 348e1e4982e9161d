//! `shell`: verbs from standard input, one a line, in one process that unlocks each key once.
//!
//! ```text
//! line -> words (quoted as in sh) -> args::Cli -> the verb, with this shell's keyring -> result or error, and on
//! ```

use std::{
    ffi::OsString,
    io::{self, BufRead, IsTerminal, Read, Write},
    sync::Arc,
};

use clap::{CommandFactory, FromArgMatches, parser::ValueSource};

use super::{
    args::{Cli, Common, Verb},
    keyring::Keyring,
    report_error,
    session::Session,
};
use crate::{
    console::say,
    error::{Exit, NodeError, Result},
};

/// The longest line.
const LINE_MAX: u64 = 64 * 1024;

/// Runs the verbs of standard input until its end, and gives how the last one failed, if it did: sh ends so, too.
pub(super) fn run(session: &Session) -> Result<Option<Exit>> {
    let keyring = session.keyring();
    let people = io::stdin().is_terminal();
    let mut last = None;
    while let Some(line) = line(people)? {
        let done = verb(&line, session.common(), &keyring);
        last = done.as_ref().err().map(NodeError::exit_code);
        if let Err(error) = done {
            report_error(&error, session.common().json);
        }
    }
    Ok(last)
}

/// The next line, or nothing at the end.
fn line(people: bool) -> Result<Option<String>> {
    if people {
        let mut err = io::stderr();
        // Without a terminal to write to, the words are still taken.
        let _ = write!(err, "lightstreams> ").and_then(|()| err.flush());
    }
    let wrong = |error| NodeError::new("stdin", "cannot read standard input").because(error);
    let mut line = String::new();
    // The lock is given back before the verb runs, which may ask a question.
    let read = io::stdin().lock().take(LINE_MAX).read_line(&mut line).map_err(wrong)?;
    if read as u64 == LINE_MAX && !line.ends_with('\n') {
        return Err(NodeError::usage("long_line", format!("a line has at most {LINE_MAX} bytes")));
    }
    Ok((read > 0).then_some(line))
}

/// Runs one line; an empty line or a comment does nothing.
fn verb(line: &str, shell: &Common, keyring: &Arc<Keyring>) -> Result<()> {
    let words = shlex::split(line)
        .ok_or_else(|| NodeError::usage("bad_line", "the quotes of this line are not closed"))?;
    if words.is_empty() {
        return Ok(());
    }
    match read(words, shell)? {
        Some(cli) => super::run_with(cli, Arc::clone(keyring)),
        None => Ok(()),
    }
}

/// The command line that the words make in this shell; nothing where they ask for help, which is then printed.
fn read(words: Vec<String>, shell: &Common) -> Result<Option<Cli>> {
    let words = std::iter::once("lightstreams".to_owned()).chain(words).map(OsString::from);
    let bad = |error: clap::Error| NodeError::usage("bad_line", error.to_string().trim().to_owned());
    let matches = match Cli::command().try_get_matches_from(words) {
        Ok(matches) => matches,
        Err(help) if !help.use_stderr() => {
            say(help);
            return Ok(None);
        }
        Err(error) => return Err(bad(error)),
    };
    for of_shell in ["data", "password_file"] {
        if matches.value_source(of_shell) == Some(ValueSource::CommandLine) {
            let name = of_shell.replace('_', "-");
            return Err(NodeError::usage(
                "bad_line",
                format!("--{name} is given to the shell, not to a verb in it"),
            ));
        }
    }
    let mut cli = Cli::from_arg_matches(&matches).map_err(bad)?;
    if let Verb::Shell | Verb::Run | Verb::Demo(_) | Verb::Dev(_) = &cli.verb {
        let what = matches.subcommand_name().unwrap_or_default();
        return Err(NodeError::usage(
            "bad_line",
            format!("{what} does not run in a shell; start it by itself"),
        ));
    }
    let line = cli.common;
    let names_node = line.node.is_some() || line.socket.is_some();
    cli.common = Common {
        data: shell.data.clone(),
        password_file: shell.password_file.clone(),
        node: if names_node { line.node } else { shell.node.clone() },
        socket: if names_node { line.socket } else { shell.socket.clone() },
        account: line.account.or(shell.account),
        json: line.json || shell.json,
        yes: line.yes || shell.yes,
    };
    Ok(Some(cli))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell() -> Common {
        Common {
            data: Some("/data".into()),
            node: Some("http://127.0.0.1:1".into()),
            socket: None,
            account: None,
            password_file: Some("/password".into()),
            json: false,
            yes: true,
        }
    }

    fn reads(line: &str) -> Result<Option<Cli>> {
        read(shlex::split(line).unwrap(), &shell())
    }

    #[test]
    fn a_line_inherits_what_the_shell_was_told_and_may_name_another_node_or_account() {
        let plain = reads("status").unwrap().unwrap().common;
        assert_eq!(plain.data, Some("/data".into()));
        assert_eq!(plain.password_file, Some("/password".into()));
        assert_eq!(plain.node.as_deref(), Some("http://127.0.0.1:1"));
        assert!(plain.yes && !plain.json);

        let account = "0x00000000000000000000000000000000000000a1";
        let named =
            reads(&format!("--socket '/with space' --account {account} --json ls")).unwrap().unwrap().common;
        assert_eq!((named.node, named.socket), (None, Some("/with space".into())));
        assert_eq!(named.account, Some(account.parse().unwrap()));
        assert!(named.json);
    }

    #[test]
    fn what_a_shell_cannot_run_is_refused_with_the_reason() {
        for (line, why) in [
            ("run", "run does not run in a shell"),
            ("demo file", "demo does not run in a shell"),
            ("shell", "shell does not run in a shell"),
            ("--data /other status", "--data is given to the shell"),
            ("status --password-file /other", "--password-file is given to the shell"),
            ("sell", "unrecognized subcommand"),
        ] {
            let error = reads(line).unwrap_err();
            assert_eq!(error.code(), "bad_line", "{line}");
            assert!(error.message().contains(why), "{line}: {}", error.message());
        }
        let keyring = Arc::default();
        assert_eq!(verb("get 'half", &shell(), &keyring).unwrap_err().code(), "bad_line");
        verb("  # a comment", &shell(), &keyring).unwrap();
        verb("", &shell(), &keyring).unwrap();
    }
}
