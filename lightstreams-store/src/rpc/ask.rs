//! What a request asks for.

use std::{fmt::Display, str::FromStr, time::Duration};

use cid::{Cid, Version, multibase::Base};

use super::refusal::RpcError;
use crate::{IpnsName, parse_cid};

/// Arguments and options of a request, in the query.
#[derive(Debug, Default)]
pub(super) struct Ask {
    pub(super) args: Vec<String>,
    options: Vec<(String, String)>,
}

impl Ask {
    pub(super) fn read(query: &str) -> Self {
        let mut ask = Self::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            if key == "arg" {
                ask.args.push(value.into_owned());
            } else {
                ask.options.push((key.into_owned(), value.into_owned()));
            }
        }
        ask
    }

    /// The one value of the option that has any of `names`.
    pub(super) fn text(&self, names: &[&str]) -> Result<Option<&str>, RpcError> {
        let mut values = self.options.iter().filter(|(key, _)| names.contains(&key.as_str()));
        match (values.next(), values.next()) {
            (Some((key, _)), Some(_)) => Err(RpcError::client(format!("the option {key:?} is there twice"))),
            (found, _) => Ok(found.map(|(_, value)| value.as_str())),
        }
    }

    /// An option that is yes or no, as Go writes them.
    pub(super) fn flag(&self, names: &[&str], default: bool) -> Result<bool, RpcError> {
        Ok(self.chosen(names)?.unwrap_or(default))
    }

    /// The same, or `None` where nothing is said.
    pub(super) fn chosen(&self, names: &[&str]) -> Result<Option<bool>, RpcError> {
        let Some(value) = self.text(names)? else { return Ok(None) };
        match value {
            "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(Some(true)),
            "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(Some(false)),
            _ => Err(unreadable(names, value, "bool")),
        }
    }

    /// A number, in octal with a leading 0, in hexadecimal with 0x.
    pub(super) fn number<N: TryFrom<i128>>(&self, names: &[&str]) -> Result<Option<N>, RpcError> {
        let Some(text) = self.text(names)? else { return Ok(None) };
        let wrong = || unreadable(names, text, "number");
        let (minus, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
        let (digits, radix) = match digits.as_bytes() {
            [b'0', b'x' | b'X', ..] => (digits.get(2..), 16),
            [b'0', b'o' | b'O', ..] => (digits.get(2..), 8),
            [b'0', _, ..] => (digits.get(1..), 8),
            _ => (Some(digits), 10),
        };
        let value = i64::from_str_radix(digits.ok_or_else(wrong)?, radix).map_err(|_| wrong())?;
        N::try_from(i128::from(value) * minus).map(Some).map_err(|_| wrong())
    }

    /// A number that may not be negative; `refusal` says so.
    pub(super) fn natural(&self, names: &[&str], refusal: &str) -> Result<Option<u64>, RpcError> {
        let number = self.number::<i64>(names)?;
        number.map(|number| u64::try_from(number).map_err(|_| RpcError::client(refusal))).transpose()
    }

    /// A value that is read from its name.
    pub(super) fn named<T: FromStr<Err: Display>>(&self, names: &[&str]) -> Result<Option<T>, RpcError> {
        let Some(text) = self.text(names)? else { return Ok(None) };
        text.parse().map(Some).map_err(|error| {
            let name = names.first().copied().unwrap_or_default();
            RpcError::client(format!("the option {name:?} cannot be {text:?}: {error}"))
        })
    }

    /// Refuses options that Kubo has and that are not here, unless they say no.
    pub(super) fn refuse(&self, names: &[&str]) -> Result<(), RpcError> {
        for name in names {
            if !matches!(self.text(&[name])?, None | Some("" | "false" | "0")) {
                return Err(RpcError::client(format!("the option {name:?} is not supported here")));
            }
        }
        Ok(())
    }

    /// How long the answer may take.
    pub(super) fn timeout(&self) -> Result<Option<Duration>, RpcError> {
        let Some(text) = self.text(&["timeout"])? else { return Ok(None) };
        duration(text).map(Some).ok_or_else(|| unreadable(&["timeout"], text, "duration"))
    }

    /// How CIDs are written.
    pub(super) fn cids(&self) -> Result<CidText, RpcError> {
        let base = match self.text(&["cid-base"])? {
            None => None,
            Some(name) => {
                let known =
                    BASES.iter().find(|(known, base)| *known == name || base.code().to_string() == name);
                let (_, base) = known.ok_or_else(|| unreadable(&["cid-base"], name, "multibase"))?;
                Some(*base)
            }
        };
        let upgrade =
            self.flag(&["upgrade-cidv0-in-output"], base.is_some_and(|base| base != Base::Base58Btc))?;
        Ok(CidText { base, upgrade })
    }
}

fn unreadable(names: &[&str], value: &str, kind: &str) -> RpcError {
    let name = names.first().copied().unwrap_or_default();
    RpcError::client(format!("could not convert value {value:?} to type {kind:?} (for option {name:?})"))
}

