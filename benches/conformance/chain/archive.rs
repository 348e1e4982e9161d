//! Files of vectors that are packed: zstd with a window of 128 MiB, around one file or a TAR.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufReader, Read},
    path::Path,
};

use ruzstd::decoding::StreamingDecoder;
use serde_json::value::RawValue;

use crate::{
    report::{Report, failed},
    tar,
};

/// The largest window of a frame.
const WINDOW_MAX: u64 = 128 << 20;

/// What is packed in the file `path`.
pub(crate) fn unpack(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    decoder(path)?.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

fn decoder(path: &Path) -> Result<impl Read + Send + use<>, String> {
    let file = BufReader::new(File::open(path).map_err(|error| error.to_string())?);
    StreamingDecoder::new_with_max_window_size(file, WINDOW_MAX).map_err(|error| error.to_string())
}

/// A file of an archive.
pub(crate) struct Packed {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

/// The JSON files in the archives `*.tar.zst` of `folder` whose names have `part` in them.
pub(crate) fn files(
    root: &Path,
    folder: &str,
    part: &str,
    report: &mut Report,
) -> impl Iterator<Item = Packed> + Send + use<> {
    let archives = report.files(root, folder, ".tar.zst");
    let mut decoders = Vec::new();
    for path in archives
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains(part)))
    {
        match decoder(&path) {
            Ok(decoder) => decoders.push(decoder),
            Err(error) => report.case(path.display(), || failed(error)),
        }
    }
    decoders
        .into_iter()
        .flat_map(tar::members)
        .filter(|member| member.name.ends_with(".json"))
        .map(|member| Packed { name: member.name, bytes: member.bytes })
}

/// The cases of a file: a map by name.
pub(crate) fn cases<'a>(file: &'a Packed, report: &mut Report) -> BTreeMap<String, &'a RawValue> {
    serde_json::from_slice(&file.bytes).unwrap_or_else(|error| {
        report.case(&file.name, || failed(error));
        BTreeMap::new()
    })
}
