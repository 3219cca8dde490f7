//! Forwards of key-value writes between shards that this process runs, so that reads can wait for them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

/// Forwards of this process, by target shard. Clones share their state.
#[derive(Clone, Default)]
pub(crate) struct ForwardQueues(Arc<Mutex<HashMap<u16, Arc<ForwardQueue>>>>);

/// Forwards to one shard.
pub(crate) struct ForwardQueue {
    /// Number of unfinished forwards.
    pending: watch::Sender<usize>,
    /// Held by the forward that is running. A later one usually finds its writes already moved.
    pub(crate) turn: tokio::sync::Mutex<()>,
}

impl Default for ForwardQueue {
    fn default() -> Self {
        Self {
            pending: watch::Sender::new(0),
            turn: tokio::sync::Mutex::default(),
        }
    }
}

/// An unfinished forward; reads of the target shard wait until it is dropped.
pub(crate) struct PendingForward(pub(crate) Arc<ForwardQueue>);

impl PendingForward {
    pub(crate) fn on(target: Arc<ForwardQueue>) -> Self {
        target.pending.send_modify(|pending| *pending += 1);
        Self(target)
    }
}

impl ForwardQueue {
    /// Waits until no forward is pending.
    pub(crate) async fn wait_until_idle(&self) {
        let mut pending = self.pending.subscribe();
        // Cannot fail: this holds the sender.
        let _ = pending.wait_for(|pending| *pending == 0).await;
    }
}

impl Drop for PendingForward {
    fn drop(&mut self) {
        self.0.pending.send_modify(|pending| *pending -= 1);
    }
}

impl ForwardQueues {
    pub(crate) fn to(&self, shard: u16) -> Arc<ForwardQueue> {
        let mut targets = self.0.lock().expect("nothing panics while it holds this lock");
        targets.entry(shard).or_default().clone()
    }
}
