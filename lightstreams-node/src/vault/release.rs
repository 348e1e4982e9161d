//! The release engine: a custodian's answer to a request for a key.
//!
//! ```text
//! request --shape, time--> for us? --view fresh, custody--> signature --known?--> version --permission at F .. head-->
//!         --unwrap H, commitment with the chain's ids--> wrap to the one-time key --> log, durable --> Release
//! ```
//!
//! The engine has no socket, no clock and no chain: it is asked with all of them as arguments, and answers with a
//! Release or a signed, typed refusal. A refusal records nothing, so that the same request may come again; a release
//! is in the log, durable, before it is returned. The file key lives for the length of one call.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use alloy_primitives::{Address, B256, Bytes};
use cid::Cid;
use lightstreams_acl::{
    AccessControl, AclError, At, BlockRef, ContentId, Decision, Denial, FLAG_PQ_ONLY, FLAG_STRICT_AUDIT,
};
use lightstreams_crypto::ed25519::SigningKey;
use lightstreams_crypto::{Error as CryptoError, Header, X25519Identity, X25519Recipient};
use lightstreams_store::{BlockStore, StoreError};
use rand::CryptoRng;

use super::manifest::{Manifest, Place, VersionInfo};
use super::messages::{CLOCK_SKEW_SECONDS, Domain, KeyRequest, ReleaseRequest, Signed};
use super::receipts::{Known, LoggedRelease, ReleaseLog, ReleaseLogError};
use super::records::{
    Answer, BlockPoint, Finality, Receipt, Refusal, RefusalCode, Release, SEEDERS_MAX, sha256,
};
use super::signature;

/// How far ahead a request may set its end.
pub const REQUEST_SECONDS_MAX: u64 = 600;
/// Within how long a receipt is covered by a published root.
const MERGE_DELAY_SECONDS: u64 = 24 * 60 * 60;
/// Blocks between the final block and the head that are asked at most; with more, the view counts as unknown.
pub const PATH_MAX: usize = 4096;

/// The head of the chain, as this node verified it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainHead {
    /// The block.
    pub block: BlockPoint,
    /// Its time, in Unix seconds.
    pub time: u64,
    /// The age in milliseconds from which on it is stale; `None` where heads do not age (`dev`).
    pub stale_after_ms: Option<u64>,
}

impl ChainHead {
    /// Whether the head is too old to be believed at `now_ms` (Unix milliseconds).
    pub fn is_stale(&self, now_ms: u64) -> bool {
        let age = now_ms.saturating_sub(self.time.saturating_mul(1000));
        self.stale_after_ms.is_some_and(|limit| age > limit)
    }
}

/// The head and what of its ancestors is final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tip {
    /// The head.
    pub head: ChainHead,
    /// The newest final block.
    pub final_block: BlockPoint,
    /// The final block's time, in Unix seconds.
    pub final_time: u64,
    /// How sure it is.
    pub finality: Finality,
    /// The blocks between the two, in ascending order, neither included; all ancestors of the head.
    pub between: Vec<BlockPoint>,
}

/// What the registry says of a content at a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentState {
    /// The owner.
    pub owner: Address,
    /// The flags.
    pub flags: u8,
    /// Whether every account may read.
    pub is_public: bool,
    /// The accounts in custody.
    pub custody: Vec<Address>,
}

