//! The gate before every block that leaves: the chain's permission, asked at the head.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use alloy_primitives::{Address, B256};
use cid::Cid;
use lightstreams_acl::{AclError, At, BlockRef};
use lightstreams_store::{Requester, ServePolicy};

use crate::vault::{Belonging, ChainHead, ChainView, ContentIndex, Gate};

/// Decisions that are remembered at most; with more, all are asked anew.
const CACHE_MAX: usize = 1 << 16;
/// Seconds for which a decision is remembered at most, new head or not.
const CACHE_SECONDS_MAX: u64 = 30;

/// The time in Unix milliseconds, whenever it is asked.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Lets blocks of contents go to accounts that may read them, by the chain's head.
///
/// The manifest and the public card are for everyone; headers and payloads for accounts with permission, for accounts
/// in custody, and for everyone once the content is public. A block that several contents gate needs all of them. A
/// block of no content leaves only if it is pinned as public. What cannot be found out is denied, and so is
/// everything private while the head is stale.
pub struct PermissionGate {
    index: Arc<ContentIndex>,
    view: Arc<dyn ChainView>,
    clock: Clock,
    cache: Mutex<Cache>,
}

/// Decisions at one head.
#[derive(Default)]
struct Cache {
    head: B256,
    decisions: HashMap<(Option<Address>, Gate), Remembered>,
}

#[derive(Clone, Copy)]
struct Remembered {
    allowed: bool,
    /// Unix seconds from which on it is asked again.
    until: u64,
}

impl PermissionGate {
    /// A gate over the contents of `index`, by the chain of `view` and the time of `clock`.
    pub fn new(index: Arc<ContentIndex>, view: Arc<dyn ChainView>, clock: Clock) -> Self {
        Self { index, view, clock, cache: Mutex::default() }
    }

    fn allows_gates(&self, account: Option<Address>, gates: &[Gate]) -> Result<bool, AclError> {
        let now_ms = (self.clock)();
        let head = self.view.head()?;
        if head.is_stale(now_ms) {
            return Ok(false);
        }
        let now = head.time.max(now_ms / 1000);
        for gate in gates {
            if !self.remembered(account, gate, &head, now)? {
                return Ok(false);
            }
        }
        Ok(!gates.is_empty())
    }

    /// A decision made at this very head, as long as time does not change it. A new head makes every decision anew:
    /// rows, custody, gates and modules may all have changed with it.
    fn remembered(
        &self,
        account: Option<Address>,
        gate: &Gate,
        head: &ChainHead,
        now: u64,
    ) -> Result<bool, AclError> {
        let key = (account, *gate);
        {
            let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            if cache.head != head.block.hash || cache.decisions.len() >= CACHE_MAX {
                cache.head = head.block.hash;
                cache.decisions.clear();
            }
            match cache.decisions.get(&key) {
                Some(remembered) if now < remembered.until => return Ok(remembered.allowed),
                _ => {}
            }
        }
        let decision = self.decide(account, gate, head, now)?;
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.head == head.block.hash {
            cache.decisions.insert(key, decision);
        }
        Ok(decision.allowed)
    }

    fn decide(
        &self,
        account: Option<Address>,
        gate: &Gate,
        head: &ChainHead,
        now: u64,
    ) -> Result<Remembered, AclError> {
        let denied = Remembered { allowed: false, until: now.saturating_add(1) };
        // A content of another chain or registry is nothing that this view could answer for.
        if gate.place.domain != self.view.domain() {
            return Ok(denied);
        }
        let (content, block) = (gate.place.content, BlockRef::Hash(head.block.hash));
        let Some(state) = self.view.content(content, block)? else { return Ok(denied) };
        let always = Remembered { allowed: true, until: now.saturating_add(CACHE_SECONDS_MAX) };
        if state.is_public || account.is_some_and(|account| state.custody.contains(&account)) {
            return Ok(always);
        }
        let Some(account) = account else { return Ok(denied) };
        let at = At { epoch: gate.epoch, ..At::block(block) }.clock(head.time.max(1), now.max(1));
        Ok(match self.view.decide(content, account, at)? {
            lightstreams_acl::Decision::Allow { until } => {
                Remembered { until: until.unwrap_or(u64::MAX).min(always.until), ..always }
            }
            lightstreams_acl::Decision::Deny(_) => denied,
        })
    }
}

impl ServePolicy for PermissionGate {
    fn allows(&self, requester: &Requester, cid: &Cid) -> bool {
        if *requester == Requester::Local {
            return true;
        }
        match self.index.belonging(cid) {
            Belonging::Nothing => false,
            Belonging::Public => true,
            Belonging::Gated(gates) => {
                let account = requester.account().map(|account| Address::new(*account));
                self.allows_gates(account, &gates).unwrap_or(false)
            }
        }
    }
}

