//! The traits that an application implements to receive an engine's sessions.

use http::{Extensions, HeaderMap};

use crate::close_reason::CloseReason;
use crate::message::Message;
use crate::refusal::Refusal;
use crate::session::Session;

/// The application of an engine: accepts sessions.
pub trait Application: Send + Sync + 'static {
    /// Handles the messages of one session.
    type Handler: Handler;

    /// The id for a new session, from the headers of its request. None for a random one of twenty characters. It must be
    /// unique and hard to guess, because it is enough to act as the client. A request whose id is in use is refused.
    fn session_id(&self, _headers: &HeaderMap) -> Option<String> {
        None
    }

    /// Accepts a new session. `extensions` are those of its request. Packets sent during this call arrive after the open
    /// packet.
    ///
    /// # Errors
    /// Why the session is refused, for example [`Refusal::Forbidden`].
    fn open(&self, session: Session, extensions: &Extensions) -> Result<Self::Handler, Refusal>;
}

/// Handles the messages of one session. All calls come from the session's task, one after the other.
pub trait Handler: Send + 'static {
    /// A POST with this many text messages has arrived; unless the session ends, [`message`](Self::message) gets them next.
    /// Called in protocol 4 only, where counting them is cheap.
    fn expect_messages(&mut self, _count: usize) {}

    /// Handles a message. To get no more for now, [pause](Session::pause) the session.
    fn message(&mut self, message: Message);

    /// The session has ended. This is the last call.
    fn close(self, reason: CloseReason);
}
