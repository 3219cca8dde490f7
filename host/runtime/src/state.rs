//! The state of an instance, which is the data of its wasmtime Store: parts that live as long as the instance, and those of
//! the current call.

use std::sync::Arc;
use std::time::{Duration, Instant};

use plugnode_sdk::native::{CallKind, CommandLimits, CommandRules};
use wasmtime::component::ResourceTable;
use wasmtime_wasi::WasiCtx;

use crate::app::App;
use crate::instance::YieldFlag;
use crate::keyvalue_view::KeyValueView;
use crate::memory::MemoryLimit;
use crate::outgoing_http::OutgoingHttp;
use crate::output::{Output, Stream};
use plugnode_message::{Client, Command, Effects, Event, EventId, EventKind, KeyChange, Namespace, Refusal};

/// The state of an instance.
pub(crate) struct InstanceState {
    pub(crate) app: Arc<App>,
    pub(crate) instance: u32,
    pub(crate) call: CallState,
    pub(crate) memory: MemoryLimit,
    pub(crate) output: Output,
    pub(crate) table: ResourceTable,
    pub(crate) wasi: WasiCtx,
    pub(crate) http: OutgoingHttp,
    pub(crate) yields: YieldFlag,
}

/// The state of the current call: of an event, or of a lifecycle or snapshot function, which have no event.
pub(crate) struct CallState {
    /// The commands so far.
    pub(crate) effects: Effects,
    /// The call's reads and writes of the key-value store.
    pub(crate) view: KeyValueView,
    /// The event. Without one, commands and writes are denied.
    pub(crate) event: Option<EventId>,
    /// Time limit of the call.
    pub(crate) limit: Duration,
    /// When the time limit is reached.
    pub(crate) deadline: Instant,
    /// Namespace of the event.
    pub(crate) namespace: Namespace,
    /// Client of the event, if it has one.
    pub(crate) client: Option<Client>,
    /// Kind of the call: it decides which commands are allowed.
    kind: CallKind,
    /// Whether the client waits to be admitted or refused.
    awaits_admission: bool,
    /// The refusal, if the handler refuses the client.
    pub(crate) refusal: Option<Refusal>,
    /// A failure of the host. If there was one, the event's effects are dropped.
    pub(crate) host_failure: Option<HostFailure>,
    commands_left: usize,
    bytes_left: usize,
}

/// The event has used up its commands or bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct QuotaExceeded;

/// A host call that could not be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostFailure {
    /// The failure and its cause.
    pub(crate) reason: String,
    /// When the call began, if it timed out: then the event may have asked for too much.
    pub(crate) timed_out_since: Option<Instant>,
}

/// Why a key-value write was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WriteRefused {
    /// No event is being handled, and so there is no commit that it could be part of.
    #[error("cannot write outside of an event: write while an event is handled")]
    NoEvent,
    /// The event has used up its writes or bytes.
    #[error("this event has used up its writes or bytes: write less, or raise limits.commands or limits.bytes")]
    QuotaExceeded,
    /// The value is too large.
    #[error("{0}")]
    TooLarge(String),
    /// The event has read too many keys for the commit to check.
    #[error("this event has read more than {0} keys, and so cannot write: read less, or raise limits.commands")]
    ReadTooMuch(usize),
    /// The change does not apply to the key's value.
    #[error("{0}")]
    Impossible(String),
}

/// Extra time after the deadline before the host drops the whole call. Epoch interruption comes first, because it has a
/// backtrace; it cannot end a handler that waits in a host call.
pub(crate) const GRACE: Duration = Duration::from_millis(50);
/// Host resources that an instance may hold.
const MAX_RESOURCES: usize = 10_000;

impl InstanceState {
    pub(crate) fn new(app: Arc<App>, instance: u32) -> Self {
        let output = Output::new(app.settings.namespace.clone(), instance);
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        Self {
            instance,
            call: CallState::new(&app, Instant::now()),
            memory: MemoryLimit::new(app.settings.handler.limits.memory),
            wasi: wasi_context(&output),
            output,
            table,
            http: OutgoingHttp::new(&app),
            yields: YieldFlag::default(),
            app,
        }
    }

