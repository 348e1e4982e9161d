//! `ls`, `info`, `audit` and `status`: what there is, and what happened.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    path::Path,
    sync::Arc,
};

use alloy_primitives::{B256, U256};
use lightstreams_acl::{
    ContentId, ContentRegistry, ContentUri, Event, Market, Permission,
    abi::ContentRegistry::{ContentRegistryEvents as RegistryEvents, Transfer},
    alloy_sol_types::SolEvent,
};
use lightstreams_store::FileDisk;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    args::{AuditArgs, ContentArgs},
    content,
    session::Session,
};
use crate::{
    error::{NodeError, Result},
    units::{self, coins},
    vault::{self, AuditEvent, Evidence, Manifest, leaf_of, merkle, read_log},
};

/// Plans that `info` shows.
const PLANS_MAX: usize = 32;

/// Runs `status`.
pub(super) async fn status(session: &Session) -> Result<()> {
    let status: Value = session.client().get("/v1/status").await?;
    let text = |pointer: &str| match status.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => "none".to_owned(),
        Some(value) => value.to_string(),
    };
    let peers = status.get("peers").and_then(Value::as_array).map_or(0, Vec::len);
    let mut lines = vec![
        format!("chain     {} (genesis {})", text("/chain_id"), text("/genesis")),
        format!("head      {} {}", text("/head/number"), text("/head/hash")),
        format!("final     {}", text("/final/number")),
        format!("peers     {peers}"),
        format!("peer id   {}", text("/peer_id")),
        format!("operator  {}", text("/operator")),
        format!("authority {}", text("/authority")),
        format!("blocks    in {}, chain in {}", text("/store/backend"), text("/database")),
    ];
    if let Some(bytes) = status.pointer("/store/bytes").and_then(Value::as_u64) {
        lines.push(format!("segments  {}", units::bytes(bytes)));
    }
    if let Some(damaged @ 1..) = status.pointer("/store/damaged").and_then(Value::as_u64) {
        lines.push(format!("damage    blocks are lost in {damaged} places: the node's log names them"));
    }
    lines.extend(
        status
            .get("listen")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(|at| format!("listens   {at}")),
    );
    if status.get("stale").and_then(Value::as_bool) == Some(true) {
        lines.push(
            "stale     the newest block is too old: nothing is released and no private block is served"
                .to_owned(),
        );
    }
    session.out().result(&lines, &status)
}

/// Runs `ls`.
pub(super) async fn ls(session: &Session) -> Result<()> {
    let status = session.status().await?;
    let account = session.account()?;
    let registry = status.registry()?;
    #[derive(Deserialize)]
    struct Row {
        topics: Vec<B256>,
    }
    let filter = json!([{
        "address": registry,
        "fromBlock": "0x0",
        "toBlock": "latest",
        "topics": [Transfer::SIGNATURE_HASH, null, account.into_word()],
    }]);
    let rows: Vec<Row> = session.client().rpc("eth_getLogs", filter).await?;
    let mut lines = Vec::new();
    let mut owned: Vec<Value> = Vec::new();
    for id in rows.iter().filter_map(|row| row.topics.get(3)) {
        let uri = ContentUri { chain: status.chain_id, registry, content: ContentId(*id), version: None };
        // A content that was given away since is not listed.
        if session.call(ContentRegistry::at(registry).owner_of(uri.content)).await? == account {
            let head = session.call(ContentRegistry::at(registry).head(uri.content)).await?;
            lines.push(format!("{uri}  owned, version {}", head.version));
            owned.push(json!({ "uri": uri.to_string(), "version": head.version }));
        }
    }
    let kept: Value = session.client().get("/v1/kept").await?;
    let kept = kept.get("kept").and_then(Value::as_array).cloned().unwrap_or_default();
    lines.extend(kept.iter().map(|row| {
        let uri = row.get("uri").and_then(Value::as_str).unwrap_or_default();
        format!("{uri}  kept, version {}", row.get("version").unwrap_or(&Value::Null))
    }));
    session.out().result(&lines, &json!({ "account": account, "owned": owned, "kept": kept }))
}