/// The chain, as the engine sees it. Every answer comes from a state that this node verified, or is an error.
pub trait ChainView: AccessControl {
    /// The registry that this view is of.
    fn domain(&self) -> Domain;
    /// The head.
    fn head(&self) -> Result<ChainHead, AclError>;
    /// The head, the newest final block, and the way between; an error where the final block left the chain.
    fn tip(&self) -> Result<Tip, AclError>;
    /// The content at `block`, or `None` if it is not registered there.
    fn content(&self, content: ContentId, block: BlockRef) -> Result<Option<ContentState>, AclError>;
    /// Which version `manifest` is at `block`, or `None` if it is not recorded there.
    fn version_of(
        &self,
        content: ContentId,
        manifest: B256,
        block: BlockRef,
    ) -> Result<Option<VersionInfo>, AclError>;
    /// The accounts that were in custody when the version was recorded.
    fn custody_of_version(
        &self,
        content: ContentId,
        version: u32,
        block: BlockRef,
    ) -> Result<Vec<Address>, AclError>;
    /// Whether a row that a module wrote (a sale) lets the account read, by itself, at `at`.
    fn has_bought(&self, content: ContentId, account: Address, at: At) -> Result<bool, AclError>;
    /// Whether the account is a contract that accepts `sig` over `hash` at `block` (ERC-1271, under a gas cap).
    fn accepts_signature(
        &self,
        account: Address,
        hash: B256,
        sig: &Bytes,
        block: BlockRef,
    ) -> Result<bool, AclError>;
}

const _: Option<&dyn ChainView> = None;

/// Who answers: an account in custody, its holder key, and the age identity that headers are wrapped to.
pub struct Custodian {
    /// The account that contents name.
    pub account: Address,
    /// The key that signs receipts and refusals.
    pub holder: SigningKey,
    /// The identity that unwraps headers.
    pub identity: X25519Identity,
}

impl fmt::Debug for Custodian {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Custodian").field("account", &self.account).finish_non_exhaustive()
    }
}

/// Decides for whose contents the operator acts: given a content and its owner.
pub type Admission = dyn Fn(&Place, &Address) -> bool + Send + Sync;

/// A custodian that answers requests for keys.
pub struct ReleaseEngine {
    custodian: Custodian,
    admission: Box<Admission>,
    log: Mutex<ReleaseLog>,
    refusals: Mutex<BTreeMap<RefusalCode, u64>>,
}

/// An answer, and what failed on this side if it is `unavailable` or `stale_view` for that reason.
#[derive(Debug)]
pub struct Answered {
    /// What goes to the reader.
    pub answer: Answer,
    /// What the operator should know.
    pub fault: Option<Fault>,
}

