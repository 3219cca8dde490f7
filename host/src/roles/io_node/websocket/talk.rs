//! Engine.IO over a websocket: holds a session from its first packet to its end.
//! <https://socket.io/docs/v4/engine-io-protocol/>

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use engineioxide::Str;
use engineioxide::socket::Sid;
use tokio::time::timeout;
use tracing::debug;

use super::super::codec::Revision;
use super::super::encoded::MESSAGE_V3;
use super::super::protocol::Protocol;
use super::super::session::Session;
use super::heartbeat::{Beat, Heartbeat};
use super::{Said, WebSocket, frame};
use crate::counts;
use crate::message::DisconnectReason;

/// Packets of Engine.IO.
const CLOSE: &str = "1";
const PING: &str = "2";
const PONG: &str = "3";
const MESSAGE: &str = "4";

/// How long the client may take to read the last that it is sent.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What a session is told that opens as a websocket.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Terms {
    pub(in super::super) ping_interval: Duration,
    pub(in super::super) ping_timeout: Duration,
    pub(in super::super) max_payload: usize,
}

/// A session and its websocket.
pub(in super::super) struct Talk {
    session: Arc<Session>,
    websocket: WebSocket,
    protocol: Arc<Protocol>,
    heartbeat: Heartbeat,
}

/// Why a talk ends.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the client said goodbye")]
    Goodbye,
    #[error("what it sent is no packet of Engine.IO")]
    Malformed,
    #[error("it answers no ping any more")]
    Lost,
    #[error(transparent)]
    Broken(tungstenite::Error),
}

impl Terms {
    /// The packet that opens a session.
    pub(in super::super) fn open(&self, session: Sid) -> Bytes {
        frame::text(&format!(
            r#"0{{"sid":"{session}","upgrades":[],"pingInterval":{},"pingTimeout":{},"maxPayload":{}}}"#,
            self.ping_interval.as_millis(),
            self.ping_timeout.as_millis(),
            self.max_payload
        ))
    }
}

impl Talk {
    /// One that is about to begin.
    pub(in super::super) fn new(
        session: Arc<Session>,
        websocket: WebSocket,
        protocol: Arc<Protocol>,
        terms: &Terms,
    ) -> Self {
        let heartbeat = Heartbeat::new(session.revision, terms.ping_interval, terms.ping_timeout);
        Self {
            session,
            websocket,
            protocol,
            heartbeat,
        }
    }

    /// Holds the session to its end.
    pub(in super::super) async fn run(mut self) {
        let end = poll_fn(|cx| self.poll(cx)).await;
        debug!(session = %self.session.id, "disconnected: {end}");
        let is_worth_words = matches!(end, End::Goodbye | End::Malformed);
        if matches!(end, End::Malformed) {
            counts::PACKETS_MALFORMED.one();
        }
        self.websocket.push_all(self.session.unsent_until(Waker::noop()));
        self.protocol.end(&self.session, end.reason());
        if is_worth_words {
            let _ = timeout(LAST_WORDS, self.websocket.close()).await;
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        // From here on, whoever sends something to the session has this called again.
        self.websocket.push_all(self.session.unsent_until(cx.waker()));
        if let Poll::Ready(Err(error)) = self.websocket.poll_write(cx) {
            return Poll::Ready(End::Broken(error.into()));
        }
        while let Poll::Ready(said) = self.websocket.poll_said(cx) {
            let heard = said.map_err(End::Broken).and_then(|said| self.hear(said));
            if let Err(end) = heard {
                return Poll::Ready(end);
            }
        }
        if let Poll::Ready(beat) = self.heartbeat.poll(cx, self.websocket.connection().is_paused()) {
            match beat {
                Beat::Sign => self.say(match self.session.revision {
                    Revision::V5 => PING,
                    Revision::V4 => PONG,
                }),
                Beat::Lost => return Poll::Ready(End::Lost),
            }
            // The next is not to be missed.
            cx.waker().wake_by_ref();
        }
        match self.websocket.poll_write(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(End::Broken(error.into())),
            _ => Poll::Pending,
        }
    }

    fn hear(&mut self, said: Said) -> Result<(), End> {
        self.heartbeat.heard();
        match said {
            Said::Goodbye => return Err(End::Goodbye),
            Said::Binary(mut data) => {
                if self.session.revision == Revision::V4 && !data.is_empty() {
                    data = data.slice(MESSAGE_V3.len()..);
                }
                self.protocol.hear_binary(&self.session, data);
            }
            Said::Text(text) => match (text.as_str(), self.session.revision) {
                (CLOSE, _) => return Err(End::Goodbye),
                (PONG, Revision::V5) => self.heartbeat.answered(),
                (PING, Revision::V4) => self.say(PONG),
                (text, _) => {
                    let message = text.strip_prefix(MESSAGE).ok_or(End::Malformed)?;
                    self.protocol.hear_text(&self.session, Str::copy_from_slice(message));
                }
            },
        }
        Ok(())
    }

    fn say(&mut self, packet: &str) {
        self.websocket.push(frame::text(packet));
    }
}

impl End {
    fn reason(&self) -> DisconnectReason {
        match self {
            Self::Goodbye => DisconnectReason::TransportClose,
            Self::Malformed => DisconnectReason::ParseError,
            Self::Lost => DisconnectReason::PingTimeout,
            Self::Broken(_) => DisconnectReason::TransportError,
        }
    }
}
