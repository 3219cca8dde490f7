//! An event of a socket that waits to be accepted by the transport, and its source, which hears of the outcome.

use std::sync::Arc;

use tokio::time::Instant;

use plugnode_message::{Event, EventKind};

/// An event that waits to be accepted by the transport, and its source, which is notified of the outcome.
pub struct PendingEvent {
    /// The event.
    pub event: Event,
    /// Its source.
    pub source: Arc<dyn EventSource>,
    /// When it came.
    pub since: Instant,
}

impl PendingEvent {
    /// An event that came now.
    pub fn new(event: Event, source: Arc<dyn EventSource>) -> Self {
        let since = Instant::now();
        Self { event, source, since }
    }

    /// Whether it is its client's first.
    pub fn is_connection(&self) -> bool {
        matches!(self.event.kind, EventKind::Connection(_))
    }

    /// Whether its client waits for an acknowledgement.
    pub fn asks_for_acknowledgement(&self) -> bool {
        matches!(self.event.kind, EventKind::Message { ack: Some(_), .. })
    }

    /// Notifies the source that the event is dropped.
    pub fn give_up(&self) {
        self.source.event_left(self.event.size());
    }
}

/// The source of events: a socket, or the program that embeds the io-node.
pub trait EventSource: Send + Sync {
    /// An event of `bytes` bytes was accepted or dropped, so it no longer waits.
    fn event_left(&self, bytes: usize);

    /// Whether the source was turned away, so that its waiting events are dropped.
    fn was_turned_away(&self) -> bool;

    /// The connection event of the source was not accepted in time: the app never learns of the source.
    fn turn_away(&self);

    /// This event was not accepted in time. Events that ask for no acknowledgement are never refused.
    fn refuse(&self, event: &Event);
}
