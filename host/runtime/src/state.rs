//! What an instance's Store holds: what is the app's, what is the instance's, and what is the present event's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::component::ResourceTable;
use wasmtime_wasi::WasiCtx;
use wasmtime_wasi_config::WasiConfigVariables;

use super::capability::{OutgoingHttp, View, closed_wasi};
use super::memory::MemoryLimit;
use super::output::Output;
use super::script::Script;
use super::settings::AppSettings;
use plugnode_message::{Client, Command, Effects, Event, EventId, EventKind, KeyChange, Namespace, Refusal};

/// What all instances of a pool share.
pub(super) struct App {
    pub(super) settings: AppSettings,
    pub(super) config: WasiConfigVariables,
    pub(super) script: Script,
    pub(super) release: Arc<str>,
    pub(super) digest: String,
}

/// The data of a Store.
pub(super) struct State {
    pub(super) app: Arc<App>,
    pub(super) instance: u32,
    pub(super) call: Call,
    pub(super) memory: MemoryLimit,
    pub(super) output: Output,
    pub(super) table: ResourceTable,
    pub(super) wasi: WasiCtx,
    pub(super) http: OutgoingHttp,
}

/// What is the present event's, or the present call's outside of one, and begins anew with each.
pub(super) struct Call {
    /// What it has asked for so far.
    pub(super) effects: Effects,
    /// What it has read of the key-value store and written to it.
    pub(super) view: View,
    /// The event: outside of one nothing can be asked for or written.
    pub(super) event: Option<EventId>,
    /// The time it has,
    pub(super) limit: Duration,
    /// and when that is used up.
    pub(super) deadline: Instant,
    /// The namespace of its client.
    pub(super) namespace: Namespace,
    /// Its client, if it has one.
    pub(super) client: Option<Client>,
    /// Whether it is the last of its client,
    pub(super) is_last: bool,
    /// whether its client waits to be admitted,
    pub(super) is_at_the_door: bool,
    /// and is not.
    pub(super) refusal: Option<Refusal>,
    /// What the host could not give it, when there was such a thing: then nothing that it did counts.
    pub(super) absence: Option<Absence>,
    commands_left: usize,
    bytes_left: usize,
}

/// An event that has used up its commands or bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct QuotaExceeded;

/// What the host could not give an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Absence {
    /// What it was, and why.
    pub(super) words: String,
    /// When it was asked for, if it only did not come in time: then the event may have asked for too much.
    pub(super) late_since: Option<Instant>,
}

/// Why a write was not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// There is nothing that it could be committed with.
    #[error("there is no event that this write could belong to: write while one is handled")]
    NoEvent,
    /// There are too many, or they are too large.
    #[error("this event has used up the writes or bytes that the app's limits allow")]
    QuotaExceeded,
    /// The value is too large.
    #[error(
        "a value of {size} bytes is over the app's limit of {most}: store less under one key, or raise limits.value"
    )]
    TooLarge { size: usize, most: usize },
    /// What it rests on cannot be checked.
    #[error("this event has read more than {0} keys, and so cannot write: read less, or raise limits.commands")]
    ReadTooMuch(usize),
    /// It cannot be done to the value that is there.
    #[error("{0}")]
    Impossible(String),
}

/// How much later than the clock within WebAssembly the one around the whole call ends it. The former knows where the
/// handler was, so it comes first; the latter ends a handler that waits within a call to the host.
pub(super) const GRACE: Duration = Duration::from_millis(50);
/// Objects of the host that an instance may hold. Enough for any handler, and too few to hurt.
const RESOURCES: usize = 10_000;

impl State {
    pub(super) fn new(app: Arc<App>, instance: u32) -> Self {
        let output = Output::new(app.settings.namespace.clone(), instance);
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES);
        Self {
            instance,
            call: Call::new(&app, Instant::now()),
            memory: MemoryLimit::new(app.settings.limits.memory),
            wasi: closed_wasi(&output),
            output,
            table,
            http: OutgoingHttp::new(&app),
            app,
        }
    }

    /// Begins an event, and says when it has to have ended.
    pub(super) fn begin(&mut self, id: EventId, event: &Event, now: Instant) -> Instant {
        let limit = self.app.settings.limits.time;
        self.call = Call {
            namespace: event.namespace.clone(),
            client: event.client.clone(),
            is_last: matches!(event.kind, EventKind::Disconnect(_)),
            is_at_the_door: self.app.settings.admission && matches!(event.kind, EventKind::Connection(_)),
            event: Some(id),
            ..Call::new(&self.app, now)
        };
        self.output.begin(Some(id));
        self.give(limit, now)
    }

    /// Begins a call outside of an event, and says when it has to have ended.
    pub(super) fn begin_outside(&mut self, limit: Duration) -> Instant {
        let now = Instant::now();
        self.call = Call::new(&self.app, now);
        self.output.begin(None);
        self.give(limit, now)
    }

    fn give(&mut self, limit: Duration, now: Instant) -> Instant {
        let deadline = now + limit;
        self.call.limit = limit;
        self.set_deadline(deadline);
        deadline
    }

    pub(super) fn set_deadline(&mut self, deadline: Instant) {
        self.call.deadline = deadline;
        self.http.set_deadline(deadline);
    }
}

impl Call {
    fn new(app: &App, now: Instant) -> Self {
        let settings = &app.settings;
        Self {
            effects: Effects::default(),
            view: View::default(),
            event: None,
            limit: Duration::ZERO,
            deadline: now,
            namespace: settings.namespace.clone(),
            client: None,
            is_last: false,
            is_at_the_door: false,
            refusal: None,
            absence: None,
            commands_left: settings.limits.commands,
            bytes_left: settings.limits.bytes,
        }
    }

    /// Notes a command of that size.
    pub(super) fn command(&mut self, command: Command, size: usize) -> Result<(), QuotaExceeded> {
        self.charge(size)?;
        self.effects.commands.push(command);
        Ok(())
    }

    /// Notes a write to a key-value bucket.
    pub(super) fn write(&mut self, write: KeyChange) -> Result<(), Refused> {
        self.charge(write.bucket.len() + write.key.len() + write.change.size())
            .map_err(|QuotaExceeded| Refused::QuotaExceeded)?;
        self.view.write(write).map_err(Refused::Impossible)
    }

    /// Refuses the client, instead of whatever was asked for otherwise.
    pub(super) fn refuse(&mut self, refusal: Refusal, size: usize) -> Result<(), QuotaExceeded> {
        self.charge(size)?;
        self.refusal = Some(refusal);
        Ok(())
    }

    /// What it leads to. The verdict on a client that waits for one comes first.
    pub(super) fn take_effects(&mut self) -> Effects {
        let mut effects = std::mem::take(&mut self.effects);
        (effects.writes, effects.reads) = self.view.take();
        let Some(client) = self.client.as_ref().filter(|_| self.is_at_the_door) else {
            return effects;
        };
        let admit = Command::Admit {
            namespace: self.namespace.clone(),
            client: client.id.clone(),
            refusal: self.refusal.take(),
        };
        if admit.is_refusal() {
            effects.commands.clear();
        }
        effects.commands.insert(0, admit);
        effects
    }

    fn charge(&mut self, size: usize) -> Result<(), QuotaExceeded> {
        if self.commands_left == 0 || self.bytes_left < size {
            return Err(QuotaExceeded);
        }
        self.commands_left -= 1;
        self.bytes_left -= size;
        Ok(())
    }
}
