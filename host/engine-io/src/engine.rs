//! The engine: dispatches requests, opens sessions, and ends them all at shutdown.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{Buf, Bytes};
use http::header::{CONNECTION, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::application::{Application, Handler};
use crate::budget::Budget;
use crate::close_reason::CloseReason;
use crate::opening_request::OpeningRequest;
use crate::packet::Packet;
use crate::peer::Peer;
use crate::refusal::Refusal;
use crate::registry::{Registration, Registry};
use crate::request::{RequestKind, RequestParameters};
use crate::response::{self, Body};
use crate::session::Session;
use crate::settings::Settings;
use crate::task::Task;
use crate::upgrade::PendingUpgrade;
use crate::version::Version;
use crate::websocket::{Stream, WebSocket, handshake};
use crate::{poll, post};

/// Random bytes of a session id: twenty characters, as with Node's server.
const ID_BYTES: usize = 15;

/// An Engine.IO server for an application. Clones are the same one.
pub struct Engine<A>(Arc<Inner<A>>);

struct Inner<A> {
    application: A,
    settings: Arc<Settings>,
    registry: Arc<Registry>,
    budget: Arc<Budget>,
    tasks: TaskTracker,
}

impl<A> Clone for Engine<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<A> fmt::Debug for Engine<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("sessions", &self.0.registry.len())
            .finish_non_exhaustive()
    }
}

impl<A: Application> Engine<A> {
    /// Creates an engine. Its sessions run as tasks of the tokio runtime that polls [`answer`](Self::answer).
    pub fn new(settings: Settings, application: A) -> Self {
        Self(Arc::new(Inner {
            application,
            // At least twice max-payload, because a network must leave as much free as it holds.
            budget: Budget::new(settings.unfinished_bytes.max(settings.max_payload.saturating_mul(2))),
            settings: Arc::new(settings),
            registry: Arc::default(),
            tasks: TaskTracker::new(),
        }))
    }

