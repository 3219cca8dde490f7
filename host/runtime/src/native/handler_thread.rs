//! A thread of a native instance: makes the handler, and runs its calls one after the other.
//!
//! A call that exceeds its time is given up, and with it the instance. The thread goes on until the call returns, since nothing
//! can stop it. It keeps the instance's permit until then, which bounds the number of threads.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use plugnode_sdk::native::Instance;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::blocking_reads::BlockingReads;
use super::call::{CallResult, LazyHandler, call};
use crate::failure::Trap;
use crate::instance_limit::InstancePermit;
use crate::state::InstanceState;

/// One call, to run on the thread.
type ThreadCall = Box<dyn FnOnce(&mut LazyHandler<dyn Instance>) + Send>;

/// A thread with a handler. When this is dropped, the thread ends after its current call.
pub(super) struct HandlerThread {
    calls: Sender<ThreadCall>,
}

impl HandlerThread {
    /// Starts a thread, for a handler that `factory` makes.
    ///
    /// # Errors
    /// When the system refuses the thread.
    pub(super) fn start(
        factory: Arc<dyn Fn() -> Box<dyn Instance> + Send + Sync>,
        number: u32,
        permit: InstancePermit,
    ) -> Result<Self, String> {
        let (calls, receiver) = channel();
        let thread = thread::Builder::new().name(format!("handler {number}"));
        thread
            .spawn(move || run(&receiver, LazyHandler::new(factory), permit))
            .map_err(|error| format!("cannot start its thread: {error}"))?;
        Ok(Self { calls })
    }

    /// Calls a function of the handler on the thread. If the future is dropped before the call returns, the state is lost.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        state: Box<InstanceState>,
        function: impl FnOnce(&mut dyn Instance) -> T + Send + 'static,
    ) -> Result<CallResult<T>, Trap> {
        let (sender, result) = oneshot::channel();
        let reads = BlockingReads::OnThread(Handle::current());
        let thread_call: ThreadCall = Box::new(move |handler| {
            // The send fails if the call was given up.
            let _ = sender.send(call(state, reads, || function(handler.get())));
        });
        let ended = || Trap::without_backtrace("its thread has ended".to_owned(), String::new());
        self.calls.send(thread_call).map_err(|_| ended())?;
        result.await.map_err(|_| ended())
    }
}

/// Runs calls until the sender is dropped.
fn run(calls: &Receiver<ThreadCall>, mut handler: LazyHandler<dyn Instance>, _permit: InstancePermit) {
    while let Ok(call) = calls.recv() {
        call(&mut handler);
    }
}
