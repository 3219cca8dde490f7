//! The HTTP face of an io-node: the engine's service, watched for which connection a session is on.
//!
//! Two kinds of requests do not go through at once. New sessions are refused while the io-node has not joined the
//! cluster; and what a polling client of a paused session sends waits, unread, until the pause is over. Neither kind of
//! pause may cost a client its heartbeat, for its answers to pings wait, too: so they are given in its place.
//!
//! Where the engine does not do as Engine.IO says, it is mended here. It pings a client as soon as it is there instead
//! of after an interval, so that first ping is answered in the client's place. It does not notice when a client's poll
//! goes away unanswered, or its upgrade to a websocket fails, so such a session is closed.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engineioxide::service::EngineIoService;
use engineioxide::sid::Sid;
use futures_util::future::{self, BoxFuture};
use futures_util::{FutureExt, TryFutureExt};
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, SEC_WEBSOCKET_KEY, VARY};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body::Body;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use hyper::service::Service;
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::IoNodeSettings;
use super::entrance::Entrance;
use super::incarnation::Gate;
use super::limits::{Place, TooMany};
use super::opening::Opening;
use super::origin::Origins;
use super::protocol::Protocol;
use super::session::Sessions;
use crate::counts;
use crate::http::{BoxError, Connection, Heartbeat, Ready, Stream, WebSockets, whole_body};

/// What comes with a request: from the network, or from the io-node itself.
pub type RequestBody = Either<Incoming, Full<Bytes>>;
/// What goes out with an answer.
pub type AnswerBody = UnsyncBoxBody<Bytes, BoxError>;

/// Packets of Engine.IO.
const CLOSE: &[u8] = b"1";
const PING: &str = "2";
const PONG: &[u8] = b"3";
/// Those of heartbeats as frames of a WebSocket, from the server and from a client.
const PING_FRAME: &[u8] = b"\x81\x012";
const PONG_FRAME: &[u8] = b"\x81\x81\0\0\0\x003";
/// What is between two packets that come at once.
const SEPARATOR: char = '\x1e';
/// Messages of Engine.IO's handshake by which a session moves from polling to a websocket.
const UPGRADE_MESSAGES: u32 = 2;

/// Answers Engine.IO requests, and gives all others to `S`.
#[derive(Clone)]
pub struct IoService<S: Clone> {
    engine: Engine<S>,
    path: Arc<str>,
    sessions: Arc<Sessions>,
    gate: Arc<Gate>,
    entrance: Arc<Entrance>,
    terms: Terms,
    /// The heartbeats of clients that began as a websocket, by their version of Engine.IO, and of those that moved to one.
    heartbeats: Arc<[Arc<Heartbeat>; 3]>,
}

/// What sessions are held to.
#[derive(Debug, Clone, Copy)]
struct Terms {
    /// The time between two answers to pings that are given in a paused client's place.
    signs_of_life: Duration,
    /// The most bytes that a request may bring.
    max_payload: usize,
    /// Whether there are websockets.
    websocket: bool,
    /// Whether clients of Socket.IO 2 are taken, who speak version 3 of Engine.IO.
    version_3: bool,
}

/// What a request asks of Engine.IO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Question {
    /// The session it names, or none to open one.
    sid: Option<Sid>,
    version: Version,
    websocket: bool,
    /// Whether the client cannot take binary answers.
    base64: bool,
}

/// A version of Engine.IO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V3,
    V4,
}

impl<S: Clone> IoService<S> {
    pub(super) fn new(
        engine: Engine<S>,
        settings: &IoNodeSettings,
        sessions: Arc<Sessions>,
        gate: Arc<Gate>,
        entrance: Entrance,
    ) -> Self {
        let terms = Terms {
            signs_of_life: settings.ping_timeout / 3,
            max_payload: settings.max_payload,
            websocket: settings.websocket,
            version_3: settings.socket_io_2,
        };
        let heartbeat = |first, spared| {
            Arc::new(Heartbeat {
                sign_of_life: PONG_FRAME,
                every: terms.signs_of_life,
                first,
                spared,
            })
        };
        // In version 3 it is the client that pings.
        let heartbeats = [
            heartbeat(0, None),
            heartbeat(0, Some(PING_FRAME)),
            heartbeat(UPGRADE_MESSAGES, None),
        ];
        Self {
            engine,
            path: settings.path.as_str().into(),
            sessions,
            gate,
            entrance: Arc::new(entrance),
            terms,
            heartbeats: Arc::new(heartbeats),
        }
    }

