//! The verbs' side of a node's private API: HTTP/1.1 over the socket in the data directory, or over TCP with a token.
//!
//! Every verb but `init`, `account`, `demo`, `dev` and `run` is such a client. It holds the keys; the node never sees them.

use std::{
    path::{Path, PathBuf},
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::BoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Frame, Incoming},
    header,
};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};

use crate::error::{Exit, NodeError};

/// A JSON answer of a node holds at most this many bytes.
const ANSWER_MAX: usize = 16 << 20;

/// Where a node listens for its verbs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// The socket `lightstreams.sock` of a data directory.
    Socket(PathBuf),
    /// A private listener on TCP, with its bearer token.
    Tcp {
        /// Host and port.
        authority: String,
        /// The token of the data directory.
        token: String,
    },
}

impl Endpoint {
    /// Reads `--node http://HOST:PORT`; its token comes from the environment.
    pub fn from_url(url: &str, token: Option<String>) -> Result<Self, NodeError> {
        let authority = url
            .strip_prefix("http://")
            .map(|rest| rest.trim_end_matches('/'))
            .filter(|authority| !authority.is_empty() && !authority.contains('/'))
            .ok_or_else(|| {
                NodeError::usage("bad_node_url", format!("--node {url} is not of the form http://HOST:PORT"))
            })?;
        let token = token.ok_or_else(|| {
            NodeError::usage("no_token", "a node on TCP wants its token").hint(
                "set LIGHTSTREAMS_TOKEN to the content of the file `token` in the node's data directory",
            )
        })?;
        Ok(Self::Tcp { authority: authority.to_owned(), token })
    }

    fn name(&self) -> String {
        match self {
            Self::Socket(path) => path.display().to_string(),
            Self::Tcp { authority, .. } => format!("http://{authority}"),
        }
    }
}

type Body = BoxBody<Bytes, std::io::Error>;

/// One node, as its verbs see it. Every request opens a connection of its own.
#[derive(Debug)]
pub struct NodeClient {
    endpoint: Endpoint,
    next_id: AtomicU64,
}

impl NodeClient {
    /// A client of the node at `endpoint`; nothing is connected yet.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, next_id: AtomicU64::new(1) }
    }

    /// `GET path`, a JSON answer.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, NodeError> {
        let answer = self.send(Method::GET, path, None, empty()).await?;
        json_body(path, answer).await
    }

    /// `POST path` with a JSON body, a JSON answer.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, NodeError> {
        let answer = self.send(Method::POST, path, Some("application/json"), full(body.to_string())).await?;
        json_body(path, answer).await
    }

    /// `PUT path` with a body that is made while it is sent, a JSON answer.
    pub async fn put_stream<T, S>(&self, path: &str, content_type: &str, body: S) -> Result<T, NodeError>
    where
        T: DeserializeOwned,
        S: Stream<Item = std::io::Result<Bytes>> + Send + Sync + 'static,
    {
        let body = BodyExt::boxed(StreamBody::new(body.map(|part| part.map(Frame::data))));
        let answer = self.send(Method::PUT, path, Some(content_type), body).await?;
        json_body(path, answer).await
    }

    /// `PUT path` with bytes, a JSON answer.
    pub async fn put<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, NodeError> {
        let answer = self.send(Method::PUT, path, Some("application/json"), full(body.to_string())).await?;
        json_body(path, answer).await
    }

    /// `POST path` with a JSON body; the answer is read by the caller as it comes.
    pub async fn post_streaming(&self, path: &str, body: &Value) -> Result<Incoming, NodeError> {
        let answer = self.send(Method::POST, path, Some("application/json"), full(body.to_string())).await?;
        Ok(answer.into_body())
    }

    /// One JSON-RPC call; an error of the chain comes with its message, a revert with its reason.
    pub async fn rpc<T: DeserializeOwned>(&self, method: &str, params: Value) -> Result<T, NodeError> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            result: Value,
            error: Option<RpcError>,
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        let answer: Answer = self.post("/rpc", &request).await?;
        if let Some(error) = answer.error {
            return Err(error.into_node_error(method));
        }
        serde_json::from_value(answer.result).map_err(|error| {
            NodeError::new("node_answer", format!("the node's answer to {method} makes no sense: {error}"))
                .exit(Exit::Unreachable)
        })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: Body,
    ) -> Result<Response<Incoming>, NodeError> {
        let stream = self.connect().await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.unreachable(&error.to_string()))?;
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path);
        match &self.endpoint {
            Endpoint::Socket(_) => request = request.header(header::HOST, "localhost"),
            Endpoint::Tcp { authority, token } => {
                request = request
                    .header(header::HOST, authority.as_str())
                    .header(header::AUTHORIZATION, format!("Bearer {token}"));
            }
        }
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let request = request
            .body(body)
            .map_err(|error| NodeError::usage("bad_request", format!("{path} is no request: {error}")))?;
        let answer = sender.send_request(request).await.map_err(|error| {
            NodeError::new("node_answer", format!("the node broke off during {path}: {error}"))
                .exit(Exit::Unreachable)
        })?;
        if answer.status().is_success() { Ok(answer) } else { Err(failure(path, answer).await) }
    }

    async fn connect(&self) -> Result<Connection, NodeError> {
        match &self.endpoint {
            Endpoint::Socket(path) => UnixStream::connect(path).await.map(Connection::Unix),
            Endpoint::Tcp { authority, .. } => TcpStream::connect(authority).await.map(Connection::Tcp),
        }
        .map_err(|error| self.unreachable(&error.to_string()))
    }

    fn unreachable(&self, why: &str) -> NodeError {
        let hint = match &self.endpoint {
            Endpoint::Socket(path) => {
                let data = path.parent().unwrap_or(Path::new("."));
                format!("start it with: lightstreams --data {} run", data.display())
            }
            Endpoint::Tcp { .. } => {
                "check the address, and that the node's configuration has `private`".to_owned()
            }
        };
        NodeError::new("no_node", format!("no node answers at {}: {why}", self.endpoint.name()))
            .exit(Exit::Unreachable)
            .hint(hint)
    }
}

