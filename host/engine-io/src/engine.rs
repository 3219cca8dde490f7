//! The engine: takes requests, opens sessions, and ends them all at the end.

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

use crate::answer::{self, Body};
use crate::budget::Budget;
use crate::opening::{Opening, Peer};
use crate::packet::Packet;
use crate::polling;
use crate::registry::{Registered, Registry};
use crate::request::{Kind, Question, Refusal};
use crate::session::Session;
use crate::task::Task;
use crate::upgrade::Reserved;
use crate::websocket::{Stream, WebSocket, handshake};
use crate::{Application, CloseReason, Handler, Settings, Version};

/// Random bytes of an id: twenty characters, as Node's server has.
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
    /// An engine. It holds its sessions in tasks of the runtime in which their requests are taken.
    pub fn new(settings: Settings, application: A) -> Self {
        Self(Arc::new(Inner {
            application,
            // One message has to fit beside what its address leaves to others.
            budget: Budget::new(settings.unfinished_bytes.max(settings.max_payload.saturating_mul(2))),
            settings: Arc::new(settings),
            registry: Arc::default(),
            tasks: TaskTracker::new(),
        }))
    }

    /// Its application.
    pub fn application(&self) -> &A {
        &self.0.application
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// The session of this id.
    pub fn session(&self, id: &str) -> Option<Session> {
        self.0.registry.find(id)
    }

    /// All sessions.
    pub fn sessions(&self) -> Vec<Session> {
        self.0.registry.all()
    }

    /// Answers a request on the engine's path: a poll, a POST, or the handshake of a websocket, whose connection must come
    /// from hyper with upgrades. Which path that is, who may come from where (CORS), and how many connections there are is
    /// the caller's to decide before.
    pub async fn answer<B>(&self, mut request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data: Buf>,
    {
        let has_body = !request.body().is_end_stream();
        let (session, question) = match self.exchange(&mut request) {
            Exchange::Answered(answer) => return after_body(answer, has_body),
            Exchange::With(session, question) => (session, question),
        };
        // Most of the time of most sessions is spent here, so what a poll does not need goes, and what is large is elsewhere.
        let posting = match question.kind {
            Kind::Post => {
                let share = self.0.budget.share(address(&request));
                Some(Box::pin(polling::post(session.clone(), request, share)))
            }
            _ => {
                drop(request);
                None
            }
        };
        let base64 = question.base64;
        drop(question);
        match posting {
            Some(posting) => after_body(posting.await, has_body),
            None => polling::poll(session, base64).await,
        }
    }

    /// Answers what is no poll and no POST of a session.
    fn exchange<B>(&self, request: &mut Request<B>) -> Exchange {
        let question = match Question::of(request, &self.0.settings) {
            Ok(question) => question,
            Err(refusal) => return Exchange::Answered(refuse(&refusal)),
        };
        let answer = match (question.kind, &question.sid) {
            (Kind::WebSocket, _) => self.switch(request, question),
            (_, None) if question.is_misplaced_upgrade => Err(Refusal::BadRequest),
            (_, None) => self.open(request, &question),
            (_, Some(sid)) => match self.find(sid, question.version) {
                Ok(_) if question.is_misplaced_upgrade => Err(Refusal::BadRequest),
                Ok(session) => return Exchange::With(session, question),
                Err(refusal) => Err(refusal),
            },
        };
        Exchange::Answered(answer.unwrap_or_else(|refusal| refuse(&refusal)))
    }

    /// Answers the handshake of a websocket.
    fn switch<B>(&self, request: &mut Request<B>, question: Question) -> Result<Response<Body>, Refusal> {
        let accepted = self.accept_asked(request, question)?;
        let mut answer = answer::status(StatusCode::SWITCHING_PROTOCOLS);
        *answer.headers_mut() = accepted.headers().clone();
        let upgrading = hyper::upgrade::on(request);
        self.0.tasks.spawn(accepted.upgrade(upgrading));
        Ok(answer)
    }

    /// Accepts the handshake of a websocket, for servers that answer it themselves: with the status 101 and
    /// [`headers`](Accepted::headers).
    ///
    /// # Errors
    /// What to answer with instead.
    pub fn accept<B>(&self, request: &Request<B>) -> Result<Accepted<A>, Refusal> {
        let question = Question::of(request, &self.0.settings)?;
        match question.kind {
            Kind::WebSocket => self.accept_asked(request, question),
            Kind::Poll | Kind::Post => Err(Refusal::BadRequest),
        }
    }

    fn accept_asked<B>(&self, request: &Request<B>, question: Question) -> Result<Accepted<A>, Refusal> {
        let headers = handshake::answer(request).ok_or(Refusal::BadRequest)?;
        let target = match &question.sid {
            Some(sid) => {
                let session = self.find(sid, question.version)?;
                Target::Upgrade(Reserved::of(session).ok_or(Refusal::BadRequest)?)
            }
            None => {
                let (registered, handler) = self.enter(request, question.version, true)?;
                let open = open_packet(registered.session());
                Target::New(Box::new(Task::new(registered, handler)), open)
            }
        };
        Ok(Accepted {
            engine: self.clone(),
            headers,
            base64: question.base64,
            address: address(request),
            target,
        })
    }

    /// Ends all sessions, takes no more, and waits until all tasks are over. Clients are told as far as they listen.
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

    /// Opens a session that polls.
    fn open<B>(&self, request: &Request<B>, question: &Question) -> Result<Response<Body>, Refusal> {
        let (registered, handler) = self.enter(request, question.version, false)?;
        let session = registered.session().clone();
        self.0.tasks.spawn(Task::new(registered, handler).run());
        Ok(polling::opened(open_packet(&session), question))
    }

    /// Begins a session, when the application takes it.
    fn enter<B>(
        &self,
        request: &Request<B>,
        version: Version,
        is_websocket: bool,
    ) -> Result<(Registered, A::Handler), Refusal> {
        if self.0.registry.is_closed() {
            return Err(Refusal::Forbidden("the server is shutting down".into()));
        }
        let id = self
            .0
            .application
            .session_id(request.headers())
            .unwrap_or_else(random_id);
        let opening = Opening::of(request, is_websocket);
        let session = Session::new(id.into(), version, opening, self.0.settings.clone());
        let registered = self.0.registry.enter(session.clone()).ok_or(Refusal::BadRequest)?;
        let handler = self.0.application.open(session, request.extensions())?;
        Ok((registered, handler))
    }
}

/// What becomes of a request.
enum Exchange {
    Answered(Response<Body>),
    /// It polls or posts.
    With(Session, Question),
}

/// A handshake that was accepted.
pub struct Accepted<A: Application> {
    engine: Engine<A>,
    headers: HeaderMap,
    base64: bool,
    address: Option<IpAddr>,
    target: Target<A::Handler>,
}

/// What a websocket is for.
enum Target<H: Handler> {
    New(Box<Task<H>>, Packet),
    Upgrade(Reserved),
}

impl<A: Application> fmt::Debug for Accepted<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accepted")
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}