    /// Tells whether this io-node has joined the cluster, and so takes clients.
    pub fn joined(&self) -> Ready {
        let gate = self.gate.clone();
        Arc::new(move || gate.is_open())
    }

    fn is_of_engine(&self, uri: &Uri) -> bool {
        let rest = uri.path().strip_prefix(&*self.path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || self.path.ends_with('/'))
    }

    /// What a request asks of Engine.IO, if it does. What is asked wrongly the engine refuses.
    fn question(&self, uri: &Uri) -> Option<Question> {
        if !self.is_of_engine(uri) {
            return None;
        }
        let pairs = || uri.query().unwrap_or_default().split('&');
        let value = |key: &str| pairs().find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
        // The engine reads these up to another `=`, and what it reads has to be what is read here.
        let word = |key: &str| value(key)?.split('=').next();
        Some(Question {
            sid: match value("sid") {
                Some(sid) => Some(sid.parse().ok()?),
                None => None,
            },
            version: match word("EIO")? {
                "3" => Version::V3,
                "4" => Version::V4,
                _ => return None,
            },
            websocket: match word("transport")? {
                "websocket" => true,
                "polling" => false,
                _ => return None,
            },
            base64: matches!(value("b64"), Some("1" | "true")),
        })
    }

    /// What a request is told that is not to reach the engine.
    fn refusal(&self, question: &Question) -> Option<Response<AnswerBody>> {
        match question.sid {
            None if question.version == Version::V3 && !self.terms.version_3 => {
                Some(mistaken(r#"{"code":5,"message":"Unsupported protocol version"}"#))
            }
            None if !self.gate.is_open() => {
                counts::SESSIONS_REFUSED.one();
                // Come again: what the io-node cannot do now, it or another soon can.
                let mut refusal = answer(StatusCode::SERVICE_UNAVAILABLE);
                refusal.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
                Some(refusal)
            }
            // Of this the engine would take the websocket first.
            Some(sid) if question.websocket && self.sessions.find(sid).is_none() => {
                Some(mistaken(r#"{"code":1,"message":"Session ID unknown"}"#))
            }
            _ => None,
        }
    }

    /// Takes from a request what the engine does not need: it keeps all of it for as long as the session lives, and by
    /// each header the buffer that this came in. What clients will be asked for stays, as an [`Opening`].
    fn strip<B>(&self, request: &mut Request<B>, question: &Question, place: Option<Place>) {
        let opening = question.sid.is_none().then(|| Opening::of(request, place));
        *request.headers_mut() = HeaderMap::new();
        *request.uri_mut() = match (question.websocket, question.sid, question.version) {
            // What is static takes no memory.
            (true, None, Version::V3) => Uri::from_static("/?EIO=3&transport=websocket"),
            (true, None, Version::V4) => Uri::from_static("/?EIO=4&transport=websocket"),
            _ => self.address(question),
        };
        request.extensions_mut().remove::<Arc<Connection>>();
        if let Some(opening) = opening {
            request.extensions_mut().insert(opening);
        }
    }

    /// The address that asks this.
    fn address(&self, question: &Question) -> Uri {
        let version = match question.version {
            Version::V3 => 3,
            Version::V4 => 4,
        };
        let transport = if question.websocket { "websocket" } else { "polling" };
        let sid = question.sid.map(|sid| format!("&sid={sid}")).unwrap_or_default();
        let base64 = if question.base64 { "&b64=1" } else { "" };
        let path = self.path.trim_end_matches('/');
        let address = format!("{path}/?EIO={version}&transport={transport}{sid}{base64}");
        address.parse().expect("a path and a session id make a valid address")
    }
}

impl<S, B> IoService<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    /// Ends a session that polls the way its client would: by a close packet of Engine.IO.
    fn end_session(&self, sid: Sid) {
        // Where nothing runs any more, nothing needs an end; and what is said in one piece is heard in one.
        if Handle::try_current().is_ok() {
            let _ = self.say(sid, CLOSE).now_or_never();
        }
    }

    /// Sends something to the engine in the place of a client that polls.
    fn say(&self, sid: Sid, packet: &'static [u8]) -> Answering<S> {
        self.engine.call(self.of_client(sid, Method::POST, packet))
    }

    fn of_client(&self, sid: Sid, method: Method, packet: &'static [u8]) -> Request<RequestBody> {
        let mut request = Request::new(Either::Right(Full::from(packet)));
        *request.method_mut() = method;
        *request.uri_mut() = self.address(&Question {
            sid: Some(sid),
            version: Version::V4,
            websocket: false,
            base64: false,
        });
        request
    }

    /// Waits while the session that such a request is of is paused.
    pub(super) async fn hold_back(&self, uri: &Uri) {
        if let Some(sid) = self.question(uri).and_then(|question| question.sid) {
            self.hold(sid).await;
        }
    }

    /// The most bytes that a request may bring.
    pub(super) fn most(&self) -> usize {
        self.terms.max_payload
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
            let _ = timeout(self.terms.signs_of_life, resumed).await;
        }
    }

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
        if delay.is_zero() {
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
                if let Some(connection) = request.extensions().get::<Arc<Connection>>() {
                    self.sessions.moved(sid, connection.clone(), false);
                }
                let answer = to_ours(self.engine.call(request));
                let service = self.clone();
                let unanswered = Unanswered(Some(move || service.end_session(sid)));
                Box::pin(answer.inspect(move |_| unanswered.answered()))
            }
            (None, &Method::GET) if !question.websocket => {
                self.strip(&mut request, &question, place);
                let opened = to_ours(self.engine.call(request));
                match question.version {
                    Version::V3 => Box::pin(opened),
                    Version::V4 => Box::pin(self.clone().spare_first_ping(opened)),
                }
            }
            (_, &Method::GET) => {
                // A websocket by a server that is not ours: the engine shakes hands itself, and needs the key.
                let key = request.headers().get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
                let key = key.and_then(|key| HeaderValue::from_bytes(key).ok());
                self.strip(&mut request, &question, place);
                *request.uri_mut() = self.address(&question);
                if let Some(key) = key {
                    request.headers_mut().insert(SEC_WEBSOCKET_KEY, key);
                }
                Box::pin(to_ours(self.engine.call(request)))
            }
            _ => Box::pin(to_ours(self.engine.call(request))),
        }
    }

