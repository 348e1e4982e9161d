//! JSON-RPC over HTTP: the chain's methods behind checks against web pages and floods.
//!
//! A name in `Host` other than `localhost` is refused (DNS rebinding), so is a web page that is not served from this
//! machine (`Origin`), and a body that does not call itself JSON (a form of another page).

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use jsonrpsee::Methods;
use serde_json::value::RawValue;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// A request body has at most this many bytes; a transaction has at most 512 KiB, in hex twice that.
const BODY_LEN_MAX: usize = 5 << 20;
/// A batch has at most this many calls.
const BATCH_LEN_MAX: usize = 100;
/// A batch is answered with at most about this many bytes.
const ANSWER_LEN_MAX: usize = 32 << 20;
/// Calls that run at a time; further ones wait.
const CALLS_MAX: usize = 8;
/// How long a body may take to arrive.
const BODY_TIME_MAX: Duration = Duration::from_secs(30);

/// The JSON-RPC methods of this node, ready to be mounted on a listener.
#[derive(Clone, Debug)]
pub struct RpcFace {
    methods: Methods,
    permits: Arc<Semaphore>,
}

impl RpcFace {
    /// Serves `methods`.
    pub fn new(methods: impl Into<Methods>) -> Self {
        Self { methods: methods.into(), permits: Arc::new(Semaphore::new(CALLS_MAX)) }
    }

    /// Answers a request of the public listener, after the checks of this module.
    pub async fn serve(self, request: Request<Body>) -> Response<Body> {
        if !host_is_local(request.headers()) {
            return plain(
                StatusCode::FORBIDDEN,
                "this host name is not served here; use an address or localhost",
            );
        }
        let origin = request.headers().get(header::ORIGIN).cloned();
        if origin.as_ref().is_some_and(|o| !origin_is_local(o)) {
            return plain(StatusCode::FORBIDDEN, "pages of this origin may not call this node");
        }
        let mut response = match *request.method() {
            Method::OPTIONS => plain(StatusCode::NO_CONTENT, ""),
            Method::POST if !is_json(request.headers()) => {
                plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the content type is application/json")
            }
            Method::POST => self.answer_body(request.into_body()).await,
            // Health checks of wallets and load balancers.
            Method::GET => plain(StatusCode::OK, ""),
            _ => plain(StatusCode::METHOD_NOT_ALLOWED, "JSON-RPC is called with POST"),
        };
        if let Some(origin) = origin {
            let headers = response.headers_mut();
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::VARY, HeaderValue::from_static("origin"));
            headers
                .insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST, GET, OPTIONS"));
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("content-type"));
        }
        response
    }

    /// Answers a body of one call or a batch, without the checks of the public listener.
    pub async fn answer_body(&self, body: Body) -> Response<Body> {
        let body = match tokio::time::timeout(BODY_TIME_MAX, to_bytes(body, BODY_LEN_MAX)).await {
            Err(_) => return plain(StatusCode::REQUEST_TIMEOUT, "the body took too long"),
            Ok(Err(_)) => {
                return plain(StatusCode::PAYLOAD_TOO_LARGE, "the body is broken or longer than 5 MiB");
            }
            Ok(Ok(body)) => body,
        };
        let text = match std::str::from_utf8(&body) {
            Ok(text) => self.answer(text).await,
            Err(_) => error_answer(-32700, "parse error: not UTF-8"),
        };
        let mut response = Response::new(Body::from(text));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    async fn answer(&self, text: &str) -> String {
        if !text.trim_start().starts_with('[') {
            return self.answer_one(text).await.unwrap_or_default();
        }
        let Ok(calls) = serde_json::from_str::<Vec<Box<RawValue>>>(text) else {
            return error_answer(-32700, "parse error");
        };
        if calls.is_empty() {
            return error_answer(-32600, "empty batch");
        }
        if calls.len() > BATCH_LEN_MAX {
            return error_answer(-32600, "batch too large: at most 100 calls");
        }
        let mut answers = String::from("[");
        for call in &calls {
            let answer = if answers.len() > ANSWER_LEN_MAX {
                Some(error_answer(-32003, "response too large"))
            } else {
                self.answer_one(call.get()).await
            };
            if let Some(answer) = answer {
                if answers.len() > 1 {
                    answers.push(',');
                }
                answers.push_str(&answer);
            }
        }
        // A batch of notifications alone is answered with nothing.
        if answers.len() == 1 {
            return String::new();
        }
        answers.push(']');
        answers
    }

    /// Answers one call; a notification (a call without an id) gets none.
    async fn answer_one(&self, text: &str) -> Option<String> {
        match serde_json::from_str::<serde_json::Value>(text) {
            Err(_) => return Some(error_answer(-32700, "parse error")),
            Ok(serde_json::Value::Object(call)) if call.contains_key("method") => {
                call.get("id")?;
            }
            Ok(_) => return Some(error_answer(-32600, "invalid request")),
        }
        let Ok(permit) = self.permits.clone().acquire_owned().await else {
            return Some(error_answer(-32603, "the node is stopping"));
        };
        let (methods, text) = (self.methods.clone(), text.to_owned());
        let runtime = tokio::runtime::Handle::current();
        // Executing a call may take seconds and read the disk: off the reactor.
        let answer = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            runtime.block_on(methods.raw_json_request(&text, 1))
        });
        Some(match answer.await {
            Ok(Ok((answer, _))) => answer.get().to_owned(),
            Ok(Err(_)) => error_answer(-32600, "invalid request"),
            Err(_) => error_answer(-32603, "internal error"),
        })
    }
}

