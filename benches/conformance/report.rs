use std::{
    any::Any,
    collections::BTreeMap,
    fmt::{self, Display},
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
};

use serde_json::Value;

/// Runs a suite over the folder of the vectors.
pub(crate) type Run = fn(&Path, &mut Report);

/// Cases that may fail: suite, name (`*` at its end for whatever follows), reason.
pub(crate) type Excuse = (&'static str, &'static str, &'static str);

/// The end of a case that did not pass.
pub(crate) enum Stop {
    Failed(String),
    /// The case asks for something that we do not have, for the reason given.
    Skipped(&'static str),
}

/// How a case ended.
pub(crate) type Outcome = Result<(), Stop>;

/// Refuses a case unless `holds`.
pub(crate) fn ensure(holds: bool, why: impl Display) -> Outcome {
    if holds { Ok(()) } else { failed(why) }
}

/// The case behaves otherwise than it says.
pub(crate) fn failed<T>(why: impl Display) -> Result<T, Stop> {
    Err(Stop::Failed(why.to_string()))
}

/// Counts the cases of one suite. What did not pass is told on standard error.
pub(crate) struct Report {
    suite: &'static str,
    may_fail: &'static [Excuse],
    passed: usize,
    failed: usize,
    excused: usize,
    skipped: BTreeMap<&'static str, usize>,
    /// Cases of a large suite that were not chosen to run.
    left_out: usize,
}

/// Chooses cases of the large suites: all, or with the value `tenth` a fixed tenth of them.
const CHOICE: &str = "LIGHTSTREAMS_CONFORMANCE";

impl Report {
    fn new(suite: &'static str, may_fail: &'static [Excuse]) -> Self {
        Self { suite, may_fail, passed: 0, failed: 0, excused: 0, skipped: BTreeMap::new(), left_out: 0 }
    }

    /// Runs a suite.
    pub(crate) fn of(suite: &'static str, may_fail: &'static [Excuse], root: &Path, run: Run) -> Self {
        let mut report = Self::new(suite, may_fail);
        run(root, &mut report);
        for (reason, count) in &report.skipped {
            eprintln!("{suite}: skipped {count}: {reason}");
        }
        if report.left_out > 0 {
            eprintln!("{suite}: {CHOICE}=tenth left out {} cases", report.left_out);
        }
        report
    }

    /// Whether a case of a large suite is to be run. The choice depends on its name alone.
    pub(crate) fn chooses(&mut self, name: &str) -> bool {
        // FNV-1a: the same everywhere and for ever.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let chosen = hash % 10 == 0 || std::env::var_os(CHOICE).is_none_or(|choice| choice != "tenth");
        self.left_out += usize::from(!chosen);
        chosen
    }

    /// Runs `work` on each item, on all cores.
    pub(crate) fn on_all_cores<T>(
        &mut self,
        items: impl Iterator<Item = T> + Send,
        work: impl Fn(T, &mut Report) + Sync,
    ) {
        let items = Mutex::new(items);
        let next = || items.lock().unwrap_or_else(PoisonError::into_inner).next();
        let (suite, may_fail) = (self.suite, self.may_fail);
        let worker = || {
            let mut report = Self::new(suite, may_fail);
            while let Some(item) = next() {
                work(item, &mut report);
            }
            report
        };
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let reports: Vec<Self> = thread::scope(|scope| {
            let workers: Vec<_> = (0..cores).map(|_| scope.spawn(worker)).collect();
            workers.into_iter().filter_map(|worker| worker.join().ok()).collect()
        });
        assert_eq!(reports.len(), cores, "a worker of {suite} stopped outside a case");
        for report in reports {
            self.passed += report.passed;
            self.failed += report.failed;
            self.excused += report.excused;
            self.left_out += report.left_out;
            for (reason, count) in report.skipped {
                *self.skipped.entry(reason).or_default() += count;
            }
        }
    }

    /// Runs one case.
    pub(crate) fn case(&mut self, name: impl Display, run: impl FnOnce() -> Outcome) {
        let outcome = catch_unwind(AssertUnwindSafe(run));
        match outcome.unwrap_or_else(|panic| failed(format!("panicked: {}", message(&*panic)))) {
            Ok(()) => self.passed += 1,
            Err(Stop::Skipped(reason)) => *self.skipped.entry(reason).or_default() += 1,
            Err(Stop::Failed(why)) => {
                let name = name.to_string();
                self.failed += 1;
                let excuse = self
                    .may_fail
                    .iter()
                    .find(|(suite, cases, _)| *suite == self.suite && matches_pattern(&name, cases));
                if let Some((_, _, reason)) = excuse {
                    self.excused += 1;
                    eprintln!("{}: {name} may fail: {reason}", self.suite);
                } else {
                    eprintln!("{}: {name} FAILED: {why}", self.suite);
                }
            }
        }
    }

    /// The files below `root` at `folder` whose names end in `suffix`, in order.
    pub(crate) fn files(&mut self, root: &Path, folder: &str, suffix: &str) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(root.join(folder)) else { return Vec::new() };
        let mut files: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.is_file() && path.to_string_lossy().ends_with(suffix))
            .collect();
        files.sort();
        files
    }

    /// Reads a JSON file; one that cannot be read is a failed case.
    pub(crate) fn json(&mut self, path: &Path) -> Value {
        let read = fs::read(path).map_err(|error| error.to_string());
        let value = read.and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string()));
        value.unwrap_or_else(|error| {
            self.case(path.display(), || failed(error));
            Value::Null
        })
    }

    /// Whether the suite found no case.
    pub(crate) fn is_empty(&self) -> bool {
        self.passed + self.failed == 0 && self.skipped.is_empty()
    }

    /// Whether nothing failed but what may.
    pub(crate) fn is_sound(&self) -> bool {
        self.failed == self.excused
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let skipped: usize = self.skipped.values().sum();
        write!(f, "{}: {} passed, {} failed, {skipped} skipped", self.suite, self.passed, self.failed)
    }
}

/// The files below `folder`, however deep, whose names end in `suffix`.
pub(crate) fn files_below(folder: &Path, suffix: &str) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(suffix) {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// The elements of a JSON list; none where there is no list.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The text of a field.
pub(crate) fn text<'a>(value: &'a Value, field: &str) -> Result<&'a str, Stop> {
    value.get(field).and_then(Value::as_str).ok_or_else(|| Stop::Failed(format!("no text {field:?}")))
}

/// The bytes of a field of hex digits.
pub(crate) fn bytes(value: &Value, field: &str) -> Result<Vec<u8>, Stop> {
    hex::decode(text(value, field)?).or_else(|error| failed(format!("{field:?}: {error}")))
}

/// The number of a field.
pub(crate) fn number(value: &Value, field: &str) -> Result<u64, Stop> {
    value.get(field).and_then(Value::as_u64).ok_or_else(|| Stop::Failed(format!("no number {field:?}")))
}

fn matches_pattern(name: &str, pattern: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "without a message",
    }
}
