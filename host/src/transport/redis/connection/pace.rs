//! How fast attempts follow each other: at once the first time, then with pauses that grow.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::time::Instant;

const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The longest pause.
pub(super) const LAST_PAUSE: Duration = Duration::from_millis(500);

/// The pauses between attempts.
pub(super) struct Pace {
    pause: Duration,
    next: Option<Instant>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            pause: FIRST_PAUSE,
            next: None,
        }
    }
}

impl Pace {
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
        self.pause = (self.pause * 2).min(LAST_PAUSE);
    }
}

/// Between half of it and all of it, so that a cluster's nodes do not all come back at once.
fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().hash_one(0) % 1_000;
    pause * (1_000 + random as u32) / 2_000
}