/// Why a custodian could not answer a request that may be right.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A block is not held: fetch it, and the same request can be answered.
    #[error("the block {cid} is not held here")]
    BlockMissing {
        /// Its name.
        cid: Cid,
    },
    /// No stanza of the header is for this custodian's identity.
    #[error("the header {cid} is not wrapped to this custodian")]
    NotWrappedHere {
        /// The header's name.
        cid: Cid,
    },
    /// The recipient's kind is not served by this version.
    #[error("recipients of kind {kind} are not supported")]
    RecipientKind {
        /// The first byte of the recipient.
        kind: u8,
    },
    /// The chain could not be asked.
    #[error("the chain could not be asked")]
    Chain(#[from] AclError),
    /// The head is [`PATH_MAX`] blocks or more before the final block.
    #[error("{blocks} blocks are not final yet, too many to ask")]
    LongPath {
        /// How many.
        blocks: usize,
    },
    /// The block store failed.
    #[error("the block store failed")]
    Store(#[from] StoreError),
    /// The log of releases failed.
    #[error("the log of releases failed")]
    Log(#[from] ReleaseLogError),
    /// The key could not be wrapped.
    #[error("the key could not be wrapped")]
    Wrap(#[source] CryptoError),
}

/// Why there is no release.
struct Stop {
    code: RefusalCode,
    retry_s: Option<u64>,
    fault: Option<Box<Fault>>,
}

impl From<RefusalCode> for Stop {
    fn from(code: RefusalCode) -> Self {
        Self { code, retry_s: None, fault: None }
    }
}

impl<F: Into<Fault>> From<F> for Stop {
    fn from(fault: F) -> Self {
        Self { code: RefusalCode::Unavailable, retry_s: None, fault: Some(Box::new(fault.into())) }
    }
}

/// What a refusal says beside its code.
#[derive(Default)]
struct Seen {
    request: Option<B256>,
    head: Option<BlockPoint>,
}

/// All that a request is judged with.
struct Case<'a> {
    request: &'a Signed<KeyRequest>,
    digest: B256,
    content: ContentId,
    view: &'a dyn ChainView,
    tip: Tip,
    now_s: u64,
}

impl ReleaseEngine {
    /// A custodian that acts for the contents that `admission` admits, and records in `log`.
    pub fn new(custodian: Custodian, admission: Box<Admission>, log: ReleaseLog) -> Self {
        Self { custodian, admission, log: Mutex::new(log), refusals: Mutex::default() }
    }

    /// The key that signs this custodian's answers.
    pub fn holder(&self) -> B256 {
        B256::new(self.custodian.holder.public())
    }

    /// Answers the bytes of a [`ReleaseRequest`] at `now_ms` (Unix milliseconds).
    ///
    /// `seeders` are multiaddresses to name in a release. Blocks its caller for a few milliseconds of chain calls and
    /// one synced write.
    pub fn answer(
        &self,
        request: &[u8],
        view: &dyn ChainView,
        store: &dyn BlockStore,
        seeders: &[String],
        now_ms: u64,
        rng: &mut dyn CryptoRng,
    ) -> Answered {
        let mut seen = Seen::default();
        match self.judge(request, view, store, seeders, now_ms, rng, &mut seen) {
            Ok(release) => Answered { answer: Answer::Release(release), fault: None },
            Err(stop) => {
                *lock(&self.refusals).entry(stop.code).or_default() += 1;
                let refusal = Refusal {
                    request: seen.request,
                    code: stop.code,
                    head: seen.head,
                    at_ms: now_ms,
                    retry_s: stop.retry_s,
                    holder: self.holder(),
                };
                Answered {
                    answer: Answer::Refusal(refusal.sign(&self.custodian.holder)),
                    fault: stop.fault.map(|fault| *fault),
                }
            }
        }
    }

    /// How often each refusal was given since the start; refusals are counted, not logged.
    pub fn refusals(&self) -> BTreeMap<RefusalCode, u64> {
        lock(&self.refusals).clone()
    }

    /// The size and the Merkle root of the log of releases.
    pub fn log_root(&self) -> (u64, B256) {
        let log = lock(&self.log);
        (log.len(), log.root())
    }

    /// The proof that the release at `index` is under the root, with the size and root it leads to.
    pub fn inclusion_proof(&self, index: u64) -> Option<(Vec<B256>, u64, B256)> {
        let log = lock(&self.log);
        log.inclusion_proof(index).map(|proof| (proof, log.len(), log.root()))
    }

    #[allow(clippy::too_many_arguments)]
    fn judge(
        &self,
        bytes: &[u8],
        view: &dyn ChainView,
        store: &dyn BlockStore,
        seeders: &[String],
        now_ms: u64,
        rng: &mut dyn CryptoRng,
        seen: &mut Seen,
    ) -> Result<Release, Stop> {
        let now_s = now_ms / 1000;
        let request = ReleaseRequest::decode(bytes).map_err(|_| RefusalCode::Malformed)?;
        let digest = request.signed.digest();
        seen.request = Some(digest);
        let recipient = self.judge_shape(&request, view.domain(), now_s)?;

        let tip =
            view.tip().map_err(|error| Stop { code: RefusalCode::StaleView, ..Fault::from(error).into() })?;
        seen.head = Some(tip.head.block);
        if tip.head.is_stale(now_ms) {
            return Err(Stop { retry_s: Some(1), ..RefusalCode::StaleView.into() });
        }
        if tip.between.len() >= PATH_MAX {
            let fault = Fault::LongPath { blocks: tip.between.len() };
            return Err(Stop { code: RefusalCode::StaleView, ..fault.into() });
        }
        let request = &request.signed;
        let content = ContentId(request.msg.content);
        let case = Case { request, digest, content, view, tip, now_s };

        let custody = self.judge_custody(&case)?;
        case.judge_signature()?;
        match self.known(&case)? {
            Known::Answered(release) => {
                case.judge_head(release.receipt.epoch)?;
                return Ok(*release);
            }
            known => refuse_known(known)?,
        }
        let version = case.judge_version()?;
        let manifest = case.manifest(&version, store)?;
        case.judge_flags(custody.flags)?;
        case.judge_permission(version.epoch, custody.by_version)?;
        let header = self.release_header(&manifest, &recipient, store, rng)?;

        let mut salt = [0; 16];
        rng.fill_bytes(&mut salt);
        let receipt = Receipt {
            request: digest,
            content: content.0,
            version: version.version,
            revision: version.revision,
            epoch: version.epoch,
            reader: request.msg.reader,
            header_hash: sha256(&header),
            final_block: case.tip.final_block,
            head: case.tip.head.block,
            finality: case.tip.finality,
            at_ms: now_ms,
            merge_delay_s: MERGE_DELAY_SECONDS,
            salt,
            holder: self.holder(),
        };
        let sig = receipt.sign(&self.custodian.holder);
        let seeders = seeders.iter().take(SEEDERS_MAX).cloned().collect();
        self.record(&case, Release { receipt, sig, header, seeders })
    }

    /// Shape, domain and time of the request, and that it asks us.
    fn judge_shape(
        &self,
        request: &ReleaseRequest,
        domain: Domain,
        now: u64,
    ) -> Result<X25519Recipient, Stop> {
        let msg = &request.signed.msg;
        if request.signed.domain != domain {
            return Err(RefusalCode::UnknownContent.into());
        }
        // Pages exist only for collections, and this registry has none whose items are released together.
        if request.after.is_some() {
            return Err(RefusalCode::Malformed.into());
        }
        if now > msg.not_after.saturating_add(CLOCK_SKEW_SECONDS) {
            return Err(RefusalCode::RequestExpired.into());
        }
        if msg.not_after > now.saturating_add(REQUEST_SECONDS_MAX + CLOCK_SKEW_SECONDS) {
            return Err(RefusalCode::Malformed.into());
        }
        let recipient = match msg.recipient.split_first() {
            Some((1, key)) => <[u8; 32]>::try_from(key)
                .ok()
                .and_then(|key| X25519Recipient::from_bytes(key).ok())
                .ok_or(RefusalCode::Malformed)?,
            Some((kind, _)) => return Err(Fault::RecipientKind { kind: *kind }.into()),
            None => return Err(RefusalCode::Malformed.into()),
        };
        if msg.holder != self.holder() {
            return Err(RefusalCode::WrongHolder.into());
        }
        Ok(recipient)
    }

    /// That our account is in custody, or was when the version was recorded, and that our operator admits the content.
    fn judge_custody(&self, case: &Case<'_>) -> Result<Custody, Stop> {
        let (at_final, at_head) = (case.at_final(), case.at_head());
        let head = case.view.content(case.content, at_head)?.ok_or(RefusalCode::UnknownContent)?;
        let Some(settled) = case.view.content(case.content, at_final)? else {
            return Err(case.not_final());
        };
        let place = Place { domain: case.request.domain, content: case.content };
        if !(self.admission)(&place, &settled.owner) {
            return Err(RefusalCode::Withheld.into());
        }
        let ours = |custody: &[Address]| custody.contains(&self.custodian.account);
        let flags = head.flags | settled.flags;
        match (ours(&settled.custody), ours(&head.custody)) {
            (true, true) => return Ok(Custody { flags, by_version: false }),
            (false, true) => return Err(case.not_final()),
            _ => {}
        }
        // Custody is over, but what was bought while it lasted goes on being released.
        let manifest = case.request.msg.manifest;
        let named = match case.view.version_of(case.content, manifest, at_final)? {
            Some(version) => ours(&case.view.custody_of_version(case.content, version.version, at_final)?),
            None => false,
        };
        match named {
            true => Ok(Custody { flags, by_version: true }),
            false => Err(RefusalCode::WrongHolder.into()),
        }
    }

    fn known(&self, case: &Case<'_>) -> Result<Known, Stop> {
        let mut log = lock(&self.log);
        log.recover(case.now_s)?;
        let KeyRequest { reader, nonce, .. } = case.request.msg;
        Ok(log.known(&case.digest, reader, nonce, case.now_s))
    }

    /// Unwraps the header, holds the key against the commitment at the chain's place, wraps it to the reader.
    fn release_header(
        &self,
        manifest: &Manifest,
        recipient: &X25519Recipient,
        store: &dyn BlockStore,
        rng: &mut dyn CryptoRng,
    ) -> Result<Vec<u8>, Stop> {
        let block = store.get(&manifest.header)?.ok_or(Fault::BlockMissing { cid: manifest.header })?;
        let (header, nonce) =
            Header::parse_block(block.data()).map_err(|_| RefusalCode::CommitmentMismatch)?;
        if nonce != manifest.payload_nonce() {
            return Err(RefusalCode::CommitmentMismatch.into());
        }
        let file_key = match header.unwrap(&[&self.custodian.identity]) {
            Ok(file_key) => file_key,
            Err(CryptoError::NoMatchingIdentity) => {
                return Err(Fault::NotWrappedHere { cid: manifest.header }.into());
            }
            // Mine, but broken: whoever made this header does not have the key.
            Err(_) => return Err(RefusalCode::CommitmentMismatch.into()),
        };
        // The context is the chain's, not the manifest's word: `manifest` was held against the chain before.
        if !manifest.commits_to(&file_key) {
            return Err(RefusalCode::CommitmentMismatch.into());
        }
        let header = Header::wrap(&file_key, &[recipient], rng).map_err(Fault::Wrap)?;
        Ok(header.as_bytes().to_vec())
    }

    /// Records the release; another thread may have answered the same request, or the same nonce, meanwhile.
    fn record(&self, case: &Case<'_>, release: Release) -> Result<Release, Stop> {
        let KeyRequest { reader, nonce, not_after, .. } = case.request.msg;
        let mut log = lock(&self.log);
        log.recover(case.now_s)?;
        match log.known(&case.digest, reader, nonce, case.now_s) {
            Known::Answered(earlier) => return Ok(*earlier),
            known => refuse_known(known)?,
        }
        log.record(LoggedRelease { nonce, not_after, release: release.clone() }, case.now_s)?;
        Ok(release)
    }
}

impl fmt::Debug for ReleaseEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReleaseEngine").field("custodian", &self.custodian).finish_non_exhaustive()
    }
}