    /// Gives the engine what a client that polls sends, when it has come as a whole.
    async fn take_in(self, sid: Sid, request: Request<RequestBody>) -> Answered<Mistake<S>> {
        self.hold(sid).await;
        match whole_body(request, self.terms.max_payload).await {
            Ok(request) => to_ours(self.engine.call(request.map(|body| Either::Right(body.into())))).await,
            Err(status) => {
                let mut answer = answer(status);
                answer
                    .headers_mut()
                    .insert(CONNECTION, HeaderValue::from_static("close"));
                Ok(answer)
            }
        }
    }

    /// Takes the ping that the engine sends as soon as a session is open, before the client can, and answers it. What else
    /// is there by then goes with the answer that opens the session.
    async fn spare_first_ping(self, opened: impl Future<Output = Answered<Mistake<S>>>) -> Answered<Mistake<S>> {
        let (mut parts, body) = opened.await?.into_parts();
        let Ok(body) = body.collect().await else {
            return Ok(answer(StatusCode::INTERNAL_SERVER_ERROR));
        };
        let mut body = body.to_bytes();
        if let Some(sid) = sid_of(&body) {
            let unanswered = Unanswered(Some(|| self.end_session(sid)));
            let polled = to_ours(self.engine.call(self.of_client(sid, Method::GET, b""))).await;
            let packets = match polled {
                Ok(polled) if polled.status() == StatusCode::OK => polled.into_body().collect().await.ok(),
                _ => None,
            };
            let packets = packets.map(|packets| packets.to_bytes()).unwrap_or_default();
            let packets = String::from_utf8_lossy(&packets);
            if packets.split(SEPARATOR).any(|packet| packet == PING) {
                drop(self.say(sid, PONG).await);
            }
            let others = packets
                .split(SEPARATOR)
                .filter(|packet| !packet.is_empty() && *packet != PING);
            let mut all = String::from_utf8_lossy(&body).into_owned();
            others.for_each(|packet| all.extend([&SEPARATOR.to_string(), packet]));
            body = all.into();
            unanswered.answered();
        }
        parts.headers.insert(CONTENT_LENGTH, body.len().into());
        Ok(Response::from_parts(parts, whole(body)))
    }
}

