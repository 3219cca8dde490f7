//! A live instance of a handler, which handles one event at a time. Before the first and after the last there are the calls
//! by which it begins, ends, and hands over what it has in memory. What runs its code is its `body`.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tracing::Instrument;

use super::bindings::plugnode::app::types as wit;
use super::body::Body;
use super::engine::{Component, Room};
use super::failure::{Failure, Report, Ruin};
use super::job::Job;
use super::legacy::Snapshot;
use super::load_error::LoadError;
use super::lower::Lowered;
use super::output::Output;
use super::settings::in_words;
use super::state::{Absence, App, GRACE, State};
use plugnode_message::{Effects, EventKind};

/// How long the making of an instance may take: interpreters do a lot before their first event.
const START: Duration = Duration::from_secs(10);

/// A handler at work.
pub(super) struct Instance {
    body: Body,
    output: Output,
    app: Arc<App>,
    number: u32,
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
        let mut state = State::new(app.clone(), number);
        let deadline = state.begin_outside(START);
        let output = state.output.clone();
        let starting = Body::start(component.code(), state, place);
        let started = tokio::time::timeout_at((deadline + GRACE).into(), starting).await;
        output.end();
        let cause = match started {
            Ok(Ok(body)) => {
                return Ok(Self {
                    body,
                    output,
                    app: app.clone(),
                    number,
                });
            }
            Ok(Err(cause)) => cause,
            Err(_) => format!("it took more than {START:?}"),
        };
        Err(match component.is_native() {
            true => LoadError::StartNative { cause },
            false => LoadError::Start { cause },
        })
    }

    /// Tells it that no event will come any more.
    pub(super) async fn stop(self) -> Result<Self, String> {
        if !self.body.has_lifecycle() {
            return Ok(self);
        }
        let ((), instance) = self.outside("stop", async |body| body.stop().await).await?;
        Ok(instance)
    }

    /// What it hands to its successor. None when there is nothing.
    pub(super) async fn save(self) -> Result<Option<Snapshot>, String> {
        if !self.body.has_snapshot() {
            return Ok(None);
        }
        let most = self.app.settings.limits.snapshot;
        let (saved, _) = self.outside("save", async move |body| body.save(most).await).await?;
        let saved = saved.map_err(|reason| format!("save: {reason}"))?;
        let size = saved.schema.len() + saved.data.len();
        if size > most {
            let most = in_words(most);
            return Err(format!(
                "save: a state of {size} bytes is larger than the limit of {most}: save less, or raise limits.snapshot"
            ));
        }
        Ok((size > 0).then_some(saved))
    }

    /// Gives it what its predecessor saved.
    pub(super) async fn load(self, state: &Snapshot) -> Result<Self, String> {
        if !self.body.has_snapshot() {
            return Err("load: it is not exported".to_owned());
        }
        let (loaded, instance) = self.outside("load", async |body| body.load(state).await).await?;
        loaded.map_err(|reason| format!("load: {reason}"))?;
        Ok(instance)
    }

    /// A call outside of an event, with an event's time. An instance that broke in it is gone.
    async fn outside<T>(
        mut self,
        function: &str,
        call: impl AsyncFnOnce(&mut Body) -> Result<T, Ruin>,
    ) -> Result<(T, Self), String> {
        let limit = self.app.settings.limits.time;
        let deadline = self.body.state().begin_outside(limit);
        let calling = AssertUnwindSafe(call(&mut self.body)).catch_unwind();
        let answer = tokio::time::timeout_at((deadline + GRACE).into(), calling).await;
        self.output.end();
        let reason = match answer {
            Ok(Ok(Ok(answer))) => return Ok((answer, self)),
            Ok(Ok(Err(ruin))) => ruin.to_string(),
            Ok(Err(panic)) => format!("the host panicked: {}", words_of(&*panic)),
            Err(_) => self.body.too_late(limit),
        };
        Err(format!("{function}: {reason}"))
    }

    /// Handles an event, whose time begins at `begun`, and the introduction of its client before it if there has to be one.
    /// An instance that broke is gone: nothing may enter it again.
    pub(super) async fn handle(
        self,
        job: &Job,
        introduce: bool,
        begun: Instant,
    ) -> (Result<Effects, Failure>, Option<Self>) {
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
        // In its place: a future that is handed on is copied each time, and this is a large one.
        let handling = pin!(self.try_handle(job, introduce, begun));
        let handled = AssertUnwindSafe(handling).catch_unwind().instrument(span).await;
        let ruin = match handled {
            Ok(Ok((instance, result))) => return (result, Some(instance)),
            Ok(Err(ruin)) => ruin,
            Err(panic) => Ruin::without_trace(format!("the host panicked: {}", words_of(&*panic)), String::new()),
        };
        if let Some(absence) = ruin.absence {
            return (Err(found_out(&app, absence).await), None);
        }
        (Err(Failure::Broken(Box::new(report(&app, number, job, ruin)))), None)
    }

    async fn try_handle(
        mut self,
        job: &Job,
        introduce: bool,
        begun: Instant,
    ) -> Result<(Self, Result<Effects, Failure>), Ruin> {
        let event = &*job.event;
        let limit = self.app.settings.limits.time;
        let deadline = self.body.state().begin(job.id, event, begun);
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
                "a {} without a client",
                event.kind.word()
            ))),
        };
        let app = self.app.clone();
        for (number, call) in calls.enumerate() {
            if answer.is_err() {
                break;
            }
            let now = if number == 0 { begun } else { Instant::now() };
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
                let calling = pin!(self.body.handle(call, context));
                tokio::time::timeout_at((deadline + GRACE).into(), calling).await
            };
            answer = match called {
                Ok(Ok(answer)) => answer,
                Ok(Err(ruin)) => return Err(self.ruined(ruin)),
                Err(_) => {
                    let ruin = Ruin::without_trace(self.body.too_late(limit), self.output.stderr_tail());
                    return Err(self.ruined(ruin));
                }
            };
        }
        self.output.end();
        let state = self.body.state();
        let effects = state.call.take_effects();
        if let Some(absence) = state.call.absence.take() {
            return Ok((self, Err(found_out(&app, absence).await)));
        }
        let result = match answer {
            Ok(()) => Ok(effects),
            Err(wit::HandlerError::Reject(reason)) => Err(Failure::Reject(reason)),
            Err(wit::HandlerError::Retry(reason) | wit::HandlerError::Other(reason)) => Err(Failure::Retry(reason)),
        };
        Ok((self, result))
    }

    fn ruined(&self, ruin: Ruin) -> Ruin {
        self.output.end();
        Ruin {
            absence: self.body.absence(),
            ..ruin
        }
    }
}

/// Whether what an event was not given was not to be had, or was too much for its time.
async fn found_out(app: &App, absence: Absence) -> Failure {
    let Absence { words, late_since } = absence;
    let is_too_much = match late_since {
        Some(asked) => app.settings.key_value.has_answered_since(asked).await,
        None => false,
    };
    match is_too_much {
        true => Failure::TooMuch(format!(
            "{words}, though it answers others: the event reads too much for the {:?} that it has",
            app.settings.limits.time
        )),
        false => Failure::Unavailable(words),
    }
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
