//! A live instance of a component: owns its Store, and handles one event at a time.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tracing::Instrument;
use wasmtime::{Store, UpdateDeadline};

use super::bindings::AppNode;
use super::bindings::plugnode::app::types as wit;
use super::engine::{Component, Place, Room};
use super::failure::{Failure, Report, Ruin};
use super::job::Job;
use super::load_error::LoadError;
use super::lower::Lowered;
use super::state::{App, GRACE, State};
use crate::message::{Effects, EventKind};

/// How long the making of an instance may take: interpreters do a lot before their first event.
const START: Duration = Duration::from_secs(10);

/// A component at work.
pub(super) struct Instance {
    store: Store<State>,
    guest: AppNode,
    app: Arc<App>,
    number: u32,
    _place: Place,
}

impl Instance {
    /// Makes an instance. What its component does to start counts against its memory limit.
    pub(super) async fn start(
        component: &Component,
        app: &Arc<App>,
        number: u32,
        room: &Room,
    ) -> Result<Self, LoadError> {
        let place = room.take()?;
        let pre = component.pre();
        let mut store = Store::new(pre.engine(), State::new(app.clone(), number));
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(hostcall_fuel(app));
        store.epoch_deadline_callback(|store| {
            if Instant::now() >= store.data().call.deadline {
                let limit = store.data().app.settings.limits.time;
                return Err(wasmtime::Error::msg(format!("time limit of {limit:?} reached")));
            }
            Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
        });
        store.data_mut().set_deadline(Instant::now() + START);
        store.set_epoch_deadline(1);
        let made = tokio::time::timeout(START + GRACE, pre.instantiate_async(&mut store)).await;
        let output = store.data().output.clone();
        output.end();
        let guest = match made {
            Ok(Ok(guest)) => guest,
            Ok(Err(error)) => {
                let ruin = Ruin::of(&error, output.stderr_tail());
                return Err(LoadError::Start {
                    cause: ruin.to_string(),
                });
            }
            Err(_) => {
                return Err(LoadError::Start {
                    cause: format!("it took more than {START:?}"),
                });
            }
        };
        Ok(Self {
            store,
            guest,
            app: app.clone(),
            number,
            _place: place,
        })
    }

    /// Handles an event, and the introduction of its client before it if there has to be one. An instance that broke is
    /// gone: nothing may enter it again.
    pub(super) async fn handle(self, job: &Job, introduce: bool) -> (Result<Effects, Failure>, Option<Self>) {
        let (app, number) = (self.app.clone(), self.number);
        let span = tracing::debug_span!(
            "handle",
            app = %app.settings.namespace,
            instance = number,
            messaging.message.id = %job.id,
            kind = job.event.kind.word(),
            attempt = job.attempt,
        );
        // A panic is a bug of this host, and yet no reason to lose the event or the instance's task.
        let handled = AssertUnwindSafe(self.try_handle(job, introduce))
            .catch_unwind()
            .instrument(span)
            .await;
        let ruin = match handled {
            Ok(Ok((instance, result))) => return (result, Some(instance)),
            Ok(Err(ruin)) => ruin,
            Err(panic) => Ruin::without_trace(format!("the host panicked: {}", words_of(&*panic)), String::new()),
        };
        if let Some(words) = ruin.unavailable {
            return (Err(Failure::Unavailable(words)), None);
        }
        (Err(Failure::Broken(Box::new(report(&app, number, job, ruin)))), None)
    }

    async fn try_handle(mut self, job: &Job, introduce: bool) -> Result<(Self, Result<Effects, Failure>), Ruin> {
        let event = &*job.event;
        let limit = self.app.settings.limits.time;
        let deadline = Instant::now() + limit;
        self.store
            .data_mut()
            .begin(job.id, &event.namespace, event.client.is_some(), deadline);
        let lowered = Lowered::new(event);
        let id = job.id.to_string();
        let calls = introduce
            .then(|| lowered.introduction())
            .flatten()
            .into_iter()
            .chain(lowered.event());
        let mut answer = match lowered.event() {
            Some(_) => Ok(()),
            None => Err(wit::HandlerError::Reject(format!(
                "a {} without a client",
                event.kind.word()
            ))),
        };
        let app = self.app.clone();
        for call in calls {
            if answer.is_err() {
                break;
            }
            let context = wit::Context {
                id: &id,
                attempt: job.attempt,
                received_at_ms: event.received_at_ms,
                budget_ms: millis(deadline.saturating_duration_since(Instant::now())),
                node: app.settings.node.as_str(),
                instance: self.number,
                release: &app.release,
                traceparent: None,
                extra: &[],
            };
            self.store.set_epoch_deadline(1);
            let calling = self
                .guest
                .plugnode_app_handler()
                .call_handle(&mut self.store, call, context);
            answer = match tokio::time::timeout_at((deadline + GRACE).into(), calling).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(error)) => return Err(self.ruin(|stderr| Ruin::of(&error, stderr))),
                Err(_) => {
                    let cause = format!("time limit of {limit:?} reached while it waited for the host");
                    return Err(self.ruin(|stderr| Ruin::without_trace(cause, stderr)));
                }
            };
        }
        let state = self.store.data_mut();
        state.output.end();
        let effects = std::mem::take(&mut state.call.effects);
        if let Some(words) = state.call.unavailable.take() {
            return Ok((self, Err(Failure::Unavailable(words))));
        }
        let result = match answer {
            Ok(()) => Ok(effects),
            Err(wit::HandlerError::Reject(reason)) => Err(Failure::Reject(reason)),
            Err(wit::HandlerError::Retry(reason) | wit::HandlerError::Other(reason)) => Err(Failure::Retry(reason)),
        };
        Ok((self, result))
    }

    fn ruin(&self, ruin: impl FnOnce(String) -> Ruin) -> Ruin {
        let state = self.store.data();
        state.output.end();
        Ruin {
            unavailable: state.call.unavailable.clone(),
            ..ruin(state.output.stderr_tail())
        }
    }
}

/// How much a handler may give to one call of the host, before anything is checked.
fn hostcall_fuel(app: &App) -> usize {
    const LEAST: usize = 1 << 20;
    let limits = &app.settings.limits;
    // What arrives is counted with its lists and headers, so a payload at its limit is a little more than that.
    limits.bytes.max(limits.payload).saturating_mul(2).max(LEAST)
}

fn report(app: &App, number: u32, job: &Job, ruin: Ruin) -> Report {
    let kind = match &job.event.kind {
        EventKind::Message { event, .. } => format!("message {event:?}"),
        kind => kind.word().to_owned(),
    };
    Report {
        app: app.settings.namespace.clone(),
        release: app.release.clone(),
        digest: app.digest.clone(),
        instance: number,
        event: job.id,
        attempt: job.attempt,
        kind,
        cause: ruin.cause,
        backtrace: ruin.backtrace,
        stderr: ruin.stderr,
    }
}

fn millis(duration: Duration) -> u32 {
    // Rounded up: a handler that is told 0 would think that it has no time at all.
    u32::try_from(duration.as_micros().div_ceil(1000)).unwrap_or(u32::MAX)
}

fn words_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without words")
}
