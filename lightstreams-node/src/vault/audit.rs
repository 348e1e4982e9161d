//! The audit trail of a content: what the chain recorded and what custodians released, in one order.
//!
//! ```text
//! chain events (granted, bought, revoked ..) --+
//!                                              +--> one line each: when, who, what, by whom, and what is wrong with it
//! receipts of custodians' logs ----------------+
//! ```
//!
//! A receipt is believed only as far as it can be checked: its holder's signature, that the holder is one that an
//! account in custody names, that the blocks it was judged at are on the chain, and that something on the chain let the reader read
//! there. What fails is not left out, it is named.

use std::fmt;

use alloy_primitives::{Address, B256, U256};
use lightstreams_acl::abi::ContentRegistry::ContentRegistryEvents as Registry;
use lightstreams_acl::abi::Market::MarketEvents as Market;
use lightstreams_acl::{AclError, Event, Log, Permission};

use super::manifest::Place;
use super::records::{BlockPoint, CustodianRecord, Release};
use crate::units::{Utc, coins};

/// A log of a contract, with the time of its block where it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEvent {
    /// The log.
    pub log: Log,
    /// Unix seconds.
    pub time: Option<u64>,
}

/// What an auditor has to go by.
pub struct Evidence<'a> {
    /// The content.
    pub place: Place,
    /// Logs of the registry and the market about the content, in the order of the chain.
    pub events: &'a [AuditEvent],
    /// Releases from custodians' logs, of any content.
    pub releases: &'a [Release],
    /// Records of custodians, verified.
    pub custodians: &'a [CustodianRecord],
    /// The hash of the canonical block with this number, or `None` if there is none.
    pub block_hash: &'a dyn Fn(u64) -> Option<B256>,
}

impl fmt::Debug for Evidence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Evidence").field("place", &self.place).finish_non_exhaustive()
    }
}

/// All that happened to a content, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditTrail {
    /// Its lines.
    pub lines: Vec<AuditLine>,
}

impl AuditTrail {
    /// The lines that something is wrong with.
    pub fn problems(&self) -> impl Iterator<Item = &AuditLine> {
        self.lines.iter().filter(|line| !line.problems.is_empty())
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditLine {
    /// Unix seconds, where known.
    pub time: Option<u64>,
    /// The block that recorded it, or the head at which a release was judged.
    pub block: BlockPoint,
    /// The transaction, if it is one.
    pub transaction: Option<B256>,
    /// Whom it concerns.
    pub who: Address,
    /// What happened.
    pub what: AuditAction,
    /// Whose doing it was, where the record names somebody.
    pub by: Option<Address>,
    /// What is wrong with it.
    pub problems: Vec<AuditProblem>,
}

/// What happened.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditAction {
    /// The content was registered.
    Registered {
        /// Digest of its first manifest.
        manifest: B256,
    },
    /// A version was published.
    Published {
        /// Its number.
        version: u32,
        /// Its epoch.
        epoch: u32,
        /// Digest of its manifest.
        manifest: B256,
    },
    /// A version was wrapped for other recipients.
    Rewrapped {
        /// The version.
        version: u32,
        /// The new revision.
        revision: u32,
        /// Digest of its manifest.
        manifest: B256,
    },
    /// A permission was given.
    Granted {
        /// The level, as contracts number it.
        level: u8,
        /// 0 is people, every other number a module.
        source: u8,
        /// First second, 0 for no bound.
        not_before: u64,
        /// First second after, 0 for no bound.
        expires: u64,
    },
    /// A permission was taken back.
    Revoked {
        /// As in `Granted`.
        source: u8,
    },
    /// The content was made public, or private again.
    PublicSet {
        /// Which of the two.
        on: bool,
    },
    /// Custody was set.
    CustodySet {
        /// Whom it names.
        custodians: Vec<Address>,
    },
    /// The content was given to another owner.
    Transferred,
    /// A plan was offered.
    Listed {
        /// The plan.
        plan: U256,
        /// Its price.
        price: U256,
    },
    /// A plan was bought.
    Purchased {
        /// The order.
        order: U256,
        /// The plan.
        plan: U256,
        /// What was paid.
        price: U256,
    },
    /// A reader's order was cut, with its price paid back.
    Cut {
        /// The order.
        order: U256,
        /// What was paid back.
        price: U256,
    },
    /// A key was released.
    Released {
        /// The version.
        version: u32,
        /// The revision.
        revision: u32,
        /// What let the reader read.
        granted: Option<GrantSource>,
        /// The custodian's holder key.
        holder: B256,
    },
    /// Something else that the contracts said.
    Other {
        /// The event's name.
        name: &'static str,
    },
}

impl AuditAction {
    /// The name for machines.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Registered { .. } => "registered",
            Self::Published { .. } => "published",
            Self::Rewrapped { .. } => "rewrapped",
            Self::Granted { .. } => "granted",
            Self::Revoked { .. } => "revoked",
            Self::PublicSet { .. } => "public_set",
            Self::CustodySet { .. } => "custody_set",
            Self::Transferred => "transferred",
            Self::Listed { .. } => "listed",
            Self::Purchased { .. } => "purchased",
            Self::Cut { .. } => "cut",
            Self::Released { .. } => "released",
            Self::Other { name } => name,
        }
    }
}

