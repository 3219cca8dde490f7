//! Handlers in native Rust: the trait of the SDK, run in this process instead of in a component.
//!
//! They are held to what components are held to where native code can be: what an event may ask for and how much of it, the
//! buckets that are granted, and the time it has. What needs a wall around the code is not there: a native handler has the
//! memory, files and network of its process, one that runs out of its time keeps its thread until it returns, and one that
//! aborts takes the process with it.

mod convert;
mod host;
#[cfg(test)]
mod tests;
mod worker;

use std::any::type_name;
use std::fmt;
use std::sync::Arc;

use plugnode_sdk::Handler;
use plugnode_sdk::native::Instance;

pub(super) use worker::Worker;

/// A handler in native Rust, of which instances can be made. Clones are the same handler.
#[derive(Clone)]
pub struct Native {
    make: Arc<dyn Fn() -> Instance + Send + Sync>,
    name: &'static str,
}

impl Native {
    /// A handler that its `Default` makes. Each instance has a value and a thread of its own, so that the type may hold what
    /// cannot leave its thread.
    pub fn of<H: Handler>() -> Self {
        Self::made_by(H::default)
    }

    /// A handler that this makes, of what the program has: a pool of connections, or a channel into other parts of it. It is
    /// called on the thread of the instance, and again whenever one has to be replaced. A test kit makes handlers by their
    /// `Default`.
    pub fn made_by<H: Handler>(make: impl Fn() -> H + Send + Sync + 'static) -> Self {
        Self {
            make: Arc::new(move || Instance::new(make())),
            name: type_name::<H>(),
        }
    }

    /// The name of its type.
    pub fn name(&self) -> &'static str {
        self.name
    }

    fn instance(&self) -> Instance {
        (self.make)()
    }
}

impl fmt::Debug for Native {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Native").field(&self.name).finish()
    }
}
