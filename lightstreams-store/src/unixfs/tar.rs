//! TAR archives (POSIX.1-2001: ustar headers, with pax records for what does not fit).

use std::io::Write;

use cid::Cid;

use super::{
    ExportError, ExportLimits, Metadata,
    export::copy,
    walk::{Visitor, walk},
};
use crate::{BlockSource, FileReader};

const RECORD: usize = 512;
const COPY_BYTES: usize = 1 << 20;
/// The largest number in eleven octal digits.
const MAX_OCTAL: u64 = 0o777_7777_7777;

/// Writes everything below `root` as a TAR archive, with the paths below `name`; the same root and name give the same
/// bytes.
///
/// Owner and group are 0; a mode that is not stated is 0644, 0755 for directories, 0777 for links; a time that is not stated is 1970-01-01. `name`
/// and the names of entries are written as they are and do not lead out of `name`; an unpacker may still follow the symbolic
/// links that it makes.
pub fn export_tar<W: Write>(
    source: &impl BlockSource,
    root: &Cid,
    name: &str,
    limits: ExportLimits,
    out: W,
) -> Result<W, ExportError> {
    super::check_name(name).map_err(|reason| {
        let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, reason);
        ExportError::Write { path: name.to_owned(), source }
    })?;
    let mut tar = Tar { out, name, buf: vec![0; COPY_BYTES] };
    walk(source, root, limits, &mut tar)?;
    // Two empty records end an archive.
    tar.out.write_all(&[0; 2 * RECORD]).map_err(ExportError::write(""))?;
    tar.out.flush().map_err(ExportError::write(""))?;
    Ok(tar.out)
}

struct Tar<'a, W> {
    out: W,
    name: &'a str,
    buf: Vec<u8>,
}

impl<W: Write, S: BlockSource> Visitor<S> for Tar<'_, W> {
    fn directory(&mut self, path: &str, metadata: Metadata) -> Result<(), ExportError> {
        self.header(path, b'5', metadata, 0, b"")
    }

    fn directory_end(&mut self, _: &str, _: Metadata) -> Result<(), ExportError> {
        Ok(())
    }

    fn file(&mut self, path: &str, metadata: Metadata, file: FileReader<S>) -> Result<(), ExportError> {
        self.header(path, b'0', metadata, file.len(), b"")?;
        copy(&file, &mut self.out, path, &mut self.buf)?;
        self.pad(path, file.len())
    }

    fn symlink(&mut self, path: &str, metadata: Metadata, target: &[u8]) -> Result<(), ExportError> {
        self.header(path, b'2', metadata, 0, target)
    }
}

impl<W: Write> Tar<'_, W> {
    /// Writes the header of an entry, and before it the pax records that it needs.
    fn header(
        &mut self,
        path: &str,
        kind: u8,
        metadata: Metadata,
        len: u64,
        link: &[u8],
    ) -> Result<(), ExportError> {
        let mut full = self.name.to_owned();
        if !path.is_empty() {
            full.push('/');
            full.push_str(path);
        }
        if kind == b'5' {
            full.push('/');
        }
        let seconds = metadata.mtime.map_or(0, |mtime| mtime.seconds());
        let mut pax = Vec::new();
        if full.len() > 100 || !full.is_ascii() {
            pax_record(&mut pax, "path", full.as_bytes());
        }
        if link.len() > 100 || !link.is_ascii() {
            pax_record(&mut pax, "linkpath", link);
        }
        if len > MAX_OCTAL {
            pax_record(&mut pax, "size", len.to_string().as_bytes());
        }
        if let Some(mtime) = metadata.mtime
            && (mtime.nanos() != 0 || !(0..=MAX_OCTAL as i64).contains(&seconds))
        {
            pax_record(&mut pax, "mtime", decimal(seconds, mtime.nanos()).as_bytes());
        }
        let write = ExportError::write(path);
        let mut headers = Vec::with_capacity(4 * RECORD);
        if !pax.is_empty() {
            headers.extend(ustar(b"pax", b'x', 0o644, pax.len() as u64, 0, b""));
            headers.extend(&pax);
            headers.resize(headers.len().next_multiple_of(RECORD), 0);
        }
        let mode = metadata.mode.unwrap_or(match kind {
            b'5' => 0o755,
            b'2' => 0o777,
            _ => 0o644,
        });
        headers.extend(ustar(full.as_bytes(), kind, mode, len, seconds, link));
        self.out.write_all(&headers).map_err(write)
    }

    /// Fills up the last record of an entry.
    fn pad(&mut self, path: &str, len: u64) -> Result<(), ExportError> {
        let missing = (RECORD - (len % RECORD as u64) as usize) % RECORD;
        self.out.write_all(&vec![0; missing]).map_err(ExportError::write(path))
    }
}

/// A header; what does not fit is cut off, since a pax record says it in full.
fn ustar(path: &[u8], kind: u8, mode: u32, len: u64, seconds: i64, link: &[u8]) -> [u8; RECORD] {
    let mut header = [0; RECORD];
    let mut put = |at: usize, width: usize, bytes: &[u8]| {
        let fields = header.iter_mut().skip(at).take(width);
        fields.zip(bytes).for_each(|(to, from)| *to = *from);
    };
    let octal = |value: u64, digits: usize| format!("{value:0digits$o}\0").into_bytes();
    put(0, 100, path);
    put(100, 8, &octal((mode & 0o7777).into(), 7));
    put(108, 8, &octal(0, 7));
    put(116, 8, &octal(0, 7));
    put(124, 12, &octal(len.min(MAX_OCTAL), 11));
    put(136, 12, &octal(u64::try_from(seconds).unwrap_or(0).min(MAX_OCTAL), 11));
    // The checksum counts its own field as blanks.
    put(148, 8, b"        ");
    put(156, 1, &[kind]);
    put(157, 100, link);
    put(257, 8, b"ustar\x0000");
    let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
    header.iter_mut().skip(148).zip(format!("{sum:06o}\0 ").bytes()).for_each(|(to, from)| *to = from);
    header
}

/// `LEN KEY=VALUE\n`, where LEN counts itself.
fn pax_record(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    out.extend(format!("{len} {key}=").bytes());
    out.extend(value);
    out.push(b'\n');
}

/// Seconds with a fraction, which counts away from zero for a time before 1970.
fn decimal(seconds: i64, nanos: u32) -> String {
    match (seconds, nanos) {
        (_, 0) => seconds.to_string(),
        (0.., _) => format!("{seconds}.{nanos:09}"),
        // -2 s and 0.7 s after it are -1.3 s.
        _ => format!("-{}.{:09}", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanos),
    }
}
