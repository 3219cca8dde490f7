//! How a release does: events, failures, and the time that they take in the handler.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::Instant;

use plugnode_release::Counts;

/// What "of late" means: between one and two of these.
const WINDOW: Duration = Duration::from_secs(5);
/// Longer than any handler may take.
const LONGEST_US: u64 = 3_600_000_000;
/// Two digits of a time are enough to compare two releases.
const DIGITS: u8 = 2;

/// What one release has done on this node.
pub(super) struct Tally {
    counted: Mutex<Counted>,
}

struct Counted {
    events: u64,
    failures: u64,
    all: Histogram<u64>,
    /// Of the present window and of the one before.
    recent: Histogram<u64>,
    before: Histogram<u64>,
    window_began: Instant,
    /// How long the window before lasted.
    before_lasted: Duration,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            counted: Mutex::new(Counted::new()),
        }
    }

    /// One more event.
    pub(super) fn count(&self, took: Duration, is_ok: bool) {
        let mut counted = self.counted();
        counted.turn(Instant::now());
        counted.events += 1;
        counted.failures += u64::from(!is_ok);
        let took = u64::try_from(took.as_micros()).unwrap_or(LONGEST_US);
        counted.all.saturating_record(took);
        counted.recent.saturating_record(took);
    }

    /// One of the events counted as handled has turned out to have failed.
    pub(super) fn has_failed(&self) {
        self.counted().failures += 1;
    }

    /// Begins anew, so that two releases are compared by what they did at the same time. What is told of late stays.
    pub(super) fn reset(&self) {
        let mut counted = self.counted();
        counted.events = 0;
        counted.failures = 0;
        counted.all.reset();
    }

    /// What there is to tell; all times only where they are asked for.
    pub(super) fn counts(&self, with_times: bool) -> Counts {
        self.counts_at(Instant::now(), with_times)
    }

    fn counts_at(&self, now: Instant, with_times: bool) -> Counts {
        let mut counted = self.counted();
        counted.turn(now);
        let mut late = counted.before.clone();
        late.add(&counted.recent).expect("both have the same range");
        let lasted = counted.before_lasted + now.duration_since(counted.window_began);
        let times = counted.all.iter_recorded();
        Counts {
            events: counted.events,
            failures: counted.failures,
            // Less than a second says little of what happens in one.
            per_second: late.len() as f64 / lasted.as_secs_f64().max(1.0),
            p50_us: late.value_at_quantile(0.5),
            p99_us: late.value_at_quantile(0.99),
            times: match with_times {
                true => times
                    .map(|step| (step.value_iterated_to(), step.count_at_value()))
                    .collect(),
                false => Vec::new(),
            },
        }
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().expect("nothing panics while it holds this lock")
    }
}

impl Counted {
    fn new() -> Self {
        let histogram = || Histogram::new_with_max(LONGEST_US, DIGITS).expect("these bounds are allowed");
        Self {
            events: 0,
            failures: 0,
            all: histogram(),
            recent: histogram(),
            before: histogram(),
            window_began: Instant::now(),
            before_lasted: Duration::ZERO,
        }
    }

    /// Begins the next window when the present one is over.
    fn turn(&mut self, now: Instant) {
        let lasted = now.duration_since(self.window_began);
        if lasted < WINDOW {
            return;
        }
        std::mem::swap(&mut self.before, &mut self.recent);
        self.recent.reset();
        if lasted >= 2 * WINDOW {
            self.before.reset();
        }
        self.before_lasted = lasted.min(WINDOW);
        self.window_began = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_late_is_forgotten_and_what_is_told_of_all_is_not() {
        let tally = Tally::new();
        let began = tally.counted().window_began;
        for took in 1..=100 {
            tally.count(Duration::from_micros(took), took != 7);
        }
        let counts = tally.counts_at(began + Duration::from_secs(4), true);
        assert_eq!((counts.events, counts.failures), (100, 1));
        assert_eq!((counts.p50_us, counts.p99_us, counts.per_second), (50, 99, 25.0));
        assert_eq!(counts.times.len(), 100);
        let counts = tally.counts_at(began + 4 * WINDOW, false);
        assert_eq!((counts.events, counts.p50_us, counts.per_second), (100, 0, 0.0));
        assert!(counts.times.is_empty());
        tally.count(Duration::from_micros(1), false);
        tally.reset();
        let counts = tally.counts(true);
        assert_eq!((counts.events, counts.failures, counts.times.len()), (0, 0, 0));
        assert_eq!(counts.p50_us, 1);
    }
}
