//! `lightstreams shell`: many verbs, one unlocking.

use crate::support::Home;
use serde_json::Value;
use std::io::Write;
use std::process::Stdio;

/// Feeds `lines` to a shell; gives its exit code and one JSON value a verb.
fn shell(home: &Home, lines: &str) -> (i32, Vec<Value>) {
    let mut shell =
        home.verb(&["--json", "shell"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    shell.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = shell.wait_with_output().unwrap();
    let answers = String::from_utf8(output.stdout).unwrap();
    (output.status.code().unwrap(), answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[test]
fn verbs_run_in_order_a_failure_is_answered_and_the_last_one_decides_the_exit_code() {
    let home = Home::new();
    let lines = "account new\n\n# a comment\nsell it\naccount new\nstatus\naccount list\n";
    let (code, answers) = shell(&home, lines);
    assert_eq!(code, 0);
    let [first, wrong, second, unreachable, list] = answers.as_slice() else { panic!("{answers:#?}") };
    assert_eq!(wrong["error"]["code"], "bad_line");
    assert_eq!(unreachable["error"]["exit"], 5, "no node runs: {unreachable}");
    assert_eq!(first["recipient"], second["recipient"], "one identity for both accounts");
    let mut made = [first["address"].as_str().unwrap(), second["address"].as_str().unwrap()];
    made.sort_by_key(|address| address.to_lowercase());
    let listed: Vec<_> =
        list["accounts"].as_array().unwrap().iter().map(|row| row["address"].as_str().unwrap()).collect();
    assert_eq!(listed, made);

    let (code, answers) = shell(&home, "account list\nstatus");
    assert_eq!((code, answers.len()), (5, 2), "the last verb failed: {answers:#?}");
}
