//! The reference model: the rules of registry and market in plain Rust, without a chain.
//!
//! Written from the rules and not from the Solidity, so that each checks the other; a refusal has the name of the contract's error.

mod market;

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256};

pub use market::{Order, Plan};

use crate::contracts::FLAG_SOULBOUND;
use crate::typed_data::Grant;
use crate::{
    AccessControl, AclError, At, BlockRef, ContentId, Decision, Denial, Permission, Term, content_id,
};

/// Why the model refuses a command: the name of the error that the contract reverts with.
#[allow(missing_docs)]
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refused {
    #[error("no such content")]
    UnknownContent,
    #[error("the owner registered that salt before")]
    AlreadyRegistered,
    #[error("the manifest is recorded already")]
    ManifestRecorded,
    #[error("the manifest is missing")]
    ManifestMissing,
    #[error("the head is not the expected one")]
    Stale,
    #[error("the account lacks the level for this")]
    Denied,
    #[error("only the owner may")]
    OwnerOnly,
    #[error("not an account for this")]
    InvalidAccount,
    #[error("not a level for this")]
    InvalidLevel,
    #[error("the term is over or empty")]
    InvalidTerm,
    #[error("unknown flags")]
    InvalidFlags,
    #[error("the grant would lower what the row gives; revoke first")]
    WouldLower,
    #[error("the grant was signed before a transfer or a revocation")]
    StaleGrant,
    #[error("nothing to claim")]
    NothingToClaim,
    #[error("not a module of the content, or disabled")]
    NotAModule,
    #[error("too many")]
    TooMany,
    #[error("not a collection for this content")]
    InvalidParent,
    #[error("the content cannot be transferred")]
    Soulbound,
    #[error("the sender may not transfer the content")]
    ERC721InsufficientApproval,
    #[error("the content is not of that owner")]
    ERC721IncorrectOwner,
    #[error("not an account that can own contents")]
    ERC721InvalidReceiver,
    #[error("the content is not the sender's")]
    NotOwner,
    #[error("the plan's shares are wrong")]
    InvalidPlan,
    #[error("no such plan")]
    UnknownPlan,
    #[error("the plan sells no more")]
    PlanEnded,
    #[error("sold out")]
    SoldOut,
    #[error("the price is above the buyer's limit")]
    PriceAboveMax,
    #[error("the coin sent along is not the price")]
    WrongValue,
    #[error("the manifest is not of the head version")]
    WrongManifest,
    #[error("nobody holds custody")]
    NoCustody,
    #[error("the reader has too many living orders")]
    TooManyOrders,
    #[error("the account does not administer the content")]
    NotAdmin,
    #[error("no living order has that number")]
    NotLiving,
    #[error("nothing is owed")]
    NothingOwed,
}

/// A gate as the model knows it: whether it lets an account in.
pub type Gate = fn(Address) -> bool;

/// Modules that a content may ever have.
const MODULES_MAX: usize = 8;
const CUSTODIANS_MAX: usize = 16;
const CUSTODY_CHANGES_MAX: u32 = 64;
const ANCESTORS_MAX: usize = 4;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Row {
    level: Permission,
    generation: u32,
    term: Term,
    revocations: u32,
}

#[derive(Clone, Debug)]
struct Content {
    owner: Address,
    flags: u8,
    public: bool,
    gate: Option<Gate>,
    epoch: u32,
    generation: u32,
    claimed: u32,
    /// (version, epoch, revision) of each manifest.
    manifests: BTreeMap<B256, (u32, u32, u32)>,
    head: (u32, u32, u32),
    /// Modules in the order of their sources, and whether each may write.
    modules: Vec<(Address, bool)>,
    /// By account and source; source 0 is people.
    rows: BTreeMap<(Address, usize), Row>,
    /// Who was in custody at some time while a version was the head.
    custody: BTreeMap<u32, Vec<Address>>,
    custodians: Vec<Address>,
    /// How often custody changed while a version was the head.
    changes: BTreeMap<u32, u32>,
    /// The collection from an epoch on.
    parents: BTreeMap<u32, Option<ContentId>>,
}

