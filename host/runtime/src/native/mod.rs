//! Handlers in native Rust: the SDK's trait, run in this process instead of in a component.
//!
//! Limits that need no sandbox apply as for components: commands and bytes of an event, granted buckets, and time. There is no
//! sandbox: a native handler has the memory, files and network of its process; one that exceeds its time keeps its thread
//! until it returns; one that aborts ends the process.
//!
//! An instance runs in one of two ways. *On a thread* of its own it may block, and if it never returns, only that thread is
//! lost. *In place*, on the task of its slot, it avoids switching threads, which costs more than most handlers do; but while
//! it blocks, it blocks other tasks of the runtime too.

mod blocking_reads;
mod call;
mod convert;
mod executor;
mod handler_thread;
mod instance;
mod native_host;
#[cfg(test)]
mod tests;

use std::any::type_name;
use std::fmt;
use std::sync::Arc;

use plugnode_sdk::Handler;

use self::executor::HandlerFactory;
pub(crate) use self::instance::NativeInstance;
use crate::instance_limit::InstancePermit;
use crate::state::InstanceState;

/// A handler in native Rust. Clones are the same handler.
#[derive(Clone)]
pub struct Native {
    factory: HandlerFactory,
    name: &'static str,
}

impl Native {
    /// A handler that is made by its `Default`. Each instance has a value and a thread of its own, so it may block, and its type
    /// need not be `Send`.
    pub fn of<H: Handler>() -> Self {
        Self::made_by(H::default)
    }

    /// A handler that is made by a closure, which can pass in parts of the program: a connection pool, or a channel. The closure
    /// is called on the thread of each instance, and again when an instance is replaced. (Test kits make handlers by their
    /// `Default`.)
    pub fn made_by<H: Handler>(make: impl Fn() -> H + Send + Sync + 'static) -> Self {
        Self {
            factory: HandlerFactory::OnThread(Arc::new(move || Box::new(make()))),
            name: type_name::<H>(),
        }
    }

    /// Like [`of`](Self::of), for a handler that never blocks: it is called in place, on the task of its slot, whatever thread
    /// of the runtime that is on. It needs no threads, and an event costs less.
    ///
    /// While the handler runs, no other task runs on that thread of the runtime. A handler that never returns keeps the thread
    /// forever, and the clients of its slot are never served again. One that exceeds its time limit is noticed when it
    /// returns; its event fails. So it must not wait for locks, files or responses, and must not compute for long.
    ///
    /// Reads of the key-value store are the exception. With the memory transport their answer is ready at once. Otherwise, as
    /// with Redis, the runtime's other tasks move to another thread, which costs about as much as a thread for each instance;
    /// on a `current_thread` runtime they cannot, and the read fails with an explanation.
    pub fn in_place<H: Handler + Send>() -> Self {
        Self::made_in_place_by(H::default)
    }

    /// Like [`made_by`](Self::made_by), for a handler that is called [in place](Self::in_place); so is the closure.
    pub fn made_in_place_by<H: Handler + Send>(make: impl Fn() -> H + Send + Sync + 'static) -> Self {
        Self {
            factory: HandlerFactory::InPlace(Arc::new(move || Box::new(make()))),
            name: type_name::<H>(),
        }
    }

    /// The name of its type.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Makes an instance, and calls its start function.
    pub(crate) async fn start(&self, state: InstanceState, permit: InstancePermit) -> Result<NativeInstance, String> {
        NativeInstance::start(&self.factory, state, permit).await
    }
}

impl fmt::Debug for Native {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Native")
            .field("name", &self.name)
            .field("in_place", &matches!(self.factory, HandlerFactory::InPlace(_)))
            .finish()
    }
}
