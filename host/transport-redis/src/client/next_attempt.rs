//! When to connect again: the first attempt at once, each later one after the delay of a back-off.

use std::time::Duration;

use tokio::time::Instant;

use plugnode_process::Backoff;

const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The usual longest pause.
pub(crate) const LAST_PAUSE: Duration = Duration::from_millis(500);

/// Delays of up to `longest`.
pub(crate) fn backoff_up_to(longest: Duration) -> Backoff {
    Backoff::new(FIRST_PAUSE.min(longest), longest)
}

/// The time of the next attempt, which outlives the request that waits for it.
pub(crate) struct NextAttempt {
    backoff: Backoff,
    /// None if it may begin at once.
    at: Option<Instant>,
}

impl NextAttempt {
    /// At once, and after failures with pauses of up to `longest`.
    pub(crate) fn with_pauses_up_to(longest: Duration) -> Self {
        Self {
            backoff: backoff_up_to(longest),
            at: None,
        }
    }

    /// Whether the pause before it is not over.
    pub(crate) fn is_early(&self) -> bool {
        self.at.is_some_and(|at| Instant::now() < at)
    }

    /// Waits until the pause is over. Cancel safe.
    pub(crate) async fn wait(&self) {
        if let Some(at) = self.at {
            tokio::time::sleep_until(at).await;
        }
    }

    /// Notes that the attempt failed.
    pub(crate) fn failed(&mut self) {
        self.at = Some(Instant::now() + self.backoff.next_delay());
    }

    /// Notes that the attempt succeeded: the next one may begin at once.
    pub(crate) fn succeeded(&mut self) {
        self.backoff.reset();
        self.at = None;
    }
}
