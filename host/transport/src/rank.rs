//! Which of two conflicting events goes first.

use std::fmt;

use plugnode_message::{Event, EventId};

/// The rank of an event: of two conflicting events, the one that was received earlier goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    received_at_ms: u64,
    id: EventId,
}

/// Sorts as text in the same order as the ranks.
impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:015}-{}", self.received_at_ms, self.id)
    }
}

impl Rank {
    /// The rank of an event.
    pub fn of(id: EventId, event: &Event) -> Self {
        let received_at_ms = event.received_at_ms;
        Self { received_at_ms, id }
    }
}
