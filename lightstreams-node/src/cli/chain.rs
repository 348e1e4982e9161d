//! `chain`: files, checks and copies of the chain of a data directory.

use std::{
    fs::File,
    io::{BufWriter, Write},
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use indicatif::ProgressBar;
use lightstreams_chain::{
    Chain, Clique, ExportError, FileFault, FileProgress, ImportError, ImportFileError, Remedy, check,
    genesis_differences,
};
use serde_json::{Value, json};

use super::{args::ChainVerb, session::Session};
use crate::{
    adapters::now_s,
    config::Config,
    daemon::{
        open_chain, open_chain_db,
        snapshot::{self, Manifest},
        storage_error,
    },
    datadir::Lock,
    error::{NodeError, Result, io_error},
    init::{read_genesis, read_genesis_file},
};

/// Runs `chain …`.
pub(crate) fn run(session: &Session, verb: &ChainVerb) -> Result<()> {
    match verb {
        ChainVerb::Export { file, from, to } => export(session, file, *from, *to),
        ChainVerb::Import { file } => import(session, file),
        ChainVerb::Check { deep } => verify(session, *deep),
        ChainVerb::Snapshot { dir } => copy(session, dir),
        ChainVerb::GenesisDiff { file } => genesis_diff(session, file.as_deref()),
    }
}

/// The chain of the data directory, and the right to it.
fn open(session: &Session) -> Result<(Lock, Arc<Chain>)> {
    let dir = session.dir();
    dir.require_initialised()?;
    let lock = dir.lock()?;
    let (chain, _) = open_chain(dir, &Config::load(dir)?, read_genesis(dir)?)?;
    Ok((lock, chain))
}

fn export(session: &Session, file: &Path, from: u64, to: Option<u64>) -> Result<()> {
    let (_lock, chain) = open(session)?;
    let last = to.unwrap_or_else(|| chain.head().number());
    // Beside its place until it is whole.
    let part = beside(file);
    if file.exists() {
        return Err(NodeError::usage("already_exists", format!("{} already exists", file.display()))
            .hint("nothing was overwritten; name another file, or move that one away"));
    }
    let wrong = |error| io_error("write", &part, error);
    let mut writer = BufWriter::new(File::create(&part).map_err(wrong)?);
    let bar = session.out().steps("exporting", last.saturating_sub(from).saturating_add(1));
    let done = chain.export_to(from..=last, &mut writer, |done| shown(&bar, done.blocks));
    let written = done.map_err(|error| match error {
        ExportError::Range { .. } => NodeError::usage("bad_range", "no blocks to export").because(error),
        ExportError::Write(error) => wrong(error),
        ExportError::Storage(error) => storage_error("cannot read the chain", error)
            .hint("`lightstreams chain check` says what is damaged"),
        error => NodeError::new("export", "cannot export the chain").because(error),
    });
    let written = written.and_then(|done| {
        writer.flush().map_err(wrong)?;
        writer.get_ref().sync_all().map_err(wrong)?;
        std::fs::rename(&part, file).map_err(|error| io_error("write", file, error))?;
        Ok(done)
    });
    bar.finish_and_clear();
    let done = written.inspect_err(|_| drop(std::fs::remove_file(&part)))?;
    let line = format!(
        "{} blocks, {from} to {}, {} bytes: {}",
        done.blocks,
        done.number,
        done.bytes,
        file.display()
    );
    session.out().result(&[line], &report(&done, file))
}

fn beside(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_os_string();
    name.push(".part");
    file.with_file_name(name)
}

fn import(session: &Session, path: &Path) -> Result<()> {
    let wrong = |error| io_error("read", path, error);
    let file = File::open(path).map_err(wrong)?;
    let size = file.metadata().map_err(wrong)?.len();
    let (_lock, chain) = open(session)?;
    let bar = session.out().bytes("importing", size);
    let take = || chain.import_from(file, now_s(), |done| shown(&bar, done.bytes));
    // A pool recovers signatures on all cores; where no threads are to be had, this one does.
    let done = match rayon::ThreadPoolBuilder::new().build() {
        Ok(pool) => pool.install(take),
        Err(_) => take(),
    };
    bar.finish_and_clear();
    let done = done.map_err(stopped)?;
    let head = chain.head();
    let lines = [
        format!("{} blocks, {} of them known before", done.blocks, done.known),
        format!("  head  {} ({})", head.number(), head.hash),
    ];
    let mut value = report(&done, path);
    if let Some(fields) = value.as_object_mut() {
        fields.insert("head".to_owned(), json!({ "number": head.number(), "hash": head.hash }));
    }
    session.out().result(&lines, &value)
}

fn stopped(error: ImportFileError) -> NodeError {
    let hint = match &*error.fault {
        FileFault::Cut => {
            "the file is cut short: get it again; what came before is imported, and is passed over"
        }
        FileFault::Rlp(_) => "the file is damaged there, or is no chain file of geth",
        FileFault::OtherChain { .. } => "export the file from a node of this network",
        FileFault::Import(ImportError::UnknownParent(_)) => {
            "the file begins above this chain's head: import what lies between first"
        }
        FileFault::Import(ImportError::Storage(_)) => {
            "`lightstreams chain check` says whether the database is damaged"
        }
        _ => "what came before is imported; the same file goes on from there",
    };
    let code = match &*error.fault {
        FileFault::Import(ImportError::Storage(_)) => "storage",
        FileFault::Import(_) => "bad_block",
        _ => "bad_chain_file",
    };
    NodeError::new(code, "the import ended early").because(error).hint(hint)
}

/// `chain check`: ends in failure if anything is wrong.
fn verify(session: &Session, deep: bool) -> Result<()> {
    let dir = session.dir();
    dir.require_initialised()?;
    let _lock = dir.lock()?;
    let genesis = read_genesis(dir)?;
    let engine = Clique::for_genesis(&genesis);
    let kv = open_chain_db(&dir.chain_db(), Config::load(dir)?.storage)?;
    let bar = session.out().steps("checking", 0);
    let mut at = "";
    let report = check(kv.as_ref(), &genesis, &engine, deep, &mut |step| {
        if at != step.what {
            at = step.what;
            bar.set_prefix(at);
        }
        match step.total {
            Some(total) => bar.set_length(total),
            None => bar.unset_length(),
        }
        bar.set_position(step.done);
    });
    bar.finish_and_clear();
    let mut lines: Vec<String> = report.findings.iter().map(|finding| format!("wrong: {finding}")).collect();
    if report.further > 0 {
        lines.push(format!("  and {} more", report.further));
    }
    let state = match deep {
        true => {
            format!(", {} accounts, {} slots, {} older states", report.accounts, report.slots, report.states)
        }
        false => " (--deep looks at signatures and the state, too)".to_owned(),
    };
    lines.push(format!("{} blocks, {} transactions{state}", report.blocks, report.transactions));
    let findings: Vec<Value> = report
        .findings
        .iter()
        .map(|finding| {
            json!({
                "table": finding.table.name(),
                "place": finding.place,
                "problem": finding.problem,
                "remedy": remedy(finding.remedy),
            })
        })
        .collect();
    let value = json!({
        "sound": report.is_sound(),
        "findings": findings,
        "further": report.further,
        "blocks": report.blocks,
        "transactions": report.transactions,
        "accounts": report.accounts,
        "slots": report.slots,
        "older_states": report.states,
    });
    session.out().result(&lines, &value)?;
    // The worst decides: blocks that are not here cannot be exported.
    let worst = [Remedy::Other, Remedy::Refetch, Remedy::Rebuild]
        .into_iter()
        .find(|worst| report.findings.iter().any(|finding| finding.remedy == *worst));
    match worst {
        None => Ok(()),
        Some(worst) => {
            let count = report.further.saturating_add(report.findings.len() as u64);
            Err(NodeError::new(
                "damaged",
                format!(
                    "{count} {} in {}",
                    if count == 1 { "record is wrong" } else { "records are wrong" },
                    dir.chain_db().display()
                ),
            )
            .hint(remedy(worst)))
        }
    }
}

fn remedy(remedy: Remedy) -> &'static str {
    match remedy {
        Remedy::Rebuild => {
            "the blocks are whole: `lightstreams chain export FILE`, move chain/db away, `lightstreams chain import FILE`"
        }
        Remedy::Refetch => {
            "move chain/db away and let the node fetch the chain again, or restore a snapshot or a chain file"
        }
        _ => {
            "restore the genesis.json of this chain, or run the version of lightstreams that wrote the database"
        }
    }
}

