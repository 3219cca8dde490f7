//! How long things take, and how many there are at present: what changes all the time, for metrics alone.
//!
//! Whoever notes something here does so for each event: it costs a few nanoseconds, takes no lock and allocates nothing.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds of a histogram's buckets, in microseconds. Beyond the last there is one more.
const BOUNDS: [u64; 15] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    10_000_000,
];

/// How often something took how long.
#[derive(Debug)]
pub struct Histogram {
    counts: [AtomicU64; BOUNDS.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    const fn new() -> Self {
        Self {
            counts: [const { AtomicU64::new(0) }; BOUNDS.len() + 1],
            sum_us: AtomicU64::new(0),
        }
    }

    /// Notes that it took so long once more.
    pub fn note(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX / 2);
        let bucket = BOUNDS.partition_point(|bound| *bound < took);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(took, Ordering::Relaxed);
    }

    /// The sum of all times in seconds, how many there were, and for each bucket its upper bound in seconds and its count.
    pub fn shown(&self) -> (f64, u64, Vec<(f64, u64)>) {
        let bounds = BOUNDS.iter().map(|us| *us as f64 / 1e6).chain([f64::INFINITY]);
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<_> = bounds.zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        (self.sum_us.load(Ordering::Relaxed) as f64 / 1e6, count, buckets)
    }
}

/// How many there are at present.
#[derive(Debug)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Adds one.
    pub fn more(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes one off.
    pub fn fewer(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many there are now.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// From an event's arrival at the io-node until the transport has accepted it.
pub static INGEST: Histogram = Histogram::new();
/// In the handler.
pub static HANDLING: Histogram = Histogram::new();
/// From an event's arrival at the io-node until its acknowledgement goes to the client.
pub static ACKNOWLEDGEMENT: Histogram = Histogram::new();
/// Clients that are connected.
pub static CLIENTS: Gauge = Gauge(AtomicI64::new(0));
/// Events that an app-node has read and not committed.
pub static IN_HAND: Gauge = Gauge(AtomicI64::new(0));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_is_in_the_bucket_that_it_fits() {
        let histogram = Histogram::new();
        for us in [0, 100, 101, 9_999_999, 10_000_000, 10_000_001] {
            histogram.note(Duration::from_micros(us));
        }
        let (sum, count, buckets) = histogram.shown();
        assert_eq!(count, 6);
        assert!((sum - 30.000_201).abs() < 1e-6, "{sum}");
        let counts: Vec<_> = buckets.iter().map(|(_, count)| *count).collect();
        assert_eq!(counts, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1]);
        assert_eq!(buckets[0].0, 0.0001);
    }
}
