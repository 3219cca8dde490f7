//! Sessions by websocket: those that begin as one, and those that move to one.
//!
//! A session that is to move polls on as if nothing had been until its client says that it is ready ([`probe`]). Only then is
//! the websocket given to the engine, which is told the whole talk as if it had just been; what it says itself of it is
//! spared the client. Of several websockets the first whose client is ready is taken.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use engineioxide::sid::Sid;
use futures_util::FutureExt;
use http::Request;
use hyper::service::Service;
use tokio::io::AsyncWriteExt;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tracing::debug;

use super::super::codec::Revision;
use super::probe::{self, GivenUp};
use super::question::{Question, Version};
use super::{Inner, IoService, SEPARATOR};
use crate::counts;
use crate::http::{Heartbeat, Spared, Stream, WebSockets};

/// What heartbeats are as frames, from the server and from a client.
const PING_FRAME: &[u8] = b"\x81\x012";
const PONG_FRAME: &[u8] = b"\x81\x81\0\0\0\x003";
/// The end of a websocket that is not taken.
const CLOSE_FRAME: &[u8] = b"\x88\0";
/// How long that may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// A client's messages before the engine takes a session as moved.
const UPGRADE_MESSAGES: u32 = 2;
/// How long a poll may wait while its session is about to move.
const PATIENCE: Duration = Duration::from_millis(100);

/// Kinds of frames, each a whole message.
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
/// The packet of Engine.IO that says nothing.
const NOOP: &str = "6";
/// What binary data begins with in version 3 of Engine.IO.
const MESSAGE_V3: u8 = 4;

/// The heartbeats of websockets.
pub(super) struct Heartbeats {
    v3: Arc<Heartbeat>,
    v4: Arc<Heartbeat>,
    moved: Arc<Heartbeat>,
}

impl Heartbeats {
    /// With so much time between two signs of life of a client that is paused.
    pub(super) fn new(every: Duration) -> Self {
        let heartbeat = |first, spared| {
            Arc::new(Heartbeat {
                sign_of_life: PONG_FRAME,
                every,
                first,
                spared,
            })
        };
        let ping = Spared {
            frame: PING_FRAME,
            is_answered: true,
        };
        let told = Spared {
            frame: probe::TOLD,
            is_answered: false,
        };
        Self {
            // In version 3 it is the client that pings.
            v3: heartbeat(0, None),
            v4: heartbeat(0, Some(ping)),
            moved: heartbeat(UPGRADE_MESSAGES, Some(told)),
        }
    }
}

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
        match question.sid {
            Some(sid) => {
                let moving = self.clone().upgrade(sid, question, stream, request);
                self.shutdown.spawn(moving);
            }
            None => self.begin(question, stream, request),
        }
    }
}

impl<S: Inner> IoService<S> {
    /// Begins a session as a websocket.
    fn begin(&self, question: Question, mut stream: Stream, mut request: Request<()>) {
        // There was room for it, and the last of it may have been taken meanwhile: then this ends here.
        let Ok(place) = self.entrance.take_place(&request) else {
            counts::ADDRESSES_REFUSED.one();
            return;
        };
        stream.becomes_websocket(match question.version {
            Version::V3 => self.heartbeats.v3.clone(),
            Version::V4 => self.heartbeats.v4.clone(),
        });
        self.strip(&mut request, &question, place);
        let delay = self.entrance.delay;
        if delay.is_zero() {
            return self.hand_over(stream, request);
        }
        let service = self.clone();
        self.shutdown.spawn(async move {
            sleep(delay).await;
            service.hand_over(stream, request);
        });
    }

    fn hand_over(&self, stream: Stream, request: Request<()>) {
        if let Err(error) = self.engine.call((stream, request)).into_inner() {
            debug!(%error, "a websocket was not taken by the engine");
        }
    }

    /// Moves a session to a websocket when its client is ready. Until then it costs the session nothing when this fails.
    async fn upgrade(self, sid: Sid, question: Question, mut stream: Stream, request: Request<()>) {
        let probing = timeout(self.terms.upgrade_timeout, self.probe(sid, &mut stream)).await;
        match probing {
            Ok(Ok(())) => {
                let moved = self.sessions.find(sid).and_then(|session| {
                    let has_moved = session.moved(stream.connection().clone(), true);
                    has_moved.then_some(session.revision)
                });
                if let Some(revision) = moved {
                    return self.go_over(sid, revision, question, stream, request).await;
                }
                debug!(%sid, "a websocket is closed: {}", GivenUp::Over);
            }
            Ok(Err(given_up)) => debug!(%sid, "a websocket is closed, its session stays as it is: {given_up}"),
            Err(_) => {
                debug!(%sid, "a websocket is closed, its session stays as it is: the client did not move in time")
            }
        }
        let closing = async {
            stream.write_all(CLOSE_FRAME).await?;
            stream.shutdown().await
        };
        let _ = timeout(CLOSE_TIMEOUT, closing).await;
    }

