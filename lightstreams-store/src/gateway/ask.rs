//! Reading requests.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, HeaderValue, Uri, header};
use cid::Cid;
use percent_encoding::percent_decode_str;

use super::refusal::Refusal;
use crate::{DagScope, EntityBytes, IpnsName, parse_cid};

/// What is asked for, and how.
pub(super) struct Ask {
    pub(super) namespace: Namespace,
    /// Names below it, decoded.
    pub(super) names: Vec<String>,
    /// Whether the path ends with a slash.
    pub(super) slash: bool,
    /// The path as it came.
    pub(super) raw_path: String,
    /// The query as it came.
    pub(super) query: Option<String>,
    pub(super) format: Option<Format>,
    pub(super) car: CarAsk,
    pub(super) filename: Option<String>,
    pub(super) download: bool,
    pub(super) only_if_cached: bool,
    /// Whether a page for people is wanted.
    pub(super) html: bool,
    /// The URL that asks for the same without the `Accept` header, where that chose the format.
    pub(super) location: Option<String>,
    pub(super) headers: HeaderMap,
}

/// What a path begins with.
pub(super) enum Namespace {
    Ipfs(Cid),
    Ipns(IpnsName),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Raw,
    Car,
    Tar,
    Json,
    Cbor,
    DagJson,
    DagCbor,
    IpnsRecord,
}

impl Format {
    const ALL: [(Self, &str, &str); 8] = [
        (Self::Raw, "raw", "application/vnd.ipld.raw"),
        (Self::Car, "car", "application/vnd.ipld.car"),
        (Self::Tar, "tar", "application/x-tar"),
        (Self::Json, "json", "application/json"),
        (Self::Cbor, "cbor", "application/cbor"),
        (Self::DagJson, "dag-json", "application/vnd.ipld.dag-json"),
        (Self::DagCbor, "dag-cbor", "application/vnd.ipld.dag-cbor"),
        (Self::IpnsRecord, "ipns-record", "application/vnd.ipfs.ipns-record"),
    ];

    fn row(self) -> (&'static str, &'static str) {
        let row = Self::ALL.iter().find(|(format, ..)| *format == self);
        row.map_or(("", ""), |(_, name, media)| (name, media))
    }

    /// As the query names it, and the end of an entity tag.
    pub(super) fn name(self) -> &'static str {
        self.row().0
    }

    /// Its media type.
    pub(super) fn media(self) -> &'static str {
        self.row().1
    }
}

/// Parameters of a CAR.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CarAsk {
    pub(super) scope: DagScope,
    pub(super) bytes: Option<EntityBytes>,
    pub(super) duplicates: bool,
}

/// The path, decoded; where no header holds that, as it came.
pub(super) fn shown_path(uri: &Uri) -> Option<HeaderValue> {
    let decoded: Vec<u8> = percent_decode_str(uri.path()).collect();
    HeaderValue::from_bytes(&decoded).or_else(|_| HeaderValue::from_str(uri.path())).ok()
}

impl Ask {
    pub(super) fn read(uri: &Uri, headers: HeaderMap) -> Result<Self, Refusal> {
        let raw_path = uri.path().to_owned();
        let bad_path = || Refusal::bad(format!("the path {raw_path} is not percent-encoded UTF-8"));
        let mut names = Vec::new();
        for segment in raw_path.split('/').filter(|segment| !segment.is_empty()) {
            names.push(percent_decode_str(segment).decode_utf8().map_err(|_| bad_path())?.into_owned());
        }
        let mut names = names.into_iter();
        let (kind, key) = (names.next().unwrap_or_default(), names.next().unwrap_or_default());
        let only_if_cached = only_if_cached(&headers);
        let namespace = Namespace::read(&kind, &key, &raw_path, uri.query());
        // What no CID names is not here either, and a client that asks no more than that is told so.
        let namespace = namespace.map_err(|refusal| refusal.or_not_cached(only_if_cached))?;

        let query: BTreeMap<String, String> =
            form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        let named = query.get("format").map(String::as_str);
        let by_name =
            Format::ALL.iter().find(|(_, name, _)| Some(*name) == named).map(|(format, ..)| *format);
        let accept = Accept::read(&headers);
        let format = by_name.or_else(|| accept.as_ref().map(|accept| accept.format));
        let mut location = None;
        if let (None, Some(accept)) = (by_name, &accept) {
            location = Some(accept.location(&raw_path, &query));
        }
        let car = match format {
            Some(Format::Car) => CarAsk::read(&query, accept.as_ref())?,
            _ => CarAsk::default(),
        };
        let html = accept_parts(&headers).any(|(media, _)| media == "text/html");
        Ok(Self {
            namespace,
            names: names.collect(),
            slash: raw_path.ends_with('/'),
            query: uri.query().map(str::to_owned),
            format,
            car,
            filename: query.get("filename").filter(|name| !name.is_empty()).cloned(),
            download: query.get("download").is_some_and(|value| value == "true"),
            only_if_cached,
            html,
            location,
            raw_path,
            headers,
        })
    }
}

