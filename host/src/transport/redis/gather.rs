//! A moment between two calls that carry much, in which more gathers for the next: what a call costs by itself is then shared by
//! more events. Calls that carry little follow each other at once.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// From so many events on a call carries much.
const MUCH: usize = 16;
/// How long after the beginning of such a call the next may begin.
const MOMENT: Duration = Duration::from_millis(2);

/// Waits, after a call that began then and carried so many events.
pub(super) async fn gather(begun: Instant, events: usize) {
    if events >= MUCH {
        sleep_until(begun + MOMENT).await;
    }
}
