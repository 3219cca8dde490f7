//! The response to a poll on its way to the client, and the hold that keeps polls behind the response to a POST.

use std::time::Instant;

use crate::close_reason::CloseReason;
use crate::session::Session;

/// The response to a poll, on its way to the client. Dropped before [`finish`](Self::finish), it ends the session, because
/// packets are lost.
#[derive(Debug)]
pub(crate) struct PollDelivery(Option<Session>);

/// Holds polls back until it is dropped: when the response to a POST is written, or cannot be.
#[derive(Debug)]
pub(crate) struct PollHold(pub(crate) Session);

impl PollDelivery {
    pub(crate) fn new(session: Session) -> Self {
        Self(Some(session))
    }

    /// The client has taken some of the response; these bytes are left.
    pub(crate) fn progress(&self, bytes_left: usize) {
        if let Some(session) = &self.0 {
            session.0.set_in_flight(bytes_left);
            let mut state = session.0.state();
            state.stalled_since = Some(Instant::now());
            state.task.wake();
        }
    }

    /// The client, or the kernel, has the whole response.
    pub(crate) fn finish(mut self) {
        if let Some(session) = self.0.take() {
            end(&session);
        }
    }
}

impl Drop for PollDelivery {
    fn drop(&mut self) {
        if let Some(session) = self.0.take() {
            end(&session);
            session.end(CloseReason::TransportError);
        }
    }
}

fn end(session: &Session) {
    session.0.set_in_flight(0);
    let mut state = session.0.state();
    state.stalled_since = (!state.outgoing.is_empty()).then(Instant::now);
    if let Some(polling) = &mut state.polling {
        polling.is_delivering = false;
        polling.wake_poll();
    }
    state.task.wake();
}

impl Drop for PollHold {
    fn drop(&mut self) {
        self.0.0.state().release_polls();
    }
}
