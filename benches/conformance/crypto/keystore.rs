//! Keystore files of other programs.

use std::path::Path;

use lightstreams_crypto::keystore::{KeystoreError, decrypt};
use serde_json::{Value, json};

use crate::report::{Outcome, Report, Stop, bytes, ensure, failed, text};

pub(crate) fn run(root: &Path, report: &mut Report) {
    for folder in ["ethereum-tests/keystore", "go-ethereum/keystore"] {
        for path in report.files(root, folder, ".json") {
            for (name, case) in report.json(&path).as_object().into_iter().flatten() {
                report.case(format_args!("{folder} {name}"), || check(case));
            }
        }
    }
}

/// The file opens to the secret with its password, and to nothing with another.
fn check(case: &Value) -> Outcome {
    let (file, password) = (case["json"].to_string(), text(case, "password")?);
    let outcome = decrypt(file.as_bytes(), password.as_bytes());
    if case["json"]["version"] != json!(3) {
        let refused = matches!(outcome, Err(KeystoreError::Malformed(_) | KeystoreError::Field { .. }));
        ensure(refused, "a version that is not read was not refused")?;
        return Err(Stop::Skipped("only version 3 is read; the file was refused"));
    }
    match outcome {
        Ok(opened) => ensure(opened.secret() == bytes(case, "priv")?, "another secret")?,
        Err(error) => return failed(error),
    }
    let wrong = decrypt(file.as_bytes(), format!("{password}!").as_bytes());
    ensure(matches!(wrong, Err(KeystoreError::Mac)), "opened with a wrong password")
}