/// An error of JSON-RPC, with revert data in `data`.
#[derive(Debug, Deserialize)]
struct RpcError {
    code: i64,
    message: String,
    data: Option<Value>,
}

impl RpcError {
    fn into_node_error(self, method: &str) -> NodeError {
        let data = self.data.as_ref().and_then(Value::as_str).unwrap_or_default();
        let reason = if self.code == 3 { super::cli::revert_reason(data) } else { None };
        let message = match reason {
            Some(reason) => format!("the contract refuses: {reason}"),
            None => format!("{method}: {}", self.message),
        };
        if self.message.contains("insufficient funds") {
            return NodeError::new("insufficient_funds", message).exit(Exit::Funds);
        }
        NodeError::new(if self.code == 3 { "reverted" } else { "rpc" }, message)
    }
}

async fn failure(path: &str, answer: Response<Incoming>) -> NodeError {
    #[derive(Deserialize)]
    struct Envelope {
        error: Failure,
    }
    #[derive(Deserialize)]
    struct Failure {
        code: String,
        message: String,
        hint: Option<String>,
        #[serde(default)]
        exit: u8,
    }
    let status = answer.status();
    let Ok(body) = collect(answer).await else {
        return NodeError::new("node_answer", format!("{path} failed with {status}")).exit(Exit::Unreachable);
    };
    match serde_json::from_slice::<Envelope>(&body) {
        Ok(Envelope { error }) => {
            let node = NodeError::new(error.code, error.message).exit(Exit::from_number(error.exit));
            match error.hint {
                Some(hint) => node.hint(hint),
                None => node,
            }
        }
        Err(_) if status == StatusCode::UNAUTHORIZED => {
            NodeError::new("bad_token", "the node does not accept this token")
                .exit(Exit::Unreachable)
                .hint("read it from its data directory again")
        }
        Err(_) => {
            NodeError::new("node_answer", format!("{path} failed with {status}")).exit(Exit::Unreachable)
        }
    }
}

async fn json_body<T: DeserializeOwned>(path: &str, answer: Response<Incoming>) -> Result<T, NodeError> {
    let body = collect(answer).await?;
    serde_json::from_slice(&body).map_err(|error| {
        NodeError::new("node_answer", format!("the node's answer to {path} makes no sense: {error}"))
            .exit(Exit::Unreachable)
    })
}

async fn collect(answer: Response<Incoming>) -> Result<Bytes, NodeError> {
    Limited::new(answer.into_body(), ANSWER_MAX)
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .map_err(|error| {
            NodeError::new("node_answer", format!("the node's answer broke off: {error}"))
                .exit(Exit::Unreachable)
        })
}

fn full(text: String) -> Body {
    Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed()
}

fn empty() -> Body {
    full(String::new())
}

/// Either kind of connection.
enum Connection {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
