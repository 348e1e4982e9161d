//! How a genesis differs from that of a database, field by field, and which differences a chain that exists can bear.

use std::fmt;

use serde_json::Value;

use crate::{Genesis, Kv, KvError, Table, blocks::Blocks, tables};

/// Differences that are told; another network may have thousands.
const DIFFERENCES_MAX: usize = 100;
/// Characters of a value that are shown.
const SHOWN_MAX: usize = 80;

/// A field in which a genesis is not the one that a database was made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Path of the field in the file, as `config.osakaTime` or `alloc.0x..aa.balance`.
    pub field: String,
    /// Its value in the database, as JSON; `null` if it is absent.
    pub stored: String,
    /// The value given.
    pub given: String,
    /// Whether it lies ahead of the head or changes no block: then the database takes the value given.
    pub allowed: bool,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}, but the database was made with {}", self.field, self.given, self.stored)
    }
}

/// The fields in which `given` differs from the genesis that the chain in `kv` was made with, at most a hundred. `None` if no
/// chain is there.
pub fn genesis_differences(kv: &dyn Kv, given: &Genesis) -> Result<Option<Vec<Difference>>, KvError> {
    let Some(record) = kv.get(Table::Meta, tables::GENESIS_FILE)? else { return Ok(None) };
    let damaged = |what| KvError::corrupt(Table::Meta, what);
    let stored = serde_json::from_slice(&record).map_err(|_| damaged("the genesis does not decode"))?;
    let given = serde_json::to_value(given.file()).map_err(|_| damaged("the genesis given is no JSON"))?;
    let head = kv.get(Table::Meta, tables::HEAD)?.unwrap_or_default();
    let head = Blocks(kv).info(tables::decode_ref(Table::Meta, &head)?)?;
    let head = head.ok_or_else(|| KvError::corrupt(Table::Headers, "the head is missing"))?.header;
    let past = Past { number: head.number, time: head.timestamp, stored: &stored, given: &given };
    let mut found = Vec::new();
    past.compare("", Some(&stored), Some(&given), &mut found);
    Ok(Some(found))
}

impl Genesis {
    /// The fields in which `given` differs from this one, at most a hundred; what a chain that has only its genesis could bear is marked
    /// as allowed.
    pub fn differences(&self, given: &Self) -> Vec<Difference> {
        let json = |genesis: &Self| serde_json::to_value(genesis.file()).unwrap_or_default();
        let (stored, given) = (json(self), json(given));
        let past = Past { number: 0, time: self.file().timestamp, stored: &stored, given: &given };
        let mut found = Vec::new();
        past.compare("", Some(&stored), Some(&given), &mut found);
        found
    }
}

/// What has happened already, and the two files.
struct Past<'a> {
    number: u64,
    time: u64,
    stored: &'a Value,
    given: &'a Value,
}

impl Past<'_> {
    fn compare(
        &self,
        path: &str,
        stored: Option<&Value>,
        given: Option<&Value>,
        found: &mut Vec<Difference>,
    ) {
        // What is absent is what an absent field stands for.
        let (stored, given) = (stored.filter(|v| !is_nothing(v)), given.filter(|v| !is_nothing(v)));
        if stored == given || found.len() >= DIFFERENCES_MAX {
            return;
        }
        let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        match (stored, given) {
            (Some(Value::Object(old)), Some(Value::Object(new))) => {
                let new_names = new.keys().filter(|name| !old.contains_key(*name));
                for name in old.keys().chain(new_names) {
                    self.compare(&below(name), old.get(name), new.get(name), found);
                }
            }
            (Some(Value::Array(old)), Some(Value::Array(new))) => {
                for index in 0..old.len().max(new.len()) {
                    self.compare(&format!("{path}[{index}]"), old.get(index), new.get(index), found);
                }
            }
            _ => found.push(Difference {
                field: path.to_owned(),
                stored: shown(stored),
                given: shown(given),
                allowed: self.allows(path),
            }),
        }
    }

    /// Whether a difference in the field at `path` leaves every block up to the head what it is.
    fn allows(&self, path: &str) -> bool {
        let Some(path) = path.strip_prefix("config.") else { return false };
        match path {
            // When empty blocks are sealed is up to the sealer, and that flag is read by no one.
            "lightstreams.emptyBlockMs" | "terminalTotalDifficultyPassed" => return true,
            _ => {}
        }
        if let Some(fork) = path.strip_prefix("blobSchedule.") {
            let fork = fork.split('.').next().unwrap_or_default();
            return self.is_ahead(&format!("{fork}Time"));
        }
        if let Some(engine) = path.strip_prefix("lightstreams.engines[") {
            let index = engine.split(']').next().and_then(|index| index.parse::<usize>().ok());
            return index.is_some_and(|index| {
                [self.stored, self.given].iter().all(|file| {
                    let at = file.pointer(&format!("/config/lightstreams/engines/{index}/at"));
                    at.is_none_or(|at| at.as_u64().is_some_and(|at| at > self.number))
                })
            });
        }
        !path.contains('.') && (path.ends_with("Block") || path.ends_with("Time")) && self.is_ahead(path)
    }

    /// Whether a fork is, in both files, one that has not come yet.
    fn is_ahead(&self, fork: &str) -> bool {
        let reached = if fork.ends_with("Time") { self.time } else { self.number };
        [self.stored, self.given].iter().all(|file| {
            let at = file.pointer(&format!("/config/{fork}")).filter(|at| !at.is_null());
            at.is_none_or(|at| at.as_u64().is_some_and(|at| at > reached))
        })
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text == "0x0" || text == "0x",
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

fn shown(value: Option<&Value>) -> String {
    let text = value.unwrap_or(&Value::Null).to_string();
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}.. ({} characters)", text.get(..end).unwrap_or_default(), text.len()),
        None => text,
    }
}
