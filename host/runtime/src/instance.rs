//! A live instance of a handler: handles one event at a time, each within its time limit. Before the first and after the last
//! event come the calls that start it, stop it, and save or load its state. The code that it calls is a [`Guest`].

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tracing::Instrument;

use crate::app::App;
use crate::bindings::plugnode::app::types as wit;
use crate::component::Component;
use crate::failure::{Failure, Trap, TrapReport};
use crate::guest::{Guest, Snapshot};
use crate::instance_limit::InstanceLimit;
use crate::job::Job;
use crate::load_error::LoadError;
use crate::lower::Lowered;
use crate::output::Output;
use crate::state::{GRACE, HostFailure, InstanceState};
use plugnode_message::{Effects, EventKind};
use plugnode_settings::Size;

/// Time limit to start an instance. Interpreters do a lot before their first event.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// The result of handling an event, and the instance unless it trapped.
pub(super) type Handled = (Result<Effects, Failure>, Option<Instance>);

/// Set when a handler yields its thread: it goes on at once, without waiting for anything.
#[derive(Debug, Clone, Default)]
pub(crate) struct YieldFlag(Arc<AtomicBool>);

impl YieldFlag {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was set. It is no longer.
    pub(crate) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// An instance of a handler.
pub(super) struct Instance {
    guest: Guest,
    output: Output,
    app: Arc<App>,
    number: u32,
    yields: YieldFlag,
}

impl Instance {
    /// Instantiates the component and calls its start function.
    ///
    /// # Errors
    /// When it does not start in time, or the engine's limit of instances is reached.
    pub(super) async fn start(
        component: &Component,
        app: &Arc<App>,
        number: u32,
        limit: &InstanceLimit,
    ) -> Result<Self, LoadError> {
        let permit = limit.acquire()?;
        let mut state = InstanceState::new(app.clone(), number);
        let deadline = state.begin_without_event(START_TIMEOUT);
        let (output, yields) = (state.output.clone(), state.yields.clone());
        let starting = Guest::start(component.code(), state, permit);
        let started = tokio::time::timeout_at((deadline + GRACE).into(), starting).await;
        output.end();
        let cause = match started {
            Ok(Ok(guest)) => {
                return Ok(Self {
                    guest,
                    output,
                    app: app.clone(),
                    number,
                    yields,
                });
            }
            Ok(Err(cause)) => cause,
            Err(_) => format!("it took more than {START_TIMEOUT:?}"),
        };
        Err(match component.is_native() {
            true => LoadError::StartNative { cause },
            false => LoadError::Start { cause },
        })
    }

    /// Set when its handler yields.
    pub(super) fn yield_flag(&self) -> YieldFlag {
        self.yields.clone()
    }

    /// Calls its stop function: no more events will come.
    ///
    /// # Errors
    /// The reason, if it traps. The instance is dropped then.
    pub(super) async fn stop(self) -> Result<Self, String> {
        if !self.guest.has_lifecycle() {
            return Ok(self);
        }
        let ((), instance) = self
            .call_without_event("stop", async |guest| guest.stop().await)
            .await?;
        Ok(instance)
    }

    /// Saves its state for its successor. None if it has none.
    ///
    /// # Errors
    /// The reason why the state cannot be handed over.
    pub(super) async fn save(self) -> Result<Option<Snapshot>, String> {
        if !self.guest.has_snapshot() {
            return Ok(None);
        }
        let max = self.app.settings.handler.limits.snapshot;
        let (saved, _) = self
            .call_without_event("save", async move |guest| guest.save(max).await)
            .await?;
        let saved = saved.map_err(|reason| format!("save: {reason}"))?;
        let size = saved.schema.len() + saved.data.len();
        if size > max {
            let max = Size::from(max);
            return Err(format!(
                "save: a state of {size} bytes is larger than the limit of {max}: save less, or raise limits.snapshot"
            ));
        }
        Ok((size > 0).then_some(saved))
    }

    /// Loads the state that its predecessor saved.
    ///
    /// # Errors
    /// The reason, if it refuses the state or traps. The instance is dropped then.
    pub(super) async fn load(self, state: &Snapshot) -> Result<Self, String> {
        if !self.guest.has_snapshot() {
            return Err("load: the component does not export plugnode:app/snapshot".to_owned());
        }
        let (loaded, instance) = self
            .call_without_event("load", async |guest| guest.load(state).await)
            .await?;
        loaded.map_err(|reason| format!("load: {reason}"))?;
        Ok(instance)
    }

    /// Calls a lifecycle or snapshot function, within the time limit of an event. If the call traps, the instance is dropped.
    async fn call_without_event<T>(
        mut self,
        function: &str,
        call: impl AsyncFnOnce(&mut Guest) -> Result<T, Trap>,
    ) -> Result<(T, Self), String> {
        let limit = self.app.settings.handler.limits.time;
        let deadline = self.guest.state().begin_without_event(limit);
        let calling = AssertUnwindSafe(call(&mut self.guest)).catch_unwind();
        let answer = tokio::time::timeout_at((deadline + GRACE).into(), calling).await;
        self.output.end();
        let reason = match answer {
            Ok(Ok(Ok(answer))) => return Ok((answer, self)),
            Ok(Ok(Err(trap))) => trap.to_string(),
            Ok(Err(panic)) => format!("the host panicked: {}", panic_message(&*panic)),
            Err(_) => self.guest.timeout_reason(limit),
        };
        Err(format!("{function}: {reason}"))
    }

