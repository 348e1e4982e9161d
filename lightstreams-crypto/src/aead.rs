//! ChaCha20-Poly1305 for payload chunks: the one place where the implementation is chosen.
//!
//! Both implementations make the same bytes. Measured on 64 KiB in place, one core with AVX2, medians of one run
//! beside other builds: `chacha20poly1305` 1.3 GB/s, `ring` 2.2 GB/s, `aws-lc-rs` 2.1 GB/s. `ring` and `aws-lc-rs`
//! are equal within the noise, but `ring` compiles in a fifth of the time (23 against 112 seconds of CPU), has no
//! path that needs cmake, and libp2p brings it along. `chacha20poly1305` needs no C compiler and runs everywhere.

#[cfg(feature = "ring")]
pub(crate) use assembly::Key;
#[cfg(not(feature = "ring"))]
pub(crate) use pure::Key;

/// Length of a Poly1305 tag.
pub(crate) const TAG: usize = 16;

#[cfg(any(test, not(feature = "ring")))]
mod pure {
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
}

#[cfg(feature = "ring")]
mod assembly {
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

        pub(super) fn wipe(&mut self) {
            // ring wipes no keys. Another key takes the place of this one, and `black_box` keeps the compiler from
            // seeing that nobody reads it.
            self.0 = inner(&[0; 32]);
            black_box(&self.0);
        }
    }

    fn inner(key: &[u8; 32]) -> LessSafeKey {
        match UnboundKey::new(&CHACHA20_POLY1305, key) {
            Ok(key) => LessSafeKey::new(key),
            Err(_) => unreachable!("the key has 32 bytes"),
        }
    }

    impl Drop for Key {
        fn drop(&mut self) {
            self.wipe();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Key, TAG, pure};

    const KEY: [u8; 32] = [7; 32];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        /// The pure implementation is the yardstick of the chosen one, whichever that is.
        #[test]
        fn the_chosen_implementation_makes_and_opens_the_bytes_of_the_pure_one(
            text in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..1100),
                (65_400..=65_536usize).prop_map(|len| vec![0xa5; len]),
            ],
            nonce: [u8; 12],
            flip in any::<prop::sample::Index>(),
        ) {
            let (chosen, pure) = (Key::new(&KEY), pure::Key::new(&KEY));
            let (mut ours, mut theirs) = (text.clone(), text.clone());
            let (our_tag, their_tag) = (chosen.seal(nonce, &mut ours), pure.seal(nonce, &mut theirs));
            prop_assert!(ours == theirs && our_tag == their_tag);

            let sealed = [&ours[..], &our_tag.unwrap()].concat();
            let (mut for_pure, mut for_chosen) = (sealed.clone(), sealed.clone());
            prop_assert!(pure.open(nonce, &mut for_pure).is_some_and(|found| *found == *text));
            prop_assert!(chosen.open(nonce, &mut for_chosen).is_some_and(|found| *found == *text));

            let mut apart = vec![0; text.len()];
            apart.extend_from_slice(&sealed);
            prop_assert_eq!(chosen.open_apart(nonce, &mut apart, text.len()), Some(text.len()));
            prop_assert!(apart[..text.len()] == text && apart[text.len()..] == sealed);
            apart[..text.len()].fill(0);
            prop_assert_eq!(pure.open_apart(nonce, &mut apart, text.len()), Some(text.len()));
            prop_assert!(apart[..text.len()] == text && apart[text.len()..] == sealed);

            let mut damaged = sealed;
            damaged[flip.index(text.len() + TAG)] ^= 0x10;
            apart[..text.len()].fill(0);
            apart[text.len()..].copy_from_slice(&damaged);
            prop_assert_eq!(chosen.open_apart(nonce, &mut apart, text.len()), None);
            prop_assert!(apart[..text.len()].iter().all(|&byte| byte == 0), "nothing is given out");
            prop_assert!(apart[text.len()..] == damaged, "and the chunk stays");
            let mut opened = damaged.clone();
            prop_assert!(pure.open(nonce, &mut opened).is_none());
            prop_assert!(chosen.open(nonce, &mut opened).is_none());
            let body = ..text.len();
            prop_assert!(opened[body] == damaged[body] || opened[body].iter().all(|&byte| byte == 0));
        }
    }

    #[test]
    fn what_is_too_short_or_has_no_room_does_not_open() {
        let key = Key::new(&KEY);
        assert!(key.open([0; 12], &mut [0; TAG - 1]).is_none());
        for (len, at) in [(0, 0), (0, 1), (TAG - 1, 0), (2 * TAG, TAG + 1), (40, 3), (40, usize::MAX)] {
            assert!(key.open_apart([0; 12], &mut vec![0; len], at).is_none(), "{len} from {at}");
        }
    }

    #[cfg(feature = "ring")]
    #[test]
    fn a_wiped_key_is_the_zero_key() {
        let mut key = Key::new(&KEY);
        key.wipe();
        assert_eq!(key.seal([1; 12], &mut [5; 9]), Key::new(&[0; 32]).seal([1; 12], &mut [5; 9]));
    }
}
