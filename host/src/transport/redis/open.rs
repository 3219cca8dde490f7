//! How many events of each client were taken in and are not committed yet, as its io-node counts them: it takes them in
//! itself, and hears of commits by its outbox.

use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;

use crate::ids::ById;

/// The open events of an io-node's clients.
#[derive(Default)]
pub(super) struct Open(Mutex<ById<Bytes, usize>>);

impl Open {
    /// Counts an event of a client, unless it has so many already.
    pub(super) fn take(&self, client: &Bytes, most: usize) -> bool {
        let mut open = self.counts();
        match open.get_mut(client) {
            Some(count) if *count >= most => return false,
            Some(count) => *count += 1,
            None => drop(open.insert(client.clone(), 1)),
        }
        true
    }

    /// Some events of a client are open no longer, or were not taken in after all.
    pub(super) fn give_back(&self, client: &Bytes, events: usize) {
        let mut open = self.counts();
        // A client that has left is not counted any more.
        if let Some(count) = open.get_mut(client) {
            *count = count.saturating_sub(events);
            if *count == 0 {
                open.remove(client);
            }
        }
    }

    /// A client has left: there will be no other event of it.
    pub(super) fn forget(&self, client: &Bytes) {
        self.counts().remove(client);
    }

    /// What is open is not known any more.
    pub(super) fn forget_all(&self) {
        self.counts().clear();
    }

    fn counts(&self) -> MutexGuard<'_, ById<Bytes, usize>> {
        self.0.lock().expect("nothing panics while it holds this lock")
    }
}
