//! Events as they stand in the log: readable, of another version, or broken.

use std::sync::Arc;

use bytes::Bytes;

use crate::batch;
use crate::wire::{DecodeError, LetterContent, StoredLetter, decode};
use plugnode_message::{Event, EventId, now_ms};
use plugnode_transport::DeadLetterCause;

/// An event of the log.
pub(crate) struct LogEvent {
    pub(crate) number: u64,
    /// Size in the log, in bytes.
    pub(crate) bytes: usize,
    /// The event; or its bytes and why they cannot be read.
    pub(crate) event: Result<Arc<Event>, (Bytes, DecodeError)>,
}

/// Consecutive events of a partition.
pub(crate) struct ReadEvents {
    pub(crate) events: Vec<LogEvent>,
    /// The partition has no further events up to this number.
    pub(crate) up_to: u64,
}

impl LogEvent {
    /// An event of a batch with this version.
    pub(crate) fn new(number: u64, version: u8, encoded: Bytes) -> Self {
        let bytes = encoded.len();
        let event = match version {
            batch::VERSION => decode::<Event>(&encoded),
            other => Err(DecodeError::Version(other)),
        };
        let event = event.map(Arc::new).map_err(|reason| (encoded, reason));
        Self { number, bytes, event }
    }

    /// An event that was set aside: a field of the hash `kept`, and its value, a batch of one event.
    pub(crate) fn set_aside(field: &str, value: &Bytes) -> Option<Self> {
        let number = field.split(':').nth(1)?.parse().ok()?;
        Some(match batch::read(value) {
            Ok(mut batch) => Self::new(number, batch.version, batch.events.remove(0).1),
            Err(reason) => Self {
                number,
                bytes: value.len(),
                event: Err((value.clone(), reason.into())),
            },
        })
    }
}

/// Dead letter for bytes that are no event.
pub(crate) fn foreign_letter(id: EventId, content: Bytes, reason: &str) -> StoredLetter {
    StoredLetter {
        id,
        cause: DeadLetterCause {
            reason: format!("not an event: {reason}"),
            attempts: 0,
            release: None,
            app: None,
        },
        died_at_ms: now_ms(),
        content: LetterContent::Foreign(content),
    }
}