impl Content {
    fn parent(&self, epoch: u32) -> Option<ContentId> {
        self.parents.range(..=epoch).next_back().and_then(|(_, parent)| *parent)
    }

    fn row(&self, who: Address, source: usize) -> Row {
        self.rows.get(&(who, source)).copied().unwrap_or_default()
    }

    /// The level of a row that counts now or will.
    fn standing(&self, row: Row, now: u64) -> Permission {
        let dead = row.level >= Permission::Write && row.generation != self.generation;
        let over = row.term.expires != 0 && row.term.expires <= now;
        if dead || over { Permission::None } else { row.level }
    }

    /// What people may do here, reading aside.
    fn authority(&self, who: Address, now: u64) -> Permission {
        if who == self.owner {
            return Permission::Admin;
        }
        let row = self.row(who, 0);
        let begun = row.term.not_before <= now && row.term.from_epoch <= self.epoch;
        match self.standing(row, now) {
            level @ (Permission::Write | Permission::Admin) if begun => level,
            _ => Permission::None,
        }
    }

    fn verdict(&self, row: Row, epoch: u32, starts: u64, ends: u64) -> Decision {
        let Term { not_before, expires, from_epoch } = row.term;
        if row.level == Permission::None {
            return Decision::Deny(if row.revocations > 0 { Denial::Revoked } else { Denial::NotGranted });
        }
        if row.level >= Permission::Write && row.generation != self.generation {
            return Decision::Deny(Denial::Revoked);
        }
        if expires != 0 && ends >= expires {
            return Decision::Deny(Denial::Expired { at: expires });
        }
        if from_epoch > epoch {
            return Decision::Deny(Denial::OtherEpoch { from: from_epoch });
        }
        if not_before > starts {
            return Decision::Deny(Denial::NotYetValid { at: not_before });
        }
        Decision::Allow { until: (expires != 0).then_some(expires) }
    }

    fn rows_allow(&self, who: Address, epoch: u32, starts: u64, ends: u64) -> Decision {
        let sources = 0..=self.modules.len();
        let verdicts = sources.map(|source| self.verdict(self.row(who, source), epoch, starts, ends));
        verdicts.max_by_key(rank).unwrap_or(Decision::Deny(Denial::NotGranted))
    }

    fn custody_changes(&mut self) {
        let named = self.custody.entry(self.head.0).or_default();
        named.extend(&self.custodians);
    }
}

/// Which of two verdicts decides: more says more; among equals the later end, or the earlier beginning.
fn rank(verdict: &Decision) -> (u8, u64) {
    let sooner = |value: u64| u64::MAX.saturating_sub(value);
    match *verdict {
        Decision::Allow { until } => (7, until.unwrap_or(u64::MAX)),
        Decision::Deny(Denial::NotYetValid { at }) => (6, sooner(at)),
        Decision::Deny(Denial::OtherEpoch { from }) => (5, sooner(from.into())),
        Decision::Deny(Denial::Expired { at }) => (4, at),
        Decision::Deny(Denial::Revoked) => (3, 0),
        Decision::Deny(Denial::NotGranted) => (2, 0),
        Decision::Deny(Denial::UnknownContent) => (1, 0),
    }
}

/// [`AccessControl`] in memory: one registry and one market, at one moment that the caller sets.
///
/// ```
/// use lightstreams_acl::{AccessControl, Address, At, B256, BlockRef, MemoryAcl, Permission, Term};
///
/// let [registry, market, alice, bob] = [1, 2, 3, 4].map(Address::repeat_byte);
/// let mut acl = MemoryAcl::new(161, registry, market);
/// acl.set_time(1_000);
/// let song = acl.register(alice, B256::ZERO, B256::repeat_byte(9), 0)?;
/// let head = At::block(BlockRef::Head);
/// assert!(!acl.decide(song, bob, head)?.is_allowed());
/// acl.grant(alice, song, bob, Permission::Read, Term { expires: 2_000, ..Term::default() })?;
/// assert!(acl.decide(song, bob, head)?.is_allowed());
/// acl.set_time(2_000);
/// assert!(!acl.decide(song, bob, head)?.is_allowed());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct MemoryAcl {
    chain: u64,
    registry: Address,
    market: Address,
    now: u64,
    contents: BTreeMap<ContentId, Content>,
    sales: market::Sales,
}

