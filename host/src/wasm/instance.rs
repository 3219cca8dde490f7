//! A live instance of a component: owns its Store, and handles one event at a time. Before the first and after the last
//! there are the calls by which it begins, ends, and hands over what it has in memory.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tracing::Instrument;
use wasmtime::{Store, UpdateDeadline};

use super::bindings::exports::plugnode::app::snapshot::StateParam;
use super::bindings::plugnode::app::types as wit;
use super::engine::{Component, Place, Room};
use super::exports::Guest;
use super::failure::{Failure, Report, Ruin};
use super::job::Job;
use super::legacy::Snapshot;
use super::load_error::LoadError;
use super::lower::Lowered;
use super::settings::in_words;
use super::state::{App, GRACE, State};
use crate::message::{Effects, EventKind};

/// How long the making of an instance may take: interpreters do a lot before their first event.
const START: Duration = Duration::from_secs(10);

/// Bytes that a handler may give to one call of the host at least.
const LEAST_FUEL: usize = 1 << 20;

/// A component at work.
pub(super) struct Instance {
    store: Store<State>,
    guest: Guest,
    app: Arc<App>,
    number: u32,
    _place: Place,
}

impl Instance {
    /// Makes an instance and has it start. What its component does to start counts against its memory limit.
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
            let call = &store.data().call;
            if Instant::now() >= call.deadline {
                return Err(wasmtime::Error::msg(format!("time limit of {:?} reached", call.limit)));
            }
            Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
        });
        let deadline = store.data_mut().begin_outside(START);
        store.set_epoch_deadline(1);
        let output = store.data().output.clone();
        let refused = |cause| {
            output.end();
            LoadError::Start { cause }
        };
        let making = tokio::time::timeout_at((deadline + GRACE).into(), pre.instantiate_async(&mut store)).await;
        let guest = match making {
            Ok(Ok(guest)) => guest,
            Ok(Err(error)) => return Err(refused(Ruin::of(&error, output.stderr_tail()).to_string())),
            Err(_) => return Err(refused(format!("it took more than {START:?}"))),
        };
        let mut instance = Self {
            store,
            guest,
            app: app.clone(),
            number,
            _place: place,
        };
        if let Some(lifecycle) = instance.guest.lifecycle.clone() {
            let config = &app.settings.config;
            let config: Vec<_> = config.iter().map(|(key, value)| (&**key, &**value)).collect();
            let starting = lifecycle.call_start(&mut instance.store, &config);
            match tokio::time::timeout_at((deadline + GRACE).into(), starting).await {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(reason))) => return Err(refused(format!("its start function refused: {reason}"))),
                Ok(Err(error)) => {
                    let ruin = Ruin::of(&error, output.stderr_tail());
                    return Err(refused(format!("its start function broke: {ruin}")));
                }
                Err(_) => return Err(refused(format!("it took more than {START:?}"))),
            }
        }
        output.end();
        Ok(instance)
    }

    /// Tells it that no event will come any more.
    pub(super) async fn stop(self) -> Result<Self, String> {
        let Some(lifecycle) = self.guest.lifecycle.clone() else {
            return Ok(self);
        };
        let call = async move |store: &mut Store<State>| lifecycle.call_stop(store).await;
        let ((), instance) = self.outside("stop", call).await?;
        Ok(instance)
    }

    /// What it hands to its successor. None when there is nothing.
    pub(super) async fn save(mut self) -> Result<Option<Snapshot>, String> {
        let Some(snapshot) = self.guest.snapshot.clone() else {
            return Ok(None);
        };
        let most = self.app.settings.limits.snapshot;
        // What is somewhat too large is measured, and what is far too large not even taken in.
        self.store.set_hostcall_fuel(most.saturating_mul(2).max(LEAST_FUEL));
        let call = async move |store: &mut Store<State>| snapshot.call_save(store).await;
        let (saved, _) = self.outside("save", call).await?;
        let saved = saved.map_err(|reason| format!("save: {reason}"))?;
        let size = saved.schema.len() + saved.data.len();
        if size > most {
            let most = in_words(most);
            return Err(format!(
                "save: a state of {size} bytes is larger than the limit of {most}: save less, or raise limits.snapshot"
            ));
        }
        Ok((size > 0).then_some(Snapshot {
            schema: saved.schema,
            data: saved.data,
        }))
    }

    /// Gives it what its predecessor saved.
    pub(super) async fn load(self, state: &Snapshot) -> Result<Self, String> {
        let Some(snapshot) = self.guest.snapshot.clone() else {
            return Err("load: it is not exported".to_owned());
        };
        let call = async move |store: &mut Store<State>| {
            let state = StateParam {
                schema: &state.schema,
                data: &state.data,
            };
            snapshot.call_load(store, state).await
        };
        let (loaded, instance) = self.outside("load", call).await?;
        loaded.map_err(|reason| format!("load: {reason}"))?;
        Ok(instance)
    }

    /// A call outside of an event, with an event's time. An instance that broke in it is gone.
    async fn outside<T>(
        mut self,
        function: &str,
        call: impl AsyncFnOnce(&mut Store<State>) -> wasmtime::Result<T>,
    ) -> Result<(T, Self), String> {
        let limit = self.app.settings.limits.time;
        let deadline = self.store.data_mut().begin_outside(limit);
        self.store.set_epoch_deadline(1);
        let calling = AssertUnwindSafe(call(&mut self.store)).catch_unwind();
        let answer = tokio::time::timeout_at((deadline + GRACE).into(), calling).await;
        let output = &self.store.data().output;
        output.end();
        let reason = match answer {
            Ok(Ok(Ok(answer))) => return Ok((answer, self)),
            Ok(Ok(Err(error))) => Ruin::of(&error, output.stderr_tail()).to_string(),
            Ok(Err(panic)) => format!("the host panicked: {}", words_of(&*panic)),
            Err(_) => format!("time limit of {limit:?} reached while it waited for the host"),
        };
        Err(format!("{function}: {reason}"))
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
        let state = self.store.data_mut();
        let deadline = state.begin(job.id, event);
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
            let calling = self.guest.handler.call_handle(&mut self.store, call, context);
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
        let effects = state.call.take_effects();
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
    let limits = &app.settings.limits;
    // What arrives is counted with its lists and headers, so a payload at its limit is a little more than that.
    limits.bytes.max(limits.payload).saturating_mul(2).max(LEAST_FUEL)
}

fn report(app: &App, number: u32, job: &Job, ruin: Ruin) -> Report {
    let kind = match &job.event.kind {
        EventKind::Message { event, .. } => format!("message {event:?}"),
        kind => kind.word().to_owned(),
    };
    Report {
        app: app.settings.namespace.clone(),
        release: app.release.to_string(),
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
