use std::{error::Error, fmt::Display};

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::{DagError, ExportError, ReadError, StoreError};

/// An answer that is an error, in a line of text.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    text: String,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, text: impl Display) -> Self {
        Self { status, text: text.to_string(), header: None }
    }

    /// The same, with a header that it needs.
    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some((name, value));
        self
    }

    pub(super) fn bad(text: impl Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// The same, or for a client that asks for what is here already, that it is not.
    pub(super) fn or_not_cached(self, only_if_cached: bool) -> Self {
        let malformed = self.status == StatusCode::BAD_REQUEST;
        if malformed && only_if_cached { Self::new(StatusCode::PRECONDITION_FAILED, self.text) } else { self }
    }

    /// A name that leads nowhere, or nowhere that can be believed.
    pub(super) fn unresolved(text: impl Display) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, text)
    }

    /// Sends the client to the same thing under another path.
    pub(super) fn redirect(to: &str) -> Self {
        let refusal = Self::new(StatusCode::FOUND, format_args!("see {to}"));
        match HeaderValue::from_str(to) {
            Ok(to) => refusal.with(header::LOCATION, to),
            Err(_) => refusal,
        }
    }

    /// An error with what lies below it.
    fn of(status: StatusCode, error: &dyn Error) -> Self {
        Self::new(status, in_full(error))
    }

    /// What it says.
    #[cfg(feature = "rpc")]
    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

/// An error and what lies below it, in a line.
pub(crate) fn in_full(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(cause) = below {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        below = cause.source();
    }
    text
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.text + "\n").into_response();
        let headers = response.headers_mut();
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.extend(self.header);
        response
    }
}

impl From<StoreError> for Refusal {
    /// What failed in the store is for its operator, not for the client.
    fn from(error: StoreError) -> Self {
        tracing::warn!(%error, source = %error.source, "the gateway cannot read its store");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the block store failed")
    }
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Missing { .. } => Self::of(StatusCode::NOT_FOUND, &error),
            ReadError::Layout { .. } => Self::of(StatusCode::UNPROCESSABLE_ENTITY, &error),
            ReadError::Source(error) => error.into(),
        }
    }
}

impl From<DagError> for Refusal {
    fn from(error: DagError) -> Self {
        match error {
            DagError::NotFound { .. } => Self::of(StatusCode::NOT_FOUND, &error),
            DagError::Read(error) => error.into(),
            DagError::Store(error) => error.into(),
            _ => Self::of(StatusCode::UNPROCESSABLE_ENTITY, &error),
        }
    }
}

impl From<ExportError> for Refusal {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Read(error) => error.into(),
            _ => Self::of(StatusCode::UNPROCESSABLE_ENTITY, &error),
        }
    }
}
