//! Serves one connection, from its accept until it closes or is handed over as a WebSocket.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::future::Either;
use http_body_util::{Either as EitherBody, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, HOST, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::connection::Connection;
use super::connection_limiter::ConnectionPermit;
use super::error::BoxError;
use super::first_request::{self, FirstRequest};
use super::handshake::{Opener, WebSockets};
use super::proxy_protocol;
use super::settings::{HttpSettings, MAX_HEADER_SIZE};
use super::stream::Stream;
use super::tls::Tls;
use super::transport_stream::TransportStream;
use super::trusted_proxies::TrustedProxies;
use super::warning_limiter::WarningLimiter;
use plugnode_process::metrics;
use plugnode_process::shutdown::Shutdown;

/// Size of hyper's buffer for each direction, in bytes.
const MAX_BUFFER: usize = 64 * 1024;
/// How long a connection without a running request may make no progress while the process ends.
pub(super) const SHUTDOWN_WRITE_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves the connections of a port.
pub(super) struct ConnectionServer<S> {
    http: http1::Builder,
    service: S,
    websockets: Option<Arc<dyn WebSockets>>,
    tls: Option<Tls>,
    header_timeout: Duration,
    write_timeout: Duration,
    /// The peers that must send a header of the PROXY protocol, if any must. Empty: all.
    proxies: Option<TrustedProxies>,
    warnings: WarningLimiter,
    shutdown: Shutdown,
}

/// A handshake that hyper has read and answered. It waits for hyper to return the stream.
type PendingUpgrade = Mutex<Option<(OnUpgrade, Opener)>>;

impl<S> ConnectionServer<S> {
    pub(super) fn new(
        service: S,
        websockets: Option<Arc<dyn WebSockets>>,
        settings: &HttpSettings,
        tls: Option<Tls>,
        shutdown: Shutdown,
    ) -> Self {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(settings.header_timeout)
            .max_header_size(MAX_HEADER_SIZE)
            .max_buf_size(MAX_BUFFER);
        Self {
            http,
            service,
            websockets,
            tls,
            header_timeout: settings.header_timeout,
            write_timeout: settings.write_timeout,
            proxies: settings.proxy_protocol.then(|| settings.trusted_proxies.clone()),
            warnings: WarningLimiter::default(),
            shutdown,
        }
    }
}

impl<S, B> ConnectionServer<S>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Into<BoxError> + Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    /// Serves a connection until it closes or is handed over.
    pub(super) async fn serve(self: Arc<Self>, tcp: TcpStream, peer: SocketAddr, permit: ConnectionPermit) {
        // Each phase is boxed, so that a connection takes only the memory of its present phase.
        let begun = Box::pin(self.clone().begin(tcp, peer, permit)).await;
        let ended = match begun {
            Ok(Some(stream)) => Box::pin(self.serve_http(stream)).await,
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, error, "connection ended");
        }
    }

    /// Returns the stream for HTTP. None if the first request was a handshake, and the stream is handed over, or if the process
    /// ends.
    async fn begin(
        self: Arc<Self>,
        mut tcp: TcpStream,
        peer: SocketAddr,
        permit: ConnectionPermit,
    ) -> Result<Option<Stream>, BoxError> {
        let Some(peer) = self.client_address(&mut tcp, peer).await? else {
            return Ok(None);
        };
        let transport = match &self.tls {
            None => TransportStream::Plain(tcp),
            Some(tls) => match in_time(tls.accept(tcp), self.header_timeout, &self.shutdown).await? {
                Some(tls) => TransportStream::Tls(Box::new(tls)),
                None => return Ok(None),
            },
        };
        let mut stream = Stream::new(transport, Connection::new(Some(peer)), Some(permit));
        stream.set_write_timeout(Some(self.write_timeout));
        let Some(websockets) = &self.websockets else {
            return Ok(Some(stream));
        };
        let first = in_time(first_request::read(&mut stream), self.header_timeout, &self.shutdown);
        let Some(FirstRequest { mut bytes, handshake }) = first.await? else {
            return Ok(None);
        };
        if let Some((mut request, length)) = handshake {
            request.extensions_mut().insert(stream.connection().clone());
            if let Some(accepted) = websockets.accept(&mut request) {
                bytes.advance(length);
                stream.put_back(bytes);
                stream.write_all(&accepted.to_bytes()).await?;
                stream.flush().await?;
                stream.set_write_timeout(None);
                (accepted.open)(stream);
                return Ok(None);
            }
        }
        stream.put_back(bytes);
        Ok(Some(stream))
    }

    /// The client's address: the peer's, or the one that a proxy names by the PROXY protocol. None when the process ends.
    async fn client_address(&self, tcp: &mut TcpStream, peer: SocketAddr) -> Result<Option<SocketAddr>, BoxError> {
        let is_proxy = |proxies: &TrustedProxies| proxies.is_empty() || proxies.contains(peer.ip());
        if !self.proxies.as_ref().is_some_and(is_proxy) {
            return Ok(Some(peer));
        }
        match in_time(proxy_protocol::read_header(tcp), self.header_timeout, &self.shutdown).await {
            Ok(named) => Ok(named.map(|named| named.unwrap_or(peer))),
            Err(error) => {
                metrics::PROXY_HEADERS_MALFORMED.increment();
                if self.warnings.allows() {
                    tracing::warn!(%peer, error, "connection closed: it does not begin with a header of the PROXY protocol");
                }
                Err(error)
            }
        }
    }

    /// Serves HTTP until the connection ends or is upgraded.
    async fn serve_http(self: Arc<Self>, stream: Stream) -> Result<(), BoxError> {
        let upgrade = Arc::new(PendingUpgrade::default());
        let connection = stream.connection().clone();
        let requests = RequestService {
            connection: stream.connection().clone(),
            upgrade: upgrade.clone(),
            server: self.clone(),
        };
        let service = service_fn(move |request| requests.answer(request));
        let serving = self.http.serve_connection(TokioIo::new(stream), service);
        {
            let mut serving = pin!(serving.with_upgrades());
            tokio::select! {
                ended = &mut serving => ended?,
                () = self.shutdown.begun() => {
                    serving.as_mut().graceful_shutdown();
                    tokio::select! {
                        ended = serving => ended?,
                        () = stalls(&connection, self.write_timeout.min(SHUTDOWN_WRITE_TIMEOUT)) => {
                            return Err("the process ends, and the peer neither reads its response nor completes its request".into());
                        }
                    }
                }
            }
        }
        let upgrade = upgrade.lock().take();
        if let Some((upgraded, open)) = upgrade {
            open(into_stream(upgraded.await?));
        }
        Ok(())
    }
}

