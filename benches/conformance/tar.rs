//! Members of TAR archives (POSIX.1-2001), with what pax records and GNU tar say of their names.

use std::{collections::HashMap, io::Read};

/// A member.
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) kind: u8,
    pub(crate) mode: u64,
    pub(crate) mtime: u64,
    pub(crate) link: String,
    pub(crate) bytes: Vec<u8>,
}

/// The members of `tar`, up to its end or to what is cut off.
pub(crate) fn members(mut tar: impl Read) -> impl Iterator<Item = Member> {
    std::iter::from_fn(move || {
        let mut longer = HashMap::new();
        loop {
            let mut header = [0; 512];
            tar.read_exact(&mut header).ok()?;
            if header[0] == 0 {
                return None;
            }
            let field = |from: usize, len: usize| {
                let text = String::from_utf8_lossy(&header[from..from + len]).into_owned();
                text.split('\0').next().unwrap_or_default().trim().to_owned()
            };
            let octal = |from, len| u64::from_str_radix(&field(from, len), 8).unwrap_or_default();
            let mut bytes = vec![0; octal(124, 12) as usize];
            tar.read_exact(&mut bytes).ok()?;
            let padding = bytes.len().next_multiple_of(512) - bytes.len();
            // Padding may be missing at the very end.
            let _ = tar.read_exact(&mut [0; 512][..padding]);
            // What the header of the next entry has no room for: lines `LEN KEY=VALUE`, or the name.
            let text = || String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned();
            match header[156] {
                b'x' => {
                    let lines = text();
                    let records = lines.lines().filter_map(|line| line.split_once(' ')?.1.split_once('='));
                    longer = records.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
                    continue;
                }
                b'L' => {
                    longer.insert("path".to_owned(), text());
                    continue;
                }
                _ => {}
            }
            return Some(Member {
                name: longer.remove("path").unwrap_or_else(|| field(0, 100)),
                kind: header[156],
                mode: octal(100, 8),
                mtime: octal(136, 12),
                link: longer.remove("linkpath").unwrap_or_else(|| field(157, 100)),
                bytes,
            });
        }
    })
}
