//! Exponential back-off with jitter: each delay is about twice the one before, up to a limit. [`jittered`] spreads other delays at
//! random.
//!
//! It only computes delays; callers sleep, or keep the time of the next attempt.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// A random duration between half of `delay` and `delay` (equal jitter), so that nodes that wait for the same thing do not
/// retry at the same moment.
pub fn jittered(delay: Duration) -> Duration {
    let random = RandomState::new().hash_one(0) % 1_000;
    delay * (1_000 + random as u32) / 2_000
}

/// The delays between the attempts of one retried operation, [`jittered`]: nodes that fail together do not retry together.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts at `min` and doubles up to `max`, before jitter.
    pub fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, next: min }
    }

    /// The delay before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.next;
        self.next = (delay * 2).min(self.max);
        jittered(delay)
    }

    /// Starts at the minimum again, after a success.
    pub fn reset(&mut self) {
        self.next = self.min;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_takes_off_up_to_half() {
        let delay = Duration::from_millis(100);
        let delays: Vec<Duration> = (0..100).map(|_| jittered(delay)).collect();
        assert!(
            delays
                .iter()
                .all(|jittered| *jittered >= delay / 2 && *jittered <= delay)
        );
        assert!(delays.iter().any(|jittered| *jittered != delays[0]));
    }

    #[test]
    fn doubles_up_to_max_and_resets_to_min() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(100), ms(350));
        for nominal in [100, 200, 350, 350].map(ms) {
            let delay = backoff.next_delay();
            assert!(delay >= nominal / 2 && delay <= nominal, "{delay:?} of {nominal:?}");
        }
        backoff.reset();
        assert!(backoff.next_delay() <= ms(100));
    }

    #[test]
    fn nodes_that_fail_together_retry_apart() {
        let second = Duration::from_secs(1);
        let first = (0..100).map(|_| Backoff::new(second, second).next_delay());
        let delays: std::collections::HashSet<Duration> = first.collect();
        assert!(delays.len() > 50, "{} different delays", delays.len());
    }
}
