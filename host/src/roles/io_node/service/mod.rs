//! The HTTP face of an io-node: the engine's service, and who may reach it with what.
//!
//! New sessions are refused while the io-node has not joined the cluster, and those that [`Entrance`] does not let in. What
//! becomes of the others is in `polling`, which mends where the engine does not do as Engine.IO says, and in `websocket`,
//! which the engine never sees; `exchanges` and `probe` are what they need for that. Of a client that polls the engine itself
//! takes care of heartbeats, of packets on their way out, and of the session's end.

mod answer;
mod exchanges;
mod polling;
mod probe;
mod question;
mod websocket;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engineioxide::service::EngineIoService;
use futures_util::TryFutureExt;
use futures_util::future::{self, BoxFuture};
use http::header::{RETRY_AFTER, VARY};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body::Body;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::service::Service;
use tokio::time::sleep;
use tracing::debug;

use self::answer::{bad_request, mistaken, to_ours, told, too_many_answer};
use self::exchanges::Exchanges;
use self::question::{Question, Version};
use super::IoNodeSettings;
use super::entrance::Entrance;
use super::incarnation::Gate;
use super::limits::Place;
use super::opening::Opening;
use super::origin::Origins;
use super::protocol::Protocol;
use super::websocket::Terms as TalkTerms;
use crate::counts;
use crate::http::{Connection, Readiness, Ready};
use crate::message::NodeId;
use crate::shutdown::Shutdown;
use crate::transport::Standing;

pub use self::answer::AnswerBody;
pub(super) use self::answer::{Answered, answer};

/// What comes with a request: from the network, or from the io-node itself.
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

type Engine<S> = EngineIoService<Protocol, S>;
type Answering<S> = <Engine<S> as Service<Request<RequestBody>>>::Future;
pub(super) type Mistake<S> = <Engine<S> as Service<Request<RequestBody>>>::Error;

/// What is between two packets that come at once.
const SEPARATOR: char = '\x1e';

/// Answers Engine.IO requests, and gives all others to `S`.
#[derive(Clone)]
pub struct IoService<S: Clone> {
    engine: Engine<S>,
    path: Arc<str>,
    protocol: Arc<Protocol>,
    name: NodeId,
    gate: Arc<Gate>,
    standing: Standing,
    entrance: Arc<Entrance>,
    terms: Terms,
    exchanges: Arc<Exchanges>,
    shutdown: Shutdown,
}

/// What sessions are held to.
#[derive(Debug, Clone, Copy)]
struct Terms {
    /// The time between two answers to pings that are given in a paused client's place.
    signs_of_life: Duration,
    /// How long a client may take to move to a websocket.
    upgrade_timeout: Duration,
    /// What those with a websocket are told.
    talk: TalkTerms,
    /// Whether there are websockets.
    websocket: bool,
    /// Whether clients of Socket.IO 2 are taken, who speak version 3 of Engine.IO.
    version_3: bool,
}

impl<S: Clone> IoService<S> {
    pub(super) fn new(
        engine: Engine<S>,
        settings: &IoNodeSettings,
        protocol: Arc<Protocol>,
        gate: Arc<Gate>,
        standing: Standing,
        entrance: Entrance,
        shutdown: Shutdown,
    ) -> Self {
        let terms = Terms {
            signs_of_life: settings.ping_timeout / 3,
            upgrade_timeout: settings.upgrade_timeout,
            talk: TalkTerms {
                ping_interval: settings.ping_interval,
                ping_timeout: settings.ping_timeout,
                max_payload: settings.max_payload,
            },
            websocket: settings.websocket,
            version_3: settings.socket_io_2,
        };
        Self {
            engine,
            path: settings.path.as_str().into(),
            protocol,
            name: settings.node.id.clone(),
            gate,
            standing,
            entrance: Arc::new(entrance),
            terms,
            exchanges: Arc::default(),
            shutdown,
        }
    }

    /// Tells whether this io-node has joined the cluster and can renew its place there, and so takes clients.
    pub fn joined(&self) -> Ready {
        let (name, gate, standing) = (self.name.to_string(), self.gate.clone(), self.standing.clone());
        Arc::new(move || Readiness {
            problem: match gate.is_open() {
                true => standing.problem(),
                false => Some("not joined to the cluster".into()),
            },
            renewed: standing.silence().map(|silence| (name.clone(), silence)),
        })
    }

    /// Whether new sessions are taken. What an io-node is about to lose it does not begin.
    fn takes_sessions(&self) -> bool {
        self.gate.is_open() && !self.standing.is_overdue()
    }

    fn is_of_engine(&self, uri: &Uri) -> bool {
        let rest = uri.path().strip_prefix(&*self.path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || self.path.ends_with('/'))
    }

    /// What a request asks of Engine.IO, if it does. What is asked wrongly the engine refuses.
    fn question(&self, uri: &Uri) -> Option<Question> {
        if self.is_of_engine(uri) {
            Question::of(uri)
        } else {
            None
        }
    }

