//! Accepts the connections of a port.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::service::Service;
use hyper::{Request, Response};
use tokio::net::TcpStream;

use super::connection_limiter::{ConnectionLimiter, ExceededLimit};
use super::connection_server::ConnectionServer;
use super::error::BoxError;
use super::handshake::WebSockets;
use super::listener::Listener;
use super::settings::HttpSettings;
use super::warning_limiter::WarningLimiter;
use plugnode_process::metrics;
use plugnode_process::shutdown::Shutdown;

/// Pause after an accept that failed for lack of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves connections until shutdown begins, then accepts no more and returns. Open connections finish their running requests and
/// close; they are tasks of `shutdown`, whose drain waits for them. Upgraded connections are ended by their owner.
pub async fn serve<S, B>(listener: impl Into<Listener>, service: S, settings: &HttpSettings, shutdown: Shutdown)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Into<BoxError> + Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    serve_with_websockets(listener, service, None, settings, shutdown).await;
}

/// As [`serve`], and hands WebSockets to `websockets`.
pub async fn serve_with_websockets<S, B>(
    listener: impl Into<Listener>,
    service: S,
    websockets: impl Into<Option<Arc<dyn WebSockets>>>,
    settings: &HttpSettings,
    shutdown: Shutdown,
) where
    S: Service<Request<Incoming>, Response = Response<B>> + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Into<BoxError> + Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let Listener { tcp: listener, tls } = listener.into();
    let limiter = ConnectionLimiter::new(settings.max_connections, settings.max_connections_per_address);
    let warnings = WarningLimiter::default();
    let server = Arc::new(ConnectionServer::new(
        service,
        websockets.into(),
        settings,
        tls.clone(),
        shutdown.clone(),
    ));
    let mut begun = pin!(shutdown.begun());
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut begun => return,
            accepted = listener.accept() => accepted,
        };
        let (tcp, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_error_of_peer(&error) => continue,
            Err(error) => {
                if warnings.allows() {
                    tracing::warn!(%error, "cannot accept connections; trying again");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let is_proxy = match settings.trusted_proxies.is_empty() {
            true => settings.proxy_protocol,
            false => settings.trusted_proxies.contains(peer.ip()),
        };
        let permit = match limiter.admit((!is_proxy).then(|| peer.ip())) {
            Ok(permit) => permit,
            Err(exceeded) => {
                log_refusal(&exceeded, peer.ip(), &limiter, settings, &warnings);
                let status = match exceeded {
                    ExceededLimit::Address => {
                        metrics::PEERS_REFUSED.increment();
                        "429 Too Many Requests"
                    }
                    ExceededLimit::All => {
                        metrics::CONNECTIONS_REFUSED.increment();
                        "503 Service Unavailable"
                    }
                };
                if tls.is_none() {
                    refuse(tcp, status);
                }
                continue;
            }
        };
        // Messages are small and latency matters.
        let _ = tcp.set_nodelay(true);
        shutdown.spawn(server.clone().serve(tcp, peer, permit));
    }
}

fn log_refusal(
    exceeded: &ExceededLimit,
    address: std::net::IpAddr,
    limiter: &ConnectionLimiter,
    settings: &HttpSettings,
    warnings: &WarningLimiter,
) {
    if !warnings.allows() {
        return;
    }
    match exceeded {
        ExceededLimit::Address => tracing::warn!(
            %address,
            limit = limiter.per_address(),
            "connections refused: the address has reached [http] max-connections-per-address"
        ),
        ExceededLimit::All => tracing::warn!(
            limit = settings.max_connections,
            "connections refused: the port has reached [http] max-connections"
        ),
    }
}

/// Answers with this status if the socket takes it at once. Nothing waits for it.
fn refuse(tcp: TcpStream, status: &str) {
    let answer = format!("HTTP/1.1 {status}\r\nconnection: close\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n");
    if let Ok(mut tcp) = tcp.into_std() {
        let _ = io::Write::write(&mut tcp, answer.as_bytes());
        let _ = tcp.shutdown(std::net::Shutdown::Write);
    }
}

/// Whether an accept failed because of that one peer.
fn is_error_of_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}
