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
    /// A rate of `per_second`, at least 1, of which those of `burst_seconds` may come at once.
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
    pub(crate) fn is_relaxed(self, ahead: Duration) -> bool {
        ahead <= self.tolerance / 2
    }

    /// Whether `events` more would exceed the rate for longer than `patience`.
    pub(crate) fn is_exceeded_by(self, events: usize, ahead: Duration, patience: Duration) -> bool {
        let events = u32::try_from(events).unwrap_or(u32::MAX);
        ahead.saturating_add(self.interval.saturating_mul(events)) >= self.tolerance + patience
    }
}