fn only_if_cached(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .any(|directive| directive.trim().eq_ignore_ascii_case("only-if-cached"))
}

impl Namespace {
    fn read(kind: &str, key: &str, raw_path: &str, query: Option<&str>) -> Result<Self, Refusal> {
        if kind == "ipfs" {
            let cid = parse_cid(key).map_err(|error| Refusal::bad(format!("no CID: {key:?}: {error}")))?;
            return Ok(Self::Ipfs(cid));
        }
        match key.parse::<IpnsName>() {
            Ok(name) if name.to_string() == key => Ok(Self::Ipns(name)),
            Ok(name) => {
                // One name, one URL: caches and origins go by it.
                let rest = raw_path.splitn(4, '/').nth(3);
                let rest = rest.map(|rest| format!("/{rest}")).unwrap_or_default();
                let query = query.map(|query| format!("?{query}")).unwrap_or_default();
                Err(Refusal::redirect(&format!("/ipns/{name}{rest}{query}")))
            }
            Err(_) => {
                Err(Refusal::unresolved(format!("{key:?} is no key, and DNSLink is not resolved here")))
            }
        }
    }
}

/// The media types of `Accept` in their order, each with its parameters. Weights are not looked at, as in other gateways.
fn accept_parts(headers: &HeaderMap) -> impl Iterator<Item = (String, BTreeMap<String, String>)> {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(|part| {
        let mut fields = part.split(';').map(str::trim);
        let media = fields.next().unwrap_or_default().to_ascii_lowercase();
        let parameters = fields.filter_map(|field| field.split_once('='));
        let parameters = parameters
            .map(|(key, value)| (key.trim().to_ascii_lowercase(), value.trim().trim_matches('"').to_owned()));
        (media, parameters.collect())
    })
}

/// The first media type of `Accept` that names a format.
struct Accept {
    format: Format,
    parameters: BTreeMap<String, String>,
}

impl Accept {
    fn read(headers: &HeaderMap) -> Option<Self> {
        accept_parts(headers).find_map(|(media, parameters)| {
            let (format, ..) = Format::ALL.iter().find(|(_, _, known)| *known == media)?;
            Some(Self { format: *format, parameters })
        })
    }

    fn location(&self, path: &str, query: &BTreeMap<String, String>) -> String {
        let mut query = query.clone();
        query.insert("format".to_owned(), self.format.name().to_owned());
        if self.format == Format::Car {
            for (key, value) in &self.parameters {
                if matches!(&**key, "version" | "order" | "dups") {
                    query.entry(format!("car-{key}")).or_insert_with(|| value.clone());
                }
            }
        }
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        format!("{path}?{query}")
    }
}

impl CarAsk {
    /// The query counts before the parameters of `Accept` (IPIP-523).
    fn read(query: &BTreeMap<String, String>, accept: Option<&Accept>) -> Result<Self, Refusal> {
        let of_accept = accept.filter(|accept| accept.format == Format::Car).map(|accept| &accept.parameters);
        let parameter = |name: &str| {
            let named = query.get(&format!("car-{name}")).or_else(|| of_accept?.get(name));
            named.map(String::as_str)
        };
        if parameter("version").is_some_and(|version| version != "1") {
            return Err(Refusal::bad("only CARs of version=1 are served"));
        }
        if parameter("order").is_some_and(|order| !matches!(order, "dfs" | "unk")) {
            return Err(Refusal::bad("the order of a CAR is dfs or unk"));
        }
        let duplicates = match parameter("dups") {
            None | Some("n") => false,
            Some("y") => true,
            Some(_) => return Err(Refusal::bad("dups of a CAR is y or n")),
        };
        let scope = match query.get("dag-scope").map(String::as_str) {
            None | Some("all") => DagScope::All,
            Some("entity") => DagScope::Entity,
            Some("block") => DagScope::Block,
            Some(_) => return Err(Refusal::bad("dag-scope is block, entity or all")),
        };
        let bytes = query.get("entity-bytes").map(|bytes| entity_bytes(bytes)).transpose()?;
        Ok(Self { scope, bytes, duplicates })
    }
}

fn entity_bytes(text: &str) -> Result<EntityBytes, Refusal> {
    let read = || {
        let (from, to) = text.split_once(':')?;
        let from: i64 = from.parse().ok()?;
        let to = if to == "*" { None } else { Some(to.parse::<i64>().ok()?) };
        let backward = to.is_some_and(|to| (to < 0) == (from < 0) && to < from);
        (!backward).then_some(EntityBytes { from, to })
    };
    read().ok_or_else(|| Refusal::bad("entity-bytes is FROM:TO or FROM:*, with FROM not behind TO"))
}