impl<A: Application> Accepted<A> {
    /// The headers of the answer.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Takes the websocket: the stream behind the answer, and what was read of it already. Its task is the engine's.
    pub fn open(self, stream: impl Stream, read: &[u8]) {
        let inner = &self.engine.0;
        let (most, share) = (inner.settings.max_payload, inner.budget.share(self.address));
        let websocket = Box::new(WebSocket::new(stream, read, self.base64, most, share));
        match self.target {
            Target::New(task, open) => inner.tasks.spawn(task.run_websocket(websocket, open)),
            Target::Upgrade(reserved) => inner.tasks.spawn(reserved.run(websocket)),
        };
    }

    async fn upgrade(self, upgrading: OnUpgrade) {
        let upgraded = match upgrading.await {
            Ok(upgraded) => upgraded,
            Err(error) => {
                debug!(%error, "the server does not give its connection for a websocket");
                return;
            }
        };
        // Most servers speak HTTP on plain sockets: without hyper's wrapping they take less memory.
        match upgraded.downcast::<TokioIo<TcpStream>>() {
            Ok(parts) => self.open(parts.io.into_inner(), &parts.read_buf),
            Err(upgraded) => self.open(TokioIo::new(upgraded), &Bytes::new()),
        }
    }
}

/// The packet that opens a session.
fn open_packet(session: &Session) -> Packet {
    let settings = &session.0.settings;
    let upgrades: &[&str] = match settings.websocket && !session.opening().is_websocket() {
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

/// The answer to a request with a body. When it is a refusal, the body may not be read to its end, and what is left of it is no
/// request: so the connection is closed.
fn after_body(mut answer: Response<Body>, has_body: bool) -> Response<Body> {
    if has_body && !answer.status().is_success() {
        answer
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

/// Where a request comes from, if the server named a [`Peer`].
fn address<B>(request: &Request<B>) -> Option<IpAddr> {
    request.extensions().get::<Peer>().map(|peer| peer.0.ip())
}

fn refuse(refusal: &Refusal) -> Response<Body> {
    debug!(code = refusal.code(), "request refused: {refusal}");
    refusal.answer()
}

fn random_id() -> String {
    let mut bytes = [0; ID_BYTES];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    URL_SAFE_NO_PAD.encode(bytes)
}
