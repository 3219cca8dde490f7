//! How fast attempts follow each other: at once the first time, then with pauses that grow.

use std::time::Duration;

use tokio::time::Instant;

use plugnode_process::jittered;

const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The longest pause.
pub(super) const LAST_PAUSE: Duration = Duration::from_millis(500);

/// The pauses between attempts.
pub(super) struct Pace {
    pause: Duration,
    longest: Duration,
    next: Option<Instant>,
}

impl Default for Pace {
    fn default() -> Self {
        Self::up_to(LAST_PAUSE)
    }
}

impl Pace {
    /// With pauses up to this one.
    pub(super) fn up_to(longest: Duration) -> Self {
        Self {
            pause: FIRST_PAUSE.min(longest),
            longest,
            next: None,
        }
    }

    /// Whether the time of the next attempt has not come.
    pub(super) fn is_early(&self) -> bool {
        self.next.is_some_and(|next| Instant::now() < next)
    }

    /// Waits until it has come. Dropping this changes nothing.
    pub(super) async fn wait(&self) {
        if let Some(next) = self.next {
            tokio::time::sleep_until(next).await;
        }
    }

    /// Notes that an attempt has failed.
    pub(super) fn failed(&mut self) {
        self.next = Some(Instant::now() + jittered(self.pause));
        self.pause = (self.pause * 2).min(self.longest);
    }
}
