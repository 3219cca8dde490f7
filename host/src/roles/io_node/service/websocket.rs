//! Sessions by websocket: those that begin as one, and those that move to one.
//!
//! A session that is to move polls on as if nothing had been until its client says that it is ready ([`probe`]). Only then
//! does the engine lose it: what that has not sent yet goes first by the websocket. Of several websockets the first whose
//! client is ready is taken.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use engineioxide::Socket;
use engineioxide::sid::Sid;
use futures_util::FutureExt;
use http::{Request, Response};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tracing::debug;

use super::super::codec::Revision;
use super::super::encoded::add_binary;
use super::super::line;
use super::super::opening::Opening;
use super::super::session::{Seat, Session};
use super::super::websocket::{Talk, WebSocket, frame};
use super::answer::{AnswerBody, ours};
use super::probe::{self, GivenUp};
use super::question::Version;
use super::{Inner, IoService, RequestBody, SEPARATOR};
use crate::counts;
use crate::http::{Stream, WebSockets, shake};

/// How long the end of a websocket may take that is not taken.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a poll may wait while its session is about to move.
const PATIENCE: Duration = Duration::from_millis(100);

/// The packet of Engine.IO that says nothing.
const NOOP: &str = "6";

impl<S: Inner> WebSockets for IoService<S> {
    fn takes(&self, request: &Request<()>) -> bool {
        self.terms.websocket
            && self.question(request.uri()).is_some_and(|question| {
                question.websocket
                    && self.refusal(&question).is_none()
                    && self.entrance.would_take(request, question.sid.is_none())
            })
    }

    fn open(&self, stream: Stream, request: Request<()>) {
        let Some(question) = self.question(request.uri()) else {
            return;
        };
        let websocket = WebSocket::new(stream, self.most());
        match question.sid {
            Some(sid) => {
                let moving = self.clone().upgrade(sid, websocket);
                self.shutdown.spawn(moving);
            }
            None => self.begin(question.version, websocket, request),
        }
    }
}

impl<S: Inner> IoService<S> {
    /// Takes a websocket from a server that is not ours.
    pub(super) fn take_over(&self, request: Request<RequestBody>) -> Response<AnswerBody> {
        let (parts, _) = request.into_parts();
        let mut request = Request::from_parts(parts, ());
        let (answer, upgraded) = shake(&mut request);
        if let Some(upgraded) = upgraded {
            let service = self.clone();
            self.shutdown.spawn(async move {
                match upgraded.await {
                    Ok(upgraded) => service.open(Stream::foreign(upgraded), request),
                    Err(error) => debug!(%error, "the server does not give its connection for a websocket"),
                }
            });
        }
        answer.map(ours)
    }

    /// Begins a session as a websocket.
    fn begin(&self, version: Version, mut websocket: WebSocket, request: Request<()>) {
        // There was room for it, and the last of it may have been taken meanwhile: then this ends here.
        let Ok(place) = self.entrance.take_place(&request) else {
            counts::ADDRESSES_REFUSED.one();
            return;
        };
        let opening = Opening::of(&request, place);
        let revision = match version {
            Version::V3 => Revision::V4,
            Version::V4 => Revision::V5,
        };
        let (delay, terms) = (self.entrance.delay, self.terms.talk);
        let protocol = self.protocol.clone();
        // The end of the process ends the session, and does not wait for this.
        tokio::spawn(async move {
            if !delay.is_zero() {
                sleep(delay).await;
            }
            let session = protocol
                .sessions
                .begin_websocket(revision, opening, websocket.connection().clone());
            websocket.push(terms.open(session.id));
            protocol.begin(&session);
            Talk::new(session, websocket, protocol, &terms).run().await;
        });
    }

