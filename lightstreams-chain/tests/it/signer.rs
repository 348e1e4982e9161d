//! A signer signs for its own account, and a guarded one never twice in one slot.

use std::sync::Mutex;

use alloy_consensus::{TxEip1559, transaction::SignerRecoverable};
use alloy_primitives::{B256, TxKind, U256, keccak256};
use lightstreams_chain::{
    DEV_ACCOUNTS, GuardError, GuardLog, GuardedSigner, LocalSigner, MemoryGuard, Signer, SignerError, Slot,
};

fn slot(number: u64) -> Slot {
    Slot::Clique { number, parent: keccak256("parent") }
}

#[test]
fn the_addresses_of_the_dev_accounts_follow_from_their_keys() {
    for account in DEV_ACCOUNTS {
        assert_eq!(account.signer().unwrap().address(), account.address);
    }
}

#[test]
fn what_is_no_secret_key_is_refused() {
    for bad in [[0; 32], [0xff; 32]] {
        assert!(matches!(LocalSigner::from_bytes(&bad), Err(SignerError::BadKey)));
    }
}

#[test]
fn a_signer_shows_its_address_and_not_its_secret() {
    let account = DEV_ACCOUNTS[0];
    let shown = format!("{:?}", account.signer().unwrap());
    assert!(shown.contains("0xf39f"), "{shown}");
    assert!(!shown.contains("ac0974"), "{shown}");
}

#[test]
fn a_signed_transaction_recovers_to_the_signer() {
    let signer = DEV_ACCOUNTS[3].signer().unwrap();
    let tx = TxEip1559 {
        chain_id: 161,
        gas_limit: 21_000,
        max_fee_per_gas: 7,
        to: TxKind::Call(DEV_ACCOUNTS[1].address),
        value: U256::from(1),
        ..TxEip1559::default()
    };
    let signed = signer.sign_transaction(tx).unwrap();
    assert_eq!(signed.recover_signer().unwrap(), DEV_ACCOUNTS[3].address);
}

#[test]
fn a_guarded_signer_signs_one_digest_in_a_slot_as_often_as_asked() {
    let guarded = GuardedSigner::new(DEV_ACCOUNTS[0].signer().unwrap(), MemoryGuard::default());
    let first = guarded.sign(&slot(1), keccak256("a")).unwrap();
    assert_eq!(guarded.sign(&slot(1), keccak256("a")).unwrap(), first);
    let refused = guarded.sign(&slot(1), keccak256("b"));
    assert!(
        matches!(refused, Err(SignerError::AlreadySigned { signed, .. }) if signed == keccak256("a")),
        "{refused:?}"
    );
    guarded.sign(&slot(2), keccak256("b")).unwrap();
    let other_parent = Slot::Clique { number: 1, parent: keccak256("other") };
    guarded.sign(&other_parent, keccak256("b")).unwrap();
}

#[test]
fn no_signature_leaves_when_the_guard_could_not_write() {
    #[derive(Debug)]
    struct Broken;
    impl GuardLog for Broken {
        fn claim(&self, _: &Slot, _: B256) -> Result<B256, GuardError> {
            Err(GuardError { op: "append", source: "the disk is full".into() })
        }
    }
    let guarded = GuardedSigner::new(DEV_ACCOUNTS[0].signer().unwrap(), Broken);
    assert!(matches!(guarded.sign(&slot(1), B256::ZERO), Err(SignerError::Guard(_))));
}

#[test]
fn the_slot_is_taken_before_the_key_is_used() {
    struct Order(Mutex<Vec<&'static str>>);
    impl GuardLog for &Order {
        fn claim(&self, _: &Slot, digest: B256) -> Result<B256, GuardError> {
            self.0.lock().unwrap().push("claimed");
            Ok(digest)
        }
    }
    struct Key<'a>(&'a Order);
    impl Signer for Key<'_> {
        fn address(&self) -> alloy_primitives::Address {
            DEV_ACCOUNTS[0].address
        }
        fn sign(&self, _: &Slot, _: B256) -> Result<[u8; 65], SignerError> {
            self.0.0.lock().unwrap().push("signed");
            Ok([0; 65])
        }
    }
    let order = Order(Mutex::default());
    GuardedSigner::new(Key(&order), &order).sign(&slot(1), B256::ZERO).unwrap();
    assert_eq!(*order.0.lock().unwrap(), ["claimed", "signed"]);
}
