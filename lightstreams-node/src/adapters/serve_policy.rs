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
