use std::io::{BufRead, Read};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use rand_core::CryptoRng;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{Error, FileKey, Identity, PayloadNonce, Recipient, scrypt};

const VERSION_LINE: &[u8] = b"age-encryption.org/v1\n";
const STANZA_START: &[u8] = b"-> ";
const MAC_START: &[u8] = b"---";
/// Base64 characters in a full body line, and the bytes they stand for.
const COLUMNS: usize = 64;
const BYTES_PER_LINE: usize = COLUMNS / 4 * 3;

/// One wrapping of the file key: `-> tag arg arg ..` and a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stanza {
    /// The kind of recipient.
    pub tag: String,
    /// What the kind needs in public; each one or more visible ASCII characters.
    pub args: Vec<String>,
    /// What the kind makes of it, usually the wrapped key.
    pub body: Vec<u8>,
}

/// An age v1 header: who may open the file, and the proof that nobody changed that.
///
/// ```text
/// age-encryption.org/v1
/// -> X25519 TEiF0ypqr+bpvcqXNyCVJpL7OuwPdVwPL7KQEbFDOCc       tag, arguments
/// EmECAEcKN+n/Vs9SbWiV+Hu0r+E8R77DdWYyd83nw7U                 body, 64 columns, last line shorter
/// --- Vn+54jqiiUCE+WZcEVY3f1sqHjlu/z1LCQ/T7Xm7qI0             HMAC-SHA-256 up to and including ---
/// ```
///
/// There is one way to write a header, and every other is refused, so that `as_bytes` of what was parsed is
/// what was read. A header can travel and be replaced without the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    bytes: Vec<u8>,
    stanzas: Vec<Stanza>,
    /// Length of the part that the MAC covers.
    covered: usize,
    mac: [u8; 32],
}

impl Header {
    /// Length above which a header is refused unread, with its payload nonce.
    pub const LEN_MAX: usize = 128 * 1024;
    /// Number of stanzas above which a header is refused; each may cost the reader a key agreement.
    pub const STANZAS_MAX: usize = 64;

