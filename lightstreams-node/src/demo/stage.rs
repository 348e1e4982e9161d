//! The players of the demo: node processes on loopback, driven by the public verbs in a shell each.

use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    demo::promise,
    error::{NodeError, Result, io_error},
};

/// How long a node may take until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two looks at what is waited for.
const POLL: Duration = Duration::from_millis(20);

/// `lightstreams shell`, which unlocks the player's keys once.
#[derive(Debug)]
struct Shell {
    process: Child,
    lines: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// A data directory with the accounts in it, the shell of its owner, and the process that runs on it.
#[derive(Debug)]
pub(super) struct Player {
    pub(super) name: &'static str,
    pub(super) data: PathBuf,
    /// The account that its verbs sign with.
    pub(super) account: String,
    /// Its public age recipient.
    pub(super) recipient: String,
    exe: PathBuf,
    password: PathBuf,
    shell: Mutex<Shell>,
    node: Option<Child>,
    /// The most memory that any of its processes held, in KiB.
    peak_kib: u64,
}

/// What a verb ended with, if it was refused.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) exit: u64,
    pub(super) code: String,
    pub(super) message: String,
}

impl Shell {
    fn start(exe: &Path, data: &Path, password: &Path) -> Result<Self> {
        let mut process = Command::new(exe)
            .arg("--data")
            .arg(data)
            .arg("--password-file")
            .arg(password)
            .args(["--json", "--yes", "shell"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| io_error("start", exe, error))?;
        match (process.stdin.take(), process.stdout.take()) {
            (Some(lines), Some(answers)) => Ok(Self { process, lines, answers: BufReader::new(answers) }),
            _ => Err(NodeError::new("demo_shell", "a shell has no pipes")),
        }
    }

    /// Runs one verb; gives the one line it answers.
    fn ask(&mut self, words: &[&str]) -> Result<Value> {
        let broken = |error| NodeError::new("demo_shell", "a shell went away").because(error);
        let line = shlex::try_join(words.iter().copied())
            .map_err(|error| NodeError::new("demo_shell", "a word cannot be quoted").because(error))?;
        writeln!(self.lines, "{line}").and_then(|()| self.lines.flush()).map_err(broken)?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer).map_err(broken)?;
        serde_json::from_str(&answer)
            .map_err(|error| NodeError::new("demo_shell", format!("{line}: no answer")).because(error))
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // A shell that ended by itself is what is wanted here.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Player {
    /// Makes the data directory and one account in it.
    pub(super) fn new(name: &'static str, stage: &Path, exe: &Path, password: &Path) -> Result<Self> {
        let data = stage.join(name);
        let mut player = Self {
            name,
            account: String::new(),
            recipient: String::new(),
            exe: exe.to_owned(),
            password: password.to_owned(),
            shell: Mutex::new(Shell::start(exe, &data, password)?),
            data,
            node: None,
            peak_kib: 0,
        };
        let made = player.does(&["account", "new"])?;
        player.account = text(&made, "address")?;
        player.recipient = text(&made, "recipient")?;
        Ok(player)
    }

    /// Runs a verb that must succeed, and gives its JSON.
    pub(super) fn does(&self, arguments: &[&str]) -> Result<Value> {
        self.tries(arguments)?.map_err(|refusal| {
            NodeError::new(
                "demo_verb",
                format!("{}: {} failed: {}", self.name, arguments.join(" "), refusal.message),
            )
        })
    }

    /// Runs a verb that may be refused.
    pub(super) fn tries(&self, arguments: &[&str]) -> Result<Result<Value, Refusal>> {
        let answer = self.shell.lock().unwrap_or_else(PoisonError::into_inner).ask(arguments)?;
        if answer.get("error").is_none() {
            return Ok(Ok(answer));
        }
        let field = |name: &str| {
            answer.pointer(&format!("/error/{name}")).and_then(Value::as_str).unwrap_or_default()
        };
        let exit = number(&answer, "error/exit")?;
        Ok(Err(Refusal { exit, code: field("code").to_owned(), message: field("message").to_owned() }))
    }

    /// Runs a verb that must be refused with `exit` and `code`.
    pub(super) fn is_refused(&self, arguments: &[&str], exit: u64, code: &str) -> Result<Refusal> {
        match self.tries(arguments)? {
            Ok(answer) => Err(promise(format!(
                "{}: {} was to be refused, and answered {answer}",
                self.name,
                arguments.join(" ")
            ))),
            Err(refusal) if refusal.exit == exit && refusal.code == code => Ok(refusal),
            Err(refusal) => Err(promise(format!(
                "{}: {} was to be refused as {code} ({exit}), and ended with {} ({}): {}",
                self.name,
                arguments.join(" "),
                refusal.code,
                refusal.exit,
                refusal.message
            ))),
        }
    }

    /// Starts `lightstreams run` and waits until it answers; gives its status.
    pub(super) fn starts(&mut self) -> Result<Value> {
        let path = self.data.join("node.log");
        let log = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(|error| io_error("write", &path, error))?;
        let errors = log.try_clone().map_err(|error| io_error("write", &path, error))?;
        let node = Command::new(&self.exe)
            .arg("--data")
            .arg(&self.data)
            .arg("--password-file")
            .arg(&self.password)
            .arg("run")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(|error| io_error("start", &self.exe, error))?;
        let node = self.node.insert(node);
        let since = Instant::now();
        loop {
            if let Ok(Some(status)) = node.try_wait() {
                let log = std::fs::read_to_string(&path).unwrap_or_default();
                let last = log.lines().rev().take(3).collect::<Vec<_>>().join(" | ");
                return Err(NodeError::new(
                    "demo_node",
                    format!("the {}'s node ended with {status}: {last}", self.name),
                ));
            }
            // A socket left by a killed process is no answer: status must come back.
            if self.data.join("lightstreams.sock").exists() {
                break;
            }
            if since.elapsed() > START_TIMEOUT {
                return Err(NodeError::new("demo_node", format!("the {}'s node does not start", self.name)));
            }
            std::thread::sleep(POLL);
        }
        let status = self.waits("answer", |status| status.get("peer_id").is_some())?;
        // What the key derivation at the start took is told apart: from here on the peak is the node's own.
        if let Some(node) = &self.node {
            let _ = std::fs::write(format!("/proc/{}/clear_refs", node.id()), "5");
        }
        Ok(status)
    }

    /// Waits until the node's status satisfies `until`.
    pub(super) fn waits(&self, what: &str, until: impl Fn(&Value) -> bool) -> Result<Value> {
        let since = Instant::now();
        loop {
            if let Ok(status) = self.tries(&["status"])?
                && until(&status)
            {
                return Ok(status);
            }
            if since.elapsed() > START_TIMEOUT {
                return Err(promise(format!("the {}'s node does not {what} within a minute", self.name)));
            }
            std::thread::sleep(POLL);
        }
    }

    /// Ends the node as a crash would: no signal that it could handle.
    pub(super) fn is_killed(&mut self) -> Result<()> {
        self.measures();
        if let Some(mut node) = self.node.take() {
            node.kill()
                .and_then(|()| node.wait())
                .map_err(|error| NodeError::new("demo_node", "cannot end a node").because(error))?;
        }
        Ok(())
    }

    /// The most memory that the node's processes held so far, in MiB.
    pub(super) fn peak_mib(&mut self) -> u64 {
        self.measures();
        self.peak_kib / 1024
    }

    fn measures(&mut self) {
        let Some(node) = &self.node else { return };
        let status = std::fs::read_to_string(format!("/proc/{}/status", node.id())).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|kib| kib.parse().ok())
            .unwrap_or(0);
        self.peak_kib = self.peak_kib.max(kib);
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        if let Some(mut node) = self.node.take() {
            // A node that ended by itself is what is wanted here.
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

/// A text field of a verb's answer.
pub(super) fn text(answer: &Value, field: &str) -> Result<String> {
    answer
        .pointer(&format!("/{field}"))
        .and_then(Value::as_str)
        .map(str::to_owned)
        .ok_or_else(|| NodeError::new("demo_verb", format!("an answer lacks {field}: {answer}")))
}

/// A number field of a verb's answer.
pub(super) fn number(answer: &Value, field: &str) -> Result<u64> {
    answer
        .pointer(&format!("/{field}"))
        .and_then(Value::as_u64)
        .ok_or_else(|| NodeError::new("demo_verb", format!("an answer lacks {field}: {answer}")))
}
