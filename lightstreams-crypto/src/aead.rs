//! ChaCha20-Poly1305 for payload chunks: the one place where the implementation is chosen.
//!
//! All make the same bytes; which is the quickest depends on the processor (64 KiB in place, one core, GB/s):
//!
//! | | Zen 3 (AVX2) | Sapphire Rapids (AVX-512) | needs |
//! |---|---|---|---|
//! | `pure`, RustCrypto | 1.3 | 1.2; 1.7-1.9 with the flag `chacha20_avx512` | nothing |
//! | `ring` | 2.3 | 1.9 | a C compiler |
//! | `openssl`, 3.0 | 2.1 | 3.4 | the library and its headers |
//!
//! The 3.4 is OpenSSL alone, measured without this crate. `aws-lc-rs` has the code of `ring` for it, and takes five times as long to compile.

#[cfg(feature = "openssl")]
mod openssl;
#[cfg(any(test, feature = "openssl", not(feature = "ring")))]
mod pure;
#[cfg(all(feature = "ring", any(test, not(feature = "openssl"))))]
mod ring;

#[cfg(feature = "openssl")]
pub(crate) use self::openssl::Key;
#[cfg(not(any(feature = "openssl", feature = "ring")))]
pub(crate) use self::pure::Key;
#[cfg(all(feature = "ring", not(feature = "openssl")))]
pub(crate) use self::ring::Key;

/// Length of a Poly1305 tag.
pub(crate) const TAG: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, test_runner::TestCaseResult};

    use super::{TAG, pure::Key as Pure};

    /// What each implementation offers.
    trait Cipher {
        fn new(key: &[u8; 32]) -> Self;
        fn seal(&self, nonce: [u8; 12], text: &mut [u8]) -> Option<[u8; TAG]>;
        fn open<'a>(&self, nonce: [u8; 12], sealed: &'a mut [u8]) -> Option<&'a mut [u8]>;
        fn open_apart(&self, nonce: [u8; 12], buffer: &mut [u8], at: usize) -> Option<usize>;
    }

    macro_rules! test {
        ($name:ident) => {
            mod $name {
                use super::*;
                use crate::aead::$name::Key;

                impl Cipher for Key {
                    fn new(key: &[u8; 32]) -> Self {
                        Self::new(key)
                    }

                    fn seal(&self, nonce: [u8; 12], text: &mut [u8]) -> Option<[u8; TAG]> {
                        self.seal(nonce, text)
                    }

                    fn open<'a>(&self, nonce: [u8; 12], sealed: &'a mut [u8]) -> Option<&'a mut [u8]> {
                        self.open(nonce, sealed)
                    }

                    fn open_apart(&self, nonce: [u8; 12], buffer: &mut [u8], at: usize) -> Option<usize> {
                        self.open_apart(nonce, buffer, at)
                    }
                }

                proptest! {
                    #![proptest_config(ProptestConfig::with_cases(128))]

                    #[test]
                    fn makes_and_opens_the_bytes_of_the_pure_one(
                        text in prop_oneof![
                            prop::collection::vec(any::<u8>(), 0..1100),
                            (65_400..=65_536usize).prop_map(|len| vec![0xa5; len]),
                        ],
                        nonce: [u8; 12],
                        flip in any::<prop::sample::Index>(),
                    ) {
                        same_as_pure::<Key>(&text, nonce, flip)?;
                    }
                }

                #[test]
                fn what_is_too_short_or_has_no_room_does_not_open() {
                    let key = Key::new(&KEY);
                    assert!(key.open([0; 12], &mut [0; TAG - 1]).is_none());
                    for (len, at) in
                        [(0, 0), (0, 1), (TAG - 1, 0), (2 * TAG, TAG + 1), (40, 3), (40, usize::MAX)]
                    {
                        assert!(key.open_apart([0; 12], &mut vec![0; len], at).is_none(), "{len} from {at}");
                    }
                }
            }
        };
    }

    #[cfg(feature = "openssl")]
    test!(openssl);
    test!(pure);
    #[cfg(feature = "ring")]
    test!(ring);

    const KEY: [u8; 32] = [7; 32];

    fn same_as_pure<C: Cipher>(text: &[u8], nonce: [u8; 12], flip: prop::sample::Index) -> TestCaseResult {
        let (cipher, pure) = (C::new(&KEY), Pure::new(&KEY));
        let (mut ours, mut theirs) = (text.to_vec(), text.to_vec());
        let (our_tag, their_tag) = (cipher.seal(nonce, &mut ours), pure.seal(nonce, &mut theirs));
        prop_assert!(ours == theirs && our_tag == their_tag);

        let sealed = [&ours[..], &our_tag.unwrap()].concat();
        let (mut for_pure, mut for_cipher) = (sealed.clone(), sealed.clone());
        prop_assert!(pure.open(nonce, &mut for_pure).is_some_and(|found| *found == *text));
        prop_assert!(cipher.open(nonce, &mut for_cipher).is_some_and(|found| *found == *text));

        let mut apart = vec![0; text.len()];
        apart.extend_from_slice(&sealed);
        prop_assert_eq!(cipher.open_apart(nonce, &mut apart, text.len()), Some(text.len()));
        prop_assert!(apart[..text.len()] == *text && apart[text.len()..] == sealed);
        apart[..text.len()].fill(0);
        prop_assert_eq!(pure.open_apart(nonce, &mut apart, text.len()), Some(text.len()));
        prop_assert!(apart[..text.len()] == *text && apart[text.len()..] == sealed);

        let mut damaged = sealed;
        damaged[flip.index(text.len() + TAG)] ^= 0x10;
        apart[..text.len()].fill(0);
        apart[text.len()..].copy_from_slice(&damaged);
        prop_assert_eq!(cipher.open_apart(nonce, &mut apart, text.len()), None);
        prop_assert!(apart[..text.len()].iter().all(|&byte| byte == 0), "nothing is given out");
        prop_assert!(apart[text.len()..] == damaged, "and the chunk stays");
        let mut opened = damaged.clone();
        prop_assert!(pure.open(nonce, &mut opened).is_none());
        prop_assert!(cipher.open(nonce, &mut opened).is_none());
        let body = ..text.len();
        prop_assert!(opened[body] == damaged[body] || opened[body].iter().all(|&byte| byte == 0));
        Ok(())
    }
}
