//! A native instance: the state of its calls, and the seat where its handler is called.

use std::time::{Duration, Instant};

use plugnode_sdk::native::Instance;

use super::seat::Seat;
use super::{Native, convert};
use crate::bindings::plugnode::app::types as wit;
use crate::engine::Place;
use crate::failure::Ruin;
use crate::state::{Absence, GRACE, State};

/// A native instance.
pub(crate) struct Worker {
    seat: Seat,
    /// Lent to the handler during a call, and back afterwards unless the call was given up.
    state: Option<Box<State>>,
}

impl Worker {
    /// Makes one, and has its handler start. An error says why it does not.
    pub(crate) async fn start(native: &Native, state: State, place: Place) -> Result<Self, String> {
        let mut worker = Self {
            seat: Seat::new(&native.make, state.instance, place)?,
            state: Some(Box::new(state)),
        };
        match worker.call(|handler| handler.start()).await {
            Ok(Ok(())) => Ok(worker),
            Ok(Err(reason)) => Err(format!("its start function refused: {reason}")),
            Err(ruin) => Err(format!("its start function broke: {ruin}")),
        }
    }

    pub(crate) fn state(&mut self) -> &mut State {
        self.state.as_mut().expect("whoever gave up a call drops the worker")
    }

    pub(crate) fn absence(&self) -> Option<Absence> {
        self.state.as_ref()?.call.absence.clone()
    }

    pub(crate) fn too_late(&self, limit: Duration) -> String {
        self.seat.too_late(limit)
    }

    pub(crate) async fn handle(
        &mut self,
        event: wit::Event<'_>,
        context: wit::Context<'_>,
    ) -> Result<Result<(), wit::HandlerError>, Ruin> {
        let (event, context) = (convert::event(event), convert::context(context));
        let handled = self.call(move |handler| handler.handle(event, context));
        Ok(handled.await?.map_err(convert::handler_error))
    }

    pub(crate) async fn stop(&mut self) -> Result<(), Ruin> {
        self.call(|handler| handler.stop()).await
    }

    /// Runs a part of the handler in its seat, with the state.
    async fn call<T: Send + 'static>(
        &mut self,
        part: impl FnOnce(&mut dyn Instance) -> T + Send + 'static,
    ) -> Result<T, Ruin> {
        let state = self.state.take().expect("whoever gave up a call drops the worker");
        let (result, state) = self.seat.call(state, part).await?;
        let state = self.state.insert(state);
        let ruined = |cause| Ruin::without_trace(cause, String::new());
        let answer = result.map_err(|words| ruined(format!("the handler panicked: {words}")))?;
        // Whoever gives up what takes too long cannot do so while a handler is called in place.
        if Instant::now() > state.call.deadline + GRACE {
            return Err(ruined(self.seat.too_late(state.call.limit)));
        }
        Ok(answer)
    }
}
