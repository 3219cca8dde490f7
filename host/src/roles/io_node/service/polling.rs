//! Sessions that poll: each request either waits for packets, or brings some.
//!
//! What a client of a paused session sends waits, unread, until the pause is over. That may not cost it its heartbeat, for
//! its answers to pings wait, too: so they are given in its place.
//!
//! Where the engine does not do as Engine.IO says, it is mended here. It pings a client as soon as it is there instead of
//! after an interval, so that first ping is answered in the client's place. It does not notice when a client's poll goes
//! away unanswered, or when two of its messages come at the same time, so such a session is closed.

use std::sync::Arc;

use engineioxide::sid::Sid;
use futures_util::FutureExt;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Either, Full};
use hyper::service::Service;
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::answer::{AnswerBody, Answered, answer, bad_request, nothing, to_ours, whole};
use super::question::{Question, Version};
use super::{Answering, Inner, IoService, Mistake, RequestBody, SEPARATOR};
use crate::http::{Connection, whole_body};

/// Packets of Engine.IO.
const CLOSE: &[u8] = b"1";
const PING: &str = "2";
const PONG: &[u8] = b"3";

impl<S: Inner> IoService<S> {
    /// Ends a session that polls the way its client would: by a close packet of Engine.IO.
    pub(super) fn end_session(&self, sid: Sid) {
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
        let question = Question {
            sid: Some(sid),
            version: Version::V4,
            websocket: false,
            base64: false,
        };
        *request.uri_mut() = question.address(&self.path);
        request
    }

    /// Waits while the session that such a request is of is paused.
    pub(in super::super) async fn hold_back(&self, uri: &Uri) {
        if let Some(sid) = self.question(uri).and_then(|question| question.sid) {
            self.hold(sid).await;
        }
    }

    /// Waits while a session is paused, and answers pings in its client's place.
    async fn hold(&self, sid: Sid) {
        while let Some(session) = self.protocol.sessions.find(sid) {
            // Made before the look, so that no news is missed between the look and the wait.
            let resumed = session.resumed();
            let resumed = resumed.notified();
            if !session.is_paused() || session.is_over() {
                return;
            }
            drop(session);
            drop(self.say(sid, PONG).await);
            let _ = timeout(self.terms.signs_of_life, resumed).await;
        }
    }

    /// Waits for packets in the place of a client. Of a session that is to move to a websocket, a poll ends without.
    pub(super) async fn poll(self, sid: Sid, version: Version, request: Request<RequestBody>) -> Answered<Mistake<S>> {
        let unanswered = Unanswered(Some(|| self.end_session(sid)));
        // Noted before the look: of a session that has moved, the engine is asked for nothing.
        let mut waiting = self.exchanges.begin_poll(sid);
        let connection = request.extensions().get::<Arc<Connection>>();
        if let (Some(session), Some(connection)) = (self.protocol.sessions.find(sid), connection)
            && !session.polls_on(connection.clone())
        {
            unanswered.answered();
            return Ok(bad_request());
        }
        // The engine takes packets only when it has an answer, so one that it is not asked for any more loses none.
        let answer = tokio::select! {
            biased;
            answer = to_ours(self.engine.call(request)) => answer,
            () = waiting.released() => Ok(nothing(version)),
        };
        unanswered.answered();
        answer
    }

    /// Gives the engine what a client that polls sends, when it has come as a whole. A second message at the same time
    /// ends the session.
    pub(super) async fn take_in(self, sid: Sid, request: Request<RequestBody>) -> Answered<Mistake<S>> {
        let Some(_taking_in) = self.exchanges.begin_taking_in(sid) else {
            self.end_session(sid);
            return Ok(last(StatusCode::BAD_REQUEST));
        };
        self.hold(sid).await;
        match whole_body(request, self.most()).await {
            Ok(request) => to_ours(self.engine.call(request.map(|body| Either::Right(body.into())))).await,
            Err(status) => Ok(last(status)),
        }
    }

    /// Takes the ping that the engine sends as soon as a session is open, before the client can, and answers it. What else
    /// is there by then goes with the answer that opens the session.
    pub(super) async fn spare_first_ping(
        self,
        opened: impl Future<Output = Answered<Mistake<S>>>,
    ) -> Answered<Mistake<S>> {
        let (mut parts, body) = opened.await?.into_parts();
        let Ok(body) = body.collect().await else {
            return Ok(answer(StatusCode::INTERNAL_SERVER_ERROR));
        };
        let mut body = body.to_bytes();
        if let Some(sid) = sid_of(&body) {
            let unanswered = Unanswered(Some(|| self.end_session(sid)));
            let packets = self.poll_engine(sid).await.unwrap_or_default();
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

    /// Takes the next packets from the engine, written as they are in version 4. None when the session is over.
    pub(super) async fn poll_engine(&self, sid: Sid) -> Option<String> {
        let polled = self.engine.call(self.of_client(sid, Method::GET, b"")).await.ok()?;
        if polled.status() != StatusCode::OK {
            return None;
        }
        let packets = polled.into_body().collect().await.ok()?.to_bytes();
        (!packets.is_empty()).then(|| String::from_utf8_lossy(&packets).into_owned())
    }
}

/// An answer after which the connection is closed, because not all was read of what came on it.
fn last(status: StatusCode) -> Response<AnswerBody> {
    let mut answer = answer(status);
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    answer
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

/// The session that an open packet of Engine.IO tells of.
fn sid_of(packet: &[u8]) -> Option<Sid> {
    #[derive(Deserialize)]
    struct Open<'a> {
        sid: &'a str,
    }
    let open: Open<'_> = serde_json::from_slice(packet.strip_prefix(b"0")?).ok()?;
    open.sid.parse().ok()
}
