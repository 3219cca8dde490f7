//! The clients of a partition that were refused last.

use std::collections::VecDeque;

use super::in_flight::ClientKey;
use plugnode_message::{Event, EventKind};

/// Number of clients that are remembered.
const MAX_CLIENTS: usize = 256;

/// The clients of a partition that were refused last. The transport removes their disconnect events from the log, but the log may
/// have handed one out before.
#[derive(Debug, Default)]
pub(super) struct RefusedClients(VecDeque<ClientKey>);

impl RefusedClients {
    pub(super) fn insert(&mut self, client: ClientKey) {
        self.0.push_back(client);
        if self.0.len() > MAX_CLIENTS {
            self.0.pop_front();
        }
    }

    /// Whether this event is the disconnect of a refused client. No handler gets it.
    pub(super) fn is_disconnect_of_one(&self, client: &ClientKey, event: &Event) -> bool {
        matches!(event.kind, EventKind::Disconnect(_)) && self.0.contains(client)
    }
}