    /// The application.
    pub fn application(&self) -> &A {
        &self.0.application
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Finds a session by its id.
    pub fn session(&self, id: &str) -> Option<Session> {
        self.0.registry.find(id)
    }

    /// All sessions.
    pub fn sessions(&self) -> Vec<Session> {
        self.0.registry.all()
    }

    /// Answers a request: a poll, a POST, or the handshake of a websocket, whose connection must be served by hyper with
    /// upgrades. The caller has checked the path, the origin (CORS), and the number of connections.
    pub async fn answer<B>(&self, mut request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data: Buf>,
    {
        let has_body = !request.body().is_end_stream();
        let (session, parameters) = match self.dispatch(&mut request) {
            Dispatched::Answered(response) => return close_after_refusal(response, has_body),
            Dispatched::ToSession(session, parameters) => (session, parameters),
        };
        // A polling session spends most of its time in this future. So it drops what a poll does not need, and boxes what only a
        // POST needs.
        let posting = match parameters.kind {
            RequestKind::Post => {
                let share = self.0.budget.share(ip_address(&request));
                Some(Box::pin(post::serve(session.clone(), request, share)))
            }
            _ => {
                drop(request);
                None
            }
        };
        let base64 = parameters.base64;
        drop(parameters);
        match posting {
            Some(posting) => close_after_refusal(posting.await, has_body),
            None => poll::serve(session, base64).await,
        }
    }

    /// Answers a request, unless it is a poll or a POST of a session.
    fn dispatch<B>(&self, request: &mut Request<B>) -> Dispatched {
        let parameters = match RequestParameters::parse(request, &self.0.settings) {
            Ok(parameters) => parameters,
            Err(refusal) => return Dispatched::Answered(refuse(&refusal)),
        };
        let response = match (parameters.kind, &parameters.sid) {
            (RequestKind::WebSocket, _) => self.switch_protocols(request, parameters),
            (_, None) if parameters.is_misplaced_upgrade => Err(Refusal::BadRequest),
            (_, None) => self.open_polling(request, &parameters),
            (_, Some(sid)) => match self.find(sid, parameters.version) {
                Ok(_) if parameters.is_misplaced_upgrade => Err(Refusal::BadRequest),
                Ok(session) => return Dispatched::ToSession(session, parameters),
                Err(refusal) => Err(refusal),
            },
        };
        Dispatched::Answered(response.unwrap_or_else(|refusal| refuse(&refusal)))
    }

    /// Answers the handshake of a websocket.
    fn switch_protocols<B>(
        &self,
        request: &mut Request<B>,
        parameters: RequestParameters,
    ) -> Result<Response<Body>, Refusal> {
        let accepted = self.accept_parsed(request, parameters)?;
        let mut response = response::status(StatusCode::SWITCHING_PROTOCOLS);
        *response.headers_mut() = accepted.headers().clone();
        let upgrading = hyper::upgrade::on(request);
        self.0.tasks.spawn(accepted.upgrade(upgrading));
        Ok(response)
    }

    /// Accepts the handshake of a websocket, for a server that answers it itself: with status 101 and
    /// [`headers`](AcceptedHandshake::headers).
    ///
    /// # Errors
    /// Why the request is refused.
    pub fn accept<B>(&self, request: &Request<B>) -> Result<AcceptedHandshake<A>, Refusal> {
        let parameters = RequestParameters::parse(request, &self.0.settings)?;
        match parameters.kind {
            RequestKind::WebSocket => self.accept_parsed(request, parameters),
            RequestKind::Poll | RequestKind::Post => Err(Refusal::BadRequest),
        }
    }

    fn accept_parsed<B>(
        &self,
        request: &Request<B>,
        parameters: RequestParameters,
    ) -> Result<AcceptedHandshake<A>, Refusal> {
        let headers = handshake::response_headers(request).ok_or(Refusal::BadRequest)?;
        let purpose = match &parameters.sid {
            Some(sid) => {
                let session = self.find(sid, parameters.version)?;
                Purpose::Upgrade(PendingUpgrade::begin(session).ok_or(Refusal::BadRequest)?)
            }
            None => {
                let (registration, handler) = self.register(request, parameters.version, true)?;
                let open = open_packet(registration.session());
                Purpose::NewSession(Box::new(Task::new(registration, handler)), open)
            }
        };
        Ok(AcceptedHandshake {
            engine: self.clone(),
            headers,
            base64: parameters.base64,
            address: ip_address(request),
            purpose,
        })
    }

    /// Ends all sessions, accepts no more, and waits until all tasks have ended. Clients that still read are sent the close.
    pub async fn shutdown(&self) {
        self.0.registry.close();
        for session in self.sessions() {
            session.end(CloseReason::Shutdown);
        }
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    fn find(&self, sid: &str, version: Version) -> Result<Session, Refusal> {
        let session = self.0.registry.find(sid).ok_or(Refusal::SessionUnknown)?;
        match session.version() == version {
            true => Ok(session),
            false => Err(Refusal::BadRequest),
        }
    }

    /// Opens a polling session.
    fn open_polling<B>(&self, request: &Request<B>, parameters: &RequestParameters) -> Result<Response<Body>, Refusal> {
        let (registration, handler) = self.register(request, parameters.version, false)?;
        let session = registration.session().clone();
        self.0.tasks.spawn(Task::new(registration, handler).run());
        Ok(poll::opened(open_packet(&session), parameters))
    }

    /// Registers a new session, if the application accepts it.
    fn register<B>(
        &self,
        request: &Request<B>,
        version: Version,
        is_websocket: bool,
    ) -> Result<(Registration, A::Handler), Refusal> {
        if self.0.registry.is_closed() {
            return Err(Refusal::Forbidden("the server is shutting down".into()));
        }
        let id = self
            .0
            .application
            .session_id(request.headers())
            .unwrap_or_else(random_id);
        let opening = OpeningRequest::new(request, is_websocket);
        let session = Session::new(id.into(), version, opening, self.0.settings.clone());
        let registration = self.0.registry.register(session.clone()).ok_or(Refusal::BadRequest)?;
        let handler = self.0.application.open(session, request.extensions())?;
        Ok((registration, handler))
    }
}

enum Dispatched {
    Answered(Response<Body>),
    /// A poll or a POST of this session.
    ToSession(Session, RequestParameters),
}

/// An accepted handshake of a websocket.
pub struct AcceptedHandshake<A: Application> {
    engine: Engine<A>,
    headers: HeaderMap,
    base64: bool,
    address: Option<IpAddr>,
    purpose: Purpose<A::Handler>,
}

/// The purpose of an accepted websocket.
enum Purpose<H: Handler> {
    NewSession(Box<Task<H>>, Packet),
    Upgrade(PendingUpgrade),
}

impl<A: Application> fmt::Debug for AcceptedHandshake<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcceptedHandshake")
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}

impl<A: Application> AcceptedHandshake<A> {
    /// The headers of the response.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Runs the websocket in a task of the engine. `stream` is what follows the response; `read` are the bytes already read
    /// from it.
    pub fn open(self, stream: impl Stream, read: &[u8]) {
        let inner = &self.engine.0;
        let share = inner.budget.share(self.address);
        let max_message = inner.settings.max_payload;
        let websocket = Box::new(WebSocket::new(stream, read, self.base64, max_message, share));
        match self.purpose {
            Purpose::NewSession(task, open) => inner.tasks.spawn(task.run_websocket(websocket, open)),
            Purpose::Upgrade(upgrade) => inner.tasks.spawn(upgrade.run(websocket)),
        };
    }

    async fn upgrade(self, upgrading: OnUpgrade) {
        let upgraded = match upgrading.await {
            Ok(upgraded) => upgraded,
            Err(error) => {
                debug!(%error, "cannot upgrade the connection to a websocket");
                return;
            }
        };
        // A plain socket is used without hyper's wrapper, which takes memory.
        match upgraded.downcast::<TokioIo<TcpStream>>() {
            Ok(parts) => self.open(parts.io.into_inner(), &parts.read_buf),
            Err(upgraded) => self.open(TokioIo::new(upgraded), &Bytes::new()),
        }
    }
}

/// The open packet of a session.
fn open_packet(session: &Session) -> Packet {
    let settings = &session.0.settings;
    let upgrades: &[&str] = match settings.websocket() && !session.opening().is_websocket() {
        true => &["websocket"],
        false => &[],
    };
    let open = serde_json::json!({
        "sid": session.id(),
        "upgrades": upgrades,
        "pingInterval": settings.ping_interval.as_millis() as u64,
        "pingTimeout": settings.ping_timeout.as_millis() as u64,
        "maxPayload": settings.max_payload,
    });
    Packet::open(&open.to_string())
}

/// Closes the connection after a refused request with a body, because the body may not have been read to its end.
fn close_after_refusal(mut response: Response<Body>, has_body: bool) -> Response<Body> {
    if has_body && !response.status().is_success() {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    response
}

fn ip_address<B>(request: &Request<B>) -> Option<IpAddr> {
    Peer::address(request).map(|peer| peer.ip())
}

fn refuse(refusal: &Refusal) -> Response<Body> {
    debug!(code = refusal.code(), %refusal, "request refused");
    refusal.response()
}

fn random_id() -> String {
    let mut bytes = [0; ID_BYTES];
    getrandom::fill(&mut bytes).expect("the operating system provides random bytes");
    URL_SAFE_NO_PAD.encode(bytes)
}
