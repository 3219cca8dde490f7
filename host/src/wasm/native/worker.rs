//! The thread that a native instance lives on: it makes the handler, and runs one call after the other on it.
//!
//! A call that is not heard of in time is given up, and with it the worker. The thread goes on until the call returns, for
//! nothing can stop it; it keeps the instance's place among all that the engine allows, so that there are never more
//! threads than that.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use plugnode_sdk::native::{Instance, within, words_of};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::host::Within;
use super::{Native, convert};
use crate::wasm::bindings::plugnode::app::types as wit;
use crate::wasm::engine::Place;
use crate::wasm::failure::Ruin;
use crate::wasm::state::State;

/// What the thread is to do with its handler, which is none at first.
type Work = Box<dyn FnOnce(&mut Option<Instance>) + Send>;

/// A native instance. Dropped, it has its thread end after the call that is under way.
pub(in crate::wasm) struct Worker {
    work: Sender<Work>,
    /// With the thread during a call, and back afterwards unless the call was given up.
    state: Option<Box<State>>,
}

impl Worker {
    /// Begins a thread, and has the handler start on it. An error says why it does not.
    pub(in crate::wasm) async fn start(native: &Native, state: State, place: Place) -> Result<Self, String> {
        let (work, works) = channel();
        let name = format!("handler {}", state.instance);
        let thread = thread::Builder::new().name(name);
        thread
            .spawn(move || run(&works, place))
            .map_err(|error| format!("there is no thread for it: {error}"))?;
        let mut worker = Self {
            work,
            state: Some(Box::new(state)),
        };
        let native = native.clone();
        let starting = worker.call(move |handler| handler.insert(native.instance()).start());
        match starting.await {
            Ok(Ok(())) => Ok(worker),
            Ok(Err(reason)) => Err(format!("its start function refused: {reason}")),
            Err(ruin) => Err(format!("its start function broke: {ruin}")),
        }
    }

    pub(in crate::wasm) fn state(&mut self) -> &mut State {
        self.state.as_mut().expect("whoever gave up a call drops the worker")
    }

    pub(in crate::wasm) fn unavailable(&self) -> Option<String> {
        self.state.as_ref()?.call.unavailable.clone()
    }

    pub(in crate::wasm) async fn handle(
        &mut self,
        event: wit::Event<'_>,
        context: wit::Context<'_>,
    ) -> Result<Result<(), wit::HandlerError>, Ruin> {
        let (event, context) = (convert::event(event), convert::context(context));
        let handled = self.call(move |handler| started(handler).handle(event, context));
        Ok(handled.await?.map_err(convert::handler_error))
    }

    pub(in crate::wasm) async fn stop(&mut self) -> Result<(), Ruin> {
        self.call(|handler| started(handler).stop()).await
    }

    /// Runs a part of the handler on its thread, with the state.
    async fn call<T: Send + 'static>(
        &mut self,
        part: impl FnOnce(&mut Option<Instance>) -> T + Send + 'static,
    ) -> Result<T, Ruin> {
        let state = self.state.take().expect("whoever gave up a call drops the worker");
        let (answer, answered) = oneshot::channel();
        let runtime = Handle::current();
        let work: Work = Box::new(move |handler| {
            let (result, within) = within(Within { state, runtime }, || part(handler));
            let result = result.map_err(|panic| words_of(&*panic).to_owned());
            // Whoever gave the call up does not want to know.
            let _ = answer.send((result, within.state));
        });
        let gone = || Ruin::without_trace("its thread is gone".to_owned(), String::new());
        self.work.send(work).map_err(|_| gone())?;
        let (result, state) = answered.await.map_err(|_| gone())?;
        self.state = Some(state);
        result.map_err(|words| Ruin::without_trace(format!("the handler panicked: {words}"), String::new()))
    }
}

/// Works until there is nobody any more who could say what to do.
fn run(works: &Receiver<Work>, _place: Place) {
    let mut handler = None;
    while let Ok(work) = works.recv() {
        work(&mut handler);
    }
}

fn started(handler: &mut Option<Instance>) -> &mut Instance {
    handler.as_mut().expect("a worker begins with its start")
}
