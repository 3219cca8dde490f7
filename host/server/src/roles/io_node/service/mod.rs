//! The HTTP service of an io-node: checks requests on the path of Socket.IO and gives them to the engine. An inner service answers all
//! other requests.
//!
//! The server of [`crate::http`] hands over a websocket before the upgrade is answered; other servers do after the engine has answered.

mod answer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use engine_io::{Engine, Peer, UnknownSession};
use futures_util::TryFutureExt;
use futures_util::future::BoxFuture;
use http::header::{RETRY_AFTER, VARY};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body::Body;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::service::Service;
use parking_lot::Mutex;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{Level, debug, enabled};

use self::answer::{boxed, error_answer};
use super::access_check::{AccessCheck, AccessDenied};
use super::application::Application;
use super::client_commands::ClientCommands;
use super::emitter::EmitterBridge;
use super::origin::Origins;
use super::settings_updater::SettingsUpdater;
use super::setup::IoNodeSetup;
use crate::browser_client;
use crate::http::{Accepted, Connection, Readiness, Ready, Stream, TrustedProxies, WebSockets};
use plugnode_message::NodeId;
use plugnode_process::MemoryPressure;
use plugnode_process::metrics;
use plugnode_socket_io::{CurrentIncarnation, EmitterProtocol};
#[cfg(test)]
use plugnode_socket_io::{NamespaceRegistry, Socket};
use plugnode_transport::LeaseHealth;

pub use self::answer::AnswerBody;
pub(super) use self::answer::{Answered, answer};

/// Requests for unknown sessions that are logged per second.
const MAX_LOGGED: u32 = 5;

/// The body of a request: from the network, or already read.
pub type RequestBody = Either<Incoming, Full<Bytes>>;

/// The service that answers all other requests: any service of hyper that is cheap to clone.
pub trait Inner:
    Service<Request<RequestBody>, Response = Response<<Self as Inner>::Answer>, Error: Send, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
    /// The body of its answers.
    type Answer: Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static> + Send + 'static;
}

impl<S, B> Inner for S
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error: Send, Future: Send> + Clone + Send + Sync + 'static,
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static> + Send + 'static,
{
    type Answer = B;
}

/// The error of an inner service.
pub(super) type InnerError<S> = <S as Service<Request<RequestBody>>>::Error;

/// Answers Engine.IO requests, and gives all others to `S`.
#[derive(Clone)]
pub struct IoService<S: Clone> {
    engine: Engine<Application>,
    inner: S,
    path: Arc<str>,
    name: NodeId,
    incarnation: Arc<CurrentIncarnation>,
    lease_health: LeaseHealth,
    access_check: Arc<AccessCheck>,
    pressure: MemoryPressure,
    proxies: TrustedProxies,
    unknown: Arc<UnknownSessions>,
    /// Cancelled once no session is left and none can be opened.
    pub(super) ended: CancellationToken,
}

/// Counts requests for unknown sessions, and logs the first few of each second.
#[derive(Default)]
struct UnknownSessions(Mutex<Option<(Instant, u32)>>);

impl UnknownSessions {
    fn count(&self, client: Option<SocketAddr>) {
        metrics::SESSIONS_UNKNOWN.increment();
        if !enabled!(Level::DEBUG) {
            return;
        }
        let mut known = self.0.lock();
        let (since, logged) = known.get_or_insert_with(|| (Instant::now(), 0));
        if since.elapsed() >= Duration::from_secs(1) {
            (*since, *logged) = (Instant::now(), 0);
        }
        *logged += 1;
        if *logged <= MAX_LOGGED {
            debug!(
                client = client.map(tracing::field::display),
                "Session ID unknown: the session has ended, or the request belongs to another io-node"
            );
        }
    }
}

impl<S: Clone> IoService<S> {
    /// The refusal of new sessions and other requests while no memory is left. None if there is some.
    fn out_of_memory(&self) -> Option<Response<AnswerBody>> {
        let problem = self.pressure.problem()?;
        metrics::MEMORY_REFUSED.increment();
        let mut full = error_answer(StatusCode::SERVICE_UNAVAILABLE, &problem);
        full.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        Some(full)
    }

    pub(super) fn new(engine: Engine<Application>, inner: S, setup: &IoNodeSetup) -> Self {
        let application = engine.application();
        Self {
            incarnation: application.incarnation.clone(),
            lease_health: application.lease_health.clone(),
            access_check: application.access_check.clone(),
            engine,
            inner,
            path: setup.settings.path.as_str().into(),
            name: setup.node.id.clone(),
            pressure: setup.pressure.clone(),
            proxies: setup.trusted_proxies.clone(),
            unknown: Arc::default(),
            ended: CancellationToken::new(),
        }
    }