    /// Waits until the client is ready to move. From its first word on, the session's polls do not wait for long, so that
    /// it can be.
    async fn probe(&self, sid: Sid, stream: &mut Stream) -> Result<(), GivenUp> {
        let is_answered = AtomicBool::new(false);
        let answered = || {
            is_answered.store(true, Ordering::Relaxed);
            self.exchanges.release(sid);
        };
        let releasing = async {
            let mut times = interval(PATIENCE);
            times.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let polls = |sid| {
                self.sessions
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
            ended = probe::talk(stream, answered) => ended,
            () = releasing => Err(GivenUp::Over),
        }
    }

    /// Gives the engine the websocket that a session has moved to. Who fails from here on ends the session.
    async fn go_over(
        &self,
        sid: Sid,
        revision: Revision,
        question: Question,
        mut stream: Stream,
        mut request: Request<()>,
    ) {
        // The engine would be half on its way for ever. Of a websocket that it has taken it knows the end, and takes no
        // packet but from there.
        let service = self.clone();
        stream.when_let_go(move || service.end_session(sid));
        let bringing = timeout(
            self.terms.upgrade_timeout,
            self.bring_left_behind(sid, revision, &mut stream),
        );
        if !matches!(bringing.await, Ok(Ok(()))) {
            debug!(%sid, "a session ends: it has moved to a websocket that does not take what it is sent");
            return;
        }
        stream.becomes_websocket(self.heartbeats.moved.clone());
        stream.put_back(Bytes::from_static(probe::SAID));
        self.strip(&mut request, &question, None);
        self.hand_over(stream, request);
    }

    /// Brings what waits for a poll. The engine brings only what it has not yet looked at by the websocket, and loses the
    /// packet that did not fit into the answer to the last poll.
    async fn bring_left_behind(&self, sid: Sid, revision: Revision, stream: &mut Stream) -> io::Result<()> {
        self.exchanges.end_polls(sid).await;
        while let Some(packets) = self.poll_engine(sid).now_or_never().flatten() {
            let mut frames = Vec::with_capacity(packets.len() + packets.len() / 8);
            for packet in packets.split(SEPARATOR).filter(|packet| *packet != NOOP) {
                add_frame(&mut frames, packet, revision)?;
            }
            stream.write_all(&frames).await?;
        }
        stream.flush().await
    }
}

/// Adds a packet, written as it is for polls of Engine.IO 4, as it is by websocket.
fn add_frame(frames: &mut Vec<u8>, packet: &str, revision: Revision) -> io::Result<()> {
    let Some(binary) = packet.strip_prefix('b') else {
        add_message(frames, TEXT, packet.as_bytes());
        return Ok(());
    };
    let decode = |base64| STANDARD.decode(base64).map_err(io::Error::other);
    match revision {
        Revision::V4 => {
            let mut content = vec![MESSAGE_V3];
            content.extend(decode(binary.strip_prefix('4').unwrap_or(binary))?);
            add_message(frames, BINARY, &content);
        }
        Revision::V5 => add_message(frames, BINARY, &decode(binary)?),
    }
    Ok(())
}

fn add_message(frames: &mut Vec<u8>, kind: u8, content: &[u8]) {
    frames.push(kind);
    match (u8::try_from(content.len()), u16::try_from(content.len())) {
        (Ok(length), _) if length < 126 => frames.push(length),
        (_, Ok(length)) => {
            frames.push(126);
            frames.extend(length.to_be_bytes());
        }
        _ => {
            frames.push(127);
            frames.extend((content.len() as u64).to_be_bytes());
        }
    }
    frames.extend(content);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waited_for_a_poll_is_the_same_by_websocket() {
        let frames = |packet: &str, revision| {
            let mut frames = Vec::new();
            add_frame(&mut frames, packet, revision).unwrap();
            frames
        };
        assert_eq!(frames("42[\"ü\"]", Revision::V5), b"\x81\x0842[\"\xc3\xbc\"]");
        assert_eq!(frames("bAQID", Revision::V5), b"\x82\x03\x01\x02\x03");
        assert_eq!(frames("b4AQID", Revision::V4), b"\x82\x04\x04\x01\x02\x03");
        assert_eq!(frames(&"4".repeat(126), Revision::V5)[..4], *b"\x81\x7e\0\x7e");
        assert_eq!(
            frames(&"4".repeat(65_536), Revision::V5)[..10],
            *b"\x81\x7f\0\0\0\0\0\x01\0\0"
        );
        let mut frames = Vec::new();
        assert!(add_frame(&mut frames, "b*", Revision::V5).is_err());
    }
}
