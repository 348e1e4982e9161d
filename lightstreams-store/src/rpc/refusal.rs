use std::{error::Error, fmt::Display};

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::X_STREAM_ERROR;
use crate::{
    BuildError, CarError, CarImportError, DagError, DecodeError, EncodeError, ExportError, OptionsError,
    PinError, ReadError, StoreError,
    gateway::{
        out,
        refusal::{Refusal, in_full},
    },
};

/// The longest message that goes into a trailer.
const TRAILER_BYTES: usize = 1024;

/// An answer that is an error, as Kubo writes it.
#[derive(Debug)]
pub(super) struct RpcError {
    status: StatusCode,
    /// Kubo's kind: 0 failed, 1 wrong request, 3 too many requests, 4 forbidden.
    code: u8,
    message: String,
    /// Whether it comes as text, as what is refused before a command is found does.
    plain: bool,
    header: Option<(HeaderName, HeaderValue)>,
}

/// Why no more of an answer is written.
pub(super) type Stop = out::Stop<RpcError>;

impl RpcError {
    fn new(status: StatusCode, code: u8, message: impl Display) -> Self {
        Self { status, code, message: message.to_string(), plain: false, header: None }
    }

    /// The command failed.
    pub(super) fn failed(message: impl Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, 0, message)
    }

    /// The request is wrong.
    pub(super) fn client(message: impl Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, 1, message)
    }

    pub(super) fn busy() -> Self {
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, 3, "too many requests are being answered");
        error.with(header::RETRY_AFTER, HeaderValue::from_static("5"))
    }

    pub(super) fn forbidden(message: &str) -> Self {
        Self { plain: true, ..Self::new(StatusCode::FORBIDDEN, 4, message) }
    }

    pub(super) fn no_command() -> Self {
        Self { plain: true, ..Self::new(StatusCode::NOT_FOUND, 1, "404 page not found") }
    }

    pub(super) fn method() -> Self {
        let error =
            Self { plain: true, ..Self::new(StatusCode::METHOD_NOT_ALLOWED, 1, "405 - Method Not Allowed") };
        error.with(header::ALLOW, HeaderValue::from_static("OPTIONS, POST"))
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some((name, value));
        self
    }

    /// An error with what lies below it.
    pub(super) fn of(error: &dyn Error) -> Self {
        Self::failed(in_full(error))
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// The trailer that tells of a failure after the answer began.
    pub(super) fn trailers(&self) -> HeaderMap {
        let mut text: String =
            self.message.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect();
        text.truncate(TRAILER_BYTES);
        let value = HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("failed"));
        HeaderMap::from_iter([(X_STREAM_ERROR, value)])
    }
}

impl IntoResponse for RpcError {
    fn into_response(self) -> Response {
        let mut response = if self.plain {
            (self.status, self.message + "\n").into_response()
        } else {
            let body = json!({ "Message": self.message, "Code": self.code, "Type": "error" });
            let json = HeaderValue::from_static("application/json");
            (self.status, [(header::CONTENT_TYPE, json)], format!("{body}\n")).into_response()
        };
        let headers = response.headers_mut();
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.extend(self.header);
        response
    }
}

macro_rules! failures {
    ($($error:ty),*) => {$(
        impl From<$error> for RpcError {
            fn from(error: $error) -> Self {
                Self::of(&error)
            }
        }
        impl From<$error> for Stop {
            fn from(error: $error) -> Self {
                Self::Refused(error.into())
            }
        }
    )*};
}
failures!(
    BuildError,
    CarError,
    CarImportError,
    DagError,
    DecodeError,
    EncodeError,
    ExportError,
    PinError,
    ReadError,
    StoreError
);

impl From<OptionsError> for RpcError {
    fn from(error: OptionsError) -> Self {
        Self::client(error)
    }
}

impl From<Refusal> for RpcError {
    fn from(refusal: Refusal) -> Self {
        Self::failed(refusal.into_text())
    }
}

impl From<RpcError> for Stop {
    fn from(error: RpcError) -> Self {
        Self::Refused(error)
    }
}

impl From<std::io::Error> for Stop {
    /// Nothing but the client's end of an answer is written to.
    fn from(_: std::io::Error) -> Self {
        Self::Gone
    }
}
