//! In the assembly of ring.

use std::hint::black_box;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use super::TAG;

/// A key, wiped on drop.
pub(crate) struct Key(LessSafeKey);

impl Key {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(inner(key))
    }

    /// Encrypts in place; `None` if the text is longer than the cipher allows.
    pub(crate) fn seal(&self, nonce: [u8; 12], text: &mut [u8]) -> Option<[u8; TAG]> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::empty(), text).ok()?;
        tag.as_ref().try_into().ok()
    }

    /// Decrypts `sealed`, text and tag, in place. If it does not verify it is left as it was, or wiped.
    pub(crate) fn open<'a>(&self, nonce: [u8; 12], sealed: &'a mut [u8]) -> Option<&'a mut [u8]> {
        self.0.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::empty(), sealed).ok()
    }

    /// Decrypts `buffer[at..]`, text and tag, to the start of `buffer`, and returns the length of the text.
    ///
    /// What lies in `buffer[at..]` stays as it is; the text must fit in front of it.
    pub(crate) fn open_apart(&self, nonce: [u8; 12], buffer: &mut [u8], at: usize) -> Option<usize> {
        if buffer.len().checked_sub(at)?.checked_sub(TAG)? > at {
            return None;
        }
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0.open_within(nonce, Aad::empty(), buffer, at..).ok().map(|text| text.len())
    }

    fn wipe(&mut self) {
        // ring wipes no keys. Another key takes the place of this one, and `black_box` keeps the compiler from
        // seeing that nobody reads it.
        self.0 = inner(&[0; 32]);
        black_box(&self.0);
    }
}

fn inner(key: &[u8; 32]) -> LessSafeKey {
    match UnboundKey::new(&CHACHA20_POLY1305, key) {
        Ok(key) => LessSafeKey::new(key),
        // It fails only for a key of another length, and this one's is in its type.
        Err(_) => unreachable!("the key has 32 bytes"),
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.wipe();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wiped_key_is_the_zero_key() {
        let mut key = Key::new(&[7; 32]);
        key.wipe();
        assert_eq!(key.seal([1; 12], &mut [5; 9]), Key::new(&[0; 32]).seal([1; 12], &mut [5; 9]));
    }
}