impl MemoryAcl {
    /// An empty registry and market with these addresses.
    pub fn new(chain: u64, registry: Address, market: Address) -> Self {
        Self { chain, registry, market, now: 1, contents: BTreeMap::new(), sales: market::Sales::default() }
    }

    /// The time of what follows (unix seconds, not 0).
    pub fn set_time(&mut self, now: u64) {
        self.now = now;
    }

    /// Registers version 1 of a new content of `owner`.
    pub fn register(
        &mut self,
        owner: Address,
        salt: B256,
        manifest: B256,
        flags: u8,
    ) -> Result<ContentId, Refused> {
        let id = content_id(self.chain, self.registry, owner, salt);
        if self.contents.contains_key(&id) {
            return Err(Refused::AlreadyRegistered);
        }
        if flags > 7 {
            return Err(Refused::InvalidFlags);
        }
        if manifest.is_zero() {
            return Err(Refused::ManifestMissing);
        }
        let content = Content {
            owner,
            flags,
            public: false,
            gate: None,
            epoch: 0,
            generation: 0,
            claimed: 0,
            manifests: BTreeMap::from([(manifest, (1, 0, 0))]),
            head: (1, 0, 0),
            modules: Vec::new(),
            rows: BTreeMap::new(),
            custody: BTreeMap::new(),
            custodians: Vec::new(),
            changes: BTreeMap::new(),
            parents: BTreeMap::new(),
        };
        self.contents.insert(id, content);
        Ok(id)
    }

    /// Records the next version.
    pub fn publish(
        &mut self,
        by: Address,
        id: ContentId,
        manifest: B256,
        ver: u32,
        ep: u32,
    ) -> Result<(), Refused> {
        let content = self.allowed(id, by, Permission::Write)?;
        if (content.head.0, content.epoch) != (ver, ep) {
            return Err(Refused::Stale);
        }
        record(content, manifest, (ver.saturating_add(1), ep, 0))?;
        content.custody_changes();
        Ok(())
    }

    /// Records the next revision of the head version.
    pub fn rewrap(
        &mut self,
        by: Address,
        id: ContentId,
        manifest: B256,
        ver: u32,
        rev: u32,
    ) -> Result<(), Refused> {
        let content = self.allowed(id, by, Permission::Admin)?;
        if (content.head.0, content.head.2) != (ver, rev) {
            return Err(Refused::Stale);
        }
        let head = (ver, content.head.1, rev.saturating_add(1));
        record(content, manifest, head)
    }

    /// A new owner's rewrap.
    pub fn claim(&mut self, by: Address, id: ContentId, manifest: B256) -> Result<(), Refused> {
        let content = self.owned(id, by)?;
        if content.claimed == content.generation {
            return Err(Refused::NothingToClaim);
        }
        let (ver, ep, rev) = content.head;
        record(content, manifest, (ver, ep, rev.saturating_add(1)))?;
        content.claimed = content.generation;
        Ok(())
    }

    /// Gives `who` a level for a term.
    pub fn grant(
        &mut self,
        by: Address,
        id: ContentId,
        who: Address,
        level: Permission,
        term: Term,
    ) -> Result<(), Refused> {
        let now = self.now;
        let content = self.allowed(id, by, Permission::Admin)?;
        if who == content.owner {
            return Err(Refused::InvalidAccount);
        }
        if level == Permission::None {
            return Err(Refused::InvalidLevel);
        }
        let old = content.row(who, 0);
        let standing = content.standing(old, now);
        if level.max(standing) == Permission::Admin && by != content.owner {
            return Err(Refused::OwnerOnly);
        }
        let counts = |term: Term| term.not_before <= now && term.from_epoch <= content.epoch;
        if level < standing || (standing > Permission::None && counts(old.term) && !counts(term)) {
            return Err(Refused::WouldLower);
        }
        write(content, who, 0, level, term, now)
    }

