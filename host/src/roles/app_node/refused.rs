//! Clients that were not let in: what they are told when nobody could decide, and which ones a partition has seen last.

use std::collections::VecDeque;

use super::app::App;
use crate::message::{Command, Event, EventKind, Namespace, Refusal, SessionId};

/// How many are remembered.
const MOST: usize = 256;
/// What a client is told that waits to be admitted when its connection cannot be handled.
const UNDECIDED: &str = "the server could not decide";

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

/// What is done for a client although its event could not be handled: one that waits to be admitted is told so.
pub(super) fn last_words(app: &App, event: &Event) -> Vec<Command> {
    match (&event.kind, &event.client) {
        (EventKind::Connection(_), Some(client)) if app.settings.admission => vec![Command::Admit {
            namespace: event.namespace.clone(),
            client: client.id.clone(),
            refusal: Some(Refusal {
                message: UNDECIDED.into(),
                data: None,
            }),
        }],
        _ => Vec::new(),
    }
}
