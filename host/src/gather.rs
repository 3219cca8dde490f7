//! A moment between two turns of work that carry much, in which more gathers for the next: what a turn costs by itself
//! is then shared by more. Turns that carry little follow each other at once.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// How long after the beginning of a turn that carried much the next may begin.
const MOMENT: Duration = Duration::from_millis(2);

/// Waits, after a turn that began then, if it carried as much.
pub(crate) async fn gather(begun: Instant, carried: usize, much: usize) {
    if carried >= much {
        sleep_until(begun + MOMENT).await;
    }
}