fn error_answer(code: i32, message: &str) -> String {
    serde_json::json!({ "jsonrpc": "2.0", "id": null, "error": { "code": code, "message": message } })
        .to_string()
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response
}

/// Whether `Host` is an address or `localhost`. A rebound DNS name stands in `Host` as that name.
pub(crate) fn host_is_local(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else { return true };
    host.to_str()
        .is_ok_and(|host| host_name(host).is_some_and(|name| is_localhost(name) || ip(name).is_some()))
}

fn origin_is_local(origin: &HeaderValue) -> bool {
    let Ok(origin) = origin.to_str() else { return false };
    let Some(host) = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")) else {
        return false;
    };
    host_name(host).is_some_and(|name| is_localhost(name) || ip(name).is_some_and(|ip| ip.is_loopback()))
}

/// The name in `name[:port]`.
fn host_name(host: &str) -> Option<&str> {
    let end = match host.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => host.find(':').unwrap_or(host.len()),
    };
    let (name, port) = host.split_at_checked(end)?;
    match port.strip_prefix(':') {
        Some(port) => port.parse::<u16>().ok()?,
        None if port.is_empty() => 0,
        None => return None,
    };
    Some(name)
}

fn is_localhost(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost")
}

fn ip(name: &str) -> Option<IpAddr> {
    match name.strip_prefix('[').and_then(|n| n.strip_suffix(']')) {
        Some(v6) => v6.parse().ok().map(IpAddr::V6),
        None => name.parse().ok().map(IpAddr::V4),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    ["application/json", "application/json-rpc", "application/jsonrequest"]
        .iter()
        .any(|k| kind.eq_ignore_ascii_case(k))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonrpsee::RpcModule;

    fn face() -> RpcFace {
        let mut module = RpcModule::new(());
        module
            .register_method("add", |params, _, _| params.parse::<Vec<u64>>().map(|n| n.iter().sum::<u64>()))
            .unwrap();
        RpcFace::new(module)
    }

    #[test]
    fn names_other_than_localhost_are_refused() {
        let host = |h: &str| host_is_local(&HeaderMap::from_iter([(header::HOST, h.parse().unwrap())]));
        for good in ["localhost", "LocalHost:8545", "127.0.0.1:8545", "[::1]:8545", "[::1]", "10.1.2.3"] {
            assert!(host(good), "{good}");
        }
        for bad in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
            "[::1",
            "127.0.0.1:x",
            "::1",
        ] {
            assert!(!host(bad), "{bad}");
        }
    }

    #[test]
    fn pages_of_other_machines_are_refused() {
        let origin = |o: &str| origin_is_local(&o.parse().unwrap());
        for good in ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:80"] {
            assert!(origin(good), "{good}");
        }
        for bad in
            ["null", "http://evil.example", "http://10.0.0.1", "file://", "http://localhost@evil.example"]
        {
            assert!(!origin(bad), "{bad}");
        }
    }

    #[tokio::test]
    async fn calls_batches_and_nonsense_are_answered() {
        #[track_caller]
        fn holds(answer: &str, words: &[&str]) {
            for word in words {
                assert!(answer.contains(word), "{word} missing in {answer}");
            }
        }
        let face = face();
        let call = r#"{"jsonrpc":"2.0","id":7,"method":"add","params":[1,2]}"#;
        let note = r#"{"jsonrpc":"2.0","method":"add","params":[1,2]}"#;
        holds(&face.answer(call).await, &["\"result\":3", "\"id\":7"]);
        holds(&face.answer(&format!("[{call},{call}]")).await, &["[{", "},{", "}]"]);
        assert_eq!(face.answer(note).await, "");
        assert_eq!(face.answer(&format!("[{note}]")).await, "");
        holds(&face.answer("{").await, &["-32700"]);
        holds(&face.answer("[1").await, &["-32700"]);
        holds(&face.answer("[]").await, &["-32600"]);
        holds(&face.answer("[1]").await, &["-32600"]);
        holds(&face.answer("17").await, &["-32600"]);
        holds(&face.answer(r#"{"id":1,"method":5}"#).await, &["-32600"]);
        holds(&face.answer(r#"{"jsonrpc":"2.0","id":1,"method":"no"}"#).await, &["-32601"]);
        let many = format!("[{}]", [call; BATCH_LEN_MAX + 1].join(","));
        holds(&face.answer(&many).await, &["-32600", "100"]);
    }

    #[tokio::test]
    async fn a_form_of_another_page_is_refused() {
        #[track_caller]
        fn check(request: axum::http::request::Builder, wanted: StatusCode) -> impl Future<Output = ()> {
            let request = request.uri("/").body(Body::from("{}")).unwrap();
            async move { assert_eq!(face().serve(request).await.status(), wanted) }
        }
        let post = || Request::post("/").header("content-type", "application/json");
        check(post(), StatusCode::OK).await;
        check(post().header("origin", "http://localhost:3000"), StatusCode::OK).await;
        check(post().header("origin", "http://evil.example"), StatusCode::FORBIDDEN).await;
        check(post().header("host", "evil.example"), StatusCode::FORBIDDEN).await;
        check(Request::post("/").header("content-type", "text/plain"), StatusCode::UNSUPPORTED_MEDIA_TYPE)
            .await;
        check(Request::put("/"), StatusCode::METHOD_NOT_ALLOWED).await;
    }
}