    /// Moves a session to a websocket when its client is ready. Until then it costs the session nothing when this fails.
    async fn upgrade(self, sid: Sid, mut websocket: WebSocket) {
        let probing = timeout(self.terms.upgrade_timeout, self.probe(sid, &mut websocket)).await;
        match probing {
            Ok(Ok(())) => {
                if let Some(session) = self.protocol.sessions.find(sid)
                    && let Some(socket) = session.move_to(websocket.connection().clone())
                {
                    return self.go_over(session, &socket, websocket).await;
                }
                debug!(%sid, "a websocket is closed: {}", GivenUp::Over);
            }
            Ok(Err(given_up)) => debug!(%sid, "a websocket is closed, its session stays as it is: {given_up}"),
            Err(_) => {
                debug!(%sid, "a websocket is closed, its session stays as it is: the client did not move in time")
            }
        }
        let _ = timeout(CLOSE_TIMEOUT, websocket.close()).await;
    }

    /// Waits until the client is ready to move. From its first word on, the session's polls do not wait for long, so that
    /// it can be.
    async fn probe(&self, sid: Sid, websocket: &mut WebSocket) -> Result<(), GivenUp> {
        let is_answered = AtomicBool::new(false);
        let answered = || {
            is_answered.store(true, Ordering::Relaxed);
            self.exchanges.release(sid);
        };
        let releasing = async {
            let mut times = interval(PATIENCE);
            times.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let polls = |sid| {
                self.protocol
                    .sessions
                    .find(sid)
                    .filter(|session| !session.is_over() && !session.is_websocket())
            };
            while polls(sid).is_some() {
                if is_answered.load(Ordering::Relaxed) {
                    self.exchanges.release(sid);
                }
                times.tick().await;
            }
        };
        tokio::select! {
            ended = probe::talk(websocket, answered) => ended,
            () = releasing => Err(GivenUp::Over),
        }
    }

    /// Takes a session that has moved from the engine, and holds it to its end.
    async fn go_over(self, session: Arc<Session>, socket: &Socket<Seat>, mut websocket: WebSocket) {
        let brought = timeout(self.terms.upgrade_timeout, self.left_behind(&session)).await;
        line::close(socket);
        match brought {
            Ok(Ok(frames)) => websocket.push_all(frames),
            // There would be a gap.
            _ => {
                debug!(session = %session.id, "a session ends: what it was sent before it moved cannot be brought");
                session.hang_up();
            }
        }
        Talk::new(session, websocket, self.protocol, &self.terms.talk)
            .run()
            .await;
    }

    /// What waits for a poll, as frames.
    async fn left_behind(&self, session: &Session) -> io::Result<Vec<Bytes>> {
        self.exchanges.end_polls(session.id).await;
        let mut frames = Vec::new();
        while let Some(packets) = self.poll_engine(session.id).now_or_never().flatten() {
            for packet in packets.split(SEPARATOR).filter(|packet| *packet != NOOP) {
                add_frame(&mut frames, packet, session.revision)?;
            }
        }
        Ok(frames)
    }
}

/// Adds a packet, written as it is for polls of Engine.IO 4, as it is by websocket.
fn add_frame(frames: &mut Vec<Bytes>, packet: &str, revision: Revision) -> io::Result<()> {
    let Some(binary) = packet.strip_prefix('b') else {
        frames.push(frame::text(packet));
        return Ok(());
    };
    let base64 = match revision {
        Revision::V4 => binary.strip_prefix('4').unwrap_or(binary),
        Revision::V5 => binary,
    };
    let data = STANDARD.decode(base64).map_err(io::Error::other)?;
    add_binary(frames, data.into(), revision);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waited_for_a_poll_is_the_same_by_websocket() {
        let frames = |packet: &str, revision| {
            let mut frames = Vec::new();
            add_frame(&mut frames, packet, revision).unwrap();
            frames.concat()
        };
        assert_eq!(frames("42[\"ü\"]", Revision::V5), b"\x81\x0842[\"\xc3\xbc\"]");
        assert_eq!(frames("bAQID", Revision::V5), b"\x82\x03\x01\x02\x03");
        assert_eq!(frames("b4AQID", Revision::V4), b"\x82\x04\x04\x01\x02\x03");
        let mut frames = Vec::new();
        assert!(add_frame(&mut frames, "b*", Revision::V5).is_err());
    }
}
