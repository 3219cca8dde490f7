//! The generic cell rate algorithm (GCRA): a rate limit that keeps a single time, the theoretical arrival time of the next event.
//!
//! The caller keeps that time, and says what time it is.

use std::time::{Duration, Instant};

/// A rate, and how many events may come at once.
#[derive(Debug, Clone, Copy)]
pub struct Gcra {
    /// Time between two events at the rate.
    interval: Duration,
    /// How far ahead of now the theoretical arrival time may lie.
    tolerance: Duration,
}

impl Gcra {
    /// `per_second` events a second, at least 1, with a burst of `burst_seconds` times that rate.
    pub fn new(per_second: u32, burst_seconds: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self {
            interval,
            tolerance: interval * per_second.max(1) * burst_seconds,
        }
    }

    /// Counts an event, and returns how far ahead of now the next one is due.
    pub fn count(self, arrival: &mut Option<Instant>, now: Instant) -> Duration {
        let next = arrival.map_or(now, |arrival| arrival.max(now)) + self.interval;
        *arrival = Some(next);
        next - now
    }

    /// How long to wait until an event that lies so far ahead conforms to the rate. None if it does.
    pub fn wait(self, ahead: Duration) -> Option<Duration> {
        ahead.checked_sub(self.tolerance).filter(|wait| !wait.is_zero())
    }

    /// Whether an event that lies so far ahead uses at most half of the burst.
    pub fn is_relaxed(self, ahead: Duration) -> bool {
        ahead <= self.tolerance / 2
    }

    /// Whether `events` more would exceed the rate for longer than `patience`.
    pub fn is_exceeded_by(self, events: usize, ahead: Duration, patience: Duration) -> bool {
        let events = u32::try_from(events).unwrap_or(u32::MAX);
        ahead.saturating_add(self.interval.saturating_mul(events)) >= self.tolerance + patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_is_bounded_and_refills() {
        let (limit, mut arrival) = (Gcra::new(4, 10), None);
        let mut now = Instant::now();
        let mut conforming = |now| {
            let conforms = |_: &i32| limit.wait(limit.count(&mut arrival, now)).is_none();
            (0..1_000).take_while(conforms).count()
        };
        assert_eq!(conforming(now), 40);
        now += Duration::from_secs(2);
        let more = conforming(now);
        assert!((6..=8).contains(&more), "{more}");
    }
}