    /// Wraps `file_key` to every one of `recipients`, of which there is at least one.
    ///
    /// Refused are a passphrase beside another recipient, and recipients with different
    /// [`labels`](Recipient::labels), that is, post-quantum ones beside classical ones. Who reads accepts such
    /// a mixture of the latter kind, as the specification has it.
    pub fn wrap(
        file_key: &FileKey,
        recipients: &[&dyn Recipient],
        mut rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<Self, Error> {
        if recipients.is_empty() || recipients.len() > Self::STANZAS_MAX {
            return Err(Error::Unsupported("a header has 1 to 64 recipients"));
        }
        // age: a file whose recipients differ in their labels is as weak as the weakest of them.
        if recipients.windows(2).any(|pair| matches!(pair, [a, b] if a.labels() != b.labels())) {
            return Err(Error::Unsupported("post-quantum recipients do not share a header with others"));
        }
        let stanzas = recipients.iter().map(|r| r.wrap(file_key, &mut rng)).collect::<Result<Vec<_>, _>>()?;
        if !passphrase_is_alone(&stanzas) {
            return Err(Error::Unsupported("a passphrase must be the only recipient of a header"));
        }

        let mut bytes = VERSION_LINE.to_vec();
        for stanza in &stanzas {
            write_stanza(stanza, &mut bytes)?;
        }
        bytes.extend_from_slice(MAC_START);
        let covered = bytes.len();
        let mac: [u8; 32] = mac(file_key, &bytes).finalize().into_bytes().into();
        bytes.push(b' ');
        bytes.extend_from_slice(STANDARD_NO_PAD.encode(mac).as_bytes());
        bytes.push(b'\n');
        if bytes.len() + PayloadNonce::LEN > Self::LEN_MAX {
            return Err(Error::TooLarge { what: "a header", len_max: Self::LEN_MAX });
        }
        Ok(Self { bytes, stanzas, covered, mac })
    }

    /// Reads the header at the start of `bytes`, and tells how many bytes it takes.
    pub fn parse(bytes: &[u8]) -> Result<(Self, usize), Error> {
        let header = Self::read(&mut &*bytes)?;
        let consumed = header.bytes.len();
        Ok((header, consumed))
    }

    /// Reads a header from a stream, and not a byte more.
    pub fn read(reader: &mut impl BufRead) -> Result<Self, Error> {
        let mut bytes = Vec::new();
        loop {
            let start = bytes.len();
            let room = (Self::LEN_MAX - PayloadNonce::LEN - start) as u64;
            // Only the last line of a header starts with the characters of its MAC.
            reader.by_ref().take(room).read_until(b'\n', &mut bytes)?;
            let line = bytes.get(start..).unwrap_or_default();
            if start == 0 && line != VERSION_LINE {
                return Err(malformed(0, "the first line is not that of age v1"));
            }
            if !line.ends_with(b"\n") {
                let reason = match line.len() as u64 == room {
                    true => "longer than 128 KiB",
                    false => "ends before its MAC",
                };
                return Err(malformed(bytes.len(), reason));
            }
            if line.starts_with(MAC_START) {
                return Self::parse_exact(bytes);
            }
        }
    }

    /// Splits a header block: a header, the payload nonce, and nothing else.
    pub fn parse_block(block: &[u8]) -> Result<(Self, PayloadNonce), Error> {
        let (header, consumed) = Self::parse(block)?;
        let nonce = block.get(consumed..).and_then(|rest| rest.try_into().ok());
        let nonce = nonce.ok_or(malformed(consumed, "not followed by 16 bytes of nonce and the end"))?;
        Ok((header, PayloadNonce::from_bytes(nonce)))
    }

    /// The header block: this header and the payload nonce.
    pub fn to_block(&self, nonce: &PayloadNonce) -> Vec<u8> {
        [self.as_bytes(), nonce.as_bytes()].concat()
    }

    /// The header as it stands in a file.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The wrappings of the file key, those of unknown kinds included.
    pub fn stanzas(&self) -> &[Stanza] {
        &self.stanzas
    }

    /// Takes the file key out with the first of `identities` that can, and checks the MAC with it.
    pub fn unwrap(&self, identities: &[&dyn Identity]) -> Result<FileKey, Error> {
        for identity in identities {
            for stanza in &self.stanzas {
                if let Some(file_key) = identity.unwrap(stanza)? {
                    self.verify(&file_key)?;
                    return Ok(file_key);
                }
            }
        }
        Err(Error::NoMatchingIdentity)
    }

    /// Checks the MAC: whether this header was written by somebody who knew `file_key`.
    pub fn verify(&self, file_key: &FileKey) -> Result<(), Error> {
        let covered = self.bytes.get(..self.covered).unwrap_or_default();
        mac(file_key, covered).verify_slice(&self.mac).map_err(|_| Error::HeaderMac)
    }

    fn parse_exact(bytes: Vec<u8>) -> Result<Self, Error> {
        let mut lines = Lines { bytes: &bytes, at: VERSION_LINE.len() };
        let mut stanzas = Vec::new();
        let (covered, mac) = loop {
            let (at, line) = lines.next()?;
            if let Some(args) = line.strip_prefix(STANZA_START) {
                if stanzas.len() == Self::STANZAS_MAX {
                    return Err(malformed(at, "more than 64 stanzas"));
                }
                let (tag, args) = parse_args(args).map_err(|reason| malformed(at, reason))?;
                stanzas.push(Stanza { tag, args, body: lines.body()? });
            } else if let Some(mac) = line.strip_prefix(MAC_START) {
                break (at + MAC_START.len(), mac);
            } else {
                return Err(malformed(at, "neither a stanza nor the MAC"));
            }
        };
        let mac = mac
            .strip_prefix(b" ")
            .and_then(decode_fixed)
            .ok_or(malformed(covered, "the MAC is not 32 bytes of canonical base64"))?;
        if stanzas.is_empty() {
            return Err(malformed(covered, "no stanza"));
        }
        if !passphrase_is_alone(&stanzas) {
            return Err(malformed(covered, "a passphrase stanza is not alone"));
        }
        Ok(Self { bytes, stanzas, covered, mac })
    }
}

/// The lines of a header that is known to end in a newline.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Lines<'a> {
    /// The next line without its newline, and where it starts.
    fn next(&mut self) -> Result<(usize, &'a [u8]), Error> {
        let at = self.at;
        let rest = self.bytes.get(at..).unwrap_or_default();
        let len = rest.iter().position(|&b| b == b'\n').ok_or(malformed(at, "ends before its MAC"))?;
        self.at = at + len + 1;
        Ok((at, rest.get(..len).unwrap_or_default()))
    }

