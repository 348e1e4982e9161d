//! Checks and shortcuts for tests of code that uses this crate, or puts its own kind of recipient into it.

use rand_core::CryptoRng;

use crate::{FileKey, Header, Identity, Recipient, keystore};

/// Checks that `recipient` and `identity` keep what [`Recipient`] and [`Identity`] promise to a header.
///
/// `stranger` is an identity of the same kind that was not wrapped to.
///
/// # Panics
///
/// When a promise is broken.
#[track_caller]
#[allow(clippy::panic, clippy::expect_used, reason = "a check that fails panics")]
pub fn check_recipient(
    recipient: &dyn Recipient,
    identity: &dyn Identity,
    stranger: &dyn Identity,
    rng: &mut (impl CryptoRng + ?Sized),
) {
    let file_key = FileKey::generate(rng);
    let header = Header::wrap(&file_key, &[recipient], rng).expect("wraps");
    let again = Header::wrap(&file_key, &[recipient], rng).expect("wraps again");
    assert_ne!(header, again, "two wrappings of one key must differ");

    let (parsed, _) = Header::parse(header.as_bytes()).expect("what is written is canonical");
    assert_eq!(parsed, header);
    assert_eq!(parsed.unwrap(&[stranger, identity]).expect("its identity unwraps"), file_key);
    assert!(parsed.unwrap(&[stranger]).is_err(), "a stranger must not unwrap");

    for stanza in parsed.stanzas() {
        let mut foreign = stanza.clone();
        foreign.tag = "another-kind".into();
        assert!(matches!(identity.unwrap(&foreign), Ok(None)), "another kind of stanza is not mine");

        for at in 0..stanza.body.len() {
            let mut damaged = stanza.clone();
            if let Some(byte) = damaged.body.get_mut(at) {
                *byte ^= 1;
            }
            let outcome = identity.unwrap(&damaged);
            assert!(!matches!(outcome, Ok(Some(_))), "byte {at} of the body is not authenticated");
        }
    }
}

/// [`keystore::encrypt`] with so little work that a test with many accounts stays fast.
pub fn weak_keystore(
    secret: &[u8; 32],
    address: Option<&[u8; 20]>,
    password: &[u8],
    rng: &mut (impl CryptoRng + ?Sized),
) -> Result<String, keystore::KeystoreError> {
    keystore::encrypt_unchecked(4, secret, address, password, rng)
}
