//! One call of a native handler, with the state of its instance.

use std::sync::Arc;

use plugnode_sdk::native::{within, words_of};

use super::blocking_reads::BlockingReads;
use super::native_host::NativeHost;
use crate::state::InstanceState;

/// The result of a call, or the message of its panic; and the state, which was lent to the call.
pub(super) type CallResult<T> = (Result<T, String>, Box<InstanceState>);

/// A handler that is made by its first call, so that a panic while it is made counts as a panic of that call.
pub(super) struct LazyHandler<I: ?Sized> {
    factory: Arc<dyn Fn() -> Box<I> + Send + Sync>,
    handler: Option<Box<I>>,
}

impl<I: ?Sized> LazyHandler<I> {
    pub(super) fn new(factory: Arc<dyn Fn() -> Box<I> + Send + Sync>) -> Self {
        Self { factory, handler: None }
    }

    pub(super) fn get(&mut self) -> &mut I {
        self.handler.get_or_insert_with(|| (self.factory)())
    }
}

/// Calls a function of a handler on this thread.
pub(super) fn call<T>(state: Box<InstanceState>, reads: BlockingReads, function: impl FnOnce() -> T) -> CallResult<T> {
    let (result, host) = within(NativeHost { state, reads }, function);
    (result.map_err(|panic| words_of(&*panic).to_owned()), host.state)
}
