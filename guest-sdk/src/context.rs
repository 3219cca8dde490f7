//! Facts about the current call.

use std::cell::RefCell;
use std::rc::Rc;

pub use crate::bindings::plugnode::app::types::Context;

/// The name in [`Context::extra`] of a disconnected client's channels.
pub(crate) const CHANNELS: &str = "channels";
/// The name in [`Context::extra`] of the ack-id of an event from the server API.
pub(crate) const ACK_ID: &str = "ack-id";

impl Context {
    /// In a disconnect event: the channels that the client was subscribed to, according to its io-node. Subscriptions that
    /// the client's last events changed may not be included.
    ///
    /// None in other events, and if the channels are unknown: with [`NodeLost`](crate::DisconnectReason::NodeLost), because the
    /// io-node died; if their names exceed 64 KB; on hosts that do not provide them.
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

/// Facts about the event that is being handled.
///
/// # Panics
///
/// Outside of an event, for example in a handler's `Default`.
pub fn context() -> Rc<Context> {
    CONTEXT
        .with_borrow(Clone::clone)
        .expect("the context is available only while an event is handled")
}

/// Keeps the context available until it is dropped.
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