struct Custody {
    flags: u8,
    /// Only by having been in custody when the version was recorded: for readers who bought.
    by_version: bool,
}

fn refuse_known(known: Known) -> Result<(), Stop> {
    match known {
        Known::Replayed => Err(RefusalCode::Replayed.into()),
        Known::TooMany { retry_s } => Err(Stop { retry_s: Some(retry_s), ..RefusalCode::RateLimited.into() }),
        Known::New | Known::Answered(_) => Ok(()),
    }
}

impl Case<'_> {
    fn at_head(&self) -> BlockRef {
        BlockRef::Hash(self.tip.head.block.hash)
    }

    fn at_final(&self) -> BlockRef {
        BlockRef::Hash(self.tip.final_block.hash)
    }

    fn not_final(&self) -> Stop {
        Stop { retry_s: Some(1), ..RefusalCode::NotFinal.into() }
    }

    /// ECDSA first, whatever code the account has; then its contract's word, final and at the head.
    fn judge_signature(&self) -> Result<(), Stop> {
        let reader = self.request.msg.reader;
        if signature::recover(&self.digest, &self.request.sig) == Some(reader) {
            return Ok(());
        }
        let sig = Bytes::from(self.request.sig.clone());
        for block in [self.at_final(), self.at_head()] {
            if !self.view.accepts_signature(reader, self.digest, &sig, block)? {
                return Err(RefusalCode::BadSignature.into());
            }
        }
        Ok(())
    }

    fn judge_version(&self) -> Result<VersionInfo, Stop> {
        let manifest = self.request.msg.manifest;
        if let Some(version) = self.view.version_of(self.content, manifest, self.at_final())? {
            return Ok(version);
        }
        match self.view.version_of(self.content, manifest, self.at_head())? {
            Some(_) => Err(self.not_final()),
            None => Err(RefusalCode::WrongVersion.into()),
        }
    }

    fn manifest(&self, version: &VersionInfo, store: &dyn BlockStore) -> Result<Manifest, Stop> {
        let cid = Manifest::cid_of(&self.request.msg.manifest);
        let block = store.get(&cid)?.ok_or(Fault::BlockMissing { cid })?;
        let manifest = Manifest::decode(block.data()).map_err(|_| RefusalCode::WrongVersion)?;
        let place = Place { domain: self.request.domain, content: self.content };
        manifest.verify_place(&place, version).map_err(|_| RefusalCode::WrongVersion)?;
        Ok(manifest)
    }

    fn judge_flags(&self, flags: u8) -> Result<(), Stop> {
        // Without a record of the access on chain there is nothing that could satisfy the flag, so it refuses.
        if flags & FLAG_STRICT_AUDIT != 0 {
            return Err(RefusalCode::AuditRequired.into());
        }
        if flags & FLAG_PQ_ONLY != 0 && self.request.msg.recipient.first() != Some(&2) {
            return Err(RefusalCode::PqRequired.into());
        }
        Ok(())
    }

    /// Whether the reader may read at the head, and why not.
    fn judge_head(&self, epoch: u32) -> Result<(), Stop> {
        match self.decide_head(epoch)? {
            Decision::Allow { .. } => Ok(()),
            Decision::Deny(denial) => Err(code_of(&denial).into()),
        }
    }

    fn decide_head(&self, epoch: u32) -> Result<Decision, AclError> {
        self.view.decide(self.content, self.request.msg.reader, self.head_question(epoch))
    }

    /// A term that had not begun by the final block: because it begins later, or because it was written later, as what is
    /// bought just now is, and only has to become final.
    fn not_begun(&self, epoch: u32, denial: &Denial) -> Result<Stop, AclError> {
        let reader = self.request.msg.reader;
        let settled = self.view.decide(self.content, reader, At::block(self.at_final()).epoch(epoch))?;
        let now = self.view.decide(self.content, reader, At::block(self.at_head()).epoch(epoch))?;
        let begins_later = matches!(settled, Decision::Deny(Denial::NotYetValid { .. }));
        Ok(match begins_later || !now.is_allowed() {
            true => code_of(denial).into(),
            false => self.not_final(),
        })
    }

    /// The head is asked with the strictest times: begun at the final block's, not ended at the later of the head's and
    /// our clock's. An idle chain would otherwise never see the end of a term.
    fn head_question(&self, epoch: u32) -> At {
        let ends = self.tip.head.time.max(self.now_s).max(1);
        At::block(self.at_head()).epoch(epoch).clock(self.tip.final_time.max(1), ends)
    }

    /// Permission at the final block and at every block after it up to the head: a grant counts once it is final, a
    /// revocation at once, and a grant after a revocation is a new one.
    fn judge_permission(&self, epoch: u32, bought_only: bool) -> Result<(), Stop> {
        let reader = self.request.msg.reader;
        let may = |at: At| -> Result<bool, Stop> {
            let allowed = self.view.decide(self.content, reader, at)?.is_allowed();
            Ok(allowed && (!bought_only || self.view.has_bought(self.content, reader, at)?))
        };
        match self.decide_head(epoch)? {
            Decision::Allow { .. } => {}
            Decision::Deny(denial @ Denial::NotYetValid { .. }) => {
                return Err(self.not_begun(epoch, &denial)?);
            }
            Decision::Deny(denial) => return Err(code_of(&denial).into()),
        }
        if bought_only && !self.view.has_bought(self.content, reader, self.head_question(epoch))? {
            return Err(RefusalCode::WrongHolder.into());
        }
        if !may(At::block(self.at_final()).epoch(epoch))? {
            return Err(self.not_final());
        }
        for block in &self.tip.between {
            if !may(At::block(BlockRef::Hash(block.hash)).epoch(epoch))? {
                return Err(self.not_final());
            }
        }
        Ok(())
    }
}

/// The refusal that stands for a denial.
pub fn code_of(denial: &Denial) -> RefusalCode {
    RefusalCode::parse(denial.code()).unwrap_or(RefusalCode::NotGranted)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
