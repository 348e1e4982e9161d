//! dag-json: JSON (RFC 8259) in which `{"/": CID}` is a link and `{"/": {"bytes": base64}}` are bytes.
//!
//! White space and unsorted keys are read, as other implementations do, and never written.

use std::collections::{BTreeMap, BTreeSet};

use cid::multibase::Base;
use ipld_core::ipld::Ipld;

use super::{
    MAX_NESTING,
    event::{Event, Sink},
    in_range,
};
use crate::{
    fault::{Fault, fault},
    multiformats::parse_cid,
};

/// A list or map that is not yet ended.
enum Open {
    List,
    /// The keys so far.
    Map(BTreeSet<String>),
}

/// Reads the value that `bytes` are, without recursion.
pub(super) fn scan(bytes: &[u8], sink: Sink<'_>) -> Result<(), Fault> {
    let text = std::str::from_utf8(bytes)
        .map_err(|e| Fault { at: e.valid_up_to(), reason: "the text is not UTF-8" })?;
    let mut input = Input { text, at: 0 };
    let mut stack: Vec<Open> = Vec::new();
    loop {
        input.space();
        let start = input.at;
        let opened = match input.peek() {
            Some(b'{') if input.special(sink)? => false,
            Some(open @ (b'{' | b'[')) => {
                input.at += 1;
                if stack.len() >= MAX_NESTING {
                    return fault(start, "the value is nested too deeply");
                }
                let is_map = open == b'{';
                sink(if is_map { Event::Map } else { Event::List })?;
                stack.push(if is_map { Open::Map(BTreeSet::new()) } else { Open::List });
                true
            }
            Some(b'"') => sink(Event::Text(&input.string()?)).map(|()| false)?,
            Some(b'-' | b'0'..=b'9') => input.number(sink).map(|()| false)?,
            _ => input.word(sink).map(|()| false)?,
        };
        // Ends what is complete, then goes on to the next value of what is not.
        let mut first = opened;
        loop {
            let Some(open) = stack.last_mut() else { return input.end() };
            input.space();
            let at = input.at;
            let close = if matches!(open, Open::List) { b']' } else { b'}' };
            if input.take(close) {
                stack.pop();
                sink(Event::End)?;
                first = false;
                continue;
            }
            if !first && !input.take(b',') {
                return fault(at, "a list or map goes on without a comma, or is cut off");
            }
            let Open::Map(keys) = open else { break };
            input.space();
            let at = input.at;
            if input.peek() != Some(b'"') {
                return fault(at, "a key is no text");
            }
            let key = input.string()?;
            input.colon()?;
            if key == "/" && input.is_reserved()? {
                return fault(at, "a map with the key / is neither a link nor bytes");
            }
            sink(Event::Key(&key))?;
            if !keys.insert(key) {
                return fault(at, "a key is repeated");
            }
            break;
        }
    }
}