impl fmt::Display for AuditAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registered { .. } => f.write_str("registered the content"),
            Self::Published { version, epoch, .. } => {
                write!(f, "published version {version} (epoch {epoch})")
            }
            Self::Rewrapped { version, revision, .. } => {
                write!(f, "rewrapped version {version} as revision {revision}")
            }
            Self::Granted { level, source, expires, .. } => {
                let level = Permission::from_level(*level).unwrap_or_default();
                write!(f, "was granted {level}")?;
                match expires {
                    0 => {}
                    at => write!(f, " until {}", Utc(*at))?,
                }
                if *source == 0 { Ok(()) } else { write!(f, " by module {source}") }
            }
            Self::Revoked { .. } => f.write_str("lost a permission"),
            Self::PublicSet { on: true } => f.write_str("made the content public"),
            Self::PublicSet { on: false } => f.write_str("made the content private"),
            Self::CustodySet { custodians } => write!(f, "set custody to {} account(s)", custodians.len()),
            Self::Transferred => f.write_str("became the owner"),
            Self::Listed { plan, price } => write!(f, "offered plan {plan} for {} coins", coins(*price)),
            Self::Purchased { order, plan, price } => {
                write!(f, "got order {order} of plan {plan} for {} coins", coins(*price))
            }
            Self::Cut { order, price } => {
                write!(f, "lost order {order} against a refund of {} coins", coins(*price))
            }
            Self::Released { version, granted, .. } => {
                write!(f, "got the key of version {version}")?;
                match granted {
                    None => Ok(()),
                    Some(GrantSource::Owner) => f.write_str(", as the owner"),
                    Some(GrantSource::Row { by, block, .. }) => {
                        write!(f, ", granted by {by} in block {}", block.number)
                    }
                    Some(GrantSource::Public) => f.write_str(", the content being public"),
                    Some(GrantSource::Indirect) => f.write_str(", by a gate or a collection"),
                }
            }
            Self::Other { name } => f.write_str(name),
        }
    }
}

impl fmt::Display for AuditLine {
    /// Time, block, who, what, by whom, and what is wrong, in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.time {
            Some(time) => write!(f, "{} ", Utc(time))?,
            None => f.write_str("- ")?,
        }
        write!(f, "block {}: {} {}", self.block.number, self.who, self.what)?;
        if let Some(by) = self.by.filter(|by| *by != self.who) {
            match self.what {
                AuditAction::Released { .. } => write!(f, ", released by {by}")?,
                _ => write!(f, ", by {by}")?,
            }
        }
        self.problems.iter().try_for_each(|problem| write!(f, " [{problem}]"))
    }
}

/// What let a reader read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantSource {
    /// The reader owned the content.
    Owner,
    /// A row, by this account or module, recorded in this block.
    Row {
        /// Who granted.
        by: Address,
        /// Where.
        block: BlockPoint,
        /// As in [`AuditAction::Granted`].
        source: u8,
    },
    /// The content was public.
    Public,
    /// A gate or a collection, which answer for themselves.
    Indirect,
}

/// What is wrong with a receipt.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuditProblem {
    /// Its holder did not sign it, or it is about another header.
    #[error("the receipt does not verify")]
    Receipt,
    /// No custodian that the content names has this holder key.
    #[error("the holder is no custodian of this content")]
    Holder,
    /// It names a block that is not on this chain.
    #[error("the receipt names a block that is not on this chain")]
    Block,
    /// It names a version that was never recorded.
    #[error("the receipt names a version that was never recorded")]
    Version,
    /// Nothing on chain let the reader read.
    #[error("nothing on chain let the reader read")]
    NoGrant,
}