    /// A grant that `by` signed earlier; signature, nonce and deadline are the caller's to check.
    pub fn grant_signed(&mut self, grant: &Grant) -> Result<(), Refused> {
        let id = ContentId::from(grant.id);
        let content = self.known(id)?;
        let revocations = content.row(grant.who, 0).revocations;
        if (content.generation, revocations) != (grant.generation, grant.revocations) {
            return Err(Refused::StaleGrant);
        }
        // `grant` refuses NONE, as it refuses a level that does not exist.
        let level = Permission::from_level(grant.level).unwrap_or_default();
        let term = Term { not_before: grant.notBefore, expires: grant.expires, from_epoch: grant.fromEpoch };
        self.grant(grant.by, id, grant.who, level, term)
    }

    /// Takes back the row of people.
    pub fn revoke(&mut self, by: Address, id: ContentId, who: Address) -> Result<(), Refused> {
        let now = self.now;
        let content = self.allowed(id, by, Permission::Admin)?;
        if content.standing(content.row(who, 0), now) == Permission::Admin && by != content.owner {
            return Err(Refused::OwnerOnly);
        }
        clear(content, who, 0);
        Ok(())
    }

    /// Gives up the sender's own row of people.
    pub fn renounce(&mut self, by: Address, id: ContentId) -> Result<(), Refused> {
        clear(self.known(id)?, by, 0);
        Ok(())
    }

    /// Lets a module write rows, or stops it.
    pub fn set_module(
        &mut self,
        by: Address,
        id: ContentId,
        module: Address,
        on: bool,
    ) -> Result<(), Refused> {
        let modules = &mut self.owned(id, by)?.modules;
        let places = modules.len();
        match modules.iter_mut().find(|(known, _)| *known == module) {
            Some((_, enabled)) => *enabled = on,
            None if module.is_zero() || !on => return Err(Refused::NotAModule),
            None if places >= MODULES_MAX => return Err(Refused::TooMany),
            None => modules.push((module, true)),
        }
        Ok(())
    }

    /// A module writes its READ row of `who`.
    pub fn module_grant(
        &mut self,
        module: Address,
        id: ContentId,
        who: Address,
        term: Term,
    ) -> Result<(), Refused> {
        let now = self.now;
        let content = self.known(id)?;
        let (source, enabled) = source_of(content, module).ok_or(Refused::NotAModule)?;
        if !enabled {
            return Err(Refused::NotAModule);
        }
        write(content, who, source, Permission::Read, term, now)
    }

    /// A module clears its row of `who`.
    pub fn module_clear(&mut self, module: Address, id: ContentId, who: Address) -> Result<(), Refused> {
        let content = self.known(id)?;
        let (source, _) = source_of(content, module).ok_or(Refused::NotAModule)?;
        clear(content, who, source);
        Ok(())
    }

    /// READ for every account.
    pub fn set_public(&mut self, by: Address, id: ContentId, on: bool) -> Result<(), Refused> {
        self.allowed(id, by, Permission::Admin)?.public = on;
        Ok(())
    }

    /// READ for whom the gate lets in.
    pub fn set_gate(&mut self, by: Address, id: ContentId, gate: Option<Gate>) -> Result<(), Refused> {
        self.allowed(id, by, Permission::Admin)?.gate = gate;
        Ok(())
    }

