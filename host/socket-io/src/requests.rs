//! Events with an acknowledgement that one client was sent and has not acknowledged.

use std::collections::BTreeMap;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedSender;

use plugnode_message::{Payload, SessionId};
use plugnode_process::metrics;

/// Requests that may be open to one client. Beyond that, the oldest is forgotten.
const MAX_OPEN: usize = 1_024;

/// The open requests of one client, by acknowledgement id.
#[derive(Default)]
pub struct Requests {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last_id: i64,
    open: BTreeMap<i64, ReplyTo>,
}

/// The recipient of an acknowledgement.
pub enum ReplyTo {
    /// The handler, with this token.
    Handler(Bytes),
    /// A question to many clients, which collects their acknowledgements.
    Collector(UnboundedSender<(SessionId, Payload)>),
}

impl ReplyTo {
    fn is_given_up(&self) -> bool {
        matches!(self, Self::Collector(answers) if answers.is_closed())
    }
}

impl Requests {
    /// Opens a request and returns its acknowledgement id.
    pub(crate) fn open(&self, reply_to: ReplyTo) -> i64 {
        let mut state = self.state.lock();
        if state.open.len() >= MAX_OPEN {
            state.open.retain(|_, reply_to| !reply_to.is_given_up());
        }
        if state.open.len() >= MAX_OPEN {
            state.open.pop_first();
            metrics::ACKS_FORGOTTEN.increment();
        }
        state.last_id += 1;
        let id = state.last_id;
        state.open.insert(id, reply_to);
        id
    }

    /// Closes the request with this id. None if it is not open.
    pub fn close(&self, id: i64) -> Option<ReplyTo> {
        self.state.lock().open.remove(&id)
    }

    /// Closes all requests.
    pub(crate) fn close_all(&self) {
        self.state.lock().open.clear();
    }

    /// The number of open requests.
    pub fn len(&self) -> usize {
        self.state.lock().open.len()
    }

    /// Whether no request is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_requests_once_and_forgets_the_oldest() {
        let requests = Requests::default();
        let handler = || ReplyTo::Handler(Bytes::new());
        let first = requests.open(handler());
        assert!(requests.close(first).is_some());
        assert!(requests.close(first).is_none());
        let oldest = requests.open(handler());
        let ids: Vec<_> = (0..MAX_OPEN).map(|_| requests.open(handler())).collect();
        assert!(requests.close(oldest).is_none());
        assert!(ids.iter().all(|id| requests.close(*id).is_some()));
    }
}
