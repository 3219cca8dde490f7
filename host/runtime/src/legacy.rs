//! What one place of a pool leaves to the place of the same number in its heir.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::seen::Key;

/// What an instance had in memory, as it saved it.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// What the data is, by the handler's own name for it.
    pub(super) schema: String,
    pub(super) data: Vec<u8>,
}

/// What is left to a place that begins.
#[derive(Debug)]
pub(super) enum Legacy {
    /// Nothing: there was none, or there is no way to carry it.
    Nothing,
    /// What the instance had in memory, and whom it had seen.
    State(Snapshot, Vec<Key>),
    /// Nothing, although there was something, for this reason.
    Refused(String),
}

/// One place's ends: where its own legacy comes from, and where it leaves its own.
#[derive(Debug)]
pub(super) struct Estate(Mutex<Ends>);

#[derive(Debug)]
struct Ends {
    /// Has this place begin. None once it has begun, or a predecessor is to see to it.
    begin: Option<oneshot::Sender<Legacy>>,
    /// Has the place after this one begin.
    heir: Option<oneshot::Sender<Legacy>>,
    is_over: bool,
}

impl Estate {
    /// Of a place that begins when it is told to by this sender, or has begun already.
    pub(super) fn new(begin: Option<oneshot::Sender<Legacy>>) -> Self {
        Self(Mutex::new(Ends {
            begin,
            heir: None,
            is_over: false,
        }))
    }

    /// What has this place begin; dropped, it ends without having begun. None when that is settled already.
    pub(super) fn take_begin(&self) -> Option<oneshot::Sender<Legacy>> {
        self.ends().begin.take()
    }

    /// From here on, this is what is waited for by the place after this one.
    pub(super) fn set_heir(&self, heir: oneshot::Sender<Legacy>) {
        let mut ends = self.ends();
        if ends.is_over {
            // It may have been retired meanwhile, and then does not want to know.
            let _ = heir.send(Legacy::Nothing);
            return;
        }
        ends.heir = Some(heir);
    }

    /// Whether somebody waits for this place's legacy.
    pub(super) fn has_heir(&self) -> bool {
        self.ends().heir.is_some()
    }

    /// Leaves this to the place after this one, if there is one. Only the first time counts.
    pub(super) fn leave(&self, legacy: Legacy) {
        let mut ends = self.ends();
        ends.is_over = true;
        if let Some(heir) = ends.heir.take() {
            let _ = heir.send(legacy);
        }
    }

    fn ends(&self) -> MutexGuard<'_, Ends> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
