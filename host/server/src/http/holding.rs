//! One connection from its accept to its end, or to the moment when it is a WebSocket and somebody else's.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex};
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
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::connection::Connection;
use super::handshake::{Opener, WebSockets};
use super::head::{self, First};
use super::peers::Permit;
use super::proxy::{self, TrustedProxies};
use super::stream::Stream;
use super::tls::Tls;
use super::wire::Io;
use super::{BoxError, Warnings};
use plugnode_process::metrics;
use plugnode_process::shutdown::Shutdown;

/// What every connection of a port is held with.
pub(super) struct Holding<S> {
    pub(super) http: http1::Builder,
    pub(super) service: S,
    pub(super) websockets: Option<Arc<dyn WebSockets>>,
    pub(super) tls: Option<Tls>,
    pub(super) header_timeout: Duration,
    pub(super) write_timeout: Duration,
    /// Of whom a header of the PROXY protocol is expected, if it is of anybody; empty is everybody.
    pub(super) proxies: Option<TrustedProxies>,
    pub(super) warnings: Mutex<Warnings>,
    pub(super) shutdown: Shutdown,
}

/// While the process ends, how long nothing may happen on a connection on which no request is in hand.
pub(super) const LAST_PATIENCE: Duration = Duration::from_secs(2);

/// A handshake that came by hyper and was answered, until hyper lets go of the stream.
type Upgrading = Mutex<Option<(OnUpgrade, Opener)>>;

impl<S, B> Holding<S>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Into<BoxError> + Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    /// Holds a connection to its end.
    pub(super) async fn hold(self: Arc<Self>, tcp: TcpStream, peer: SocketAddr, permit: Permit) {
        // Each part in a box of its own, so that a connection takes no more room than what it is at.
        let begun = Box::pin(self.clone().begin(tcp, peer, permit)).await;
        let ended = match begun {
            Ok(Some(stream)) => Box::pin(self.speak_http(stream)).await,
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, error, "connection ended");
        }
    }

    /// Gives the stream of a connection that is to speak HTTP. One that is a WebSocket from the start is given away.
    async fn begin(
        self: Arc<Self>,
        mut tcp: TcpStream,
        peer: SocketAddr,
        permit: Permit,
    ) -> Result<Option<Stream>, BoxError> {
        let Some(peer) = self.client(&mut tcp, peer).await? else {
            return Ok(None);
        };
        let io = match &self.tls {
            None => Io::Plain(tcp),
            Some(tls) => match in_time(tls.accept(tcp), self.header_timeout, &self.shutdown).await? {
                Some(tls) => Io::Tls(Box::new(tls)),
                None => return Ok(None),
            },
        };
        let mut stream = Stream::new(io, Connection::new(Some(peer)), Some(permit));
        stream.limit_writes(Some(self.write_timeout));
        let Some(websockets) = &self.websockets else {
            return Ok(Some(stream));
        };
        let first = in_time(head::read(&mut stream), self.header_timeout, &self.shutdown);
        let Some(First { mut bytes, request }) = first.await? else {
            return Ok(None);
        };
        if let Some((mut request, length)) = request {
            request.extensions_mut().insert(stream.connection().clone());
            if let Some(accepted) = websockets.accept(&mut request) {
                bytes.advance(length);
                stream.put_back(bytes);
                stream.write_all(&accepted.answer()).await?;
                stream.flush().await?;
                stream.limit_writes(None);
                (accepted.open)(stream);
                return Ok(None);
            }
        }
        stream.put_back(bytes);
        Ok(Some(stream))
    }

    /// Who is at the other end: the peer, or whom the proxy names that the peer is. None when the process is to end.
    async fn client(&self, tcp: &mut TcpStream, peer: SocketAddr) -> Result<Option<SocketAddr>, BoxError> {
        let is_proxy = |proxies: &TrustedProxies| proxies.is_empty() || proxies.contains(peer.ip());
        if !self.proxies.as_ref().is_some_and(is_proxy) {
            return Ok(Some(peer));
        }
        match in_time(proxy::read_header(tcp), self.header_timeout, &self.shutdown).await {
            Ok(named) => Ok(named.map(|named| named.unwrap_or(peer))),
            Err(error) => {
                metrics::PROXY_HEADERS_MALFORMED.increment();
                let mut warnings = self.warnings.lock().expect("nothing panics while it holds this lock");
                warnings.warn(
                    || tracing::warn!(%peer, error, "connections are closed that do not begin as those of a proxy"),
                );
                Err(error)
            }
        }
    }

    /// Speaks HTTP until the connection ends or is upgraded.
    async fn speak_http(self: Arc<Self>, stream: Stream) -> Result<(), BoxError> {
        let upgrading = Arc::new(Upgrading::default());
        let connection = stream.connection().clone();
        let answering = Answering {
            connection: stream.connection().clone(),
            upgrading: upgrading.clone(),
            holding: self.clone(),
        };
        let service = service_fn(move |request| answering.answer(request));
        let serving = self.http.serve_connection(TokioIo::new(stream), service);
        {
            let mut serving = pin!(serving.with_upgrades());
            tokio::select! {
                ended = &mut serving => ended?,
                () = self.shutdown.begun() => {
                    serving.as_mut().graceful_shutdown();
                    tokio::select! {
                        ended = serving => ended?,
                        () = is_stuck(&connection, self.write_timeout.min(LAST_PATIENCE)) => {
                            return Err("the process ends, and the peer neither reads its answers nor ends its request".into());
                        }
                    }
                }
            }
        }
        let upgraded = upgrading
            .lock()
            .expect("nothing panics while it holds this lock")
            .take();
        if let Some((upgraded, open)) = upgraded {
            open(taken_back(upgraded.await?));
        }
        Ok(())
    }
}

