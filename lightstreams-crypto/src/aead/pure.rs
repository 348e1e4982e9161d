//! In Rust alone.

use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit, Tag, aead::inout::InOutBuf};

use super::TAG;

/// A key, wiped on drop.
pub(crate) struct Key(ChaCha20Poly1305);

impl Key {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(ChaCha20Poly1305::new(key.into()))
    }

    /// Encrypts in place; `None` if the text is longer than the cipher allows.
    pub(crate) fn seal(&self, nonce: [u8; 12], text: &mut [u8]) -> Option<[u8; TAG]> {
        self.0.encrypt_inout_detached(&nonce.into(), b"", text.into()).map(Into::into).ok()
    }

    /// Decrypts `sealed`, text and tag, in place. If it does not verify it is left as it was, or wiped.
    pub(crate) fn open<'a>(&self, nonce: [u8; 12], sealed: &'a mut [u8]) -> Option<&'a mut [u8]> {
        let (text, tag) = sealed.split_last_chunk_mut::<TAG>()?;
        let tag = Tag::from(*tag);
        self.0.decrypt_inout_detached(&nonce.into(), b"", (&mut *text).into(), &tag).ok()?;
        Some(text)
    }

    /// Decrypts `buffer[at..]`, text and tag, to the start of `buffer`, and returns the length of the text.
    ///
    /// What lies in `buffer[at..]` stays as it is; the text must fit in front of it.
    pub(crate) fn open_apart(&self, nonce: [u8; 12], buffer: &mut [u8], at: usize) -> Option<usize> {
        let (room, sealed) = buffer.split_at_mut_checked(at)?;
        let (text, tag) = sealed.split_last_chunk::<TAG>()?;
        let room = room.get_mut(..text.len())?;
        let both = InOutBuf::new(text, room).ok()?;
        self.0.decrypt_inout_detached(&nonce.into(), b"", both, &Tag::from(*tag)).ok()?;
        Some(text.len())
    }
}
