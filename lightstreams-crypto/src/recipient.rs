use rand_core::CryptoRng;

use crate::{Error, FileKey, Stanza};

/// Somebody a file is for: wraps file keys.
///
/// One wrapping makes one stanza. A recipient draws what is random from the generator it is given, and
/// never the same twice. Implementations pass `testing::check_recipient` (feature `testing`).
pub trait Recipient {
    /// Wraps `file_key` so that only the matching [`Identity`] can take it out again.
    fn wrap(&self, file_key: &FileKey, rng: &mut dyn CryptoRng) -> Result<Stanza, Error>;

    /// What every recipient of one header must say of itself in the same words, in ascending order.
    ///
    /// [`Header::wrap`](crate::Header::wrap) refuses recipients whose labels differ, as age does. The one label in
    /// use is `postquantum`: one classical recipient would open the file to a quantum computer for all.
    fn labels(&self) -> &[&str] {
        &[]
    }
}

/// The secret counterpart of a [`Recipient`]: unwraps file keys.
///
/// The answer to a stanza is one of three:
///
/// - `Ok(Some(key))`: mine, and this is the key;
/// - `Ok(None)`: not mine, or of a kind this identity does not know;
/// - `Err(_)`: of my kind, but against the rules of that kind. The whole header is then refused.
///
/// A stanza that is well formed and does not decrypt is not mine: whom it is for is not written in it.
pub trait Identity {
    /// Tries to take the file key out of `stanza`.
    fn unwrap(&self, stanza: &Stanza) -> Result<Option<FileKey>, Error>;
}

// Headers are wrapped to, and unwrapped by, lists of different kinds.
const _: Option<(&dyn Recipient, &dyn Identity)> = None;
