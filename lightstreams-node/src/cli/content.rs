//! What the chain says of a content, and the manifest held against it.

use alloy_primitives::{Address, B256, Bytes, U256};
use lightstreams_acl::{
    ContentRegistry, ContentUri, Custodians, Event, Log, abi::ContentRegistry::ContentRegistryEvents as Said,
};
use serde::Deserialize;
use serde_json::json;

use super::{
    payload::{self, Source},
    session::{Session, Status},
};
use crate::{
    error::{Exit, NodeError, Result},
    vault::{CustodianRecord, Domain, Manifest, Place, VersionInfo},
};

/// A custodian is asked at no more accounts than this.
const CUSTODIANS_MAX: usize = 16;

/// One revision of one version, as the registry recorded it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recorded {
    pub(crate) version: VersionInfo,
    pub(crate) digest: B256,
    pub(crate) by: Address,
}

/// Every log that registry and market gave about a content, in the order of the chain.
pub(crate) async fn logs(session: &Session, status: &Status, uri: &ContentUri) -> Result<Vec<Log>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Row {
        address: Address,
        topics: Vec<B256>,
        data: Bytes,
        block_number: U256,
        block_hash: B256,
        transaction_hash: B256,
        log_index: U256,
    }
    let mut addresses = vec![uri.registry];
    addresses.extend(status.contracts.market);
    let filter = json!([{
        "address": addresses,
        "fromBlock": "0x0",
        "toBlock": "latest",
        "topics": [null, uri.content.0],
    }]);
    let rows: Vec<Row> = session.client().rpc("eth_getLogs", filter).await?;
    let logs = rows.into_iter().map(|row| Log {
        address: row.address,
        topics: row.topics,
        data: row.data,
        block_number: row.block_number.saturating_to(),
        block_hash: row.block_hash,
        transaction: row.transaction_hash,
        index: row.log_index.saturating_to(),
    });
    Ok(logs.collect())
}

/// The newest revision of the version that `uri` names, or of the head version.
pub(crate) async fn recorded(session: &Session, status: &Status, uri: &ContentUri) -> Result<Recorded> {
    let mut newest: Option<Recorded> = None;
    for log in logs(session, status, uri).await? {
        let decoded = Event::decode(&log).map_err(|error| {
            NodeError::new("abi", format!("an event in block {} is malformed", log.block_number))
                .because(error)
        })?;
        let Some(Event::Registry(event)) = decoded else { continue };
        let next = match event {
            Said::Registered(e) => Recorded {
                version: VersionInfo { version: 1, epoch: 0, revision: 0 },
                digest: e.manifest,
                by: e.owner,
            },
            Said::Published(e) => Recorded {
                version: VersionInfo { version: e.version, epoch: e.epoch, revision: 0 },
                digest: e.manifest,
                by: e.by,
            },
            Said::Rewrapped(e) => {
                let epoch = newest.map_or(0, |n| n.version.epoch);
                Recorded {
                    version: VersionInfo { version: e.version, epoch, revision: e.revision },
                    digest: e.manifest,
                    by: e.by,
                }
            }
            _ => continue,
        };
        if uri.version.is_none_or(|wanted| wanted == next.version.version) {
            newest = Some(next);
        }
    }
    let mut recorded = newest.ok_or_else(|| {
        NodeError::not_found("unknown_content", format!("{uri} is not registered"))
            .hint("check the URI; a node that has just joined may still be following the chain (`lightstreams status`)")
    })?;
    // The contract's own answer decides; the events only told which digest to ask about.
    let place =
        session.call(ContentRegistry::at(uri.registry).version_of(uri.content, recorded.digest)).await?;
    recorded.version = VersionInfo { version: place.ver, epoch: place.ep, revision: place.rev };
    Ok(recorded)
}

/// The place of a content on chain.
pub(crate) fn place(uri: &ContentUri) -> Place {
    Place { domain: Domain { chain_id: uri.chain, registry: uri.registry }, content: uri.content }
}

/// Fetches the manifest that was recorded, and refuses any that says something else than the chain.
pub(crate) async fn manifest(
    session: &Session,
    uri: &ContentUri,
    recorded: &Recorded,
    source: &Source,
) -> Result<Manifest> {
    let cid = Manifest::cid_of(&recorded.digest);
    let block = payload::blocks(session, source, &[cid])
        .await?
        .into_iter()
        .find(|block| *block.cid() == cid)
        .ok_or_else(|| {
            NodeError::not_found("no_manifest", format!("no peer gave the manifest {cid}"))
                .exit(Exit::Peer)
                .hint("its custodians may be down; `lightstreams info` names them")
        })?;
    let lies = |error: &dyn std::fmt::Display| {
        NodeError::new("bad_manifest", format!("the manifest {cid} is not to be believed: {error}"))
            .exit(Exit::Peer)
    };
    let manifest = Manifest::decode(block.data()).map_err(|error| lies(&error))?;
    manifest.verify_place(&place(uri), &recorded.version).map_err(|error| lies(&error))?;
    let code: Bytes = session.client().rpc("eth_getCode", json!([recorded.by, "latest"])).await?;
    manifest.verify_author(recorded.by, !code.is_empty()).map_err(|error| lies(&error))?;
    Ok(manifest)
}

/// The records of the accounts in custody of a version that can be believed.
pub(crate) async fn custodians(
    session: &Session,
    status: &Status,
    uri: &ContentUri,
    version: u32,
) -> Result<Vec<CustodianRecord>> {
    let registry = ContentRegistry::at(uri.registry);
    let mut accounts = session.call(registry.custody_of(uri.content)).await?;
    for account in session.call(registry.custody_of_version(uri.content, version)).await? {
        if !accounts.contains(&account) {
            accounts.push(account);
        }
    }
    let mut records = Vec::new();
    for account in accounts.into_iter().take(CUSTODIANS_MAX) {
        if let Some(record) = custodian(session, status, account).await? {
            records.push(record);
        }
    }
    Ok(records)
}

/// The record of one custodian, if it has one that its holder signed for this account.
pub(crate) async fn custodian(
    session: &Session,
    status: &Status,
    account: Address,
) -> Result<Option<CustodianRecord>> {
    let record = session.call(Custodians::at(status.custodians()?).record_of(account)).await?;
    let domain = Domain { chain_id: status.chain_id, registry: status.registry()? };
    Ok(CustodianRecord::verified(&record, &domain, account).ok())
}
