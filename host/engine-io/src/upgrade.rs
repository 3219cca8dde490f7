//! The talk by which a client moves its session to a websocket: it says `2probe` and is answered `3probe`, waits for the end
//! of its poll, and says `5`. Until then the session polls on, and loses nothing when this fails.
//!
//! Nothing is read here beyond the client's last word: what follows it is the session's.

use std::future::poll_fn;
use std::task::{Context, Poll};

use tokio::time::timeout;
use tracing::debug;

use crate::packet::Packet;
use crate::session::Session;
use crate::websocket::{Event, Failure, WebSocket};

const PROBE: &str = "2probe";
const UPGRADE: &str = "5";
/// Frames that a client may take: more than any needs.
const MAX_FRAMES: usize = 32;

/// An upgrade that a session waits for. Dropped before its end, it leaves the session as it is.
#[derive(Debug)]
pub(crate) struct Reserved(Option<Session>);

/// Why a session was not moved.
#[derive(Debug, thiserror::Error)]
enum GivenUp {
    #[error("{0}")]
    Failed(#[from] Failure),
    #[error("the client closed the websocket")]
    Closed,
    #[error("the client sent what is no part of an upgrade")]
    Nonsense,
    #[error("the session ended")]
    Over,
    #[error("the client did not finish in time")]
    TooSlow,
}

impl Reserved {
    /// None when the session cannot be upgraded, or is being so.
    pub(crate) fn of(session: Session) -> Option<Self> {
        session.begin_upgrade().then(|| Self(Some(session)))
    }

    /// Moves the session, when its client is ready.
    pub(crate) async fn run(mut self, mut websocket: Box<WebSocket>) {
        let Some(session) = self.0.take() else { return };
        let settings = session.0.settings.clone();
        let mut left = Self(Some(session.clone()));
        let mut talk = Talk {
            session: &session,
            websocket: &mut websocket,
            frames: 0,
            is_probed: false,
        };
        let talked = timeout(settings.upgrade_timeout, poll_fn(|cx| talk.poll(cx))).await;
        let given_up = match talked.unwrap_or(Err(GivenUp::TooSlow)) {
            Ok(()) => match session.upgrade(websocket) {
                Ok(()) => {
                    left.0 = None;
                    return;
                }
                Err(returned) => {
                    websocket = returned;
                    GivenUp::Over
                }
            },
            Err(given_up) => given_up,
        };
        // First: another may follow at once, but no number of them while those before are closed.
        session.begin_closing();
        drop(left);
        debug!(session = session.id(), "the session was not upgraded: {given_up}");
        let _ = websocket.close(None, settings.close_timeout).await;
        session.end_closing();
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(session) = self.0.take() {
            session.end_upgrade();
        }
    }
}

struct Talk<'a> {
    session: &'a Session,
    websocket: &'a mut WebSocket,
    frames: usize,
    is_probed: bool,
}

impl Talk<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), GivenUp>> {
        loop {
            if self.session.poll_upgrade_over(cx).is_ready() {
                return Poll::Ready(Err(GivenUp::Over));
            }
            if let Poll::Ready(Err(error)) = self.websocket.poll_write(cx) {
                return Poll::Ready(Err(Failure::from(error).into()));
            }
            let event = match self.websocket.poll_read(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(event)) => event,
                Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure.into())),
            };
            self.frames += 1;
            match event {
                Event::Text(text) if text == PROBE => {
                    self.websocket.send(Packet::probe_answer(), self.session.version());
                    self.is_probed = true;
                    self.session.was_probed();
                }
                Event::Text(text) if text == UPGRADE && self.is_probed => return Poll::Ready(Ok(())),
                Event::Ping(_) | Event::Pong if self.frames < MAX_FRAMES => {}
                Event::Close => return Poll::Ready(Err(GivenUp::Closed)),
                _ => return Poll::Ready(Err(GivenUp::Nonsense)),
            }
            if self.frames >= MAX_FRAMES {
                return Poll::Ready(Err(GivenUp::Nonsense));
            }
        }
    }
}
