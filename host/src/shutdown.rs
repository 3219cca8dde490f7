//! How the process ends: one token that everyone listens to, and one tracker that knows every task.
//!
//! Whoever spawns does it here, so that nothing outlives the drain unseen.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A handle to the end of a process, or of a part of it. Clones are the same handle.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tracker: TaskTracker,
}

impl Shutdown {
    /// A handle on which nothing has begun yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everyone to stop taking work, finish what is in hand, and end.
    pub fn begin(&self) {
        self.token.cancel();
        self.tracker.close();
    }

    /// Whether the end has begun.
    pub fn has_begun(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Completes when the end begins.
    pub async fn begun(&self) {
        self.token.cancelled().await;
    }

    /// Runs a task that the drain waits for.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tracker.spawn(task)
    }

    /// Waits until every task has ended, and says whether they did before the deadline. Begin first.
    pub async fn drained(&self, deadline: Duration) -> bool {
        tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok()
    }
}