    /// Handles an event, whose time limit counts from `began`. With `introduce`, first gives the instance a `no-client` event of
    /// the event's client. Returns the instance unless it trapped; a trapped instance must not be called again.
    pub(super) async fn handle(self, job: &Job, introduce: bool, began: Instant) -> Handled {
        let (app, number) = (self.app.clone(), self.number);
        let span = tracing::debug_span!(
            "handle",
            app = %app.settings.namespace,
            instance = number,
            messaging.message.id = %job.id,
            kind = job.event.kind.word(),
            attempt = job.attempt,
        );
        // A panic would be a bug of this host; it must not end the slot's task. Pinned here, because moving this future
        // would copy it, and it is large.
        let handling = pin!(self.try_handle(job, introduce, began));
        let handled = AssertUnwindSafe(handling).catch_unwind().instrument(span).await;
        let trap = match handled {
            Ok(Ok((instance, result))) => return (result, Some(instance)),
            Ok(Err(trap)) => trap,
            Err(panic) => {
                Trap::without_backtrace(format!("the host panicked: {}", panic_message(&*panic)), String::new())
            }
        };
        if let Some(failure) = trap.host_failure {
            return (Err(from_host_failure(&app, failure).await), None);
        }
        (Err(Failure::Trap(Box::new(report(&app, number, job, trap)))), None)
    }

    async fn try_handle(
        mut self,
        job: &Job,
        introduce: bool,
        began: Instant,
    ) -> Result<(Self, Result<Effects, Failure>), Trap> {
        let event = &*job.event;
        let limit = self.app.settings.handler.limits.time;
        let deadline = self.guest.state().begin(job.id, event, began);
        let lowered = Lowered::new(event);
        let id = job.id.to_string();
        let extra = lowered.extra();
        let calls = introduce
            .then(|| lowered.introduction())
            .flatten()
            .into_iter()
            .chain(lowered.event());
        let mut answer = match lowered.event() {
            Some(_) => Ok(()),
            None => Err(wit::HandlerError::Reject(format!(
                "the {} event has no client",
                event.kind.word()
            ))),
        };
        let app = self.app.clone();
        for (number, call) in calls.enumerate() {
            if answer.is_err() {
                break;
            }
            let now = if number == 0 { began } else { Instant::now() };
            let context = wit::Context {
                id: &id,
                attempt: job.attempt,
                received_at_ms: event.received_at_ms,
                budget_ms: millis(deadline.saturating_duration_since(now)),
                node: app.settings.node.as_str(),
                instance: self.number,
                release: &app.release,
                traceparent: None,
                extra: &extra,
            };
            let called = {
                let calling = pin!(self.guest.handle(call, context));
                tokio::time::timeout_at((deadline + GRACE).into(), calling).await
            };
            answer = match called {
                Ok(Ok(answer)) => answer,
                Ok(Err(trap)) => return Err(self.trapped(trap)),
                Err(_) => {
                    let trap = Trap::without_backtrace(self.guest.timeout_reason(limit), self.output.stderr_tail());
                    return Err(self.trapped(trap));
                }
            };
        }
        self.output.end();
        let state = self.guest.state();
        let effects = state.call.take_effects();
        if let Some(failure) = state.call.host_failure.take() {
            return Ok((self, Err(from_host_failure(&app, failure).await)));
        }
        let result = match answer {
            Ok(()) => Ok(effects),
            Err(wit::HandlerError::Reject(reason)) => Err(Failure::Reject(reason)),
            Err(wit::HandlerError::Retry(reason) | wit::HandlerError::Other(reason)) => Err(Failure::Retry(reason)),
        };
        Ok((self, result))
    }

    fn trapped(&self, trap: Trap) -> Trap {
        self.output.end();
        Trap {
            host_failure: self.guest.host_failure(),
            ..trap
        }
    }
}

/// Tells whether the host's service was unavailable, or the event reads too much: a call timed out, and the service has
/// answered others since.
async fn from_host_failure(app: &App, failure: HostFailure) -> Failure {
    let HostFailure {
        reason,
        timed_out_since,
    } = failure;
    let reads_too_much = match timed_out_since {
        Some(began) => app.settings.key_value.has_answered_since(began).await,
        None => false,
    };
    match reads_too_much {
        true => Failure::ReadsTooMuch(format!(
            "{reason}, though it answers others: the event reads too much for its time limit of {:?}; read less, or raise \
             limits.time-ms",
            app.settings.handler.limits.time
        )),
        false => Failure::Unavailable(reason),
    }
}

fn report(app: &App, number: u32, job: &Job, trap: Trap) -> TrapReport {
    let kind = match &job.event.kind {
        EventKind::Message { event, .. } => format!("message {event:?}"),
        kind => kind.word().to_owned(),
    };
    TrapReport {
        app: app.settings.namespace.clone(),
        release: app.release.to_string(),
        digest: app.digest.clone(),
        instance: number,
        event: job.id,
        attempt: job.attempt,
        kind,
        cause: trap.cause,
        backtrace: trap.backtrace,
        stderr: trap.stderr,
    }
}

fn millis(duration: Duration) -> u32 {
    // Rounded up: 0 would mean that no time is left.
    u32::try_from(duration.as_micros().div_ceil(1000)).unwrap_or(u32::MAX)
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