    /// Puts the content into a collection from the next epoch on, or takes it out.
    pub fn set_parent(
        &mut self,
        by: Address,
        id: ContentId,
        parent: Option<ContentId>,
    ) -> Result<(), Refused> {
        self.allowed(id, by, Permission::Admin)?;
        if let Some(parent) = parent {
            self.allowed(parent, by, Permission::Write)?;
            let line: Vec<_> = self.line(Some(parent)).take(ANCESTORS_MAX.saturating_add(1)).collect();
            if line.len() > ANCESTORS_MAX || line.contains(&id) {
                return Err(Refused::InvalidParent);
            }
        }
        let content = self.known(id)?;
        content.epoch = content.epoch.saturating_add(1);
        content.parents.insert(content.epoch, parent);
        Ok(())
    }

    /// Begins the next epoch.
    pub fn rotate(&mut self, by: Address, id: ContentId) -> Result<(), Refused> {
        let content = self.allowed(id, by, Permission::Admin)?;
        content.epoch = content.epoch.saturating_add(1);
        Ok(())
    }

    /// Names the custodians.
    pub fn set_custody(
        &mut self,
        by: Address,
        id: ContentId,
        custodians: Vec<Address>,
    ) -> Result<(), Refused> {
        let content = self.allowed(id, by, Permission::Admin)?;
        let changes = content.changes.entry(content.head.0).or_default();
        if custodians.len() > CUSTODIANS_MAX || *changes >= CUSTODY_CHANGES_MAX {
            return Err(Refused::TooMany);
        }
        *changes = changes.saturating_add(1);
        content.custodians = custodians;
        content.custody_changes();
        Ok(())
    }

    /// Who was in custody at some time while `version` was the head, in ascending order.
    pub fn custody_of_version(&self, id: ContentId, version: u32) -> Vec<Address> {
        let named = self.contents.get(&id).and_then(|content| content.custody.get(&version));
        let mut named = named.cloned().unwrap_or_default();
        named.sort();
        named.dedup();
        named
    }

    /// Sets the flags.
    pub fn set_flags(&mut self, by: Address, id: ContentId, flags: u8) -> Result<(), Refused> {
        let content = self.owned(id, by)?;
        if flags > 7 {
            return Err(Refused::InvalidFlags);
        }
        content.flags = flags;
        Ok(())
    }

    /// Gives the content to `to`; `by` must be the owner.
    pub fn transfer(&mut self, by: Address, to: Address, id: ContentId) -> Result<(), Refused> {
        if to.is_zero() {
            return Err(Refused::ERC721InvalidReceiver);
        }
        let content = self.known(id)?;
        if by != content.owner {
            return Err(Refused::ERC721InsufficientApproval);
        }
        if content.flags & FLAG_SOULBOUND != 0 {
            return Err(Refused::Soulbound);
        }
        let had_parent = content.parent(content.epoch).is_some();
        content.owner = to;
        content.generation = content.generation.saturating_add(1);
        content.epoch = content.epoch.saturating_add(1);
        content.public = false;
        content.gate = None;
        content.modules.iter_mut().for_each(|(_, enabled)| *enabled = false);
        if had_parent {
            content.parents.insert(content.epoch, None);
        }
        Ok(())
    }

    /// (version, epoch, revision) of a recorded manifest.
    pub fn version_of(&self, id: ContentId, manifest: B256) -> Option<(u32, u32, u32)> {
        self.contents.get(&id)?.manifests.get(&manifest).copied()
    }

    /// The highest level of `who` at the content's epoch.
    pub fn level_of(&self, id: ContentId, who: Address) -> Permission {
        let Some(content) = self.contents.get(&id) else { return Permission::None };
        let authority = content.authority(who, self.now);
        let may_read = self.answer(id, who, Some(content.epoch), self.now, self.now).is_allowed();
        authority.max(if may_read { Permission::Read } else { Permission::None })
    }

    /// The owner.
    pub fn owner_of(&self, id: ContentId) -> Option<Address> {
        self.contents.get(&id).map(|content| content.owner)
    }

    /// The content's generation and how often the row of `who` was taken back: what a signed grant must name.
    pub fn grant_state(&self, id: ContentId, who: Address) -> Option<(u32, u32)> {
        self.contents.get(&id).map(|content| (content.generation, content.row(who, 0).revocations))
    }

