//! The faults, and how often they occur.

use std::sync::atomic::{AtomicU64, Ordering};

/// One of this many messages, or of their effects, is hit.
const MESSAGE_INTERVAL: u64 = 50;
/// One of this many connections, disconnects and other rare events is hit.
const CLIENT_INTERVAL: u64 = 4;

/// A broken promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// An accepted message is not handled.
    LoseEvent,
    /// A message is handled twice.
    DoubleEvent,
    /// A message is handled after the one that its client sent next.
    SwapEvents,
    /// A message is handled after its client's disconnect.
    LateEvent,
    /// A message is handled and has no effects.
    LoseEffects,
    /// One command of an event is not carried out.
    LoseCommand,
    /// One command of an event is carried out twice.
    DoubleCommand,
    /// Two commands of an event are carried out in the other order.
    SwapCommands,
    /// A command for one client goes to all clients.
    MisdirectCommand,
    /// The writes of an event are committed without its commands.
    WritesAlone,
    /// The commands of an event are committed without its writes.
    CommandsAlone,
    /// A connection is not handled.
    LoseConnection,
    /// A connection is handled twice.
    DoubleConnection,
    /// A disconnect is not handled.
    LoseDisconnect,
    /// A disconnect is handled twice.
    DoubleDisconnect,
    /// A message is refused, and a late copy of it is handled.
    TakeRefused,
    /// A shared counter is incremented twice.
    DoubleIncrement,
    /// An increment of a shared counter overwrites one that was committed after its read.
    LoseIncrement,
    /// A client's events lack the attributes that earlier events have set.
    StaleAttributes,
    /// The acknowledgement of an event that failed for good is not sent.
    LoseFailure,
    /// A timer is not set.
    LoseTimer,
    /// A timer fires twice.
    DoubleTimer,
    /// A call of the server API is accepted and not carried out.
    LoseCall,
    /// A call of the server API whose outcome the caller does not learn is carried out again when it is repeated.
    DoubleCall,
    /// A call of the server API is carried out after the next one of its order.
    SwapCalls,
}

impl Fault {
    /// All faults with their names.
    pub(crate) const ALL: [(&str, Self); 25] = [
        ("lose-event", Self::LoseEvent),
        ("double-event", Self::DoubleEvent),
        ("swap-events", Self::SwapEvents),
        ("late-event", Self::LateEvent),
        ("lose-effects", Self::LoseEffects),
        ("lose-command", Self::LoseCommand),
        ("double-command", Self::DoubleCommand),
        ("swap-commands", Self::SwapCommands),
        ("misdirect-command", Self::MisdirectCommand),
        ("writes-alone", Self::WritesAlone),
        ("commands-alone", Self::CommandsAlone),
        ("lose-connection", Self::LoseConnection),
        ("double-connection", Self::DoubleConnection),
        ("lose-disconnect", Self::LoseDisconnect),
        ("double-disconnect", Self::DoubleDisconnect),
        ("take-refused", Self::TakeRefused),
        ("double-increment", Self::DoubleIncrement),
        ("lose-increment", Self::LoseIncrement),
        ("stale-attributes", Self::StaleAttributes),
        ("lose-failure", Self::LoseFailure),
        ("lose-timer", Self::LoseTimer),
        ("double-timer", Self::DoubleTimer),
        ("lose-call", Self::LoseCall),
        ("double-call", Self::DoubleCall),
        ("swap-calls", Self::SwapCalls),
    ];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|(known, _)| *known == name)
            .map(|(_, fault)| fault)
    }
}

/// Decides which events are hit, by counting them, so that runs are reproducible.
#[derive(Debug, Default)]
pub(crate) struct HitCounter(AtomicU64);

impl HitCounter {
    pub(crate) fn hits_message(&self) -> bool {
        self.is_hit(MESSAGE_INTERVAL)
    }

    pub(crate) fn hits_client(&self) -> bool {
        self.is_hit(CLIENT_INTERVAL)
    }

    fn is_hit(&self, every: u64) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed) % every == every - 1
    }
}
