//! The HTTP side of a process: takes connections, speaks HTTP/1.1 on them, and ends them when the process ends.
//!
//! One port carries pages, Socket.IO and health checks. This module knows none of them: it is given a hyper service,
//! and gives each request the [`Connection`] it came on, by which an io-node slows or ends a client. A WebSocket is
//! given, as the [`Stream`] of its frames, to whom it may concern.

mod body;
mod connection;
mod handshake;
mod head;
mod health;
mod holding;
mod operations;
mod peers;
mod proxy;
mod stream;
#[cfg(test)]
pub mod testing;
mod tls;
mod wire;

use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::TokioTimer;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;

pub use body::whole_body;
pub use connection::Connection;
pub use handshake::{Accepted, Opener, WebSockets};
pub use health::{Health, Readiness, Ready};
pub use health::{NODE_HEADER, RENEWED_HEADER};
pub use operations::{Check, Operations};
pub use proxy::TrustedProxies;
pub use stream::Stream;
pub use tls::{NewCertificate, Tls};

use holding::Holding;
use peers::{Peers, Permit, Place};

use plugnode_process::metrics;
use plugnode_process::shutdown::Shutdown;

/// An error of any kind.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Limits of what a peer may do.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// Connections held at once. One beyond it is told 503 and closed: its client can try another node at once, and
    /// a health check sees that this one is full.
    pub max_connections: usize,
    /// Those of one address; one beyond it is told 429 and closed. None is half of `max_connections`, and any number for an
    /// address that is private or of this host, as a proxy has it. Addresses of IPv6 count by their first 64 bits.
    pub max_connections_per_address: Option<usize>,
    /// How long a peer may take to send the headers of a request, from the accept or from the end of the last
    /// response: silent connections end by it too.
    pub header_timeout: Duration,
    /// How long a peer may take no byte of what it is sent. While the process ends, it is 2 seconds at most. The owner of a
    /// WebSocket has limits of its own.
    pub write_timeout: Duration,
    /// Speaks TLS, and nothing else, when there is one.
    pub tls: Option<Tls>,
    /// Whether connections begin with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// The proxies that such headers are expected of; empty is everybody.
    pub trusted_proxies: TrustedProxies,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_connections_per_address: None,
            header_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(20),
            tls: None,
            proxy_protocol: false,
            trusted_proxies: TrustedProxies::default(),
        }
    }
}

/// Connections that the kernel may hold until they are accepted.
const ACCEPT_QUEUE: u32 = 4096;
/// Request line and headers in bytes; more is answered by 431.
const MAX_HEADER_SIZE: usize = 32 * 1024;
/// hyper's buffers for each direction.
const MAX_BUFFER: usize = 64 * 1024;
/// How long to wait when there is no file handle or memory for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The least time between two warnings about that.
const WARNING_PAUSE: Duration = Duration::from_secs(5);

/// Listens on `host:port`; port 0 takes a free one.
pub async fn bind(address: &str) -> anyhow::Result<TcpListener> {
    let mut addresses = tokio::net::lookup_host(address)
        .await
        .with_context(|| format!("cannot find the address {address}"))?;
    let address = addresses
        .next()
        .with_context(|| format!("cannot find the address {address}"))?;
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.set_reuseaddr(true)?;
    socket
        .bind(address)
        .and_then(|()| socket.listen(ACCEPT_QUEUE))
        .map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => {
                anyhow::anyhow!(
                    "cannot listen on {address}: something else does already; stop it or choose another port"
                )
            }
            io::ErrorKind::PermissionDenied => {
                anyhow::anyhow!("cannot listen on {address}: not permitted; ports below 1024 need a privilege")
            }
            _ => anyhow::Error::new(error).context(format!("cannot listen on {address}")),
        })
}