/// Joins chain and receipts into one trail.
///
/// Fails only where a log of the contracts cannot be decoded; what is wrong with receipts stands in the trail.
pub fn audit(evidence: &Evidence<'_>) -> Result<AuditTrail, AclError> {
    let mut lines = Vec::new();
    let mut history = History::default();
    for event in evidence.events {
        let Some(decoded) = Event::decode(&event.log)? else { continue };
        let block = BlockPoint { number: event.log.block_number, hash: event.log.block_hash };
        if let Some((who, by, what)) = describe(&decoded, evidence.place.content.as_u256()) {
            history.note(block, who, by, &what);
            lines.push(AuditLine {
                time: event.time,
                block,
                transaction: Some(event.log.transaction),
                who,
                what,
                by,
                problems: Vec::new(),
            });
        }
    }
    let of_this =
        evidence.releases.iter().filter(|release| release.receipt.content == evidence.place.content.0);
    lines.extend(of_this.map(|release| history.judge(evidence, release)));
    // Stable, so that events of one block keep their order, and a release stands after the block it was judged at.
    lines.sort_by_key(|line| {
        (line.block.number, line.transaction.is_none(), line.time.filter(|_| line.transaction.is_none()))
    });
    Ok(AuditTrail { lines })
}

/// What the events so far mean for readers.
#[derive(Default)]
struct History {
    owners: Vec<(u64, Address)>,
    rows: Vec<Row>,
    public: Vec<(u64, bool)>,
    indirect: Option<u64>,
    custody: Vec<Address>,
    versions: Vec<(u32, u32)>,
}

struct Row {
    who: Address,
    by: Address,
    block: BlockPoint,
    source: u8,
    level: u8,
    expires: u64,
    /// The block that took it back, if one did.
    revoked: Option<u64>,
    /// The block that wrote another row in its place, if one did.
    replaced: Option<u64>,
}

impl History {
    fn note(&mut self, block: BlockPoint, who: Address, by: Option<Address>, what: &AuditAction) {
        match what {
            AuditAction::Registered { .. } => {
                self.owners.push((block.number, who));
                self.versions.push((1, 0));
            }
            AuditAction::Transferred => {
                // A transfer ends WRITE and ADMIN rows, the public flag, and nothing that was paid for.
                self.owners.push((block.number, who));
                self.public.push((block.number, false));
                let rows = self.rows.iter_mut().filter(|row| row.level > Permission::Read.level());
                rows.for_each(|row| row.revoked = row.revoked.or(Some(block.number)));
            }
            AuditAction::Published { version, .. } => self.versions.push((*version, 0)),
            AuditAction::Rewrapped { version, revision, .. } => self.versions.push((*version, *revision)),
            AuditAction::Granted { source, expires, level, .. } => {
                for row in self.rows.iter_mut().filter(|row| row.who == who && row.source == *source) {
                    row.replaced = row.replaced.or(Some(block.number));
                }
                self.rows.push(Row {
                    who,
                    by: by.unwrap_or_default(),
                    block,
                    source: *source,
                    level: *level,
                    expires: *expires,
                    revoked: None,
                    replaced: None,
                });
            }
            AuditAction::Revoked { source } => {
                let rows = self.rows.iter_mut().filter(|row| row.who == who && row.source == *source);
                rows.for_each(|row| row.revoked = row.revoked.or(Some(block.number)));
            }
            AuditAction::PublicSet { on } => self.public.push((block.number, *on)),
            AuditAction::CustodySet { custodians } => self.custody.extend(custodians),
            AuditAction::Other { name: "GateSet" | "ParentSet" } => {
                self.indirect = self.indirect.or(Some(block.number));
            }
            _ => {}
        }
    }

    fn judge(&self, evidence: &Evidence<'_>, release: &Release) -> AuditLine {
        let receipt = &release.receipt;
        let mut problems = Vec::new();
        if !release.verify() {
            problems.push(AuditProblem::Receipt);
        }
        let custodian = evidence.custodians.iter().find(|record| {
            record.holder == receipt.holder
                && record.domain == evidence.place.domain
                && self.custody.contains(&record.account)
        });
        if custodian.is_none() {
            problems.push(AuditProblem::Holder);
        }
        let on_chain = |block: &BlockPoint| (evidence.block_hash)(block.number) == Some(block.hash);
        if !on_chain(&receipt.final_block) || !on_chain(&receipt.head) {
            problems.push(AuditProblem::Block);
        }
        if !self.versions.contains(&(receipt.version, receipt.revision)) {
            problems.push(AuditProblem::Version);
        }
        let granted = self.grant_of(release);
        if granted.is_none() {
            problems.push(AuditProblem::NoGrant);
        }
        AuditLine {
            time: Some(receipt.at_ms / 1000),
            block: receipt.head,
            transaction: None,
            who: receipt.reader,
            what: AuditAction::Released {
                version: receipt.version,
                revision: receipt.revision,
                granted,
                holder: receipt.holder,
            },
            by: custodian.map(|record| record.account),
            problems,
        }
    }