/// Runs `info`.
pub(super) async fn info(session: &Session, arguments: &ContentArgs) -> Result<()> {
    let status = session.status().await?;
    let uri = session.content(&arguments.content, &status)?;
    let recorded = content::recorded(session, &status, &uri).await?;
    let registry = ContentRegistry::at(uri.registry);
    let head = session.call(registry.head(uri.content)).await?;
    let owner = session.call(registry.owner_of(uri.content)).await?;
    let custody = session.call(registry.custody_of(uri.content)).await?;
    let mut lines = vec![
        uri.to_string(),
        format!("  owner    {owner}"),
        format!(
            "  version  {} (revision {}, epoch {}), recorded by {}",
            recorded.version.version, recorded.version.revision, recorded.version.epoch, recorded.by
        ),
        format!("  manifest {}", Manifest::cid_of(&recorded.digest)),
        format!("  public   {}", head.isPublic),
    ];
    lines.extend(custody.iter().map(|account| format!("  custody  {account}")));
    let mut level = None;
    if let Ok(account) = session.account() {
        let held = session.call(registry.level_of(uri.content, account)).await?;
        let held = Permission::from_level(held).unwrap_or_default();
        lines.push(format!("  you      {account} may {held}"));
        level = Some(held.to_string());
    }
    let mut plans = Vec::new();
    if let Some(market) = status.contracts.market.map(Market::at) {
        for plan in session.call(market.plans_of(uri.content)).await?.into_iter().rev().take(PLANS_MAX) {
            let offer = session.call(market.offer_of(plan)).await?;
            let sells = !offer.closed && offer.generation == head.generation;
            let price = coins(U256::from(offer.plan.price));
            lines.push(format!(
                "  plan {plan}   {price} coins{}, {} sold{}",
                if offer.plan.duration == 0 {
                    String::new()
                } else {
                    format!(" for {} s", offer.plan.duration)
                },
                offer.sold,
                if sells { "" } else { ", closed" },
            ));
            plans.push(json!({
                "plan": plan.to_string(),
                "token": offer.plan.token,
                "price": price,
                "duration": offer.plan.duration,
                "supply": offer.plan.supply,
                "sold": offer.sold,
                "sells": sells,
                "payees": offer.plan.payees.iter().map(|payee| json!({ "account": payee.account, "bps": payee.bps })).collect::<Vec<_>>(),
            }));
        }
    }
    session.out().result(
        &lines,
        &json!({
            "uri": uri.to_string(),
            "owner": owner,
            "version": recorded.version.version,
            "revision": recorded.version.revision,
            "epoch": recorded.version.epoch,
            "author": recorded.by,
            "digest": recorded.digest,
            "public": head.isPublic,
            "custody": custody,
            "level": level,
            "plans": plans,
        }),
    )
}

/// Runs `audit`: chain and release log joined, each receipt checked.
pub(super) async fn audit(session: &Session, arguments: &AuditArgs) -> Result<()> {
    let status = session.status().await?;
    let uri = session.content(&arguments.content, &status)?;
    let logs = content::logs(session, &status, &uri).await?;
    if logs.is_empty() {
        return Err(NodeError::not_found("unknown_content", format!("{uri} is not registered")));
    }
    let mut events = Vec::with_capacity(logs.len());
    let mut custodians = BTreeSet::new();
    for log in logs {
        if let Ok(Some(Event::Registry(RegistryEvents::CustodySet(set)))) = Event::decode(&log) {
            custodians.extend(set.custodians);
        }
        events.push(AuditEvent { time: time_of(session, log.block_number).await?, log });
    }
    let mut records = Vec::new();
    for account in custodians {
        records.extend(content::custodian(session, &status, account).await?);
    }
    let dir = arguments.log.clone().unwrap_or_else(|| session.dir().log());
    let mut releases = Vec::new();
    let mut leaves = Vec::new();
    let disk = FileDisk::open(&dir).map_err(|error| unreadable(&dir, error))?;
    read_log(Arc::new(disk), &mut |_, logged| {
        leaves.push(leaf_of(&logged.release.receipt, &logged.release.sig));
        if logged.release.receipt.content == uri.content.0 {
            releases.push(logged.release);
        }
    })
    .map_err(|error| unreadable(&dir, error))?;
    let mut hashes = BTreeMap::new();
    for receipt in releases.iter().map(|release| &release.receipt) {
        for number in [receipt.final_block.number, receipt.head.number] {
            if let Entry::Vacant(place) = hashes.entry(number) {
                place.insert(block(session, number).await?.map(|block| block.hash));
            }
        }
    }
    let trail = vault::audit(&Evidence {
        place: content::place(&uri),
        events: &events,
        releases: &releases,
        custodians: &records,
        block_hash: &|number| hashes.get(&number).copied().flatten(),
    })
    .map_err(|error| NodeError::new("abi", "an event of the contracts is malformed").because(error))?;

    let root = merkle::root(&leaves);
    let mut lines: Vec<String> = trail.lines.iter().map(|line| line.to_string()).collect();
    let entries: Vec<Value> = trail
        .lines
        .iter()
        .map(|line| {
            json!({
                "line": line.to_string(),
                "what": line.what.name(),
                "who": line.who,
                "by": line.by,
                "time": line.time,
                "block": line.block.number,
                "transaction": line.transaction,
                "problems": line.problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
            })
        })
        .collect();
    let faults = trail.problems().count();
    lines
        .push(format!("log root {root} over {} receipts; {faults} lines with something wrong", leaves.len()));
    session.out().result(
        &lines,
        &json!({ "entries": entries, "faults": faults, "log_root": root, "log_size": leaves.len() }),
    )
}

fn unreadable(dir: &Path, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> NodeError {
    NodeError::new("bad_log", format!("{} holds no release log that can be read", dir.display()))
        .because(error)
}

#[derive(Deserialize)]
struct BlockOfRpc {
    hash: B256,
    timestamp: U256,
}

async fn block(session: &Session, number: u64) -> Result<Option<BlockOfRpc>> {
    session.client().rpc("eth_getBlockByNumber", json!([U256::from(number), false])).await
}

async fn time_of(session: &Session, number: u64) -> Result<Option<u64>> {
    Ok(block(session, number).await?.map(|block| block.timestamp.saturating_to()))
}
