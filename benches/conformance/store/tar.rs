//! Members of TAR archives (POSIX.1-2001), with what pax records say of their names.

use std::collections::HashMap;

/// A member.
pub(crate) struct Member<'a> {
    pub(crate) name: String,
    pub(crate) kind: u8,
    pub(crate) mode: u64,
    pub(crate) mtime: u64,
    pub(crate) link: String,
    pub(crate) bytes: &'a [u8],
}

/// The members of `tar`, up to its end or to what is cut off.
pub(crate) fn members(tar: &[u8]) -> Vec<Member<'_>> {
    let (mut members, mut longer, mut rest) = (Vec::new(), HashMap::new(), tar);
    while let Some((header, after)) = rest.split_at_checked(512).filter(|(header, _)| header[0] != 0) {
        let field = |from: usize, len: usize| {
            let text = String::from_utf8_lossy(&header[from..from + len]).into_owned();
            text.split('\0').next().unwrap_or_default().trim().to_owned()
        };
        let octal = |from, len| u64::from_str_radix(&field(from, len), 8).unwrap_or_default();
        let Some((bytes, _)) = after.split_at_checked(octal(124, 12) as usize) else { break };
        rest = after.get(bytes.len().next_multiple_of(512)..).unwrap_or_default();
        // What the header of the next entry has no room for: `LEN KEY=VALUE` lines.
        if header[156] == b'x' {
            let lines = String::from_utf8_lossy(bytes).into_owned();
            let records = lines.lines().filter_map(|line| line.split_once(' ')?.1.split_once('='));
            longer = records.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
            continue;
        }
        members.push(Member {
            name: longer.remove("path").unwrap_or_else(|| field(0, 100)),
            kind: header[156],
            mode: octal(100, 8),
            mtime: octal(136, 12),
            link: longer.remove("linkpath").unwrap_or_else(|| field(157, 100)),
            bytes,
        });
        longer.clear();
    }
    members
}
