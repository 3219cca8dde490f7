//! A handler at work, whatever its type.

use std::fmt;

use super::{Context, Event, HandlerError};
use crate::handler::{Handler, dispatch, reason};
use crate::snapshot::Snapshot;

/// One handler, to be called [`within`](super::within) a host: an event at a time, and no more once it has panicked.
pub struct Instance(Box<dyn Calls>);

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance").finish_non_exhaustive()
    }
}

/// A handler without its type.
trait Calls {
    fn start(&mut self) -> crate::Result<()>;
    fn handle(&mut self, event: Event, context: Context) -> crate::Result<()>;
    fn stop(&mut self);
    fn save(&self) -> crate::Result<Option<Snapshot>>;
    fn load(&mut self, snapshot: Snapshot) -> crate::Result<()>;
}

impl Instance {
    /// Of this handler, which has not begun.
    pub fn new(handler: impl Handler) -> Self {
        Self(Box::new(handler))
    }

    /// Begins. An error is why it cannot.
    pub fn start(&mut self) -> Result<(), String> {
        self.0.start().map_err(reason)
    }

    /// Handles an event.
    pub fn handle(&mut self, event: Event, context: Context) -> Result<(), HandlerError> {
        self.0.handle(event, context).map_err(HandlerError::from)
    }

    /// Ends.
    pub fn stop(&mut self) {
        self.0.stop();
    }

    /// What another is to take over.
    pub fn save(&self) -> Result<Option<Snapshot>, String> {
        self.0.save().map_err(reason)
    }

    /// Takes that over.
    pub fn load(&mut self, snapshot: Snapshot) -> Result<(), String> {
        self.0.load(snapshot).map_err(reason)
    }
}

impl<H: Handler> Calls for H {
    fn start(&mut self) -> crate::Result<()> {
        self.on_start()
    }

    fn handle(&mut self, event: Event, context: Context) -> crate::Result<()> {
        dispatch(self, event, context)
    }

    fn stop(&mut self) {
        self.on_stop();
    }

    fn save(&self) -> crate::Result<Option<Snapshot>> {
        Handler::save(self)
    }

    fn load(&mut self, snapshot: Snapshot) -> crate::Result<()> {
        Handler::load(self, snapshot)
    }
}