    /// The most bytes that a request may bring.
    pub(super) fn most(&self) -> usize {
        self.terms.talk.max_payload
    }

    /// What a request is told that is not to reach the engine.
    fn refusal(&self, question: &Question) -> Option<Response<AnswerBody>> {
        match question.sid {
            None if question.version == Version::V3 && !self.terms.version_3 => {
                Some(mistaken(r#"{"code":5,"message":"Unsupported protocol version"}"#))
            }
            None if !self.takes_sessions() => {
                counts::SESSIONS_REFUSED.one();
                // Come again: what the io-node cannot do now, it or another soon can.
                let mut refusal = answer(StatusCode::SERVICE_UNAVAILABLE);
                refusal.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
                Some(refusal)
            }
            // Of these a websocket would be taken first.
            Some(sid) if question.websocket => match self.protocol.sessions.find(sid) {
                None => Some(mistaken(r#"{"code":1,"message":"Session ID unknown"}"#)),
                Some(session) if session.is_websocket() => Some(bad_request()),
                Some(_) => None,
            },
            _ => None,
        }
    }

    /// Takes from a request that opens a session what the engine does not need: it keeps all of it for as long as the session
    /// lives, and by each header the buffer that this came in. What clients will be asked for stays, as an [`Opening`].
    fn strip<B>(&self, request: &mut Request<B>, question: &Question, place: Option<Place>) {
        let opening = Opening::of(request, place);
        *request.headers_mut() = HeaderMap::new();
        *request.uri_mut() = question.address(&self.path);
        request.extensions_mut().remove::<Arc<Connection>>();
        request.extensions_mut().insert(opening);
    }
}

impl<S: Inner> IoService<S> {
    pub(super) fn answer(&self, request: Request<RequestBody>) -> BoxFuture<'static, Answered<Mistake<S>>> {
        if !self.is_of_engine(request.uri()) {
            return Box::pin(to_ours(self.engine.call(request)));
        }
        let cors = match self.entrance.check(request.headers()) {
            Ok(cors) => cors,
            Err(forbidden) => {
                debug!("a request is refused: {forbidden}");
                counts::PAGES_REFUSED.one();
                let mut answer = told(StatusCode::FORBIDDEN, &forbidden);
                answer.headers_mut().insert(VARY, HeaderValue::from_static("origin"));
                return Box::pin(future::ready(Ok(answer)));
            }
        };
        if Origins::is_preflight(request.method(), request.headers()) {
            let mut answer = answer(StatusCode::NO_CONTENT);
            cors.add_permission_to(answer.headers_mut(), request.headers());
            return Box::pin(future::ready(Ok(answer)));
        }
        Box::pin(self.answer_question(request).map_ok(move |mut answer| {
            cors.add_to(answer.headers_mut());
            answer
        }))
    }

    fn answer_question(&self, request: Request<RequestBody>) -> BoxFuture<'static, Answered<Mistake<S>>> {
        let Some(question) = self.question(request.uri()) else {
            return Box::pin(to_ours(self.engine.call(request)));
        };
        if let Some(refusal) = self.refusal(&question) {
            return Box::pin(future::ready(Ok(refusal)));
        }
        if question.sid.is_some() || request.method() != Method::GET {
            return self.pass_on(question, request, None);
        }
        let place = match self.entrance.take_place(&request) {
            Ok(place) => place,
            Err(too_many) => return Box::pin(future::ready(Ok(too_many_answer(too_many)))),
        };
        let delay = self.entrance.delay;
        // A websocket waits when it begins.
        if delay.is_zero() || question.websocket {
            return self.pass_on(question, request, place);
        }
        let service = self.clone();
        Box::pin(async move {
            sleep(delay).await;
            service.pass_on(question, request, place).await
        })
    }

    /// Each kind of answer is a future of its own: most requests that wait are polls, and hold no more than they need.
    fn pass_on(
        &self,
        question: Question,
        mut request: Request<RequestBody>,
        place: Option<Place>,
    ) -> BoxFuture<'static, Answered<Mistake<S>>> {
        match (question.sid, request.method()) {
            (Some(sid), &Method::POST) => Box::pin(self.clone().take_in(sid, request)),
            (Some(sid), &Method::GET) if !question.websocket => {
                Box::pin(self.clone().poll(sid, question.version, request))
            }
            (None, &Method::GET) if !question.websocket => {
                self.strip(&mut request, &question, place);
                let opened = to_ours(self.engine.call(request));
                match question.version {
                    Version::V3 => Box::pin(opened),
                    Version::V4 => Box::pin(self.clone().spare_first_ping(opened)),
                }
            }
            (_, &Method::GET) if self.terms.websocket => Box::pin(future::ready(Ok(self.take_over(request)))),
            _ => Box::pin(to_ours(self.engine.call(request))),
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
