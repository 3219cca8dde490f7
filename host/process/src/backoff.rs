//! Exponential back-off: each delay is twice the one before, up to a limit. [`jittered`] spreads delays at random.
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

/// The delays between the attempts of one retried operation, without jitter.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts at `min` and doubles up to `max`.
    pub fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, next: min }
    }

    /// The delay before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.next;
        self.next = (delay * 2).min(self.max);
        delay
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
        assert_eq!(
            [(); 4].map(|()| backoff.next_delay()),
            [ms(100), ms(200), ms(350), ms(350)]
        );
        backoff.reset();
        assert_eq!(backoff.next_delay(), ms(100));
    }
}
