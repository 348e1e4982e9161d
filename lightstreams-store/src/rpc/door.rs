//! Who may come in.

use std::fmt;

use axum::http::{HeaderMap, HeaderValue, Uri, header};
use cid::multibase::Base;

use super::refusal::RpcError;

/// What a client shows to be let in.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq)]
pub enum Authorization {
    /// `Authorization: Bearer TOKEN`.
    Bearer(String),
    /// `Authorization: Basic …`.
    Basic {
        /// Name of the user.
        user: String,
        /// The password.
        password: String,
    },
}

impl Authorization {
    fn header(&self) -> String {
        match self {
            Self::Bearer(token) => format!("Bearer {token}"),
            Self::Basic { user, password } => {
                format!("Basic {}", Base::Base64Pad.encode(format!("{user}:{password}")))
            }
        }
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bearer(_) => "Bearer",
            Self::Basic { .. } => "Basic",
        })
    }
}

/// The headers that a page of an allowed origin may read, and send.
pub(super) const EXPOSED: HeaderValue =
    HeaderValue::from_static("X-Stream-Output, X-Chunked-Output, X-Content-Length");

/// Origins that are let in, beside clients that are no browsers, and what clients must show.
#[derive(Clone)]
pub(super) struct Door {
    origins: Vec<String>,
    secrets: Vec<String>,
}

impl Door {
    pub(super) fn new(origins: &[String], authorizations: &[Authorization]) -> Self {
        Self {
            origins: origins.to_vec(),
            secrets: authorizations.iter().map(Authorization::header).collect(),
        }
    }

    fn knows(&self, origin: &str) -> bool {
        self.origins.iter().any(|known| known == "*" || known == origin)
    }

    /// Refuses pages of foreign origins: a browser that runs them sends `Origin`, `Referer`, or at least its own name.
    pub(super) fn check_origin(&self, headers: &HeaderMap) -> Result<(), RpcError> {
        let forbidden = || RpcError::forbidden("403 - Forbidden");
        let mut known = false;
        for origin in headers.get_all(header::ORIGIN) {
            let origin = origin.to_str().map_err(|_| forbidden())?;
            known = self.knows(origin);
            if !known {
                return Err(forbidden());
            }
        }
        for referer in headers.get_all(header::REFERER) {
            let uri: Uri = referer.to_str().ok().and_then(|text| text.parse().ok()).ok_or_else(forbidden)?;
            let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
                return Err(forbidden());
            };
            known = self.knows(&format!("{scheme}://{authority}"));
            if !known {
                return Err(forbidden());
            }
        }
        let agent = headers.get(header::USER_AGENT).map(HeaderValue::as_bytes).unwrap_or_default();
        let electron = agent.windows(8).any(|part| part == b"Electron");
        if known || electron || !agent.starts_with(b"Mozilla") { Ok(()) } else { Err(forbidden()) }
    }

    /// Refuses whoever shows nothing that is asked for.
    pub(super) fn check_secret(&self, headers: &HeaderMap) -> Result<(), RpcError> {
        let shown = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
        let known = self.secrets.iter().fold(false, |known, secret| known | same(secret.as_bytes(), shown));
        if known || self.secrets.is_empty() {
            return Ok(());
        }
        Err(RpcError::forbidden("403 - access denied: show a valid Authorization"))
    }

    /// What lets a page of an allowed origin read the answer.
    pub(super) fn allow(&self, asked: &HeaderMap, answer: &mut HeaderMap) {
        answer.insert(header::VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = asked.get(header::ORIGIN) else { return };
        if origin.to_str().is_ok_and(|origin| self.knows(origin)) {
            answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
            let headers = "Authorization, Content-Type, Origin, Accept, X-Requested-With";
            answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(headers));
            answer.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        }
    }
}

/// Compares without telling by time where two secrets differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}
