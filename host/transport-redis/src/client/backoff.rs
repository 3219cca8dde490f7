//! Exponential backoff: the first attempt at once, then growing pauses.

use std::time::Duration;

use tokio::time::Instant;

use plugnode_process::jittered;

const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The usual longest pause.
pub(crate) const LAST_PAUSE: Duration = Duration::from_millis(500);

/// Pauses between attempts.
pub(crate) struct Backoff {
    pause: Duration,
    longest: Duration,
    next: Option<Instant>,
}

impl Backoff {
    /// With pauses up to this one.
    pub(crate) fn up_to(longest: Duration) -> Self {
        Self {
            pause: FIRST_PAUSE.min(longest),
            longest,
            next: None,
        }
    }

    /// Whether the pause before the next attempt is not over.
    pub(crate) fn is_early(&self) -> bool {
        self.next.is_some_and(|next| Instant::now() < next)
    }

    /// Waits until the pause is over. Cancel safe.
    pub(crate) async fn wait(&self) {
        if let Some(next) = self.next {
            tokio::time::sleep_until(next).await;
        }
    }

    /// Notes a failed attempt.
    pub(crate) fn failed(&mut self) {
        self.next = Some(Instant::now() + jittered(self.pause));
        self.pause = (self.pause * 2).min(self.longest);
    }
}