    /// A content and its collections from the inside out, each at its own epoch.
    fn line(&self, first: Option<ContentId>) -> impl Iterator<Item = ContentId> {
        std::iter::successors(first, |id| {
            self.contents.get(id).and_then(|content| content.parent(content.epoch))
        })
    }

    fn answer(&self, id: ContentId, who: Address, epoch: Option<u32>, starts: u64, ends: u64) -> Decision {
        let Some(content) = self.contents.get(&id) else { return Decision::Deny(Denial::UnknownContent) };
        let epoch = epoch.unwrap_or(content.head.1);
        if who == content.owner || content.public {
            return Decision::Allow { until: None };
        }
        let own = content.rows_allow(who, epoch, starts, ends);
        let collections = self.line(content.parent(epoch)).take(ANCESTORS_MAX);
        let lets_in = |content: &Content| content.gate.is_some_and(|gate| gate(who));
        let through = lets_in(content)
            || collections.filter_map(|id| self.contents.get(&id)).any(|collection| {
                who == collection.owner
                    || collection.public
                    || lets_in(collection)
                    || collection.rows_allow(who, collection.epoch, starts, ends).is_allowed()
            });
        if through && !own.is_allowed() { Decision::Allow { until: ends.checked_add(1) } } else { own }
    }

    fn known(&mut self, id: ContentId) -> Result<&mut Content, Refused> {
        self.contents.get_mut(&id).ok_or(Refused::UnknownContent)
    }

    fn owned(&mut self, id: ContentId, by: Address) -> Result<&mut Content, Refused> {
        let content = self.known(id)?;
        if by == content.owner { Ok(content) } else { Err(Refused::OwnerOnly) }
    }

    fn allowed(&mut self, id: ContentId, by: Address, needed: Permission) -> Result<&mut Content, Refused> {
        let now = self.now;
        let content = self.known(id)?;
        if content.authority(by, now) >= needed { Ok(content) } else { Err(Refused::Denied) }
    }
}

impl AccessControl for MemoryAcl {
    fn decide(&self, content: ContentId, account: Address, at: At) -> Result<Decision, AclError> {
        if !matches!(at.block, BlockRef::Head | BlockRef::Final) {
            return Err(AclError::UnknownBlock(at.block));
        }
        let (starts, ends) = (at.starts.unwrap_or(self.now), at.ends.unwrap_or(self.now));
        Ok(self.answer(content, account, at.epoch, starts, ends))
    }
}

fn record(content: &mut Content, manifest: B256, place: (u32, u32, u32)) -> Result<(), Refused> {
    if manifest.is_zero() {
        return Err(Refused::ManifestMissing);
    }
    if content.manifests.contains_key(&manifest) {
        return Err(Refused::ManifestRecorded);
    }
    content.manifests.insert(manifest, place);
    content.head = place;
    Ok(())
}

fn source_of(content: &Content, module: Address) -> Option<(usize, bool)> {
    let (place, (_, enabled)) =
        content.modules.iter().enumerate().find(|(_, (known, _))| *known == module)?;
    Some((place.checked_add(1)?, *enabled))
}

fn write(
    content: &mut Content,
    who: Address,
    source: usize,
    level: Permission,
    term: Term,
    now: u64,
) -> Result<(), Refused> {
    if who.is_zero() {
        return Err(Refused::InvalidAccount);
    }
    let empty = term.expires != 0 && term.expires <= term.not_before.max(now);
    if empty || term.from_epoch == u32::MAX {
        return Err(Refused::InvalidTerm);
    }
    let generation = content.generation;
    let row = content.rows.entry((who, source)).or_default();
    *row = Row { level, generation, term, revocations: row.revocations };
    Ok(())
}

fn clear(content: &mut Content, who: Address, source: usize) {
    let row = content.rows.entry((who, source)).or_default();
    *row = Row { revocations: row.revocations.saturating_add(1), ..Row::default() };
}
