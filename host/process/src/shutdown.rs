//! Graceful shutdown: a token that every task listens to, and a tracker that waits for every task.
//!
//! All tasks are spawned here, so that none outlives the drain. Intake tasks, which accept events, end first; tasks that
//! handle events end once no more events can come.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Part of the deadline, at most, that is reserved for tasks that must stop although events are still unhandled.
const RESERVE: Duration = Duration::from_secs(1);

/// Handle to the shutdown of a process, or of a part of it. Clones share their state.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
    /// Shutdown is announced: health checks report it, and clients that still come are served as before.
    announced: CancellationToken,
    near_deadline: CancellationToken,
    tracker: TaskTracker,
    /// Tracks the tasks that accept events.
    intake: TaskTracker,
    has_intake: Arc<AtomicBool>,
}

impl Shutdown {
    /// A shutdown that has not begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// Announces the shutdown, for health checks: this process still takes work, but not for long.
    pub fn announce(&self) {
        self.announced.cancel();
    }

    /// Whether the shutdown was announced, or has begun.
    pub fn is_announced(&self) -> bool {
        self.announced.is_cancelled()
    }

    /// Completes when the shutdown is announced.
    pub async fn announced(&self) {
        self.announced.cancelled().await;
    }

    /// Asks all tasks to take no new work, finish what they have, and end.
    pub fn begin(&self) {
        self.announced.cancel();
        self.token.cancel();
        self.tracker.close();
        self.intake.close();
    }

    /// Whether the shutdown has begun.
    pub fn has_begun(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Completes when the shutdown begins.
    pub async fn begun(&self) {
        self.token.cancelled().await;
    }

    /// Spawns a task that [`drained`](Self::drained) waits for.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tracker.spawn(task)
    }

    /// Spawns a task that accepts events: tasks that handle events go on while it runs.
    pub fn spawn_intake<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.has_intake.store(true, Ordering::Relaxed);
        self.tracker.spawn(self.intake.track_future(task))
    }

    /// Whether an intake task was ever spawned.
    pub fn has_intake(&self) -> bool {
        self.has_intake.load(Ordering::Relaxed)
    }

    /// Completes when the shutdown has begun and all intake tasks have ended.
    pub async fn intake_ended(&self) {
        self.begun().await;
        self.intake.wait().await;
    }

    /// Completes when the deadline is so near that work that has not started must be given up.
    pub async fn near_deadline(&self) {
        self.near_deadline.cancelled().await;
    }

    /// Waits until every task has ended, for at most `deadline`; returns whether all did. Call [`begin`](Self::begin) first.
    pub async fn drained(&self, deadline: Duration) -> bool {
        let reserve = RESERVE.min(deadline / 4);
        if timeout(deadline - reserve, self.tracker.wait()).await.is_ok() {
            return true;
        }
        self.near_deadline.cancel();
        timeout(reserve, self.tracker.wait()).await.is_ok()
    }
}
