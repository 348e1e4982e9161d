//! In the OpenSSL of the system.

use openssl::{cipher::Cipher, cipher_ctx::CipherCtx, error::ErrorStack};

use super::{TAG, pure};

/// A key, wiped on drop.
pub(crate) struct Key {
    /// Knows the key. Each chunk works on a copy, so that threads can share a key.
    /// `None` where the library lacks the cipher, as under a policy of FIPS 140; Rust does the work then.
    keyed: Option<CipherCtx>,
    pure: pure::Key,
}

impl Key {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        let keyed = CipherCtx::new().and_then(|mut context| {
            context.encrypt_init(Some(Cipher::chacha20_poly1305()), Some(key), None)?;
            Ok(context)
        });
        Self { keyed: keyed.ok(), pure: pure::Key::new(key) }
    }

    /// Encrypts in place; `None` if the text is longer than the cipher allows.
    pub(crate) fn seal(&self, nonce: [u8; 12], text: &mut [u8]) -> Option<[u8; TAG]> {
        let Some(mut context) = self.context(text.len()) else {
            return self.pure.seal(nonce, text);
        };
        let mut seal = || {
            let mut tag = [0; TAG];
            context.encrypt_init(None, None, Some(&nonce))?;
            context.cipher_update_inplace(text, text.len())?;
            context.cipher_final(&mut [])?;
            context.tag(&mut tag)?;
            Ok::<_, ErrorStack>(tag)
        };
        seal().ok()
    }

    /// Decrypts `sealed`, text and tag, in place. If it does not verify it is left as it was, or wiped.
    pub(crate) fn open<'a>(&self, nonce: [u8; 12], sealed: &'a mut [u8]) -> Option<&'a mut [u8]> {
        let Some(mut context) = self.context(sealed.len()) else {
            return self.pure.open(nonce, sealed);
        };
        let (text, tag) = sealed.split_last_chunk_mut::<TAG>()?;
        let opened = context
            .decrypt_init(None, None, Some(&nonce))
            .and_then(|()| context.cipher_update_inplace(text, text.len()))
            .and_then(|_| verify(&mut context, tag));
        if opened.is_err() {
            text.fill(0);
            return None;
        }
        Some(text)
    }

    /// Decrypts `buffer[at..]`, text and tag, to the start of `buffer`, and returns the length of the text.
    ///
    /// What lies in `buffer[at..]` stays as it is; the text must fit in front of it.
    pub(crate) fn open_apart(&self, nonce: [u8; 12], buffer: &mut [u8], at: usize) -> Option<usize> {
        let Some(mut context) = self.context(buffer.len()) else {
            return self.pure.open_apart(nonce, buffer, at);
        };
        let (room, sealed) = buffer.split_at_mut_checked(at)?;
        let (text, tag) = sealed.split_last_chunk::<TAG>()?;
        let room = room.get_mut(..text.len())?;
        let opened = context
            .decrypt_init(None, None, Some(&nonce))
            .and_then(|()| context.cipher_update(text, Some(room)))
            .and_then(|_| verify(&mut context, tag));
        if opened.is_err() {
            room.fill(0);
            return None;
        }
        Some(text.len())
    }

    /// A context that knows the key, for at most `len` bytes: the library counts in 31 bits.
    fn context(&self, len: usize) -> Option<CipherCtx> {
        i32::try_from(len).ok()?;
        let mut context = CipherCtx::new().ok()?;
        context.copy(self.keyed.as_ref()?).ok()?;
        Some(context)
    }
}

/// Whether what `context` decrypted has this tag.
fn verify(context: &mut CipherCtx, tag: &[u8; TAG]) -> Result<(), ErrorStack> {
    context.set_tag(tag)?;
    context.cipher_final(&mut [])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_library_lacks_the_cipher_rust_does_the_work() {
        let (with, mut without) = (Key::new(&[7; 32]), Key::new(&[7; 32]));
        assert!(with.keyed.is_some(), "the tests need an OpenSSL with ChaCha20-Poly1305");
        without.keyed = None;
        let (mut ours, mut theirs) = ([5; 999], [5; 999]);
        let tag = with.seal([1; 12], &mut ours).unwrap();
        assert_eq!(without.seal([1; 12], &mut theirs), Some(tag));
        let mut sealed = [&ours[..], &tag].concat();
        assert_eq!(without.open([1; 12], &mut sealed.clone()).unwrap(), [5; 999]);
        sealed.splice(..0, [0; 999]);
        assert_eq!(without.open_apart([1; 12], &mut sealed, 999), Some(999));
        assert_eq!(sealed[..999], [5; 999]);
    }
}
