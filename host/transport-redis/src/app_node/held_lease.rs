//! A held lease of a partition, and the progress under it.

use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::app_node::progress::PartitionProgress;
use plugnode_message::Partition;

/// Cancellation signals of a lease.
#[derive(Default)]
pub(crate) struct LeaseEnd {
    /// Cancelled when the lease must be given back.
    pub(crate) revoked: CancellationToken,
    /// Cancelled when another node holds the partition, or this node is fenced.
    pub(crate) lost: CancellationToken,
}

/// A dropped lease.
pub(crate) struct ReturnedLease {
    pub(crate) partition: Partition,
    pub(crate) lease: String,
}

/// A held lease. Dropping it gives the partition back.
pub(crate) struct HeldLease {
    pub(crate) partition: Partition,
    /// The lease as in Redis: `epoch:incarnation@name`.
    pub(crate) lease: String,
    pub(crate) end: Arc<LeaseEnd>,
    pub(crate) progress: Mutex<PartitionProgress>,
    /// Notified after every commit of the partition, and when this is dropped.
    pub(crate) changed: Arc<Notify>,
    pub(crate) returns: mpsc::UnboundedSender<ReturnedLease>,
}

impl HeldLease {
    /// Progress of the partition.
    pub(crate) fn progress(&self) -> MutexGuard<'_, PartitionProgress> {
        self.progress.lock().expect("nothing panics while it holds this lock")
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        self.changed.notify_waiters();
        let returned = ReturnedLease {
            partition: self.partition,
            lease: std::mem::take(&mut self.lease),
        };
        // Fails if the node was fenced: the lease manager is gone, and there is nothing to give back.
        let _ = self.returns.send(returned);
    }
}

#[cfg(test)]
mod counted;
