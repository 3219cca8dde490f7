//! A handler at work, whatever its type.

use super::{Context, Event, HandlerError};
use crate::handler::{Handler, dispatch, reason};
use crate::snapshot::Snapshot;

/// One handler, to be called [`within`](super::within) a host: an event at a time, and no more once it has panicked.
///
/// Every [`Handler`] is one. A `Box<dyn Instance>` stays on the thread that made it; a `Box<dyn Instance + Send>`, which a
/// handler that is `Send` can be, may be called on any.
pub trait Instance {
    /// Begins. An error is why it cannot.
    fn start(&mut self) -> Result<(), String>;

    /// Handles an event.
    fn handle(&mut self, event: Event, context: Context) -> Result<(), HandlerError>;

    /// Ends.
    fn stop(&mut self);

    /// What another is to take over.
    fn save(&self) -> Result<Option<Snapshot>, String>;

    /// Takes that over.
    fn load(&mut self, snapshot: Snapshot) -> Result<(), String>;
}

impl<H: Handler> Instance for H {
    fn start(&mut self) -> Result<(), String> {
        self.on_start().map_err(reason)
    }

    fn handle(&mut self, event: Event, context: Context) -> Result<(), HandlerError> {
        dispatch(self, event, context).map_err(HandlerError::from)
    }

    fn stop(&mut self) {
        self.on_stop();
    }

    fn save(&self) -> Result<Option<Snapshot>, String> {
        Handler::save(self).map_err(reason)
    }

    fn load(&mut self, snapshot: Snapshot) -> Result<(), String> {
        Handler::load(self, snapshot).map_err(reason)
    }
}
