//! The promises that can be broken, and how often that happens.

use std::sync::atomic::{AtomicU64, Ordering};

/// Of so many messages or their effects one is hit,
const MESSAGES: u64 = 50;
/// and of so many connections and disconnects.
const CLIENTS: u64 = 4;

/// What is broken.
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
    /// What was for one client goes to all.
    MisdirectCommand,
    /// The writes of an event are done, its commands are not.
    WritesAlone,
    /// The commands of an event are done, its writes are not.
    CommandsAlone,
    /// A connection is not handled.
    LoseConnection,
    /// A connection is handled twice.
    DoubleConnection,
    /// A disconnect is not handled.
    LoseDisconnect,
    /// A disconnect is handled twice.
    DoubleDisconnect,
    /// A message is refused, and a copy of it that comes late is handled.
    TakeRefused,
    /// An increment of a shared counter is done twice.
    DoubleIncrement,
    /// An increment of a shared counter is written over another that came after its read.
    LoseIncrement,
    /// A client's events do not have the attributes that its earlier ones set.
    StaleAttributes,
    /// The acknowledgement of an event that failed for good is not sent.
    LoseFailure,
    /// A timer is not set.
    LoseTimer,
    /// A timer is due twice.
    DoubleTimer,
}

impl Fault {
    /// Every one, with its name.
    pub(crate) const ALL: [(&str, Self); 22] = [
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
    ];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|(known, _)| *known == name)
            .map(|(_, fault)| fault)
    }
}

/// Whose turn it is to be hit. Counted, so that each run is like another.
#[derive(Debug, Default)]
pub(crate) struct Turns(AtomicU64);

impl Turns {
    pub(crate) fn of_messages(&self) -> bool {
        self.come(MESSAGES)
    }

    pub(crate) fn of_clients(&self) -> bool {
        self.come(CLIENTS)
    }

    fn come(&self, every: u64) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed) % every == every - 1
    }
}