#[derive(Clone, Copy)]
struct Input<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Input<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let here = self.peek() == Some(byte);
        self.at += usize::from(here);
        here
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn end(&mut self) -> Result<(), Fault> {
        self.space();
        if self.at == self.text.len() { Ok(()) } else { fault(self.at, "bytes follow the value") }
    }

    fn colon(&mut self) -> Result<(), Fault> {
        self.space();
        if !self.take(b':') {
            return fault(self.at, "a colon is missing");
        }
        self.space();
        Ok(())
    }

    /// Takes a link or bytes, if that is what the map here is.
    fn special(&mut self, sink: Sink<'_>) -> Result<bool, Fault> {
        let mut ahead = *self;
        let start = ahead.at;
        ahead.at += 1;
        ahead.space();
        if !ahead.text.get(ahead.at..).is_some_and(|rest| rest.starts_with("\"/\"")) {
            return Ok(false);
        }
        ahead.at += 3;
        ahead.colon()?;
        if !ahead.is_reserved()? {
            return Ok(false);
        }
        if ahead.peek() == Some(b'"') {
            let text = ahead.string()?;
            let Ok(cid) = parse_cid(&text) else {
                return fault(start, "a link has a CID that cannot be read");
            };
            sink(Event::Link(cid))?;
        } else {
            // `is_reserved` has seen that this is a map whose first key is `bytes`, with a text.
            ahead.at += 1;
            ahead.space();
            ahead.string()?;
            ahead.colon()?;
            let text = ahead.string()?;
            // Without padding is canonical; with it is read too.
            let base = if text.ends_with('=') { Base::Base64Pad } else { Base::Base64 };
            let Ok(bytes) = base.decode(&text) else { return fault(start, "bytes are not base64") };
            sink(Event::Bytes(&bytes))?;
            ahead.space();
            if !ahead.take(b'}') {
                return fault(ahead.at, "a map with the key / is neither a link nor bytes");
            }
        }
        ahead.space();
        if !ahead.take(b'}') {
            return fault(ahead.at, "a map with the key / is neither a link nor bytes");
        }
        self.at = ahead.at;
        Ok(true)
    }

    /// Whether the value here is one that only a link or bytes may have behind the key `/`: a text, or a map whose
    /// first key is `bytes`, with a text.
    fn is_reserved(&self) -> Result<bool, Fault> {
        let mut ahead = *self;
        if ahead.peek() == Some(b'"') {
            return Ok(true);
        }
        if !ahead.take(b'{') {
            return Ok(false);
        }
        ahead.space();
        if ahead.peek() != Some(b'"') || ahead.string()? != "bytes" {
            return Ok(false);
        }
        ahead.colon()?;
        Ok(ahead.peek() == Some(b'"'))
    }

    fn word(&mut self, sink: Sink<'_>) -> Result<(), Fault> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        for (word, event) in
            [("null", Event::Null), ("true", Event::Bool(true)), ("false", Event::Bool(false))]
        {
            if rest.starts_with(word) {
                self.at += word.len();
                return sink(event);
            }
        }
        fault(self.at, if rest.is_empty() { "the value is cut off" } else { "this is no value" })
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at - start
    }

    fn number(&mut self, sink: Sink<'_>) -> Result<(), Fault> {
        let start = self.at;
        self.take(b'-');
        let leading_zero = self.peek() == Some(b'0');
        let whole = self.digits();
        let mut malformed = whole == 0 || (leading_zero && whole > 1);
        let mut float = false;
        if self.take(b'.') {
            float = true;
            malformed |= self.digits() == 0;
        }
        if self.take(b'e') || self.take(b'E') {
            float = true;
            let _ = self.take(b'+') || self.take(b'-');
            malformed |= self.digits() == 0;
        }
        if malformed {
            return fault(start, "a number is malformed");
        }
        let text = self.text.get(start..self.at).unwrap_or_default();
        if float {
            return match text.parse::<f64>() {
                Ok(value) if value.is_finite() => sink(Event::Float(value)),
                _ => fault(start, "a float is not a finite number"),
            };
        }
        match text.parse() {
            Ok(value) if in_range(value) => sink(Event::Integer(value)),
            _ => fault(start, "an integer exceeds 64 bits"),
        }
    }

    /// Reads the text whose quotation mark is here.
    fn string(&mut self) -> Result<String, Fault> {
        let start = self.at;
        self.at += 1;
        let mut out = String::new();
        loop {
            let from = self.at;
            while !matches!(self.peek(), None | Some(b'"' | b'\\' | 0..0x20)) {
                self.at += 1;
            }
            out.push_str(self.text.get(from..self.at).unwrap_or_default());
            let at = self.at;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => {
                    self.at += 1;
                    let Some(char) = self.escape() else { return fault(at, "an escape is malformed") };
                    out.push(char);
                }
                Some(_) => return fault(at, "a control character stands in a text"),
                None => return fault(start, "a text is cut off"),
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        let byte = self.peek()?;
        self.at += 1;
        Some(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let unit = self.unit()?;
                // A surrogate stands for something only together with its other half.
                if !(0xd800..0xdc00).contains(&unit) {
                    return char::from_u32(unit);
                }
                if !(self.take(b'\\') && self.take(b'u')) {
                    return None;
                }
                let low = self.unit()?.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
                return char::from_u32(0x1_0000 + ((unit - 0xd800) << 10 | low));
            }
            _ => return None,
        })
    }

    fn unit(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }
}

/// Writes `value` without white space, keys in the order of their bytes, bytes in base64 without padding.
pub(super) fn encode(value: &Ipld) -> Result<Vec<u8>, &'static str> {
    let mut out = String::new();
    put(&mut out, value, 0)?;
    Ok(out.into_bytes())
}

fn put(out: &mut String, value: &Ipld, depth: usize) -> Result<(), &'static str> {
    if depth >= MAX_NESTING && matches!(value, Ipld::List(_) | Ipld::Map(_)) {
        return Err("the value is nested too deeply");
    }
    match value {
        Ipld::Null => out.push_str("null"),
        Ipld::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Ipld::Integer(value) if !in_range(*value) => return Err("an integer exceeds 64 bits"),
        Ipld::Integer(value) => out.push_str(&value.to_string()),
        Ipld::Float(value) if !value.is_finite() => return Err("a float is not a finite number"),
        // The shortest digits that read back to the same number, always with a fraction or an exponent.
        Ipld::Float(value) => out.push_str(&format!("{value:?}")),
        Ipld::String(text) => put_text(out, text),
        Ipld::Bytes(bytes) => {
            out.push_str("{\"/\":{\"bytes\":\"");
            out.push_str(&Base::Base64.encode(bytes));
            out.push_str("\"}}");
        }
        Ipld::Link(cid) => {
            out.push_str("{\"/\":\"");
            out.push_str(&cid.to_string());
            out.push_str("\"}");
        }
        Ipld::List(list) => {
            out.push('[');
            for (i, value) in list.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                put(out, value, depth + 1)?;
            }
            out.push(']');
        }
        Ipld::Map(map) => put_map(out, map, depth)?,
    }
    Ok(())
}

fn put_map(out: &mut String, map: &BTreeMap<String, Ipld>, depth: usize) -> Result<(), &'static str> {
    let reserved = match map.get("/") {
        Some(Ipld::String(_)) => true,
        Some(Ipld::Map(inner)) => {
            matches!(inner.first_key_value(), Some((key, Ipld::String(_))) if key == "bytes")
        }
        _ => false,
    };
    if reserved {
        return Err("a map with the key / would read back as a link or bytes");
    }
    out.push('{');
    for (i, (key, value)) in map.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        put_text(out, key);
        out.push(':');
        put(out, value, depth + 1)?;
    }
    out.push('}');
    Ok(())
}

fn put_text(out: &mut String, text: &str) {
    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0'..'\u{20}' => out.push_str(&format!("\\u{:04x}", u32::from(char))),
            _ => out.push(char),
        }
    }
    out.push('"');
}
