//! Which accounts the peers of this node speak for, and the delegations that this node may show.
//!
//! ```text
//! reader's verb --POST /v1/delegation--> Held --/lightstreams/auth/1--> the other node's AccountBook --> its block gate
//! ```
//!
//! A delegation is judged once, when it is shown; from then on the connection speaks for the account until the
//! delegation ends or the peer is gone. A node that acts for several accounts shows one delegation for each.

use crate::vault::{AuthAnswer, Domain, PeerDelegation, RefusalCode, Signed, signature};
use alloy_primitives::Address;
use cid::Cid;
use libp2p::PeerId;
use lightstreams_store::{Requester, ServePolicy};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A peer speaks for at most this many accounts at a time; the one that ends first makes room.
const ACCOUNTS_PER_PEER_MAX: usize = 8;
/// This node holds delegations of at most this many accounts.
pub(super) const HELD_MAX: usize = 32;

/// The accounts that connected peers have proven.
#[derive(Debug, Default)]
pub struct AccountBook {
    peers: Mutex<HashMap<PeerId, Vec<(Address, u64)>>>,
}

impl AccountBook {
    /// Judges a delegation that `peer` shows at `now` (Unix seconds), and notes its account if it holds.
    pub fn judge(&self, peer: &PeerId, message: &[u8], domain: &Domain, now: u64) -> AuthAnswer {
        let refused = |code| AuthAnswer::Refused { code };
        let Ok(signed) = Signed::<PeerDelegation>::decode(message) else {
            return refused(RefusalCode::Malformed);
        };
        if signed.domain != *domain {
            return refused(RefusalCode::UnknownContent);
        }
        let said = &signed.msg;
        if said.peer_id != peer.to_bytes() {
            return refused(RefusalCode::WrongHolder);
        }
        if !said.holds_at(now) {
            return refused(RefusalCode::RequestExpired);
        }
        if signature::recover(&signed.digest(), &signed.sig) != Some(said.account) {
            return refused(RefusalCode::BadSignature);
        }
        self.note(*peer, said.account, said.not_after, now);
        AuthAnswer::Accepted { until: said.not_after }
    }

    fn note(&self, peer: PeerId, account: Address, until: u64, now: u64) {
        let mut peers = self.lock();
        let accounts = peers.entry(peer).or_default();
        accounts.retain(|(known, end)| *known != account && now < *end);
        if accounts.len() >= ACCOUNTS_PER_PEER_MAX {
            accounts.sort_by_key(|(_, end)| *end);
            accounts.remove(0);
        }
        accounts.push((account, until));
    }

    /// The accounts that `peer` speaks for at `now`.
    pub fn accounts(&self, peer: &PeerId, now: u64) -> Vec<Address> {
        let peers = self.lock();
        let known = peers.get(peer).map(Vec::as_slice).unwrap_or_default();
        known.iter().filter(|(_, until)| now < *until).map(|(account, _)| *account).collect()
    }

    /// Forgets what `peer` proved, when its last connection closes.
    pub fn forget(&self, peer: &PeerId) {
        self.lock().remove(peer);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PeerId, Vec<(Address, u64)>>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks a policy in the name of each account that the asking peer has proven: one that may is enough.
pub struct ByProvenAccounts {
    policy: Arc<dyn ServePolicy>,
    book: Arc<AccountBook>,
}

impl ByProvenAccounts {
    /// Puts the accounts of `book` before `policy`.
    pub fn new(policy: Arc<dyn ServePolicy>, book: Arc<AccountBook>) -> Self {
        Self { policy, book }
    }
}

impl fmt::Debug for ByProvenAccounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByProvenAccounts").finish_non_exhaustive()
    }
}

impl ServePolicy for ByProvenAccounts {
    fn allows(&self, requester: &Requester, cid: &Cid) -> bool {
        let Requester::Peer { id, .. } = requester else { return self.policy.allows(requester, cid) };
        let Ok(peer) = PeerId::from_bytes(id.as_bytes()) else { return false };
        // No account comes last: most blocks that anyone may have are asked for by peers that proved one.
        let proven = self.book.accounts(&peer, super::unix_now());
        let accounts = proven.iter().map(|account| Some(account.into_array())).chain([None]);
        accounts
            .into_iter()
            .any(|account| self.policy.allows(&Requester::Peer { id: id.clone(), account }, cid))
    }
}

/// A delegation that this node may show.
#[derive(Clone, Debug)]
pub struct Held {
    /// The account this node speaks for.
    pub account: Address,
    /// Until when, in Unix seconds.
    pub not_after: u64,
    /// The bytes to show.
    pub message: Vec<u8>,
}