/// Waits for the peer for as long as it may take. None when the process is to end.
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

/// Waits until nothing was written for so long while no request is in hand: the peer does not read, or does not end what it
/// has begun to ask.
async fn is_stuck(connection: &Connection, patience: Duration) {
    let (mut before, mut since) = (connection.written(), Instant::now());
    while since.elapsed() < patience {
        sleep(patience / 8).await;
        let now = connection.written();
        if now != before || connection.is_answering() {
            (before, since) = (now, Instant::now());
        }
    }
}

/// What answers the requests of one connection.
struct Answering<S> {
    connection: Arc<Connection>,
    upgrading: Arc<Upgrading>,
    holding: Arc<Holding<S>>,
}

type Answer<B> = Response<EitherBody<Full<Bytes>, B>>;

/// Whether a request names its host once, as HTTP/1.1 demands (RFC 9112, 3.2).
fn names_host<B>(request: &Request<B>) -> bool {
    let mut hosts = request.headers().get_all(HOST).iter();
    match hosts.next() {
        Some(host) => hosts.next().is_none() && !host.as_bytes().iter().any(u8::is_ascii_whitespace),
        None => request.version() == Version::HTTP_10,
    }
}

fn without_host() -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::from("a request names its host once, in the header Host\n"));
    *answer.status_mut() = StatusCode::BAD_REQUEST;
    answer
}

impl<S, B> Answering<S>
where
    S: Service<Request<Incoming>, Response = Response<B>>,
{
    fn answer(&self, mut request: Request<Incoming>) -> impl Future<Output = Result<Answer<B>, S::Error>> + use<S, B> {
        request.extensions_mut().insert(self.connection.clone());
        let handled = match names_host(&request) {
            true => self.answer_handshake(request),
            false => Either::Left(without_host()),
        };
        let answering = match handled {
            Either::Left(answer) => Either::Left(answer),
            Either::Right(request) => Either::Right((self.holding.service.call(request), self.connection.answering())),
        };
        // Who keeps connections for later is told not to, while others are still taken.
        let is_announced = self.holding.shutdown.is_announced();
        async move {
            match answering {
                Either::Left(answer) => Ok(answer.map(EitherBody::Left)),
                Either::Right((answer, _in_hand)) => {
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

    /// Answers a request that is to become a WebSocket, or gives it back when nobody takes it.
    fn answer_handshake(&self, request: Request<Incoming>) -> Either<Response<Full<Bytes>>, Request<Incoming>> {
        let Some(websockets) = self
            .holding
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
        let mut upgrading = self.upgrading.lock().expect("nothing panics while it holds this lock");
        *upgrading = Some((hyper::upgrade::on(&mut request), accepted.open));
        Either::Left(answer)
    }
}

/// The stream that hyper was given, with what it has read too far.
fn taken_back(upgraded: Upgraded) -> Stream {
    let parts = upgraded.downcast::<TokioIo<Stream>>();
    let parts = parts.unwrap_or_else(|_| unreachable!("it was given no other stream"));
    let mut stream = parts.io.into_inner();
    stream.limit_writes(None);
    stream.put_back(parts.read_buf);
    stream
}
