//! The thread that a native instance lives on: it makes the handler, and runs one call after the other on it.
//!
//! A call that is not heard of in time is given up, and with it the instance. The thread goes on until the call returns, for
//! nothing can stop it; it keeps the instance's place among all that the engine allows, so that there are never more
//! threads than that.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use plugnode_sdk::native::Instance;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::reads::Reads;
use super::seat::{Called, Seated, call};
use crate::engine::Place;
use crate::failure::Ruin;
use crate::state::State;

/// What the thread is to do with its handler.
type Work = Box<dyn FnOnce(&mut Seated<dyn Instance>) + Send>;

/// A thread with a handler on it. Dropped, it ends after the call that is under way.
pub(super) struct Thread {
    work: Sender<Work>,
}

impl Thread {
    /// Begins one, for a handler that this makes. An error says why it does not.
    pub(super) fn start(
        make: Arc<dyn Fn() -> Box<dyn Instance> + Send + Sync>,
        number: u32,
        place: Place,
    ) -> Result<Self, String> {
        let (work, works) = channel();
        let thread = thread::Builder::new().name(format!("handler {number}"));
        thread
            .spawn(move || run(&works, Seated::new(make), place))
            .map_err(|error| format!("there is no thread for it: {error}"))?;
        Ok(Self { work })
    }

    /// Runs a part of the handler there. Dropped before that is done, the state is gone.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        state: Box<State>,
        part: impl FnOnce(&mut dyn Instance) -> T + Send + 'static,
    ) -> Result<Called<T>, Ruin> {
        let (answer, answered) = oneshot::channel();
        let reads = Reads::OnThread(Handle::current());
        let work: Work = Box::new(move |handler| {
            // Whoever gave the call up does not want to know.
            let _ = answer.send(call(state, reads, || part(handler.get())));
        });
        let gone = || Ruin::without_trace("its thread is gone".to_owned(), String::new());
        self.work.send(work).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())
    }
}

/// Works until there is nobody any more who could say what to do.
fn run(works: &Receiver<Work>, mut handler: Seated<dyn Instance>, _place: Place) {
    while let Ok(work) = works.recv() {
        work(&mut handler);
    }
}
