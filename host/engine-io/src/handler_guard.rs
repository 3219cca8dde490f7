//! Ensures that a session's handler is told of the end, even when the session's task is dropped or panics.

use crate::application::Handler;
use crate::close_reason::CloseReason;

/// The handler of a session. Dropped before [`close`](Self::close), it closes the handler with
/// [`CloseReason::TransportError`].
pub(crate) struct HandlerGuard<H: Handler>(Option<H>);

impl<H: Handler> HandlerGuard<H> {
    pub(crate) fn new(handler: H) -> Self {
        Self(Some(handler))
    }

    pub(crate) fn get_mut(&mut self) -> Option<&mut H> {
        self.0.as_mut()
    }

    pub(crate) fn close(mut self, reason: CloseReason) {
        if let Some(handler) = self.0.take() {
            handler.close(reason);
        }
    }
}

impl<H: Handler> Drop for HandlerGuard<H> {
    fn drop(&mut self) {
        if let Some(handler) = self.0.take() {
            handler.close(CloseReason::TransportError);
        }
    }
}
