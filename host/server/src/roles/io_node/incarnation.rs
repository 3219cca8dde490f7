//! One stay of this io-node in the cluster, and the gate that lets clients into it.
//!
//! A client belongs to the incarnation in which it connected, and its events have no other way than that one's intake.
//! So when the cluster has taken the incarnation for dead, and told the apps that its clients are gone, nothing that
//! these still do can come up in a later one.

use std::sync::{Arc, RwLock};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;

use super::waiting::Arrival;

/// What comes from the sockets.
pub(super) type Events = UnboundedReceiver<Arrival>;

/// One stay in the cluster.
pub(super) struct Incarnation {
    intake: UnboundedSender<Arrival>,
    over: CancellationToken,
}

/// Lets clients into the present incarnation, while there is one.
pub(super) struct Gate {
    present: RwLock<Arc<Incarnation>>,
}

impl Incarnation {
    fn new() -> (Arc<Self>, Events) {
        let (intake, events) = unbounded_channel();
        let over = CancellationToken::new();
        (Arc::new(Self { intake, over }), events)
    }

    /// Sends an event on its way. The sessions bound how many there are; of an incarnation that is over it goes nowhere.
    pub(super) fn take_in(&self, arrival: Arrival) {
        let _ = self.intake.send(arrival);
    }

    /// Ends it: from here on it takes no client.
    pub(super) fn end(&self) {
        self.over.cancel();
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    /// Completes when it is over.
    pub(super) async fn over(&self) {
        self.over.cancelled().await;
    }
}

impl Gate {
    /// One that is shut.
    pub(super) fn new() -> Arc<Self> {
        let (incarnation, _) = Incarnation::new();
        incarnation.end();
        Arc::new(Self {
            present: RwLock::new(incarnation),
        })
    }

    /// Begins an incarnation. Its events come out here.
    pub(super) fn open(&self) -> (Arc<Incarnation>, Events) {
        let (incarnation, events) = Incarnation::new();
        *self.present.write().expect("nothing panics while it holds this lock") = incarnation.clone();
        (incarnation, events)
    }

    /// The incarnation that a client belongs to which connects now; it may be over.
    pub(super) fn present(&self) -> Arc<Incarnation> {
        self.present
            .read()
            .expect("nothing panics while it holds this lock")
            .clone()
    }

    /// Whether clients are taken.
    pub(super) fn is_open(&self) -> bool {
        !self.present().is_over()
    }
}
