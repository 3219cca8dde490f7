//! How a native handler waits for the key-value store: its calls are synchronous, on whatever thread it runs.

use std::pin::pin;

use futures_util::FutureExt;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::{block_in_place, unconstrained};

use crate::bindings::wasi::keyvalue::store::Error;

/// How a call waits for reads.
pub(super) enum BlockingReads {
    /// On the handler's own thread: blocks it, while this runtime reads.
    OnThread(Handle),
    /// On a thread of the runtime.
    InPlace,
}

const CANNOT_WAIT: &str = "key-value store: a handler in place cannot wait for an answer on a runtime with one thread: give \
                           it a thread of its own, by `Native::of`, or the program a multi-threaded runtime";

impl BlockingReads {
    /// Waits for the store's answer.
    pub(super) fn wait<T>(&self, reading: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        match self {
            Self::OnThread(runtime) => runtime.block_on(reading),
            Self::InPlace => wait_in_place(reading),
        }
    }
}

fn wait_in_place<T>(reading: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let mut reading = pin!(reading);
    // Without the task's cooperative budget: exhausting it would make a ready answer look pending, and no other task can run
    // before the handler returns anyway.
    if let Some(answer) = unconstrained(reading.as_mut()).now_or_never() {
        return answer;
    }
    let runtime = Handle::current();
    match runtime.runtime_flavor() {
        // On this flavour, other tasks have no thread to move to while this one blocks.
        RuntimeFlavor::CurrentThread => Err(Error::Other(CANNOT_WAIT.to_owned())),
        _ => block_in_place(|| runtime.block_on(reading)),
    }
}
