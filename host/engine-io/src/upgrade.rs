//! The upgrade of a polling session to a websocket. The client sends `2probe` and gets `3probe`, waits for the end of its
//! poll, and sends `5`. Until then the session keeps polling, and loses nothing when the upgrade fails.
//!
//! Nothing is read here beyond the client's `5`: what follows belongs to the session.

use std::future::poll_fn;
use std::task::{Context, Poll};

use tokio::time::timeout;
use tracing::debug;

use crate::packet::Packet;
use crate::session::{Phase, Session, UpgradeState};
use crate::websocket::{WebSocket, WebSocketError, WebSocketEvent};

const PROBE: &str = "2probe";
const UPGRADE: &str = "5";

/// Frames that a client may send during an upgrade: more than any client needs.
const MAX_FRAMES: usize = 32;

/// Limit of websockets of one session that are being closed after a failed upgrade. At the limit, upgrades are refused.
const MAX_CLOSING: u8 = 4;

/// An upgrade in progress. Dropped before it is complete, it leaves the session polling and open to another upgrade.
#[derive(Debug)]
pub(crate) struct PendingUpgrade(Option<Session>);

#[derive(Debug, thiserror::Error)]
enum UpgradeError {
    #[error("{0}")]
    WebSocket(#[from] WebSocketError),
    #[error("the client closed the websocket")]
    Closed,
    #[error("unexpected frame from the client")]
    UnexpectedFrame,
    #[error("the session has ended")]
    SessionEnded,
    #[error("the client did not finish within upgrade-timeout")]
    TimedOut,
}

impl PendingUpgrade {
    /// Begins an upgrade. None when the session cannot be upgraded, or an upgrade is in progress.
    pub(crate) fn begin(session: Session) -> Option<Self> {
        session.begin_upgrade().then(|| Self(Some(session)))
    }

    /// Moves the session to the websocket when the client is ready, or closes the websocket.
    pub(crate) async fn run(mut self, mut websocket: Box<WebSocket>) {
        let Some(session) = self.0.take() else { return };
        let settings = session.0.settings.clone();
        let mut pending = Self(Some(session.clone()));
        let mut exchange = ProbeExchange {
            session: &session,
            websocket: &mut websocket,
            frames: 0,
            is_probed: false,
        };
        let exchanged = timeout(settings.upgrade_timeout, poll_fn(|cx| exchange.poll(cx))).await;
        let error = match exchanged.unwrap_or(Err(UpgradeError::TimedOut)) {
            Ok(()) => match session.complete_upgrade(websocket) {
                Ok(()) => {
                    pending.0 = None;
                    return;
                }
                Err(returned) => {
                    websocket = returned;
                    UpgradeError::SessionEnded
                }
            },
            Err(error) => error,
        };
        // Counted before another upgrade can begin, so that the number of closing websockets stays bounded.
        session.begin_closing_websocket();
        drop(pending);
        debug!(session = session.id(), %error, "upgrade failed");
        let _ = websocket.close(None, settings.close_timeout).await;
        session.end_closing_websocket();
    }
}

impl Drop for PendingUpgrade {
    fn drop(&mut self) {
        if let Some(session) = self.0.take() {
            session.abort_upgrade();
        }
    }
}

/// The exchange of probe and upgrade packets on the websocket.
struct ProbeExchange<'a> {
    session: &'a Session,
    websocket: &'a mut WebSocket,
    frames: usize,
    is_probed: bool,
}

impl ProbeExchange<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UpgradeError>> {
        loop {
            if self.session.poll_upgrade_aborted(cx).is_ready() {
                return Poll::Ready(Err(UpgradeError::SessionEnded));
            }
            if let Poll::Ready(Err(error)) = self.websocket.poll_write(cx) {
                return Poll::Ready(Err(WebSocketError::from(error).into()));
            }
            let event = match self.websocket.poll_read(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(event)) => event,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
            };
            self.frames += 1;
            match event {
                WebSocketEvent::Text(text) if text == PROBE => {
                    self.websocket.send(Packet::probe_reply(), self.session.version());
                    self.is_probed = true;
                    self.session.upgrade_probed();
                }
                WebSocketEvent::Text(text) if text == UPGRADE && self.is_probed => return Poll::Ready(Ok(())),
                WebSocketEvent::Ping(_) | WebSocketEvent::Pong if self.frames < MAX_FRAMES => {}
                WebSocketEvent::Close => return Poll::Ready(Err(UpgradeError::Closed)),
                _ => return Poll::Ready(Err(UpgradeError::UnexpectedFrame)),
            }
            if self.frames >= MAX_FRAMES {
                return Poll::Ready(Err(UpgradeError::UnexpectedFrame));
            }
        }
    }
}

impl Session {
    /// Reserves the session for an upgrade. False when it cannot be upgraded, or an upgrade is in progress.
    fn begin_upgrade(&self) -> bool {
        let mut state = self.0.state();
        if state.phase != Phase::Open || state.is_websocket {
            return false;
        }
        match &mut state.polling {
            Some(polling)
                if matches!(polling.upgrade, UpgradeState::None) && polling.closing_websockets < MAX_CLOSING =>
            {
                polling.upgrade = UpgradeState::Opening(None);
                true
            }
            _ => false,
        }
    }

    /// Ready when the session ends during the upgrade.
    fn poll_upgrade_aborted(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.0.state();
        if state.phase != Phase::Open {
            return Poll::Ready(());
        }
        match state.polling.as_mut().map(|polling| &mut polling.upgrade) {
            Some(UpgradeState::Opening(waker) | UpgradeState::Probed(waker)) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }

    /// The probe is answered: ends the pending poll, for which the client waits.
    fn upgrade_probed(&self) {
        if let Some(polling) = &mut self.0.state().polling {
            polling.upgrade = UpgradeState::Probed(None);
            polling.wake_poll();
        }
    }

    /// The upgrade failed: the session keeps polling.
    fn abort_upgrade(&self) {
        if let Some(polling) = &mut self.0.state().polling {
            polling.upgrade = UpgradeState::None;
        }
    }

    fn begin_closing_websocket(&self) {
        if let Some(polling) = &mut self.0.state().polling {
            polling.closing_websockets += 1;
        }
    }

    fn end_closing_websocket(&self) {
        if let Some(polling) = &mut self.0.state().polling {
            polling.closing_websockets = polling.closing_websockets.saturating_sub(1);
        }
    }

    /// Moves the session to a websocket. Returns the websocket if the session has ended.
    fn complete_upgrade(&self, websocket: Box<WebSocket>) -> Result<(), Box<WebSocket>> {
        let mut state = self.0.state();
        let state = &mut *state;
        if state.phase != Phase::Open {
            return Err(websocket);
        }
        let Some(polling) = &mut state.polling else {
            return Err(websocket);
        };
        polling.upgrade = UpgradeState::Ready(websocket);
        polling.wake_poll();
        polling.wake_next_post();
        state.is_websocket = true;
        state.task.wake();
        Ok(())
    }
}
