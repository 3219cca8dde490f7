//! How a native handler waits for the key-value store: it calls a function and gets the answer, whatever its thread is for.

use std::pin::pin;

use futures_util::FutureExt;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::{block_in_place, unconstrained};

use crate::bindings::wasi::keyvalue::store::Error;

/// Where the reads of a call are waited for.
pub(super) enum Reads {
    /// On a thread of the handler's own, for this runtime.
    OnThread(Handle),
    /// On a thread of the runtime itself.
    InPlace,
}

const NOT_AT_ONCE: &str = "key-value store: its answer is not there at once, and a handler in place cannot wait for it on a \
                           runtime with one thread: give it a thread of its own, by `Native::of`, or the program a \
                           multi-threaded runtime";

impl Reads {
    /// The answer of the store, as soon as it is there.
    pub(super) fn wait<T>(&self, reading: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        match self {
            Self::OnThread(runtime) => runtime.block_on(reading),
            Self::InPlace => wait_in_place(reading),
        }
    }
}

fn wait_in_place<T>(reading: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let mut reading = pin!(reading);
    // A task that has done a lot already is made to wait for what is there, so that others have their turn. Not here, where
    // nobody has a turn before the handler returns.
    if let Some(answer) = unconstrained(reading.as_mut()).now_or_never() {
        return answer;
    }
    let runtime = Handle::current();
    match runtime.runtime_flavor() {
        // Nothing else is known to have no other thread that its tasks could move to.
        RuntimeFlavor::CurrentThread => Err(Error::Other(NOT_AT_ONCE.to_owned())),
        _ => block_in_place(|| runtime.block_on(reading)),
    }
}