impl Held {
    /// Takes a delegation for the peer `own`, after judging it as another node would.
    pub fn accept(own: &PeerId, message: &[u8], domain: &Domain, now: u64) -> Result<Self, RefusalCode> {
        match AccountBook::default().judge(own, message, domain, now) {
            AuthAnswer::Refused { code } => Err(code),
            AuthAnswer::Accepted { until } => {
                let signed = Signed::<PeerDelegation>::decode(message).map_err(|_| RefusalCode::Malformed)?;
                Ok(Self { account: signed.msg.account, not_after: until, message: message.to_vec() })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;
    use secp256k1::{PublicKey, SecretKey};

    const NOW: u64 = 1_800_000_000;

    fn domain() -> Domain {
        Domain { chain_id: 161, registry: Address::repeat_byte(9) }
    }

    fn signed(
        peer: &PeerId,
        secret: u8,
        change: impl FnOnce(&mut Signed<PeerDelegation>),
    ) -> (Address, Vec<u8>) {
        let secret = SecretKey::from_byte_array([secret; 32]).unwrap();
        let account = signature::address_of(&PublicKey::from_secret_key_global(&secret));
        let msg = PeerDelegation {
            peer_id: peer.to_bytes(),
            account,
            not_before: NOW,
            not_after: NOW + 3600,
            nonce: B256::repeat_byte(1),
        };
        let mut signed = Signed { domain: domain(), msg, sig: Vec::new() };
        change(&mut signed);
        if signed.sig.is_empty() {
            signed.sig = signature::sign(&secret, &signed.digest()).to_vec();
        }
        (account, signed.encode())
    }

    #[track_caller]
    fn refused(code: RefusalCode, change: impl FnOnce(&mut Signed<PeerDelegation>)) {
        let (book, peer) = (AccountBook::default(), PeerId::random());
        let (_, message) = signed(&peer, 1, change);
        assert_eq!(book.judge(&peer, &message, &domain(), NOW), AuthAnswer::Refused { code });
        assert!(book.accounts(&peer, NOW).is_empty());
    }

    #[test]
    fn a_delegation_that_holds_binds_its_account_until_it_ends() {
        let (book, peer) = (AccountBook::default(), PeerId::random());
        let (account, message) = signed(&peer, 1, |_| {});
        assert_eq!(book.judge(&peer, &message, &domain(), NOW), AuthAnswer::Accepted { until: NOW + 3600 });
        assert_eq!(book.accounts(&peer, NOW + 3599), [account]);
        assert!(book.accounts(&peer, NOW + 3600).is_empty());
        assert!(book.accounts(&PeerId::random(), NOW).is_empty());
        book.forget(&peer);
        assert!(book.accounts(&peer, NOW).is_empty());
    }

    #[test]
    fn a_delegation_that_does_not_hold_is_refused_by_its_reason() {
        refused(RefusalCode::UnknownContent, |s| s.domain.chain_id = 162);
        refused(RefusalCode::UnknownContent, |s| s.domain.registry = Address::ZERO);
        refused(RefusalCode::WrongHolder, |s| s.msg.peer_id = PeerId::random().to_bytes());
        refused(RefusalCode::RequestExpired, |s| s.msg.not_after = NOW);
        refused(RefusalCode::RequestExpired, |s| s.msg.not_after = NOW + 24 * 3600 + 1);
        refused(RefusalCode::RequestExpired, |s| s.msg.not_before = NOW + 120);
        refused(RefusalCode::BadSignature, |s| s.msg.account = Address::repeat_byte(5));
        refused(RefusalCode::BadSignature, |s| s.sig = vec![27; 65]);
        let (book, peer) = (AccountBook::default(), PeerId::random());
        for message in [&[][..], b"\xa0", b"\xff\xff"] {
            assert_eq!(
                book.judge(&peer, message, &domain(), NOW),
                AuthAnswer::Refused { code: RefusalCode::Malformed }
            );
        }
    }

    #[test]
    fn a_peer_speaks_for_a_bounded_number_of_accounts() {
        let (book, peer) = (AccountBook::default(), PeerId::random());
        for secret in 1..20 {
            let (_, message) = signed(&peer, secret, |s| s.msg.not_after += u64::from(secret));
            book.judge(&peer, &message, &domain(), NOW);
        }
        assert_eq!(book.accounts(&peer, NOW).len(), ACCOUNTS_PER_PEER_MAX);
    }
}