impl<S, B> WebSockets for IoService<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    fn takes(&self, request: &Request<()>) -> bool {
        self.terms.websocket
            && self.question(request.uri()).is_some_and(|question| {
                question.websocket
                    && self.refusal(&question).is_none()
                    && self.entrance.would_take(request, question.sid.is_none())
            })
    }

    fn open(&self, mut stream: Stream, mut request: Request<()>) {
        let Some(question) = self.question(request.uri()) else {
            return;
        };
        // There was room for it, and the last of it may have been taken meanwhile: then this ends here.
        let Ok(place) = question
            .sid
            .map_or_else(|| self.entrance.take_place(&request), |_| Ok(None))
        else {
            counts::ADDRESSES_REFUSED.one();
            return;
        };
        let [v3, v4, upgraded] = &*self.heartbeats;
        stream.becomes_websocket(match (question.sid, question.version) {
            (Some(_), _) => upgraded.clone(),
            (None, Version::V3) => v3.clone(),
            (None, Version::V4) => v4.clone(),
        });
        if let Some(sid) = question.sid {
            self.sessions.moved(sid, stream.connection().clone(), true);
            // A session whose upgrade failed would be half on its way for ever. Of one that is a websocket the engine knows
            // the end, and takes no packet but from there.
            let service = self.clone();
            stream.when_let_go(move || service.end_session(sid));
        }
        self.strip(&mut request, &question, place);
        let engine = self.engine.clone();
        let hand_over = move || {
            if let Err(error) = engine.call((stream, request)).into_inner() {
                debug!(%error, "a websocket was not taken by the engine");
            }
        };
        let delay = self.entrance.delay;
        if question.sid.is_some() || delay.is_zero() {
            return hand_over();
        }
        tokio::spawn(async move {
            sleep(delay).await;
            hand_over();
        });
    }
}

type Answered<E> = Result<Response<AnswerBody>, E>;
type Engine<S> = EngineIoService<Protocol, S>;
type Answering<S> = <Engine<S> as Service<Request<RequestBody>>>::Future;
pub(super) type Mistake<S> = <Engine<S> as Service<Request<RequestBody>>>::Error;

impl<S, B> Service<Request<Incoming>> for IoService<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    type Response = Response<AnswerBody>;
    type Error = Mistake<S>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.answer(request.map(Either::Left))
    }
}

/// A request that is not answered yet, and what is done when its client goes away meanwhile.
struct Unanswered<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Unanswered<F> {
    fn answered(mut self) {
        self.0 = None;
    }
}

impl<F: FnOnce()> Drop for Unanswered<F> {
    fn drop(&mut self) {
        if let Some(gone) = self.0.take() {
            gone();
        }
    }
}

/// An answer of the engine as one of ours.
async fn to_ours<B, E>(answer: impl Future<Output = Result<Response<B>, E>>) -> Answered<E>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    Ok(answer.await?.map(|body| body.map_err(Into::into).boxed_unsync()))
}

fn answer(status: StatusCode) -> Response<AnswerBody> {
    let mut answer = Response::new(whole(Bytes::new()));
    *answer.status_mut() = status;
    answer
}

/// The answer that says what is wrong.
fn told(status: StatusCode, wrong: &impl Display) -> Response<AnswerBody> {
    let mut answer = Response::new(whole(format!("{wrong}\n").into()));
    *answer.status_mut() = status;
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, text);
    answer
}

fn too_many_answer(too_many: TooMany) -> Response<AnswerBody> {
    debug!("a session is refused: {too_many}");
    counts::ADDRESSES_REFUSED.one();
    let mut answer = told(StatusCode::TOO_MANY_REQUESTS, &too_many);
    if let TooMany::Connects(wait) = too_many {
        answer.headers_mut().insert(RETRY_AFTER, (wait.as_secs() + 1).into());
    }
    answer
}

/// Says what is wrong with a request, in the words of Engine.IO.
fn mistaken(json: &'static str) -> Response<AnswerBody> {
    let mut answer = Response::new(whole(Bytes::from_static(json.as_bytes())));
    *answer.status_mut() = StatusCode::BAD_REQUEST;
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(CONTENT_TYPE, json);
    answer
}

fn whole(body: Bytes) -> AnswerBody {
    Full::from(body).map_err(|never| match never {}).boxed_unsync()
}

/// The session that an open packet of Engine.IO tells of.
fn sid_of(packet: &[u8]) -> Option<Sid> {
    #[derive(Deserialize)]
    struct Open<'a> {
        sid: &'a str,
    }
    let open: Open<'_> = serde_json::from_slice(packet.strip_prefix(b"0")?).ok()?;
    open.sid.parse().ok()
}