    /// Completes once the process ends and no session is left. Until then, clients that poll need the port.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        self.ended.clone().cancelled_owned()
    }

    /// Changes its settings while it runs.
    pub fn settings_updater(&self) -> SettingsUpdater {
        let application = self.engine.application();
        SettingsUpdater {
            access_check: application.access_check.clone(),
            protocol: application.protocol.clone(),
        }
    }

    /// The bridge for emitters with this prefix, which the caller has to give their messages.
    pub fn emitter_bridge(&self, prefix: &str) -> EmitterBridge {
        EmitterBridge {
            protocol: EmitterProtocol::new(prefix),
            clients: ClientCommands {
                namespaces: self.engine.application().protocol.namespaces.clone(),
            },
        }
    }

    /// The namespaces and their sockets.
    #[cfg(test)]
    pub(super) fn namespaces(&self) -> Arc<NamespaceRegistry<Socket>> {
        self.engine.application().protocol.namespaces.clone()
    }

    /// The readiness of this io-node: whether it is a member of the cluster, can renew its membership, and has memory.
    pub fn joined(&self) -> Ready {
        let (name, incarnation, lease_health) = (
            self.name.to_string(),
            self.incarnation.clone(),
            self.lease_health.clone(),
        );
        let pressure = self.pressure.clone();
        Arc::new(move || Readiness {
            problem: match incarnation.is_member() {
                true => lease_health.problem().or_else(|| pressure.problem()),
                false => Some("not joined to the cluster".into()),
            },
            renewed: lease_health.silence().map(|silence| (name.clone(), silence)),
        })
    }

    pub(super) fn is_of_engine(&self, uri: &Uri) -> bool {
        let rest = uri.path().strip_prefix(&*self.path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || self.path.ends_with('/'))
    }

    /// The largest body of a request, in bytes.
    pub(super) fn max_body(&self) -> usize {
        self.engine.settings().max_payload
    }

    /// Sets the client's address: the peer of the connection, or the address that a trusted proxy names.
    fn set_peer<B>(&self, request: &mut Request<B>) {
        let connection = request.extensions().get::<Arc<Connection>>();
        if let Some(peer) = connection.and_then(|connection| connection.peer()) {
            let client = self.proxies.client(peer, request.headers());
            request.extensions_mut().insert(Peer(client));
        }
    }

    fn delay(&self) -> Duration {
        self.access_check.delay
    }

    /// Answers a request on the path of the engine.
    pub(super) async fn answer_engine<B>(self, mut request: Request<B>) -> Response<AnswerBody>
    where
        B: Body<Data = Bytes> + Send + 'static,
    {
        let cors = match self.access_check.check(request.headers()) {
            Ok(cors) => cors,
            Err(forbidden) => {
                debug!(reason = %forbidden, "request refused");
                match forbidden {
                    AccessDenied::Host(_) => metrics::HOSTS_REFUSED.increment(),
                    AccessDenied::Origin(_) => metrics::PAGES_REFUSED.increment(),
                }
                let mut answer = error_answer(StatusCode::FORBIDDEN, &forbidden);
                answer.headers_mut().insert(VARY, HeaderValue::from_static("origin"));
                return answer;
            }
        };
        let bundle = browser_client::answer(&self.path, request.uri().path(), request.method(), request.headers());
        if let Some(bundle) = bundle {
            let mut bundle = boxed(bundle);
            cors.add_to(bundle.headers_mut());
            return bundle;
        }
        if Origins::is_preflight(request.method(), request.headers()) {
            let mut answer = answer(StatusCode::NO_CONTENT);
            cors.add_permission_to(answer.headers_mut(), request.headers());
            return answer;
        }
        self.set_peer(&mut request);
        let opens = opens_session(request.uri());
        if opens && let Some(mut full) = self.out_of_memory() {
            cors.add_to(full.headers_mut());
            return full;
        }
        if opens && !self.delay().is_zero() {
            sleep(self.delay()).await;
        }
        let client = request.extensions().get::<Peer>().map(|peer| peer.0);
        let unknown = self.unknown.clone();
        // Boxed, because most waiting requests are polls, whose futures are small.
        let mut answer = Box::pin(answer_by(self.engine, request)).await;
        match answer.status() {
            StatusCode::SERVICE_UNAVAILABLE if opens => metrics::SESSIONS_REFUSED.increment(),
            StatusCode::TOO_MANY_REQUESTS => metrics::ADDRESSES_REFUSED.increment(),
            _ if answer.extensions().get::<UnknownSession>().is_some() => unknown.count(client),
            _ => {}
        }
        cors.add_to(answer.headers_mut());
        boxed(answer)
    }
}

async fn answer_by<B>(engine: Engine<Application>, request: Request<B>) -> Response<engine_io::Body>
where
    B: Body<Data = Bytes>,
{
    engine.answer(request).await
}

/// Whether a request names no session and therefore opens one.
fn opens_session(uri: &Uri) -> bool {
    let mut pairs = uri.query().unwrap_or_default().split('&');
    !pairs.any(|pair| pair.strip_prefix("sid=").is_some_and(|sid| !sid.is_empty()))
}

impl<S: Inner> IoService<S> {
    pub(super) fn answer(&self, request: Request<RequestBody>) -> BoxFuture<'static, Answered<InnerError<S>>> {
        match self.is_of_engine(request.uri()) {
            true => {
                let answering = self.clone().answer_engine(request);
                Box::pin(async { Ok(answering.await) })
            }
            false => match self.out_of_memory() {
                Some(full) => Box::pin(async { Ok(full) }),
                None => Box::pin(self.inner.call(request).map_ok(boxed)),
            },
        }
    }
}

impl<S: Inner> Service<Request<Incoming>> for IoService<S> {
    type Response = Response<AnswerBody>;
    type Error = InnerError<S>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.answer(request.map(Either::Left))
    }
}

impl<S: Inner> WebSockets for IoService<S> {
    fn accept(&self, request: &mut Request<()>) -> Option<Accepted> {
        let is_full = self.pressure.is_full() && opens_session(request.uri());
        if is_full || !self.is_of_engine(request.uri()) || self.access_check.check(request.headers()).is_err() {
            return None;
        }
        self.set_peer(request);
        let accepted = self.engine.accept(request).ok()?;
        let (headers, delay) = (accepted.headers().clone(), self.delay());
        let delay = if opens_session(request.uri()) {
            delay
        } else {
            Duration::ZERO
        };
        let open = move |stream: Stream| {
            if delay.is_zero() {
                return accepted.open(stream, &[]);
            }
            tokio::spawn(async move {
                sleep(delay).await;
                accepted.open(stream, &[]);
            });
        };
        Some(Accepted {
            headers,
            open: Box::new(open),
        })
    }
}