    /// Begins the call for an event, and returns its deadline.
    pub(crate) fn begin(&mut self, id: EventId, event: &Event, now: Instant) -> Instant {
        let limit = self.app.settings.handler.limits.time;
        self.call = CallState {
            namespace: event.namespace.clone(),
            client: event.client.clone(),
            kind: match event.kind {
                _ if event.client.is_none() => CallKind::WithoutClient,
                EventKind::Connection(_) => CallKind::Connection,
                EventKind::Disconnect(_) => CallKind::Disconnect,
                _ => CallKind::OfClient,
            },
            awaits_admission: self.app.settings.handler.admission && matches!(event.kind, EventKind::Connection(_)),
            event: Some(id),
            ..CallState::new(&self.app, now)
        };
        self.output.begin(Some(id));
        self.set_limit(limit, now)
    }

    /// Begins a call without an event, and returns its deadline.
    pub(crate) fn begin_without_event(&mut self, limit: Duration) -> Instant {
        let now = Instant::now();
        self.call = CallState::new(&self.app, now);
        self.output.begin(None);
        self.set_limit(limit, now)
    }

    /// The rules for commands of the current call.
    pub(crate) fn command_rules(&self) -> CommandRules {
        let limits = &self.app.settings.handler.limits;
        CommandRules {
            call: self.call.kind,
            admission: self.app.settings.handler.admission,
            limits: CommandLimits {
                commands: limits.commands,
                bytes: limits.bytes,
                payload: limits.payload,
                attachments: limits.attachments,
                value: limits.value,
            },
        }
    }

    fn set_limit(&mut self, limit: Duration, now: Instant) -> Instant {
        let deadline = now + limit;
        self.call.limit = limit;
        self.set_deadline(deadline);
        deadline
    }

    pub(crate) fn set_deadline(&mut self, deadline: Instant) {
        self.call.deadline = deadline;
        self.http.set_deadline(deadline);
    }
}

impl CallState {
    fn new(app: &App, now: Instant) -> Self {
        let settings = &app.settings;
        Self {
            effects: Effects::default(),
            view: KeyValueView::default(),
            event: None,
            limit: Duration::ZERO,
            deadline: now,
            namespace: settings.namespace.clone(),
            client: None,
            kind: CallKind::OutsideEvent,
            awaits_admission: false,
            refusal: None,
            host_failure: None,
            commands_left: settings.handler.limits.commands,
            bytes_left: settings.handler.limits.bytes,
        }
    }

    /// Adds a command, which counts for `size` bytes.
    pub(crate) fn add_command(&mut self, command: Command, size: usize) -> Result<(), QuotaExceeded> {
        self.charge(size)?;
        self.effects.commands.push(command);
        Ok(())
    }

    /// Adds a write to a key-value bucket.
    pub(crate) fn add_write(&mut self, write: KeyChange) -> Result<(), WriteRefused> {
        self.charge(write.bucket.len() + write.key.len() + write.change.size())
            .map_err(|QuotaExceeded| WriteRefused::QuotaExceeded)?;
        self.view.write(write).map_err(WriteRefused::Impossible)
    }

    /// Refuses the client, in place of all other commands.
    pub(crate) fn refuse(&mut self, refusal: Refusal, size: usize) -> Result<(), QuotaExceeded> {
        self.charge(size)?;
        self.refusal = Some(refusal);
        Ok(())
    }

    /// Takes the effects. If the client awaits admission, the first command admits or refuses it.
    pub(crate) fn take_effects(&mut self) -> Effects {
        let mut effects = std::mem::take(&mut self.effects);
        (effects.writes, effects.reads) = self.view.take();
        let Some(client) = self.client.as_ref().filter(|_| self.awaits_admission) else {
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

/// A WASI context without arguments, environment, files and network; standard output and error go to the log.
fn wasi_context(output: &Output) -> WasiCtx {
    WasiCtx::builder()
        .stdout(output.writer(Stream::Stdout))
        .stderr(output.writer(Stream::Stderr))
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .build()
}
