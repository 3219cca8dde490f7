//! Lingering: a short pause after a large call, so that the next call carries more events and its fixed cost is shared. Small
//! calls follow each other at once.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Number of events that makes a call large: enough to keep Redis busy, and more than a few clients that wait for
/// each answer.
const LARGE: usize = 64;
/// Time from the beginning of a large call to the earliest next one.
const LINGER: Duration = Duration::from_millis(2);

/// Pauses after a call that began at this time with this many events.
pub(crate) async fn linger(begun: Instant, events: usize) {
    if events >= LARGE {
        sleep_until(begun + LINGER).await;
    }
}
