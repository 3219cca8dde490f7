//! How the process ends: one token that everyone listens to, and trackers that know every task.
//!
//! Whoever spawns does it here, so that nothing outlives the drain unseen. The end has an order: those that take events in
//! end first, and those that handle events when there are no more to come.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The most of the deadline that is left to those that handle events once they have to stop with some unhandled.
const RESERVE: Duration = Duration::from_secs(1);

/// A handle to the end of a process, or of a part of it. Clones are the same handle.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
    /// The end is announced: whoever asks is told, and who comes all the same is served as before.
    leaving: CancellationToken,
    /// The deadline is near.
    urgent: CancellationToken,
    tracker: TaskTracker,
    /// Of these tasks, those that take events in.
    intake: TaskTracker,
    has_intake: Arc<AtomicBool>,
}

impl Shutdown {
    /// A handle on which nothing has begun yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Announces the end to those who ask whether this process takes work, before it stops to.
    pub fn announce(&self) {
        self.leaving.cancel();
    }

    /// Whether the end was announced, or has begun.
    pub fn is_announced(&self) -> bool {
        self.leaving.is_cancelled()
    }

    /// Completes when the end is announced.
    pub async fn announced(&self) {
        self.leaving.cancelled().await;
    }

    /// Asks everyone to stop taking work, finish what is in hand, and end.
    pub fn begin(&self) {
        self.leaving.cancel();
        self.token.cancel();
        self.tracker.close();
        self.intake.close();
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

    /// The same for a task that takes events in: while it runs, those that handle them go on.
    pub fn spawn_intake<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.has_intake.store(true, Ordering::Relaxed);
        self.tracker.spawn(self.intake.track_future(task))
    }

    /// Whether there was ever a task that takes events in.
    pub fn has_intake(&self) -> bool {
        self.has_intake.load(Ordering::Relaxed)
    }

    /// Completes when the end has begun and no task takes events in any more.
    pub async fn intake_ended(&self) {
        self.begun().await;
        self.intake.wait().await;
    }

    /// Completes when so little is left before the deadline that what is not begun must be given up.
    pub async fn is_urgent(&self) {
        self.urgent.cancelled().await;
    }

    /// Waits until every task has ended, and says whether they did before the deadline. Begin first.
    pub async fn drained(&self, deadline: Duration) -> bool {
        let reserve = RESERVE.min(deadline / 4);
        if timeout(deadline - reserve, self.tracker.wait()).await.is_ok() {
            return true;
        }
        self.urgent.cancel();
        timeout(reserve, self.tracker.wait()).await.is_ok()
    }
}
