//! The HTTP face of an io-node: gives requests on the path of Socket.IO to the engine, when the page that asks may, and all
//! others to who answers them.
//!
//! Websockets come from a server of ours before it has answered, and from another one after the engine has.

mod answer;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
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
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{Level, debug, enabled};

use self::answer::{to_ours, told};
use super::IoNodeSettings;
use super::application::Application;
use super::entrance::{Barred, Entrance};
use super::incarnation::Gate;
use super::origin::Origins;
use super::renewal::Renewal;
use crate::browser_client;
use crate::http::{Accepted, Connection, Readiness, Ready, Stream, TrustedProxies, WebSockets};
use plugnode_message::NodeId;
use plugnode_process::MemoryPressure;
use plugnode_process::metrics;
use plugnode_transport::Standing;

pub use self::answer::AnswerBody;
pub(super) use self::answer::{Answered, answer};

/// How many requests for unknown sessions are logged in a second.
const LOGGED: u32 = 5;

/// What comes with a request: from the network, or read by then.
pub type RequestBody = Either<Incoming, Full<Bytes>>;

/// What answers the requests that are none of Socket.IO: a service of hyper, cheap to clone. Each that fits is one.
pub trait Inner:
    Service<Request<RequestBody>, Response = Response<<Self as Inner>::Answer>, Error: Send, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
    /// What it answers with.
    type Answer: Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static> + Send + 'static;
}

impl<S, B> Inner for S
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error: Send, Future: Send> + Clone + Send + Sync + 'static,
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static> + Send + 'static,
{
    type Answer = B;
}

/// What an inner service fails with.
pub(super) type Mistake<S> = <S as Service<Request<RequestBody>>>::Error;

/// Answers Engine.IO requests, and gives all others to `S`.
#[derive(Clone)]
pub struct IoService<S: Clone> {
    engine: Engine<Application>,
    inner: S,
    path: Arc<str>,
    name: NodeId,
    gate: Arc<Gate>,
    standing: Standing,
    entrance: Arc<Entrance>,
    pressure: MemoryPressure,
    proxies: TrustedProxies,
    unknown: Arc<Unknown>,
    /// Set once no session is left, and none will come.
    pub(super) ended: CancellationToken,
}

/// Requests for sessions that are not here. Of those of a second, the first few are logged.
#[derive(Default)]
struct Unknown(Mutex<Option<(Instant, u32)>>);

impl Unknown {
    fn one(&self, client: Option<SocketAddr>) {
        metrics::SESSIONS_UNKNOWN.increment();
        if !enabled!(Level::DEBUG) {
            return;
        }
        let mut known = self.0.lock().expect("nothing panics while it holds this lock");
        let (since, logged) = known.get_or_insert_with(|| (Instant::now(), 0));
        if since.elapsed() >= Duration::from_secs(1) {
            (*since, *logged) = (Instant::now(), 0);
        }
        *logged += 1;
        if *logged <= LOGGED {
            debug!(
                client = client.map(tracing::field::display),
                "Session ID unknown: the session has ended, or is at another io-node, to which its requests should go"
            );
        }
    }
}

impl<S: Clone> IoService<S> {
    /// The answer to who comes anew while there is no memory for them. Who is there already is served.
    fn without_memory(&self) -> Option<Response<AnswerBody>> {
        let problem = self.pressure.problem()?;
        metrics::MEMORY_REFUSED.increment();
        let mut full = told(StatusCode::SERVICE_UNAVAILABLE, &problem);
        full.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        Some(full)
    }

    pub(super) fn new(engine: Engine<Application>, inner: S, settings: &IoNodeSettings) -> Self {
        let application = engine.application();
        Self {
            gate: application.gate.clone(),
            standing: application.standing.clone(),
            entrance: application.entrance.clone(),
            engine,
            inner,
            path: settings.path.as_str().into(),
            name: settings.node.id.clone(),
            pressure: settings.pressure.clone(),
            proxies: settings.trusted_proxies.clone(),
            unknown: Arc::default(),
            ended: CancellationToken::new(),
        }
    }

