//! What the host knows about the call that is going on.

use std::cell::RefCell;
use std::rc::Rc;

pub use crate::bindings::plugnode::app::types::Context;

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
