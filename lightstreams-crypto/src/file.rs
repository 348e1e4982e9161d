use std::io::{self, BufRead, BufReader, Read, Write};

use rand_core::CryptoRng;

use crate::{
    Error, FileKey, Header, Identity, MaybeArmored, PayloadDecryptor, PayloadEncryptor, PayloadKey,
    PayloadNonce, Recipient,
};

/// Writes a whole age file: header, nonce, payload. Any age tool opens it.
///
/// An [`ArmorWriter`](crate::ArmorWriter) as `writer` makes it an armored one. Returns the number of plaintext
/// bytes.
pub fn encrypt(
    recipients: &[&dyn Recipient],
    reader: impl Read,
    mut writer: impl Write,
    rng: &mut (impl CryptoRng + ?Sized),
) -> Result<u64, Error> {
    let file_key = FileKey::generate(rng);
    let nonce = PayloadNonce::generate(rng);
    let header = Header::wrap(&file_key, recipients, rng)?;
    writer.write_all(&header.to_block(&nonce))?;
    let mut plaintext = Counted { reader, bytes: 0 };
    copy(PayloadEncryptor::new(PayloadKey::derive(&file_key, &nonce), &mut plaintext), &mut writer)?;
    writer.flush()?;
    Ok(plaintext.bytes)
}

/// Opens a whole age file, binary or armored, and writes its plaintext.
///
/// What was written before an error is a verified start of the plaintext. Returns the number of bytes.
pub fn decrypt(
    identities: &[&dyn Identity],
    reader: impl Read,
    mut writer: impl Write,
) -> Result<u64, Error> {
    let len = copy(decryptor(identities, BufReader::new(reader))?, &mut writer)?;
    writer.flush()?;
    Ok(len)
}

/// Reads header and nonce of an age file, binary or armored, and returns the reader of its plaintext.
///
/// [`MaybeArmored`] tells the two apart. To insist on armor, hand in an [`ArmorReader`](crate::ArmorReader).
pub fn decryptor<R: BufRead>(
    identities: &[&dyn Identity],
    reader: R,
) -> Result<PayloadDecryptor<MaybeArmored<R>>, Error> {
    let mut reader = MaybeArmored::new(reader);
    let header = Header::read(&mut reader)?;
    // The nonce before the keys: that it is missing must not tell whether one of them fits.
    let mut nonce = [0; PayloadNonce::LEN];
    reader.read_exact(&mut nonce).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::MalformedHeader {
            offset: header.as_bytes().len(),
            reason: "not followed by 16 bytes of nonce",
        },
        _ => Error::from(error),
    })?;
    let file_key = header.unwrap(identities)?;
    let key = PayloadKey::derive(&file_key, &PayloadNonce::from_bytes(nonce));
    Ok(PayloadDecryptor::new(key, reader))
}

/// Opens a header and wraps the same file key to other recipients: the payload stays as it is.
///
/// Whoever could open the old header can open the payload for ever.
pub fn rewrap(
    header: &Header,
    identities: &[&dyn Identity],
    recipients: &[&dyn Recipient],
    rng: &mut (impl CryptoRng + ?Sized),
) -> Result<Header, Error> {
    Header::wrap(&header.unwrap(identities)?, recipients, rng)
}

fn copy(mut from: impl BufRead, to: &mut impl Write) -> Result<u64, Error> {
    let mut total: u64 = 0;
    loop {
        let chunk = from.fill_buf()?;
        let len = chunk.len();
        if len == 0 {
            return Ok(total);
        }
        to.write_all(chunk)?;
        from.consume(len);
        total = total.saturating_add(len as u64);
    }
}

struct Counted<R> {
    reader: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buf)?;
        self.bytes = self.bytes.saturating_add(count as u64);
        Ok(count)
    }
}