    /// Completes once the process ends and no session is left: until then clients that poll need its port.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        self.ended.clone().cancelled_owned()
    }

    /// What changes it while it runs.
    pub fn renewal(&self) -> Renewal {
        let application = self.engine.application();
        Renewal {
            entrance: application.entrance.clone(),
            protocol: application.protocol.clone(),
        }
    }

    /// The clients that are here.
    #[cfg(test)]
    pub(super) fn directory(&self) -> Arc<super::Directory> {
        self.engine.application().protocol.directory.clone()
    }

    /// Tells whether this io-node has joined the cluster and can renew its place there, and so takes clients.
    pub fn joined(&self) -> Ready {
        let (name, gate, standing) = (self.name.to_string(), self.gate.clone(), self.standing.clone());
        let pressure = self.pressure.clone();
        Arc::new(move || Readiness {
            problem: match gate.is_open() {
                true => standing.problem().or_else(|| pressure.problem()),
                false => Some("not joined to the cluster".into()),
            },
            renewed: standing.silence().map(|silence| (name.clone(), silence)),
        })
    }

    pub(super) fn is_of_engine(&self, uri: &Uri) -> bool {
        let rest = uri.path().strip_prefix(&*self.path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || self.path.ends_with('/'))
    }

    /// The most bytes that a request may bring.
    pub(super) fn max_body(&self) -> usize {
        self.engine.settings().max_payload
    }

    /// Names whose request it is: the other end of the connection that it came on, or who is behind a proxy there.
    fn name_peer<B>(&self, request: &mut Request<B>) {
        let connection = request.extensions().get::<Arc<Connection>>();
        if let Some(peer) = connection.and_then(|connection| connection.peer()) {
            let client = self.proxies.client(peer, request.headers());
            request.extensions_mut().insert(Peer(client));
        }
    }

    fn delay(&self) -> Duration {
        self.entrance.delay
    }

    /// Answers a request on the path of the engine.
    pub(super) async fn answer_engine<B>(self, mut request: Request<B>) -> Response<AnswerBody>
    where
        B: Body<Data = Bytes> + Send + 'static,
    {
        let cors = match self.entrance.check(request.headers()) {
            Ok(cors) => cors,
            Err(forbidden) => {
                debug!("a request is refused: {forbidden}");
                match forbidden {
                    Barred::Host(_) => metrics::HOSTS_REFUSED.increment(),
                    Barred::Page(_) => metrics::PAGES_REFUSED.increment(),
                }
                let mut answer = told(StatusCode::FORBIDDEN, &forbidden);
                answer.headers_mut().insert(VARY, HeaderValue::from_static("origin"));
                return answer;
            }
        };
        let bundle = browser_client::answer(&self.path, request.uri().path(), request.method(), request.headers());
        if let Some(bundle) = bundle {
            let mut bundle = to_ours(bundle);
            cors.add_to(bundle.headers_mut());
            return bundle;
        }
        if Origins::is_preflight(request.method(), request.headers()) {
            let mut answer = answer(StatusCode::NO_CONTENT);
            cors.add_permission_to(answer.headers_mut(), request.headers());
            return answer;
        }
        self.name_peer(&mut request);
        let opens = opens_session(request.uri());
        if opens && let Some(mut full) = self.without_memory() {
            cors.add_to(full.headers_mut());
            return full;
        }
        if opens && !self.delay().is_zero() {
            sleep(self.delay()).await;
        }
        let client = request.extensions().get::<Peer>().map(|peer| peer.0);
        let unknown = self.unknown.clone();
        // In a box: most requests that wait are polls, and the engine keeps them small.
        let mut answer = Box::pin(answer_by(self.engine, request)).await;
        match answer.status() {
            StatusCode::SERVICE_UNAVAILABLE if opens => metrics::SESSIONS_REFUSED.increment(),
            StatusCode::TOO_MANY_REQUESTS => metrics::ADDRESSES_REFUSED.increment(),
            _ if answer.extensions().get::<UnknownSession>().is_some() => unknown.one(client),
            _ => {}
        }
        cors.add_to(answer.headers_mut());
        to_ours(answer)
    }
}

async fn answer_by<B>(engine: Engine<Application>, request: Request<B>) -> Response<engine_io::Body>
where
    B: Body<Data = Bytes>,
{
    engine.answer(request).await
}

/// Whether a request names no session, and so would open one.
fn opens_session(uri: &Uri) -> bool {
    let mut pairs = uri.query().unwrap_or_default().split('&');
    !pairs.any(|pair| pair.strip_prefix("sid=").is_some_and(|sid| !sid.is_empty()))
}

impl<S: Inner> IoService<S> {
    pub(super) fn answer(&self, request: Request<RequestBody>) -> BoxFuture<'static, Answered<Mistake<S>>> {
        match self.is_of_engine(request.uri()) {
            true => {
                let answering = self.clone().answer_engine(request);
                Box::pin(async { Ok(answering.await) })
            }
            false => match self.without_memory() {
                Some(full) => Box::pin(async { Ok(full) }),
                None => Box::pin(self.inner.call(request).map_ok(to_ours)),
            },
        }
    }
}

impl<S: Inner> Service<Request<Incoming>> for IoService<S> {
    type Response = Response<AnswerBody>;
    type Error = Mistake<S>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.answer(request.map(Either::Left))
    }
}

impl<S: Inner> WebSockets for IoService<S> {
    fn accept(&self, request: &mut Request<()>) -> Option<Accepted> {
        let is_full = self.pressure.is_full() && opens_session(request.uri());
        if is_full || !self.is_of_engine(request.uri()) || self.entrance.check(request.headers()).is_err() {
            return None;
        }
        self.name_peer(request);
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
