//! A rate limit for one kind of occurrence: GCRA, which stores a single instant.

use std::time::{Duration, Instant};

/// Seconds' worth of occurrences that may come at once.
const BURST: u32 = 10;

/// A rate limit.
#[derive(Debug, Default)]
pub(crate) struct RateLimit {
    /// GCRA: theoretical arrival time of the next occurrence.
    next: Option<Instant>,
}

impl RateLimit {
    /// Counts one occurrence, and returns whether it is within `per_second` and the burst.
    pub(crate) fn allows(&mut self, per_second: u32, now: Instant) -> bool {
        let interval = Duration::from_secs(1) / per_second.max(1);
        let next = self.next.map_or(now, |next| next.max(now)) + interval;
        self.next = Some(next);
        next - now <= interval * per_second.max(1) * BURST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_is_bounded_and_refills() {
        let mut limit = RateLimit::default();
        let mut now = Instant::now();
        let burst = (0..1_000).take_while(|_| limit.allows(4, now)).count();
        assert_eq!(burst, 40);
        now += Duration::from_secs(2);
        let more = (0..1_000).take_while(|_| limit.allows(4, now)).count();
        assert!((6..=8).contains(&more), "{more}");
    }
}
