//! Statistics of one release on this node: events, failures, and time in the handler.

use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::time::Instant;

use plugnode_release::Counts;

/// Recent counts cover between one and two of these windows.
const WINDOW: Duration = Duration::from_secs(5);
/// Longest recorded time in microseconds: longer than any handler may take.
const MAX_US: u64 = 3_600_000_000;
/// Significant digits of a recorded time: enough to compare two releases.
const DIGITS: u8 = 2;

/// Statistics of one release on this node.
pub(super) struct ReleaseStats {
    inner: Mutex<Recorded>,
}

struct Recorded {
    events: u64,
    failures: u64,
    all: Histogram<u64>,
    /// Times in the present window, and in the one before.
    present: Histogram<u64>,
    previous: Histogram<u64>,
    window_began: Instant,
    /// Length of the window before.
    previous_length: Duration,
}

impl ReleaseStats {
    pub(super) fn new() -> Self {
        Self {
            inner: Mutex::new(Recorded::new()),
        }
    }

    /// Records an event.
    pub(super) fn record(&self, took: Duration, is_ok: bool) {
        let mut recorded = self.inner.lock();
        recorded.rotate(Instant::now());
        recorded.events += 1;
        recorded.failures += u64::from(!is_ok);
        let took = u64::try_from(took.as_micros()).unwrap_or(MAX_US);
        recorded.all.saturating_record(took);
        recorded.present.saturating_record(took);
    }

    /// Counts a failure of an event that was recorded as handled.
    pub(super) fn add_failure(&self) {
        self.inner.lock().failures += 1;
    }

    /// Restarts the totals, so that two releases are compared over the same time. The recent counts stay.
    pub(super) fn reset(&self) {
        let mut recorded = self.inner.lock();
        recorded.events = 0;
        recorded.failures = 0;
        recorded.all.reset();
    }

    /// The counts to report; `with_times` adds the distribution of times since the last reset.
    pub(super) fn counts(&self, with_times: bool) -> Counts {
        self.counts_at(Instant::now(), with_times)
    }

    fn counts_at(&self, now: Instant, with_times: bool) -> Counts {
        let mut recorded = self.inner.lock();
        recorded.rotate(now);
        let mut recent = recorded.previous.clone();
        recent.add(&recorded.present).expect("both have the same range");
        let length = recorded.previous_length + now.duration_since(recorded.window_began);
        let times = recorded.all.iter_recorded();
        Counts {
            events: recorded.events,
            failures: recorded.failures,
            // A shorter time would give a misleading rate.
            per_second: recent.len() as f64 / length.as_secs_f64().max(1.0),
            p50_us: recent.value_at_quantile(0.5),
            p99_us: recent.value_at_quantile(0.99),
            times: match with_times {
                true => times
                    .map(|step| (step.value_iterated_to(), step.count_at_value()))
                    .collect(),
                false => Vec::new(),
            },
        }
    }
}

impl Recorded {
    fn new() -> Self {
        let histogram = || Histogram::new_with_max(MAX_US, DIGITS).expect("these bounds are allowed");
        Self {
            events: 0,
            failures: 0,
            all: histogram(),
            present: histogram(),
            previous: histogram(),
            window_began: Instant::now(),
            previous_length: Duration::ZERO,
        }
    }

    /// Begins the next window if the present one is over.
    fn rotate(&mut self, now: Instant) {
        let length = now.duration_since(self.window_began);
        if length < WINDOW {
            return;
        }
        std::mem::swap(&mut self.previous, &mut self.present);
        self.present.reset();
        if length >= 2 * WINDOW {
            self.previous.reset();
        }
        self.previous_length = length.min(WINDOW);
        self.window_began = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_recent_counts_but_not_totals() {
        let stats = ReleaseStats::new();
        let began = stats.inner.lock().window_began;
        for took in 1..=100 {
            stats.record(Duration::from_micros(took), took != 7);
        }
        let counts = stats.counts_at(began + Duration::from_secs(4), true);
        assert_eq!((counts.events, counts.failures), (100, 1));
        assert_eq!((counts.p50_us, counts.p99_us, counts.per_second), (50, 99, 25.0));
        assert_eq!(counts.times.len(), 100);
        let counts = stats.counts_at(began + 4 * WINDOW, false);
        assert_eq!((counts.events, counts.p50_us, counts.per_second), (100, 0, 0.0));
        assert!(counts.times.is_empty());
        stats.record(Duration::from_micros(1), false);
        stats.reset();
        let counts = stats.counts(true);
        assert_eq!((counts.events, counts.failures, counts.times.len()), (0, 0, 0));
        assert_eq!(counts.p50_us, 1);
    }
}
