//! The private API over the socket (and loopback TCP when asked for), and the listeners of JSON-RPC, of the gateway and of Kubo's RPC.
//!
//! Doors that never share a port. The socket belongs to the owner of the data directory (0600), so whoever can
//! open it is the operator. Over TCP every request carries the token of the data directory; a page in a browser has
//! neither the token nor a way to read it.

mod api;
mod fetch;
mod kubo;
pub mod rpc;
pub mod stream;

use crate::config::Config;
use crate::daemon::Node;
use crate::datadir::{DataDir, read_text_bounded, write_private};
use crate::error::{Exit, NodeError, Result, io_error};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use lightstreams_store::gateway::{Gateway, GatewayConfig};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

/// The listeners of a node, bound before anything else is opened.
#[derive(Debug)]
pub(crate) struct Listeners {
    socket: UnixListener,
    private: Option<(TcpListener, Arc<str>)>,
    rpc: Option<TcpListener>,
    gateway: Option<TcpListener>,
    kubo: Option<(TcpListener, Arc<str>)>,
    bound: Bound,
}

/// The addresses that were bound; a port of 0 in the configuration is a real one here.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bound {
    pub(crate) private: Option<SocketAddr>,
    pub(crate) rpc: Option<SocketAddr>,
    pub(crate) gateway: Option<SocketAddr>,
    pub(crate) kubo: Option<SocketAddr>,
}

impl Listeners {
    /// Binds what the configuration names.
    pub(crate) async fn bind(dir: &DataDir, config: &Config) -> Result<Self> {
        let rpc = match config.rpc {
            Some(address) => Some(bind_tcp(address, "rpc").await?),
            None => None,
        };
        let gateway = match config.gateway {
            Some(address) => Some(bind_tcp(address, "gateway").await?),
            None => None,
        };
        let private = match config.private {
            Some(address) => Some((bind_tcp(address, "private").await?, token(dir)?.into())),
            None => None,
        };
        let kubo = match config.kubo {
            Some(address) => Some((bind_tcp(address, "kubo").await?, token(dir)?.into())),
            None => None,
        };
        let socket = bind_socket(dir)?;
        let address = |listener: &TcpListener| listener.local_addr().ok();
        let bound = Bound {
            rpc: rpc.as_ref().and_then(address),
            gateway: gateway.as_ref().and_then(address),
            private: private.as_ref().and_then(|(listener, _)| address(listener)),
            kubo: kubo.as_ref().and_then(|(listener, _)| address(listener)),
        };
        Ok(Self { socket, private, rpc, gateway, kubo, bound })
    }

    pub(crate) fn bound(&self) -> Bound {
        self.bound
    }

    /// Serves until `stopped` turns true and the open requests have ended.
    pub(crate) async fn serve(self, node: Arc<Node>, stopped: watch::Receiver<bool>) {
        let api = api::router(node.clone());
        let stop = |mut stopped: watch::Receiver<bool>| async move {
            let _ = stopped.wait_for(|stopped| *stopped).await;
        };
        let socket = axum::serve(self.socket, api.clone()).with_graceful_shutdown(stop(stopped.clone()));
        let private = async {
            if let Some((listener, token)) = self.private {
                let api = api.layer(from_fn_with_state(token, require_token));
                let _ = axum::serve(listener, api).with_graceful_shutdown(stop(stopped.clone())).await;
            }
        };
        let rpc = async {
            if let Some(listener) = self.rpc {
                let face = node.rpc.clone();
                let service = Router::new().fallback(move |request| face.clone().serve(request));
                let _ = axum::serve(listener, service).with_graceful_shutdown(stop(stopped.clone())).await;
            }
        };
        let gateway = async {
            if let Some(listener) = self.gateway {
                let router = Gateway::new(node.gate.clone(), GatewayConfig::default()).router();
                let _ = axum::serve(listener, router).with_graceful_shutdown(stop(stopped.clone())).await;
            }
        };
        let kubo = async {
            if let Some((listener, token)) = self.kubo {
                let router = kubo::router(&node, &token);
                let _ = axum::serve(listener, router).with_graceful_shutdown(stop(stopped.clone())).await;
            }
        };
        let _ = tokio::join!(socket.into_future(), private, rpc, gateway, kubo);
    }
}

async fn bind_tcp(address: SocketAddr, key: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|e| {
        let taken = e.kind() == std::io::ErrorKind::AddrInUse;
        let failed = NodeError::new(
            if taken { "port_taken" } else { "listen" },
            format!("cannot listen on {address}"),
        )
        .because(e);
        failed.hint(format!(
            "another process may have the port; stop it or change `{key}` in lightstreams.toml"
        ))
    })
}

fn bind_socket(dir: &DataDir) -> Result<UnixListener> {
    let path = dir.socket();
    // Left by a node that was killed: this process holds the lock, so no other listens on it.
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io_error("replace", &path, e)),
        _ => {}
    }
    let socket = UnixListener::bind(&path).map_err(|e| io_error("listen on", &path, e))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
        .map_err(|e| io_error("restrict", &path, e))?;
    Ok(socket)
}

/// The token of the data directory, made at the first need.
fn token(dir: &DataDir) -> Result<String> {
    let path = dir.token();
    if !path.exists() {
        write_private(&path, format!("{}\n", hex::encode(rand::random::<[u8; 32]>())).as_bytes())?;
    }
    let token = read_text_bounded(&path, 1024)?.trim().to_owned();
    if token.len() < 32 {
        return Err(NodeError::usage("bad_token", format!("{} is too short to be a secret", path.display()))
            .hint("remove the file; the node makes a new one"));
    }
    Ok(token)
}

async fn require_token(State(token): State<Arc<str>>, request: Request, next: Next) -> Response {
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let shown = shown.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    if rpc::host_is_local(request.headers()) && same_secret(shown.as_bytes(), token.as_bytes()) {
        return next.run(request).await;
    }
    let mut refused = Failure(
        NodeError::new("unauthorized", "this listener wants the token of the data directory")
            .exit(Exit::Refused)
            .hint("send `Authorization: Bearer <content of the file token>`"),
    )
    .into_response();
    *refused.status_mut() = StatusCode::UNAUTHORIZED;
    refused
}

/// Compares without telling by time where two secrets differ.
fn same_secret(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

/// An error as the private API answers it.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) NodeError);

impl From<NodeError> for Failure {
    fn from(error: NodeError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = match self.0.exit_code() {
            Exit::Usage => StatusCode::BAD_REQUEST,
            Exit::Refused => StatusCode::FORBIDDEN,
            Exit::NotFound => StatusCode::NOT_FOUND,
            Exit::Funds => StatusCode::PAYMENT_REQUIRED,
            Exit::Peer | Exit::Unreachable => StatusCode::BAD_GATEWAY,
            Exit::Failure => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let mut response = Response::new(Body::from(self.0.to_json().to_string()));
        *response.status_mut() = status;
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, axum::http::HeaderValue::from_static("application/json"));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_compared_whole() {
        assert!(same_secret(b"abc", b"abc"));
        for other in [&b""[..], b"ab", b"abd", b"abcd", b"xbc"] {
            assert!(!same_secret(other, b"abc"));
        }
    }

    #[test]
    fn a_token_is_made_once_and_is_private() {
        let temp = tempfile::tempdir().unwrap();
        let dir = DataDir::new(temp.path());
        let made = token(&dir).unwrap();
        assert_eq!(made.len(), 64);
        assert_eq!(token(&dir).unwrap(), made);
        std::fs::write(dir.token(), "short").unwrap();
        assert_eq!(token(&dir).unwrap_err().code(), "bad_token");
    }
}