/// `chain snapshot`: by the node that runs, or here if none does.
fn copy(session: &Session, to: &Path) -> Result<()> {
    let to = std::path::absolute(to).map_err(|error| io_error("name", to, error))?;
    let waiting = session.out().wait(format!("copying the chain to {}", to.display()));
    let manifest = match open(session) {
        Ok((_lock, chain)) => {
            let storage = Config::load(session.dir())?.storage;
            snapshot::write(&chain, storage, &to, &mut |records, bytes| {
                waiting.set_message(format!("{records} records, {} MiB", bytes >> 20));
            })
        }
        Err(error) if error.code() == "data_dir_locked" => {
            let asked = json!({ "dir": to });
            super::runtime()?.block_on(session.client().post("/v1/chain/snapshot", &asked))
        }
        Err(error) => Err(error),
    };
    waiting.finish_and_clear();
    let manifest: Manifest = manifest?;
    let info = &manifest.info;
    let lines = [
        format!("block {} with state {}: {}", info.head, info.state_root, to.display()),
        format!(
            "  {} records, {} bytes, states from block {} on",
            info.records, info.bytes, info.oldest_state
        ),
        format!("  next: lightstreams --data NEW init --snapshot {} --peer ADDR", to.display()),
    ];
    session.out().result(&lines, &json!(manifest))
}