const BASES: [(&str, Base); 12] = [
    ("base2", Base::Base2),
    ("base16", Base::Base16Lower),
    ("base16upper", Base::Base16Upper),
    ("base32", Base::Base32Lower),
    ("base32upper", Base::Base32Upper),
    ("base32hex", Base::Base32HexLower),
    ("base36", Base::Base36Lower),
    ("base58btc", Base::Base58Btc),
    ("base58flickr", Base::Base58Flickr),
    ("base64", Base::Base64),
    ("base64url", Base::Base64Url),
    ("base64urlpad", Base::Base64UrlPad),
];

/// A time as Go writes it: `1h30m`, `2.5s`, `300ms`.
fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    if text == "0" {
        return Some(total);
    }
    loop {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest.get(..end)?.parse().ok()?;
        rest = rest.get(end..)?;
        let units =
            [("ms", 1e-3), ("us", 1e-6), ("µs", 1e-6), ("ns", 1e-9), ("h", 3600.0), ("m", 60.0), ("s", 1.0)];
        let (unit, seconds) = units.into_iter().find(|(unit, _)| rest.starts_with(unit))?;
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = rest.get(unit.len()..)?;
        if rest.is_empty() {
            return Some(total);
        }
    }
}

/// How CIDs are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct CidText {
    base: Option<Base>,
    upgrade: bool,
}

impl CidText {
    pub(super) fn of(self, cid: &Cid) -> String {
        let upgraded =
            (self.upgrade && cid.version() == Version::V0).then(|| Cid::new_v1(cid.codec(), *cid.hash()));
        let cid = upgraded.unwrap_or(*cid);
        match (cid.version(), self.base) {
            (Version::V1, Some(base)) => cid.to_string_of_base(base).unwrap_or_else(|_| cid.to_string()),
            _ => cid.to_string(),
        }
    }
}

/// What a path begins with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Root {
    Ipfs(Cid),
    Ipns(IpnsName),
}

/// Reads `/ipfs/CID/…`, `/ipns/NAME/…`, `ipfs://CID/…`, `ipns://NAME/…` or `CID/…`.
pub(super) fn path(text: &str) -> Result<(Root, Vec<String>), String> {
    let uri = |scheme: &str| {
        let rest = text.strip_prefix(scheme)?.strip_prefix(':')?;
        Some(rest.strip_prefix("//").unwrap_or(rest))
    };
    let under = |space: &str| text.strip_prefix('/')?.strip_prefix(space)?.strip_prefix('/');
    let (named, rest) = match (uri("ipfs").or_else(|| under("ipfs")), uri("ipns").or_else(|| under("ipns"))) {
        (Some(rest), _) => (false, rest),
        (None, Some(rest)) => (true, rest),
        (None, None) => (false, text),
    };
    let mut parts = rest.split('/').filter(|part| !part.is_empty());
    let key = parts.next().unwrap_or_default();
    let root = if named {
        Root::Ipns(key.parse().map_err(|error| format!("invalid path {text:?}: {error}"))?)
    } else {
        Root::Ipfs(parse_cid(key).map_err(|error| format!("invalid path {text:?}: {error}"))?)
    };
    Ok((root, parts.map(str::to_owned).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_flags_and_times_are_those_of_go() {
        let ask = Ask::read("a=0644&b=0x1f&c=-7&d=09&e=&f=t&g=yes&h=1&h=2&i=9999999999999999999&j=+5");
        assert_eq!(ask.number::<u32>(&["a"]).unwrap(), Some(0o644));
        assert_eq!(ask.number::<u64>(&["b"]).unwrap(), Some(31));
        assert_eq!(ask.number::<i64>(&["c"]).unwrap(), Some(-7));
        assert!(ask.number::<u64>(&["c"]).is_err());
        assert!(ask.flag(&["f"], false).unwrap() && ask.flag(&["none"], true).unwrap());
        for wrong in ["d", "e", "h", "i"] {
            assert!(ask.number::<i64>(&[wrong]).is_err(), "{wrong}");
        }
        for wrong in ["e", "g", "h"] {
            assert!(ask.flag(&[wrong], false).is_err(), "{wrong}");
        }
        for (text, millis) in [("1h30m", 5_400_000), ("2.5s", 2500), ("300ms", 300), ("0", 0)] {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for wrong in ["", "5", "s", "1x", "-1s", "1s2", "99999999999999999999h"] {
            assert_eq!(duration(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn cids_are_written_as_asked_for() {
        let v0: Cid = "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn".parse().unwrap();
        let text = |query: &str| Ask::read(query).cids().unwrap().of(&v0);
        assert_eq!(text(""), v0.to_string());
        assert_eq!(text("cid-base=base58btc"), v0.to_string());
        assert_eq!(text("cid-base=base32"), "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354");
        assert_eq!(text("cid-base=b"), text("cid-base=base32"));
        assert!(Ask::read("cid-base=base99").cids().is_err());
    }

    #[test]
    fn paths_have_several_forms() {
        let cid = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";
        let expected = (Root::Ipfs(cid.parse().unwrap()), vec!["a".to_owned(), "b".to_owned()]);
        for form in ["/ipfs/", "ipfs://", "ipfs:", ""] {
            assert_eq!(path(&format!("{form}{cid}/a//b/")).unwrap(), expected, "{form}");
        }
        for wrong in ["", "/", "/ipfs/", "/ipfs/x", "/ipns/", "/ipns/example.org", "/api/x"] {
            assert!(path(wrong).is_err(), "{wrong:?}");
        }
    }
}
