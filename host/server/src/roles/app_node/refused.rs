//! The last clients of a partition that were not let in.

use std::collections::VecDeque;

use plugnode_message::{Event, EventKind, Namespace, SessionId};

/// How many are remembered.
const MOST: usize = 256;

/// A client of any namespace.
pub(super) type ClientKey = (Namespace, SessionId);

/// The last clients of a partition that were refused. The log gives out no more of them, but may have given it out already.
#[derive(Debug, Default)]
pub(super) struct Refused(VecDeque<ClientKey>);

impl Refused {
    pub(super) fn remember(&mut self, client: ClientKey) {
        self.0.push_back(client);
        if self.0.len() > MOST {
            self.0.pop_front();
        }
    }

    /// Whether this event is the disconnect of one of them, which nobody is to hear of.
    pub(super) fn has_end(&self, client: &ClientKey, event: &Event) -> bool {
        matches!(event.kind, EventKind::Disconnect(_)) && self.0.contains(client)
    }
}
