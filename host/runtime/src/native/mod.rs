//! Handlers in native Rust: the trait of the SDK, run in this process instead of in a component.
//!
//! They are held to what components are held to where native code can be: what an event may ask for and how much of it, the
//! buckets that are granted, and the time it has. What needs a wall around the code is not there: a native handler has the
//! memory, files and network of its process, one that runs out of its time keeps its thread until it returns, and one that
//! aborts takes the process with it.
//!
//! There are two ways to call them. On a thread of its own, an instance may block, and one that does not return costs that
//! thread and nobody's time. In place, on the task that deals it its events, there are no switches between threads, which cost
//! more than most handlers do; but whatever it waits for, other tasks of the runtime wait for as well.

mod convert;
mod host;
mod reads;
mod seat;
#[cfg(test)]
mod tests;
mod thread;
mod worker;

use std::any::type_name;
use std::fmt;
use std::sync::Arc;

use plugnode_sdk::Handler;
use seat::Make;

pub(super) use worker::Worker;

/// A handler in native Rust, of which instances can be made. Clones are the same handler.
#[derive(Clone)]
pub struct Native {
    make: Make,
    name: &'static str,
}

impl Native {
    /// A handler that its `Default` makes. Each instance has a value and a thread of its own, so that it may block, and the
    /// type may hold what cannot leave its thread.
    pub fn of<H: Handler>() -> Self {
        Self::made_by(H::default)
    }

    /// A handler that this makes, of what the program has: a pool of connections, or a channel into other parts of it. It is
    /// called on the thread of the instance, and again whenever one has to be replaced. A test kit makes handlers by their
    /// `Default`.
    pub fn made_by<H: Handler>(make: impl Fn() -> H + Send + Sync + 'static) -> Self {
        Self {
            make: Make::OnThread(Arc::new(move || Box::new(make()))),
            name: type_name::<H>(),
        }
    }

    /// As [`of`](Self::of), of a handler that never blocks: it is called in place, by the task that deals the instance its
    /// events, on whatever thread of the runtime that is. It takes no threads, and a message costs less.
    ///
    /// While it works, nothing else does on that thread of the runtime, and one that never returns keeps the thread for good,
    /// with the clients whose turn is on it: it cannot be given up. What takes longer than its time without that is noticed
    /// when it returns, and does not count. So it waits for no lock, file or answer, and does not work for long.
    ///
    /// Reads of the key-value store are the exception. Over the memory transport their answer is there at once. For one that
    /// is not, as over Redis, the runtime's other tasks move to another thread, which costs about what a thread of one's own
    /// does; on a `current_thread` runtime they cannot, and the read fails with words that say so.
    pub fn in_place<H: Handler + Send>() -> Self {
        Self::made_in_place_by(H::default)
    }

    /// As [`made_by`](Self::made_by), of a handler that is called [in place](Self::in_place), and so is what makes it.
    pub fn made_in_place_by<H: Handler + Send>(make: impl Fn() -> H + Send + Sync + 'static) -> Self {
        Self {
            make: Make::InPlace(Arc::new(move || Box::new(make()))),
            name: type_name::<H>(),
        }
    }

    /// The name of its type.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

impl fmt::Debug for Native {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Native")
            .field("name", &self.name)
            .field("in_place", &matches!(self.make, Make::InPlace(_)))
            .finish()
    }
}
