//! A moment between two calls that carry much, in which more gathers for the next: what a call costs by itself is then shared by
//! more events. Calls that carry little follow each other at once.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// From so many events on a call carries much: enough for Redis to be busy with events, and not so few that clients who wait
/// for each answer wait for a moment as well.
const MUCH: usize = 64;
/// How long after the beginning of such a call the next may begin.
const MOMENT: Duration = Duration::from_millis(2);

/// Waits, after a call that began then and carried so many events.
pub(super) async fn gather(begun: Instant, events: usize) {
    if events >= MUCH {
        sleep_until(begun + MOMENT).await;
    }
}