/// Serves connections until shutdown begins, then takes no more and returns. Those that are open answer the requests
/// in hand and close; they are tasks of `shutdown`, whose drain waits for them. An upgraded connection is its owner's
/// to end.
pub async fn serve<S, B>(listener: TcpListener, service: S, settings: &HttpSettings, shutdown: Shutdown)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Into<BoxError> + Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    serve_with_websockets(listener, service, None, settings, shutdown).await;
}

/// The same, with somebody to take WebSockets.
pub async fn serve_with_websockets<S, B>(
    listener: TcpListener,
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
    let room = Arc::new(Semaphore::new(settings.max_connections.min(Semaphore::MAX_PERMITS)));
    let peers = Peers::new(settings.max_connections, settings.max_connections_per_address);
    let mut warnings = Warnings::default();
    let holding = Arc::new(Holding {
        http: http1(settings),
        service,
        websockets: websockets.into(),
        tls: settings.tls.clone(),
        header_timeout: settings.header_timeout,
        write_timeout: settings.write_timeout,
        proxies: settings.proxy_protocol.then(|| settings.trusted_proxies.clone()),
        warnings: Mutex::default(),
        shutdown: shutdown.clone(),
    });
    let mut begun = pin!(shutdown.begun());
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut begun => return,
            accepted = listener.accept() => accepted,
        };
        let (tcp, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_of_the_peer(&error) => continue,
            Err(error) => {
                warnings.warn(|| tracing::warn!(%error, "cannot take connections; trying again"));
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Behind a proxy are many.
        let is_proxy = match settings.trusted_proxies.is_empty() {
            true => settings.proxy_protocol,
            false => settings.trusted_proxies.contains(peer.ip()),
        };
        let of_address = match is_proxy {
            true => Some(Place::of_nobody()),
            false => peers.enter(peer.ip()),
        };
        let Some(of_address) = of_address else {
            warnings.warn(|| {
                tracing::warn!(
                    address = %peer.ip(),
                    limit = peers.most(),
                    "connections refused: this address has as many as it may; see [http] max-connections-per-address"
                )
            });
            metrics::PEERS_REFUSED.increment();
            if settings.tls.is_none() {
                refuse(tcp, "429 Too Many Requests");
            }
            continue;
        };
        let Ok(of_all) = room.clone().try_acquire_owned() else {
            warnings.warn(|| {
                tracing::warn!(
                    limit = settings.max_connections,
                    "connections refused: the limit is reached"
                )
            });
            metrics::CONNECTIONS_REFUSED.increment();
            if settings.tls.is_none() {
                refuse(tcp, "503 Service Unavailable");
            }
            continue;
        };
        let permit = Permit {
            _of_all: of_all,
            _of_address: of_address,
        };
        // Messages are small and wanted now.
        let _ = tcp.set_nodelay(true);
        shutdown.spawn(holding.clone().hold(tcp, peer, permit));
    }
}

fn http1(settings: &HttpSettings) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(settings.header_timeout)
        .max_header_size(MAX_HEADER_SIZE)
        .max_buf_size(MAX_BUFFER);
    http
}

/// Answers with this status if the socket takes it at once; nothing waits for it.
fn refuse(tcp: TcpStream, status: &str) {
    let answer = format!("HTTP/1.1 {status}\r\nconnection: close\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n");
    if let Ok(mut tcp) = tcp.into_std() {
        let _ = io::Write::write(&mut tcp, answer.as_bytes());
        let _ = tcp.shutdown(std::net::Shutdown::Write);
    }
}

/// Whether an accept failed by the doing of that one peer.
fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

/// Keeps a storm from filling the log.
#[derive(Debug, Default)]
struct Warnings {
    last: Option<Instant>,
}

impl Warnings {
    fn warn(&mut self, warn: impl FnOnce()) {
        if self.last.is_none_or(|last| last.elapsed() >= WARNING_PAUSE) {
            self.last = Some(Instant::now());
            warn();
        }
    }
}

#[cfg(test)]
mod tests;