    /// The body of a stanza: full lines, then a shorter one, which may be empty.
    fn body(&mut self) -> Result<Vec<u8>, Error> {
        let mut body = Vec::new();
        loop {
            let (at, line) = self.next()?;
            if line.len() > COLUMNS {
                return Err(malformed(at, "a body line is longer than 64 columns"));
            }
            let part = STANDARD_NO_PAD.decode(line);
            body.extend(part.map_err(|_| malformed(at, "a body line is not canonical base64"))?);
            if line.len() < COLUMNS {
                return Ok(body);
            }
        }
    }
}

fn parse_args(line: &[u8]) -> Result<(String, Vec<String>), &'static str> {
    let visible = |arg: &[u8]| !arg.is_empty() && arg.iter().all(u8::is_ascii_graphic);
    let mut args = line.split(|&b| b == b' ').map(|arg| match visible(arg) {
        true => Ok(String::from_utf8_lossy(arg).into_owned()),
        false => Err("a stanza argument is empty or not visible ASCII"),
    });
    let tag = args.next().unwrap_or(Err("a stanza has no tag"))?;
    Ok((tag, args.collect::<Result<_, _>>()?))
}

fn write_stanza(stanza: &Stanza, out: &mut Vec<u8>) -> Result<(), Error> {
    let start = out.len();
    out.extend_from_slice(STANZA_START);
    out.extend_from_slice(stanza.tag.as_bytes());
    for arg in &stanza.args {
        out.push(b' ');
        out.extend_from_slice(arg.as_bytes());
    }
    // A recipient of somebody else may have made the stanza: write nothing that would not parse.
    let written = parse_args(out.get(start + STANZA_START.len()..).unwrap_or_default());
    if written.as_ref() != Ok(&(stanza.tag.clone(), stanza.args.clone())) {
        return Err(Error::Unsupported("stanza arguments are visible ASCII and not empty"));
    }
    out.push(b'\n');
    for line in stanza.body.chunks(BYTES_PER_LINE) {
        out.extend_from_slice(STANDARD_NO_PAD.encode(line).as_bytes());
        out.push(b'\n');
    }
    // A body that fills its last line is followed by an empty one.
    if stanza.body.len().is_multiple_of(BYTES_PER_LINE) {
        out.push(b'\n');
    }
    Ok(())
}

/// age: a passphrase authenticates the file, which it cannot if somebody else could have written it too.
fn passphrase_is_alone(stanzas: &[Stanza]) -> bool {
    stanzas.len() == 1 || stanzas.iter().all(|stanza| stanza.tag != scrypt::TAG)
}

fn mac(file_key: &FileKey, covered: &[u8]) -> Hmac<Sha256> {
    let key = file_key.derive(b"", &[b"header"]);
    // HMAC itself fills a short key up with zeros to the block of its hash.
    let mut block = Zeroizing::new([0; 64]);
    for (to, from) in block.iter_mut().zip(key.iter()) {
        *to = *from;
    }
    let mut mac = <Hmac<Sha256> as KeyInit>::new((&*block).into());
    mac.update(covered);
    mac
}

/// Decodes canonical base64 of exactly `N` bytes.
pub(crate) fn decode_fixed<const N: usize>(text: impl AsRef<[u8]>) -> Option<[u8; N]> {
    STANDARD_NO_PAD.decode(text).ok()?.try_into().ok()
}

fn malformed(offset: usize, reason: &'static str) -> Error {
    Error::MalformedHeader { offset, reason }
}
