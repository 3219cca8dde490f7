//! A handler instance, independent of the handler's type.

use super::{Context, Event, HandlerError};
use crate::handler::{Handler, dispatch, reason};
use crate::snapshot::Snapshot;

/// A handler instance. Call it [`within`](super::within) a host, one event at a time, and not again after a panic.
///
/// Implemented by every [`Handler`]. A handler that is `Send` can become a `Box<dyn Instance + Send>` and be called on any
/// thread; a `Box<dyn Instance>` stays on the thread that created it.
pub trait Instance {
    /// Starts the instance. An error is the reason why it cannot be used.
    fn start(&mut self) -> Result<(), String>;

    /// Handles an event.
    fn handle(&mut self, event: Event, context: Context) -> Result<(), HandlerError>;

    /// Stops the instance.
    fn stop(&mut self);

    /// The state to hand over to the next instance.
    fn save(&self) -> Result<Option<Snapshot>, String>;

    /// Takes over the state of the previous instance.
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
