//! What a client was asked and has not answered.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedSender;

use plugnode_message::{Payload, SessionId};
use plugnode_process::metrics;

/// How many requests may be open to one client; of older ones nothing is known any more.
const OPEN: usize = 1_024;

/// The open requests of one client, by the numbers they were given.
#[derive(Default)]
pub(super) struct Requests {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: i64,
    open: BTreeMap<i64, Asked>,
}

/// What becomes of an answer.
pub(super) enum Asked {
    /// It goes to the handler, with this token.
    Reply(Bytes),
    /// It is put together with those of others.
    Collect(UnboundedSender<(SessionId, Payload)>),
}

impl Asked {
    fn is_given_up(&self) -> bool {
        matches!(self, Self::Collect(answers) if answers.is_closed())
    }
}

impl Requests {
    /// Adds a request and gives its number.
    pub(super) fn add(&self, asked: Asked) -> i64 {
        let mut state = self.state();
        if state.open.len() >= OPEN {
            state.open.retain(|_, asked| !asked.is_given_up());
        }
        if state.open.len() >= OPEN {
            state.open.pop_first();
            metrics::ACKS_FORGOTTEN.increment();
        }
        state.last += 1;
        let number = state.last;
        state.open.insert(number, asked);
        number
    }

    /// The request of that number, if it is open; from now on it is not.
    pub(super) fn take(&self, number: i64) -> Option<Asked> {
        self.state().open.remove(&number)
    }

    /// Gives up all of them.
    pub(super) fn clear(&self) {
        self.state().open.clear();
    }

    /// How many are open.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.state().open.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_answered_once_and_the_oldest_are_forgotten_when_there_are_too_many() {
        let requests = Requests::default();
        let reply = || Asked::Reply(Bytes::new());
        let first = requests.add(reply());
        assert!(requests.take(first).is_some());
        assert!(requests.take(first).is_none());
        let oldest = requests.add(reply());
        let numbers: Vec<_> = (0..OPEN).map(|_| requests.add(reply())).collect();
        assert!(requests.take(oldest).is_none());
        assert!(numbers.iter().all(|number| requests.take(*number).is_some()));
    }
}
