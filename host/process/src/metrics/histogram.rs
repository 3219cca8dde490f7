//! Histograms of this process: how long its steps take.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets, in microseconds. One more bucket takes everything above.
const BOUNDS: [u64; 15] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    10_000_000,
];

/// Durations, counted in buckets.
#[derive(Debug)]
pub struct Histogram {
    counts: [AtomicU64; BOUNDS.len() + 1],
    sum_us: AtomicU64,
}

/// From the arrival of an event at the io-node until the transport has accepted it.
pub static INGEST_TIME: Histogram = Histogram::new();
/// In the handler.
pub static HANDLING_TIME: Histogram = Histogram::new();
/// From the arrival of an event at the io-node until its acknowledgement is sent to the client.
pub static ACKNOWLEDGEMENT_TIME: Histogram = Histogram::new();

/// The values of a histogram at one moment, in the form of OpenMetrics.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// Sum of all durations, in seconds.
    pub(super) sum: f64,
    /// Number of durations.
    pub(super) count: u64,
    /// Upper bound in seconds and number of durations of each bucket, not cumulative.
    pub(super) buckets: Vec<(f64, u64)>,
}

impl Histogram {
    const fn new() -> Self {
        Self {
            counts: [const { AtomicU64::new(0) }; BOUNDS.len() + 1],
            sum_us: AtomicU64::new(0),
        }
    }

    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 2);
        let bucket = BOUNDS.partition_point(|bound| *bound < us);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let bounds = BOUNDS.iter().map(|us| *us as f64 / 1e6).chain([f64::INFINITY]);
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<_> = bounds.zip(counts).collect();
        Snapshot {
            sum: self.sum_us.load(Ordering::Relaxed) as f64 / 1e6,
            count: buckets.iter().map(|(_, count)| count).sum(),
            buckets,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_each_duration_in_its_bucket() {
        let histogram = Histogram::new();
        for us in [0, 100, 101, 9_999_999, 10_000_000, 10_000_001] {
            histogram.observe(Duration::from_micros(us));
        }
        let Snapshot { sum, count, buckets } = histogram.snapshot();
        assert_eq!(count, 6);
        assert!((sum - 30.000_201).abs() < 1e-6, "{sum}");
        let counts: Vec<_> = buckets.iter().map(|(_, count)| *count).collect();
        assert_eq!(counts, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1]);
        assert_eq!(buckets[0].0, 0.0001);
    }
}
