//! How a release does: events, failures, and the time that they take in the handler.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::Instant;

use crate::release::Counts;

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
        counted.turn();
        counted.events += 1;
        counted.failures += u64::from(!is_ok);
        let took = u64::try_from(took.as_micros()).unwrap_or(LONGEST_US);
        counted.all.saturating_record(took);
        counted.recent.saturating_record(took);
    }

    /// Begins anew, so that two releases are compared by what they did at the same time.
    pub(super) fn reset(&self) {
        *self.counted() = Counted::new();
    }

    /// What there is to tell; all times only where they are asked for.
    pub(super) fn counts(&self, with_times: bool) -> Counts {
        let mut counted = self.counted();
        counted.turn();
        let mut late = counted.before.clone();
        late.add(&counted.recent).expect("both have the same range");
        let lasted = counted.before_lasted + counted.window_began.elapsed();
        let times = match with_times {
            true => counted
                .all
                .iter_recorded()
                .map(|step| (step.value_iterated_to(), step.count_at_value())),
            false => return counted.told(&late, lasted, Vec::new()),
        };
        let times = times.collect();
        counted.told(&late, lasted, times)
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
    fn turn(&mut self) {
        let lasted = self.window_began.elapsed();
        if lasted < WINDOW {
            return;
        }
        std::mem::swap(&mut self.before, &mut self.recent);
        self.recent.reset();
        if lasted >= 2 * WINDOW {
            self.before.reset();
        }
        self.before_lasted = lasted.min(WINDOW);
        self.window_began = Instant::now();
    }

    fn told(&self, late: &Histogram<u64>, lasted: Duration, times: Vec<(u64, u64)>) -> Counts {
        // Less than a second says little of what happens in one.
        let seconds = lasted.as_secs_f64().max(1.0);
        Counts {
            events: self.events,
            failures: self.failures,
            per_second: late.len() as f64 / seconds,
            p50_us: late.value_at_quantile(0.5),
            p99_us: late.value_at_quantile(0.99),
            times,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_told_of_late_is_forgotten_and_what_is_told_of_all_is_not() {
        let tally = Tally::new();
        for took in 1..=100 {
            tally.count(Duration::from_micros(took), took != 7);
        }
        tokio::time::advance(Duration::from_secs(4)).await;
        let counts = tally.counts(true);
        assert_eq!((counts.events, counts.failures), (100, 1));
        assert_eq!((counts.p50_us, counts.p99_us, counts.per_second), (50, 99, 25.0));
        assert_eq!(counts.times.len(), 100);
        tokio::time::advance(4 * WINDOW).await;
        let counts = tally.counts(false);
        assert_eq!((counts.events, counts.p50_us, counts.per_second), (100, 0, 0.0));
        assert!(counts.times.is_empty());
        tally.reset();
        assert_eq!(tally.counts(true), Counts::default());
    }
}