/// Waits for the peer, at most for `limit`. None when the process ends.
async fn in_time<T>(
    waiting: impl Future<Output = io::Result<T>>,
    limit: Duration,
    shutdown: &Shutdown,
) -> Result<Option<T>, BoxError> {
    tokio::select! {
        done = timeout(limit, waiting) => Ok(Some(done.map_err(|_| "the peer sent no request in time")??)),
        () = shutdown.begun() => Ok(None),
    }
}

/// Waits until nothing was written for `limit` while no request was running: the peer does not read its response, or does not
/// complete its request.
async fn stalls(connection: &Connection, limit: Duration) {
    let (mut before, mut since) = (connection.written(), Instant::now());
    while since.elapsed() < limit {
        sleep(limit / 8).await;
        let now = connection.written();
        if now != before || connection.has_running_request() {
            (before, since) = (now, Instant::now());
        }
    }
}

/// Answers the requests of one connection.
struct RequestService<S> {
    connection: Arc<Connection>,
    upgrade: Arc<PendingUpgrade>,
    server: Arc<ConnectionServer<S>>,
}

type HttpResponse<B> = Response<EitherBody<Full<Bytes>, B>>;

/// Whether a request has exactly one Host header, as HTTP/1.1 requires (RFC 9112, 3.2).
fn names_host<B>(request: &Request<B>) -> bool {
    let mut hosts = request.headers().get_all(HOST).iter();
    match hosts.next() {
        Some(host) => hosts.next().is_none() && !host.as_bytes().iter().any(u8::is_ascii_whitespace),
        None => request.version() == Version::HTTP_10,
    }
}

fn bad_host() -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::from("a request must have exactly one header Host\n"));
    *answer.status_mut() = StatusCode::BAD_REQUEST;
    answer
}

impl<S, B> RequestService<S>
where
    S: Service<Request<Incoming>, Response = Response<B>>,
{
    fn answer(
        &self,
        mut request: Request<Incoming>,
    ) -> impl Future<Output = Result<HttpResponse<B>, S::Error>> + use<S, B> {
        request.extensions_mut().insert(self.connection.clone());
        let handled = match names_host(&request) {
            true => self.answer_handshake(request),
            false => Either::Left(bad_host()),
        };
        let answering = match handled {
            Either::Left(answer) => Either::Left(answer),
            Either::Right(request) => {
                Either::Right((self.server.service.call(request), self.connection.request_guard()))
            }
        };
        // Before the listener closes, peers that keep connections alive are asked to close them.
        let is_announced = self.server.shutdown.is_announced();
        async move {
            match answering {
                Either::Left(answer) => Ok(answer.map(EitherBody::Left)),
                Either::Right((answer, _guard)) => {
                    let mut answer = answer.await?;
                    if is_announced {
                        let headers = answer.headers_mut();
                        headers.insert(CONNECTION, HeaderValue::from_static("close"));
                    }
                    Ok(answer.map(EitherBody::Right))
                }
            }
        }
    }

    /// Accepts a handshake, or returns the request if it is not accepted.
    fn answer_handshake(&self, request: Request<Incoming>) -> Either<Response<Full<Bytes>>, Request<Incoming>> {
        let Some(websockets) = self
            .server
            .websockets
            .as_ref()
            .filter(|_| request.method() == Method::GET)
        else {
            return Either::Right(request);
        };
        let (parts, body) = request.into_parts();
        let mut request = Request::from_parts(parts, ());
        let Some(accepted) = websockets.accept(&mut request) else {
            return Either::Right(request.map(|()| body));
        };
        let mut answer = Response::new(Full::default());
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *answer.headers_mut() = accepted.headers;
        *self.upgrade.lock() = Some((hyper::upgrade::on(&mut request), accepted.open));
        Either::Left(answer)
    }
}

/// The stream that hyper was given, including the bytes that it has read ahead.
fn into_stream(upgraded: Upgraded) -> Stream {
    let parts = upgraded.downcast::<TokioIo<Stream>>();
    let parts = parts.unwrap_or_else(|_| unreachable!("hyper was given this type"));
    let mut stream = parts.io.into_inner();
    stream.set_write_timeout(None);
    stream.put_back(parts.read_buf);
    stream
}
