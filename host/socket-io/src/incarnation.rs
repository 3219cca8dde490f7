//! One membership of this io-node in the cluster, from joining to losing it, and the way of its sockets' events into it.
//!
//! A socket belongs to the incarnation in which it connected, and its events go to that incarnation only. When the cluster has declared the
//! incarnation dead and has told the apps that its clients are gone, nothing that these clients still send can reach a later one.

use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;

use plugnode_message::Event;

/// An event, and its source, which is notified of the outcome.
pub struct Arrival {
    /// The event.
    pub event: Event,
    /// Its source.
    pub source: Arc<dyn EventSource>,
}

/// The source of events: a socket, or the program that embeds the io-node.
pub trait EventSource: Send + Sync {
    /// An event of `bytes` bytes was accepted or dropped, so it no longer waits.
    fn event_left(&self, bytes: usize);

    /// Whether the source was turned away, so that its waiting events are dropped.
    fn was_turned_away(&self) -> bool;

    /// The connection event of the source was not accepted in time: the app never learns of the source.
    fn turn_away(&self);

    /// This event was not accepted in time. Events that ask for no acknowledgement are never refused.
    fn refuse(&self, event: &Event);
}

/// The events of an incarnation.
pub type Arrivals = UnboundedReceiver<Arrival>;

/// One membership in the cluster.
pub struct Incarnation {
    arrivals: UnboundedSender<Arrival>,
    over: CancellationToken,
}

/// The current incarnation, if the io-node is a member.
pub struct CurrentIncarnation(RwLock<Arc<Incarnation>>);

impl Incarnation {
    fn new() -> (Arc<Self>, Arrivals) {
        let (arrivals, receiver) = unbounded_channel();
        let over = CancellationToken::new();
        (Arc::new(Self { arrivals, over }), receiver)
    }

    /// Queues an event. Backpressure on connections bounds how many wait; an incarnation that is over drops it.
    pub fn queue(&self, arrival: Arrival) {
        let _ = self.arrivals.send(arrival);
    }

    /// Ends it: no socket connects in it any more.
    pub fn end(&self) {
        self.over.cancel();
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    /// Completes when it is over.
    pub async fn over(&self) {
        self.over.cancelled().await;
    }
}

impl CurrentIncarnation {
    /// None yet: an incarnation that is over.
    pub fn none() -> Arc<Self> {
        let (incarnation, _) = Incarnation::new();
        incarnation.end();
        Arc::new(Self(RwLock::new(incarnation)))
    }

    /// Begins an incarnation.
    pub fn begin(&self) -> (Arc<Incarnation>, Arrivals) {
        let (incarnation, arrivals) = Incarnation::new();
        *self.0.write() = incarnation.clone();
        (incarnation, arrivals)
    }

    /// The incarnation that a socket belongs to if it connects now. It may be over.
    pub fn get(&self) -> Arc<Incarnation> {
        self.0.read().clone()
    }

    /// Whether the io-node is a member, and so accepts clients.
    pub fn is_member(&self) -> bool {
        !self.get().is_over()
    }
}
