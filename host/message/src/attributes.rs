//! Changes of a client's attributes that its own events made.

use serde::{Deserialize, Serialize};

use crate::{Command, EventId, Namespace, SessionId, Text};

/// A committed change of a client's attributes that one of its own events made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttributePatch {
    /// The namespace of the client.
    pub namespace: Namespace,
    /// The client.
    pub client: SessionId,
    /// The sequence of the event in the client's partition.
    pub number: u64,
    /// A JSON merge patch.
    pub patch: Text,
}

impl AttributePatch {
    /// The patch that a command of this event makes, if it is for the event's own client.
    pub fn of(command: &Command, event: EventId) -> Option<Self> {
        match command {
            Command::PatchAttributes {
                namespace,
                client,
                patch,
                number,
            } if *number == event.sequence => Some(Self {
                namespace: namespace.clone(),
                client: client.clone(),
                number: *number,
                patch: patch.clone(),
            }),
            _ => None,
        }
    }
}
