//! Media types.

const OCTETS: &str = "application/octet-stream";
const TEXT: &str = "text/plain; charset=utf-8";

/// How much of a file [`by_content`] looks at.
pub(super) const SNIFF_BYTES: usize = 4096;

/// By the end of a file's name.
pub(super) fn by_name(name: &str) -> Option<String> {
    let (stem, end) = name.rsplit_once('.')?;
    // A name that only begins with a dot has no end.
    if stem.is_empty() {
        return None;
    }
    let media = mime_guess::from_ext(end).first_raw()?;
    let text = media.starts_with("text/");
    Some(if text { format!("{media}; charset=utf-8") } else { media.to_owned() })
}

/// By the first bytes of a file, `whole` if they are all of it.
///
/// Nothing is taken for a page or a script that is not named so: a browser would run it.
pub(super) fn by_content(first: &[u8], whole: bool) -> &'static str {
    if let Some(kind) = infer::get(first) {
        return match kind.matcher_type() {
            infer::MatcherType::Text => TEXT,
            _ => kind.mime_type(),
        };
    }
    let text = match std::str::from_utf8(first) {
        Ok(text) => text,
        // A character may be cut off at the end.
        Err(error) if !whole && error.error_len().is_none() => first
            .get(..error.valid_up_to())
            .and_then(|text| std::str::from_utf8(text).ok())
            .unwrap_or_default(),
        Err(_) => return OCTETS,
    };
    if text.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{c}' | '\u{1b}')) {
        return OCTETS;
    }
    if whole && text.trim_start().starts_with(['{', '[']) && is_json(text) {
        return "application/json";
    }
    TEXT
}

fn is_json(text: &str) -> bool {
    crate::Codec::DagJson.decode(text.trim().as_bytes()).is_ok()
}