/// `chain genesis-diff`: ends in failure if the chain cannot go on under the file.
fn genesis_diff(session: &Session, file: Option<&Path>) -> Result<()> {
    let dir = session.dir();
    dir.require_initialised()?;
    let file = file.map_or_else(|| dir.genesis(), Path::to_owned);
    let given = read_genesis_file(&file)?;
    let _lock = dir.lock()?;
    let kv = open_chain_db(&dir.chain_db(), Config::load(dir)?.storage)?;
    let found = genesis_differences(kv.as_ref(), &given)
        .map_err(|error| storage_error("cannot read the genesis of the chain", error))?
        .ok_or_else(|| {
            NodeError::not_found("no_chain", format!("{} holds no chain yet", dir.chain_db().display()))
                .hint("the node writes it at its first start, under the genesis.json that is there")
        })?;
    let refused = found.iter().filter(|difference| !difference.allowed).count();
    let mut lines: Vec<String> = found
        .iter()
        .map(|difference| match difference.allowed {
            true => format!("may change:  {difference}"),
            false => format!("is history:  {difference}"),
        })
        .collect();
    if lines.is_empty() {
        lines.push("no difference".to_owned());
    }
    let differences: Vec<Value> = found
        .iter()
        .map(|difference| {
            json!({
                "field": difference.field,
                "stored": difference.stored,
                "given": difference.given,
                "allowed": difference.allowed,
            })
        })
        .collect();
    session.out().result(&lines, &json!({ "differences": differences, "usable": refused == 0 }))?;
    if refused == 0 {
        return Ok(());
    }
    Err(NodeError::usage("wrong_genesis", format!("{} changes what happened already", file.display()))
        .hint("a fork that has not come yet may be moved; all else makes another network"))
}

fn shown(bar: &ProgressBar, at: u64) -> ControlFlow<()> {
    bar.set_position(at);
    ControlFlow::Continue(())
}

fn report(done: &FileProgress, file: &Path) -> Value {
    json!({
        "file": file.display().to_string(),
        "blocks": done.blocks,
        "known": done.known,
        "last": done.number,
        "bytes": done.bytes,
    })
}
