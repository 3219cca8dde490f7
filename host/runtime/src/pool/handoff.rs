//! Hand-off of one slot of a pool to the slot with the same number in the successor.

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::seen_clients::ClientKey;
use crate::guest::Snapshot;

/// The state that a slot receives from its predecessor when it starts.
#[derive(Debug)]
pub(super) enum Handoff {
    /// No state: there was none, or the components cannot carry it.
    Nothing,
    /// The state of the instance, and the clients that it had seen.
    State(Snapshot, Vec<ClientKey>),
    /// No state, although there was some, for this reason.
    Refused(String),
}

/// Both ends of a slot: the channel that starts it, and the one that starts its successor.
#[derive(Debug)]
pub(super) struct SlotHandoff(Mutex<Ends>);

#[derive(Debug)]
struct Ends {
    /// Starts this slot. None once it has started, or when a predecessor has the sender.
    starter: Option<oneshot::Sender<Handoff>>,
    /// Starts the successor.
    successor: Option<oneshot::Sender<Handoff>>,
    has_ended: bool,
}

impl SlotHandoff {
    /// For a slot that is started by this sender, or has already started.
    pub(super) fn new(starter: Option<oneshot::Sender<Handoff>>) -> Self {
        Self(Mutex::new(Ends {
            starter,
            successor: None,
            has_ended: false,
        }))
    }

    /// Takes the sender that starts this slot. If it is dropped, the slot ends without having started. None if it was taken.
    pub(super) fn take_starter(&self) -> Option<oneshot::Sender<Handoff>> {
        self.0.lock().starter.take()
    }

    /// Sets the successor, which starts when this slot ends; at once if it has ended.
    pub(super) fn set_successor(&self, successor: oneshot::Sender<Handoff>) {
        let mut ends = self.0.lock();
        if ends.has_ended {
            // The send fails if the successor was retired meanwhile.
            let _ = successor.send(Handoff::Nothing);
            return;
        }
        ends.successor = Some(successor);
    }

    /// Whether a successor waits for this slot.
    pub(super) fn has_successor(&self) -> bool {
        self.0.lock().successor.is_some()
    }

    /// The slot ends: starts the successor, if there is one. Only the first call counts.
    pub(super) fn complete(&self, handoff: Handoff) {
        let mut ends = self.0.lock();
        ends.has_ended = true;
        if let Some(successor) = ends.successor.take() {
            let _ = successor.send(handoff);
        }
    }
}
