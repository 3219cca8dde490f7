//! The HTTP face of an io-node: socketioxide's service, watched for which connection a session is on.
//!
//! Two kinds of requests do not go through at once. New sessions are refused while the io-node has not joined the
//! cluster; and what a polling client of a paused session sends waits, unread, until the pause is over. Neither kind of
//! pause may cost a client its heartbeat, for its answers to pings wait, too: so they are given in its place.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engineioxide::service::EngineIoService;
use engineioxide::sid::Sid;
use futures_util::future::{self, BoxFuture};
use http::header::RETRY_AFTER;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::service::Service;
use tokio::time::timeout;

use super::incarnation::Gate;
use super::protocol::Protocol;
use super::session::Sessions;
use crate::counts;
use crate::http::{Connection, Ready, SignOfLife};

/// What comes with a request: from the network, or from the io-node itself.
pub type RequestBody = Either<Incoming, Full<Bytes>>;

/// An answer to a ping as Engine.IO has it: alone, and as the frame of a WebSocket that comes from a client.
const PONG: &[u8] = b"3";
const PONG_FRAME: &[u8] = b"\x81\x81\0\0\0\x003";
/// Messages of Engine.IO's handshake by which a session moves from polling to a websocket.
const UPGRADE_MESSAGES: u32 = 2;

/// Answers Engine.IO requests, and gives all others to `S`.
#[derive(Clone)]
pub struct IoService<S: Clone> {
    engine: Engine<S>,
    path: Arc<str>,
    sessions: Arc<Sessions>,
    gate: Arc<Gate>,
    signs_of_life: SignsOfLife,
}

/// What keeps a paused client's heartbeat going.
#[derive(Debug, Clone, Copy)]
pub(super) struct SignsOfLife {
    /// The time between two answers to pings that are given in the client's place.
    pub(super) every: Duration,
}

/// What a request of Engine.IO is for.
#[derive(Debug, PartialEq, Eq)]
struct Question {
    sid: Option<Sid>,
    websocket: bool,
}

impl<S: Clone> IoService<S> {
    pub(super) fn new(
        engine: EngineIoService<Protocol, S>,
        path: String,
        sessions: Arc<Sessions>,
        gate: Arc<Gate>,
        signs_of_life: SignsOfLife,
    ) -> Self {
        Self {
            engine,
            path: path.into(),
            sessions,
            gate,
            signs_of_life,
        }
    }

    /// Tells whether this io-node has joined the cluster, and so takes clients.
    pub fn joined(&self) -> Ready {
        let gate = self.gate.clone();
        Arc::new(move || gate.is_open())
    }

    /// What a request asks of Engine.IO, if it does.
    fn question<B>(&self, request: &Request<B>) -> Option<Question> {
        let rest = request.uri().path().strip_prefix(&*self.path)?;
        if !(rest.is_empty() || rest.starts_with('/') || self.path.ends_with('/')) {
            return None;
        }
        let pairs = || request.uri().query().unwrap_or_default().split('&');
        Some(Question {
            sid: pairs()
                .find_map(|pair| pair.strip_prefix("sid="))
                .and_then(|sid| sid.parse().ok()),
            websocket: pairs().any(|pair| pair == "transport=websocket"),
        })
    }

    /// Notes on which connection a session goes on: the websocket it is upgraded to, or the one of its latest poll.
    fn note<B>(&self, request: &Request<B>, question: &Question) {
        let Some(connection) = request.extensions().get::<Arc<Connection>>() else {
            return;
        };
        if question.websocket {
            connection.becomes_websocket(SignOfLife {
                frame: PONG_FRAME,
                every: self.signs_of_life.every,
                first: if question.sid.is_some() { UPGRADE_MESSAGES } else { 0 },
            });
        }
        if let Some(sid) = question.sid {
            self.sessions.moved(sid, connection.clone(), question.websocket);
        }
    }
}

impl<S, B> IoService<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Body + Send + 'static,
{
    /// Sends something to the engine in the place of a client that polls.
    fn say(&self, sid: Sid, packet: &'static [u8]) -> Answering<S> {
        let path = self.path.trim_end_matches('/');
        let request = Request::post(format!("{path}/?EIO=4&transport=polling&sid={sid}"))
            .body(Either::Right(Full::from(packet)))
            .expect("a path and a session id make a valid address");
        self.engine.call(request)
    }

    /// Waits while a session is paused, and answers pings in its client's place.
    async fn hold(&self, sid: Sid) {
        while let Some(session) = self.sessions.find(sid) {
            // Made before the look, so that no news is missed between the look and the wait.
            let resumed = session.resumed();
            let resumed = resumed.notified();
            if !session.is_paused() {
                return;
            }
            drop(session);
            drop(self.say(sid, PONG).await);
            let _ = timeout(self.signs_of_life.every, resumed).await;
        }
    }
}

type Engine<S> = EngineIoService<Protocol, S>;
type Answer<S> = <Engine<S> as Service<Request<RequestBody>>>::Response;
type Answering<S> = <Engine<S> as Service<Request<RequestBody>>>::Future;
type Mistake<S> = <Engine<S> as Service<Request<RequestBody>>>::Error;

impl<S, B> Service<Request<Incoming>> for IoService<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Body + Send + 'static,
{
    type Response = Answer<S>;
    type Error = Mistake<S>;
    type Future = future::Either<Answering<S>, BoxFuture<'static, Result<Answer<S>, Mistake<S>>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let question = self.question(&request);
        let request = request.map(Either::Left);
        let Some(question) = question else {
            return future::Either::Left(self.engine.call(request));
        };
        if question.sid.is_none() && !self.gate.is_open() {
            counts::SESSIONS_REFUSED.one();
            return future::Either::Right(Box::pin(future::ready(Ok(refusal()))));
        }
        match question.sid.filter(|_| request.method() == Method::POST) {
            Some(sid) if self.sessions.find(sid).is_some_and(|session| session.is_paused()) => {
                let service = self.clone();
                future::Either::Right(Box::pin(async move {
                    service.hold(sid).await;
                    service.engine.call(request).await
                }))
            }
            Some(_) => future::Either::Left(self.engine.call(request)),
            None => {
                self.note(&request, &question);
                future::Either::Left(self.engine.call(request))
            }
        }
    }
}

/// Says to come again: what the io-node cannot do now, it or another soon can.
fn refusal<B: Default>() -> Response<B> {
    let mut refusal = Response::<B>::default();
    *refusal.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    refusal.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    refusal
}
