//! One membership of this io-node in the cluster, from joining to losing it, and the queue of its sockets' events.
//!
//! A socket belongs to the incarnation in which it connected, and its events go to that incarnation only. When the cluster has declared the
//! incarnation dead and has told the apps that its clients are gone, nothing that these clients still send can reach a later one.

use std::sync::Arc;

use parking_lot::RwLock;
use socketioxide_core::Sid;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;

use crate::pending_event::PendingEvent;
use plugnode_message::SessionId;

/// The events of an incarnation.
pub type Arrivals = UnboundedReceiver<PendingEvent>;

/// Whether the cluster prefers this id for a new socket.
pub type IdPreference = Box<dyn Fn(&SessionId) -> bool + Send + Sync>;

/// Maximum number of ids that are drawn for a socket.
const DRAWS: usize = 1_024;

/// One membership in the cluster.
pub struct Incarnation {
    arrivals: UnboundedSender<PendingEvent>,
    over: CancellationToken,
    prefers: IdPreference,
}

/// The current incarnation, if the io-node is a member.
pub struct CurrentIncarnation(RwLock<Arc<Incarnation>>);

impl Incarnation {
    fn new(prefers: IdPreference) -> (Arc<Self>, Arrivals) {
        let (arrivals, receiver) = unbounded_channel();
        let incarnation = Self {
            arrivals,
            over: CancellationToken::new(),
            prefers,
        };
        (Arc::new(incarnation), receiver)
    }

    /// Draws the id of a new socket: one that the cluster prefers, if it is found soon.
    pub(crate) fn draw_sid(&self) -> Sid {
        let mut sid = Sid::new();
        for _ in 1..DRAWS {
            if (self.prefers)(&SessionId::from(sid.as_str())) {
                break;
            }
            sid = Sid::new();
        }
        sid
    }

    /// Queues an event. Backpressure on connections bounds how many wait; an incarnation that is over drops it.
    pub fn queue(&self, event: PendingEvent) {
        let _ = self.arrivals.send(event);
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
        let (incarnation, _) = Incarnation::new(Box::new(|_| true));
        incarnation.end();
        Arc::new(Self(RwLock::new(incarnation)))
    }

    /// Begins an incarnation, in which new sockets have preferred ids.
    pub fn begin(&self, prefers: IdPreference) -> (Arc<Incarnation>, Arrivals) {
        let (incarnation, arrivals) = Incarnation::new(prefers);
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