    /// What let the reader read from the final block up to the head that the receipt names.
    fn grant_of(&self, release: &Release) -> Option<GrantSource> {
        let receipt = &release.receipt;
        let (settled, head) = (receipt.final_block.number, receipt.head.number);
        let owner = self.owners.iter().rev().find(|(block, _)| *block <= head);
        if owner.is_some_and(|(since, owner)| *owner == receipt.reader && *since <= settled) {
            return Some(GrantSource::Owner);
        }
        let row = self.rows.iter().rev().find(|row| {
            row.who == receipt.reader
                && row.block.number <= settled
                && row.level > 0
                && row.replaced.is_none_or(|block| block > settled)
                && row.revoked.is_none_or(|block| block > head)
                && (row.expires == 0 || receipt.at_ms / 1000 < row.expires)
        });
        if let Some(row) = row {
            return Some(GrantSource::Row { by: row.by, block: row.block, source: row.source });
        }
        let public = self.public.iter().rev().find(|(block, _)| *block <= head);
        if public.is_some_and(|(since, on)| *on && *since <= settled) {
            return Some(GrantSource::Public);
        }
        self.indirect.filter(|since| *since <= settled).map(|_| GrantSource::Indirect)
    }
}

/// Subject, actor and action of an event of the content `id`.
fn describe(event: &Event, id: U256) -> Option<(Address, Option<Address>, AuditAction)> {
    use AuditAction as A;
    let other = |who: Address, name| Some((who, Some(who), A::Other { name }));
    match event {
        Event::Registry(event) => match event {
            Registry::Registered(e) if e.id == id => {
                Some((e.owner, Some(e.owner), A::Registered { manifest: e.manifest }))
            }
            Registry::Published(e) if e.id == id => Some((
                e.by,
                Some(e.by),
                A::Published { version: e.version, epoch: e.epoch, manifest: e.manifest },
            )),
            Registry::Rewrapped(e) if e.id == id => Some((
                e.by,
                Some(e.by),
                A::Rewrapped { version: e.version, revision: e.revision, manifest: e.manifest },
            )),
            Registry::Granted(e) if e.id == id => Some((
                e.who,
                Some(e.by),
                A::Granted { level: e.level, source: e.source, not_before: e.notBefore, expires: e.expires },
            )),
            Registry::Revoked(e) if e.id == id => Some((e.who, Some(e.by), A::Revoked { source: e.source })),
            Registry::PublicSet(e) if e.id == id => Some((e.by, Some(e.by), A::PublicSet { on: e.on })),
            Registry::CustodySet(e) if e.id == id => {
                Some((e.by, Some(e.by), A::CustodySet { custodians: e.custodians.clone() }))
            }
            // The mint of the token is told by `Registered`.
            Registry::Transfer(e) if e.tokenId == id && e.from != Address::ZERO => {
                Some((e.to, Some(e.from), A::Transferred))
            }
            Registry::PermissionRequested(e) if e.id == id => other(e.who, "PermissionRequested"),
            Registry::PermissionDeclined(e) if e.id == id => {
                Some((e.who, Some(e.by), A::Other { name: "PermissionDeclined" }))
            }
            Registry::Disclosed(e) if e.id == id => other(e.by, "Disclosed"),
            Registry::ModuleSet(e) if e.id == id => {
                Some((e.module, Some(e.by), A::Other { name: "ModuleSet" }))
            }
            Registry::GateSet(e) if e.id == id => Some((e.gate, Some(e.by), A::Other { name: "GateSet" })),
            Registry::ParentSet(e) if e.id == id => other(e.by, "ParentSet"),
            Registry::Rotated(e) if e.id == id => other(e.by, "Rotated"),
            Registry::FlagsSet(e) if e.id == id => other(e.by, "FlagsSet"),
            Registry::RoyaltySet(e) if e.id == id => {
                Some((e.receiver, Some(e.by), A::Other { name: "RoyaltySet" }))
            }
            _ => None,
        },
        Event::Market(event) => match event {
            Market::Listed(e) if e.id == id => Some((
                e.seller,
                Some(e.seller),
                A::Listed { plan: e.planId, price: U256::from(e.plan.price) },
            )),
            Market::Purchased(e) if e.id == id => {
                Some((e.to, Some(e.buyer), A::Purchased { order: e.orderId, plan: e.planId, price: e.price }))
            }
            Market::Cut(e) if e.id == id => {
                Some((e.reader, Some(e.by), A::Cut { order: e.orderId, price: e.price }))
            }
            Market::Closed(e) if e.id == id => other(e.by, "Closed"),
            _ => None,
        },
        Event::Custodians(_) => None,
    }
}
