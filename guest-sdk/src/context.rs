//! What the host knows about the call that is going on.

use std::cell::RefCell;
use std::rc::Rc;

pub use crate::bindings::plugnode::app::types::Context;

/// What the host calls the channels of a client that is gone, in [`Context::extra`].
pub(crate) const CHANNELS: &str = "channels";

impl Context {
    /// While a disconnect is handled: the channels that the client was subscribed to until then, as its io-node knew. What
    /// the client's own last events asked for may not have reached that yet.
    ///
    /// None when they are not known: with [`NodeLost`](crate::DisconnectReason::NodeLost), for the io-node did not live to
    /// tell them; when their names have more than 64 KB; of a host that is older than this. And in other events.
    ///
    /// ```
    /// # use plugnode_sdk::prelude::*;
    /// # struct Chat;
    /// # impl Chat {
    /// fn on_disconnect(&mut self, client: &Client, _: &DisconnectReason) -> Result {
    ///     for channel in plugnode_sdk::context().channels().unwrap_or_default() {
    ///         plugnode_sdk::to(channel).emit("left", client.id())?;
    ///     }
    ///     Ok(())
    /// }
    /// # }
    /// ```
    pub fn channels(&self) -> Option<Vec<String>> {
        let (_, names) = self.extra.iter().find(|(name, _)| name == CHANNELS)?;
        serde_json::from_str(names).ok()
    }
}

thread_local! {
    static CONTEXT: RefCell<Option<Rc<Context>>> = const { RefCell::new(None) };
}

/// What the host knows about the event that is being handled.
///
/// # Panics
///
/// Outside of a handler's call, as in its `Default`.
pub fn context() -> Rc<Context> {
    CONTEXT
        .with_borrow(Clone::clone)
        .expect("there is a context only while an event is handled")
}

/// The context holds until the guard is dropped.
pub(crate) struct Scope;

pub(crate) fn enter(context: Context) -> Scope {
    CONTEXT.set(Some(Rc::new(context)));
    Scope
}

impl Drop for Scope {
    fn drop(&mut self) {
        CONTEXT.set(None);
    }
}
