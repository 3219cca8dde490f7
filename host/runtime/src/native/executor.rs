//! Where a native instance runs: on a thread of its own, or in place, on the task of its slot.

use std::sync::Arc;
use std::time::Duration;

use plugnode_sdk::native::Instance;

use super::blocking_reads::BlockingReads;
use super::call::{CallResult, LazyHandler, call};
use super::handler_thread::HandlerThread;
use crate::failure::Trap;
use crate::instance_limit::InstancePermit;
use crate::state::InstanceState;

/// Makes the handlers of instances. An in-place handler must be `Send`.
#[derive(Clone)]
pub(super) enum HandlerFactory {
    OnThread(Arc<dyn Fn() -> Box<dyn Instance> + Send + Sync>),
    InPlace(Arc<dyn Fn() -> Box<dyn Instance + Send> + Send + Sync>),
}

/// Runs the calls of one instance.
pub(super) enum Executor {
    OnThread(HandlerThread),
    InPlace {
        handler: LazyHandler<dyn Instance + Send>,
        _permit: InstancePermit,
    },
}

impl Executor {
    /// An executor for the instance with this number.
    ///
    /// # Errors
    /// When its thread cannot be started.
    pub(super) fn new(factory: &HandlerFactory, number: u32, permit: InstancePermit) -> Result<Self, String> {
        match factory {
            HandlerFactory::OnThread(factory) => {
                Ok(Self::OnThread(HandlerThread::start(factory.clone(), number, permit)?))
            }
            HandlerFactory::InPlace(factory) => Ok(Self::InPlace {
                handler: LazyHandler::new(factory.clone()),
                _permit: permit,
            }),
        }
    }

    /// Calls a function of the handler. In place, the call is complete when the future is first polled.
    pub(super) async fn call<T: Send + 'static>(
        &mut self,
        state: Box<InstanceState>,
        function: impl FnOnce(&mut dyn Instance) -> T + Send + 'static,
    ) -> Result<CallResult<T>, Trap> {
        match self {
            Self::OnThread(thread) => thread.call(state, function).await,
            Self::InPlace { handler, .. } => Ok(call(state, BlockingReads::InPlace, || function(handler.get()))),
        }
    }

    /// The reason to report for a call that exceeded its time limit.
    pub(super) fn timeout_reason(&self, limit: Duration) -> String {
        let why = match self {
            Self::OnThread(_) => "its thread cannot be stopped, and ends when it returns",
            Self::InPlace { .. } => {
                "it was called in place, where other tasks wait for it: give it a thread, by `Native::of`"
            }
        };
        format!("time limit of {limit:?} reached; {why}")
    }
}