impl fmt::Debug for PermissionGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PermissionGate").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::atomic::{AtomicU64, Ordering};

    use lightstreams_acl::ContentId;
    use lightstreams_store::testing::FaultyDisk;
    use lightstreams_store::{Block, MemoryStore, PeerId};

    use super::*;
    use crate::vault::made_up::{Facts, MadeUp, REGISTRY, Row};
    use crate::vault::{ContentState, Domain, Place};

    const NOW: u64 = 1_800_000_000;
    const READER: Address = Address::repeat_byte(0x77);
    const CUSTODIAN: Address = Address::repeat_byte(0x88);
    const STRANGER: Address = Address::repeat_byte(0x99);

    fn content() -> ContentId {
        ContentId(B256::repeat_byte(0xc0))
    }

    fn facts() -> Facts {
        let state =
            ContentState { owner: Address::ZERO, flags: 0, is_public: false, custody: vec![CUSTODIAN] };
        Facts {
            time: NOW,
            contents: [(content(), state)].into(),
            versions: BTreeMap::new(),
            version_custody: Vec::new(),
            rows: [((content(), READER), Row::default())].into(),
            revoked: BTreeSet::new(),
            accepted: None,
        }
    }

    struct Case {
        gate: PermissionGate,
        view: Arc<MadeUp>,
        now_ms: Arc<AtomicU64>,
        private: Block,
    }

    fn case(facts: Facts) -> Case {
        let (index, private) = indexed(REGISTRY);
        let view = Arc::new(MadeUp::new(vec![facts], 0));
        let now_ms = Arc::new(AtomicU64::new(NOW * 1000));
        let clock: Clock = {
            let now_ms = now_ms.clone();
            Arc::new(move || now_ms.load(Ordering::Relaxed))
        };
        Case { gate: PermissionGate::new(index, view.clone(), clock), view, now_ms, private }
    }

    fn indexed(registry: Address) -> (Arc<ContentIndex>, Block) {
        let private = Block::raw("private");
        let index = ContentIndex::open(Arc::new(FaultyDisk::new(1)), &MemoryStore::default()).unwrap();
        let place = Place { domain: Domain { chain_id: 161, registry }, content: content() };
        index.claim(&place, [private.cid()]).unwrap();
        index.pin_public(Block::raw("public").cid()).unwrap();
        (Arc::new(index), private)
    }

    impl Case {
        fn allows(&self, account: Option<Address>) -> bool {
            let id = PeerId::from_bytes(&[1; 38]).unwrap();
            let account = account.map(|account| account.0.0);
            let peer = self.gate.allows(&Requester::Peer { id, account }, self.private.cid());
            let http = self.gate.allows(&Requester::Http { account }, self.private.cid());
            assert_eq!(peer, http, "every door asks the same gate");
            peer
        }

        fn asked(&self) -> usize {
            self.view.asked.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn private_blocks_go_to_readers_and_custodians_only() {
        let case = case(facts());
        assert!(case.allows(Some(READER)));
        assert!(case.allows(Some(CUSTODIAN)));
        assert!(!case.allows(Some(STRANGER)));
        assert!(!case.allows(None));
        assert!(case.gate.allows(&Requester::Local, case.private.cid()));
    }

    #[test]
    fn a_block_of_no_content_leaves_only_if_it_is_pinned_as_public() {
        let case = case(facts());
        let anyone = Requester::Http { account: None };
        let reader = Requester::Http { account: Some(READER.0.0) };
        assert!(case.gate.allows(&anyone, Block::raw("public").cid()));
        assert!(!case.gate.allows(&anyone, Block::raw("nobody's").cid()));
        assert!(!case.gate.allows(&reader, Block::raw("nobody's").cid()));
    }

    #[test]
    fn public_content_is_for_everyone() {
        let mut public = facts();
        public.contents.get_mut(&content()).unwrap().is_public = true;
        let case = case(public);
        assert!(case.allows(None));
        assert!(case.allows(Some(STRANGER)));
    }

    #[test]
    fn what_cannot_be_found_out_is_denied() {
        let mut case = case(facts());
        case.now_ms.store(NOW * 1000 + 30_001, Ordering::Relaxed);
        assert!(!case.allows(Some(READER)), "the head is stale");
        let mut view = MadeUp::new(vec![facts()], 0);
        view.fails = true;
        case.gate.view = Arc::new(view);
        assert!(!case.allows(Some(READER)), "there is no head");
        let mut gone = facts();
        gone.contents.clear();
        case.gate.view = Arc::new(MadeUp::new(vec![gone], 0));
        case.now_ms.store(NOW * 1000, Ordering::Relaxed);
        assert!(!case.allows(Some(CUSTODIAN)), "the content is not there");
    }

    #[test]
    fn a_content_of_another_registry_is_denied() {
        let mut case = case(facts());
        case.gate.index = indexed(STRANGER).0;
        assert!(!case.allows(Some(READER)));
    }

    #[test]
    fn decisions_are_remembered_until_a_new_head_or_the_end_of_a_term() {
        let mut ending = facts();
        ending.rows.insert((content(), READER), Row { ends: NOW + 5, ..Row::default() });
        let case = case(ending.clone());
        assert!(case.allows(Some(READER)));
        assert!(case.allows(Some(READER)));
        assert_eq!(case.asked(), 1, "asked once");
        case.now_ms.store((NOW + 5) * 1000, Ordering::Relaxed);
        assert!(!case.allows(Some(READER)), "the term ended, though no block came");

        // A new head in which the row is gone.
        let mut case = self::case(ending.clone());
        assert!(case.allows(Some(READER)));
        let mut revoked = ending.clone();
        revoked.rows.clear();
        case.gate.view = Arc::new(MadeUp::new(vec![ending, revoked], 0));
        assert!(!case.allows(Some(READER)));
    }

    #[test]
    fn a_denial_is_asked_again_after_a_second() {
        let mut later = facts();
        later.rows.insert((content(), READER), Row { starts: NOW, ..Row::default() });
        later.time = NOW - 2;
        let case = case(later);
        assert!(!case.allows(Some(READER)), "a term begins by the chain's time, not by ours");
        let asked = case.asked();
        assert!(!case.allows(Some(READER)));
        assert_eq!(case.asked(), asked);
        case.now_ms.store((NOW + 1) * 1000, Ordering::Relaxed);
        assert!(!case.allows(Some(READER)));
        assert_eq!(case.asked(), asked + 1);
    }
}
