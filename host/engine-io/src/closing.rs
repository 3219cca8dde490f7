//! The end of a session: tells the handler, then the client, within the close timeout.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use tokio::time::timeout;
use tracing::debug;

use crate::application::Handler;
use crate::close_reason::CloseReason;
use crate::handler_guard::HandlerGuard;
use crate::registry::Registration;
use crate::session::Session;
use crate::websocket::WebSocket;

/// How long a poll may arrive after a close packet that its client sent later: a POST can overtake it.
const OVERTAKEN_POLL: Duration = Duration::from_millis(100);

/// How many times the close timeout the whole close may take when the engine is shut down.
const SHUTDOWN_FACTOR: u32 = 3;

/// A session that is ending.
pub(crate) struct Closing<H: Handler> {
    pub(crate) session: Session,
    pub(crate) registration: Registration,
    pub(crate) handler: HandlerGuard<H>,
    pub(crate) websocket: Option<Box<WebSocket>>,
    /// The status code for the close frame.
    pub(crate) code: Option<u16>,
}

impl<H: Handler> Closing<H> {
    pub(crate) async fn run(self, reason: CloseReason) {
        self.session.0.state().ended(reason);
        let close_timeout = self.session.0.settings.close_timeout;
        let Some(websocket) = self.websocket else {
            // After these ends, polls still find the session. A client that closed it has sent its last poll before.
            let (registration, poll_timeout) = match reason {
                CloseReason::Server => (Some(self.registration), close_timeout),
                CloseReason::Client => (Some(self.registration), OVERTAKEN_POLL),
                _ => (None, close_timeout),
            };
            self.handler.close(reason);
            deliver_end(&self.session, poll_timeout).await;
            drop(registration);
            return;
        };
        drop(self.registration);
        self.handler.close(reason);
        if reason.sends_close_frame() {
            close_websocket(&self.session, websocket, reason, self.code).await;
        }
    }
}

async fn close_websocket(session: &Session, mut websocket: Box<WebSocket>, reason: CloseReason, code: Option<u16>) {
    if reason.flushes_queue() {
        let packets = session.0.state().take_outgoing();
        for packet in packets {
            websocket.send(packet, session.version());
        }
    }
    let close_timeout = session.0.settings.close_timeout;
    let closing = websocket.close(code, close_timeout);
    let closed = match reason {
        // A client that takes a byte now and then must not delay the shutdown.
        CloseReason::Shutdown => timeout(close_timeout * SHUTDOWN_FACTOR, closing)
            .await
            .map_err(Into::into),
        _ => Ok(closing.await),
    };
    if let Err(error) = closed.flatten() {
        debug!(session = session.id(), %error, "websocket closed by one side only");
    }
}

/// Waits until polls have taken the remaining packets and the close. Each step of that may take the timeout.
async fn deliver_end(session: &Session, step_timeout: Duration) {
    loop {
        let delivered = poll_fn(|cx| {
            let mut state = session.0.state();
            if state.is_end_delivered() {
                return Poll::Ready(true);
            }
            let has_changed = !state.task.try_sleep();
            state.task.begin_pass(cx.waker());
            let _ = state.task.try_sleep();
            if has_changed { Poll::Ready(false) } else { Poll::Pending }
        });
        match timeout(step_timeout, delivered).await {
            Ok(false) => {}
            Ok(true) | Err(_) => return,
        }
    }
}
